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
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import randomness, tables
from uqdm.entropy.tables import FRACTION
from uqdm.errors import NumericsError
from uqdm.families import colour

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ONE = 1 << FRACTION


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


@dataclasses.dataclass(frozen=True)
class State:
    """What the receiver knows of a batch of N pictures after `step` chunks."""

    step: int
    z: Floats  # (N, C, H, W) z_t
    low: NDArray[np.int32]  # (N, C, H, W) the box: low <= v <= high
    high: NDArray[np.int32]
    seeds: tuple[int, ...]  # (N,)
    grey: bool


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


def _tight_rows(q: Question, part: slice) -> Integers:
    """The logistic truncated to the box, cut where intervals end: every integer v owns v - 1/2 .. v + 1/2."""
    low, high, first = q.low[part], q.high[part], q.first[part]
    k = int((q.last[part] - first).max(initial=0)) + 1
    start = q.dither[part] + first * q.width[part]
    cuts = _ceil(start[:, None] + np.arange(k + 1) * q.width[part][:, None])  # first integer of every interval
    cuts[:, 0] = low
    np.minimum(cuts, (high + 1)[:, None], out=cuts)
    return tables.truncated((cuts << FRACTION) - ONE // 2, q.location[part], q.level[part])


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


class Tight:
    """Densities truncated to the boxes already known; the last step codes the integers themselves."""

    name = "tight"

    def __init__(self, constants: Constants, denoiser: Denoiser) -> None:
        self.constants = constants
        self.denoiser = denoiser
        self._cache: tuple[State, tuple[Floats, Floats]] | None = None

    @property
    def chunks(self) -> int:
        """How many chunks a whole stream has."""
        return self.constants.steps

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> State:
        """Before the first chunk: z_T from the shared generator, v anywhere in its range.

        A grey picture is three equal channels: its chroma is known to be 0, or, without a colour transform, its channels
        share dither and symbols.
        """
        c = self.constants
        h, w = shape
        full = (len(seeds), 3, h, w)
        quantiles = np.array(c.prior, np.int64)
        index = np.stack([randomness.raw(seed, randomness.PRIOR, 3 * h * w) for seed in seeds]) >> np.uint32(33 - len(c.prior).bit_length())
        z = np.ldexp(quantiles[index].astype(np.float64), -16).reshape(full)
        low = np.broadcast_to(np.array(colour.LOWEST[c.space], np.int32)[:, None, None], full).copy()
        high = np.broadcast_to(np.array(colour.HIGHEST[c.space], np.int32)[:, None, None], full).copy()
        if grey and c.space != "rgb":
            low[:, 1:] = high[:, 1:] = 0
        return State(0, z, low, high, tuple(seeds), grey)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""
        return colour.forward(pixels, self.constants.space)

    def question(self, state: State) -> list[Question]:
        """What the next chunk asks, one record for each picture. The only place where the network's floats enter."""
        location, log2_scale = self.predict(state)
        if not (np.isfinite(location).all() and np.isfinite(log2_scale).all()):
            raise NumericsError(f"step {state.step + 1}: the network's output is not finite; nothing can be coded with this model here")
        width = self._widths(state.step)
        coarsest = np.array([int(w).bit_length() - 4 for w in width], np.int64)[:, None, None]  # at most an eighth of the width
        level = tables.nearest_level(log2_scale)
        grid = tables.on_grid(location, level, coarsest)
        return [self._question(state, i, grid[i], level[i]) for i in range(len(state.seeds))]

    def update(self, state: State, questions: Sequence[Question], answers: Sequence[Integers]) -> State:
        """What is known after the chunk: smaller boxes, and z_{t-1} = b z_t + c y (eq. 4). Answers may fall short."""
        c, n = self.constants, len(state.seeds)
        low, high, z = state.low.reshape(n, -1).copy(), state.high.reshape(n, -1).copy(), state.z.reshape(n, -1).copy()
        plane = state.low[0, 0].size
        for i, (q, symbols) in enumerate(zip(questions, answers)):
            got = slice(0, len(symbols))
            k = q.first[got] + symbols
            begin = q.dither[got] + k * q.width[got]
            at = q.asked[got]
            bottom, top = _ceil(begin), _ceil(begin + q.width[got]) - 1
            for shift in self._twins(state, plane):  # grey without colour transform: the other two channels know it too
                low[i, at + shift] = np.maximum(bottom, low[i, at + shift])
                high[i, at + shift] = np.minimum(top, high[i, at + shift])
                if state.step < c.steps:
                    channel = (at + shift) // plane
                    y = np.ldexp((begin + q.width[got] // 2).astype(np.float64), -FRACTION)
                    x = (y - np.array(c.offset)[channel]) / np.array(c.scale)[channel]
                    z[i, at + shift] = c.b[state.step] * z[i, at + shift] + c.c[state.step] * x
        if state.step < c.steps:
            self._settle(state, z, questions)
        shape = state.z.shape
        return State(state.step + 1, z.reshape(shape), low.reshape(shape), high.reshape(shape), state.seeds, state.grey)

    def predict(self, state: State) -> tuple[Floats, Floats]:
        """The network's suggestion after `state`, computed once for a preview and the next question."""
        if self._cache is None or self._cache[0] is not state:
            self._cache = (state, self.denoiser(state.step, state.z, state.low, state.high))
        return self._cache[1]

    def denoise(self, state: State) -> NDArray[np.uint8]:
        """The `denoise` reconstruction: the posterior mean given the state, inside the box. uint8 (N, 3, H, W)."""
        if state.step >= self.constants.steps:
            return colour.inverse(state.low, self.constants.space)
        return colour.preview(self._mean(state), self.constants.space)

    def flow(self, state: State) -> NDArray[np.uint8]:
        """The `flow` reconstruction: the probability-flow steps of eq. 17 to the end, clipped into the box.

        z moves by eq. 17; a box shrinks around the mean by the same factor as the noise.
        """
        c = self.constants
        if state.step >= c.steps:
            return colour.inverse(state.low, c.space)
        offset, scale = (np.array(a)[:, None, None] for a in (c.offset, c.scale))
        low, high, s = state.low.astype(np.float64), state.high.astype(np.float64), state
        for t in range(state.step, c.steps):
            mean = self._mean(s)
            x = (mean - offset) / scale
            ratio = c.sigma[t + 1] / c.sigma[t]
            z = c.alpha[t + 1] * x + ratio * (s.z - c.alpha[t] * x)
            if t + 1 == c.steps:
                return colour.preview(np.clip(mean, low, high), c.space)
            shrink = ratio * c.alpha[t] / c.alpha[t + 1]
            inner = np.rint(mean + shrink * (s.low - mean)), np.rint(mean + shrink * (s.high - mean))
            s = State(t + 1, z, inner[0].astype(np.int32), inner[1].astype(np.int32), s.seeds, s.grey)
        raise AssertionError("the loop returns at its last step")

    def _mean(self, state: State) -> Floats:
        """Mean of the truncated logistic in each box, pixel units."""
        location, log2_scale = self.predict(state)
        if state.grey and self.constants.space == "rgb":
            location, log2_scale = (np.repeat(a[:, 1:2], 3, 1) for a in (location, log2_scale))
        return truncated_mean(location, np.exp2(log2_scale), state.low.astype(np.float64) - 0.5, state.high.astype(np.float64) + 0.5)

    def _twins(self, state: State, plane: int) -> tuple[int, ...]:
        """Offsets of the channels that an answer settles, from the asked one (green, where all three are equal)."""
        return (-plane, 0, plane) if state.grey and self.constants.space == "rgb" else (0,)

    def _settle(self, state: State, z: Floats, questions: Sequence[Question]) -> None:
        """z_{t-1} of coordinates that no symbol was needed for: their interval is known as well."""
        c = self.constants
        plane = state.low[0, 0].size
        width = np.repeat(np.array(self._widths(state.step), np.int64), plane)
        for i, q in enumerate(questions):
            certain = np.ones(z.shape[1], bool)
            for shift in self._twins(state, plane):
                certain[q.asked + shift] = False
            at = np.flatnonzero(certain)
            if not len(at):
                continue
            dither = self._dither(state, i, width)[at]
            k = ((state.low[i].reshape(-1)[at].astype(np.int64) << FRACTION) - dither) // width[at]
            y = np.ldexp((dither + k * width[at] + width[at] // 2).astype(np.float64), -FRACTION)
            x = (y - np.array(c.offset)[at // plane]) / np.array(c.scale)[at // plane]
            z[i, at] = c.b[state.step] * z[i, at] + c.c[state.step] * x

    def _widths(self, step: int) -> tuple[int, ...]:
        """Widths of the chunk's intervals by channel; the last one's are single integers."""
        return (ONE,) * len(self.constants.scale) if step == self.constants.steps - 1 else self.constants.widths[step]

    def _dither(self, state: State, i: int, width: Integers) -> Integers:
        """Dither (C * H * W,) of picture i; none for the last chunk, whose intervals are the integers."""
        if state.step == self.constants.steps - 1:
            return np.zeros(len(width), np.int64)
        return self._shared(state, randomness.below(width, randomness.raw(state.seeds[i], state.step + 1, len(width))))

    def _shared(self, state: State, dither: Integers) -> Integers:
        if state.grey and self.constants.space == "rgb":
            return np.tile(dither[: len(dither) // 3], 3)
        return dither

    def _question(self, state: State, i: int, location: Integers, level: Integers) -> Question:
        plane = location[0].size
        low, high = (a[i].reshape(-1).astype(np.int64) for a in (state.low, state.high))
        width = np.repeat(np.array(self._widths(state.step), np.int64), plane)
        dither = self._dither(state, i, width)
        # A coordinate whose box lies in one interval is certain: nothing is asked of it.
        open_ = ((low << FRACTION) - dither) // width < ((high << FRACTION) - dither) // width
        asked = np.flatnonzero(self._askable(state, open_, plane))
        return self._record(asked, low, high, width, dither, location.reshape(-1), level.reshape(-1))

    def _askable(self, state: State, open_: NDArray[np.bool_], plane: int) -> NDArray[np.bool_]:
        if state.grey and self.constants.space == "rgb":
            open_[:plane] = open_[2 * plane :] = False
        return open_

    def _record(self, asked: Integers, *fields: Integers) -> Question:
        low, high, width, dither, location, level = (a[asked] for a in fields)
        return Question(asked, low, high, width, dither, location, level, _tight_rows)


class Paper(Tight):
    """Densities as published (eq. 3 and 7), every step dithered, and the pixels given z_0 as one more chunk."""

    name = "paper"

    @property
    def chunks(self) -> int:
        """T steps, and p(x | z_0)."""
        return self.constants.steps + 1

    def question(self, state: State) -> list[Question]:
        """As `Tight.question`; after the T steps, the pixels given z_0, for which no network is needed."""
        if state.step < self.constants.steps:
            return super().question(state)
        return [self._pixels(state, i) for i in range(len(state.seeds))]

    def denoise(self, state: State) -> NDArray[np.uint8]:
        """The clipped prediction itself, as published (the network at t = 0 is never trained: there, z_0 / alpha_0)."""
        if state.step > self.constants.steps:
            return colour.inverse(state.low, self.constants.space)
        return colour.preview(self._mean(state), self.constants.space)

    def flow(self, state: State) -> NDArray[np.uint8]:
        """As `Tight.flow`."""
        return self.denoise(state) if state.step >= self.constants.steps else super().flow(state)

    def _mean(self, state: State) -> Floats:
        c = self.constants
        if state.step == c.steps:
            return self._observed(state.z)
        lowest, highest = (np.array(bound[c.space])[:, None, None] for bound in (colour.LOWEST, colour.HIGHEST))
        location = self.predict(state)[0]
        if state.grey and c.space == "rgb":
            location = np.repeat(location[:, 1:2], 3, 1)
        return np.clip(location, lowest, highest)

    def _observed(self, z: Floats) -> Floats:
        c = self.constants
        scale, offset = (np.array(a, np.float64)[:, None, None] for a in (c.scale, c.offset))
        return z / c.alpha[-1] * scale + offset

    def _widths(self, step: int) -> tuple[int, ...]:
        return (ONE,) * len(self.constants.scale) if step == self.constants.steps else self.constants.widths[step]

    def _dither(self, state: State, i: int, width: Integers) -> Integers:
        return self._shared(state, randomness.below(width, randomness.raw(state.seeds[i], state.step + 1, len(width))))

    def _askable(self, state: State, open_: NDArray[np.bool_], plane: int) -> NDArray[np.bool_]:
        # As published, a step does not use what earlier intervals exclude: its alphabet is what the pixel range allows.
        return super()._askable(state, np.ones_like(open_), plane)

    def _record(self, asked: Integers, *fields: Integers) -> Question:
        _, _, width, dither, location, level = (a[asked] for a in fields)
        plane = len(fields[0]) // 3
        low, high = (np.array(bound[self.constants.space], np.int64)[asked // plane] for bound in (colour.LOWEST, colour.HIGHEST))
        return Question(asked, low, high, width, dither, location, level, _paper_rows)

    def _pixels(self, state: State, i: int) -> Question:
        """p(x | z_0): a discretised normal around z_0 / alpha_0, over the few integers that its width and the dither reach.

        z_0 comes from stored constants and integers alone, so its position is the same float64 everywhere.
        """
        c = self.constants
        plane = state.z[0, 0].size
        asked = np.arange(plane, 2 * plane) if state.grey and c.space == "rgb" else np.arange(3 * plane)
        channel = asked // plane
        position = np.rint(np.ldexp(self._observed(state.z[i : i + 1]).reshape(-1)[asked], 8)).astype(np.int64) << (FRACTION - 8)
        lowest, highest = (np.array(bound[c.space], np.int64)[channel] for bound in (colour.LOWEST, colour.HIGHEST))
        reach = np.array([int(np.ceil(4 * s)) + 2 for s in c.pixel_spread], np.int64)[channel]
        middle = np.clip((position + ONE // 2) >> FRACTION, lowest, highest)
        low, high = np.maximum(lowest, middle - reach), np.minimum(highest, middle + reach)
        width, dither = np.full(len(asked), ONE, np.int64), np.zeros(len(asked), np.int64)
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
