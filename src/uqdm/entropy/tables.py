"""Integer probability tables for logistic densities on a fixed-point line. Knows nothing of images
or bytes.

Positions are int64 in units of 2**-FRACTION of what the caller measures, here of pixel values. A
density is a location on that line and a scale *level*, an index into scales of 2**(level / 8 - 5).
Everything from there on is integer arithmetic. So two machines that agree on location and level
agree on every probability:

1. A table sums to exactly 2**PRECISION and holds no zero, so every symbol can be coded.
2. A symbol's share depends on its own coordinate alone. It does not depend on neighbours, or on how
   the work is cut into blocks.
3. The cumulative distribution is one constant table, read with linear interpolation. It never
   decreases.
4. Nothing here depends on a floating-point library. The constants come from `decimal`, which rounds
   the same everywhere.
"""

import dataclasses
import functools
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import choice
from uqdm.errors import LimitError

PRECISION = 24  # bits of a probability: the most that the range coder takes
RESERVED = 1024  # of those 2**PRECISION parts: one for every child, and some for the end of the row
MOST = RESERVED - 1  # the most children of a coordinate
SHARED = (1 << PRECISION) - RESERVED  # parts that are shared out in proportion to the density
LOWEST, HIGHEST = -32767, 32767  # integers that can be coded
FRACTION = 16  # bits behind the point of a position
ONE = 1 << FRACTION
LEVELS = 128  # scales 2**-5 ... 2**10.875, eight to the octave
LEVELS_PER_OCTAVE = 8
LOWEST_OCTAVE = -5
CDF_BITS = 36  # the logistic's distribution function is stored as multiples of 2**-36: about e**-25
WEIGHT_BITS = 8  # weights of a mixture are multiples of 2**-8
REACH = 24  # it is 0 below -24 scales and 1 above 24
_CELLS = 7  # table cells of 2**-7 of a scale
_MANTISSA = 30  # bits of the stored reciprocals of 2**(r / 8)


@functools.cache
def logistic_cdf() -> NDArray[np.int64]:
    """1 / (1 + exp(-t)) in units of 2**-CDF_BITS at t = -REACH, -REACH + 2**-7, ..., REACH; ends
    set to 0 and 1.
    """
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
def reciprocals() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per level: the mantissa and the right shift that divide by its scale."""
    with localcontext() as context:
        context.prec = 50
        mantissas = [
            int((Decimal(2) ** (_MANTISSA - Decimal(r) / LEVELS_PER_OCTAVE)).to_integral_value())
            for r in range(LEVELS_PER_OCTAVE)
        ]
    level = np.arange(LEVELS)
    return np.array(mantissas, np.int64)[level % LEVELS_PER_OCTAVE], (
        _MANTISSA + LOWEST_OCTAVE + level // LEVELS_PER_OCTAVE
    ).astype(np.int64)


@functools.cache
def normal(spread: float, reach: int) -> NDArray[np.int64]:
    """exp(-d^2 / (2 spread^2)) at d = 0, 2**-8, ... reach, in units of 2**-30, at least 1."""
    with localcontext() as context:
        context.prec = 50
        scale = -1 / (2 * Decimal(spread) ** 2 * 2**16)
        return np.array(
            [max(1, int((2**30 * (scale * i * i).exp()).to_integral_value())) for i in range((reach << 8) + 1)],
            np.int64,
        )


def cdf(position: NDArray[np.int64], location: NDArray[np.int64], level: NDArray[np.int64]) -> NDArray[np.int64]:
    """The logistic distribution function in units of 2**-CDF_BITS.

    Arguments broadcast; |position - location| < 2**32.
    """
    mantissa, shift = reciprocals()
    t = ((position - location) * mantissa[level]) >> shift[level]  # in scales, FRACTION bits behind the point
    limit = REACH << FRACTION
    np.clip(t, -limit, limit, out=t)
    t += limit
    cell = t >> (FRACTION - _CELLS)
    t &= (1 << (FRACTION - _CELLS)) - 1
    below: NDArray[np.int64] = logistic_cdf().take(cell, mode="clip")  # nothing to clip, but this asks nothing
    rise = _rises().take(cell, mode="clip")
    rise *= t
    rise >>= FRACTION - _CELLS
    below += rise
    return below


def too_many(children: int) -> LimitError:
    """The error of a coordinate that has more children than a table can hold."""
    return LimitError(
        f"a coordinate has {children} children, but a table holds at most {MOST}: the model's widths are too small for"
        " its boxes"
    )


def masses(cumulative: NDArray[np.int64], total: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Integer tables from integer distribution functions: (M, K + 1), (M, 1) -> (M, K + 1).

    Each row sums to 2**PRECISION. With cum_j = floor(cumulative_j * (2**PRECISION - RESERVED) /
    total) + j, symbol j has the parts cum_j .. cum_{j + 1}: its share of `total`, and at least one
    part. The last column takes what is left, at least one part too. It is no child. `cumulative`
    starts at 0, does not decrease and ends at `total` or below it; 0 < total < 2**38. A row with
    fewer than K children repeats its last entry, which changes nothing in the other columns.
    """
    k = cumulative.shape[1] - 1
    if k > MOST:
        raise too_many(k)
    # so that symbols are next to each other in memory, and NumPy's loops are long
    cuts = np.empty((k + 2, len(cumulative)), np.int64).T
    np.multiply(cumulative, SHARED, out=cuts[:, :-1])
    cuts[:, :-1] //= total
    cuts[:, :-1] += np.arange(k + 1)
    cuts[:, -1] = 1 << PRECISION
    table: NDArray[np.int64] = np.diff(cuts, axis=1)
    return table


def truncated(
    boundaries: NDArray[np.int64], location: NDArray[np.int64], level: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Tables of logistics truncated to an interval and cut into children: (M, K + 1), (M,), (M,) ->
    (M, K + 1).

    The children of row i lie between its successive boundaries. A row with fewer than K children
    repeats its last boundary. If the density has no mass in the interval at this precision, every
    child is as likely as any other: F_j = j.
    """
    return _truncated(boundaries, cdf(boundaries, location[:, None], level[:, None]))


def _truncated(boundaries: NDArray[np.int64], f: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same from the distribution functions at the boundaries, which are changed in place."""
    f -= f[:, :1].copy()
    total = f[:, -1:].copy()
    lost = np.flatnonzero(total[:, 0] == 0)
    if len(lost):
        j = np.arange(boundaries.shape[1])
        n = np.max((boundaries[lost, 1:] > boundaries[lost, :-1]) * j[1:], axis=1, initial=1)[:, None]
        f[lost], total[lost] = np.minimum(j, n), n
    return masses(f, total)


@dataclasses.dataclass(frozen=True)
class Cells:
    """What M symbols ask. Each coordinate is known to lie in a box; in which interval of its grid
    does it lie?

    The density is a logistic truncated to the box, in which every integer v owns v - 1/2 .. v +
    1/2. Or it is a mixture of J of them, whose distribution function is floor(sum of weight * F /
    2**WEIGHT_BITS). The children are the box's integers, cut where an interval begins. The first
    interval is the one that holds `low`.
    """

    low: NDArray[np.int32]  # (M,) the box, ends included, within LOWEST .. HIGHEST; never empty
    high: NDArray[np.int32]  # (M,)
    start: NDArray[np.int64]  # (M,) 2**-FRACTION; start <= low < start + width
    width: NDArray[np.int64]  # (M,) 2**-FRACTION, 16 .. 2**31 - 1
    location: NDArray[np.int64]  # (M,), of mixtures (M, J); 2**-FRACTION, within 2**30
    level: NDArray[np.uint8] | NDArray[np.int64]  # the same shape, 0 .. LEVELS - 1
    weight: NDArray[np.uint16] | None = None  # (M, J), rows summing to 2**WEIGHT_BITS; None: a single logistic

    @property
    def size(self) -> int:
        """M."""
        return len(self.low)

    @property
    def children(self) -> NDArray[np.int64]:
        """(M,) number of children. The last one holds `high`.

        Between the first and the last, an interval narrower than 1 may hold no integer.
        """
        count: NDArray[np.int64] = ((self.high.astype(np.int64) << FRACTION) - self.start) // self.width + 1
        return count

    def __getitem__(self, part: slice) -> "Cells":
        weight = None if self.weight is None else self.weight[part]
        return Cells(
            self.low[part],
            self.high[part],
            self.start[part],
            self.width[part],
            self.location[part],
            self.level[part],
            weight,
        )

    def cdf(self, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """The distribution functions at positions (..., M), in units of 2**-CDF_BITS."""
        level = self.level.astype(np.int64)
        if self.weight is None:
            return cdf(position, self.location, level)
        parts = zip(self.weight.T.astype(np.int64), self.location.T, level.T)
        total: NDArray[np.int64] = sum(w * cdf(position, place, one) for w, place, one in parts)
        total >>= WEIGHT_BITS
        return total

    def _boundary(self, child: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where child `child` (..., M) begins, in 2**-FRACTION. For children past the last it is
        where that one ends.
        """
        first = self.start + child * self.width
        first += ONE - 1
        first &= -ONE  # the first integer of the interval, as a position
        np.maximum(first, self.low.astype(np.int64) << FRACTION, out=first)
        np.minimum(first, (self.high.astype(np.int64) + 1) << FRACTION, out=first)
        first -= ONE // 2
        return first

    def masses(self, part: slice) -> NDArray[np.int64]:
        """Integer tables (m, K + 1) of the symbols in `part`. K is the most children among them;
        the last column is no child.
        """
        cells = self[part]
        k = int(cells.children.max(initial=1))
        if k > MOST:
            raise too_many(k)
        boundaries = cells._boundary(np.arange(k + 1)[:, None])
        return _truncated(boundaries.T, cells.cdf(boundaries).T)

    def likely(self) -> tuple[NDArray[np.int64], int]:
        """Where most of the probability lies: the first child (M,), at least 1, and how many follow. A
        guess in floats, by which nothing is decided.
        """
        location, level, n = self.location, self.level, self.children
        if self.weight is None:
            location, level = location[:, None], level[:, None]
        reach = np.exp2(level / LEVELS_PER_OCTAVE + (LOWEST_OCTAVE + FRACTION)) * 6  # e**-6 on each side
        if self.weight is not None:
            reach[self.weight < 1 << (WEIGHT_BITS - 4)] /= 2
        low, high = (location - reach).min(1), (location + reach).max(1)
        low, high = (np.clip((end - self.start) // self.width, 0, n).astype(np.int64) for end in (low, high))
        count = 2 + int(np.partition(high - low, k := self.size * 9 // 10)[k])  # a tenth may have more
        return np.clip((low + high - count) // 2, 1, np.maximum(1, n - count)), count

    def masses_near(self, first: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Tables (M, count + 2) as `masses` has them, of the children below `first` (M,) as one column,
        of `count` children one by one, and of all the rest.
        """
        children = self.children
        index = np.concatenate([np.zeros((1, self.size), np.int64), first + np.arange(count + 1)[:, None], [children]])
        f = self.cdf(self._boundary(index))
        f -= f[:1].copy()
        total = f[-1].copy()
        lost = np.flatnonzero(total == 0)
        if len(lost):
            f[:, lost], total[lost] = np.minimum(index[:, lost], children[lost]), children[lost]
        f *= SHARED
        f //= total
        f += index
        f[-1] = 1 << PRECISION
        table: NDArray[np.int64] = np.diff(f, axis=0).T
        return table

    def intervals(self, symbols: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each symbol (M,) where its parts begin in its row of `masses`, and how many they are.
        The row is not made.
        """
        children = self.children
        if children.max(initial=1) > MOST:
            raise too_many(int(children.max()))
        assert ((symbols >= 0) & (symbols < children)).all(), "a symbol is not one of its coordinate's children"
        index = np.stack([np.zeros_like(children), symbols, symbols + 1, children])
        f = self.cdf(self._boundary(index))
        total = f[3] - f[0]
        lost = total == 0
        index[1:3] += np.where(
            lost, index[1:3] * SHARED // children, (f[1:3] - f[0]) * SHARED // np.where(lost, 1, total)
        )
        return index[1], index[2] - index[1]


def mean(
    location: NDArray[Any], level: NDArray[Any], low: NDArray[Any], high: NDArray[Any], coder: str | None = None
) -> NDArray[np.int32]:
    """Means of logistics truncated to low - 1/2 .. high + 1/2, as positions. Arguments of any
    integer type broadcast.

    Let F be the stored distribution function, S its integral, and a, b the ends in scales from the
    location. The integral of t dF by parts gives the mean b - (S(b) - S(a) - (b - a) F(a)) / (F(b)
    - F(a)). In integers, with floors throughout:

    1. t at both ends is as in `cdf`, without the limit. If a + b > 0 the box is mirrored: it now
       leans to the left, where F is small and exact. If then b > REACH, the box holds everything,
       and the mean is the location.
    2. If b < -KNEE, the box is moved to end there. Below it the density is exponential, so only the
       width counts.
    3. a is limited to -REACH, and to b. A box that holds nothing comes only from damaged or sampled
       streams, and counts as a narrow one. The formula above gives how far the mean lies from the
       box's end b, in 2**-FRACTION of a scale. If b - a is below 2**-7 scales, the density is
       nearly flat but the rounding of t matters, so the mean is the middle of the box.
    4. The result is multiplied by the scale, counted from that end, and limited to low .. high.

    `coder` names who computes it (`choice`). All give the same integers.
    """
    location, level, low, high = np.broadcast_arrays(location, level, low, high)
    found = np.empty(location.shape, np.int32)
    flat = [np.ravel(a) for a in (location, level, low, high)]
    compute = _mean if choice.resolve(coder) != "numba" else choice.load("numba").mean
    for begin in range(0, found.size, 1 << 16):  # blocks, so that temporary arrays stay small
        part = slice(begin, begin + (1 << 16))
        found.reshape(-1)[part] = compute(*[a[part].astype(np.int64) for a in flat])
    return found


def mixture_mean(
    location: NDArray[Any],
    level: NDArray[Any],
    weight: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    coder: str | None = None,
) -> NDArray[np.int32]:
    """Means of mixtures truncated to low - 1/2 .. high + 1/2.

    Location, level and weight are (..., J); low and high are (...). With e = low - 1/2, the mean is
    e + floor(sum of a_j (m_j - e) / sum of a_j). Here m_j is the `mean` of logistic j, and a_j =
    weight_j * floor(M_j / 2**12), where M_j is its mass in the box in 2**-CDF_BITS. If every a_j is
    0, a_j is weight_j.
    """
    count = location.shape[-1]
    if count == 1:
        return mean(location[..., 0], level[..., 0], low, high, coder)
    found = np.empty(low.shape, np.int32)
    flat = [a.reshape(-1, count) for a in (location, level, weight)] + [np.ravel(a) for a in (low, high)]
    compute = _mixture_mean if choice.resolve(coder) != "numba" else choice.load("numba").mixture_mean
    for begin in range(0, found.size, 1 << 16):  # blocks, so that temporary arrays stay small
        part = slice(begin, begin + (1 << 16))
        found.reshape(-1)[part] = compute(*[a[part] for a in flat])
    return found


def _mixture_mean(
    location: NDArray[Any],
    level: NDArray[Any],
    weight: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
) -> NDArray[np.int64]:
    bottom = (low.astype(np.int64) << FRACTION) - ONE // 2
    top = (high.astype(np.int64) << FRACTION) + ONE // 2
    total, summed, plain, even = (np.zeros(low.shape, np.int64) for _ in range(4))
    for j in range(location.shape[-1]):
        place, scale = location[..., j].astype(np.int64), level[..., j].astype(np.int64)
        own = mean(place, scale, low, high, "plain") - bottom
        mass = cdf(top, place, scale) - cdf(bottom, place, scale)
        share = weight[..., j].astype(np.int64)
        plain += share
        even += share * own
        share = share * (mass >> 12)
        total += share
        summed += share * own
    lost = total == 0
    found: NDArray[np.int64] = bottom + np.where(lost, even, summed) // np.where(lost, plain, total)
    return found


KNEE = 12  # from so many scales below the location on, the logistic is nearly exponential: e**-12


@functools.cache
def logistic_integral() -> NDArray[np.int64]:
    """The exact integral of `cdf`'s interpolated function from -REACH to t, in 2**-(CDF_BITS +
    FRACTION + 1). t is as in `logistic_cdf`.
    """
    f = logistic_cdf()
    return np.append(0, np.cumsum((f[1:] + f[:-1]) << (FRACTION - _CELLS)))


@functools.cache
def scales() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per level: the mantissa and the right shift that multiply by its scale."""
    with localcontext() as context:
        context.prec = 50
        mantissas = [
            int((Decimal(2) ** (_MANTISSA + Decimal(r) / LEVELS_PER_OCTAVE)).to_integral_value())
            for r in range(LEVELS_PER_OCTAVE)
        ]
    level = np.arange(LEVELS)
    shift = (_MANTISSA - LOWEST_OCTAVE - level // LEVELS_PER_OCTAVE).astype(np.int64)
    return np.array(mantissas, np.int64)[level % LEVELS_PER_OCTAVE], shift


def _integral(t: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """F and S at t (in 2**-FRACTION scales, within REACH)."""
    t = t + (REACH << FRACTION)
    cell = t >> (FRACTION - _CELLS)
    t &= (1 << (FRACTION - _CELLS)) - 1
    below = logistic_cdf()[cell]
    f = below + (_rises()[cell] * t >> (FRACTION - _CELLS))
    return f, logistic_integral()[cell] + (below + f) * t


def _mean(
    location: NDArray[np.int64], level: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.int64]:
    mantissa, shift = reciprocals()
    bottom, top = (low << FRACTION) - ONE // 2, (high << FRACTION) + ONE // 2
    a = (bottom - location) * mantissa[level] >> shift[level]
    b = (top - location) * mantissa[level] >> shift[level]
    mirrored = a + b > 0
    a, b = np.where(mirrored, -b, a), np.where(mirrored, -a, b)
    everything = b > REACH << FRACTION
    moved = np.minimum(b + (KNEE << FRACTION), 0)
    b = np.minimum(b - moved, REACH << FRACTION)
    a = np.minimum(np.maximum(a - moved, -REACH << FRACTION), b)
    (fa, sa), (fb, sb) = _integral(a), _integral(b)
    narrow = b - a < 1 << (FRACTION - _CELLS)
    away = (sb - sa - 2 * (b - a) * fa) // np.where(narrow, 1, 2 * (fb - fa))
    mantissa, shift = scales()
    away = away * mantissa[level] >> shift[level]
    found = np.where(mirrored, bottom + away, top - away)
    found = np.where(everything, location, np.where(narrow, (bottom + top) >> 1, found))
    return np.clip(found, low << FRACTION, high << FRACTION)
