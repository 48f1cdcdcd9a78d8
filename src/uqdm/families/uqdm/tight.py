"""The entropy mode `tight` uses everything that is known.

The density is truncated to the box, the intersection of all intervals so far. The last step has
width 1 and no dither, so its symbol is v itself. The code lengths of the steps add up to
-log2 p(v | dither) of one true distribution of integers: no step wastes mass on what earlier steps
excluded.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import tables
from uqdm.entropy.tables import FRACTION, Cells
from uqdm.exact.features import Boxes
from uqdm.families.boxes import CellsQuestion, Integers, pieces
from uqdm.families.uqdm.walk import UniversallyQuantized, UqdmHeard, UqdmState


class TightQuestion(CellsQuestion):
    """Of mode `tight`."""

    def __init__(
        self,
        asked: NDArray[np.int32],
        dither: NDArray[np.int32],
        low: Boxes,
        high: Boxes,
        suggestion: tuple[Any, Any],
        width: Integers,
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


class Tight(UniversallyQuantized):
    """Densities truncated to the boxes already known; the last step codes the integers
    themselves.
    """

    @property
    def chunks(self) -> int:
        """T."""
        return self.constants.steps

    @property
    def dithered(self) -> int:
        """T - 1: the last step's intervals are the integers."""
        return self.constants.steps - 1

    def mean(self, state: UqdmState) -> NDArray[np.int32]:
        """Mean of the truncated logistic in each box: the posterior mean.

        In the middle of a step the boxes are of two kinds. The density that the step began with
        knows nothing of the step's symbols but where they fell. A network that was trained on such
        states can be asked as if the step were over. It sees all symbols, but is worse where few
        have come. So the two are blended by the share received. In the first step the density knows
        nothing at all, and the network is taken alone.
        """
        own = None
        if not state.cut or state.step > 0 or not self._sees_mixed(state):
            suggestion = self.predict(state)
            own = tables.mean(suggestion.location, suggestion.level, state.low, state.high)
        if own is not None and not self._sees_mixed(state):
            return own
        suggestion = self.predict(dataclasses.replace(state, step=state.step + 1, share=0, heard=UqdmHeard()))
        mixed = tables.mean(suggestion.location, suggestion.level, state.low, state.high)
        if own is None:
            return mixed
        own += ((mixed - own).astype(np.int64) * state.share >> 16).astype(np.int32)
        return own

    def _sees_mixed(self, state: UqdmState) -> bool:
        """Whether a network can be asked about a state in the middle of a step."""
        return state.cut and self.denoiser.mixed and state.step + 1 < self.chunks

    def _question(
        self, state: UqdmState, i: int, part: int, where: NDArray[np.int32], location: Any, level: Any
    ) -> TightQuestion:
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
