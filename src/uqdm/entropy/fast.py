"""The range coder in machine code, made by Numba. It writes the same bytes as `plain.py`, which
says what they mean.

Tables of `Cells` are not made. An encoder needs the distribution function at four boundaries, a
decoder at as many as a search visits. All of it is 64-bit integer arithmetic. Floating point is
only used to guess, and the guess is corrected.

Tables of constants come in as arguments: compiled code is kept on disk and must not hold old ones.
`check` would notice.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import plain, tables
from uqdm.entropy.tables import FRACTION, KNEE, MOST, ONE, PRECISION, REACH, SHARED, WEIGHT_BITS, Cells
from uqdm.errors import DamagedError

Function = TypeVar("Function", bound=Callable[..., Any])
Int = Any  # int64 in a kernel; for a type checker, also Python's and NumPy's integers

OK, STOPPED, TOO_MANY, NO_CHILD = 0, 1, 2, 3  # how a kernel ended
_LIMIT = REACH << FRACTION
_CELL = FRACTION - 7  # bits of a position inside a cell of the table
_PRECISION = np.uint64(PRECISION)
_WORD = np.uint64(32)
_LOW_WORD = np.uint64(0xFFFFFFFF)
_SHORT = np.uint64(1 << 32)


def compiled(function: Function) -> Function:
    """Compiles at the first call and keeps the code on disk if it can be written. Threads run it
    side by side.
    """
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """The same, for functions that other kernels call."""
    return cast(Function, numba.njit(nogil=True, error_model="numpy", inline="always")(function))


@functools.cache
def _constants() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The distribution function, with its last entry twice, and what divides by the scales."""
    table = tables.logistic_cdf()
    return np.append(table, table[-1]), *tables.reciprocals()


@inlined
def _cdf(distance: Int, mantissa: Int, shift: Int, table: NDArray[np.int64]) -> Int:
    """`tables.cdf`."""
    t = min(max((distance * mantissa) >> shift, -_LIMIT), _LIMIT) + _LIMIT
    cell = t >> _CELL
    below = table[cell]
    return below + (((table[cell + 1] - below) * (t & ((1 << _CELL) - 1))) >> _CELL)


@inlined
def _mixed(position: Int, i: Int, logistics: Any) -> Int:
    """`tables.Cells.cdf` of symbol i. `logistics` are location, level and weight (M, J) each, then
    `_constants`.
    """
    location, level, weight, table, mantissas, shifts = logistics
    if location.shape[1] == 1:
        return _cdf(position - location[i, 0], mantissas[level[i, 0]], shifts[level[i, 0]], table)
    total: Int = 0
    for j in range(location.shape[1]):
        total += np.int64(weight[i, j]) * _cdf(
            position - location[i, j], mantissas[level[i, j]], shifts[level[i, j]], table
        )
    return total >> WEIGHT_BITS


@inlined
def _share(part: Int, total: Int, inverse: float) -> Int:
    """floor(part * SHARED / total), with `inverse` about SHARED / total."""
    guess = int(part * inverse)
    rest = part * SHARED - guess * total
    if rest < 0:
        guess -= 1
    elif rest >= total:
        guess += 1
    return guess


@inlined
def _narrow(state: NDArray[np.uint64], words: NDArray[np.uint32], left: Int, mass: Int) -> None:
    """One step of an encoder. state: lower, range, number of words."""
    unit = state[1] >> _PRECISION
    lower = state[0] + unit * np.uint64(left)
    length = unit * np.uint64(mass)
    if lower < state[0]:
        i = np.int64(state[2]) - 1
        while words[i] == _LOW_WORD:
            words[i] = 0
            i -= 1
        words[i] += np.uint32(1)
    if length < _SHORT:
        words[np.int64(state[2])] = np.uint32(lower >> _WORD)
        state[2] += np.uint64(1)
        lower <<= _WORD
        length <<= _WORD
    state[0] = lower
    state[1] = length


@compiled
def _put_cells(
    state: NDArray[np.uint64],
    words: NDArray[np.uint32],
    symbols: NDArray[np.int64],
    low: NDArray[np.int32],
    high: NDArray[np.int32],
    start: NDArray[np.int64],
    width: NDArray[np.int64],
    logistics: Any,
) -> int:
    """Encodes all symbols. `words` has room for as many."""
    for i in range(len(symbols)):
        symbol, w = symbols[i], width[i]
        bottom, top = np.int64(low[i]) << FRACTION, np.int64(high[i]) << FRACTION
        span = top - start[i]
        if w * MOST <= span:
            return TOO_MANY
        if symbol < 0 or symbol > MOST or symbol * w > span:
            return NO_CHILD
        f0 = _mixed(bottom - ONE // 2, i, logistics)
        total = _mixed(top + ONE // 2, i, logistics) - f0
        left: Int = symbol
        right: Int = symbol + 1
        if total == 0:
            n = span // w + 1
            left += symbol * SHARED // n
            right += (symbol + 1) * SHARED // n
        else:
            inverse = SHARED / total
            begin = start[i] + symbol * w + (ONE - 1)
            end = (begin + w) & -ONE
            if symbol > 0:
                f = _mixed((begin & -ONE) - ONE // 2, i, logistics)
                left += _share(f - f0, total, inverse)
            if end > top:
                right += SHARED
            else:
                right += _share(_mixed(end - ONE // 2, i, logistics) - f0, total, inverse)
        _narrow(state, words, left, right - left)
    return OK


@compiled
def _put(
    state: NDArray[np.uint64], words: NDArray[np.uint32], symbols: NDArray[np.int64], masses: NDArray[np.int64]
) -> int:
    """Encodes all symbols. `words` has room for as many."""
    for i in range(len(symbols)):
        symbol = symbols[i]
        if symbol < 0 or symbol >= masses.shape[1]:
            return NO_CHILD
        left = 0
        for j in range(symbol):
            left += masses[i, j]
        _narrow(state, words, left, masses[i, symbol])
    return OK


@inlined
def _follow(
    state: NDArray[np.uint64], stream: NDArray[np.uint8], whole: bool, unit: np.uint64, left: Int, right: Int
) -> bool:
    """One step of a decoder, unless the symbol is not certain. state: how far above the lower end,
    range, bytes taken in.
    """
    taken = np.int64(state[2])
    if not whole and taken > len(stream):
        missing = 8 * (taken - len(stream))
        # The number may still grow by 2**missing - 1. Even so it must stay below the symbol's end.
        if missing >= 64 or unit * np.uint64(right) - state[0] < np.uint64(1) << np.uint64(missing):
            return False
    above = state[0] - unit * np.uint64(left)
    length = unit * np.uint64(right - left)
    if length < _SHORT:
        word = np.uint64(0)
        for k in range(taken, taken + 4):
            word <<= np.uint64(8)
            if k < len(stream):
                word |= np.uint64(stream[k])
        above = (above << _WORD) | word
        length <<= _WORD
        state[2] = np.uint64(taken + 4)
    state[0] = above
    state[1] = length
    return True


@compiled
def _take_cells(
    state: NDArray[np.uint64],
    stream: NDArray[np.uint8],
    whole: bool,
    symbols: NDArray[np.int64],
    low: NDArray[np.int32],
    high: NDArray[np.int32],
    start: NDArray[np.int64],
    width: NDArray[np.int64],
    logistics: Any,
) -> tuple[int, int]:
    """Decodes into `symbols` as many as are certain. Returns their number, and how it ended."""
    for i in range(len(symbols)):
        w = width[i]
        bottom, top = np.int64(low[i]) << FRACTION, np.int64(high[i]) << FRACTION
        span = top - start[i]
        if w * MOST <= span:
            return i, TOO_MANY
        n = span // w + 1
        unit = state[1] >> _PRECISION
        quotient = state[0] // unit
        if quotient >= np.uint64(SHARED + n):
            return i, STOPPED
        q = np.int64(quotient)
        f0 = _mixed(bottom - ONE // 2, i, logistics)
        total = _mixed(top + ONE // 2, i, logistics) - f0
        lost = total == 0
        if lost:
            total = n
        # The last child j with cum_j <= q: floor(g SHARED / total) <= q - j is g SHARED < (q - j +
        # 1) total.
        child: Int = 0
        past, left, right = n, child, total
        first = start[i] + (ONE - 1)
        while past - child > 1:
            j = (child + past) >> 1
            g: Int = j
            if not lost:
                g = _mixed(((first + j * w) & -ONE) - ONE // 2, i, logistics) - f0
            if j <= q and g * SHARED < (q - j + 1) * total:
                child, left = j, g
            else:
                past, right = j, g
        inverse = SHARED / total
        left = _share(left, total, inverse) + child
        right = _share(right, total, inverse) + child + 1
        if not _follow(state, stream, whole, unit, left, right):
            return i, STOPPED
        symbols[i] = child
    return len(symbols), OK


@compiled
def _take(
    state: NDArray[np.uint64],
    stream: NDArray[np.uint8],
    whole: bool,
    symbols: NDArray[np.int64],
    masses: NDArray[np.int64],
) -> tuple[int, int]:
    """Decodes into `symbols` as many as are certain. Returns their number, and how it ended."""
    for i in range(len(symbols)):
        unit = state[1] >> _PRECISION
        quotient = state[0] // unit
        if quotient >= np.uint64(1 << PRECISION):
            return i, STOPPED
        q = np.int64(quotient)
        child: Int = 0
        left: Int = 0
        right: Int = masses[i, 0]
        while right <= q:
            child += 1
            left = right
            right += masses[i, child]
        if not _follow(state, stream, whole, unit, left, right):
            return i, STOPPED
        symbols[i] = child
    return len(symbols), OK


@inlined
def _middle(location: Int, level: Int, low: Int, high: Int, constants: Any) -> Int:
    """`tables.mean` of one logistic in one box. `constants`: those of `_means`."""
    table, integral, (mantissas, shifts), (scales, backs) = constants
    bottom, top = (low << FRACTION) - ONE // 2, (high << FRACTION) + ONE // 2
    a = (bottom - location) * mantissas[level] >> shifts[level]
    b = (top - location) * mantissas[level] >> shifts[level]
    mirrored = a + b > 0
    if mirrored:
        a, b = -b, -a
    if b > _LIMIT:
        middle = location
    else:
        moved = min(b + (KNEE << FRACTION), 0)
        b -= moved
        # a > b if a box holds nothing; without this the index would leave the table
        a = min(max(a - moved, -_LIMIT), b)
        x, y = (a + _LIMIT) & ((1 << _CELL) - 1), (b + _LIMIT) & ((1 << _CELL) - 1)
        j, k = (a + _LIMIT) >> _CELL, (b + _LIMIT) >> _CELL
        fa = table[j] + ((table[j + 1] - table[j]) * x >> _CELL)
        fb = table[k] + ((table[k + 1] - table[k]) * y >> _CELL)
        if b - a < 1 << _CELL:
            middle = (bottom + top) >> 1
        else:
            area = integral[k] + (table[k] + fb) * y - integral[j] - (table[j] + fa) * x
            away = (area - 2 * (b - a) * fa) // (2 * (fb - fa))
            away = away * scales[level] >> backs[level]
            middle = bottom + away if mirrored else top - away
    return min(max(middle, low << FRACTION), high << FRACTION)


@compiled
def _mean(
    found: NDArray[np.int64],
    constants: Any,
    location: NDArray[np.int64],
    level: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> None:
    """`tables.mean`."""
    for i in range(len(found)):
        found[i] = _middle(location[i], level[i], low[i], high[i], constants)


@compiled
def _mixture_mean(
    found: NDArray[np.int32],
    constants: Any,
    location: NDArray[np.int32],
    level: NDArray[np.uint8],
    weight: NDArray[np.uint16],
    low: NDArray[np.int32],
    high: NDArray[np.int32],
) -> None:
    """`tables.mixture_mean`."""
    table, _, (mantissas, shifts), _ = constants
    for i in range(len(found)):
        bottom, top = (np.int64(low[i]) << FRACTION) - ONE // 2, (np.int64(high[i]) << FRACTION) + ONE // 2
        total, summed, plain, even = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        for j in range(location.shape[1]):
            place, one, share = np.int64(location[i, j]), np.int64(level[i, j]), np.int64(weight[i, j])
            own = _middle(place, one, np.int64(low[i]), np.int64(high[i]), constants) - bottom
            mass = _cdf(top - place, mantissas[one], shifts[one], table)
            mass -= _cdf(bottom - place, mantissas[one], shifts[one], table)
            plain += share
            even += share * own
            total += share * (mass >> 12)
            summed += share * (mass >> 12) * own
        found[i] = bottom + (even // plain if total == 0 else summed // total)


@functools.cache
def _means() -> Any:
    """The distribution function, its integral, and what divides by the scales and multiplies."""
    return _constants()[0], tables.logistic_integral(), tables.reciprocals(), tables.scales()


def mean(
    location: NDArray[np.int64], level: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`tables.mean` of (M,) arrays."""
    found = np.empty(len(location), np.int64)
    given: Any = [_given(a, np.int64) for a in (location, level, low, high)]
    _mean(found, _means(), *given)
    return found


def mixture_mean(
    location: NDArray[Any], level: NDArray[Any], weight: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> NDArray[np.int32]:
    """`tables.mixture_mean` of (M, J) and (M,) arrays."""
    found = np.empty(len(low), np.int32)
    types = np.int32, np.uint8, np.uint16, np.int32, np.int32
    given: Any = [_given(a, t) for a, t in zip((location, level, weight, low, high), types)]
    _mixture_mean(found, _means(), *given)
    return found


def check() -> None:
    """Raises if the installed Numba does not work. Compiles every kernel, or loads what was
    compiled before.
    """
    if getattr(numba.config, "DISABLE_JIT", False):
        raise RuntimeError("Numba's compiler is switched off")
    plain.compare(RangeWriter, RangeReader)
    location, level, low, high = (
        np.array(a) for a in ([0, 9 * ONE, -(1 << 30)], [40, 63, 80], [5, -3, 0], [5, 20, 90])
    )
    if (mean(location, level, low, high) != tables.mean(location, level, low, high, "plain")).any():
        raise RuntimeError("means differ")


def _given(array: NDArray[Any], dtype: type[Any]) -> Any:
    """The array in the one layout for which kernels are compiled: contiguous and read-only."""
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view


def _arrays(cells: Cells) -> Any:
    fields = (cells.low, np.int32), (cells.high, np.int32), (cells.start, np.int64), (cells.width, np.int64)
    location, level, weight = cells.location, cells.level, cells.weight
    if weight is None:
        location, level, weight = location[:, None], level[:, None], np.zeros((0, 1), np.uint16)
    mixture = (location, np.int64), (level, np.uint8), (weight, np.uint16)
    return *(_given(a, t) for a, t in fields), (*(_given(a, t) for a, t in mixture), *_constants())


def _refuse(status: int, cells: Cells | None = None) -> None:
    assert status != NO_CHILD, "a symbol is not one of its coordinate's children"
    if status == TOO_MANY and cells is not None:
        raise tables.too_many(int(cells.children.max()))


class RangeWriter:
    """Narrows the interval, symbol by symbol."""

    def __init__(self) -> None:
        self._state = np.array([0, 2**64 - 1, 0], np.uint64)  # lower, range, number of words
        self._words = np.zeros(1024, np.uint32)

    def _room(self, size: int) -> None:
        """A symbol writes at most one word."""
        needed = int(self._state[2]) + size
        if needed > len(self._words):
            grown = np.empty(max(needed, 2 * len(self._words)), np.uint32)  # memory that is not written takes no room
            grown[: len(self._words)] = self._words
            self._words = grown

    def put(self, symbols: NDArray[np.int64], masses: NDArray[np.int64]) -> None:
        """Symbols (M,) under `masses` (M, K)."""
        self._room(len(symbols))
        _refuse(_put(self._state, self._words, _given(symbols, np.int64), _given(masses, np.int64)))

    def put_cells(self, symbols: NDArray[np.int64], cells: Cells) -> None:
        """Symbols (M,) of `cells`."""
        self._room(cells.size)
        _refuse(_put_cells(self._state, self._words, _given(symbols, np.int64), *_arrays(cells)), cells)

    def finish(self) -> bytes:
        """The stream so far, closed. More can still be put into the writer."""
        lower, length, count = (int(v) for v in self._state)
        return plain.closed(self._words[:count], lower, length)


class RangeReader:
    """Follows the interval that holds the stream's number, as `plain.RangeReader` does."""

    def __init__(self, stream: bytes, whole: bool) -> None:
        above = int.from_bytes(stream[:8].ljust(8, b"\0"), "big")
        self._state = np.array([above, 2**64 - 1, 8], np.uint64)  # above the lower end, range, bytes taken in
        self._stream, self._whole = np.frombuffer(stream, np.uint8), whole

    def extend(self, stream: bytes, whole: bool) -> None:
        """Replaces the stream by this longer one."""
        had, taken = len(self._stream), int(self._state[2])
        arrived = stream[had:taken]
        if arrived:
            self._state[0] += np.uint64(int.from_bytes(arrived, "big") << 8 * (taken - had - len(arrived)))
        self._stream, self._whole = np.frombuffer(stream, np.uint8), whole

    def _settle(self, symbols: NDArray[np.int64], count: int, status: int, cells: Cells | None) -> NDArray[np.int64]:
        _refuse(status, cells)
        if status == STOPPED and self._whole:
            raise DamagedError("the range coder's stream is not one that an encoder writes")
        return symbols[:count]

    def take(self, masses: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next M symbols under `masses` (M, K), up to the first that is not certain."""
        symbols = np.empty(len(masses), np.int64)
        count, status = _take(self._state, self._stream, self._whole, symbols, _given(masses, np.int64))
        return self._settle(symbols, count, status, None)

    def take_cells(self, cells: Cells) -> NDArray[np.int64]:
        """The next symbols of `cells`, up to the first that is not certain."""
        symbols = np.empty(cells.size, np.int64)
        count, status = _take_cells(self._state, self._stream, self._whole, symbols, *_arrays(cells))
        return self._settle(symbols, count, status, cells)


def _kept() -> bool:
    folder: str | None = cast(Any, _take).stats.cache_path
    return folder is not None and any(Path(folder).glob("fast.*.nbi"))


KEPT = _kept()  # whether an earlier run has left compiled code, so that the first call need not wait for it
