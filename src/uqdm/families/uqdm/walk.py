"""Universally quantized diffusion (Yang, Will, Mandt, ICLR 2025) as a walk over integers: what both
entropy modes share. Knows nothing of bytes.

Coordinates are integers v: pixel values, or those of a reversible colour transform. The paper's x
is (v - offset) / scale. Dividing eq. 4 by c(t) puts a step on the pixel axis: the receiver learns

    y = (z_{t-1} - b(t) z_t) / c(t) = x + uniform noise of width w,      w = Delta(t) / c(t),

by universal quantization (section 2). With a shared dither d, the symbol is k = floor((v - d) / w),
and y is the middle of the interval d + k w .. d + (k + 1) w, in which v is now known to lie.

Widths, dithers and intervals are integers in units of 2**-16 pixel values, so both ends agree on
them exactly. z_{t-1} = b z_t + c y is computed from stored constants with plain IEEE operations. It
only ever feeds the network.

The two modes, `tight.py` and `paper.py`, spend bits on k in different ways. Both are driven by the
location and scale that the network suggests.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import randomness
from uqdm.entropy.tables import FRACTION, ONE
from uqdm.errors import NumericsError
from uqdm.exact.features import Boxes
from uqdm.families import colour, order
from uqdm.families.boxes import MOST_PRIORITY, Integers, Question, ceil, errors, everything, field, pieces, shown
from uqdm.families.uqdm import rounding
from uqdm.families.uqdm.constants import UqdmConstants
from uqdm.families.uqdm.rounding import Floats, Suggestion


class Denoiser(Protocol):
    """A network, whatever runs it."""

    exact: bool  # its results are integers, the same on every machine
    sees_z: bool
    mixed: bool  # trained also on states in the middle of a step

    def __call__(self, step: int, z: Floats | None, low: Boxes, high: Boxes) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the network suggests for step `step` (0 is the first): location and scale of a
        logistic for every coordinate.

        z (N, C, H, W): the latent z_t, for a network that sees it; low, high (N, C, H, W): the box
        known so far, ends included. Both results (N, C, H, W). Exact: int32 in 2**-16 pixel values,
        and uint8 scale levels (`entropy.tables`); else float64 in pixel values, and log2 of the
        scale in pixel values.
        """


@dataclasses.dataclass
class UqdmHeard:
    """What the network said of the step that comes next; kept while that step lasts."""

    floats: tuple[Floats, Floats] | None = None  # location and log2 of the scale, before rounding
    suggestion: Suggestion | None = None


@dataclasses.dataclass(frozen=True)
class UqdmState:
    """What the receiver knows of a batch of N pictures after `step` chunks and `share` of the next
    one's symbols.
    """

    step: int
    low: Boxes  # (N, C, H, W) the box: low <= v <= high
    high: Boxes
    z: Floats | None  # (N, C, H, W) z_t, where something needs it
    seeds: tuple[int, ...]  # (N,)
    grey: bool
    share: int = 0  # in 2**-16
    heard: UqdmHeard = dataclasses.field(default_factory=UqdmHeard, repr=False, compare=False)

    @property
    def cut(self) -> bool:
        """Whether it is a state in the middle of a chunk."""
        return self.share > 0


class UniversallyQuantized:
    """What both entropy modes share: the forward process, the boxes, the previews. Implements
    `families.base.Walk`.
    """

    bounded = True
    measured = False

    def __init__(self, constants: UqdmConstants, denoiser: Denoiser) -> None:
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

    def reduced(self, halvings: int) -> None:
        """Every pixel is told by itself."""
        return None

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> UqdmState:
        """Before the first chunk: z_T from the shared generator, v anywhere in its range.

        A grey picture is three equal channels. With a colour transform its chroma is known to be 0
        and never asked for, but its boxes shrink as dither has it, so that the network sees what it
        was trained on. Without one, green is asked, and what it tells holds for all three, dither
        included.
        """
        c = self.constants
        low, high = everything(len(seeds), shape, c.space)
        z = None
        if self.keeps_z:
            quantiles = np.array(c.prior, np.int64)
            index = np.stack([randomness.raw(seed, randomness.PRIOR, low[0].size) for seed in seeds])
            index >>= np.uint32(33 - len(c.prior).bit_length())
            z = np.ldexp(quantiles[index].astype(np.float64), -16).reshape(low.shape)
        return UqdmState(0, low, high, z, tuple(seeds), grey)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""
        return colour.forward(pixels, self.constants.space)

    def side(self, state: UqdmState) -> list[bytes]:
        """For each picture how its floats are rounded (`rounding.chosen`).

        Nothing for exact networks, and 0 for a chunk that asks no network.
        """
        if self.denoiser.exact:
            return [b""] * len(state.seeds)
        if state.step >= self.constants.steps:
            return [b"\0"] * len(state.seeds)
        grid = rounding.coarsest(self._widths(state.step))
        return [rounding.chosen(*one, grid) for one in zip(*self._outputs(state))]

    def parts(self, state: UqdmState) -> int:
        """How many questions a chunk holds: one for each run of its coordinates. One network call
        settles them all.
        """
        return order.runs(field(state.low))

    def question(self, state: UqdmState, part: int, side: Sequence[bytes]) -> list[Any]:
        """What part `part` of the next chunk asks, one record for each picture. Here the network's
        floats become integers.
        """
        suggestion = self.predict(state, side)
        location, level = (a.reshape(len(state.seeds), -1) for a in (suggestion.location, suggestion.level))
        where = order.run(field(state.low), part)
        return [self._question(state, i, part, where, location[i], level[i]) for i in range(len(state.seeds))]

    def update(
        self, state: UqdmState, part: int, questions: Sequence[Question], answers: Sequence[Integers]
    ) -> UqdmState:
        """What is known after the answers: smaller boxes, and z_{t-1} = b z_t + c y (eq. 4).
        Answers may fall short.

        The state before a chunk stays as it is; between parts it is the walk's own and changes in
        place, or time would grow with the square of the pixels.
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
                # Beyond int16, where intervals are far wider than the range.
                bottom, top = ceil(begin), ceil(begin + width) - 1
                for twin in self._twins(state, plane):
                    # At last the symbol is the value, also where a `Paper` stream that was drawn by
                    # chance contradicts its boxes.
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
        return UqdmState(
            state.step + done, low, high, z, state.seeds, state.grey, share, UqdmHeard() if done else state.heard
        )

    # --- previews

    def denoise(self, state: UqdmState) -> NDArray[np.uint8]:
        """The `denoise` reconstruction: what the network makes of the state. uint8 (N, 3, H, W);
        exact at the end.
        """
        if state.step >= self.chunks:
            return colour.inverse(state.low, self.constants.space)
        return self._shown(state, self.mean(state))

    def flow(self, state: UqdmState) -> NDArray[np.uint8]:
        """The `flow` reconstruction: the probability-flow steps of eq. 17 to the end, clipped into
        the box.

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
                (mean + (((a.astype(np.int64) << FRACTION) - mean) * shrink >> FRACTION) + ONE // 2 >> FRACTION)
                for a in (s.low, s.high)
            )
            z = None
            if s.z is not None:
                x = (np.ldexp(mean.astype(np.float64), -FRACTION) - offset) / scale
                z = c.alpha[t + 1] * x + ratio * (s.z - c.alpha[t] * x)
            lowest, highest = (np.array(ends[c.space])[:, None, None] for ends in (colour.LOWEST, colour.HIGHEST))
            # Networks are promised no other boxes.
            low, high = (np.clip(a, lowest, highest).astype(np.int16) for a in (low, high))
            s = UqdmState(t + 1, low, high, z, s.seeds, s.grey)
        # In the last step the noise that is left is below a pixel value: its end is the mean.
        bounds = (a.astype(np.int32) << FRACTION for a in (state.low, state.high))
        return self._shown(state, np.clip(self.mean(s), *bounds))

    def bound(self, state: UqdmState) -> list[int]:
        """For each picture, how far any pixel of a preview can be from the true one: previews lie
        in the boxes.
        """
        return errors(state.low, state.high, self.constants.space, self._colourless(state))

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """Before the first chunk, after it, ..., after the last: what the widths of intervals
        allow.
        """
        space, found = self.constants.space, [(255, 255, 255)]
        for step in range(self.chunks):
            spans = [-(-w // ONE) - 1 for w in self._widths(step)]
            limits = [high - low for low, high in zip(colour.LOWEST[space], colour.HIGHEST[space])]
            y, co, cg = (min(span, limit) for span, limit in zip(spans, limits))
            found.append((y,) * 3 if grey and space != "rgb" else colour.errors((y, co, cg), space))
        return found

    def predict(self, state: UqdmState, side: Sequence[bytes] | None = None) -> Suggestion:
        """The network's suggestion after `state`, made once for a preview and the next question.

        `side`: see `side`. None, for previews: in the middle of a step the suggestion that it was
        asked with, else one without offset.
        """
        exact, found = self.denoiser.exact, state.heard.suggestion
        if side is None and not (state.cut and found):
            side = (b"" if exact else b"\0",) * len(state.seeds)
        if found is not None and (side is None or found.side == tuple(side)):
            return found
        assert side is not None
        location, scale = self._outputs(state)
        if not exact:
            location, scale = rounding.rounded(location, scale, rounding.coarsest(self._widths(state.step)), side)
        state.heard.suggestion = Suggestion(location, scale, tuple(side))
        return state.heard.suggestion

    def mean(self, state: UqdmState) -> NDArray[np.int32]:
        """What `denoise` shows before rounding: (N, 3, H, W) positions in 2**-16."""
        raise NotImplementedError

    # --- details

    def _outputs(self, state: UqdmState) -> tuple[NDArray[Any], NDArray[Any]]:
        """What the network gives after `state`; kept while the step lasts. Raises `NumericsError`
        where it is not finite.
        """
        if state.heard.floats is not None:
            return state.heard.floats
        location, scale = self.denoiser(state.step, state.z, state.low, state.high)
        exact = self.denoiser.exact
        if not exact and not (np.isfinite(location).all() and np.isfinite(scale).all()):
            raise NumericsError(
                f"step {state.step + 1}: the network's output is not finite; nothing can be coded with this model here"
            )
        if state.grey and self.constants.space == "rgb":
            location, scale = (np.repeat(a[:, 1:2], 3, 1) for a in (location, scale))
        if not exact:
            state.heard.floats = location, scale
        return location, scale

    def _shown(self, state: UqdmState, mean: NDArray[np.int32]) -> NDArray[np.uint8]:
        return shown(mean, state.low, state.high, self.constants.space, self._colourless(state))

    def _question(
        self, state: UqdmState, i: int, part: int, where: NDArray[np.int32], location: Any, level: Any
    ) -> Question:
        raise NotImplementedError

    def _widths(self, step: int) -> tuple[int, ...]:
        """Widths of the chunk's intervals by channel; single integers where there is no dither."""
        return self.constants.widths[step] if step < self.dithered else (ONE,) * 3

    def _dither(self, state: UqdmState, i: int, part: int, count: int, channel: int) -> NDArray[np.int32]:
        """(count,) dithers of one channel of a run."""
        if state.step >= self.dithered:
            return np.zeros(count, np.int32)
        if state.grey and self.constants.space == "rgb":
            channel = 1
        begin = channel * state.low[0, 0].size + part * order.RUN
        width = self._widths(state.step)[channel]
        return randomness.below(width, randomness.raw(state.seeds[i], state.step + 1, count, begin)).astype(np.int32)

    def _channels(self, state: UqdmState) -> tuple[int, ...]:
        """Channels that a chunk may ask for."""
        if not state.grey:
            return (0, 1, 2)
        return (1,) if self.constants.space == "rgb" else (0,)

    def _twins(self, state: UqdmState, plane: int) -> tuple[int, ...]:
        """Offsets from an asked coordinate to those that its answer settles."""
        return (-plane, 0, plane) if state.grey and self.constants.space == "rgb" else (0,)

    def _turns(self, level: NDArray[np.uint8], channel: int) -> NDArray[np.uint8]:
        """Priorities 1 .. 255 from scale levels: the most uncertain first."""
        return level + np.uint8(self.constants.priority[channel] + MOST_PRIORITY + 1)

    def _order(self, turns: NDArray[np.uint8], where: NDArray[np.int32]) -> NDArray[np.int64]:
        """Places in `turns` (channels, M) in coding order; those with turn 0 are left out. where
        (M,): their flat positions.
        """
        return order.by_priority(turns.reshape(-1))

    def _move(self, state: UqdmState, z: Floats, at: NDArray[Any], begin: Integers, width: Integers) -> None:
        """z_{t-1} = b z_t + c y in place, at the flat positions `at`, whose intervals are
        begin .. begin + width.
        """
        if state.step >= self.dithered:
            return
        c, channel = self.constants, at // state.low[0, 0].size
        y = np.ldexp((begin + width // 2).astype(np.float64), -FRACTION)
        x = (y - np.array(c.offset)[channel]) / np.array(c.scale)[channel]
        z[at] = c.b[state.step] * z[at] + c.c[state.step] * x

    def _settle(
        self, state: UqdmState, i: int, part: int, q: Question, low: Boxes, high: Boxes, z: Floats | None
    ) -> None:
        """The intervals of coordinates that no symbol was needed for: those of one possible
        interval, and grey chroma, which is 0.

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

    def _colourless(self, state: UqdmState) -> bool:
        return state.grey and self.constants.space != "rgb"
