"""`mixtures.weights` of one mixture in machine code, made by Numba, for kernels that walk over
coordinates.
"""

from typing import Any

import numba
import numpy as np

from uqdm.entropy.mixtures import SMALLEST, TOTAL


@numba.njit(cache=True, nogil=True, error_model="numpy")
def weigh(logarithms: Any, exponentials: Any, found: Any) -> None:
    """logarithms (J,) -> weights in `found` (J,), int64. `exponentials`: those of `mixtures`."""
    count = found.shape[0]
    best, total = 0, np.int64(0)
    for j in range(1, count):
        if logarithms[j] > logarithms[best]:
            best = j
    for j in range(count):
        found[j] = exponentials[min(np.int64(logarithms[best]) - np.int64(logarithms[j]), SMALLEST)]
        total += found[j]
    left = TOTAL
    for j in range(count):
        found[j] = found[j] * (TOTAL - count) // total + 1
        left -= found[j]
    found[best] += left
