"""Work in the background: the newest wish wins, nothing grows without bound, nothing is done twice."""

import threading
from collections.abc import Iterator

import pytest

from uqdm.view.pool import BusyError, SupersededError, WorkPool
from uqdm.walk import Progress


@pytest.fixture
def pool() -> Iterator[WorkPool]:
    found = WorkPool(workers=1, waiting=3, room=100, sized=len)
    yield found
    found.close()


class Blocked:
    """Work that goes on until it is let go, and asks all the time whether it shall stop."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.stopped = False

    def __call__(self, progress: Progress) -> bytes:
        self.begun.set()
        try:
            while not self.go.wait(0.001):
                progress(1, 1, 2)
        except SupersededError:
            self.stopped = True
            raise
        return b"done"


def test_the_newest_request_of_a_slider_wins(pool: WorkPool) -> None:
    first, last = Blocked(), Blocked()
    futures = [pool.ask("first", first, "slider")]
    assert first.begun.wait(10)
    futures += [pool.ask(f"on the way {k}", Blocked(), "slider") for k in range(20)]  # more than may wait
    futures.append(pool.ask("last", last, "slider"))
    assert last.begun.wait(10)  # nothing else is done before it
    last.go.set()
    assert futures[-1].result(10) == b"done"
    for future in futures[:-1]:
        with pytest.raises(SupersededError):
            future.result(10)
    assert first.stopped


def test_another_lane_is_not_touched(pool: WorkPool) -> None:
    one, other = Blocked(), Blocked()
    futures = [pool.ask("one", one, "a"), pool.ask("other", other, "b")]
    one.go.set(), other.go.set()
    assert [future.result(10) for future in futures] == [b"done", b"done"]


def test_what_two_want_is_done_once_and_goes_on_if_one_leaves(pool: WorkPool) -> None:
    work = Blocked()
    futures = [pool.ask("same", work, "a"), pool.ask("same", Blocked(), "b")]
    assert work.begun.wait(10)
    pool.ask("else", lambda _: b"x", "a")
    work.go.set()
    assert [future.result(10) for future in futures] == [b"done", b"done"]
    assert not work.stopped


def test_no_more_waits_than_is_allowed(pool: WorkPool) -> None:
    work = Blocked()
    pool.ask("running", work)
    assert work.begun.wait(10)
    for k in range(3):
        pool.ask(k, lambda _: b"")
    with pytest.raises(BusyError):
        pool.ask("one more", lambda _: b"")
    work.go.set()


def test_results_are_kept_within_the_bound(pool: WorkPool) -> None:
    for k in range(6):
        assert pool.ask(k, lambda _: b"x" * 30).result(10) == b"x" * 30
    assert [k for k in range(6) if pool.kept(k) is not None] == [3, 4, 5]
    assert pool.ask(3, lambda _: b"not again").result(10) == b"x" * 30
    pool.ask(6, lambda _: b"x" * 30).result(10)
    assert pool.kept(3) is not None  # it was used after 4
    assert pool.kept(4) is None
    pool.ask("large", lambda _: b"x" * 101).result(10)
    assert pool.kept("large") is None


def test_an_error_reaches_who_asked_and_is_not_kept(pool: WorkPool) -> None:
    with pytest.raises(ZeroDivisionError):
        pool.ask("k", lambda _: 1 // 0).result(10)
    assert pool.ask("k", lambda _: b"now").result(10) == b"now"


def test_spare_work_stops_for_what_is_asked_and_goes_on_later(pool: WorkPool) -> None:
    tries: list[str] = []
    begun, done = threading.Event(), threading.Event()

    def spare(progress: Progress) -> bool:
        tries.append("begun")
        begun.set()
        while len(tries) == 1:
            progress(1, 1, 1)  # raises as soon as something is asked
        done.set()
        return False

    pool.spare("curve", spare)
    assert begun.wait(10)
    assert pool.ask("asked", lambda _: b"first").result(10) == b"first"
    assert done.wait(10)
    assert tries == ["begun", "begun"]


def test_spare_work_that_nobody_wants_any_more_ends(pool: WorkPool) -> None:
    begun, ended = threading.Event(), threading.Event()

    def spare(progress: Progress) -> bool:
        begun.set()
        try:
            while True:
                progress(1, 1, 1)
        finally:
            ended.set()

    pool.spare("curve", spare)
    assert begun.wait(10)
    pool.spare("curve", None)
    assert ended.wait(10)


def test_closing_ends_what_runs_and_what_waits() -> None:
    pool = WorkPool(workers=2, waiting=3, room=100, sized=len)
    works = [Blocked(), Blocked()]
    futures = [pool.ask(k, work) for k, work in enumerate(works)]
    assert all(work.begun.wait(10) for work in works)
    futures.append(pool.ask("waiting", Blocked()))
    pool.close()
    for future in futures:
        with pytest.raises(SupersededError):
            future.result(10)
