"""Universally quantized diffusion (Yang, Will, Mandt, ICLR 2025) as a walk over integers; knows nothing of bytes.

Coordinates are integers v (pixel values, or those of a reversible colour transform); the paper's x is (v - offset) / scale.
Dividing eq. 4 by c(t) puts a step on the pixel axis: the receiver learns

    y = (z_{t-1} - b(t) z_t) / c(t) = x + uniform noise of width w,      w = Delta(t) / c(t),

by universal quantization (section 2): with a shared dither d, the symbol is k = floor((v - d) / w) and y the middle of the
interval d + k w .. d + (k + 1) w, in which v is now known to lie. Widths, dithers and intervals are integers in units of
2**-16 pixel values, so both ends agree on them exactly; z_{t-1} = b z_t + c y is computed from stored constants with plain
IEEE operations, and only ever feeds the network.

Two ways to spend bits on k, both driven by the location and scale that the network suggests:

- `Tight` uses everything that is known: the density is truncated to the box, the intersection of all intervals so far, and
  the last step has width 1 and no dither, so its symbol is v itself. The code lengths of the steps add up to
  -log2 p(v | dither) of one true distribution of integers: no step wastes mass on what earlier steps excluded.
- `Paper` is eq. 3 and 7 as published: the logistic convolved with uniform noise, untruncated, and p(x | z_0) at the end.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import randomness, tables
from uqdm.entropy.tables import FRACTION
from uqdm.errors import NumericsError, PackageError
from uqdm.families import colour
from uqdm.package import Package, floats, tuples

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ONE = 1 << FRACTION
MAX_STEPS = 239  # what a file can hold


class Denoiser(Protocol):
    """A network, whatever runs it."""

    def __call__(self, step: int, z: Floats, low: NDArray[np.int32], high: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """What the network suggests for step `step` (0 is the first): location and log2 of the logistic scale.

        z (N, C, H, W): the latent z_t; low, high (N, C, H, W): the box known so far, ends included. Both results
        (N, C, H, W) float64 in pixel units.
        """


@dataclasses.dataclass(frozen=True)
class Constants:
    """What a UQDM's arithmetic needs besides its network, exactly as its package stores it. T steps, C channels."""

    space: str  # colour space of the coordinates
    offset: tuple[float, ...]  # (C,) x = (v - offset) / scale
    scale: tuple[float, ...]
    alpha: tuple[float, ...]  # (T + 1,) at t = 1 .. 0
    sigma: tuple[float, ...]
    b: tuple[float, ...]  # (T,) eq. 4-5, first step first
    c: tuple[float, ...]
    widths: tuple[tuple[int, ...], ...]  # (T, C) interval widths in 2**-16 pixel values
    pixel_spread: tuple[float, ...]  # (C,) standard deviation of p(x | z_0) in pixel values (`Paper`)
    prior: tuple[int, ...]  # quantiles of N(0, 1) in 2**-16, a power of two of them: z_T

    @property
    def steps(self) -> int:
        """T."""
        return len(self.b)

    def __post_init__(self) -> None:
        t, channels = len(self.b), 3
        sizes = {"alpha": t + 1, "sigma": t + 1, "c": t, "widths": t, "offset": channels, "scale": channels, "pixel_spread": channels}
        for name, size in sizes.items():
            if len(getattr(self, name)) != size:
                raise PackageError(f"constant {name!r} has {len(getattr(self, name))} entries, expected {size} for T = {t}")
        if self.space not in colour.LOWEST:
            raise PackageError(f"colour space {self.space!r}; expected one of {', '.join(colour.LOWEST)}")
        reals = [*self.alpha, *self.sigma, *self.b, *self.c, *self.offset, *self.scale, *self.pixel_spread]
        if not all(math.isfinite(v) for v in reals) or min(*self.alpha, *self.sigma, *self.scale, *self.pixel_spread) <= 0:
            raise PackageError("the constants hold a value that is not finite, or a scale that is not positive")
        if any(len(row) != channels or not all(16 <= w < 2**31 for w in row) for row in self.widths):
            raise PackageError("a box width is not one of 16 .. 2**31 - 1 (in 2**-16 pixel values) for each channel: gamma reaches too far")
        if not 1 <= t <= MAX_STEPS or len(self.prior) < 2 or len(self.prior) & (len(self.prior) - 1):
            raise PackageError(f"T = {t}, {len(self.prior)} quantiles; expected T of 1 .. {MAX_STEPS} and a power of two of quantiles")

    @classmethod
    def of(cls, model: Package) -> "Constants":
        """A package's stored constants. Raises `PackageError` where they are not those of this family."""
        stored = model.constants
        exact = {"alpha", "sigma", "b", "c", "offset", "scale", "pixel_spread"}
        try:
            return cls(**{k: floats(v) if k in exact else v if k == "space" else tuples(v) for k, v in stored.items()})
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PackageError(f"{model.name}: the constants are not those of the family 'uqdm': {error}") from None


@dataclasses.dataclass(frozen=True)
class State:
    """What the receiver knows of a batch of N pictures after `step` chunks."""

    step: int
    z: Floats  # (N, C, H, W) z_t
    low: NDArray[np.int32]  # (N, C, H, W) the box: low <= v <= high
    high: NDArray[np.int32]
    seeds: tuple[int, ...]  # (N,)
    grey: bool
    suggested: list[tuple[Floats, Floats]] = dataclasses.field(default_factory=list, repr=False, compare=False)  # once the network ran


def _ceil(position: Integers) -> Integers:
    return -((-position) >> FRACTION)


@dataclasses.dataclass
class Question:
    """What one chunk asks of one picture: `size` symbols, each with an integer table; built block by block."""

    asked: Integers  # (M,) flat positions in (C, H, W) of the coordinates that are not yet certain
    low: Integers  # (M,) the box
    high: Integers
    width: Integers  # (M,) interval width, 2**-16 pixel values
    dither: Integers  # (M,)
    location: Integers  # (M,) 2**-16 pixel values
    level: Integers  # (M,)
    rows: Callable[["Question", slice], Integers]

    def __post_init__(self) -> None:
        self.first = ((self.low << FRACTION) - self.dither) // self.width  # interval of the box's lowest value
        self.last = ((self.high << FRACTION) - self.dither) // self.width

    @property
    def size(self) -> int:
        """Number of symbols."""
        return len(self.asked)

    def symbols(self, values: NDArray[np.int32]) -> Integers:
        """The picture's symbols, 0 for the lowest interval that meets the box. values (C, H, W) integer coordinates."""
        v = values.reshape(-1)[self.asked].astype(np.int64)
        return ((v << FRACTION) - self.dither) // self.width - self.first

    def masses(self, part: slice) -> Integers:
        """Integer tables (m, K) of the symbols in `part`."""
        return self.rows(self, part)

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """Symbols in `part` by chance: `chances` (m,) uniform 32-bit integers.

        What a `paper` table leaves to values outside the range goes to the interval at the end that the density is nearer to.
        """
        chosen = (np.cumsum(self.masses(part), 1) <= (chances >> np.uint32(32 - tables.PRECISION))[:, None]).sum(1)
        span = (self.last - self.first)[part]
        below = 2 * self.location[part] < (self.low[part] + self.high[part]) << FRACTION
        return np.where(chosen > span, np.where(below, 0, span), chosen)


def _tight_rows(q: Question, part: slice) -> Integers:
    """The logistic truncated to the box, cut where intervals end: every integer v owns v - 1/2 .. v + 1/2."""
    low, high, first = q.low[part], q.high[part], q.first[part]
    k = int((q.last[part] - first).max(initial=0)) + 1
    start = q.dither[part] + first * q.width[part]
    # Symbols lie next to each other in memory, children apart: NumPy's loops are then long.
    cuts = (np.arange(k + 1)[:, None] * q.width[part]).T
    cuts += start[:, None] + (ONE - 1)
    cuts &= -ONE  # the first integer of every interval, as a position
    cuts[:, 0] = low << FRACTION
    np.minimum(cuts, (high + 1)[:, None] << FRACTION, out=cuts)
    cuts -= ONE // 2
    return tables.truncated(cuts, q.location[part], q.level[part])


def _paper_rows(q: Question, part: slice) -> Integers:
    """The logistic's mass in each whole interval; what lies beyond the pixel range is the last symbol, never sent."""
    first = q.first[part]
    k = int((q.last[part] - first).max(initial=0)) + 1
    start = q.dither[part] + first * q.width[part]
    last = (q.last[part] - first)[:, None]
    edges = start[:, None] + np.minimum(np.arange(k + 1), last + 1) * q.width[part][:, None]
    f = tables.cdf(edges, q.location[part][:, None], q.level[part][:, None])
    f -= f[:, :1].copy()
    return tables.masses(np.concatenate([f, np.full((len(f), 1), 1 << tables.CDF_BITS)], 1), 1 << tables.CDF_BITS)


class UniversallyQuantized:
    """What both entropy modes share: the forward process, the boxes, the previews. Implements `families.Family`."""

    def __init__(self, constants: Constants, denoiser: Denoiser) -> None:
        self.constants = constants
        self.denoiser = denoiser

    @property
    def chunks(self) -> int:
        """Chunks of a whole stream."""
        raise NotImplementedError

    @property
    def dithered(self) -> int:
        """How many of them are steps with a dither, after which z moves."""
        raise NotImplementedError

    # --- the walk

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> State:
        """Before the first chunk: z_T from the shared generator, v anywhere in its range.

        A grey picture is three equal channels. With a colour transform its chroma is known to be 0 and never asked for, but its boxes
        shrink as dither has it, so that the network sees what it was trained on. Without one, green is asked, and what it tells
        holds for all three, dither included.
        """
        c = self.constants
        h, w = shape
        full = (len(seeds), 3, h, w)
        quantiles = np.array(c.prior, np.int64)
        index = np.stack([randomness.raw(seed, randomness.PRIOR, 3 * h * w) for seed in seeds]) >> np.uint32(33 - len(c.prior).bit_length())
        z = np.ldexp(quantiles[index].astype(np.float64), -16).reshape(full)
        low = np.broadcast_to(np.array(colour.LOWEST[c.space], np.int32)[:, None, None], full).copy()
        high = np.broadcast_to(np.array(colour.HIGHEST[c.space], np.int32)[:, None, None], full).copy()
        return State(0, z, low, high, tuple(seeds), grey)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""
        return colour.forward(pixels, self.constants.space)

    def parts(self, step: int) -> int:
        """How many questions a chunk holds: one network call settles a whole step."""
        return 1

    def question(self, state: State, part: int) -> list[Question]:
        """What the next chunk asks, one record for each picture. The only place where the network's floats enter."""
        location, log2_scale = self.predict(state)
        width = self._widths(state.step)
        coarsest = np.array([int(w).bit_length() - 4 for w in width], np.int64)[:, None, None]  # at most an eighth of the width
        level = tables.nearest_level(log2_scale)
        grid = tables.on_grid(location, level, coarsest)
        return [self._question(state, i, grid[i].reshape(-1), level[i].reshape(-1)) for i in range(len(state.seeds))]

    def update(self, state: State, part: int, questions: Sequence[Question], answers: Sequence[Integers]) -> State:
        """What is known after the chunk: smaller boxes, and z_{t-1} = b z_t + c y (eq. 4). Answers may fall short."""
        n, plane = len(state.seeds), state.low[0, 0].size
        low, high, z = state.low.reshape(n, -1).copy(), state.high.reshape(n, -1).copy(), state.z.reshape(n, -1).copy()
        for i, (q, symbols) in enumerate(zip(questions, answers)):
            got = slice(0, len(symbols))
            at, width = q.asked[got], q.width[got]
            begin = q.dither[got] + (q.first[got] + symbols) * width
            bottom, top = _ceil(begin), _ceil(begin + width) - 1
            for twin in self._twins(state, plane):
                low[i, at + twin] = np.maximum(bottom, low[i, at + twin])
                high[i, at + twin] = np.minimum(top, high[i, at + twin])
                self._move(state, z[i], at + twin, begin, width)
            self._settle(state, i, q, low[i], high[i], z[i])
        shape = state.z.shape
        return State(state.step + 1, z.reshape(shape), low.reshape(shape), high.reshape(shape), state.seeds, state.grey)

    # --- previews

    def denoise(self, state: State) -> NDArray[np.uint8]:
        """The `denoise` reconstruction: what the network makes of the state. uint8 (N, 3, H, W); exact at the end."""
        if state.step >= self.chunks:
            return colour.inverse(state.low, self.constants.space)
        return self._shown(state, self.mean(state))

    def flow(self, state: State) -> NDArray[np.uint8]:
        """The `flow` reconstruction: the probability-flow steps of eq. 17 to the end, clipped into the box.

        z moves by eq. 17; a box shrinks around the mean by the same factor as the noise.
        """
        c = self.constants
        if state.step >= c.steps:
            return self.denoise(state)
        offset, scale = (np.array(a)[:, None, None] for a in (c.offset, c.scale))
        s = state
        for t in range(state.step, c.steps - 1):
            mean = self.mean(s)
            x = (mean - offset) / scale
            ratio = c.sigma[t + 1] / c.sigma[t]
            z = c.alpha[t + 1] * x + ratio * (s.z - c.alpha[t] * x)
            shrink = ratio * c.alpha[t] / c.alpha[t + 1]
            low, high = np.rint(mean + shrink * (s.low - mean)), np.rint(mean + shrink * (s.high - mean))
            s = State(t + 1, z, low.astype(np.int32), high.astype(np.int32), s.seeds, s.grey)
        # In the last step the noise that is left is below a pixel value: its end is the mean.
        return self._shown(state, np.clip(self.mean(s), state.low, state.high))

    def predict(self, state: State) -> tuple[Floats, Floats]:
        """The network's suggestion after `state`, made once for a preview and the next question.

        Raises `NumericsError` where it is not finite.
        """
        if not state.suggested:
            location, log2_scale = self.denoiser(state.step, state.z, state.low, state.high)
            if not (np.isfinite(location).all() and np.isfinite(log2_scale).all()):
                raise NumericsError(f"step {state.step + 1}: the network's output is not finite; nothing can be coded with this model here")
            if state.grey and self.constants.space == "rgb":
                location, log2_scale = (np.repeat(a[:, 1:2], 3, 1) for a in (location, log2_scale))
            state.suggested.append((location, log2_scale))
        return state.suggested[0]

    def mean(self, state: State) -> Floats:
        """What `denoise` shows before rounding: (N, 3, H, W) coordinates."""
        raise NotImplementedError

    # --- details

    def _shown(self, state: State, mean: Floats) -> NDArray[np.uint8]:
        if self._colourless(state):
            mean = np.concatenate([mean[:, :1], np.zeros_like(mean[:, 1:])], 1)
        return colour.preview(mean, self.constants.space)

    def _question(self, state: State, i: int, location: Integers, level: Integers) -> Question:
        raise NotImplementedError

    def _widths(self, step: int) -> tuple[int, ...]:
        """Widths of the chunk's intervals by channel; single integers where there is no dither."""
        return self.constants.widths[step] if step < self.dithered else (ONE,) * 3

    def _intervals(self, state: State, i: int) -> tuple[Integers, Integers]:
        """Width and dither of every coordinate (C * H * W,) of picture i."""
        plane = state.low[0, 0].size
        width = np.repeat(np.array(self._widths(state.step), np.int64), plane)
        if state.step >= self.dithered:
            return width, np.zeros(len(width), np.int64)
        dither = randomness.below(width, randomness.raw(state.seeds[i], state.step + 1, len(width)))
        if state.grey and self.constants.space == "rgb":
            dither = np.tile(dither[plane : 2 * plane], 3)
        return width, dither

    def _candidates(self, state: State) -> Integers:
        """Flat positions of the coordinates that a chunk may ask for."""
        plane = state.low[0, 0].size
        if not state.grey:
            return np.arange(3 * plane)
        return np.arange(plane, 2 * plane) if self.constants.space == "rgb" else np.arange(plane)

    def _twins(self, state: State, plane: int) -> tuple[int, ...]:
        """Offsets from an asked coordinate to those that its answer settles."""
        return (-plane, 0, plane) if state.grey and self.constants.space == "rgb" else (0,)

    def _move(self, state: State, z: Floats, at: Integers, begin: Integers, width: Integers) -> None:
        """z_{t-1} = b z_t + c y in place, at the flat positions `at`, whose intervals are begin .. begin + width."""
        if state.step >= self.dithered:
            return
        c, channel = self.constants, at // state.low[0, 0].size
        y = np.ldexp((begin + width // 2).astype(np.float64), -FRACTION)
        x = (y - np.array(c.offset)[channel]) / np.array(c.scale)[channel]
        z[at] = c.b[state.step] * z[at] + c.c[state.step] * x

    def _settle(self, state: State, i: int, q: Question, low: NDArray[np.int32], high: NDArray[np.int32], z: Floats) -> None:
        """The intervals of coordinates that no symbol was needed for: those of one possible interval, and grey chroma, which is 0."""
        plane = state.low[0, 0].size
        rest = np.ones(len(z), bool)
        for twin in self._twins(state, plane):
            rest[q.asked + twin] = False
        at = np.flatnonzero(rest)
        if not len(at):
            return
        value = np.where((at >= plane) & self._colourless(state), 0, low[at]).astype(np.int64)
        width, dither = (a[at] for a in self._intervals(state, i))
        begin = dither + ((value << FRACTION) - dither) // width * width
        low[at] = np.maximum(_ceil(begin), low[at])
        high[at] = np.minimum(_ceil(begin + width) - 1, high[at])
        self._move(state, z, at, begin, width)

    def _colourless(self, state: State) -> bool:
        return state.grey and self.constants.space != "rgb"


class Tight(UniversallyQuantized):
    """Densities truncated to the boxes already known; the last step codes the integers themselves."""

    @property
    def chunks(self) -> int:
        """T."""
        return self.constants.steps

    @property
    def dithered(self) -> int:
        """T - 1: the last step's intervals are the integers."""
        return self.constants.steps - 1

    def mean(self, state: State) -> Floats:
        """Mean of the truncated logistic in each box: the posterior mean."""
        location, log2_scale = self.predict(state)
        scale = np.exp2(np.clip(log2_scale, tables.LOWEST_OCTAVE, tables.LOWEST_OCTAVE + (tables.LEVELS - 1) / tables.LEVELS_PER_OCTAVE))
        return truncated_mean(location, scale, state.low.astype(np.float64) - 0.5, state.high.astype(np.float64) + 0.5)

    def _question(self, state: State, i: int, location: Integers, level: Integers) -> Question:
        low, high = (a[i].reshape(-1).astype(np.int64) for a in (state.low, state.high))
        width, dither = self._intervals(state, i)
        asked = self._candidates(state)
        # A coordinate whose box lies in one interval is certain: nothing is asked of it.
        asked = asked[(((low << FRACTION) - dither) // width < ((high << FRACTION) - dither) // width)[asked]]
        return Question(asked, low[asked], high[asked], width[asked], dither[asked], location[asked], level[asked], _tight_rows)


class Paper(UniversallyQuantized):
    """Densities as published (eq. 3 and 7), every step dithered, and the pixels given z_0 as one more chunk."""

    @property
    def chunks(self) -> int:
        """T steps, and p(x | z_0)."""
        return self.constants.steps + 1

    @property
    def dithered(self) -> int:
        """T."""
        return self.constants.steps

    def question(self, state: State, part: int) -> list[Question]:
        """As `UniversallyQuantized.question`; after the T steps, the pixels given z_0, for which no network is needed."""
        if state.step < self.dithered:
            return super().question(state, part)
        return [self._pixels(state, i) for i in range(len(state.seeds))]

    def mean(self, state: State) -> Floats:
        """The clipped prediction itself, as published; at t = 0, where no network is trained, z_0 / alpha_0."""
        if state.step == self.dithered:
            return self._observed(state.z)
        lowest, highest = (np.array(bound[self.constants.space])[:, None, None] for bound in (colour.LOWEST, colour.HIGHEST))
        return np.clip(self.predict(state)[0], lowest, highest)

    def _observed(self, z: Floats) -> Floats:
        """z_0 / alpha_0 in pixel units."""
        c = self.constants
        scale, offset = (np.array(a, np.float64)[:, None, None] for a in (c.scale, c.offset))
        return z / c.alpha[-1] * scale + offset

    def _range(self, channel: Integers) -> tuple[Integers, Integers]:
        space = self.constants.space
        return np.array(colour.LOWEST[space], np.int64)[channel], np.array(colour.HIGHEST[space], np.int64)[channel]

    def _question(self, state: State, i: int, location: Integers, level: Integers) -> Question:
        # As published, a step does not use what earlier intervals exclude: its alphabet is what the pixel range allows.
        asked = self._candidates(state)
        low, high = self._range(asked // state.low[0, 0].size)
        width, dither = self._intervals(state, i)
        return Question(asked, low, high, width[asked], dither[asked], location[asked], level[asked], _paper_rows)

    def _pixels(self, state: State, i: int) -> Question:
        """p(x | z_0): a discretised normal around z_0 / alpha_0, over the few integers that its width and the dither reach.

        z_0 comes from stored constants and integers alone, so its position is the same float64 everywhere.
        """
        asked = self._candidates(state)
        channel = asked // state.low[0, 0].size
        position = np.rint(np.ldexp(self._observed(state.z[i : i + 1]).reshape(-1)[asked], 8)).astype(np.int64) << (FRACTION - 8)
        lowest, highest = self._range(channel)
        reach = np.array([int(np.ceil(4 * s)) + 2 for s in self.constants.pixel_spread], np.int64)[channel]
        middle = np.clip((position + ONE // 2) >> FRACTION, lowest, highest)
        low, high = np.maximum(lowest, middle - reach), np.minimum(highest, middle + reach)
        width, dither = (a[asked] for a in self._intervals(state, i))
        return Question(asked, low, high, width, dither, position, channel, self._pixel_rows)  # here `level` is the channel

    def _pixel_rows(self, q: Question, part: slice) -> Integers:
        k = int((q.high[part] - q.low[part]).max(initial=0)) + 1
        v = q.low[part][:, None] + np.arange(k)
        distance = np.abs((v << FRACTION) - q.location[part][:, None]) >> (FRACTION - 8)
        reach = int(np.ceil(4 * max(self.constants.pixel_spread))) + 3
        bells = np.stack([tables.normal(spread, reach) for spread in self.constants.pixel_spread])
        shares = bells[q.level[part][:, None], np.minimum(distance, bells.shape[1] - 1)]
        shares[v > q.high[part][:, None]] = 0
        f = np.concatenate([np.zeros((len(v), 1), np.int64), np.cumsum(shares, 1)], 1)
        return tables.masses(f, f[:, -1:])


def truncated_mean(location: Floats, scale: Floats, low: Floats, high: Floats) -> Floats:
    """Mean of a logistic truncated to [low, high]; all the same shape and unit.

    With a, b the ends in scales from the location: (b F(b) - a F(a) - log((1 + e^b) / (1 + e^a))) / (F(b) - F(a)). In a tail
    that quotient loses all digits; there the density is exponential, or flat if the box is narrow, and its mean is used.
    """
    a, b = (low - location) / scale, (high - location) / scale
    flip = a + b > 0  # work in the left half, where F is small and exact
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    a, b = np.maximum(a, -700.0), np.maximum(b, -690.0)
    with np.errstate(over="ignore"):
        fa, fb = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
    mass = fb - fa
    soft = np.logaddexp(0, b) - np.logaddexp(0, a)
    mean = (b * fb - a * fa - soft) / np.where(mass > 0, mass, 1)
    # Below about -12 scales the density is e^t up to 1e-5: the mean of an exponential cut to [a, b].
    span = b - a
    tail = b - 1 + span * np.exp(-span) / -np.expm1(-np.maximum(span, 1e-12))
    mean = np.where(b < -12, tail, mean)
    mean = np.where(span < 1e-3, (a + b) / 2, mean)
    mean = np.clip(mean, a, b)
    middle = location + scale * np.where(flip, -mean, mean)
    return np.clip(middle, low, high)
