"""Work shared out to processes of this machine, with results as they come. Knows no codec and no
picture.

1. Each process is new ("spawn", since forks of a process with threads may hang), is made once, and
   gives libraries one thread.
2. A process has one list of things at a time. So what is in memory does not grow with the work.
3. A process that dies takes no result with it. What it had not done yet is tried once more by
   others, each thing alone. If that process dies too, the thing's result is a `Died`.
4. When the caller stops, by an error or by Ctrl-C, the processes end at once. They end with their
   parent too, however that ends.
"""

import collections
import contextlib
import importlib
import itertools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import Any, Generic, TypeVar

from uqdm.cpus import one_thread
from uqdm.errors import UqdmError
from uqdm.families import registry

MOST = 32  # things in a list
BYTES = 1 << 18  # of a list of several things
_SPAWN = multiprocessing.get_context("spawn")
T = TypeVar("T")
R = TypeVar("R")
Tell = Callable[[int, Any], None]  # the place of a thing in its list, and its result
Work = Callable[[list[T], Tell], None]


class Died(UqdmError):
    """The result of a thing whose process died, twice."""


@dataclass
class _Worker(Generic[T]):
    process: Any
    pipe: "multiprocessing.connection.Connection"
    ready: bool = False  # it has begun once
    idle: bool = False
    again: bool = False  # what it has now was given to another one before, which died
    left: dict[int, T] = field(default_factory=dict)  # by place in its list, what it has not told yet


def shares(things: Iterable[tuple[T, int]], total: int, jobs: int) -> Iterator[list[T]]:
    """Lists of neighbours to hand out, made of `total` things with their sizes in bytes.

    A list has at most MOST things and BYTES bytes, unless one thing alone has more. Lists become
    shorter towards the end, so that all processes are busy until then.
    """
    some: list[T] = []
    size = handed = 0
    for thing, own in things:
        fit = min(MOST, max(1, (total - handed) // (2 * jobs)))
        if some and (len(some) >= fit or size + own > BYTES):
            yield some
            handed += len(some)
            some, size = [], 0
        some.append(thing)
        size += own
    if some:
        yield some


def outcomes(begin: Callable[[], Work[T]], lists: Iterable[list[T]], jobs: int) -> Generator[tuple[T, Any], None, None]:
    """Each thing with its result, or with a `Died`, in the order in which they come.

    `begin` runs once in each process and gives the function that works there: it gets a list and
    calls `tell` for each thing of it. All of it is pickled. Raises what `begin` or that function
    raises, and `UqdmError` if no process lives long enough to begin. To end early, close the
    generator.
    """
    team = _Team(begin, iter(lists), jobs)
    try:
        yield from team.run()
    finally:
        team.end()


class _Team(Generic[T]):
    """The processes at work, and what is still to be handed out."""

    def __init__(self, begin: Callable[[], Work[T]], lists: Iterator[list[T]], jobs: int) -> None:
        self._begin, self._lists, self._jobs = begin, lists, jobs
        self._again: collections.deque[T] = collections.deque()  # things whose process has died once
        self._workers: dict[Any, _Worker[T]] = {}  # by pipe
        self._unborn = 0  # processes that died before they were ready

    def run(self) -> Iterator[tuple[T, Any]]:
        """See `outcomes`."""
        for _ in range(self._jobs):
            self._start()
        while True:
            for worker in self._workers.values():
                if worker.idle:
                    self._hand_out(worker)
            if all(worker.idle for worker in self._workers.values()):
                return
            if not any(worker.left for worker in self._workers.values()) and self._nothing_waits():
                return  # those that have not begun are not needed any more
            for pipe in multiprocessing.connection.wait(list(self._workers)):
                yield from self._hear(self._workers[pipe])

    def _start(self) -> None:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_serve, args=(theirs, registry.modules(), self._begin), daemon=True)
        with one_thread(), _no_interrupts():
            process.start()
        theirs.close()  # the process has its own; when that is closed too, nothing more can come
        self._workers[ours] = _Worker(process, ours)

    def _nothing_waits(self) -> bool:
        """Whether all is handed out. Takes the next list to know it."""
        if self._again:
            return False
        following = next(self._lists, None)
        if following is None:
            return True
        self._lists = itertools.chain([following], self._lists)
        return False

    def _hand_out(self, worker: _Worker[T]) -> None:
        some = next(self._lists, None)
        worker.again = some is None
        if some is None:
            if not self._again:
                return
            some = [self._again.popleft()]
        worker.left, worker.idle = dict(enumerate(some)), False
        with contextlib.suppress(OSError):  # it has died, which its pipe tells too
            worker.pipe.send(some)

    def _hear(self, worker: _Worker[T]) -> Iterator[tuple[T, Any]]:
        try:
            word, told = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        if word == "raised":
            raise told
        if word == "idle":
            assert not worker.left, "a list ended before all of it was told"
            worker.ready = worker.idle = True
            return
        place, result = told
        yield worker.left.pop(place), result

    def _bury(self, worker: _Worker[T]) -> Iterator[tuple[T, Any]]:
        del self._workers[worker.pipe]
        worker.pipe.close()
        worker.process.join()
        how = _how(worker.process.exitcode)
        if not worker.ready:
            self._unborn += 1
            if self._unborn > self._jobs:
                raise UqdmError(f"processes end before they begin ({how}); use --jobs 1 to work in this one")
        self._start()
        for thing in worker.left.values():
            if worker.again:
                yield thing, Died(f"the process that worked on it ended, and so did a second one ({how})")
            else:
                self._again.append(thing)

    def end(self) -> None:
        """Ends all processes at once: nothing that they hold is needed any more."""
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()


def _how(code: int | None) -> str:
    """What the exit code of a process says."""
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return name + (-code == signal.SIGKILL) * ", perhaps because memory ran out: use fewer --jobs"


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes that start here never get a Ctrl-C: a terminal sends it to all, and the parent
    answers it.
    """
    resource_tracker.ensure_running()  # which unblocks SIGINT when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- in the processes


def _serve(
    pipe: "multiprocessing.connection.Connection", families: Sequence[str], begin: Callable[[], Work[Any]]
) -> None:
    """A process's life. `families` names the modules that register families."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        for name in families:
            importlib.import_module(name)
        work = begin()
        while True:
            pipe.send(("idle", None))
            try:
                some = pipe.recv()
            except EOFError:
                return
            work(some, lambda place, result: pipe.send(("told", (place, result))))
    except BrokenPipeError:
        return
    except Exception as error:
        with contextlib.suppress(BrokenPipeError):
            pipe.send(("raised", _sendable(error)))


def _sendable(error: Exception) -> Exception:
    """An error, or one of its words where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
