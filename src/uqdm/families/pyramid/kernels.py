"""Parts of a pyramid's arithmetic in machine code, made by Numba: the same integers as
`networks.LevelNet` gives with NumPy.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import mixtures
from uqdm.entropy.mixtures import TOTAL
from uqdm.entropy.shares import weigh
from uqdm.entropy.tables import FRACTION
from uqdm.exact.features import FARTHEST, LEVEL_BITS, LEVELS, LOCATION_BITS
from uqdm.families.pyramid.networks import (
    COUPLING_BITS,
    LOUD_BITS,
    UNIT_BITS,
    VALUE_BITS,
    LevelNet,
    Mixture,
    nat,
    unit_level,
)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _summed(planes: Any, weight: Any, found: Any) -> None:
    """planes (N, I, h, w) int32, weight (C, I, 3, 3) int64, found (N, C, h, w) int64, zeros; zeros
    around the field.
    """
    n, inputs, height, columns = planes.shape
    for i in range(n):
        for c in range(found.shape[1]):
            for k in range(inputs):
                for dy in range(3):
                    for dx in range(3):
                        one = weight[c, k, dy, dx]
                        if one == 0:
                            continue
                        for y in range(max(0, 1 - dy), min(height, height + 1 - dy)):
                            for x in range(max(0, 1 - dx), min(columns, columns + 1 - dx)):
                                found[i, c, y, x] += one * planes[i, k, y + dy - 1, x + dx - 1]


def summed(planes: NDArray[np.int32], weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """`networks.summed`."""
    found = np.zeros((len(planes), len(weight), *planes.shape[2:]), np.int64)
    kernel: Any = _summed
    kernel(np.ascontiguousarray(planes, np.int32), np.ascontiguousarray(weight, np.int64), found)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mixture(
    raw: Any, channel: int, base: Any, unit: int, offset: Any, level: Any, errors: Any, louds: Any, nats: int,
    least: int, tables: Any, location: Any, levels: Any, weight: Any, turn: Any, guess: Any,
) -> None:  # fmt: skip
    """raw (N, 9 J + 6, h, w); base (N, h, w); offset, level (J,); errors, louds (channel, N, h, w);
    results as `Mixture` has them.
    """
    n, _, height, columns = raw.shape
    count = offset.shape[0]
    shares = np.empty(count, np.int64)
    for i in range(n):
        for y in range(height):
            for x in range(columns):
                shift, stretch = np.int64(0), np.int64(0)
                for other in range(channel):
                    at = 9 * count + 2 * (channel - 1 + other)
                    shift += np.int64(raw[i, at, y, x]) * errors[other, i, y, x]
                    stretch += np.int64(raw[i, at + 1, y, x]) * louds[other, i, y, x]
                stretch = (stretch * nats >> (COUPLING_BITS + LOUD_BITS)) + least
                place = base[i, y, x] + (shift * unit << (FRACTION - COUPLING_BITS - UNIT_BITS))
                logs = (6 + channel) * count
                weigh(raw[i, logs : logs + count, y, x], tables, shares)
                sum_of_levels, mean = np.int64(0), np.int64(0)
                for j in range(count):
                    where = place + (
                        (np.int64(raw[i, channel * count + j, y, x]) + offset[j]) * unit << (FRACTION - LOCATION_BITS)
                    )
                    where = min(max(where, -FARTHEST), FARTHEST)
                    own = (np.int64(raw[i, (3 + channel) * count + j, y, x]) + level[j] + stretch) >> LEVEL_BITS
                    own = min(max(own, 0), LEVELS - 1)
                    location[i, y, x, j], levels[i, y, x, j], weight[i, y, x, j] = where, own, shares[j]
                    sum_of_levels += own * shares[j]
                    mean += where * shares[j]
                turn[i, y, x] = sum_of_levels
                nearest = (mean // TOTAL + (1 << (FRACTION - VALUE_BITS - 1))) >> (FRACTION - VALUE_BITS)
                guess[i, y, x] = min(max(nearest, -32768), 32767)


def mixture(
    net: LevelNet,
    band: int,
    channel: int,
    raw: NDArray[np.int16],
    base: NDArray[Any],
    unit: NDArray[np.int64],
    errors: list[NDArray[np.int32]],
    loudness: list[NDArray[np.int16]],
) -> Mixture:
    """`net.mixture`."""
    one, u = net.passes[band], int(unit[3 * band + channel])
    (n, _, h, w), j = raw.shape, one.offset.shape[1]
    found = Mixture(
        np.empty((n, h, w, j), np.int32), np.empty((n, h, w, j), np.uint8), np.empty((n, h, w, j), np.uint16),
        np.empty((n, h, w), np.uint16), np.empty((n, h, w), np.int16),
    )  # fmt: skip
    constants = (np.ascontiguousarray(a[channel], np.int64) for a in (one.offset, one.level))
    earlier = (np.stack(a).astype(np.int64) if a else np.zeros((0, n, h, w), np.int64) for a in (errors, loudness))
    kernel: Any = _mixture
    least = unit_level(u) + (1 << (LEVEL_BITS - 1))
    given = np.ascontiguousarray(raw), channel, np.ascontiguousarray(base, np.int64), u
    kernel(*given, *constants, *earlier, nat(), least, mixtures.exponentials(), *found)
    return found
