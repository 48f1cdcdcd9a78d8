"""Work shared out to processes: every result comes once, whatever dies in between."""

import functools
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqdm.bulk.processes import BYTES, MOST, Died, outcomes, shares
from uqdm.cpus import VARIABLES
from uqdm.errors import ImageError, UqdmError

Tell = Callable[[int, Any], None]


def squares(some: list[int], tell: Tell) -> None:
    for place, n in enumerate(some):
        tell(place, (n * n, os.getpid(), os.environ[VARIABLES[0]]))


def begin(error: Exception | None = None) -> Callable[[list[int], Tell], None]:
    if error is not None:
        raise error
    return squares


def end_at_once() -> None:
    os._exit(3)


def killed_by(fatal: int, place: Path, times: int) -> Callable[[list[int], Tell], None]:
    """Squares, until the number `fatal` comes: it kills the process, as often as `times` says."""

    def work(some: list[int], tell: Tell) -> None:
        for i, n in enumerate(some):
            if n == fatal and len(list(place.iterdir())) < times:
                (place / str(os.getpid())).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            tell(i, n * n)

    return work


def raising(some: list[int], tell: Tell) -> None:
    raise ZeroDivisionError("a mistake in the program")


def mistaken() -> Callable[[list[int], Tell], None]:
    return raising


LISTS = [[0, 1, 2], [3], [4, 5], [6, 7, 8, 9]]


def test_every_thing_has_its_result_from_processes_of_one_thread() -> None:
    found = list(outcomes(begin, iter(LISTS), 2))
    assert {n: result[0] for n, result in found} == {n: n * n for n in range(10)}
    assert len(found) == 10
    where = {result[1] for _, result in found}
    assert 1 <= len(where) <= 2
    assert os.getpid() not in where
    assert {result[2] for _, result in found} == {"1"}
    assert not multiprocessing.active_children()


def test_of_a_process_that_is_killed_nothing_is_lost(tmp_path: Path) -> None:
    found = list(outcomes(functools.partial(killed_by, 4, tmp_path, 1), iter(LISTS), 2))
    assert Counter(found) == Counter((n, n * n) for n in range(10))
    assert len(list(tmp_path.iterdir())) == 1


def test_what_kills_two_processes_is_a_failure_and_the_others_are_done(tmp_path: Path) -> None:
    found = dict(outcomes(functools.partial(killed_by, 4, tmp_path, 99), iter(LISTS), 2))
    died = found.pop(4)
    assert found == {n: n * n for n in range(10) if n != 4}
    assert isinstance(died, Died)
    assert "SIGKILL" in str(died)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_the_beginning_raises_is_raised_here() -> None:
    with pytest.raises(ImageError, match="no such"):
        list(outcomes(functools.partial(begin, ImageError("no such model")), iter(LISTS), 2))
    with pytest.raises(ZeroDivisionError):
        list(outcomes(mistaken, iter(LISTS), 1))
    assert not multiprocessing.active_children()


def test_processes_that_cannot_begin_are_an_error_and_no_endless_loop() -> None:
    with pytest.raises(UqdmError, match="exit code 3"):
        list(outcomes(end_at_once, iter(LISTS), 1))


def test_who_stops_early_leaves_no_process() -> None:
    found = outcomes(begin, iter([[n] for n in range(1000)]), 2)
    next(found)
    assert multiprocessing.active_children()
    found.close()
    assert not multiprocessing.active_children()


@given(st.lists(st.integers(0, 2 * BYTES), max_size=300), st.integers(1, 9))
def test_shares_hold_everything_once_in_order_and_are_not_too_large(sizes: list[int], jobs: int) -> None:
    lists = list(shares(enumerate(sizes), len(sizes), jobs))
    assert [i for some in lists for i in some] == list(range(len(sizes)))
    for some in lists:
        assert 1 <= len(some) <= MOST
        assert len(some) == 1 or sum(sizes[i] for i in some) <= BYTES
