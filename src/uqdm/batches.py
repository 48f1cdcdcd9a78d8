"""Things of one size are worked on together, and one that fails does not spoil the others. Knows
nothing of what they are.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from uqdm.errors import UqdmError

PIXELS = 1 << 17  # of small pictures that share a network call
FAILURES = (UqdmError, MemoryError, OSError)  # what bad data, and too little of a machine, raise
Key = tuple[Any, ...]  # height, width, and what else things must share to be worked on together
T = TypeVar("T")
R = TypeVar("R")


def together(things: Iterable[tuple[Key, T]], most: int | None = None, waiting: int | None = None) -> Iterator[list[T]]:
    """Lists of things with equal keys. A list has no more than PIXELS pixels, unless one thing
    alone has more.

    `most`: things in a list. `waiting`: once so many wait for their lists to fill, the longest list
    is given as it is.
    """
    alike: dict[Key, list[T]] = {}
    for key, thing in things:
        alike.setdefault(key, []).append(thing)
        fit = max(1, PIXELS // (key[0] * key[1]))
        if len(alike[key]) >= (fit if most is None else min(fit, most)):
            yield alike.pop(key)
        elif waiting is not None and sum(map(len, alike.values())) >= waiting:
            yield alike.pop(max(alike, key=lambda one: len(alike[one])))
    while alike:
        yield alike.pop(next(iter(alike)))


def worked(lists: Iterable[list[T]], work: Callable[[list[T]], Sequence[R]]) -> Iterator[tuple[T, R | Exception]]:
    """Each thing with its result, or with what of FAILURES its work raised.

    Where a list fails, its things are tried one by one.
    """
    for some in lists:
        results: Sequence[R] | None = None
        if len(some) > 1:
            with contextlib.suppress(*FAILURES):
                results = work(some)
        for k, thing in enumerate(some):
            if results is not None:
                yield thing, results[k]
                continue
            try:
                yield thing, work([thing])[0]
            except FAILURES as error:
                yield thing, error
