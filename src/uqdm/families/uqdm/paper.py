"""The entropy mode `paper` is eq. 3 and 7 as published.

The logistic is convolved with uniform noise and not truncated. After T steps the pixels follow,
under p(x | z_0).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import tables
from uqdm.entropy.tables import FRACTION, ONE
from uqdm.families import colour, order
from uqdm.families.boxes import Integers, Question, drawn, field
from uqdm.families.uqdm.rounding import Floats
from uqdm.families.uqdm.walk import UniversallyQuantized, UqdmState


class PaperQuestion(Question):
    """Of mode `paper`: tables (M, K) of whole intervals, made by `rows`; intervals are counted from
    `first` (M,), up to `last`.
    """

    def __init__(
        self, asked: Any, dither: Any, width: Integers, first: Integers, last: Integers, rows: Any, middle: Integers
    ) -> None:
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
        """Symbols by chance. What a table leaves to values outside the range goes to the end that
        the density is nearer to.
        """
        found, span = drawn(self.table(part), chances), (self.last - self.first)[part]
        begin, width = self.begin(part)
        above = 2 * self._middle[part] >= 2 * begin + (span + 1) * width
        return np.where(found > span, np.where(above, span, 0), found)


class Paper(UniversallyQuantized):
    """Densities as published (eq. 3 and 7), every step dithered, and the pixels given z_0 as one
    more chunk.
    """

    bounded = False  # where a prediction is shown as published

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

    def question(self, state: UqdmState, part: int, side: Sequence[bytes]) -> list[Any]:
        """As `UniversallyQuantized.question`; after the T steps, the pixels given z_0, for which no
        network is needed.
        """
        if state.step < self.dithered:
            return super().question(state, part, side)
        where = order.run(field(state.low), part)
        return [self._pixels(state, i, where) for i in range(len(state.seeds))]

    def mean(self, state: UqdmState) -> NDArray[np.int32]:
        """The clipped prediction itself, as published; at t = 0, where no network is trained,
        z_0 / alpha_0.

        In the middle of a step, the density that it began with in the boxes known by now.
        """
        if state.cut and state.step < self.dithered:
            suggestion = self.predict(state)
            return tables.mean(suggestion.location, suggestion.level, state.low, state.high)
        lowest, highest = (
            np.array(bound[self.constants.space], np.int32)[:, None, None] << FRACTION
            for bound in (colour.LOWEST, colour.HIGHEST)
        )
        if state.step == self.dithered:
            observed = np.rint(np.ldexp(np.clip(self._observed(state.z), -(2.0**13), 2.0**13), FRACTION)).astype(
                np.int32
            )
            bounds = (a.astype(np.int32) << FRACTION for a in (state.low, state.high))
            return np.clip(observed, *bounds)
        return np.clip(self.predict(state).location, lowest, highest)

    def bound(self, state: UqdmState) -> list[int]:
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

    def _candidates(
        self, state: UqdmState, i: int, where: NDArray[np.int32], part: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Flat positions and dithers of what a chunk asks for, channel by channel."""
        plane, channels = state.low[0, 0].size, self._channels(state)
        at = np.concatenate([where + np.int32(channel * plane) for channel in channels])
        return at, np.concatenate([self._dither(state, i, part, len(where), channel) for channel in channels])

    def _range(self, channel: Integers) -> tuple[Integers, Integers]:
        space = self.constants.space
        return np.array(colour.LOWEST[space], np.int64)[channel], np.array(colour.HIGHEST[space], np.int64)[channel]

    def _question(
        self, state: UqdmState, i: int, part: int, where: NDArray[np.int32], location: Any, level: Any
    ) -> PaperQuestion:
        # As published, a step does not use what earlier intervals exclude: its alphabet is what the
        # pixel range allows.
        at, dither = self._candidates(state, i, where, part)
        channel = (at // state.low[0, 0].size).astype(np.int64)
        turn = np.concatenate([self._turns(level[at[channel == c]], c) for c in self._channels(state)])
        ordered = self._order(turn.reshape(-1, len(where)), where)
        at, dither, channel = at[ordered], dither[ordered], channel[ordered]
        width = np.array(self._widths(state.step), np.int64)[channel]
        first, last = (((a << FRACTION) - dither) // width for a in self._range(channel))
        middle = location[at].astype(np.int64)

        def rows(q: PaperQuestion, part: slice) -> Integers:
            """The logistic's mass in each whole interval; what lies beyond the pixel range is left
            to the row's end, never sent.
            """
            begin, width = q.begin(part)
            span = (q.last - q.first)[part][:, None] + 1
            if span.max(initial=0) > tables.MOST:  # before room is made for them
                raise tables.too_many(int(span.max()))
            edges = begin[:, None] + np.minimum(np.arange(int(span.max(initial=0)) + 1), span) * width[:, None]
            f = tables.cdf(edges, middle[part][:, None], level[at[part]].astype(np.int64)[:, None])
            f -= f[:, :1].copy()
            return tables.masses(f, 1 << tables.CDF_BITS)

        return PaperQuestion(at, dither, width, first, last, rows, middle)

    def _pixels(self, state: UqdmState, i: int, where: NDArray[np.int32]) -> PaperQuestion:
        """p(x | z_0): a discretised normal around z_0 / alpha_0, over the few integers that its
        width and the dither reach.

        z_0 comes from stored constants and integers alone, so its position is the same float64
        everywhere.
        """
        at, dither = self._candidates(state, i, where, 0)
        channel = (at // state.low[0, 0].size).astype(np.int64)
        assert state.z is not None
        position = np.rint(np.ldexp(self._observed(state.z[i : i + 1]).reshape(-1)[at], 8)).astype(np.int64) << (
            FRACTION - 8
        )
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
