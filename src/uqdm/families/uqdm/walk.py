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
import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package, floats, tuples
from uqdm.entropy import randomness, tables
from uqdm.entropy.tables import FRACTION, LEVELS, LEVELS_PER_OCTAVE, LOWEST_OCTAVE, ONE, Cells
from uqdm.errors import LimitError, NumericsError, PackageError
from uqdm.families import colour, order
from uqdm.families.boxes import MOST_PRIORITY, Boxes, CellsQuestion, Integers, Question, ceil, drawn, errors, field, pieces, shown

Floats = NDArray[np.float64]
MAX_STEPS = 239  # what a file can hold
MARGIN = 2.0**-28  # of a grid's step: no float may lie so near a rounding boundary; 64-bit drift is a thousandth of it
OFFSETS = 256
FAR = 2.0**24  # no real number of the constants is larger, nor its reciprocal where it has one
MOST_SPREAD = 64.0  # pixel values of p(x | z_0)
MOST_QUANTILES = 1 << 16


class Denoiser(Protocol):
    """A network, whatever runs it."""

    exact: bool  # its results are integers, the same on every machine
    sees_z: bool
    mixed: bool  # trained also on states in the middle of a step

    def __call__(self, step: int, z: Floats | None, low: Boxes, high: Boxes) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the network suggests for step `step` (0 is the first): location and scale of a logistic for every coordinate.

        z (N, C, H, W): the latent z_t, for a network that sees it; low, high (N, C, H, W): the box known so far, ends included.
        Both results (N, C, H, W). Exact: int32 in 2**-16 pixel values, and uint8 scale levels (`entropy.tables`); else float64 in
        pixel values, and log2 of the scale in pixel values.
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
    priority: tuple[int, ...]  # (C,) added to a coordinate's scale level for its turn inside a step

    @property
    def steps(self) -> int:
        """T."""
        return len(self.b)

    def __post_init__(self) -> None:
        t, channels = len(self.b), 3
        sizes = {"alpha": t + 1, "sigma": t + 1, "c": t, "widths": t, "offset": channels, "scale": channels}
        sizes |= {"pixel_spread": channels, "priority": channels}
        for name, size in sizes.items():
            if len(getattr(self, name)) != size:
                raise PackageError(f"constant {name!r} has {len(getattr(self, name))} entries, expected {size} for T = {t}")
        if not isinstance(self.space, str) or self.space not in colour.LOWEST:
            raise PackageError(f"colour space {self.space!r}; expected one of {', '.join(colour.LOWEST)}")
        if not 1 <= t <= MAX_STEPS or not 2 <= len(self.prior) <= MOST_QUANTILES or len(self.prior) & (len(self.prior) - 1):
            raise PackageError(f"T = {t}, {len(self.prior)} quantiles; expected T of 1 .. {MAX_STEPS} and a power of two of quantiles")
        positive = [*self.alpha, *self.sigma, *self.scale, *self.pixel_spread]
        reals = [*positive, *self.b, *self.c, *self.offset]
        if not all(abs(v) <= FAR for v in reals) or min(positive) < 1 / FAR:  # not so of what is no number, either
            raise PackageError("the constants hold a value that is not finite or beyond 2**24, or a scale that is not positive")
        if any(a > b for a, b in itertools.pairwise(self.alpha)) or any(a < b for a, b in itertools.pairwise(self.sigma)):
            raise PackageError("alpha falls or sigma rises on the way to the picture; expected ever less noise")
        if max(self.pixel_spread) > MOST_SPREAD:
            raise PackageError(f"pixel_spread is {self.pixel_spread}; expected at most {MOST_SPREAD:g} pixel values")
        if any(len(row) != channels or not all(type(w) is int and 16 <= w < 2**31 for w in row) for row in self.widths):
            raise PackageError("a box width is not one of 16 .. 2**31 - 1 (in 2**-16 pixel values) for each channel: gamma reaches too far")
        if any(type(q) is not int or abs(q) >= 2**31 for q in self.prior):
            raise PackageError("a quantile of the prior is no integer below 2**31 in size")
        if any(type(p) is not int or abs(p) > MOST_PRIORITY for p in self.priority):
            raise PackageError(f"priorities {self.priority}: expected integers of at most {MOST_PRIORITY} in size")

    @classmethod
    def of(cls, model: Package) -> "Constants":
        """A package's stored constants. Raises `PackageError` where they are not those of this family."""
        stored = model.constants
        exact = {"alpha", "sigma", "b", "c", "offset", "scale", "pixel_spread"}
        try:
            found = cls(**{k: floats(v) if k in exact else v if k == "space" else tuples(v) for k, v in stored.items()})
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise PackageError(f"{model.name}: the constants are not those of the family 'uqdm': {error}") from None
        found._agree(model)
        return found

    def _agree(self, model: Package) -> None:
        """Raises `PackageError` where the network is one of other steps or coordinates: its bound would be another's."""
        steps = model.network.get("steps")
        if isinstance(steps, list) and len(steps) != self.steps:
            raise PackageError(f"{model.name}: constants for {self.steps} steps, networks for {len(steps)}")
        if model.network.get("kind") != "exact":
            return
        for i in range(self.steps):
            middle = model.weights.get(f"{i}.middle", np.zeros(0, np.int16)).tolist()
            if len(middle) != 3 or any(m and low < 0 for m, low in zip(middle, colour.LOWEST[self.space])):
                raise PackageError(f"{model.name}, step {i + 1}: middle is {middle}; expected 0 where {self.space} goes below 0")


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A network's output as integers, (N, C, H, W): location in 2**-16 pixel values, scale level. `side`: how they were rounded."""

    location: NDArray[np.int32]
    level: NDArray[np.uint8]
    side: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True)
class State:
    """What the receiver knows of a batch of N pictures after `step` chunks and `share` of the next one's symbols."""

    step: int
    low: Boxes  # (N, C, H, W) the box: low <= v <= high
    high: Boxes
    z: Floats | None  # (N, C, H, W) z_t, where something needs it
    seeds: tuple[int, ...]  # (N,)
    grey: bool
    share: int = 0  # in 2**-16
    suggested: list[Any] = dataclasses.field(default_factory=list, repr=False, compare=False)  # once the network ran for step `step`

    @property
    def cut(self) -> bool:
        """Whether it is a state in the middle of a chunk."""
        return self.share > 0


class TightQuestion(CellsQuestion):
    """Of mode `tight`."""

    def __init__(
        self, asked: NDArray[np.int32], dither: NDArray[np.int32], low: Boxes, high: Boxes, suggestion: tuple[Any, Any], width: Integers
    ):
        super().__init__(asked, dither)
        self._low, self._high, self._suggestion, self._width = low, high, suggestion, width  # (C * H * W,); widths (C,)

    def _cells(self, part: slice) -> Cells:
        at, dither = self.asked[part], self.dither[part].astype(np.int64)
        width = self._width[at // np.int32(len(self._low) // len(self._width))]
        low, high = self._low[at].astype(np.int32), self._high[at].astype(np.int32)
        start = ((low.astype(np.int64) << FRACTION) - dither) // width
        start *= width
        start += dither
        return Cells(low, high, start, width, self._suggestion[0][at].astype(np.int64), self._suggestion[1][at])


class PaperQuestion(Question):
    """Of mode `paper`: tables (M, K) of whole intervals, made by `rows`; intervals are counted from `first` (M,), up to `last`."""

    def __init__(self, asked: Any, dither: Any, width: Integers, first: Integers, last: Integers, rows: Any, middle: Integers) -> None:
        super().__init__(asked, dither)
        self.width, self.first, self.last, self._rows, self._middle = width, first, last, rows, middle

    def begin(self, part: slice) -> tuple[Integers, Integers]:
        """See `Question`."""
        width = self.width[part]
        return self.dither[part] + self.first[part] * width, width

    def children(self, part: slice) -> Integers:
        """(m,) how many symbols each in `part` has."""
        return (self.last - self.first)[part] + 1

    def table(self, part: slice) -> Integers:
        """Rows of masses of the symbols in `part`."""
        rows: Integers = self._rows(self, part)
        return rows

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """Symbols by chance. What a table leaves to values outside the range goes to the end that the density is nearer to."""
        found, span = drawn(self.table(part), chances), (self.last - self.first)[part]
        begin, width = self.begin(part)
        above = 2 * self._middle[part] >= 2 * begin + (span + 1) * width
        return np.where(found > span, np.where(above, span, 0), found)


class UniversallyQuantized:
    """What both entropy modes share: the forward process, the boxes, the previews. Implements `families.Family`."""

    bounded = True

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

    @property
    def keeps_z(self) -> bool:
        """Whether anything needs z."""
        return self.denoiser.sees_z

    @property
    def side_size(self) -> int:
        """A byte where floats are rounded: the offset of the grids, in 256ths of a step."""
        return 0 if self.denoiser.exact else 1

    # --- the walk

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> State:
        """Before the first chunk: z_T from the shared generator, v anywhere in its range.

        A grey picture is three equal channels. With a colour transform its chroma is known to be 0 and never asked for, but its boxes
        shrink as dither has it, so that the network sees what it was trained on. Without one, green is asked, and what it tells
        holds for all three, dither included.
        """
        c = self.constants
        h, w = shape
        if 3 * h * w >= 2**31:
            raise LimitError(f"{w} x {h} is {h * w:,} pixels; places of coordinates are numbers below 2**31: at most 715,827,882 pixels")
        full = (len(seeds), 3, h, w)
        z = None
        if self.keeps_z:
            quantiles = np.array(c.prior, np.int64)
            index = np.stack([randomness.raw(seed, randomness.PRIOR, 3 * h * w) for seed in seeds])
            index >>= np.uint32(33 - len(c.prior).bit_length())
            z = np.ldexp(quantiles[index].astype(np.float64), -16).reshape(full)
        low, high = (np.empty(full, np.int16) for _ in range(2))
        for channel, (lowest, highest) in enumerate(zip(colour.LOWEST[c.space], colour.HIGHEST[c.space])):
            low[:, channel], high[:, channel] = lowest, highest
        return State(0, low, high, z, tuple(seeds), grey)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""
        return colour.forward(pixels, self.constants.space)

    def side(self, state: State) -> list[bytes]:
        """For each picture the first offset (one byte) that leaves every float at least MARGIN from where its rounding changes.

        The one with the widest margin where there is none. Nothing for exact networks, and 0 for a chunk that asks no network.
        """
        if self.denoiser.exact:
            return [b""] * len(state.seeds)
        if state.step >= self.constants.steps:
            return [b"\0"] * len(state.seeds)
        location, log2_scale = self._outputs(state)
        chosen = []
        for one, other in zip(location, log2_scale):
            margins = []
            for offset in range(OFFSETS):
                margins.append(_margin(one, other, self._coarsest(state.step), offset))
                if margins[-1] >= MARGIN:
                    break
            chosen.append(bytes([int(np.argmax(margins))]))
        return chosen

    def parts(self, state: State) -> int:
        """How many questions a chunk holds: one for each run of its coordinates. One network call settles them all."""
        return order.runs(field(state.low))

    def question(self, state: State, part: int, side: Sequence[bytes]) -> list[Any]:
        """What part `part` of the next chunk asks, one record for each picture. Here the network's floats become integers."""
        suggestion = self.predict(state, side)
        location, level = (a.reshape(len(state.seeds), -1) for a in (suggestion.location, suggestion.level))
        where = order.run(field(state.low), part)
        return [self._question(state, i, part, where, location[i], level[i]) for i in range(len(state.seeds))]

    def update(self, state: State, part: int, questions: Sequence[Question], answers: Sequence[Integers]) -> State:
        """What is known after the answers: smaller boxes, and z_{t-1} = b z_t + c y (eq. 4). Answers may fall short.

        The state before a chunk stays as it is; between parts it is the walk's own and changes in place, or time would grow with
        the square of the pixels.
        """
        plane = state.low[0, 0].size
        low, high, z = state.low, state.high, state.z
        if part == 0:
            low, high, z = low.copy(), high.copy(), None if z is None else z.copy()
        for i, (q, symbols) in enumerate(zip(questions, answers)):
            lows, highs = low[i].reshape(-1), high[i].reshape(-1)
            for piece in pieces(len(symbols)):
                at = q.asked[piece]
                begin, width = q.begin(piece)
                begin = begin + symbols[piece] * width
                bottom, top = ceil(begin), ceil(begin + width) - 1  # beyond int16, where intervals are far wider than the range
                for twin in self._twins(state, plane):
                    # At last the symbol is the value, also where a `Paper` stream that was drawn by chance contradicts its boxes.
                    valued = state.step >= self.dithered
                    lows[at + twin] = bottom if valued else np.maximum(bottom, lows[at + twin])
                    highs[at + twin] = top if valued else np.minimum(top, highs[at + twin])
                    if z is not None:
                        self._move(state, z[i].reshape(-1), at + twin, begin, width)
            if len(symbols) == q.size:
                self._settle(state, i, part, q, lows, highs, None if z is None else z[i].reshape(-1))
        asked, got = sum(q.size for q in questions), sum(len(symbols) for symbols in answers)
        parts = self.parts(state)
        done = part == parts - 1 and got == asked
        share = 0 if done else max(1, ((part << 16) + (got << 16) // max(asked, 1)) // parts)
        left = [] if done else state.suggested
        return State(state.step + done, low, high, z, state.seeds, state.grey, share, left)

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
        if state.step >= c.steps or state.cut:
            return self.denoise(state)
        offset, scale = (np.array(a)[:, None, None] for a in (c.offset, c.scale))
        s = state
        for t in range(state.step, c.steps - 1):
            mean = self.mean(s).astype(np.int64)
            ratio = c.sigma[t + 1] / c.sigma[t]
            shrink = round(ratio * c.alpha[t] / c.alpha[t + 1] * ONE)
            low, high = (
                (mean + (((a.astype(np.int64) << FRACTION) - mean) * shrink >> FRACTION) + ONE // 2 >> FRACTION) for a in (s.low, s.high)
            )
            z = None
            if s.z is not None:
                x = (np.ldexp(mean.astype(np.float64), -FRACTION) - offset) / scale
                z = c.alpha[t + 1] * x + ratio * (s.z - c.alpha[t] * x)
            lowest, highest = (np.array(ends[c.space])[:, None, None] for ends in (colour.LOWEST, colour.HIGHEST))
            low, high = (np.clip(a, lowest, highest).astype(np.int16) for a in (low, high))  # networks are promised no other boxes
            s = State(t + 1, low, high, z, s.seeds, s.grey)
        # In the last step the noise that is left is below a pixel value: its end is the mean.
        bounds = (a.astype(np.int32) << FRACTION for a in (state.low, state.high))
        return self._shown(state, np.clip(self.mean(s), *bounds))

    def bound(self, state: State) -> list[int]:
        """For each picture, how far any pixel of a preview can be from the true one: previews lie in the boxes."""
        return errors(state.low, state.high, self.constants.space, self._colourless(state))

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """Before the first chunk, after it, ..., after the last: what the widths of intervals allow."""
        space, found = self.constants.space, [(255, 255, 255)]
        for step in range(self.chunks):
            spans = [-(-w // ONE) - 1 for w in self._widths(step)]
            limits = [high - low for low, high in zip(colour.LOWEST[space], colour.HIGHEST[space])]
            y, co, cg = (min(span, limit) for span, limit in zip(spans, limits))
            found.append((y,) * 3 if grey and space != "rgb" else colour.errors((y, co, cg), space))
        return found

    def predict(self, state: State, side: Sequence[bytes] | None = None) -> Suggestion:
        """The network's suggestion after `state`, made once for a preview and the next question.

        `side`: see `side`. None, for previews: in the middle of a step the suggestion that it was asked with, else one without offset.
        """
        exact = self.denoiser.exact
        if side is None and not (state.cut and state.suggested):
            side = (b"" if exact else b"\0",) * len(state.seeds)
        if state.suggested and isinstance(state.suggested[-1], Suggestion) and (side is None or state.suggested[-1].side == tuple(side)):
            return state.suggested[-1]
        assert side is not None, "a step that was begun was asked with a suggestion"
        location, scale = self._outputs(state)
        if not exact:
            location, scale = _rounded(location, scale, self._coarsest(state.step), side)
        found = Suggestion(location, scale, tuple(side))
        state.suggested.append(found)
        return found

    def mean(self, state: State) -> NDArray[np.int32]:
        """What `denoise` shows before rounding: (N, 3, H, W) positions in 2**-16."""
        raise NotImplementedError

    # --- details

    def _outputs(self, state: State) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the network gives after `state`; kept while the step lasts. Raises `NumericsError` where it is not finite."""
        if not state.suggested:
            location, scale = self.denoiser(state.step, state.z, state.low, state.high)
            if not self.denoiser.exact and not (np.isfinite(location).all() and np.isfinite(scale).all()):
                raise NumericsError(f"step {state.step + 1}: the network's output is not finite; nothing can be coded with this model here")
            if state.grey and self.constants.space == "rgb":
                location, scale = (np.repeat(a[:, 1:2], 3, 1) for a in (location, scale))
            if self.denoiser.exact:
                return location, scale
            state.suggested.append((location, scale))
        found: tuple[NDArray[Any], NDArray[Any]] = state.suggested[0]
        return found

    def _coarsest(self, step: int) -> Integers:
        """(C, 1, 1) the coarsest grid of locations: an eighth of the interval's width, as a power of two of 2**-16."""
        return np.array([int(w).bit_length() - 4 for w in self._widths(step)], np.int64)[:, None, None]

    def _shown(self, state: State, mean: NDArray[np.int32]) -> NDArray[np.uint8]:
        return shown(mean, state.low, state.high, self.constants.space, self._colourless(state))

    def _question(self, state: State, i: int, part: int, where: NDArray[np.int32], location: Any, level: Any) -> Question:
        raise NotImplementedError

    def _widths(self, step: int) -> tuple[int, ...]:
        """Widths of the chunk's intervals by channel; single integers where there is no dither."""
        return self.constants.widths[step] if step < self.dithered else (ONE,) * 3

    def _dither(self, state: State, i: int, part: int, count: int, channel: int) -> NDArray[np.int32]:
        """(count,) dithers of one channel of a run."""
        if state.step >= self.dithered:
            return np.zeros(count, np.int32)
        if state.grey and self.constants.space == "rgb":
            channel = 1
        begin = channel * state.low[0, 0].size + part * order.RUN
        width = self._widths(state.step)[channel]
        return randomness.below(width, randomness.raw(state.seeds[i], state.step + 1, count, begin)).astype(np.int32)

    def _channels(self, state: State) -> tuple[int, ...]:
        """Channels that a chunk may ask for."""
        if not state.grey:
            return (0, 1, 2)
        return (1,) if self.constants.space == "rgb" else (0,)

    def _twins(self, state: State, plane: int) -> tuple[int, ...]:
        """Offsets from an asked coordinate to those that its answer settles."""
        return (-plane, 0, plane) if state.grey and self.constants.space == "rgb" else (0,)

    def _turns(self, level: NDArray[np.uint8], channel: int) -> NDArray[np.uint8]:
        """Priorities 1 .. 255 from scale levels: the most uncertain first."""
        return level + np.uint8(self.constants.priority[channel] + MOST_PRIORITY + 1)

    def _order(self, turns: NDArray[np.uint8], where: NDArray[np.int32]) -> NDArray[np.int64]:
        """Places in `turns` (channels, M) in coding order; those with turn 0 are left out. where (M,): their flat positions."""
        return order.by_priority(turns.reshape(-1))

    def _move(self, state: State, z: Floats, at: NDArray[Any], begin: Integers, width: Integers) -> None:
        """z_{t-1} = b z_t + c y in place, at the flat positions `at`, whose intervals are begin .. begin + width."""
        if state.step >= self.dithered:
            return
        c, channel = self.constants, at // state.low[0, 0].size
        y = np.ldexp((begin + width // 2).astype(np.float64), -FRACTION)
        x = (y - np.array(c.offset)[channel]) / np.array(c.scale)[channel]
        z[at] = c.b[state.step] * z[at] + c.c[state.step] * x

    def _settle(self, state: State, i: int, part: int, q: Question, low: Boxes, high: Boxes, z: Floats | None) -> None:
        """The intervals of coordinates that no symbol was needed for: those of one possible interval, and grey chroma, which is 0.

        A box that lies in one interval stays as it is, so only z and chroma have anything to learn.
        """
        colourless = self._colourless(state)
        if z is None and not colourless:
            return
        plane = state.low[0, 0].size
        where = order.run(field(state.low), part)
        rest = np.ones(len(low), bool)
        for twin in self._twins(state, plane):
            rest[q.asked + twin] = False
        for channel in range(3):
            at = where + np.int32(channel * plane)
            kept = rest[at]
            dither = self._dither(state, i, part, len(at), channel)[kept].astype(np.int64)
            at = at[kept]
            value = np.zeros(len(at), np.int64) if channel and colourless else low[at].astype(np.int64)
            width = np.int64(self._widths(state.step)[channel])
            begin = dither + ((value << FRACTION) - dither) // width * width
            low[at] = np.maximum(ceil(begin), low[at])
            high[at] = np.minimum(ceil(begin + width) - 1, high[at])
            if z is not None:
                self._move(state, z, at, begin, np.full(len(at), width))

    def _colourless(self, state: State) -> bool:
        return state.grey and self.constants.space != "rgb"


def _levels(log2_scale: Floats, offset: float) -> Floats:
    """Scale levels before rounding: eight to the octave."""
    return (log2_scale - LOWEST_OCTAVE) * LEVELS_PER_OCTAVE + offset


def _nearest(levels: Floats) -> Integers:
    return np.clip(np.rint(levels), 0, LEVELS - 1).astype(np.int64)


def _on_grid(location: Floats, level: Integers, coarsest: Integers, offset: float) -> tuple[Floats, Integers]:
    """Locations in steps of their grids, before rounding, and the steps as powers of two of 2**-16 pixel values.

    A grid of an eighth of the scale's octave (at most 2**coarsest) costs almost no bits, and keeps the chance that two machines
    round a float to different sides in proportion to their drift.
    """
    step = np.minimum(level // LEVELS_PER_OCTAVE + (LOWEST_OCTAVE + FRACTION - 3), coarsest)
    bounded = np.clip(location, -(2.0**13), 2.0**13)
    return np.ldexp(bounded, (FRACTION - step).astype(np.int32)) + offset, step


def _margin(location: Floats, log2_scale: Floats, coarsest: Integers, offset: int) -> float:
    """How near the nearest value comes to where its rounding changes, in steps of its grid; 0 .. 1/2."""
    levels = _levels(log2_scale, offset / OFFSETS)
    positions, _ = _on_grid(location, _nearest(levels), coarsest, offset / OFFSETS)
    return min(float(np.abs(a - np.floor(a) - 0.5).min()) for a in (levels, positions))


def _rounded(
    location: Floats, log2_scale: Floats, coarsest: Integers, side: Sequence[bytes]
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Floats (N, C, H, W) to integers, each picture with its offset."""
    locations, levels = np.empty(location.shape, np.int32), np.empty(location.shape, np.uint8)
    for i, one in enumerate(side):
        level = _nearest(_levels(log2_scale[i], one[0] / OFFSETS))
        positions, step = _on_grid(location[i], level, coarsest, one[0] / OFFSETS)
        # The rounding's boundaries move, its values hardly: what the offset adds is taken off again.
        locations[i] = (np.rint(positions).astype(np.int64) << step) - ((one[0] << step) // OFFSETS)
        levels[i] = level
    return locations, levels


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

    def mean(self, state: State) -> NDArray[np.int32]:
        """Mean of the truncated logistic in each box: the posterior mean.

        In the middle of a step the boxes are of two kinds. The density that the step began with knows nothing of its symbols but where
        they fell; a network that was trained on such states, asked as if the step were over, sees them all but is worse where few
        have come. So the two are blended by the share received. In the first step, whose density knows nothing at all, the
        network's word is taken alone.
        """
        own = None
        if not state.cut or state.step > 0 or not self._sees_mixed(state):
            suggestion = self.predict(state)
            own = tables.mean(suggestion.location, suggestion.level, state.low, state.high)
        if own is not None and not self._sees_mixed(state):
            return own
        suggestion = self.predict(dataclasses.replace(state, step=state.step + 1, share=0, suggested=[]))
        mixed = tables.mean(suggestion.location, suggestion.level, state.low, state.high)
        if own is None:
            return mixed
        own += ((mixed - own).astype(np.int64) * state.share >> 16).astype(np.int32)
        return own

    def _sees_mixed(self, state: State) -> bool:
        """Whether a network can be asked about a state in the middle of a step."""
        return state.cut and self.denoiser.mixed and state.step + 1 < self.chunks

    def _question(self, state: State, i: int, part: int, where: NDArray[np.int32], location: Any, level: Any) -> TightQuestion:
        low, high = state.low[i].reshape(-1), state.high[i].reshape(-1)
        widths = np.array(self._widths(state.step), np.int64)
        plane, channels = len(low) // 3, self._channels(state)
        at, dither = (np.empty((len(channels), len(where)), np.int32) for _ in range(2))
        turn = np.empty((len(channels), len(where)), np.uint8)
        for row, channel in enumerate(channels):
            np.add(where, np.int32(channel * plane), out=at[row])
            dither[row] = self._dither(state, i, part, len(where), channel)
            for piece in pieces(len(where)):
                places = at[row, piece]
                bottom, top = low[places], high[places]
                if state.step < self.dithered:  # else intervals are single integers
                    shift = dither[row, piece].astype(np.int64)
                    bottom = ((bottom.astype(np.int64) << FRACTION) - shift) // widths[channel]
                    top = ((top.astype(np.int64) << FRACTION) - shift) // widths[channel]
                # A coordinate whose box lies in one interval is certain: nothing is asked of it.
                turn[row, piece] = self._turns(level[places], channel) * (bottom < top)
        ordered = self._order(turn, where)
        return TightQuestion(at.reshape(-1)[ordered], dither.reshape(-1)[ordered], low, high, (location, level), widths)


class Paper(UniversallyQuantized):
    """Densities as published (eq. 3 and 7), every step dithered, and the pixels given z_0 as one more chunk."""

    bounded = False

    @property
    def chunks(self) -> int:
        """T steps, and p(x | z_0)."""
        return self.constants.steps + 1

    @property
    def dithered(self) -> int:
        """T."""
        return self.constants.steps

    @property
    def keeps_z(self) -> bool:
        """The last chunk needs z_0."""
        return True

    def question(self, state: State, part: int, side: Sequence[bytes]) -> list[Any]:
        """As `UniversallyQuantized.question`; after the T steps, the pixels given z_0, for which no network is needed."""
        if state.step < self.dithered:
            return super().question(state, part, side)
        where = order.run(field(state.low), part)
        return [self._pixels(state, i, where) for i in range(len(state.seeds))]

    def mean(self, state: State) -> NDArray[np.int32]:
        """The clipped prediction itself, as published; at t = 0, where no network is trained, z_0 / alpha_0.

        In the middle of a step, the density that it began with in the boxes known by now.
        """
        if state.cut and state.step < self.dithered:
            suggestion = self.predict(state)
            return tables.mean(suggestion.location, suggestion.level, state.low, state.high)
        lowest, highest = (
            np.array(bound[self.constants.space], np.int32)[:, None, None] << FRACTION for bound in (colour.LOWEST, colour.HIGHEST)
        )
        if state.step == self.dithered:
            observed = np.rint(np.ldexp(np.clip(self._observed(state.z), -(2.0**13), 2.0**13), FRACTION)).astype(np.int32)
            bounds = (a.astype(np.int32) << FRACTION for a in (state.low, state.high))
            return np.clip(observed, *bounds)
        return np.clip(self.predict(state).location, lowest, highest)

    def bound(self, state: State) -> list[int]:
        """Where the prediction is shown as published, nothing holds it in the boxes."""
        return super().bound(state) if state.cut or state.step >= self.dithered else [255] * len(state.seeds)

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """Nothing before the end."""
        return [(255, 255, 255)] * self.chunks + [(0, 0, 0)]

    def _observed(self, z: Floats | None) -> Floats:
        """z_0 / alpha_0 in pixel units."""
        assert z is not None
        c = self.constants
        scale, offset = (np.array(a, np.float64)[:, None, None] for a in (c.scale, c.offset))
        return z / c.alpha[-1] * scale + offset

    def _candidates(self, state: State, i: int, where: NDArray[np.int32], part: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Flat positions and dithers of what a chunk asks for, channel by channel."""
        plane, channels = state.low[0, 0].size, self._channels(state)
        at = np.concatenate([where + np.int32(channel * plane) for channel in channels])
        return at, np.concatenate([self._dither(state, i, part, len(where), channel) for channel in channels])

    def _range(self, channel: Integers) -> tuple[Integers, Integers]:
        space = self.constants.space
        return np.array(colour.LOWEST[space], np.int64)[channel], np.array(colour.HIGHEST[space], np.int64)[channel]

    def _question(self, state: State, i: int, part: int, where: NDArray[np.int32], location: Any, level: Any) -> PaperQuestion:
        # As published, a step does not use what earlier intervals exclude: its alphabet is what the pixel range allows.
        at, dither = self._candidates(state, i, where, part)
        channel = (at // state.low[0, 0].size).astype(np.int64)
        turn = np.concatenate([self._turns(level[at[channel == c]], c) for c in self._channels(state)])
        ordered = self._order(turn.reshape(-1, len(where)), where)
        at, dither, channel = at[ordered], dither[ordered], channel[ordered]
        width = np.array(self._widths(state.step), np.int64)[channel]
        first, last = (((a << FRACTION) - dither) // width for a in self._range(channel))
        middle = location[at].astype(np.int64)

        def rows(q: PaperQuestion, part: slice) -> Integers:
            """The logistic's mass in each whole interval; what lies beyond the pixel range is left to the row's end, never sent."""
            begin, width = q.begin(part)
            span = (q.last - q.first)[part][:, None] + 1
            if span.max(initial=0) > tables.MOST:  # before room is made for them
                raise tables.too_many(int(span.max()))
            edges = begin[:, None] + np.minimum(np.arange(int(span.max(initial=0)) + 1), span) * width[:, None]
            f = tables.cdf(edges, middle[part][:, None], level[at[part]].astype(np.int64)[:, None])
            f -= f[:, :1].copy()
            return tables.masses(f, 1 << tables.CDF_BITS)

        return PaperQuestion(at, dither, width, first, last, rows, middle)

    def _pixels(self, state: State, i: int, where: NDArray[np.int32]) -> PaperQuestion:
        """p(x | z_0): a discretised normal around z_0 / alpha_0, over the few integers that its width and the dither reach.

        z_0 comes from stored constants and integers alone, so its position is the same float64 everywhere.
        """
        at, dither = self._candidates(state, i, where, 0)
        channel = (at // state.low[0, 0].size).astype(np.int64)
        assert state.z is not None
        position = np.rint(np.ldexp(self._observed(state.z[i : i + 1]).reshape(-1)[at], 8)).astype(np.int64) << (FRACTION - 8)
        lowest, highest = self._range(channel)
        reach = np.array([int(np.ceil(4 * s)) + 2 for s in self.constants.pixel_spread], np.int64)[channel]
        middle = np.clip((position + ONE // 2) >> FRACTION, lowest, highest)
        low, high = np.maximum(lowest, middle - reach), np.minimum(highest, middle + reach)

        def rows(q: PaperQuestion, part: slice) -> Integers:
            k = int((high[part] - low[part]).max(initial=0)) + 1
            v = low[part][:, None] + np.arange(k)
            distance = np.abs((v << FRACTION) - position[part][:, None]) >> (FRACTION - 8)
            reach = int(np.ceil(4 * max(self.constants.pixel_spread))) + 3
            bells = np.stack([tables.normal(spread, reach) for spread in self.constants.pixel_spread])
            shares = bells[channel[part][:, None], np.minimum(distance, bells.shape[1] - 1)]
            shares[v > high[part][:, None]] = 0
            f = np.concatenate([np.zeros((len(v), 1), np.int64), np.cumsum(shares, 1)], 1)
            return tables.masses(f, f[:, -1:])

        return PaperQuestion(at, dither, np.full(len(at), ONE, np.int64), low, high, rows, position)
