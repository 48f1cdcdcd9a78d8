"""Integer probability tables for logistic densities on a fixed-point line; knows nothing of images or bytes.

Positions are int64 in units of 2**-FRACTION (of whatever the caller measures: pixel values here). A density is a
location on that line and a scale *level*, an index into scales of 2**(level / 8 - 5). Everything from there on is
integer arithmetic, so two machines that agree on location and level agree on every probability:

1. A table sums to exactly 2**PRECISION and holds no zero, so every symbol can be coded.
2. The cumulative distribution is one constant table, read with linear interpolation; it never decreases.
3. Nothing here depends on a floating-point library. The constants come from `decimal`, which rounds the same everywhere.
"""

import functools
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

PRECISION = 24  # bits of a probability: the most that the range coder takes
FRACTION = 16  # bits behind the point of a position
LEVELS = 128  # scales 2**-5 ... 2**10.875, eight to the octave
LEVELS_PER_OCTAVE = 8
LOWEST_OCTAVE = -5
CDF_BITS = 36  # the logistic's distribution function is stored as multiples of 2**-36: about e**-25
REACH = 24  # it is 0 below -24 scales and 1 above 24
_CELLS = 7  # table cells of 2**-7 of a scale
_MANTISSA = 30  # bits of the stored reciprocals of 2**(r / 8)


@functools.cache
def logistic_cdf() -> NDArray[np.int64]:
    """1 / (1 + exp(-t)) in units of 2**-CDF_BITS at t = -REACH, -REACH + 2**-7, ..., REACH; ends set to 0 and 1."""
    with localcontext() as context:
        context.prec = 50
        ratio, power = (Decimal(1) / 2**_CELLS).exp(), Decimal(1)
        upper = []  # t = 0, 1/128, ...
        for _ in range((REACH << _CELLS) + 1):
            upper.append(int((power / (1 + power) * 2**CDF_BITS).to_integral_value()))
            power *= ratio
    upper[-1] = 2**CDF_BITS
    half = np.array(upper, np.int64)
    return np.concatenate([2**CDF_BITS - half[:0:-1], half])


@functools.cache
def _rises() -> NDArray[np.int64]:
    return np.append(np.diff(logistic_cdf()), 0)


@functools.cache
def _reciprocals() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per level: the mantissa and the right shift that divide by its scale."""
    with localcontext() as context:
        context.prec = 50
        mantissas = [
            int((Decimal(2) ** (_MANTISSA - Decimal(r) / LEVELS_PER_OCTAVE)).to_integral_value()) for r in range(LEVELS_PER_OCTAVE)
        ]
    level = np.arange(LEVELS)
    return np.array(mantissas, np.int64)[level % LEVELS_PER_OCTAVE], (_MANTISSA + LOWEST_OCTAVE + level // LEVELS_PER_OCTAVE).astype(
        np.int64
    )


@functools.cache
def normal(spread: float, reach: int) -> NDArray[np.int64]:
    """exp(-d^2 / (2 spread^2)) at d = 0, 2**-8, ... reach, in units of 2**-30, at least 1."""
    with localcontext() as context:
        context.prec = 50
        scale = -1 / (2 * Decimal(spread) ** 2 * 2**16)
        return np.array([max(1, int((2**30 * (scale * i * i).exp()).to_integral_value())) for i in range((reach << 8) + 1)], np.int64)


def nearest_level(log2_scale: NDArray[np.float64]) -> NDArray[np.int64]:
    """The level whose scale is nearest in ratio; `log2_scale` in octaves, any finite value."""
    level = np.rint((log2_scale - LOWEST_OCTAVE) * LEVELS_PER_OCTAVE)
    found: NDArray[np.int64] = np.clip(level, 0, LEVELS - 1).astype(np.int64)
    return found


def on_grid(location: NDArray[np.float64], level: NDArray[np.int64], coarsest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Locations rounded to a grid of an eighth of the scale's octave, at most 2**coarsest; positions in 2**-FRACTION.

    A grid coarse in proportion to the scale costs almost no bits and keeps the chance that two machines round a float
    to different sides proportional to their drift. `location` in units, limited to +-2**14; `coarsest` as a power of two of
    2**-FRACTION units.
    """
    step = np.minimum(level // LEVELS_PER_OCTAVE + (LOWEST_OCTAVE + FRACTION - 3), coarsest).astype(np.int32)
    bounded = np.clip(location, -(2.0**14), 2.0**14)
    found: NDArray[np.int64] = np.rint(np.ldexp(bounded, FRACTION - step)).astype(np.int64) << step.astype(np.int64)
    return found


def cdf(position: NDArray[np.int64], location: NDArray[np.int64], level: NDArray[np.int64]) -> NDArray[np.int64]:
    """The logistic distribution function in units of 2**-CDF_BITS; arguments broadcast; |position - location| < 2**32."""
    mantissa, shift = _reciprocals()
    t = ((position - location) * mantissa[level]) >> shift[level]  # in scales, FRACTION bits behind the point
    limit = REACH << FRACTION
    np.clip(t, -limit, limit, out=t)
    t += limit
    cell = t >> (FRACTION - _CELLS)
    t &= (1 << (FRACTION - _CELLS)) - 1
    below: NDArray[np.int64] = logistic_cdf()[cell]
    rise = _rises()[cell]
    rise *= t
    rise >>= FRACTION - _CELLS
    below += rise
    return below


def masses(cumulative: NDArray[np.int64], total: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Integer tables from integer distribution functions: (M, K + 1), (M, 1) -> (M, K), each row summing to 2**PRECISION.

    Row i gives symbol j the share (cumulative[i, j + 1] - cumulative[i, j]) / total[i], at least 2**-PRECISION; what is
    left over goes to the last symbol. `cumulative` starts at 0 and does not decrease; total < 2**38. A row whose total is
    0 (a box so far out that the density underflows) must have been replaced by the caller.
    """
    k = cumulative.shape[1] - 1
    cuts = cumulative * ((1 << PRECISION) - k)
    cuts //= total
    cuts += np.arange(k + 1)
    cuts[:, -1] = 1 << PRECISION
    table: NDArray[np.int64] = np.diff(cuts, axis=1)
    return table


def truncated(boundaries: NDArray[np.int64], location: NDArray[np.int64], level: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tables of logistics truncated to an interval and cut into children: (M, K + 1), (M,), (M,) -> (M, K).

    Row i's children lie between its successive boundaries; a row with fewer than K children repeats its last boundary,
    which leaves the missing ones the least mass there is. Where the density has no mass in the interval at this
    precision, every child is as likely as any other.
    """
    f = cdf(boundaries, location[:, None], level[:, None])
    f -= f[:, :1].copy()
    total = f[:, -1:].copy()
    lost = np.flatnonzero(total[:, 0] == 0)
    if len(lost):
        f[lost, 1:] = np.cumsum(boundaries[lost, 1:] > boundaries[lost, :-1], axis=1)
        total[lost] = f[lost, -1:]
    return masses(f, total)
