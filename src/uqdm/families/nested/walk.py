"""Nested universal quantization as a walk over integers (`models/nested.py` says what it is); knows nothing of bytes.

Coordinates are integers v of YCoCg-R. Both ends draw one offset o for each, uniform on 0 .. w_1 - 1; its cell at level k is the interval of
w_k integers o + j w_k .. o + (j + 1) w_k - 1 that holds v. Step k (a chunk) tells in which child of its parent's cell v lies, under a
mixture of logistics truncated to the parent; the last step's cells are single integers. Every number here is an integer: networks are
exact, so nothing has to be told besides symbols, and every preview is the same everywhere.

A step's coordinates go in four passes, the phases of 2 x 2 pixels: a pass's network sees what those before it told. Inside a pass the
most uncertain come first.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package, tuples
from uqdm.entropy import randomness, tables
from uqdm.entropy.tables import FRACTION, Cells
from uqdm.errors import LimitError, PackageError
from uqdm.families import colour, order
from uqdm.families.boxes import MOST_PRIORITY, Boxes, CellsQuestion, Integers, errors, field, pieces, shown

SPACE = "ycocg-r"
CORNERS = ((0, 0), (1, 1), (0, 1), (1, 0))  # of the passes' pixels in 2 x 2 (y, x), in their order: `passes.PHASES`
DITHER = 1  # stream of the offsets
MAX_STEPS = 240
MAX_WIDTH = 4096
Mixture = Any  # `passes.Mixture`: location (2**-16 pixel values), level and weight (N, C, h, w, J), and the levels' mean (N, C, h, w)


class Networks(Protocol):
    """A model's networks, whatever runs them. Boxes are int16 (N, C, H, W), ends included."""

    exact: bool

    def trunk(self, step: int, low: Boxes, high: Boxes) -> Any:
        """What the passes of a step share, from the boxes before it."""

    def mixture(self, step: int, number: int, trunk: Any, low: Boxes, high: Boxes) -> Mixture:
        """Of pass `number`, from the boxes as they are by then: J logistics for every coordinate of its phase."""


@dataclasses.dataclass(frozen=True)
class Constants:
    """What the arithmetic needs besides networks, as the package stores it. T steps, C = 3 channels."""

    widths: tuple[tuple[int, ...], ...]  # (T, C) of the cells after each step, each a multiple of the one below, 1 in the end
    priority: tuple[int, ...]  # (C,) added to a coordinate's scale level for its turn inside a pass

    def __post_init__(self) -> None:
        rows = (*self.widths, self.priority)
        if any(len(row) != 3 or any(type(v) is not int for v in row) for row in rows) or not 1 <= len(self.widths) <= MAX_STEPS:
            raise PackageError(f"widths {self.widths}, priority {self.priority}: expected 3 integers for each of 1 .. {MAX_STEPS} steps")
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
    def of(cls, model: Package) -> "Constants":
        """A package's. Raises `PackageError` where they are not those of this family."""
        try:
            found = cls(**{name: tuples(value) for name, value in model.constants.items()})
            networks = len(model.network["steps"])
        except (TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
            raise PackageError(f"{model.name}: the constants are not those of the family 'nested': {error}") from None
        if networks != found.steps:
            raise PackageError(f"{model.name}: widths for {found.steps} steps, networks for {networks}")
        return found


@dataclasses.dataclass(frozen=True)
class State:
    """What the receiver knows of a batch of N pictures after `step` chunks and `share` of the next one's symbols."""

    step: int
    low: Boxes  # (N, C, H, W) the box: low <= v <= high
    high: Boxes
    offset: Boxes  # (N, C, H, W) o
    grey: bool
    share: int = 0  # in 2**-16
    before: tuple[Boxes, Boxes] | None = None  # the boxes that the step began with, in the middle of one
    work: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)  # what networks said in this step

    @property
    def cut(self) -> bool:
        """Whether it is a state in the middle of a chunk."""
        return self.share > 0


class Question(CellsQuestion):
    """What one run of one pass asks of one picture."""

    def __init__(
        self, asked: NDArray[np.int32], place: NDArray[np.int32], low: Boxes, high: Boxes, offset: Boxes, mixture: Any, width: Integers
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


class Nested:
    """The walk. Implements `families.Family`."""

    side_size = 0
    bounded = True

    def __init__(self, constants: Constants, networks: Networks) -> None:
        self.constants, self.networks = constants, networks

    @property
    def chunks(self) -> int:
        """T."""
        return self.constants.steps

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> State:
        """Before the first chunk: v anywhere in its range. The chroma of a grey picture is 0 and never asked for."""
        h, w = shape
        if 3 * h * w >= 2**31:
            raise LimitError(f"{w} x {h} is {h * w:,} pixels; places of coordinates are numbers below 2**31: at most 715,827,882 pixels")
        full = (len(seeds), 3, h, w)
        low, high, offset = (np.empty(full, np.int16) for _ in range(3))
        for channel, ends in enumerate(zip(colour.LOWEST[SPACE], colour.HIGHEST[SPACE])):
            low[:, channel], high[:, channel] = ends
            most = self.constants.widths[0][channel]
            for one, seed in zip(offset, seeds):
                one[channel] = randomness.below(most, randomness.raw(seed, DITHER, h * w, channel * h * w)).reshape(h, w)
        return State(0, low, high, offset, grey)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""
        return colour.forward(pixels, SPACE)

    def side(self, state: State) -> list[bytes]:
        """Nothing is told besides symbols."""
        return [b""] * len(state.low)

    def parts(self, state: State) -> int:
        """A part is a run of a pass."""
        return len(_parts(state))

    def question(self, state: State, part: int, side: Sequence[bytes]) -> list[Question]:
        """What part `part` of the next chunk asks, one record for each picture."""
        number, run = _parts(state)[part]
        if ("pass", number) not in state.work:
            trunk = self._trunk(state)
            for key in [key for key in state.work if key[0] == "pass"]:  # one pass's is as much as a picture
                del state.work[key]
            state.work["pass", number] = self.networks.mixture(state.step, number, trunk, state.low, state.high)
        mixture = state.work["pass", number]
        return [self._question(state, i, number, run, tuple(a[i] for a in mixture)) for i in range(len(state.low))]

    def update(self, state: State, part: int, questions: Sequence[Question], answers: Sequence[Integers]) -> State:
        """What is known after the answers: smaller boxes. Answers may fall short.

        The state before a chunk stays as it is; between parts it is the walk's own and changes in place.
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
            return State(state.step + 1, low, high, state.offset, state.grey)
        share = max(1, ((part << 16) + (got << 16) // max(asked, 1)) // len(parts))
        return State(state.step, low, high, state.offset, state.grey, share, before, state.work)

    # --- previews

    def denoise(self, state: State) -> NDArray[np.uint8]:
        """The `denoise` reconstruction: the posterior mean. uint8 (N, 3, H, W); exact at the end."""
        if state.step >= self.chunks:
            return colour.inverse(state.low, SPACE)
        return shown(self.mean(state), state.low, state.high, SPACE, state.grey)

    def mean(self, state: State) -> NDArray[np.int32]:
        """What `denoise` shows before rounding: (N, 3, H, W) positions in 2**-16.

        In the middle of a step two networks have a say, by the share received: the step's own, which began with the boxes before it, and
        the next one, asked about the boxes as they are. In the first step, before which nothing was known, the next one alone; in the
        last the own.
        """
        boxes = state.low, state.high
        if not state.cut or state.before is None:
            return self._filled(state.step, self._trunk(state), *boxes, *boxes)
        own = None
        if state.step > 0 or self.chunks == 1:
            own = self._filled(state.step, self._trunk(state), *boxes, *state.before)
        if state.step + 1 == self.chunks and own is not None:
            return own
        mean = self._filled(state.step + 1, self.networks.trunk(state.step + 1, *boxes), *boxes, *boxes)
        if own is None:
            return mean
        for one, other in zip(own.reshape(-1, *own.shape[2:]), mean.reshape(-1, *mean.shape[2:])):  # a field at a time: 64 bits take room
            one += ((other - one).astype(np.int64) * state.share >> 16).astype(np.int32)
        return own

    def _filled(self, step: int, trunk: Any, low: Boxes, high: Boxes, before_low: Boxes, before_high: Boxes) -> NDArray[np.int32]:
        """Means of a step's mixtures truncated to the boxes; its passes see them in the place of what they would be told.

        Boxes that have become smaller since the step began are what they were told, and are seen as they are.
        """
        found = np.empty(low.shape, np.int32)
        seen_low, seen_high = low.copy(), high.copy()
        for number in range(len(CORNERS)):
            bottom, top = _corner(low, number), _corner(high, number)
            mixture = self.networks.mixture(step, number, trunk, seen_low, seen_high)
            mean = tables.mixture_mean(mixture[0], mixture[1], mixture[2], bottom, top)
            _corner(found, number)[...] = mean
            told = (bottom != _corner(before_low, number)) | (top != _corner(before_high, number))
            twice = (mean + (1 << 14)) >> 15  # of the mean, to the nearest half
            _corner(seen_low, number)[...] = np.where(told, bottom, twice >> 1)
            _corner(seen_high, number)[...] = np.where(told, top, twice - (twice >> 1))
        return found

    def flow(self, state: State) -> NDArray[np.uint8]:
        """The `flow` reconstruction: eq. 17 with alpha = 1 to the end; a box shrinks around the mean as cells do, clipped into the box."""
        if state.step >= self.chunks or state.cut:
            return self.denoise(state)
        low, high = (a.astype(np.int32) << FRACTION for a in (state.low, state.high))
        mean = self.mean(state)
        whole = tuple(most - least + 1 for least, most in zip(colour.LOWEST[SPACE], colour.HIGHEST[SPACE]))
        rows = [whole, *(tuple(map(min, row, whole)) for row in self.constants.widths)]  # no box is wider than all there is
        for step in range(state.step + 1, self.chunks):
            for channel, (above, below) in enumerate(zip(rows[step - 1], rows[step])):
                middle = mean[:, channel].astype(np.int64)
                for end in (low, high):
                    end[:, channel] = middle + ((end[:, channel] - middle) * ((below << 16) // above) >> 16)
            bottom, top = ((end + (1 << (FRACTION - 1)) >> FRACTION).astype(np.int16) for end in (low, high))
            np.maximum(bottom, top, out=top)
            mean = self._filled(step, self.networks.trunk(step, bottom, top), bottom, top, bottom, top)
        for end, limit, bound in ((low, state.low, np.maximum), (high, state.high, np.minimum)):
            np.left_shift(limit, FRACTION, out=end, dtype=np.int32)
            mean = bound(mean, end)
        return shown(mean, state.low, state.high, SPACE, state.grey)

    def bound(self, state: State) -> list[int]:
        """For each picture, how far any pixel of a preview can be from the true one: previews lie in the boxes."""
        return errors(state.low, state.high, SPACE, state.grey)

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """Before the first chunk, after it, ..., after the last: what the widths of cells allow."""
        found = [(255, 255, 255)]
        for row in self.constants.widths:
            y, co, cg = (min(w - 1, high - low) for w, low, high in zip(row, colour.LOWEST[SPACE], colour.HIGHEST[SPACE]))
            found.append((y,) * 3 if grey else colour.errors((y, co, cg), SPACE))
        return found

    # --- details

    def _trunk(self, state: State) -> Any:
        """Of the boxes that the step began with; kept while it lasts."""
        if ("trunk",) not in state.work:
            state.work["trunk",] = self.networks.trunk(state.step, *(state.before or (state.low, state.high)))
        return state.work["trunk",]

    def _question(self, state: State, i: int, number: int, run: int, mixture: Any) -> Question:
        _, h, w, count = mixture[0].shape
        flat = tuple(a.reshape(-1, count) for a in mixture[:3])
        channels = 1 if state.grey else 3
        widths = np.array(self.constants.widths[state.step], np.int32)[:channels, None, None]
        low, high, shift = (_corner(a[i, :channels], number).astype(np.int32) for a in (state.low, state.high, state.offset))
        # A coordinate whose box lies in one cell is certain: nothing is asked of it.
        asked = (low - shift) // widths < (high - shift) // widths
        level = mixture[3][:channels] + (np.array(self.constants.priority[:channels], np.int32)[:, None, None] + (MOST_PRIORITY + 1))
        turn = (level * asked).astype(np.uint8).reshape(channels, -1)
        where = order.run((h, w), run)
        ordered = order.by_priority(turn[:, where].reshape(-1))
        channel, index = (a.astype(np.int32) for a in np.divmod(ordered, max(1, len(where))))
        at = _inside(state, number, where)[index] + channel * np.int32(state.low[0, 0].size)
        place = where[index] + channel * np.int32(h * w)
        boxes = state.low[i].reshape(-1), state.high[i].reshape(-1)
        return Question(at, place, *boxes, state.offset[i].reshape(-1), flat, np.array(self.constants.widths[state.step], np.int64))

    def _colourless(self, state: State, i: int, low: Boxes, high: Boxes, number: int, run: int) -> None:
        """The chroma of a grey picture, of a run that has been told: the cells of 0."""
        h, w = _phase(field(state.low), number)
        inside = _inside(state, number, order.run((h, w), run))
        for channel in (1, 2):
            at = inside + np.int32(channel * (len(low) // 3))
            offset, width = state.offset[i].reshape(-1)[at].astype(np.int32), np.int32(self.constants.widths[state.step][channel])
            bottom = -offset // width * width + offset
            low[at] = np.maximum(bottom, low[at])
            high[at] = np.minimum(bottom + width - 1, high[at])


def _phase(size: tuple[int, int], number: int) -> tuple[int, int]:
    """Height and width of a phase of a field."""
    return (size[0] + 1 - CORNERS[number][0]) // 2, (size[1] + 1 - CORNERS[number][1]) // 2


def _parts(state: State) -> list[tuple[int, int]]:
    """(pass, run) of every part of a chunk; there is at least one."""
    size = field(state.low)
    return [(number, run) for number in range(len(CORNERS)) for run in range(order.runs(_phase(size, number)))]


def _corner(a: NDArray[Any], number: int) -> NDArray[Any]:
    """The pixels of a phase, a view: (..., H, W) -> (..., h, w)."""
    return a[..., CORNERS[number][0] :: 2, CORNERS[number][1] :: 2]


def _inside(state: State, number: int, where: NDArray[np.int32]) -> NDArray[np.int32]:
    """Flat positions in a phase's field to those in the whole one."""
    h, w = field(state.low)
    row, column = CORNERS[number]
    y, x = np.divmod(where, np.int32(_phase((h, w), number)[1]))
    found: NDArray[np.int32] = (2 * y + np.int32(row)) * np.int32(w) + 2 * x + np.int32(column)
    return found
