"""The corrections of one band and channel while they are told, and what they do to its networks'
outputs (see `tuning`).

Knows the walk's arrays, and nothing of bytes. An encoder's side of it gathers a sample of
coefficients and fits; both sides apply.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.families.boxes import Integers
from uqdm.families.pyramid import tuning
from uqdm.families.pyramid.fields import Planes, strips
from uqdm.families.pyramid.networks import CHANNELS, VALUE_BITS, PyramidMixture, relative
from uqdm.families.pyramid.tuning import TAPS, BandSample, FixedQuestion, Layout

CORRECTED, SIZES, BITS = (
    3,
    4,
    5,
)  # digits of a part: whether there is a correction, the sizes of its weights, their bits
Values = NDArray[np.int16]


@dataclasses.dataclass
class CorrectedPlace:
    """Where a correction belongs, and what both ends know there. Arrays are (N, ..., h, w)."""

    layout: Layout
    image: Values  # (N, 3, h, w)
    before: Planes  # (N, 9, h, w)
    told: Planes  # (N, 3 band, h, w) values of earlier bands
    raw: NDArray[np.int16]  # (N, 9 J + 6, h, w)
    base: list[
        NDArray[Any]
    ]  # of the band's channels (N, h, w) each, int32 or int64; one may be replaced by a wider one
    errors: Sequence[NDArray[np.int16]]  # (N, h, w) of earlier channels of the band, values
    louds: Sequence[NDArray[Any]]
    cells: tuple[Values, Values]  # (N, h, w)
    offset: Values
    several: NDArray[np.bool_]  # whether there is a choice
    width: int
    units: Integers  # (channel + 1,) of the band's channels up to this one
    begin: int  # of the band and channel among a picture's coefficients
    asked: Callable[[PyramidMixture], NDArray[np.bool_]]  # which are asked for, by their mixtures
    mixture: Callable[
        [NDArray[np.int16], NDArray[Any], Sequence[Any], Sequence[Any]], PyramidMixture
    ]  # as `PyramidNetworks.mixture` has it
    linear: Callable[
        [int, Integers], Integers
    ]  # picture and weights (1, I, 3, 3) -> what is added to locations, (1, 1, h, w)
    each: tuning.Each  # shares out pieces of work


class Correcting:
    """Asks for the corrections of N pictures, and applies what is told."""

    def __init__(self, place: CorrectedPlace) -> None:
        self._place = place
        n = len(place.raw)
        self._fitted: list[Any] = [None] * n  # by an encoder: (exponents, quotients), or False
        self._there = np.zeros(n, bool)
        self._sizes = [np.zeros(0, np.int64)] * n

    def question(self, digit: int) -> list[FixedQuestion]:
        """One for each picture."""
        return [FixedQuestion(self._rows(digit, i), self._answer(digit, i)) for i in range(len(self._fitted))]

    def _rows(self, digit: int, i: int) -> list[tuple[int, tuple[int, ...]]]:
        layout = self._place.layout
        if digit == CORRECTED:
            return [(1, tuning.BIT)]
        if not self._there[i]:
            return []
        if digit == SIZES:
            return [(len(layout.groups), tuning.EVEN), (layout.size, tuning.LIKELY)]
        return [(tuning.count_of_bits(layout, self._sizes[i]), tuning.BIT)]

    def _answer(self, digit: int, i: int) -> Callable[[Values], Integers]:
        def answer(values: Values) -> Integers:
            if self._fitted[i] is None:
                self._fitted[i] = self._fit(i, values) or False
            found = self._fitted[i]
            if digit == CORRECTED:
                return np.array([int(found is not False)])
            return tuning.sizes_of(self._place.layout, *found) if digit == SIZES else tuning.bits_of(found[1])

        return answer

    def answered(self, digit: int, answers: Sequence[Integers]) -> None:
        """The whole answers to `question(digit)`. After the last one the outputs are corrected."""
        for i, symbols in enumerate(answers):
            if digit == CORRECTED:
                self._there[i] = bool(symbols[0])
            elif self._there[i] and digit == SIZES:
                self._sizes[i] = symbols
            elif self._there[i]:
                self.apply(i, tuning.weights_of(self._place.layout, self._sizes[i], symbols))

    def apply(self, i: int, weights: Integers) -> None:
        """Puts the correction of picture i into what its networks said."""
        p = self._place
        linear, constant = tuning.linear_weights(p.layout, weights)
        moved, c = p.linear(i, linear)[0, 0], p.layout.channel
        for rows in strips((1, *moved.shape)):
            tuning.add(p.raw[i : i + 1, :, rows], p.layout, weights)
            place = p.base[c][i, rows] + moved[rows] + constant
            if p.base[c].dtype == np.int32 and not fits(place):
                p.base[c] = p.base[c].astype(np.int64)
            p.base[c][i, rows] = place

    # --- an encoder's side

    def _fit(self, i: int, values: Values) -> tuple[Integers, Integers] | None:
        p = self._place
        chosen = np.flatnonzero(p.several[i])
        if len(chosen) < tuning.LEAST:
            return None
        scale = -(-len(chosen) // (2 * tuning.SAMPLE))
        some = chosen[::scale]
        parts = [slice(at, at + tuning.PIECE) for at in range(0, len(some), tuning.PIECE)]
        worth = np.empty(len(some), bool)

        def ask(k: int) -> None:
            sample = self._sample(i, values, some[parts[k]], False)
            worth[parts[k]] = p.asked(sample.mixture(sample.raw, sample.base)).reshape(-1)

        p.each(ask, range(len(parts)))
        asked = np.flatnonzero(worth)
        if len(asked) * scale < tuning.LEAST:
            return None
        again = -(-len(asked) // tuning.SAMPLE)
        some = some[asked[::again]]
        parts = parts[: -(-len(some) // tuning.PIECE)]
        samples: list[Any] = [None] * len(parts)

        def gather(k: int) -> None:
            samples[k] = self._sample(i, values, some[parts[k]])

        p.each(gather, range(len(parts)))
        return tuning.fit(p.layout, samples, scale * again, p.each)

    def _sample(self, i: int, values: Values, at: Integers, taps: bool = True) -> BandSample:
        p = self._place
        y, x = np.divmod(at, p.offset.shape[2])
        errors, louds = ([a[i, y, x][None, None] for a in one] for one in (p.errors, p.louds))
        low, high = (end[i, y, x].astype(np.int64) for end in p.cells)
        offset, c = p.offset[i, y, x].astype(np.int64), p.layout.channel
        truth = values[at + p.begin].astype(np.int64)
        bottom = (truth - offset) // p.width * p.width + offset
        base = np.zeros((1, CHANNELS, 1, len(at)), np.int64)
        base[0, c, 0] = p.base[c][i, y, x]
        return BandSample(
            planes=self._taps(i, y, x) if taps else np.zeros((0, len(at))),
            raw=p.raw[i : i + 1, :, y, x][:, :, None],
            base=base,
            errors=[relative(e[None], VALUE_BITS, p.units[j : j + 1])[0] for j, e in enumerate(errors)],
            louds=louds,
            parent=(low, high),
            child=(np.maximum(bottom, low), np.minimum(bottom + p.width - 1, high)),
            unit=int(p.units[c]),
            mixture=lambda raw, base: p.mixture(raw, base[:, c], errors, louds),
        )

    def _taps(self, i: int, y: Integers, x: Integers) -> NDArray[np.float64]:
        """(9 I, M): what the linear part sees around each position, zeros outside the field."""
        p = self._place
        h, w = p.offset.shape[1:]
        made = p.told.shape[1]
        planes = [plane[i].reshape(-1) for plane in (*p.before.planes, *p.told.planes)]
        sharp = self._sharp(i, y, x)
        found = np.zeros((p.layout.planes, TAPS, len(y)))
        for tap in range(TAPS):
            down, right = y + (tap // 3 - 1), x + (tap % 3 - 1)
            outside = (down < 0) | (down >= h) | (right < 0) | (right >= w)
            at = np.where(outside, 0, down * w + right)
            found[:CHANNELS, tap] = sharp[:, tap // 3, tap % 3]
            for k, plane in enumerate(planes, CHANNELS):
                found[k, tap] = plane.take(at)
            if outside.any():
                found[:, tap, outside] = 0
        if made:
            found[-made:] -= found[CHANNELS : CHANNELS + made]
        return found.reshape(-1, len(y))

    def _sharp(self, i: int, y: Integers, x: Integers) -> NDArray[np.int32]:
        """(3, 3, 3, M): the image's high-pass around each position, as `networks.planes` has it,
        from the 5 x 5 that decide it.
        """
        image = self._place.image[i].reshape(CHANNELS, -1)
        h, w = self._place.image.shape[2:]
        rows, columns = ([np.clip(at + k, 0, most - 1) for k in range(-2, 3)] for at, most in ((y, h), (x, w)))
        near = np.empty((CHANNELS, 5, 5, len(y)), np.int32)
        for k, row in enumerate(rows):
            for j, column in enumerate(columns):
                near[:, k, j] = image.take(row * w + column, 1)
        across = near[:, :, :3] + 2 * near[:, :, 1:4] + near[:, :, 2:]
        found: NDArray[np.int32] = 16 * near[:, 1:4, 1:4] - (across[:, :3] + 2 * across[:, 1:4] + across[:, 2:])
        return (found + 8) >> 4


def fits(place: NDArray[Any]) -> bool:
    """Whether integers fit in 32 bits."""
    return bool(place.min() >= -(1 << 31) and place.max() < 1 << 31)
