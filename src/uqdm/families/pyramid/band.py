"""What is asked of one band and channel, and what its answers make known; knows no network, and no
other band.

Arrays are (N, h, w), of the size of the low-pass image of the band's level. What needs more than a
few bytes a position is done in strips.
"""

import dataclasses
import functools
import sys
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import tables
from uqdm.entropy.mixtures import TOTAL
from uqdm.entropy.tables import FRACTION, Cells
from uqdm.exact.tiling import room
from uqdm.families import order
from uqdm.families.boxes import CellsQuestion, Integers, drawn, pieces
from uqdm.families.pyramid import lattice
from uqdm.families.pyramid.fields import strips
from uqdm.families.pyramid.networks import VALUE_BITS, PyramidMixture, loud

NOTHING = 2
DIGIT = 64  # children are told in two digits where there can be more than tables hold: first in groups of so many
THRESHOLD_BITS = 8

Array = NDArray[Any]
Values = NDArray[np.int16]


class Ground:
    """What is asked of the last low-pass of one channel: one digit of each coefficient, all as
    likely as any other.
    """

    def __init__(self, level: int, channel: int, digit: int, shape: tuple[int, int], at: int) -> None:
        self.lowest, highest = lattice.low_range(level, channel)
        self.digit, self._at = digit, at
        self.size = shape[0] * shape[1] if digit != NOTHING else 0
        self.count = -(-(highest - self.lowest + 1) // DIGIT) if digit == 0 else DIGIT

    def symbols(self, values: Values, part: slice) -> Integers:
        """values (D,): a picture's coefficients (see `PyramidWalk.values`)."""
        own = values[self._at + part.start : self._at + part.stop].astype(np.int64) - self.lowest
        return own // DIGIT if self.digit == 0 else own % DIGIT

    def table(self, part: slice) -> Integers:
        """Rows of equal masses; the last column is no child."""
        share = (1 << tables.PRECISION) // (self.count + 1)
        row = np.full(self.count + 1, share, np.int64)
        row[-1] = 1
        row[0] += (1 << tables.PRECISION) - int(row.sum())
        return np.broadcast_to(row, (part.stop - part.start, self.count + 1))

    def children(self, part: slice) -> Integers:
        """(m,)"""
        return np.full(part.stop - part.start, self.count, np.int64)

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """Symbols by chance."""
        return np.minimum(drawn(self.table(part), chances), self.count - 1)


class Question(CellsQuestion):
    """What one run of one band and channel asks of one picture."""

    def __init__(self, asked: NDArray[np.int32], band: "Band", i: int, width: int, begin: int) -> None:
        super().__init__(asked, asked[:0])  # offsets are read where they are
        self._offset = band.offset[i].reshape(-1)
        self._begin = begin  # place of the band and channel in a picture's coefficients
        self._low, self._high, self._told = (a[i].reshape(-1) for a in (band.low, band.high, band.told))
        count = band.mixture.location.shape[-1]
        self._mixture = tuple(a[i].reshape(-1, count) for a in band.mixture[:3])
        self._unit, self._width = band.width, width

    def offsets(self) -> Values:
        """(M,) of what is asked."""
        found: Values = self._offset[self.asked]
        return found

    def symbols(self, values: Values, part: slice) -> Integers:
        """values (D,): a picture's coefficients."""
        at = self.asked[part]
        bottom = first(self._low[at], self._offset[at], self._unit)
        return (values[at + self._begin].astype(np.int64) - bottom) // self._width

    def narrow(self, symbols: Integers) -> None:
        """What answers make known goes into the band: its first ones, where they fall short."""
        finest = self._width == self._unit
        given = self.asked[: len(symbols)], symbols, self._offset, self._unit, self._width, finest
        fastest().narrowed(*given, self._low, self._high, self._told)

    def _cells(self, part: slice) -> Cells:
        ends = self._low, self._high, self._offset
        found: Cells = fastest().cells(self.asked[part], *ends, self._unit, self._width, self._mixture)
        if self._mixture[0].shape[1] == 1:
            return dataclasses.replace(found, location=found.location[:, 0], level=found.level[:, 0], weight=None)
        return found


@functools.cache
def fastest() -> Any:
    """What works coordinate by coordinate: compiled where Numba works, else the four functions below."""
    try:
        from uqdm.families.pyramid import band_kernels
    except Exception:  # a broken installation may raise anything, and NumPy does the same work
        return sys.modules[__name__]
    return band_kernels


def first(low: Array, offset: Array, unit: int) -> Integers:
    """Where the first child of a cell begins, in pixel values."""
    shift = offset.astype(np.int64)
    found: Integers = (low - shift) // unit * unit + shift
    return found


def in_turn(
    run: NDArray[np.int32], columns: int, asked: Array, told: Array, turn: Array, many: bool, width: int,
    low: Array, high: Array, offset: Array,
) -> NDArray[np.int32]:  # fmt: skip
    """Which places (h, w) of a run over the first columns are asked for, the most uncertain first.
    `many`: only those of more children than a table holds.
    """
    found, wide = np.empty(len(run), np.uint8), asked.shape[1]
    for piece in pieces(len(run)):
        y, x = np.divmod(run[piece], np.int32(columns))
        here = asked[y, x] & ~told[y, x]
        if many:
            ends = (a[y, x].astype(np.int32) - offset[y, x] for a in (low, high))
            here &= np.subtract(*(end // width for end in ends)) <= -tables.MOST
        found[piece] = (turn[y, x] // np.uint16(TOTAL) + np.uint16(1)) * here
    y, x = np.divmod(run[order.by_priority(found)], np.int32(columns))
    return y * np.int32(wide) + x


def cells(
    asked: NDArray[np.int32], low: Array, high: Array, offset: Array, unit: int, width: int, mixture: tuple[Array, ...]
) -> Cells:
    """Those of flat places, in intervals of `width`; low, high, offset (P,), mixture (P, J)."""
    bottom, top = (end[asked].astype(np.int32) for end in (low, high))
    location, level, weight = (a[asked] for a in mixture)
    start = first(bottom, offset[asked], unit) << FRACTION
    widths = np.full(len(asked), width << FRACTION, np.int64)
    return Cells(bottom, top, start, widths, location.astype(np.int64), level, weight)


def narrowed(
    asked: NDArray[np.int32], symbols: Integers, offset: Array, unit: int, width: int, finest: bool,
    low: Array, high: Array, told: Array,
) -> None:  # fmt: skip
    """Puts what symbols tell into low, high and told (P,)."""
    for piece in pieces(len(symbols)):
        at = asked[piece]
        bottom = first(low[at], offset[at], unit) + symbols[piece] * width
        low[at] = np.maximum(bottom, low[at])
        high[at] = np.minimum(bottom + width - 1, high[at])
        told[at] = finest


def concluded(rows: slice, *fields: Array) -> None:
    """Puts what answers and predictions say of some rows into the last three fields.

    These are values, errors and loudness. Before come the ends of cells, and of those before; which
    are told; which had several children; guesses and turns. All (N, h, w).
    """
    *ends, told, choice, guess, turn, value, error, loudness = (field[:, rows] for field in fields)
    low, high, bottom, top = (end.astype(np.int32) << VALUE_BITS for end in ends)
    guess = np.clip(guess.astype(np.int32), bottom, top)
    centre = (low + high) >> 1
    value[...] = np.where(told | ~choice, centre, np.clip(guess, low, high))
    error[...] = found = np.where(told, centre - guess, 0)
    loudness[...] = np.where(told, loud(found, turn), 0)


@dataclasses.dataclass
class Band:
    """One band and channel while it is told."""

    low: Values  # the cells, as they become smaller
    high: Values
    parent: tuple[Values, Values]  # the cells as the band began
    offset: Values
    width: int  # of the children
    mixture: PyramidMixture
    choice: NDArray[np.bool_]  # what has several children
    asked: NDArray[np.bool_]  # what of it is not skipped
    told: NDArray[np.bool_]  # what has been answered

    def concluded(self, exact: bool, means: bool, sides: tuple[int, int]) -> "Concluded":
        """What follows from its answers. `exact`: all of them are there, and each cell holds one
        integer. `means`: whether they are wanted; else values stand in their place.
        """
        value, error = (room(self.low.shape, np.int16) for _ in range(2))
        mean = room(self.low.shape, np.int16) if means else value
        louds = room(self.low.shape, np.int8)
        half = 1 << (FRACTION - VALUE_BITS - 1)
        given = self.low, self.high, *self.parent, self.told, self.choice, self.mixture.guess, self.mixture.turn
        for rows in strips(self.low.shape):
            fastest().concluded(rows, *given, value, error, louds)
            if means:
                location, level, weight = (a[:, rows] for a in self.mixture[:3])
                cells = self.low[:, rows], self.high[:, rows]
                mean[:, rows] = (tables.mixture_mean(location, level, weight, *cells) + half) >> (FRACTION - VALUE_BITS)
        if exact:  # one array serves for two that are equal
            self.high = self.low
        for field in (self.low, self.high, value, mean, error, louds):
            lattice.repeat_edge(field, sides)
        return Concluded(value, mean, error, louds)


class Concluded(NamedTuple):
    """What a band and channel leaves behind besides its cells: (N, h, w) each."""

    value: Values
    mean: Values
    error: Values
    louds: NDArray[np.int8]


def several(cells: tuple[Values, Values], offset: Values, width: int) -> NDArray[np.bool_]:
    """Whether cells have more than one child of that width."""
    found = room(offset.shape, np.bool_)
    for rows in strips(offset.shape):
        low, high = (end[:, rows].astype(np.int32) - offset[:, rows] for end in cells)
        np.less(low // width, high // width, out=found[:, rows])
    return found


def above_threshold(turn: NDArray[np.uint16], width: int, threshold: int) -> NDArray[np.bool_]:
    """Whether predicted scales are at least threshold / 2**THRESHOLD_BITS widths; `turn` of
    `PyramidMixture`: TOTAL times the scale's level.
    """
    return turn >= np.uint16(least_turn(width, threshold))


@functools.cache
def least_turn(width: int, threshold: int) -> int:
    """The least `turn` of a scale that is asked for."""
    if threshold == 0:
        return 0
    with localcontext() as context:
        context.prec = 50
        octaves = (Decimal(width) * threshold / (1 << THRESHOLD_BITS)).ln() / Decimal(2).ln() - tables.LOWEST_OCTAVE
        return max(0, int((octaves * tables.LEVELS_PER_OCTAVE * TOTAL).to_integral_value(ROUND_CEILING)))
