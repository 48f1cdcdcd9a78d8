"""Things of one size are worked on together. Knows nothing of what they are."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

PIXELS = 1 << 17  # of small pictures that share a network call
Key = tuple[Any, ...]  # height, width, and what else things must share to be worked on together
T = TypeVar("T")


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
