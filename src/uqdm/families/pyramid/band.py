"""What is asked of one band and channel, and what its answers make known; knows no network, and no
other band.

Arrays are (N, h, w), of the size of the low-pass image of the band's level. What needs more than a
few bytes a position is done in strips.
"""

import dataclasses
import functools
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import tables
from uqdm.entropy.mixtures import TOTAL
from uqdm.entropy.tables import FRACTION, Cells
from uqdm.exact.tiling import room
from uqdm.families.boxes import CellsQuestion, Integers, drawn, pieces
from uqdm.families.pyramid import lattice
from uqdm.families.pyramid.fields import strips
from uqdm.families.pyramid.networks import VALUE_BITS, Mixture, loud

NOTHING = 2
DIGIT = 64  # children are told in two digits where there can be more than tables hold: first in groups of so many
THRESHOLD_BITS = 8

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
        """values (D,): a picture's coefficients (see `Pyramid.values`)."""
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
        super().__init__(asked, band.offset[i].reshape(-1)[asked].astype(np.int32))
        self._begin = begin  # place of the band and channel in a picture's coefficients
        self._low, self._high = band.low[i].reshape(-1), band.high[i].reshape(-1)
        count = band.mixture.location.shape[-1]
        self._mixture = tuple(a[i].reshape(-1, count) for a in band.mixture[:3])
        self._unit, self._width = band.width, width

    def symbols(self, values: Values, part: slice) -> Integers:
        """values (D,): a picture's coefficients."""
        begin, width = self.begin(part)
        return ((values[self.asked[part] + self._begin].astype(np.int64) << FRACTION) - begin) // width

    def _cells(self, part: slice) -> Cells:
        at, offset = self.asked[part], self.dither[part].astype(np.int64)
        low, high = self._low[at].astype(np.int32), self._high[at].astype(np.int32)
        start = ((low - offset) // self._unit * self._unit + offset) << FRACTION
        location, level, weight = (a[at] for a in self._mixture)
        width = np.full(len(at), self._width << FRACTION, np.int64)
        if location.shape[1] == 1:
            return Cells(low, high, start, width, location[:, 0].astype(np.int64), level[:, 0])
        return Cells(low, high, start, width, location.astype(np.int64), level, weight)


@dataclasses.dataclass
class Band:
    """One band and channel while it is told."""

    low: Values  # the cells, as they become smaller
    high: Values
    parent: tuple[Values, Values]  # the cells as the band began
    offset: Values
    width: int  # of the children
    mixture: Mixture
    asked: NDArray[np.bool_]  # what has several children and is not skipped
    told: NDArray[np.bool_]  # what has been answered

    def copy(self) -> "Band":
        """One that more answers can narrow, while this one stays as it is."""
        return dataclasses.replace(self, low=self.low.copy(), high=self.high.copy(), told=self.told.copy())

    def narrowed(self, questions: Sequence["Question"], answers: Sequence[Integers], told: bool) -> None:
        """Takes in the answers about each picture. `told`: nothing more is asked about these
        details.
        """
        for i, (q, symbols) in enumerate(zip(questions, answers)):
            for piece in pieces(len(symbols)):
                y, x = np.divmod(q.asked[piece], np.int32(self.low.shape[2]))
                begin, width = q.begin(piece)
                bottom = (begin + symbols[piece] * width) >> FRACTION
                self.low[i, y, x] = np.maximum(bottom, self.low[i, y, x])
                self.high[i, y, x] = np.minimum(bottom + (width >> FRACTION) - 1, self.high[i, y, x])
                self.told[i, y, x] = told

    def concluded(self, exact: bool, sides: tuple[int, int]) -> "Concluded":
        """What follows from its answers. `exact`: all of them are there, and each cell holds one
        integer.
        """
        value, mean, error = (room(self.low.shape, np.int16) for _ in range(3))
        louds = room(self.low.shape, np.int8)
        half = 1 << (FRACTION - VALUE_BITS - 1)
        for rows in strips(self.low.shape):
            parent = self.parent[0][:, rows], self.parent[1][:, rows]
            cells, told = (self.low[:, rows], self.high[:, rows]), self.told[:, rows]
            low, high, bottom, top = (a.astype(np.int32) << VALUE_BITS for a in (*cells, *parent))
            guess = np.clip(self.mixture.guess[:, rows].astype(np.int32), bottom, top)
            centre = (low + high) >> 1
            certain = told | ~several(parent, self.offset[:, rows], self.width)
            value[:, rows] = np.where(certain, centre, np.clip(guess, low, high))
            error[:, rows] = found = np.where(told, centre - guess, 0)
            louds[:, rows] = np.where(told, loud(found, self.mixture.turn[:, rows]), 0)
            if not exact:
                location, level, weight = (a[:, rows] for a in self.mixture[:3])
                mean[:, rows] = (tables.mixture_mean(location, level, weight, *cells) + half) >> (FRACTION - VALUE_BITS)
        if exact:  # one array serves for two that are equal
            self.high, mean = self.low, value
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
    `Mixture`: TOTAL times the scale's level.
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
