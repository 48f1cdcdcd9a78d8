"""The corrections of one band and channel while they are told, and what they do to its networks' outputs (see `tuning`).

Knows the walk's arrays, and nothing of bytes. An encoder's side of it gathers a sample of coefficients and fits; both sides apply.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.exact.features import high_pass
from uqdm.families.boxes import Integers
from uqdm.families.pyramid import tuning
from uqdm.families.pyramid.networks import Mixture
from uqdm.families.pyramid.tuning import Layout, Sample, Told

CORRECTED, SIZES, BITS = 3, 4, 5  # digits of a part: whether there is a correction, the sizes of its weights, their bits
Values = NDArray[np.int16]


@dataclasses.dataclass
class Place:
    """Where a correction belongs, and what both ends know there. Arrays are (N, ..., h, w)."""

    layout: Layout
    image: Values  # (N, 3, h, w)
    before: Values  # (N, 9, h, w)
    told: Values  # (N, 3 band, h, w) values of earlier bands
    raw: NDArray[np.int16]  # (N, 9 J + 6, h, w)
    base: Integers  # (N, 3, h, w)
    errors: Sequence[NDArray[np.int32]]  # (N, h, w) of earlier channels of the band
    louds: Sequence[NDArray[np.int16]]
    cells: tuple[Values, Values]  # (N, h, w)
    offset: Values
    several: NDArray[np.bool_]  # whether there is a choice
    width: int
    unit: int
    begin: int  # of the band and channel among a picture's coefficients
    asked: Callable[[Mixture], NDArray[np.bool_]]  # which are asked for, by their mixtures
    mixture: Callable[[NDArray[np.int16], Integers, Sequence[Any], Sequence[Any]], Mixture]
    linear: Callable[[int, Integers], Integers]  # picture and weights (1, I, 3, 3) -> what is added to locations, (1, 1, h, w)


class Correcting:
    """Asks for the corrections of N pictures, and applies what is told."""

    def __init__(self, place: Place) -> None:
        self._place = place
        n = len(place.base)
        self._fitted: list[Any] = [None] * n  # by an encoder: (exponents, quotients), or False
        self._there = np.zeros(n, bool)
        self._sizes = [np.zeros(0, np.int64)] * n

    def question(self, digit: int) -> list[Told]:
        """One for each picture."""
        return [Told(self._rows(digit, i), self._answer(digit, i)) for i in range(len(self._fitted))]

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
                self._apply(i, tuning.weights_of(self._place.layout, self._sizes[i], symbols))

    def _apply(self, i: int, weights: Integers) -> None:
        p = self._place
        linear, constant = tuning.linear_weights(p.layout, weights)
        p.base[i, p.layout.channel] += self._place.linear(i, linear)[0, 0] + constant
        tuning.add(p.raw[i : i + 1], p.layout, weights)

    # --- an encoder's side

    def _fit(self, i: int, values: Values) -> tuple[Integers, Integers] | None:
        p = self._place
        chosen = np.flatnonzero(p.several[i])
        if len(chosen) < tuning.LEAST:
            return None
        scale = -(-len(chosen) // (2 * tuning.SAMPLE))
        sample = self._sample(i, values, chosen[::scale], False)
        asked = np.flatnonzero(p.asked(sample.mixture(sample.raw, sample.base)).reshape(-1))
        if len(asked) * scale < tuning.LEAST:
            return None
        again = -(-len(asked) // tuning.SAMPLE)
        return tuning.fit(p.layout, self._sample(i, values, chosen[::scale][asked[::again]]), scale * again)

    def _sample(self, i: int, values: Values, at: Integers, taps: bool = True) -> Sample:
        p = self._place
        y, x = np.divmod(at, p.offset.shape[2])
        errors, louds = ([a[i, y, x][None, None] for a in one] for one in (p.errors, p.louds))
        low, high = (end[i, y, x].astype(np.int64) for end in p.cells)
        offset = p.offset[i, y, x].astype(np.int64)
        truth = values[at + p.begin].astype(np.int64)
        bottom = (truth - offset) // p.width * p.width + offset
        return Sample(
            planes=self._taps(i, y, x) if taps else np.zeros((0, len(at)), np.int32),
            raw=p.raw[i : i + 1, :, y, x][:, :, None],
            base=p.base[i : i + 1, :, y, x][:, :, None],
            errors=errors,
            louds=louds,
            parent=(low, high),
            child=(np.maximum(bottom, low), np.minimum(bottom + p.width - 1, high)),
            unit=p.unit,
            mixture=lambda raw, base: p.mixture(raw, base, errors, louds),
        )

    def _taps(self, i: int, y: Integers, x: Integers) -> NDArray[np.int32]:
        """(9 I, M): what the linear part sees around each position, zeros outside the field."""
        p = self._place
        sharp = (high_pass(p.image[i : i + 1].astype(np.int32)) + 8)[0] >> 4
        h, w = p.offset.shape[1:]
        planes = [(sharp.reshape(3, -1), 0), (p.before[i].reshape(len(p.before[i]), -1), 3)]
        if made := p.told.shape[1]:
            planes.append((p.told[i].reshape(made, -1), 3 + len(p.before[i])))
        found = np.zeros((p.layout.planes, 9, len(y)), np.int32)
        for tap in range(9):
            down, right = y + (tap // 3 - 1), x + (tap % 3 - 1)
            outside = (down < 0) | (down >= h) | (right < 0) | (right >= w)
            at = np.where(outside, 0, down * w + right)
            for plane, first in planes:
                found[first : first + len(plane), tap] = plane.take(at, 1)
            if outside.any():
                found[:, tap, outside] = 0
        if made:
            found[-made:] -= found[3 : 3 + made]
        return found.reshape(-1, len(y))
