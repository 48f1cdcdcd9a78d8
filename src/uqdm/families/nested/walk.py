"""Nested universal quantization as a walk over integers; knows nothing of bytes. `torch/model.py`
and `docs/nested.md` say what it is.

Coordinates are integers v of YCoCg-R. Both ends draw one offset o for each, uniform on
0 .. w_1 - 1. Its cell at level k is the interval of w_k integers o + j w_k .. o + (j + 1) w_k - 1
that holds v. Step k, which is a chunk, tells in which child of its parent's cell v lies, under a
mixture of logistics truncated to the parent. The last step's cells are single integers.

Every number here is an integer. Networks are exact, so nothing has to be told besides symbols, and
every preview is the same everywhere.

A step's coordinates go in four passes, the phases of 2 x 2 pixels. A pass's network sees what the
passes before it told. Inside a pass the most uncertain coordinates come first.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package, tuples
from uqdm.entropy import randomness, tables
from uqdm.entropy.tables import FRACTION, Cells
from uqdm.errors import PackageError
from uqdm.exact.features import Boxes
from uqdm.families import colour, order
from uqdm.families.boxes import MOST_PRIORITY, CellsQuestion, Integers, errors, everything, field, pieces, shown
from uqdm.families.nested.networks import PHASES, NestedMixture, phase

SPACE = "ycocg-r"
DITHER = 1  # stream of the offsets
MAX_STEPS = 240
MAX_WIDTH = 4096


class Networks(Protocol):
    """A model's networks, whatever runs them. Boxes are int16 (N, C, H, W), ends included."""

    exact: bool

    def trunk(self, step: int, low: Boxes, high: Boxes) -> Any:
        """What the passes of a step share, from the boxes before it."""

    def mixture(self, step: int, number: int, trunk: Any, low: Boxes, high: Boxes) -> NestedMixture:
        """Of pass `number`, from the boxes as they are by then: J logistics for every coordinate of
        its phase.
        """


@dataclasses.dataclass(frozen=True)
class NestedConstants:
    """What the arithmetic needs besides networks, as the package stores it. T steps, C = 3
    channels.
    """

    # (T, C) of the cells after each step, each a multiple of the one below, 1 in the end.
    widths: tuple[tuple[int, ...], ...]
    priority: tuple[int, ...]  # (C,) added to a coordinate's scale level for its turn inside a pass

    def __post_init__(self) -> None:
        rows = (*self.widths, self.priority)
        if (
            any(len(row) != 3 or any(type(v) is not int for v in row) for row in rows)
            or not 1 <= len(self.widths) <= MAX_STEPS
        ):
            raise PackageError(
                f"widths {self.widths}, priority {self.priority}: expected 3 integers for each of 1 .. {MAX_STEPS}"
                " steps"
            )
        if self.widths[-1] != (1, 1, 1) or any(not 1 <= w <= MAX_WIDTH for row in self.widths for w in row):
            raise PackageError(f"widths {self.widths}: expected 1 .. {MAX_WIDTH}, and 1, 1, 1 in the end")
        if any(a % b for above, below in zip(self.widths, self.widths[1:]) for a, b in zip(above, below)):
            raise PackageError(f"widths {self.widths}: expected each to be a multiple of the one below it")
        if any(abs(p) > MOST_PRIORITY for p in self.priority):
            raise PackageError(f"priorities {self.priority}: expected at most {MOST_PRIORITY} in size")

    @property
    def steps(self) -> int:
        """T."""
        return len(self.widths)

    @classmethod
    def of(cls, model: Package) -> "NestedConstants":
        """A package's. Raises `PackageError` where they are not those of this family."""
        try:
            found = cls(**{name: tuples(value) for name, value in model.constants.items()})
            networks = len(model.network["steps"])
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
            raise PackageError(f"{model.name}: the constants are not those of the family 'nested': {error}") from None
        if networks != found.steps:
            raise PackageError(f"{model.name}: widths for {found.steps} steps, networks for {networks}")
        return found


@dataclasses.dataclass
class NestedHeard:
    """What networks said in this step. It is kept while the step lasts.

    Of passes only the last one's mixture is kept: it is as large as a picture.
    """

    trunk: Any = None
    number: int | None = None  # of the pass
    mixture: NestedMixture | None = None


@dataclasses.dataclass(frozen=True)
class NestedState:
    """What the receiver knows of a batch of N pictures after `step` chunks and `share` of the next
    one's symbols.
    """

    step: int
    low: Boxes  # (N, C, H, W) the box: low <= v <= high
    high: Boxes
    offset: Boxes  # (N, C, H, W) o
    grey: bool
    share: int = 0  # in 2**-16
    before: tuple[Boxes, Boxes] | None = None  # the boxes that the step began with, in the middle of one
    heard: NestedHeard = dataclasses.field(default_factory=NestedHeard, repr=False, compare=False)

    @property
    def cut(self) -> bool:
        """Whether it is a state in the middle of a chunk."""
        return self.share > 0


class NestedQuestion(CellsQuestion):
    """What one run of one pass asks of one picture."""

    def __init__(
        self,
        asked: NDArray[np.int32],
        place: NDArray[np.int32],
        low: Boxes,
        high: Boxes,
        offset: Boxes,
        mixture: Any,
        width: Integers,
    ) -> None:
        super().__init__(asked, offset[asked].astype(np.int32))
        self._place = place  # (M,) flat positions in the phase's (C, h, w)
        self._low, self._high, self._mixture, self._width = low, high, mixture, width

    def _cells(self, part: slice) -> Cells:
        at, place, offset = self.asked[part], self._place[part], self.dither[part].astype(np.int64)
        width = self._width[at // np.int32(len(self._low) // len(self._width))]
        low, high = self._low[at].astype(np.int32), self._high[at].astype(np.int32)
        start = ((low - offset) // width * width + offset) << FRACTION
        location, level, weight = (a[place] for a in self._mixture)
        if location.shape[1] == 1:
            return Cells(low, high, start, width << FRACTION, location[:, 0].astype(np.int64), level[:, 0])
        return Cells(low, high, start, width << FRACTION, location.astype(np.int64), level, weight)


class NestedWalk:
    """The walk. Implements `families.base.Walk`."""

    side_size = 0
    bounded = True
    measured = False

    def __init__(self, constants: NestedConstants, networks: Networks) -> None:
        self.constants, self.networks = constants, networks

    @property
    def chunks(self) -> int:
        """T."""
        return self.constants.steps

    def reduced(self, halvings: int) -> None:
        """Every pixel is told by itself."""
        return None

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> NestedState:
        """Before the first chunk: v anywhere in its range. The chroma of a grey picture is 0 and
        never asked for.
        """
        low, high = everything(len(seeds), shape, SPACE)
        offset, plane = np.empty_like(low), shape[0] * shape[1]
        for channel, most in enumerate(self.constants.widths[0]):
            for one, seed in zip(offset, seeds):
                one[channel] = randomness.below(most, randomness.raw(seed, DITHER, plane, channel * plane)).reshape(
                    shape
                )
        return NestedState(0, low, high, offset, grey)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""
        return colour.forward(pixels, SPACE)

    def side(self, state: NestedState) -> list[bytes]:
        """Nothing is told besides symbols."""
        return [b""] * len(state.low)

    def parts(self, state: NestedState) -> int:
        """A part is a run of a pass."""
        return len(_parts(state))

    def question(self, state: NestedState, part: int, side: Sequence[bytes]) -> list[NestedQuestion]:
        """What part `part` of the next chunk asks, one record for each picture."""
        number, run = _parts(state)[part]
        heard = state.heard
        if heard.number != number or heard.mixture is None:
            trunk = self._trunk(state)
            heard.mixture = None
            heard.mixture = self.networks.mixture(state.step, number, trunk, state.low, state.high)
            heard.number = number
        mixture = heard.mixture
        return [self._question(state, i, number, run, tuple(a[i] for a in mixture)) for i in range(len(state.low))]

    def update(
        self, state: NestedState, part: int, questions: Sequence[NestedQuestion], answers: Sequence[Integers]
    ) -> NestedState:
        """What is known after the answers: smaller boxes. Answers may fall short.

        The state before a chunk stays as it is; between parts it is the walk's own and changes in
        place.
        """
        low, high, before = state.low, state.high, state.before
        if part == 0:
            before, low, high = (low, high), low.copy(), high.copy()
        parts = _parts(state)
        for i, (q, symbols) in enumerate(zip(questions, answers)):
            lows, highs = low[i].reshape(-1), high[i].reshape(-1)
            for piece in pieces(len(symbols)):
                at = q.asked[piece]
                begin, width = q.begin(piece)
                bottom = (begin + symbols[piece] * width) >> FRACTION
                lows[at] = np.maximum(bottom, lows[at])
                highs[at] = np.minimum(bottom + (width >> FRACTION) - 1, highs[at])
            if state.grey and len(symbols) == q.size:
                self._colourless(state, i, lows, highs, *parts[part])
        asked, got = sum(q.size for q in questions), sum(len(symbols) for symbols in answers)
        if part == len(parts) - 1 and got == asked:
            return NestedState(state.step + 1, low, high, state.offset, state.grey)
        share = max(1, ((part << 16) + (got << 16) // max(asked, 1)) // len(parts))
        return NestedState(state.step, low, high, state.offset, state.grey, share, before, state.heard)

    # --- previews

    def denoise(self, state: NestedState) -> NDArray[np.uint8]:
        """The `denoise` reconstruction: the posterior mean. uint8 (N, 3, H, W); exact at the
        end.
        """
        if state.step >= self.chunks:
            return colour.inverse(state.low, SPACE)
        return shown(self.mean(state), state.low, state.high, SPACE, state.grey)

    def mean(self, state: NestedState) -> NDArray[np.int32]:
        """What `denoise` shows before rounding: (N, 3, H, W) positions in 2**-16.

        In the middle of a step two networks are asked. The step's own network began with the boxes
        before the step. The next step's network is asked about the boxes as they are. Their means
        are blended by the share received. In the first step nothing was known before, so the next
        step's network is taken alone. In the last step there is no next one.
        """
        boxes = state.low, state.high
        if not state.cut or state.before is None:
            return self.filled(state.step, self._trunk(state), *boxes, *boxes)
        own = None
        if state.step > 0 or self.chunks == 1:
            own = self.filled(state.step, self._trunk(state), *boxes, *state.before)
        if state.step + 1 == self.chunks and own is not None:
            return own
        mean = self.filled(state.step + 1, self.networks.trunk(state.step + 1, *boxes), *boxes, *boxes)
        if own is None:
            return mean
        # A field at a time: 64 bits take room.
        for one, other in zip(own.reshape(-1, *own.shape[2:]), mean.reshape(-1, *mean.shape[2:])):
            one += ((other - one).astype(np.int64) * state.share >> 16).astype(np.int32)
        return own

    def filled(
        self, step: int, trunk: Any, low: Boxes, high: Boxes, before_low: Boxes, before_high: Boxes
    ) -> NDArray[np.int32]:
        """Means of a step's mixtures, truncated to the boxes (N, C, H, W), in 2**-16.

        A pass would be told cells of the phases before it. Here it sees their means instead. Boxes
        that have become smaller since the step began were told already, and a pass sees them as
        they are.
        """
        found = np.empty(low.shape, np.int32)
        seen_low, seen_high = low.copy(), high.copy()
        for number in range(len(PHASES)):
            bottom, top = phase(low, number), phase(high, number)
            mixture = self.networks.mixture(step, number, trunk, seen_low, seen_high)
            mean = tables.mixture_mean(mixture[0], mixture[1], mixture[2], bottom, top)
            phase(found, number)[...] = mean
            told = (bottom != phase(before_low, number)) | (top != phase(before_high, number))
            twice = (mean + (1 << 14)) >> 15  # of the mean, to the nearest half
            phase(seen_low, number)[...] = np.where(told, bottom, twice >> 1)
            phase(seen_high, number)[...] = np.where(told, top, twice - (twice >> 1))
        return found

    def flow(self, state: NestedState) -> NDArray[np.uint8]:
        """The `flow` reconstruction: eq. 17 with alpha = 1 to the end; a box shrinks around the
        mean as cells do, clipped into the box.
        """
        if state.step >= self.chunks or state.cut:
            return self.denoise(state)
        low, high = (a.astype(np.int32) << FRACTION for a in (state.low, state.high))
        mean = self.mean(state)
        whole = tuple(most - least + 1 for least, most in zip(colour.LOWEST[SPACE], colour.HIGHEST[SPACE]))
        # No box is wider than all there is.
        rows = [whole, *(tuple(map(min, row, whole)) for row in self.constants.widths)]
        for step in range(state.step + 1, self.chunks):
            for channel, (above, below) in enumerate(zip(rows[step - 1], rows[step])):
                middle = mean[:, channel].astype(np.int64)
                for end in (low, high):
                    end[:, channel] = middle + ((end[:, channel] - middle) * ((below << 16) // above) >> 16)
            bottom, top = ((end + (1 << (FRACTION - 1)) >> FRACTION).astype(np.int16) for end in (low, high))
            np.maximum(bottom, top, out=top)
            mean = self.filled(step, self.networks.trunk(step, bottom, top), bottom, top, bottom, top)
        for end, limit, bound in ((low, state.low, np.maximum), (high, state.high, np.minimum)):
            np.left_shift(limit, FRACTION, out=end, dtype=np.int32)
            mean = bound(mean, end)
        return shown(mean, state.low, state.high, SPACE, state.grey)

    def bound(self, state: NestedState) -> list[int]:
        """For each picture, how far any pixel of a preview can be from the true one: previews lie
        in the boxes.
        """
        return errors(state.low, state.high, SPACE, state.grey)

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """Before the first chunk, after it, ..., after the last: what the widths of cells allow."""
        found = [(255, 255, 255)]
        for row in self.constants.widths:
            y, co, cg = (
                min(w - 1, high - low) for w, low, high in zip(row, colour.LOWEST[SPACE], colour.HIGHEST[SPACE])
            )
            found.append((y,) * 3 if grey else colour.errors((y, co, cg), SPACE))
        return found

    # --- details

    def _trunk(self, state: NestedState) -> Any:
        """Of the boxes that the step began with; kept while it lasts."""
        if state.heard.trunk is None:  # or the step has none: then asking again costs nothing
            state.heard.trunk = self.networks.trunk(state.step, *(state.before or (state.low, state.high)))
        return state.heard.trunk

    def _question(self, state: NestedState, i: int, number: int, run: int, mixture: Any) -> NestedQuestion:
        _, h, w, count = mixture[0].shape
        flat = tuple(a.reshape(-1, count) for a in mixture[:3])
        channels = 1 if state.grey else 3
        widths = np.array(self.constants.widths[state.step], np.int32)[:channels, None, None]
        low, high, shift = (
            phase(a[i, :channels], number).astype(np.int32) for a in (state.low, state.high, state.offset)
        )
        # A coordinate whose box lies in one cell is certain: nothing is asked of it.
        asked = (low - shift) // widths < (high - shift) // widths
        level = mixture[3][:channels] + (
            np.array(self.constants.priority[:channels], np.int32)[:, None, None] + (MOST_PRIORITY + 1)
        )
        turn = (level * asked).astype(np.uint8).reshape(channels, -1)
        where = order.run((h, w), run)
        ordered = order.by_priority(turn[:, where].reshape(-1))
        channel, index = (a.astype(np.int32) for a in np.divmod(ordered, max(1, len(where))))
        at = _inside(state, number, where)[index] + channel * np.int32(state.low[0, 0].size)
        place = where[index] + channel * np.int32(h * w)
        boxes = state.low[i].reshape(-1), state.high[i].reshape(-1)
        return NestedQuestion(
            at, place, *boxes, state.offset[i].reshape(-1), flat, np.array(self.constants.widths[state.step], np.int64)
        )

    def _colourless(self, state: NestedState, i: int, low: Boxes, high: Boxes, number: int, run: int) -> None:
        """The chroma of a grey picture, of a run that has been told: the cells of 0."""
        h, w = _phase_size(field(state.low), number)
        inside = _inside(state, number, order.run((h, w), run))
        for channel in (1, 2):
            at = inside + np.int32(channel * (len(low) // 3))
            offset, width = (
                state.offset[i].reshape(-1)[at].astype(np.int32),
                np.int32(self.constants.widths[state.step][channel]),
            )
            bottom = -offset // width * width + offset
            low[at] = np.maximum(bottom, low[at])
            high[at] = np.minimum(bottom + width - 1, high[at])


def _phase_size(size: tuple[int, int], number: int) -> tuple[int, int]:
    """Height and width of a phase of a field."""
    return (size[0] + 1 - PHASES[number][0]) // 2, (size[1] + 1 - PHASES[number][1]) // 2


def _parts(state: NestedState) -> list[tuple[int, int]]:
    """(pass, run) of every part of a chunk; there is at least one."""
    size = field(state.low)
    return [(number, run) for number in range(len(PHASES)) for run in range(order.runs(_phase_size(size, number)))]


def _inside(state: NestedState, number: int, where: NDArray[np.int32]) -> NDArray[np.int32]:
    """Flat positions in a phase's field to those in the whole one."""
    h, w = field(state.low)
    row, column = PHASES[number]
    y, x = np.divmod(where, np.int32(_phase_size((h, w), number)[1]))
    found: NDArray[np.int32] = (2 * y + np.int32(row)) * np.int32(w) + 2 * x + np.int32(column)
    return found
