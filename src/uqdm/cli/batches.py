"""Many jobs share network calls, and one that fails does not stop the others."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from uqdm.cli.jobs import Job
from uqdm.errors import UqdmError

_WAITING = 64  # files that wait in memory for a batch of their size to fill
_LARGE = 1 << 18  # pixels that keep a network call busy: so many do not wait for more
T = TypeVar("T")
R = TypeVar("R")


def in_batches(
    jobs: list[Job],
    batch: int,
    read: Callable[[Job], T],
    group: Callable[[T], tuple[Any, ...]],
    work: Callable[[list[T]], list[R]],
    finish: Callable[[Job, T, R], None],
) -> int:
    """Reads each job's item, works on those of one group together, finishes each; returns the exit code.

    `group`: height, width, and what else must agree. Items wait until `batch` of their group are there, or fewer large ones. Where a
    batch fails, its items are tried one by one, so that one of them does not spoil the others.
    """
    waiting: dict[Any, list[tuple[Job, T]]] = {}

    def flush(key: Any) -> None:
        some = waiting.pop(key)
        results: Sequence[R | None] | None = None
        if len(some) > 1:
            with contextlib.suppress(UqdmError):
                results = work([item for _, item in some])
        if results is None:
            results = [one[0] if (one := job.attempt(work, [item])) is not None else None for job, item in some]
        for (job, item), result in zip(some, results, strict=True):
            if result is not None:
                job.attempt(finish, job, item, result)

    _show_progress(jobs)
    try:
        for job in jobs:
            if job.failed or (item := job.attempt(read, job)) is None:
                continue
            key = group(item)
            waiting.setdefault(key, []).append((job, item))
            if len(waiting[key]) >= batch or len(waiting[key]) * key[0] * key[1] >= _LARGE:
                flush(key)
            if sum(len(some) for some in waiting.values()) >= _WAITING:
                flush(max(waiting, key=lambda key: len(waiting[key])))
        for key in list(waiting):
            flush(key)
    finally:
        if jobs[0].bar is not None:
            jobs[0].bar.close()
    return int(any(job.failed for job in jobs))


def _show_progress(jobs: list[Job]) -> None:
    """A bar on stderr, if someone may be looking and there is more than one thing to wait for."""
    if len(jobs) < 2 or not sys.stderr.isatty():
        return
    from tqdm import tqdm

    bar = tqdm(total=len(jobs), initial=sum(job.failed for job in jobs), unit="file", file=sys.stderr, dynamic_ncols=True)
    for job in jobs:
        job.bar = bar
