"""A pyramid's arithmetic around its networks in machine code, made by Numba: the same integers as
`networks` gives with NumPy.
"""

from collections.abc import Sequence
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
    CHANNELS,
    COUPLING_BITS,
    LIMITED,
    LINEAR_SHIFT,
    LOUD_BITS,
    MIDDLE,
    RECIPROCAL_BITS,
    SHARP_BITS,
    UNIT_BITS,
    VALUE_BITS,
    WIDEST,
    LevelNet,
    PyramidMixture,
    nat,
    unit_level,
)

Array = NDArray[Any]
_SHIFT = RECIPROCAL_BITS + VALUE_BITS - UNIT_BITS


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _relative(x: Any, reciprocal: Any, shift: int) -> Any:
    """`networks.relative`."""
    return min(max((x * reciprocal + (1 << (shift - 1))) >> shift, -LIMITED), LIMITED)


@numba.njit(nogil=True, error_model="numpy", inline="always")
def _sharp(plane: Any, y: int, x: int) -> Any:
    """`high_pass` of one position."""
    height, columns = plane.shape
    up, down, left, right = max(y - 1, 0), min(y + 1, height - 1), max(x - 1, 0), min(x + 1, columns - 1)
    corners = np.int64(plane[up, left]) + plane[up, right] + plane[down, left] + plane[down, right]
    edges = np.int64(plane[up, x]) + plane[down, x] + plane[y, left] + plane[y, right]
    return 12 * np.int64(plane[y, x]) - corners - 2 * edges


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _features(image: Any, value: Any, width: Any, above: Any, reciprocals: Any, middles: Any, found: Any) -> None:
    n, channels, height, columns = image.shape
    details = value.shape[1]
    for i in range(n):
        for c in range(channels):
            for y in range(height):
                for x in range(columns):
                    flat = (np.int64(image[i, c, y, x]) - middles[c]) >> 2
                    found[i, c, y, x] = min(max(flat, -LIMITED), LIMITED)
                    sharp = _sharp(image[i, c], y, x)
                    found[i, channels + c, y, x] = _relative(sharp, reciprocals[c], _SHIFT - VALUE_BITS + SHARP_BITS)
        for k in range(details):
            at = 2 * channels + k
            for y in range(height):
                for x in range(columns):
                    found[i, at, y, x] = _relative(np.int64(value[i, k, y, x]), reciprocals[k], _SHIFT)
                    wide = _relative(np.int64(width[i, k, y, x]), reciprocals[k], _SHIFT - VALUE_BITS)
                    found[i, at + details, y, x] = min(wide, WIDEST)
                    found[i, at + 2 * details, y, x] = above[i, k, y, x]


def features(image: Array, value: Array, width: Array, above: Array, unit: NDArray[np.int64]) -> NDArray[np.float32]:
    """`networks.features`."""
    found = np.empty((len(image), 2 * CHANNELS + 3 * value.shape[1], *image.shape[2:]), np.float32)
    given = [np.ascontiguousarray(a) for a in (image, value, width, above)]
    kernel: Any = _features
    kernel(*given, (1 << RECIPROCAL_BITS) // unit, np.array(MIDDLE) << (VALUE_BITS - 1), found)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _seen(value: Any, error: Any, loudness: Any, reciprocals: Any, found: Any) -> None:
    n, count, height, columns = value.shape
    for i in range(n):
        for k in range(count):
            for y in range(height):
                for x in range(columns):
                    found[i, k, y, x] = _relative(np.int64(value[i, k, y, x]), reciprocals[k], _SHIFT)
                    found[i, count + k, y, x] = _relative(np.int64(error[i, k, y, x]), reciprocals[k], _SHIFT)
                    found[i, 2 * count + k, y, x] = loudness[i, k, y, x]


def seen(
    band: int, value: NDArray[np.int16], error: Array, loudness: Array, unit: NDArray[np.int64]
) -> NDArray[np.float32]:
    """`networks.seen`."""
    found = np.empty((len(value), 9 * band, *value.shape[2:]), np.float32)
    given = [np.ascontiguousarray(a) for a in (value, error, loudness)]
    kernel: Any = _seen
    kernel(*given, (1 << RECIPROCAL_BITS) // unit[: 3 * band], found)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _moved(image: Any, before: Any, now: Any, weight: Any, found: Any) -> None:
    """See `networks.moved`. weight (C, I, 3, 3) float64. All sums are integers below 2**53, so
    float64, which is quicker, rounds none.
    """
    n, made, height, columns = now.shape
    details, inputs = before.shape[1], weight.shape[1]
    field, line = np.zeros((inputs, height + 2, columns + 2)), np.empty(columns)
    for i in range(n):
        for c in range(CHANNELS):
            for y in range(height):
                for x in range(columns):
                    field[c, y + 1, x + 1] = (_sharp(image[i, c], y, x) + 8) >> 4
        for k in range(details):
            for y in range(height):
                for x in range(columns):
                    field[CHANNELS + k, y + 1, x + 1] = before[i, k, y, x]
        for k in range(made):
            for y in range(height):
                for x in range(columns):
                    moved = np.int32(now[i, k, y, x]) - before[i, k, y, x]
                    field[CHANNELS + details + k, y + 1, x + 1] = moved
        for c in range(found.shape[1]):
            for y in range(height):
                line[:] = 0
                for k in range(inputs):
                    w, top, middle, bottom = weight[c, k], field[k, y], field[k, y + 1], field[k, y + 2]
                    for x in range(columns):
                        line[x] += (
                            w[0, 0] * top[x] + w[0, 1] * top[x + 1] + w[0, 2] * top[x + 2]
                            + w[1, 0] * middle[x] + w[1, 1] * middle[x + 1] + w[1, 2] * middle[x + 2]
                            + w[2, 0] * bottom[x] + w[2, 1] * bottom[x + 1] + w[2, 2] * bottom[x + 2]
                        )  # fmt: skip
                for x in range(columns):
                    found[i, c, y, x] = np.int64(line[x]) << LINEAR_SHIFT


def moved(image: Array, before: Array, now: Array, weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """`networks.moved`."""
    found = np.empty((len(image), len(weight), *image.shape[2:]), np.int64)
    kernel: Any = _moved
    kernel(*(np.ascontiguousarray(a) for a in (image, before, now)), np.ascontiguousarray(weight, np.float64), found)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mixture(
    raw: Any, channel: int, base: Any, unit: int, offset: Any, level: Any, errors: Any, louds: Any, reciprocals: Any,
    nats: int, least: int, tables: Any, top: int, bottom: int,
    location: Any, levels: Any, weight: Any, turn: Any, guess: Any,
) -> None:  # fmt: skip
    """Rows `top` to `bottom` of raw (N, 9 J + 6, h, w) and base (N, h, w); offset, level (J,);
    errors (values), louds: two of (N, h, w), of which `channel` count, and reciprocals of their
    units; results as `PyramidMixture` has them.
    """
    n, _, _, columns = raw.shape
    count = offset.shape[0]
    shares, nearest = np.empty(count, np.int64), 1 << (_SHIFT - 1)
    for i in range(n):
        for y in range(top, bottom):
            for x in range(columns):
                shift, stretch = np.int64(0), np.int64(0)
                for other in range(channel):
                    at = 9 * count + 2 * (channel - 1 + other)
                    error = (np.int64(errors[other][i, y, x]) * reciprocals[other] + nearest) >> _SHIFT
                    shift += np.int64(raw[i, at, y, x]) * min(max(error, -LIMITED), LIMITED)
                    stretch += np.int64(raw[i, at + 1, y, x]) * louds[other][i, y, x]
                stretch = (stretch * nats >> (COUPLING_BITS + LOUD_BITS)) + least
                place = np.int64(base[i, y, x]) + (shift * unit << (FRACTION - COUPLING_BITS - UNIT_BITS))
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
                value = (mean // TOTAL + (1 << (FRACTION - VALUE_BITS - 1))) >> (FRACTION - VALUE_BITS)
                guess[i, y, x] = min(max(value, -32768), 32767)


def mixture(
    net: LevelNet,
    band: int,
    channel: int,
    raw: NDArray[np.int16],
    base: Array,
    unit: NDArray[np.int64],
    errors: Sequence[Array],
    louds: Sequence[Array],
    rows: slice,
    found: PyramidMixture,
) -> None:
    """`networks.mixture_of`."""
    one, u = net.passes[band], int(unit[3 * band + channel])
    constants = (np.ascontiguousarray(a[channel], np.int64) for a in (one.offset, one.level))
    nothing = [np.zeros((1, 1, 1), np.int16)] * 2
    near = (*[np.ascontiguousarray(a, np.int16) for a in errors], *nothing)[:2]
    far = (*[np.ascontiguousarray(a, np.int16) for a in louds], *nothing)[:2]
    reciprocals = (1 << RECIPROCAL_BITS) // unit[3 * band : 3 * band + 2]
    kernel: Any = _mixture
    least = unit_level(u) + (1 << (LEVEL_BITS - 1))
    given = np.ascontiguousarray(raw), channel, np.ascontiguousarray(base), u
    tables = reciprocals, nat(), least, mixtures.exponentials()
    kernel(*given, *constants, near, far, *tables, rows.start, rows.stop, *found)
