"""One level of one step in integers: features, trunk, three passes, mixtures; knows no runtime
(`torch/model.py` is the same in floats).

Details are (N, 9, h, w): HL, LH, HH, of each Y, Co, Cg. Values are int16 in 2**-VALUE_BITS pixel
values. Everything that networks see or say goes through here, in NumPy's integers. What is relative
to a coefficient's unit (its cells' width before the step) is counted in 2**-UNIT_BITS units, within
+-LIMITED, so that one network serves levels of any width.

    features    what a trunk sees: low-pass image, its high-pass, values, widths of cells, how wrong
                predictions were at the level above
    seen        what a pass sees besides the trunk's activations: values and errors of the bands
                before
    linear      the linear part of locations, in 64-bit integers: nothing there is limited, so sharp
                edges are seen whole
    mixture     a pass's raw outputs to locations, scale levels and weights of one channel, given
                the errors of the channels before

Raw outputs of a pass are (N, 9 J + 6, h, w): for three channels J offsets in 2**-LOCATION_BITS
units, then J levels in 2**-LEVEL_BITS, then J logarithms of weights in 2**-WEIGHT_BITS nats; at
last six couplings in 2**-COUPLING_BITS.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.mixtures import TOTAL, weights
from uqdm.entropy.tables import FRACTION, LEVELS_PER_OCTAVE, LOWEST_OCTAVE, reciprocals
from uqdm.errors import PackageError
from uqdm.exact import parsing
from uqdm.exact.bound import MOST_BLOCKS, largest, ranged
from uqdm.exact.features import FARTHEST, LEVEL_BITS, LEVELS, LOCATION_BITS, high_pass
from uqdm.exact.network import LIMIT, Net
from uqdm.families.pyramid import lattice

CHANNELS = 3
DETAILS = 9
VALUE_BITS = 3  # behind the point of values
SHARP_BITS = VALUE_BITS + 4  # and of their high-pass
UNIT_BITS = 5  # of what is relative to a unit
LIMITED = 2047  # of such a feature, and of the image's
WIDEST = 4 << UNIT_BITS  # of a cell's width as a feature
LOUD_BITS = 5  # of log(1 + |error| / scale)
QUIET = 22  # 0.7 in that
FARTHEST_ERROR = 64  # scales that an error counts as, at most
LOUDEST = 134  # log(1 + FARTHEST_ERROR) in 2**-LOUD_BITS
COUPLING_BITS = 8
COUPLINGS = 6  # raw outputs of a pass that move later channels by the errors of earlier ones
LINEAR_BITS = 12  # of linear weights
LINEAR_SHIFT = FRACTION - LINEAR_BITS - VALUE_BITS  # from a product of such a weight and a value to a location
MIDDLE = (255, 0, 0)  # twice the middle of Y, Co, Cg in a low-pass image
RECIPROCAL_BITS = 24
FIRST = 4  # the unit of the first step, in its widths

Array = NDArray[Any]
PASS = ("offset", "level", "linear")


class PyramidMixture(NamedTuple):
    """Mixtures of J logistics for the coefficients of one band and channel."""

    location: NDArray[np.int32]  # (N, h, w, J) 2**-16 pixel values
    level: NDArray[np.uint8]  # the same shape, of scales (`entropy.tables`)
    weight: NDArray[np.uint16]  # the same shape, adding up to TOTAL
    turn: NDArray[np.uint16]  # (N, h, w) the weighted sum of the levels: TOTAL times their mean
    guess: NDArray[np.int16]  # (N, h, w) the weighted mean of the locations, a value, not limited to what is known


@functools.cache
def unit_level(unit: int) -> int:
    """The scale level of one unit, in 2**-LEVEL_BITS levels."""
    with localcontext() as context:
        context.prec = 50
        octaves = Decimal(unit).ln() / Decimal(2).ln() - LOWEST_OCTAVE
        return int((octaves * LEVELS_PER_OCTAVE * 2**LEVEL_BITS).to_integral_value())


@functools.cache
def nat() -> int:
    """What a scale's logarithm of one nat is in 2**-LEVEL_BITS levels."""
    with localcontext() as context:
        context.prec = 50
        return int((LEVELS_PER_OCTAVE * 2**LEVEL_BITS / Decimal(2).ln()).to_integral_value())


@functools.cache
def louds() -> NDArray[np.int16]:
    """log(1 + r) in 2**-LOUD_BITS for r = 0, 1/32, 2/32, ..., FARTHEST_ERROR."""
    with localcontext() as context:
        context.prec = 50
        return np.array(
            [
                int(((1 + Decimal(i) / 32).ln() * 2**LOUD_BITS).to_integral_value())
                for i in range(32 * FARTHEST_ERROR + 1)
            ],
            np.int16,
        )


def relative(x: Array, bits: int, unit: NDArray[np.int64]) -> NDArray[np.int32]:
    """x (N, k, h, w), with `bits` behind the point, in units (k,): to the nearest 2**-UNIT_BITS,
    limited.
    """
    reciprocal = ((1 << RECIPROCAL_BITS) // unit)[:, None, None]
    shift = RECIPROCAL_BITS + bits - UNIT_BITS
    found: NDArray[np.int32] = np.clip((x * reciprocal + (1 << (shift - 1))) >> shift, -LIMITED, LIMITED).astype(
        np.int32
    )
    return found


def loud(error: Array, turn: NDArray[np.uint16]) -> NDArray[np.int16]:
    """log(1 + |error| / scale) less its usual value, in 2**-LOUD_BITS: errors are values, `turn` of
    `PyramidMixture`.
    """
    mantissa, shift = reciprocals()
    level = (turn.astype(np.int64) + TOTAL // 2) // TOTAL
    ratio = (np.abs(error.astype(np.int64)) << (FRACTION - VALUE_BITS)) * mantissa[level] >> shift[level]
    found: NDArray[np.int16] = louds()[np.minimum(ratio >> (FRACTION - 5), 32 * FARTHEST_ERROR)] - np.int16(QUIET)
    return found


def features(
    image: NDArray[np.int16],
    value: NDArray[np.int16],
    width: NDArray[np.int16],
    above: NDArray[np.int16],
    unit: NDArray[np.int64],
) -> NDArray[np.float32]:
    """image (N, 3, h, w), the rest (N, 9, h, w), values; width: of cells, pixel values; unit (9,)
    -> (N, 33, h, w) as float32.
    """
    flat = np.clip(
        (image.astype(np.int32) - (np.array(MIDDLE, np.int32) << (VALUE_BITS - 1))[:, None, None]) >> 2,
        -LIMITED,
        LIMITED,
    )
    sharp = relative(high_pass(image.astype(np.int32)), SHARP_BITS, unit[:CHANNELS])
    wide = np.minimum(relative(width, 0, unit), WIDEST)
    return np.concatenate([flat, sharp, relative(value, VALUE_BITS, unit), wide, above], 1).astype(np.float32)


def seen(
    band: int, value: NDArray[np.int16], error: Array, loudness: Array, unit: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Of the bands before: values, errors (N, 3 band, h, w), both values, and loudness -> (N, 9
    band, h, w) as float32.
    """
    unit = unit[: 3 * band]
    return np.concatenate([relative(value, VALUE_BITS, unit), relative(error, VALUE_BITS, unit), loudness], 1).astype(
        np.float32
    )


def summed(planes: NDArray[np.int32], weight: NDArray[np.int64]) -> NDArray[np.int64]:
    """A convolution of 3 x 3 in 64-bit integers, zeros around the field: (N, I, h, w), (C, I, 3, 3)
    -> (N, C, h, w).
    """
    x = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    n, _, h, w = planes.shape
    found = np.zeros((n, len(weight), h, w), np.int64)
    for c, i, dy, dx in np.argwhere(weight).tolist():
        found[:, c] += weight[c, i, dy, dx] * x[:, i, dy : dy + h, dx : dx + w]
    return found


def planes(image: NDArray[np.int16], before: NDArray[np.int16], now: NDArray[np.int16]) -> NDArray[np.int32]:
    """What the linear part of locations sees, values (N, 12 + 3 band, h, w): the image's high-pass,
    values before the step, and how far those of earlier bands, `now` (N, 3 band, h, w), have moved.
    """
    sharp = (high_pass(image.astype(np.int32)) + 8) >> 4
    return np.concatenate([sharp, before, now.astype(np.int32) - before[:, : now.shape[1]]], 1)


def moved(
    image: NDArray[np.int16], before: NDArray[np.int16], now: NDArray[np.int16], weight: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What weights (C, I, 3, 3) of the linear part add to locations: (N, C, h, w), 2**-16 pixel values.

    `before`: values (N, 9, h, w) as the step began; `now`: those of earlier bands (N, 3 band, h, w).
    """
    found: NDArray[np.int64] = summed(planes(image, before, now), weight) << LINEAR_SHIFT
    return found


@dataclasses.dataclass(frozen=True)
class PyramidPass:
    """The network of one band, and what is added to what it says. J logistics for each of three
    channels.
    """

    net: Net
    offset: Array  # (3, J) to raw offsets
    level: Array  # (3, J) to raw levels
    linear: Array  # (3, I, 3, 3) weights of the linear part in 2**-LINEAR_BITS, I = 12 + 3 for each band before


@dataclasses.dataclass(frozen=True)
class LevelNet:
    """The networks of one level, or of all coarse ones, in one step."""

    trunk: Net
    passes: tuple[PyramidPass, ...]

    @property
    def reach(self) -> int:
        """How far around a position the trunk's activations depend on its features: positions."""
        return self.trunk.reach

    def pass_reach(self, band: int) -> int:
        """The same of a pass."""
        return self.passes[band].net.reach

    def limits(self) -> NDArray[np.int64]:
        """(33,) what the features cannot exceed in size."""
        return np.array([LIMITED] * (2 * CHANNELS + DETAILS) + [WIDEST] * DETAILS + [LOUDEST] * DETAILS, np.int64)

    def pass_limits(self, band: int) -> NDArray[np.int64]:
        """Likewise of what a pass sees; the first one sees the trunk's activations only."""
        if band == 0:
            return np.full(self.trunk.channels, LIMIT, np.int64)
        return np.array([LIMITED] * (6 * band) + [LOUDEST] * (3 * band), np.int64)

    def check(self, name: str) -> float:
        """log2 of the largest partial sum there can be. Raises `PackageError` from 2**24 on, or
        where it is no such network.
        """
        if self.trunk.head is not None or self.trunk.join is not None or len(self.passes) != len(lattice.BANDS):
            raise PackageError(
                f"{name}: {len(self.passes)} passes, expected {len(lattice.BANDS)}; "
                "a trunk has no head and joins nothing"
            )
        found = [1, largest(self.trunk, f"{name}, trunk", self.limits())]
        for band, one in enumerate(self.passes):
            where = f"{name}, pass {band + 1}"
            found.append(largest(one.net, where, self.pass_limits(band)))
            head, join = one.net.head, one.net.join
            fits = head is not None and len(head.bias) == 3 * one.offset.size + 6
            fits = fits and (
                join is None if band == 0 else join is not None and join.weight.shape[1] == self.trunk.channels
            )
            if not fits or one.offset.ndim != 2:
                raise PackageError(f"{where}: the layers' sizes do not fit together")
            shape = (CHANNELS, one.offset.shape[1])
            ranged(f"{where}: offset", one.offset, shape, -(1 << 20), 1 << 20)
            ranged(f"{where}: level", one.level, shape, -(1 << 15), 1 << 15)
            ranged(f"{where}: linear", one.linear, (CHANNELS, CHANNELS + DETAILS + 3 * band, 3, 3), -(1 << 16), 1 << 16)
        return float(np.log2(max(found)))

    def narrow(self, band: int) -> bool:
        """Whether `linear` fits in 32 bits whatever it sees. What its weights are multiplied with
        is at most 2**16 in size.
        """
        most = int(np.abs(self.passes[band].linear.astype(np.int64)).sum((1, 2, 3)).max()) << (16 + LINEAR_SHIFT)
        return most + (1 << (15 + FRACTION - VALUE_BITS)) < 1 << 31

    def linear(
        self,
        band: int,
        image: NDArray[np.int16],
        before: NDArray[np.int16],
        now: NDArray[np.int16],
        move: Callable[..., NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """The linear part of a band's locations and the values that it starts from: (N, 3, h, w) in
        2**-16 pixel values. `move`: `moved`, or what gives the same.
        """
        found = move(image, before, now, self.passes[band].linear.astype(np.int64))
        found += before[:, 3 * band : 3 * band + 3].astype(np.int64) << (FRACTION - VALUE_BITS)
        return found

    # --- what they say

    def mixture(
        self,
        band: int,
        channel: int,
        raw: Array,
        base: NDArray[Any],
        unit: NDArray[np.int64],
        errors: list[NDArray[np.int32]],
        loudness: list[NDArray[np.int16]],
    ) -> PyramidMixture:
        """Of one channel of a band: raw outputs (N, 9 J + 6, h, w), base (N, h, w) of `linear`,
        this channel's, unit (9,) of the level.

        `errors`, relative to their units, and `loudness` (N, h, w): of the channels before this
        one.
        """
        one, u = self.passes[band], int(unit[3 * band + channel])
        j = one.offset.shape[1]

        def pick(kind: int) -> Array:
            begin = (3 * kind + channel) * j
            return raw[:, begin : begin + j].transpose(0, 2, 3, 1)

        coupling = raw[:, 9 * j :].astype(np.int64)
        shift, stretch = np.zeros((2, *raw.shape[:1], *raw.shape[2:]), np.int64)
        for other in range(channel):
            at = 2 * (channel - 1 + other)
            shift += coupling[:, at] * errors[other]
            stretch += coupling[:, at + 1] * loudness[other]
        stretch = stretch * nat() >> (COUPLING_BITS + LOUD_BITS)
        offset = pick(0).astype(np.int64) + one.offset[channel].astype(np.int64)
        location = offset * u << (FRACTION - LOCATION_BITS)
        location += (shift * u << (FRACTION - COUPLING_BITS - UNIT_BITS))[..., None]
        location += base[..., None]
        location = np.clip(location, -FARTHEST, FARTHEST).astype(np.int32)
        level = (
            pick(1).astype(np.int64)
            + one.level[channel].astype(np.int64)
            + stretch[..., None]
            + (unit_level(u) + (1 << (LEVEL_BITS - 1)))
        )
        level = np.clip(level >> LEVEL_BITS, 0, LEVELS - 1).astype(np.uint8)
        weight = weights(pick(2))
        turn = (level.astype(np.int32) * weight).sum(-1).astype(np.uint16)
        mean = (location.astype(np.int64) * weight).sum(-1) // TOTAL
        half = 1 << (FRACTION - VALUE_BITS - 1)
        guess = np.clip((mean + half) >> (FRACTION - VALUE_BITS), -32768, 32767).astype(np.int16)
        return PyramidMixture(location, level, weight, turn, guess)


def mixture_of(
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
    """Puts `net.mixture` of some rows into `found`. `errors` are values."""
    near = [
        relative(e[:, None, rows], VALUE_BITS, unit[k : k + 1])[:, 0] for k, e in enumerate(errors, CHANNELS * band)
    ]
    far = [one[:, rows] for one in louds]
    part = net.mixture(band, channel, raw[:, :, rows], base[:, rows], unit, near, far)
    arrays: tuple[Array, ...] = found
    for whole, piece in zip(arrays, part):
        whole[:, rows] = piece


def parse(name: str, network: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[list[LevelNet | None]]:
    """The networks of a package by step and level class (0: level 1, 1: level 2, 2: coarser).
    Raises `PackageError`.
    """
    found: list[list[LevelNet | None]] = []
    used: list[dict[str, Array]] = []
    with parsing.described(name, "a network of the family 'pyramid'"):
        parsing.known(network, "kind", "steps")
        for step, row in enumerate(network["steps"]):
            found.append([])
            for kind, described in enumerate(row):
                if described is None:
                    found[-1].append(None)
                    continue
                parsing.known(described, "trunk", "passes")
                trunk, blocks = (parsing.count(described, key, MOST_BLOCKS) for key in ("trunk", "passes"))
                take = functools.partial(parsing.take, arrays, f"{step}.{kind}.")
                passes = []
                for band in range(len(lattice.BANDS)):
                    fields = {field: take(f"pass{band}.{field}") for field in PASS}
                    passes.append(PyramidPass(parsing.net(take, f"pass{band}.", blocks, True), **fields))
                one = LevelNet(parsing.net(take, "trunk.", trunk, True), tuple(passes))
                one.check(f"{name}, step {step + 1}, network {kind + 1}")
                found[-1].append(one)
                used.append(named(one, f"{step}.{kind}."))
    parsing.nothing_else(name, arrays, *used)
    return found


def described(one: LevelNet | None) -> dict[str, Any] | None:
    """A level's networks as a package's description has them: numbers of residual blocks; None: the
    level is not visited.
    """
    return None if one is None else {"trunk": len(one.trunk.blocks), "passes": len(one.passes[0].net.blocks)}


def named(one: LevelNet, prefix: str) -> dict[str, Array]:
    """Their arrays by the names that `parse` reads."""
    out = parsing.named(one.trunk, prefix + "trunk.")
    for band, each in enumerate(one.passes):
        out |= {f"{prefix}pass{band}.{field}": getattr(each, field) for field in PASS}
        out |= parsing.named(each.net, f"{prefix}pass{band}.")
    return out
