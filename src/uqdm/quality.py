"""PSNR, once for the whole package. Knows no picture.

PSNR is in dB, of a mean squared error in pixel values, whose peak is 255. For a picture without
error it is infinite. In means over pictures it counts as CAP at most.
"""

import math

PEAK = 255


def psnr(error: float) -> float:
    """dB of a mean squared error; infinite for 0."""
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


# 58.92 dB is the PSNR of rounding to whole values itself. A mean with infinite PSNRs, or with 100
# dB for them, says nothing.
CAP = psnr(1 / 12)


def capped(error: float) -> float:
    """dB of a mean squared error, at most CAP."""
    return min(psnr(error), CAP)
