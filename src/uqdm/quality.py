"""PSNR, once for the whole package; knows no picture.

In dB, of a mean squared error in pixel values, whose peak is 255. A picture without error has none: infinity. For means over pictures it
counts as CAP, and so does whatever is better.
"""

import math

PEAK = 255


def psnr(error: float) -> float:
    """dB of a mean squared error; infinite for 0."""
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


CAP = psnr(1 / 12)  # 58.92 dB: of rounding to whole values itself. A mean with infinite PSNRs, or with 100 dB for them, says nothing


def capped(error: float) -> float:
    """dB of a mean squared error, at most CAP."""
    return min(psnr(error), CAP)
