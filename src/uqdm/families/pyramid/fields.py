"""Fields that are put together only where they are looked at, so that large pictures need little
memory; knows no network.

The details of a level are nine planes, (N, h, w) each. A plane is made once and then never written
to. So states share planes, and a step replaces one at a time. What looks at several planes at once
does so in strips of rows, or in tiles.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import randomness
from uqdm.exact.tiling import room
from uqdm.families.boxes import pieces

STRIP = 1 << 16  # positions that are worked on at once; no bit depends on it
DITHER = 1  # stream of the offsets
SMALL = 4096  # positions of a plane whose offsets are kept

Array = NDArray[Any]
Values = NDArray[np.int16]


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """The rows of a field (N, ..., h, w) in slices that hold STRIP positions of all N, or one
    row.
    """
    n, h, w = shape[0], shape[-2], shape[-1]
    rows = max(1, STRIP // max(1, n * w))
    return (slice(y, min(y + rows, h)) for y in range(0, h, rows))


def copied(array: Array) -> Array:
    """A copy that may be changed, in `room`."""
    found = room(array.shape, array.dtype.type)
    found[...] = array
    return found


class Cut:
    """A field (N, C, h, w) of which only pieces are ever made: `make` gives one, from slices of
    pictures, rows and columns.
    """

    def __init__(self, shape: tuple[int, int, int, int], make: Callable[[slice, slice, slice], Array]) -> None:
        self.shape, self._make = shape, make

    def __getitem__(self, at: tuple[slice, slice, slice, slice]) -> Array:
        some, _, rows, columns = at
        return self._make(some, rows, columns)


class Planes:
    """Planes (N, h, w) side by side, as the field (N, C, h, w) of which a piece is made when it is
    looked at.
    """

    def __init__(self, planes: Sequence[Array], shape: tuple[int, ...] = ()) -> None:
        """`shape`: of a plane, where there may be none."""
        self.planes = list(planes)
        self._shape = shape or self.planes[0].shape

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, h, w)"""
        n, h, w = self._shape
        return n, len(self.planes), h, w

    def __getitem__(self, at: Any) -> Array:
        """A piece by slices of all four axes, or picture `at`."""
        if not isinstance(at, tuple):
            return np.stack([plane[at] for plane in self.planes])
        some, channels, rows, columns = at
        chosen = [plane[some, rows, columns] for plane in self.planes[channels]]
        if not chosen:
            empty = np.empty(self._shape, np.int16)[some, rows, columns]
            return empty[:, None][:, :0]
        return np.stack(chosen, 1)

    def only(self, i: int) -> "Planes":
        """Picture i alone."""
        return Planes([plane[i : i + 1] for plane in self.planes], (1, *self._shape[1:]))

    def copy(self) -> "Planes":
        """Others may be put in place of its planes; the planes themselves are shared."""
        return Planes(self.planes, self._shape)


def doubled(planes: Sequence[Array], shape: tuple[int, int]) -> Cut:
    """Each position of coarse planes stands for 2 x 2 of a field of (h, w) = `shape`."""

    def make(some: slice, rows: slice, columns: slice) -> Array:
        coarse = slice(rows.start // 2, (rows.stop + 1) // 2), slice(columns.start // 2, (columns.stop + 1) // 2)
        found = np.stack([plane[some, *coarse] for plane in planes], 1).repeat(2, 2).repeat(2, 3)
        y, x = rows.start % 2, columns.start % 2
        return found[:, :, y : y + rows.stop - rows.start, x : x + columns.stop - columns.start]

    return Cut((len(planes[0]), len(planes), *shape), make)


class Offsets:
    """The offsets of N pictures, which are drawn again wherever they are asked for: that takes less
    than keeping them.

    `limits`: of each level, below what the offsets of its planes lie. `shapes`: of the levels'
    planes.
    """

    def __init__(
        self, seeds: Sequence[int], limits: Sequence[Sequence[int]], shapes: Sequence[tuple[int, int]]
    ) -> None:
        self._seeds, self._limits, self._shapes = seeds, limits, shapes

    def plane(self, level: int, number: int) -> Values:
        """(N, h, w) of plane `number` of a level (from 1)."""
        h, w = self._shapes[level - 1]
        most = self._limits[level - 1][number]
        before = sum(len(own) * rows * columns for own, (rows, columns) in zip(self._limits[: level - 1], self._shapes))
        found, begin = room((len(self._seeds), h * w), np.int16), before + number * h * w
        first = self._seeds[0] if len(self._seeds) else 0
        for i, (one, seed) in enumerate(zip(found, self._seeds)):
            if i and seed == first:  # usually all pictures have the same seed
                one[:] = found[0]
            elif h * w <= SMALL:
                one[:] = _drawn(seed, most, h * w, begin)
            else:
                for piece in pieces(h * w):
                    one[piece] = _drawn.__wrapped__(seed, most, piece.stop - piece.start, begin + piece.start)
        return found.reshape(-1, h, w)


@functools.lru_cache(maxsize=512)
def _drawn(seed: int, most: int, count: int, start: int) -> Values:
    """(count,) offsets below `most`. Those of small planes are kept: to begin a generator takes longer
    than what it then draws.
    """
    return randomness.below(most, randomness.raw(seed, DITHER, count, start)).astype(np.int16)
