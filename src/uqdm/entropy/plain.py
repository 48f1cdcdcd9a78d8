"""The range coder in plain Python, complete. It says what the format says, and it is used if
nothing faster is installed.

An interval of a 64-bit line stands for everything encoded so far. A symbol narrows it to the part
that its table gives it. For this the interval's length is divided into 2**24 equal parts (what is
left over at the top is lost). A symbol whose table begins at part `left` and holds `mass` parts
takes exactly those. Once the interval is shorter than 2**32, the topmost 32 bits of its lower end
are written, and interval and line grow by 2**32. A lower end that passes 2**64 carries one into the
words already written. At the end one word is written, the topmost 32 bits of lower + 2**32 - 1:
followed by zeros, it names a number inside the interval.

The reader needs only how far the stream's number lies above the interval's lower end, and the
interval's length.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.tables import FRACTION, MOST, ONE, PRECISION, Cells
from uqdm.errors import DamagedError

_WORD = 1 << 32
_LINE = 1 << 64
BLOCK = 4096  # so many symbols have tables at a time
FEW = 24  # children up to which whole tables are made
SOME = 512  # symbols whose tables are looked at together where there are more
TABLE = 1 << 15  # children of these tables: they stay in a processor's cache, which makes them twice as fast


def check() -> None:
    """Does nothing: this implementation needs only NumPy, which is always there."""


def compare(writer: Any, reader: Any) -> None:
    """Raises if another implementation's classes do not do what those below do, in a few
    symbols.
    """
    tables = np.array([[1, 5, (1 << PRECISION) - 6]])
    low, high = np.array([0, 5, -9], np.int32), np.array([0, 60, 300], np.int32)
    start, width = np.array([0, 200_000, -(1 << 30)], np.int64), np.array([ONE, 5 * ONE, 1 << 30], np.int64)
    cells = Cells(low, high, start, width, np.array([0, 30, 90]) << FRACTION, np.array([20, 70, 0], np.uint8))
    places, levels = (
        np.array([[0, 2], [20, 40], [90, -30]]) << FRACTION,
        np.array([[20, 9], [70, 30], [0, 99]], np.uint8),
    )
    mixed = Cells(low, high, start, width, places, levels, np.array([[255, 1], [128, 128], [3, 253]], np.uint16))
    symbols = np.array([0, 7, 1])
    ours, theirs = RangeWriter(), writer()
    for each in (ours, theirs):
        each.put(np.array([1]), tables)
        each.put_cells(symbols, cells)
        each.put_cells(symbols, mixed)
    reading = reader(ours.finish(), True)
    read = reading.take(tables).tolist() + reading.take_cells(cells).tolist() + reading.take_cells(mixed).tolist()
    if theirs.finish() != ours.finish() or read != [1, *symbols, *symbols]:
        raise RuntimeError("this implementation of the range coder does not work here")


def blocks(size: int) -> Iterator[slice]:
    """0 .. size in slices of BLOCK."""
    return (slice(begin, min(begin + BLOCK, size)) for begin in range(0, size, BLOCK))


class RangeWriter:
    """Narrows the interval, symbol by symbol."""

    def __init__(self) -> None:
        self._lower, self._range = 0, _LINE - 1
        self._words: list[int] = []

    def put(self, symbols: NDArray[np.int64], masses: NDArray[np.int64]) -> None:
        """Symbols (M,) under `masses` (M, K)."""
        own = symbols[:, None]
        mass = np.take_along_axis(masses, own, axis=1)
        self._narrow((np.take_along_axis(np.cumsum(masses, axis=1), own, axis=1) - mass)[:, 0], mass[:, 0])

    def put_cells(self, symbols: NDArray[np.int64], cells: Cells) -> None:
        """Symbols (M,) of `cells`."""
        for part in blocks(cells.size):
            self._narrow(*cells[part].intervals(symbols[part]))

    def _narrow(self, left: NDArray[np.int64], mass: NDArray[np.int64]) -> None:
        """From symbols to their parts: where they begin and how many they are, (M,) each."""
        lower, length, words = self._lower, self._range, self._words
        for first, parts in zip(left.tolist(), mass.tolist()):
            unit = length >> PRECISION
            lower += unit * first
            length = unit * parts
            if lower >= _LINE:
                lower -= _LINE
                _carry(words)
            if length < _WORD:
                words.append(lower >> 32)
                lower = lower % _WORD << 32
                length <<= 32
        self._lower, self._range = lower, length

    def finish(self) -> bytes:
        """The stream so far, closed. More can still be put into the writer."""
        return closed(np.array(self._words, np.uint32), self._lower, self._range)


def closed(words: NDArray[np.uint32], lower: int, length: int) -> bytes:
    """The stream of a writer in this state."""
    if length == _LINE - 1:  # nothing was encoded
        return b""
    point = lower + _WORD - 1
    words = np.append(words, np.uint32(point % _LINE >> 32))
    if point >= _LINE:
        _carry(words[:-1])
    return words.astype(">u4").tobytes().rstrip(b"\0")


def _carry(words: list[int] | NDArray[np.uint32]) -> None:
    """Adds one to the number that `words` write. There is room, because the end of the line is
    never passed as a whole.
    """
    i = len(words) - 1
    while words[i] == _WORD - 1:
        words[i] = 0
        i -= 1
    words[i] += 1


class RangeReader:
    """Follows the interval that holds the stream's number.

    Bytes that have not arrived count as zero in `_above`. `_taken` counts those that the 64-bit
    line has taken in, arrived or not, so 2**(8 * missing) - 1 can still be added. A symbol is
    certain if that would not lead out of its parts.
    """

    def __init__(self, stream: bytes, whole: bool) -> None:
        self._stream, self._whole = stream, whole
        self._range, self._taken = _LINE - 1, 8
        self._above = int.from_bytes(stream[:8].ljust(8, b"\0"), "big")

    def extend(self, stream: bytes, whole: bool) -> None:
        """Replaces the stream by this longer one."""
        arrived = stream[len(self._stream) : self._taken]
        if arrived:
            self._above += int.from_bytes(arrived, "big") << 8 * (self._taken - len(self._stream) - len(arrived))
        self._stream, self._whole = stream, whole

    def take(
        self,
        masses: NDArray[np.int64],
        children: NDArray[np.int64] | None = None,
        merged: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """The next M symbols under `masses` (M, K), up to the first that is not certain.

        An encoder does not write symbols from children[i] on. Without `children` it may write all
        K. `merged` (M,): whether column 0 stands for several children, as those from children[i] on then
        do. Symbols are taken up to the first that is one of these.
        """
        found: list[int] = []
        cuts = np.cumsum(masses, axis=1)
        limits = [masses.shape[1]] * len(masses) if children is None else children.tolist()
        lowest = [0] * len(masses) if merged is None else merged.tolist()
        for row, least, limit in zip(cuts.tolist(), lowest, limits):
            unit = self._range >> PRECISION
            symbol = bisect_right(row, self._above // unit)
            if merged is not None and not least <= symbol < limit:
                break
            if symbol >= limit:
                if self._whole:
                    raise DamagedError("the range coder's stream is not one that an encoder writes")
                break
            if not self._whole and self._above + self._unknown() >= unit * row[symbol]:
                break
            left = row[symbol - 1] if symbol else 0
            self._above -= unit * left
            self._range = unit * (row[symbol] - left)
            found.append(symbol)
            if self._range < _WORD:
                word = self._stream[self._taken : self._taken + 4]
                self._above = self._above << 32 | int.from_bytes(word.ljust(4, b"\0"), "big")
                self._range <<= 32
                self._taken += 4
        return np.array(found, np.int64)

    def _unknown(self) -> int:
        return (1 << 8 * max(0, self._taken - len(self._stream))) - 1

    def take_cells(self, cells: Cells) -> NDArray[np.int64]:
        """The next symbols of `cells`, up to the first that is not certain."""
        return take_cells(self, cells)


class Takes(Protocol):
    """The base of classes that read symbols under tables."""

    def take(
        self,
        masses: NDArray[np.int64],
        children: NDArray[np.int64] | None = None,
        merged: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]: ...


def take_cells(reader: Takes, cells: Cells) -> NDArray[np.int64]:
    """The next symbols of `cells`, up to the first that is not certain. Tables are made piece by
    piece.

    Where there are many children, a table has the likely ones, and all others in two columns. A symbol
    that is none of the likely ones gets its whole table.
    """
    found, children, begin = [np.zeros(0, np.int64)], cells.children, 0
    while begin < cells.size:
        most = int(children[begin : begin + SOME].max())
        if FEW < most <= MOST:
            part = slice(begin, min(begin + SOME, cells.size))
            found.append(_likely(reader, cells[part], children[part], most))
        else:
            most = int(children[begin : begin + BLOCK].max())
            part = slice(begin, min(begin + BLOCK, cells.size))
            found.append(_whole(reader, cells[part], children[part], most))
        begin += len(found[-1])
        if begin < part.stop:
            break
    return np.concatenate(found)


def _whole(reader: Takes, cells: Cells, children: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """By whole tables. `most`: children of one."""
    found, rows = [np.zeros(0, np.int64)], max(1, TABLE // most)
    for begin in range(0, cells.size, rows):
        part = slice(begin, min(begin + rows, cells.size))
        found.append(reader.take(cells.masses(part), children[part]))
        if len(found[-1]) < part.stop - part.start:
            break
    return np.concatenate(found)


def _likely(reader: Takes, cells: Cells, children: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """By tables of likely children."""
    first, count = cells.likely()
    if 2 * count > most:
        return _whole(reader, cells, children, most)
    found, rows = np.zeros(cells.size, np.int64), TABLE // count
    limits, merged = np.minimum(children - first, count) + 1, first > 1
    for begin in range(0, cells.size, rows):
        end, at = min(begin + rows, cells.size), begin
        masses = cells[begin:end].masses_near(first[begin:end], count)
        while at < end:
            columns = reader.take(masses[at - begin :], limits[at:end], merged[at:end])
            found[at : at + len(columns)] = columns + first[at : at + len(columns)] - 1
            at += len(columns)
            if at < end:
                one = slice(at, at + 1)
                symbol = reader.take(cells.masses(one), children[one])
                if not len(symbol):
                    return found[:at]
                found[one] = symbol
                at += 1
    return found
