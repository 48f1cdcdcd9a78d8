"""What corrections are fitted by, in machine code, made by Numba: the same floats as `tuning` gives
with NumPy, because every coefficient's are made by the same operations in the same order.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import tables
from uqdm.entropy.tables import CDF_BITS, FRACTION, REACH

Array = NDArray[Any]
_LIMIT = REACH << FRACTION
_CELL = FRACTION - 7
_HALF = 1 << (FRACTION - 1)
_LEAST = 2.0**-CDF_BITS


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _slopes(
    location: Any, level: Any, share: Any, cells: Any, table: Any, mantissas: Any, shifts: Any, scales: Any,
    gradients: bool, totals: Any, to_location: Any, to_scale: Any, to_weight: Any,
) -> None:  # fmt: skip
    count = location.shape[1]
    below, above = np.empty(count), np.empty(count)
    for i in range(len(location)):
        for part in range(2):
            ends = (cells[part, 0, i] << FRACTION) - _HALF, (cells[part, 1, i] << FRACTION) + _HALF
            total = 0.0
            for j in range(count):
                for side in range(2):
                    t = (ends[side] - location[i, j]) * mantissas[level[i, j]] >> shifts[level[i, j]]
                    t = min(max(t, -_LIMIT), _LIMIT) + _LIMIT
                    cell = t >> _CELL
                    f = table[cell]
                    if t < 2 * _LIMIT:
                        f += ((table[cell + 1] - f) * (t & ((1 << _CELL) - 1))) >> _CELL
                    if side == 0:
                        below[j] = f * _LEAST
                    else:
                        above[j] = f * _LEAST
                total += share[i, j] * max(above[j] - below[j], _LEAST)
            totals[part, i] = total
            if not gradients:
                continue
            sign = 1.0 - 2.0 * part
            for j in range(count):
                scale = scales[level[i, j]]
                mass = max(above[j] - below[j], _LEAST)
                likely = share[i, j] * mass / total
                first, second = below[j] * (1 - below[j]), above[j] * (1 - above[j])
                left = (ends[0] - location[i, j]) / 2.0**FRACTION / scale
                right = (ends[1] - location[i, j]) / 2.0**FRACTION / scale
                to_location[i, j] -= sign * likely * (second - first) / mass / scale
                to_scale[i, j] -= sign * likely * (second * right - first * left) / mass
                to_weight[i, j] += sign * likely


def slopes(
    location: NDArray[np.int64], level: NDArray[np.int64], share: NDArray[np.float64],
    child: tuple[Array, Array], parent: tuple[Array, Array], gradients: bool,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """`tuning.slopes`."""
    mantissa, shift = tables.scales()
    scales = np.ldexp(mantissa.astype(np.float64), -shift)
    found = np.empty((2, len(location))), np.zeros_like(share), np.zeros_like(share), np.zeros_like(share)
    kernel: Any = _slopes
    cells = np.stack([np.stack(child), np.stack(parent)]).astype(np.int64)
    kernel(location, level, share, cells, tables.logistic_cdf(), *tables.reciprocals(), scales, gradients, *found)
    return found
