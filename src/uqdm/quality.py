"""Mean squared error and PSNR, once for the whole package.

PSNR is in dB, of a mean squared error in pixel values, whose peak is 255. For a picture without
error it is infinite. In means over pictures it counts as CAP at most.
"""

import math

import numpy as np
from numpy.typing import NDArray

PEAK = 255
BLOCK = 1 << 18  # values that are compared at once: differences take more memory than pixels


def mse(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean squared error over all values of two pictures of one shape, channels first or last."""
    a, b = a.reshape(-1), b.reshape(-1)
    total = 0
    for begin in range(0, a.size, BLOCK):
        apart = a[begin : begin + BLOCK].astype(np.int32) - b[begin : begin + BLOCK]
        total += int(np.square(apart, out=apart).sum(dtype=np.int64))
    return total / a.size


def psnr(error: float) -> float:
    """dB of a mean squared error; infinite for 0."""
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


# 58.92 dB is the PSNR of rounding to whole values itself. A mean with infinite PSNRs, or with 100
# dB for them, says nothing.
CAP = psnr(1 / 12)


def capped(error: float) -> float:
    """dB of a mean squared error, at most CAP."""
    return min(psnr(error), CAP)
