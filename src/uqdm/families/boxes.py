"""What families have in common: boxes of integers that symbols make smaller, and pixels from what
is known. Knows no network.

A box is low <= v <= high for every coordinate; low and high are int16 (N, C, H, W). Positions are
integers in 2**-16 pixel values.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import tables
from uqdm.entropy.tables import FRACTION, Cells
from uqdm.errors import LimitError
from uqdm.exact.features import Boxes
from uqdm.families import colour

Integers = NDArray[np.int64]
BLOCK = 1 << 16  # coordinates that are worked on at once; no bit depends on it
KEPT = 1 << 18  # symbols up to which a question keeps its cells
MOST_PRIORITY = 63  # what may be added to a scale level for a coordinate's turn, or taken off


def ceil(position: Integers) -> Integers:
    """The least integers at or above positions."""
    return -((-position) >> FRACTION)


def everything(count: int, shape: tuple[int, int], space: str) -> tuple[Boxes, Boxes]:
    """Boxes of `count` pictures of `shape` (H, W) before anything is known: the whole range of
    every coordinate. Raises `LimitError` where a picture is too large.
    """
    h, w = shape
    if 3 * h * w >= 2**31:
        raise LimitError(
            f"{w} x {h} is {h * w:,} pixels; places of coordinates are numbers below 2**31: at most 715,827,882 pixels"
        )
    low, high = (np.empty((count, 3, h, w), np.int16) for _ in range(2))
    for ends, bounds in ((low, colour.LOWEST), (high, colour.HIGHEST)):
        ends[:] = np.array(bounds[space], np.int16)[:, None, None]
    return low, high


def field(boxes: Boxes) -> tuple[int, int]:
    """Height and width."""
    h, w = boxes.shape[2:]
    return h, w


def pieces(count: int) -> Iterator[slice]:
    """0 .. count in slices of BLOCK."""
    return (slice(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK))


class Question:
    """What one part of one chunk asks of one picture: `size` symbols in coding order. Holds places
    and dithers; cells come when needed.
    """

    def __init__(self, asked: NDArray[np.int32], dither: NDArray[np.int32]) -> None:
        self.asked = asked  # (M,) flat positions in (C, H, W), in coding order
        self.dither = dither  # (M,)

    @property
    def size(self) -> int:
        """Number of symbols."""
        return len(self.asked)

    def begin(self, part: slice) -> tuple[Integers, Integers]:
        """Where the intervals of symbol 0 begin in `part` (2**-16 pixel values), and their widths:
        (m,) each.
        """
        raise NotImplementedError

    def symbols(self, values: NDArray[np.int16], part: slice) -> Integers:
        """The picture's symbols in `part`, 0 for the lowest possible interval. values (C, H, W)
        integer coordinates.
        """
        begin, width = self.begin(part)
        return ((values.reshape(-1)[self.asked[part]].astype(np.int64) << FRACTION) - begin) // width


class CellsQuestion(Question):
    """Every symbol is one of the cells that intervals cut a box into."""

    def __init__(self, asked: NDArray[np.int32], dither: NDArray[np.int32]) -> None:
        super().__init__(asked, dither)
        self._kept: list[Cells] = []

    def offsets(self) -> NDArray[np.signedinteger]:
        """(M,) the dither of each."""
        return self.dither

    def _cells(self, part: slice) -> Cells:
        raise NotImplementedError

    def table(self, part: slice) -> Cells:
        """The cells of the symbols in `part`."""
        if self.size > KEPT:
            return self._cells(part)
        if not self._kept:
            self._kept.append(self._cells(slice(0, self.size)))
        return self._kept[0][part]

    def children(self, part: slice) -> Integers:
        """(m,) how many symbols each in `part` has."""
        return self.table(part).children

    def begin(self, part: slice) -> tuple[Integers, Integers]:
        """See `Question`."""
        cells = self.table(part)
        return cells.start, cells.width

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """Symbols in `part` by chance: `chances` (m,) uniform 32-bit integers."""
        cells = self.table(part)
        return np.minimum(drawn(cells.masses(slice(0, cells.size)), chances), cells.children - 1)


def drawn(masses: Integers, chances: NDArray[np.uint32]) -> Integers:
    """(M,) symbols that uniform 32-bit integers choose under `masses` (M, K)."""
    found: Integers = (np.cumsum(masses, 1) <= (chances >> np.uint32(32 - tables.PRECISION))[:, None]).sum(1)
    return found


def shown(mean: NDArray[np.int32], low: Boxes, high: Boxes, space: str, colourless: bool) -> NDArray[np.uint8]:
    """Coordinates' positions to pixels; pixels of which all is known are exact. `colourless`: the
    chroma of a grey picture is 0.
    """
    known = low == high
    if colourless:
        mean, low = (np.concatenate([a[:, :1], np.zeros_like(a[:, 1:])], 1) for a in (mean, low))
        known = known[:, :1]
    # Of grey, luma is the pixel: the transform's floors took nothing off it.
    pixels = colour.preview(np.repeat(mean[:, :1], 3, 1), "rgb") if colourless else colour.preview(mean, space)
    certain = known.all(1, keepdims=True)
    return np.where(certain, colour.inverse(low, space), pixels) if certain.any() else pixels


def errors(low: Boxes, high: Boxes, space: str, colourless: bool) -> list[int]:
    """For each picture, how far any pixel can be from the true one that lies in the boxes as
    previews do.
    """
    spans = (high - low).max((2, 3), initial=0)  # symbols that contradict each other leave boxes below 0
    if colourless:
        spans[:, 1:] = 0
    return [max(colour.errors((int(y), int(co), int(cg)), space)) for y, co, cg in spans]
