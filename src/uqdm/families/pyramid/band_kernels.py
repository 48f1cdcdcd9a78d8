"""What is done to a band coordinate by coordinate, in machine code, made by Numba: the same integers
as `band` gives with NumPy. Planes are of one picture, flat.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.mixtures import TOTAL
from uqdm.entropy.tables import FRACTION, MOST, Cells, reciprocals
from uqdm.families.pyramid.networks import FARTHEST_ERROR, QUIET, VALUE_BITS, louds

Array = NDArray[Any]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _in_turn(
    run: Any, columns: int, wide: int, asked: Any, told: Any, turn: Any, many: bool, width: int, low: Any, high: Any,
    offset: Any,
) -> Any:  # fmt: skip
    """Sorts by counting: how many have each priority, and then each into the place that is left."""
    size = len(run)
    places, priorities, counts = np.empty(size, np.int32), np.empty(size, np.uint8), np.zeros(257, np.int64)
    for p in range(size):
        y = run[p] // np.int32(columns)
        at = run[p] + y * np.int32(wide - columns)
        ok = asked[at] and not told[at]
        if ok and many:
            last = np.int32(high[at]) - np.int32(offset[at])
            ok = last // np.int32(width) - (np.int32(low[at]) - np.int32(offset[at])) // np.int32(width) >= MOST
        places[p], priorities[p] = at, turn[at] // TOTAL + 1 if ok else 0
        counts[priorities[p]] += 1
    total = size - counts[0]
    begin = 0
    for priority in range(255, 0, -1):
        counts[priority], begin = begin, begin + counts[priority]
    found = np.empty(total, np.int32)
    for p in range(size):
        priority = priorities[p]
        if priority:
            found[counts[priority]] = places[p]
            counts[priority] += 1
    return found


def in_turn(
    run: NDArray[np.int32], columns: int, asked: Array, told: Array, turn: Array, many: bool, width: int,
    low: Array, high: Array, offset: Array,
) -> NDArray[np.int32]:  # fmt: skip
    """`band.in_turn`."""
    kernel: Any = _in_turn
    flat = [a.reshape(-1) for a in (asked, told, turn)]
    ends = [np.ascontiguousarray(a).reshape(-1) for a in (low, high, offset)]
    found: NDArray[np.int32] = kernel(run, columns, asked.shape[1], *flat, many, width, *ends)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cells(
    asked: Any, low: Any, high: Any, offset: Any, unit: int, location: Any, level: Any, weight: Any,
    lows: Any, highs: Any, starts: Any, locations: Any, levels: Any, weights: Any,
) -> None:  # fmt: skip
    for k in range(len(asked)):
        at = asked[k]
        below, shift = np.int32(low[at]), np.int32(offset[at])
        lows[k], highs[k] = below, high[at]
        starts[k] = np.int64((below - shift) // np.int32(unit) * unit + shift) << FRACTION
        for j in range(location.shape[1]):
            locations[k, j], levels[k, j], weights[k, j] = location[at, j], level[at, j], weight[at, j]


def cells(
    asked: NDArray[np.int32], low: Array, high: Array, offset: Array, unit: int, width: int, mixture: tuple[Array, ...]
) -> Cells:
    """`band.cells`."""
    m, j = len(asked), mixture[0].shape[1]
    found = Cells(
        low=np.empty(m, np.int32),
        high=np.empty(m, np.int32),
        start=np.empty(m, np.int64),
        width=np.full(m, width << FRACTION, np.int64),
        location=np.empty((m, j), np.int64),
        level=np.empty((m, j), np.uint8),
        weight=(weight := np.empty((m, j), np.uint16)),
    )
    kernel: Any = _cells
    kernel(
        asked, low, high, offset, unit, *mixture,
        found.low, found.high, found.start, found.location, found.level, weight,
    )  # fmt: skip
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _narrowed(
    asked: Any, symbols: Any, offset: Any, unit: int, width: int, finest: bool, low: Any, high: Any, told: Any
) -> None:
    for k in range(len(symbols)):
        at = asked[k]
        below, shift = np.int32(low[at]), np.int32(offset[at])
        bottom = (below - shift) // np.int32(unit) * unit + shift + symbols[k] * width
        low[at] = max(bottom, np.int64(below))
        high[at] = min(bottom + width - 1, np.int64(high[at]))
        told[at] = finest


def narrowed(
    asked: NDArray[np.int32], symbols: NDArray[np.int64], offset: Array, unit: int, width: int, finest: bool,
    low: Array, high: Array, told: Array,
) -> None:  # fmt: skip
    """`band.narrowed`."""
    kernel: Any = _narrowed
    kernel(asked, symbols, offset, unit, width, finest, low, high, told)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _concluded(
    low: Any, high: Any, bottom: Any, top: Any, told: Any, choice: Any, guess: Any, turn: Any,
    value: Any, error: Any, loudness: Any, begin: int, end: int, table: Any, mantissas: Any, shifts: Any,
) -> None:  # fmt: skip
    for i in range(low.shape[0]):
        for y in range(begin, end):
            for x in range(low.shape[2]):
                below, above = np.int32(low[i, y, x]) << VALUE_BITS, np.int32(high[i, y, x]) << VALUE_BITS
                likely = max(np.int32(guess[i, y, x]), np.int32(bottom[i, y, x]) << VALUE_BITS)
                likely = min(likely, np.int32(top[i, y, x]) << VALUE_BITS)
                centre = (below + above) >> 1
                if told[i, y, x]:
                    found = centre - likely
                    level = (np.int64(turn[i, y, x]) + TOTAL // 2) // TOTAL
                    ratio = (abs(found) << (FRACTION - VALUE_BITS)) * mantissas[level] >> shifts[level]
                    value[i, y, x], error[i, y, x] = centre, found
                    loudness[i, y, x] = table[min(ratio >> (FRACTION - 5), 32 * FARTHEST_ERROR)] - QUIET
                else:
                    value[i, y, x] = min(max(likely, below), above) if choice[i, y, x] else centre
                    error[i, y, x], loudness[i, y, x] = 0, 0


def concluded(rows: slice, *fields: Array) -> None:
    """`band.concluded`."""
    kernel: Any = _concluded
    kernel(*fields, rows.start, rows.stop, louds(), *reciprocals())
