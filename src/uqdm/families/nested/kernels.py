"""A pass's raw outputs to mixtures in machine code, made by Numba: the same integers as
`NestedStep.mixture`.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import mixtures
from uqdm.entropy.mixtures import TOTAL
from uqdm.entropy.shares import weigh
from uqdm.exact.features import FARTHEST, LEVEL_BITS, LEVELS, LOCATION_BITS
from uqdm.families.nested.networks import NestedMixture, NestedStep, phase


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mixture(
    raw: Any,
    low: Any,
    high: Any,
    high_passed: Any,
    width: Any,
    offset: Any,
    level: Any,
    skip: Any,
    exponentials: Any,
    location: Any,
    levels: Any,
    weight: Any,
    mean: Any,
) -> None:
    """raw (N, C, 3, J, h, w); low, high, high_passed (N, C, h, w) of the phase; results as
    `NestedMixture` has them.
    """
    n, channels, _, count, height, columns = raw.shape
    shares = np.empty(count, np.int64)
    for i in range(n):
        for c in range(channels):
            s, w = skip[c], width[c]
            for y in range(height):
                for x in range(columns):
                    base = (np.int64(low[i, c, y, x]) + high[i, c, y, x]) << 15
                    if s != 0:
                        d = np.int64(high_passed[i, c, y, x])
                        base += (-w if s < 0 else w) * d // (abs(d) + abs(s))
                    weigh(raw[i, c, 2, :, y, x], exponentials, shares)
                    sum_of_levels = np.int64(0)
                    for j in range(count):
                        at = base + offset[c, j] + ((np.int64(raw[i, c, 0, j, y, x]) * w) >> LOCATION_BITS)
                        one = min(max((np.int64(raw[i, c, 1, j, y, x]) + level[c, j]) >> LEVEL_BITS, 0), LEVELS - 1)
                        location[i, c, y, x, j] = min(max(at, -FARTHEST), FARTHEST)
                        levels[i, c, y, x, j] = one
                        weight[i, c, y, x, j] = shares[j]
                        sum_of_levels += one * shares[j]
                    mean[i, c, y, x] = sum_of_levels // TOTAL


def mixture(
    step: NestedStep,
    number: int,
    raw: NDArray[np.float32],
    low: NDArray[np.int16],
    high: NDArray[np.int16],
    high_passed: NDArray[np.int32],
) -> NestedMixture:
    """`step.mixture`."""
    one = step.passes[number]
    (c, j), (n, _, h, w) = one.offset.shape, raw.shape
    found = NestedMixture(
        np.empty((n, c, h, w, j), np.int32), np.empty((n, c, h, w, j), np.uint8), np.empty((n, c, h, w, j), np.uint16),
        np.empty((n, c, h, w), np.uint8),
    )  # fmt: skip
    fields = (np.ascontiguousarray(phase(a, number)) for a in (low, high, high_passed))
    constants = (np.ascontiguousarray(a, np.int64) for a in (step.width, one.offset, one.level, one.skip))
    kernel: Any = _mixture
    shaped = np.ascontiguousarray(raw, np.float32).reshape(n, c, 3, j, h, w)
    kernel(shaped, *fields, *constants, mixtures.exponentials(), *found)
    return found
