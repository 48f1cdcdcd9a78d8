"""Runs many jobs together, so that they share network calls. One job that fails does not stop the
others.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from uqdm.batches import Key, together
from uqdm.cli.files import Plan
from uqdm.cli.jobs import Job
from uqdm.cli.waiting import Bar, Tick
from uqdm.errors import UqdmError

_WAITING = 64  # files that wait in memory for a batch of their size to fill
T = TypeVar("T")
R = TypeVar("R")


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


def in_batches(plan: Plan, batch: int, work: Work[T, R]) -> int:
    """Reads each job's item, works on those of one group together, finishes each; returns the exit
    code.

    Items wait until `batch` of their group are there, or fewer large ones. Where a batch fails, its
    items are tried one by one, so that one of them does not spoil the others.
    """
    with Bar(plan.jobs) as bar:

        def items() -> Iterator[tuple[Key, tuple[Job, T]]]:
            for job in plan.jobs:
                if job.over:
                    continue
                if (item := job.attempt(work.read, job)) is None:
                    bar.done()
                    continue
                yield work.group(item), (job, item)

        for some in together(items(), batch, _WAITING):
            results: Sequence[R | None] | None = None
            if len(some) > 1:
                with contextlib.suppress(UqdmError, MemoryError):
                    results = work.work([item for _, item in some], bar.tick(len(some), work.steps(some[0][1])))
            for k, (job, item) in enumerate(some):
                if results is None:
                    one = job.attempt(work.work, [item], bar.tick(1, work.steps(item)))
                    result = None if one is None else one[0]
                else:
                    result = results[k]
                if result is not None:
                    job.attempt(work.finish, job, item, result)
                bar.done()
    return plan.finish()
