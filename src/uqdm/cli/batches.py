"""Runs many jobs together: in this process, where they share network calls, or in several. One job
that fails does not stop the others.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from uqdm import cpus
from uqdm.batches import Key, together, worked
from uqdm.cli.files import Plan
from uqdm.cli.jobs import Job
from uqdm.cli.waiting import Bar, Tick

_WAITING = 64  # files that wait in memory for a batch of their size to fill
_WORTH = 1 << 18  # bytes of input for which a process is worth its start
T = TypeVar("T")
R = TypeVar("R")
J = TypeVar("J", bound=Job)


class Work(Protocol[T, R]):
    """What a command does with each of its jobs."""

    def read(self, job: Job, /) -> T:
        """What the job is about, in memory."""

    def group(self, item: T, /) -> Key:
        """Height, width, and what else items must share to be worked on together."""

    def steps(self, item: T, /) -> int:
        """How many steps there are to do."""

    def work(self, items: list[T], tick: Tick, /) -> list[R]:
        """The results of items of one group. It calls `tick` while it works."""

    def finish(self, job: Job, item: T, result: R, /) -> None:
        """Writes a result and prints its line."""


Begin = Callable[..., Work[Any, Any]]  # takes `threads`, those of the network


def in_batches(plan: Plan, batch: int, begin: Begin, jobs: int | None, threads: int | None, device: str) -> int:
    """Reads each job's item, works on those of one group together, finishes each; returns the exit
    code.

    `begin` makes what works, in each process once. By default there are as many processes as this
    one has processors and the inputs are worth, and they share its processors; a single one is this
    process with all threads. A graphics card is used by one process.
    """
    todo = [job for job in plan.jobs if not job.over]
    count = min(_processes(todo, device) if jobs is None else jobs, len(todo))
    own = max(1, cpus.available() // count) if jobs is None and count else 1  # threads of each of several
    with Bar(plan.jobs) as bar:
        if count > 1:
            _shared_out(todo, batch, functools.partial(begin, threads=threads or own), count, bar)
        else:
            for _ in _done(todo, batch, begin(threads=threads), bar.tick):
                bar.done()
    return plan.finish()


def _processes(jobs: Sequence[Job], device: str) -> int:
    return min(cpus.available(), sum(job.size for job in jobs) // _WORTH) if device == "cpu" else 1


def _done(jobs: Sequence[J], batch: int, work: Work[Any, Any], ticks: Callable[[int, int], Tick]) -> Iterator[J]:
    """The jobs, each when it is over. Items wait until `batch` of their group are there, or fewer
    large ones.
    """
    unread: list[J] = []

    def items() -> Iterator[tuple[Key, tuple[J, Any]]]:
        for job in jobs:
            if (item := job.attempt(work.read, job)) is None:
                unread.append(job)
                continue
            yield work.group(item), (job, item)

    def compute(some: list[tuple[J, Any]]) -> list[Any]:
        return work.work([item for _, item in some], ticks(len(some), work.steps(some[0][1])))

    for (job, item), result in worked(together(items(), batch, _WAITING), compute):
        if isinstance(result, Exception):
            job.attempt(_raise, result)
        else:
            job.attempt(work.finish, job, item, result)
        yield job
        yield from _taken(unread)
    yield from _taken(unread)


def _taken(some: list[J]) -> Iterator[J]:
    while some:
        yield some.pop()


def _raise(error: Exception) -> None:
    raise error


# --- in several processes


@dataclasses.dataclass
class RemoteJob(Job):
    """A job in another process. What it would write and print is told, for the process of the
    command to do: so a process that is killed leaves nothing half-written.
    """

    told: list[tuple[str, tuple[Any, ...]]] = dataclasses.field(default_factory=list)

    def write(self, data: bytes, force: bool) -> None:
        """See `Job`."""
        self.told.append(("write", (data, force)))

    def say(self, text: str) -> None:
        """See `Job`."""
        self.told.append(("say", (text,)))

    def complain(self, message: str) -> None:
        """See `Job`."""
        self.told.append(("complain", (message,)))


class Bench:
    """What works in a process: it gets jobs by their sources and targets, and tells of each whether
    it failed and what it told.
    """

    def __init__(self, begin: Begin, batch: int) -> None:
        self._work, self._batch = begin(), batch

    def __call__(self, some: list[tuple[int, str, str]], tell: Callable[[int, Any], None]) -> None:
        jobs = [RemoteJob(source, target, alone=False) for _, source, target in some]
        places = {id(job): place for place, job in enumerate(jobs)}
        for job in _done(jobs, self._batch, self._work, _untold):
            tell(places[id(job)], (job.failed, job.told))
            job.told = []  # it holds a whole file


def _untold(pictures: int, steps: int) -> Tick:
    return lambda step, part, parts: None


def _shared_out(jobs: Sequence[Job], batch: int, begin: Begin, count: int, bar: Bar) -> None:
    from uqdm.bulk import processes

    sized = (((place, job.source, job.target), job.size) for place, job in enumerate(jobs))
    lists = processes.shares(sized, len(jobs), count)
    found = processes.outcomes(functools.partial(Bench, begin, batch), lists, count)
    with contextlib.closing(found):
        for (place, _, _), result in found:
            job = jobs[place]
            if isinstance(result, Exception):
                job.attempt(_raise, result)
            else:
                failed, told = result
                for name, given in told:
                    if not job.failed:
                        job.attempt(getattr(job, name), *given)
                job.failed |= failed
            bar.done()
