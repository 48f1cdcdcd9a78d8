"""What a file tells a pyramid's networks about its own picture: small corrections of what a band's
network says of a channel.

The networks are trained on many pictures, and a photograph has habits of its own: how sharp it is,
how its noise is coloured. So the encoder fits a correction to each channel of each large band, and
tells it in the file where it pays:

    the linear part of locations gets other weights on its 3 x 3 neighbourhood, and a constant
    the raw outputs of the channel (offsets, levels, weights, couplings) get constants

All are integers, so every machine computes the same. The fit is by natural gradient on the bits of
a sample of coefficients, with the empirical Fisher information as metric (Amari 1998). Its sums are
of integers and exact. So the encoder writes the same file everywhere too.

A correction is a row of groups, each of one power of two: a group's weights are q * 2**exponent.
They are told in three questions: whether there is one; every group's exponent and every weight's
size, as a number of bits; the bits.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import tables
from uqdm.entropy.mixtures import TOTAL, WEIGHT_BITS
from uqdm.entropy.tables import FRACTION
from uqdm.exact.features import LOCATION_BITS
from uqdm.families.boxes import Integers, drawn
from uqdm.families.pyramid.networks import (
    CHANNELS,
    COUPLING_BITS,
    LINEAR_BITS,
    LINEAR_SHIFT,
    LOUD_BITS,
    UNIT_BITS,
    VALUE_BITS,
    PyramidMixture,
    nat,
)

LEAST = 1 << 14  # coefficients of a band that is worth a correction; part of the format
SIZES = 11  # a weight's size is 0 .. SIZES - 1 bits
EXPONENTS = SIZES  # of a group's power of two: 0 .. EXPONENTS - 1
TAPS = 9
SAMPLE = 1 << 15  # coefficients to fit on
PIECE = 1 << 12  # coefficients of it that one thread works on at once; no bit depends on it
ROUNDS = 3  # of the fit
DAMPING = 2.0**-10  # of the Fisher information, relative to its diagonal
SMALL = 2.0**-20  # of the Fisher information: a weight is not expected beyond 2**10 without reason
LARGEST = ((1 << (SIZES - 1)) - 1) << (EXPONENTS - 1)  # weight that can be told
FINE = 1 << 16  # what gradients are rounded to: so much is the largest of a row
CONSTANT = 8  # 2**-VALUE_BITS: what the constant's weight is multiplied with

Array = NDArray[np.float64]
Each = Callable[[Callable[[int], None], Sequence[int]], None]  # does work on every item, in any order


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the weights of a correction are. `planes`: of the linear part; `mixtures`: J;
    `channel`: which of three.
    """

    planes: int
    mixtures: int
    channel: int

    @functools.cached_property
    def groups(self) -> tuple[int, ...]:
        """How many weights each group has: planes of nine taps, the constant, offsets, levels,
        weights, and couplings if there are any.
        """
        return (*[TAPS] * self.planes, 1, *[self.mixtures] * 3, *([2 * self.channel] if self.channel else []))

    @property
    def size(self) -> int:
        """Of all weights."""
        return sum(self.groups)

    @property
    def linear(self) -> int:
        """Of those of the linear part and its constant, which come first."""
        return TAPS * self.planes + 1

    @functools.cached_property
    def rows(self) -> Integers:
        """Raw outputs of the pass that the other weights are added to."""
        j, c = self.mixtures, self.channel
        own = [np.arange(j) + (CHANNELS * kind + c) * j for kind in range(3)]
        at = CHANNELS * 3 * j + 2 * (c - 1)
        return np.concatenate([*own, np.arange(at, at + 2 * c) if c else np.zeros(0, np.int64)])


def linear_weights(layout: Layout, weights: Integers) -> tuple[Integers, int]:
    """Those of the planes, (1, I, 3, 3), and what is added to every location in 2**-FRACTION pixel
    values.
    """
    own = weights[: layout.linear - 1].reshape(1, layout.planes, 3, 3)
    return own, int(weights[layout.linear - 1]) * CONSTANT << LINEAR_SHIFT


# --- how they are told


@functools.cache
def _masses(likely: tuple[int, ...]) -> Integers:
    """A row of masses in proportion to small integers; the last one is no child."""
    row = np.array(likely, np.int64) * ((1 << tables.PRECISION) - 1024) // sum(likely)
    found = np.append(row, 0)
    found[-1] = (1 << tables.PRECISION) - found.sum()
    found.flags.writeable = False
    return found


LIKELY = (16, 16, 16, 12, 8, 4, 3, 2, 1, 1, 1)  # sizes 0 .. SIZES - 1 of weights; part of the format
EVEN = (1,) * EXPONENTS
BIT = (1, 1)


class FixedQuestion:
    """A question of symbols with fixed tables. `answer` gives an encoder's symbols; `rows` says
    which rows have which table.
    """

    def __init__(
        self, rows: Sequence[tuple[int, tuple[int, ...]]], answer: Callable[[NDArray[np.int16]], Integers]
    ) -> None:
        self._answer = answer
        self._likely = np.repeat(np.arange(len(rows)), [count for count, _ in rows])
        self._table = np.stack([_masses(likely) for _, likely in rows]) if rows else np.zeros((0, 2), np.int64)

    @property
    def size(self) -> int:
        """Number of symbols."""
        return len(self._likely)

    def symbols(self, values: NDArray[np.int16], part: slice) -> Integers:
        """values (D,): a picture's coefficients."""
        return self._answer(values)[part]

    def table(self, part: slice) -> Integers:
        """(m, K)"""
        return self._table[self._likely[part]]

    def children(self, part: slice) -> Integers:
        """(m,)"""
        return np.full(part.stop - part.start, self._table.shape[1] - 1, np.int64)

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """By chance there is no correction: a picture that nobody has seen has no habits."""
        return np.zeros_like(drawn(self.table(part), chances))


def sizes_of(layout: Layout, exponents: Integers, quotients: Integers) -> Integers:
    """The symbols of the second question."""
    return np.concatenate([exponents, [int(abs(q)).bit_length() for q in quotients]]).astype(np.int64)


def bits_of(quotients: Integers) -> Integers:
    """The symbols of the third one: of each weight that is not 0 its sign, and its bits below the
    highest, the higher first.
    """
    found: list[int] = []
    for q in quotients.tolist():
        if q:
            n = abs(q).bit_length() - 1
            found += [int(q < 0), *((abs(q) >> (n - 1 - i)) & 1 for i in range(n))]
    return np.array(found, np.int64)


def count_of_bits(layout: Layout, sizes: Integers) -> int:
    """How many symbols the third question has after the second one's."""
    return int(sizes[len(layout.groups) :].sum())


def weights_of(layout: Layout, sizes: Integers, bits: Integers) -> Integers:
    """(n,) the weights that the questions' symbols tell."""
    exponents = np.repeat(sizes[: len(layout.groups)], layout.groups)
    found, at = np.zeros(layout.size, np.int64), 0
    for i, size in enumerate(sizes[len(layout.groups) :].tolist()):
        if size:
            q = 1
            for bit in bits[at + 1 : at + size].tolist():
                q = 2 * q + bit
            found[i] = -q if bits[at] else q
            at += size
    return found << exponents


# --- how they are fitted


@dataclasses.dataclass(frozen=True)
class BandSample:
    """M coefficients of one band and channel, and all that decides their bits."""

    planes: Array  # (TAPS * I, M) integers: what the linear part's taps see, in 2**-VALUE_BITS
    raw: NDArray[np.int16]  # (1, 9 J + 6, 1, M)
    base: Integers  # (1, 3, 1, M)
    errors: Sequence[NDArray[np.int32]]  # (1, 1, M) of earlier channels, relative to their units
    louds: Sequence[NDArray[np.int16]]
    parent: tuple[Integers, Integers]  # (M,) ends of cells, included
    child: tuple[Integers, Integers]
    unit: int
    mixture: Callable[[NDArray[np.int16], Integers], PyramidMixture]  # of raw outputs and base

    @property
    def size(self) -> int:
        """M."""
        return len(self.parent[0])


def corrected(layout: Layout, sample: BandSample, weights: Integers) -> PyramidMixture:
    """The mixtures that corrected outputs give."""
    raw, base = sample.raw.copy(), sample.base.copy()
    linear, constant = linear_weights(layout, weights)
    # Sums far below 2**53, so exact. `einsum` asks no library that has threads of its own.
    moved = np.einsum("i,ij->j", linear.reshape(-1).astype(np.float64), sample.planes).astype(np.int64)
    base[0, layout.channel, 0] += (moved << LINEAR_SHIFT) + constant
    add(raw, layout, weights)
    return sample.mixture(raw, base)


def add(raw: NDArray[np.int16], layout: Layout, weights: Integers) -> None:
    """Adds the constants to raw outputs (1, 9 J + 6, h, w), in place."""
    for row, extra in zip(layout.rows.tolist(), weights[layout.linear :].tolist()):
        if extra:
            raw[0, row] = np.clip(raw[0, row].astype(np.int64) + extra, -32768, 32767)


def one_by_one(work: Callable[[int], None], items: Sequence[int]) -> None:
    """Work on every item, on this thread."""
    for item in items:
        work(item)


def fit(
    layout: Layout, samples: Sequence[BandSample], scale: float, each: Each = one_by_one
) -> tuple[Integers, Integers] | None:
    """Exponents of the groups and quotients of the weights, or None where no correction pays.

    `samples`: pieces of one. `scale`: for how many coefficients one of the sample stands. `each`:
    what shares out pieces; no bit depends on it, nor on how the sample is cut.
    """
    weights = np.zeros(layout.size)
    best, least, information = weights, np.inf, np.zeros((0, 0))
    without = np.inf
    for k in range(ROUNDS):
        whole = np.rint(weights).astype(np.int64)
        bits, gradients = scores(layout, samples, whole, True, each)
        without = bits if k == 0 else without
        if bits >= least:
            break
        best, least = weights, bits
        information, slope = _multiplied(gradients, each)
        diagonal = np.diag_indices_from(information)
        information[diagonal] = information[diagonal] * (1 + DAMPING) + SMALL
        weights = np.clip(weights + _solved(information, slope), -LARGEST, LARGEST)
    else:
        bits, _ = scores(layout, samples, np.rint(weights).astype(np.int64), False, each)
        best = weights if bits < least else best
    exponents, quotients = _coarse(layout, best, np.diag(information) * scale)
    bits, _ = scores(layout, samples, quotients << np.repeat(exponents, layout.groups), False, each)
    return (exponents, quotients) if (without - bits) * scale > cost(layout, exponents, quotients) else None


def cost(layout: Layout, exponents: Integers, quotients: Integers) -> float:
    """Bits that a correction takes."""
    sizes = sizes_of(layout, exponents, quotients)[len(exponents) :]
    likely = np.array(LIKELY) / sum(LIKELY)
    return float(len(exponents) * np.log2(EXPONENTS) - np.log2(likely)[sizes].sum() + sizes.sum())


def _coarse(layout: Layout, weights: Array, information: Array) -> tuple[Integers, Integers]:
    """A weight is as coarse as a step of its deviation costs little: half a nat for a whole group
    at most.
    """
    exponents, quotients, at = [], [], 0
    for count in layout.groups:
        own, known = weights[at : at + count], information[at : at + count].max()
        step = int(np.frexp(1 / np.sqrt(known))[1]) if known > 0 else EXPONENTS
        largest = int(np.frexp(np.abs(own).max(initial=0.0))[1])
        exponent = min(max(step, largest - (SIZES - 1), 0), EXPONENTS - 1)
        most = (1 << (SIZES - 1)) - 1
        quotients.append(np.clip(np.rint(own / 2.0**exponent), -most, most))
        exponents.append(exponent if quotients[-1].any() else 0)
        at += count
    return np.array(exponents, np.int64), np.concatenate(quotients).astype(np.int64)


def _multiplied(gradients: list[Array], each: Each) -> tuple[Array, Array]:
    """Products of all rows of gradients (n, M) with one another, and their sums, over all pieces. Rows
    become integers of at most FINE, in units that are powers of two. So the sums are exact.
    """
    largest: list[Array] = [np.zeros(0)] * len(gradients)
    products, sums = list(largest), list(largest)

    def measure(k: int) -> None:
        largest[k] = np.maximum(gradients[k].max(1), -gradients[k].min(1))

    each(measure, range(len(gradients)))
    unit = np.ldexp(1.0, np.frexp(np.max(largest, 0))[1]) / FINE

    def multiply(k: int) -> None:
        one = gradients[k]
        one *= (1 / unit)[:, None]
        np.rint(one, out=one)
        products[k], sums[k] = one @ one.T, one.sum(1)

    # A library with threads of its own, which wait for one another busily, is asked by one thread.
    alone = os.environ.get("OPENBLAS_NUM_THREADS") == "1"
    (each if alone else one_by_one)(multiply, range(len(gradients)))
    return np.sum(products, 0) * unit[:, None] * unit, np.sum(sums, 0) * unit


def _solved(matrix: Array, right: Array) -> Array:
    """Of a symmetric positive matrix, by elimination: the same operations in the same order on
    every machine.
    """
    n = len(right)
    scale = np.sqrt(np.diag(matrix))
    scale[scale == 0] = 1
    a = np.concatenate([matrix / scale[:, None] / scale, (right / scale)[:, None]], 1)
    a[np.arange(n), np.arange(n)] += 2.0**-30 + (np.diag(a) == 0)
    for k in range(n):
        a[k + 1 :, k:] -= (a[k + 1 :, k : k + 1] / a[k, k]) * a[k, k:]
    found = np.zeros(n)
    for k in range(n - 1, -1, -1):
        found[k] = a[k, n] / a[k, k]
        a[:k, n] -= a[:k, k] * found[k]
    return found / scale


@functools.cache
def _fastest() -> Callable[..., tuple[Array, Array, Array, Array]]:
    """`slopes`: compiled where Numba works."""
    try:
        from uqdm.families.pyramid import tuning_kernels
    except Exception:  # a broken installation may raise anything, and NumPy does the same work
        return slopes
    return tuning_kernels.slopes


def slopes(
    location: Integers, level: Integers, share: Array, child: tuple[Integers, Integers],
    parent: tuple[Integers, Integers], gradients: bool,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Of mixtures (M, J): masses in child and parent, (2, M), and derivatives of their ratio's
    logarithm (M, J), with respect to locations, logarithms of scales, and of weights.
    """
    mantissa, shift = tables.scales()
    scale = np.ldexp(mantissa[level].astype(np.float64), -shift[level])  # pixel values
    totals = np.empty((2, len(location)))
    to_location, to_scale, to_weight = (np.zeros_like(share) for _ in range(3))
    for part, (low, high) in enumerate((child, parent)):
        sign = 1 - 2 * part
        ends = [
            (position << FRACTION)[:, None] + half
            for position, half in ((low, -(1 << (FRACTION - 1))), (high, 1 << (FRACTION - 1)))
        ]
        below, above = (tables.cdf(end, location, level) / 2.0**tables.CDF_BITS for end in ends)
        mass = np.maximum(above - below, 2.0**-tables.CDF_BITS)
        totals[part] = (share * mass).sum(1)
        if not gradients:
            continue
        likely = share * mass / totals[part][:, None]
        first, second = (f * (1 - f) for f in (below, above))
        left, right = ((end - location) / 2.0**FRACTION / scale for end in ends)
        to_location -= sign * likely * (second - first) / mass / scale
        to_scale -= sign * likely * (second * right - first * left) / mass
        to_weight += sign * likely
    return totals, to_location, to_scale, to_weight


def scores(
    layout: Layout, samples: Sequence[BandSample], weights: Integers, gradients: bool = True, each: Each = one_by_one
) -> tuple[float, list[Array]]:
    """Bits of a sample in pieces, corrected by weights. And of each piece the derivatives (n, M) of its
    coefficients' log-probability (nats) with respect to the weights.
    """
    totals, found = [np.zeros((2, 0))] * len(samples), [np.zeros((0, 0))] * len(samples)

    def score(k: int) -> None:
        totals[k], found[k] = _scored(layout, samples[k], corrected(layout, samples[k], weights), gradients)

    each(score, range(len(samples)))
    whole = np.concatenate(totals, 1)
    return float((np.log2(whole[1]) - np.log2(whole[0])).sum()), found


def _scored(layout: Layout, sample: BandSample, mixture: PyramidMixture, gradients: bool) -> tuple[Array, Array]:
    """Masses in child and parent (2, M), and the derivatives (n, M), if they are wanted."""
    location, level = (a.reshape(sample.size, -1).astype(np.int64) for a in mixture[:2])
    share = mixture.weight.reshape(sample.size, -1) / TOTAL
    compute = _fastest() if share.shape[1] < 8 else slopes  # NumPy adds eight and more in another order
    totals, to_location, to_scale, to_weight = compute(location, level, share, sample.child, sample.parent, gradients)
    if not gradients:
        return totals, np.zeros((0, 0))
    shared, stretched = to_location.sum(1), to_scale.sum(1)
    steps = 2.0 ** -(LINEAR_BITS + VALUE_BITS)  # pixel values of a linear weight's unit
    found = np.empty((layout.size, sample.size))
    np.multiply(sample.planes, shared * steps, out=found[: layout.linear - 1])
    found[layout.linear - 1] = shared * (CONSTANT * steps)
    rows = [to_location.T * (sample.unit / 2.0**LOCATION_BITS), to_scale.T / nat(), to_weight.T / 2.0**WEIGHT_BITS]
    for error, loud in zip(sample.errors, sample.louds):
        rows.append((shared * error.reshape(-1) * (sample.unit / 2.0 ** (COUPLING_BITS + UNIT_BITS)))[None])
        rows.append((stretched * loud.reshape(-1) / 2.0 ** (COUPLING_BITS + LOUD_BITS))[None])
    np.concatenate(rows, out=found[layout.linear :])
    return totals, found
