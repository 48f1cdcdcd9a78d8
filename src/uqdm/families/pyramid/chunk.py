"""A step of a pyramid in progress: its parts, what they ask of networks, and what the answers make
known. `walk.py` says what a pyramid is.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package, tuples
from uqdm.errors import PackageError
from uqdm.exact.tiling import LARGE, swept
from uqdm.families import order
from uqdm.families.boxes import Integers
from uqdm.families.pyramid import lattice
from uqdm.families.pyramid.band import (
    DIGIT,
    NOTHING,
    THRESHOLD_BITS,
    Band,
    Ground,
    Question,
    above_threshold,
    fastest,
    several,
)
from uqdm.families.pyramid.correcting import CORRECTED, CorrectedPlace, Correcting
from uqdm.families.pyramid.fields import Cut, Offsets, Planes, copied, doubled
from uqdm.families.pyramid.networks import COUPLINGS, FIRST, VALUE_BITS, PyramidMixture
from uqdm.families.pyramid.tuning import Layout

CHANNELS, BANDS, DETAILS = 3, 3, 9
MOST_STEPS = 16

Array = NDArray[Any]
Values = NDArray[np.int16]
Choice = tuple[Values, Values, Values, int, NDArray[np.bool_]]  # ends of cells, offsets, width, which have children


class Networks(Protocol):
    """A model's networks, whatever runs them."""

    exact: bool

    def visited(self, step: int, level: int) -> bool:
        """Whether a step asks about a level."""

    def trunk(self, step: int, level: int, image: Values, value: Planes, width: Cut, above: Cut, unit: Integers) -> Any:
        """What the passes of a level share (see `LevelNet.features`)."""

    def outputs(
        self,
        step: int,
        level: int,
        band: int,
        trunk: Any,
        image: Values,
        before: Planes,
        now: Planes,
        errors: Planes,
        louds: Planes,
        unit: Integers,
    ) -> tuple[Any, list[Array]]:
        """A pass's raw outputs, and the linear part of its locations by channel (see
        `LevelNet`).
        """

    def moved(self, image: Values, before: Planes, told: Planes, weights: Integers) -> Any:
        """What more weights of the linear part add to locations."""

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Work on every item, in the threads that there are."""

    def mixture(
        self,
        step: int,
        level: int,
        band: int,
        channel: int,
        raw: Any,
        base: Array,
        unit: Integers,
        errors: Any,
        louds: Any,
    ) -> PyramidMixture:
        """Of one channel of a band (see `LevelNet.mixture`)."""


@dataclasses.dataclass(frozen=True)
class Constants:
    """What the arithmetic needs besides networks, as the package stores it."""

    bases: tuple[int, ...]  # base widths of the T steps
    threshold: int  # in 2**-THRESHOLD_BITS widths

    def __post_init__(self) -> None:
        if (
            not 1 <= len(self.bases) <= MOST_STEPS
            or any(type(b) is not int for b in self.bases)
            or type(self.threshold) is not int
        ):
            raise PackageError(
                f"base widths {self.bases}, threshold {self.threshold}: expected 1 to {MOST_STEPS} integers, and one"
            )
        if self.bases[0] > 256 or not 0 <= self.threshold < 1 << THRESHOLD_BITS:
            raise PackageError(
                f"base widths {self.bases}, threshold {self.threshold}: expected at most 256, and 0 to 255"
            )
        try:
            lattice.widths(self.bases)
        except ValueError as error:
            raise PackageError(str(error)) from None

    @property
    def steps(self) -> int:
        """T."""
        return len(self.bases)

    def widths(self, step: int, level: int) -> Integers:
        """(9,) of the cells after a step."""
        return np.array(lattice.widths(self.bases)[step][level - 1], np.int64).reshape(-1)

    def units(self, step: int, level: int) -> Integers:
        """(9,) what networks count in: the cells' widths before the step."""
        return self.widths(step - 1, level) if step else self.widths(0, level) * FIRST

    @classmethod
    def of(cls, model: Package) -> "Constants":
        """A package's. Raises `PackageError` where they are not those of this family."""
        try:
            found = cls(**{name: tuples(value) for name, value in model.constants.items()})
            networks = len(model.network["steps"])
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            raise PackageError(f"{model.name}: the constants are not those of the family 'pyramid': {error}") from None
        if networks != found.steps:
            raise PackageError(f"{model.name}: widths for {found.steps} steps, networks for {networks}")
        return found


class PyramidPart(NamedTuple):
    """One question of a step. `level` 0: the last low-pass, `digit` 0 its groups, 1 the rest. Else
    `digit` 0: groups of many children.

    A step that asks nothing has one part of digit NOTHING. Before a channel of a large band come
    the parts of its correction.
    """

    level: int
    band: int
    channel: int
    digit: int
    run: int


@dataclasses.dataclass(frozen=True)
class PyramidState:
    """What the receiver knows of N pictures after `step` chunks and, where it is `cut`, of parts of
    the next one. Lists are by level.
    """

    step: int
    size: tuple[int, int]  # (H, W)
    grey: bool
    ground: Values  # (N, 3, h, w) the last low-pass, pixel values
    low: list[Planes]  # (N, 9, h, w) the cells, ends included
    high: list[Planes]
    value: list[Planes]  # best guesses in 2**-VALUE_BITS: middles of cells, or predictions within them
    mean: list[Planes]  # posterior means, for previews; the same unit
    offset: Offsets
    cut: bool = False
    work: dict[str, Any] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )  # the chunk in progress; whether the state is spent, and whether the next one is not shown


@dataclasses.dataclass
class Level:
    """One level while it is told."""

    number: int
    image: Values  # (N, 3, h, w) the low-pass image
    before: Planes  # (N, 9, h, w) values as the step began
    trunk: Any  # until the last band has its outputs
    errors: list[Values] = dataclasses.field(default_factory=list)  # (N, h, w) of each band and channel so far, values
    louds: list[NDArray[np.int8]] = dataclasses.field(default_factory=list)
    raw: Any = None  # of the current band
    base: list[Array] = dataclasses.field(default_factory=list)  # of its channels
    spoken: int = -1  # the number of that band
    correcting: Correcting | None = None  # of the current channel
    choice: tuple[int, Choice] | None = None  # likewise: its number, and what `PyramidChunk._choice` gives
    band: Band | None = None


class PyramidChunk:
    """A step in progress. It shares the planes of the state that it began with, and puts new ones
    in their place.
    """

    def __init__(self, constants: Constants, networks: Networks, parts: list[PyramidPart], state: PyramidState) -> None:
        self.constants, self.networks, self.parts, self.state = constants, networks, parts, state
        self.last = state.step + 1 == constants.steps
        self.quiet = False  # whether answers have ended
        self.blind = not self.last and "blind" in state.work  # whether nobody looks at the means of this step
        self.ground = state.ground.copy()
        known = state.low, state.high, state.value, state.mean
        # Of a state that is spent a plane goes as soon as the new one is there.
        spent = "spent" in state.work
        self.low, self.high, self.value, self.mean = known if spent else (list(one) for one in known)
        self._own = set(range(len(self.low))) if spent else set[int]()  # levels whose planes may be replaced
        self.through = len(self.low) + 1  # this level and the coarser ones are told
        self.shapes = lattice.shapes(*state.size, len(self.low))
        self.level: Level | None = None
        self._begun: PyramidPart | None = None  # whose band is in hand

    def become(self, step: int, cut: bool) -> PyramidState:
        """The state that this has led to."""
        s = self.state
        for i in set(range(len(self.low))) - self._own:
            self._renew(i, s.low[i], s.high[i], s.value[i], s.mean[i])
        self.through, self.level = 0, None
        s.work.pop("before", None)
        return PyramidState(
            step, s.size, s.grey, self.ground, self.low, self.high, self.value, self.mean, s.offset, cut
        )

    def _renew(self, i: int, *planes: Planes) -> None:
        for known, one in zip((self.low, self.high, self.value, self.mean), planes):
            known[i] = one

    def question(self, number: int) -> list[Any]:
        """What part `number` asks, one record for each picture."""
        one = self.parts[number]
        n, (h, w) = len(self.ground), self.shapes[-1]
        if one.level == 0:
            return [Ground(len(self.low), one.channel, one.digit, (h, w), one.channel * h * w) for _ in range(n)]
        if one.digit >= CORRECTED:
            level = self._level(one)
            if one.digit == CORRECTED:
                level.correcting = self._correcting(level, one)
            assert level.correcting is not None
            return level.correcting.question(one.digit)
        band = self._band(one)
        return [self._question(one, band, i) for i in range(n)]

    def answered(self, number: int, questions: Sequence[Any], answers: Sequence[Integers]) -> None:
        """Answers to part `number`, which may fall short."""
        one = self.parts[number]
        short = any(len(a) < q.size for a, q in zip(answers, questions))
        if one.level == 0:
            return self._grounded(one, questions, answers)
        if one.digit >= CORRECTED:
            assert self.level is not None
            assert self.level.correcting is not None
            return None if short else self.level.correcting.answered(one.digit, answers)
        band = self._band(one)
        for q, symbols in zip(questions, answers):
            q.narrow(symbols)
        following = self.parts[number + 1] if number + 1 < len(self.parts) else None
        if short or following is None or following[:3] != one[:3]:
            self._finished(one, band, short)
        return None

    def predict(self, number: int) -> None:
        """The answers end in part `number`: what the networks say of all bands and channels that are
        not told is kept for previews. If they end in the last low-pass, nothing is said.
        """
        cut = self.parts[number]
        if cut.level == 0:
            return
        self.quiet = True
        done = None if cut.digit >= CORRECTED else cut[:3]  # a correction stands before what it corrects
        for one in self.parts[number:]:
            if one[:3] != done and one.digit < NOTHING:
                self._finished(one, self._band(one), True)
                done = one[:3]

    def _grounded(self, one: PyramidPart, questions: Sequence[Any], answers: Sequence[Integers]) -> None:
        columns = np.int64(self.ground.shape[3])
        for ground, q, symbols in zip(self.ground[:, one.channel], questions, answers):
            y, x = np.divmod(np.arange(len(symbols)), columns)
            if one.digit == 0:
                ground[y, x] = q.lowest + symbols * DIGIT + DIGIT // 2
            else:
                ground[y, x] += (symbols - DIGIT // 2).astype(np.int16)
        if self.state.grey:
            self.ground[:, 1:] = 0

    # --- a level, a band and a channel

    def _band(self, one: PyramidPart) -> Band:
        """That of this part: made where its band and channel begin."""
        if self._begun is None or self._begun[:3] != one[:3]:
            level = self._level(one)
            level.correcting = None
            level.band, self._begun = self._opened(level, one), one
        assert self.level is not None
        assert self.level.band is not None
        return self.level.band

    def _level(self, one: PyramidPart) -> Level:
        """That of this part, with its band's outputs: entered and asked for where they begin."""
        if self.level is None or self.level.number != one.level:
            self.level = self._entered(one.level)
        level, i, first = self.level, one.level - 1, CHANNELS * one.band
        if level.spoken != one.band:
            level.raw, level.base = None, []  # before the new ones are made
            if level.image[0].size >= LARGE:
                swept()
            told, errors, louds = (self._first(a, first, i) for a in (self.value[i].planes, level.errors, level.louds))
            unit = self.constants.units(self.state.step, one.level)
            level.raw, level.base = self.networks.outputs(
                self.state.step, one.level, one.band, level.trunk, level.image, level.before, told, errors, louds, unit
            )
            level.spoken = one.band
            if one.band == BANDS - 1:
                level.trunk = None
        return level

    def _first(self, planes: Sequence[Array], count: int, i: int) -> Planes:
        return Planes(planes[:count], (len(self.ground), *self.shapes[i + 1]))

    def _entered(self, number: int) -> Level:
        """A level begins: its image from the levels above, and its trunk."""
        i, step, shape, s = number - 1, self.state.step, self.shapes[number], self.state
        if i not in self._own:  # the state before may have been promised when this chunk began
            self._renew(i, *(one[i].copy() for one in (s.low, s.high, s.value, s.mean)))
            self._own.add(i)
        if self.level is None:
            image = np.clip(self.ground.astype(np.int32) << VALUE_BITS, -32768, 32767).astype(np.int16)
            louds = [np.zeros((len(image), (shape[0] + 1) // 2, (shape[1] + 1) // 2), np.int8)] * DETAILS
        else:
            image, louds = self._image(self.level, shape), self.level.louds
            self.through, self.level = self.level.number, None
        low, high = self.low[i].planes, self.high[i].planes

        def width(some: slice, rows: slice, columns: slice) -> Values:
            return np.stack(
                [b[some, rows, columns] - a[some, rows, columns] + np.int16(1) for a, b in zip(low, high)], 1
            )

        value, units = self.value[i], self.constants.units(step, number)
        trunk = self.networks.trunk(step, number, image, value, Cut(value.shape, width), doubled(louds, shape), units)
        return Level(number, image, value.copy(), trunk)

    def _image(self, coarse: Level, shape: tuple[int, int]) -> Values:
        """The low-pass image that a level which has been told makes, of (h, w) = `shape`; a channel
        at a time.
        """
        found = np.empty((len(self.ground), CHANNELS, *shape), np.int16)
        for c in range(CHANNELS):
            image = coarse.image[:, c : c + 1].astype(np.int32)
            if self.last and not self.quiet:  # all coarser coefficients are known
                finer = (
                    lattice.level_up(image >> VALUE_BITS, bands(self.low[coarse.number - 1], c, shape)) << VALUE_BITS
                )
            else:
                finer = lattice.level_up_values(image, bands(self.value[coarse.number - 1], c, shape), VALUE_BITS)
            found[:, c] = np.clip(finer, -32768, 32767, out=finer)[:, 0]
        return found

    def _opened(self, level: Level, one: PyramidPart) -> Band:
        """A band and channel begins: its mixture, and what is asked."""
        first = CHANNELS * one.band
        *parent, offset, width, choice = self._choice(level, one)
        level.choice = None
        mixture = self._mixture(one, level.raw, level.base[one.channel], level.errors[first:], level.louds[first:])
        asked = choice & self._worth(mixture, width)
        low, high = (copied(end) for end in parent)
        told = np.zeros(asked.shape, bool)
        band = Band(low, high, (parent[0], parent[1]), offset, width, mixture, choice, asked, told)
        if self.state.grey and one.channel:  # both ends know the answer: 0
            bottom = -offset.astype(np.int32) // width * width + offset
            low[asked] = np.maximum(bottom, low)[asked]
            high[asked] = np.minimum(bottom + width - 1, high)[asked]
            band.told |= asked
        return band

    def _choice(self, level: Level, one: PyramidPart) -> Choice:
        """Ends of the cells of a band and channel, offsets, the children's width, and whether there
        is more than one child.
        """
        i, k = one.level - 1, CHANNELS * one.band + one.channel
        if level.choice is not None and level.choice[0] == k:  # a correction has asked already
            return level.choice[1]
        low, high, offset = self.low[i].planes[k], self.high[i].planes[k], self.state.offset.plane(one.level, k)
        width = int(self.constants.widths(self.state.step, one.level)[k])
        found = several((low, high), offset, width)
        rows, columns = lattice.sides(self.shapes[i], one.band)
        found[:, rows:] = False
        found[:, :, columns:] = False
        level.choice = k, (low, high, offset, width, found)
        return low, high, offset, width, found

    def _worth(self, mixture: PyramidMixture, width: int) -> NDArray[np.bool_]:
        """Whether a prediction is so unsure that its detail is asked for now; in the last step all
        are.
        """
        return above_threshold(mixture.turn, width, 0 if self.last else self.constants.threshold)

    def _mixture(
        self, one: PyramidPart, raw: Any, base: Array, errors: Sequence[Any], louds: Sequence[Any]
    ) -> PyramidMixture:
        unit = self.constants.units(self.state.step, one.level)
        return self.networks.mixture(self.state.step, one.level, one.band, one.channel, raw, base, unit, errors, louds)

    def _correcting(self, level: Level, one: PyramidPart) -> Correcting:
        """The corrections of a band's channel begin."""
        i, first, k, step = one.level - 1, CHANNELS * one.band, CHANNELS * one.band + one.channel, self.state.step
        low, high, offset, width, choice = self._choice(level, one)
        told, count = self._first(self.value[i].planes, first, i), CHANNELS + DETAILS + first
        return Correcting(
            CorrectedPlace(
                layout=Layout(count, (level.raw.shape[1] - COUPLINGS) // (3 * CHANNELS), one.channel),
                image=level.image,
                before=level.before,
                told=told,
                raw=level.raw,
                base=level.base,
                errors=level.errors[first:],
                louds=level.louds[first:],
                cells=(low, high),
                offset=offset,
                several=choice,
                width=width,
                units=self.constants.units(step, one.level)[first : k + 1],
                begin=k * low[0].size + places(self.shapes)[i],
                asked=lambda found: self._worth(found, width),
                mixture=functools.partial(self._mixture, one),
                linear=lambda n, weights: self.networks.moved(
                    level.image[n : n + 1], level.before.only(n), told.only(n), weights
                ),
                each=self.networks.each,
            )
        )

    def _question(self, one: PyramidPart, band: Band, i: int) -> Question:
        h, w = band.low.shape[1:]
        rows, columns = lattice.sides(self.shapes[one.level - 1], one.band)
        run, width, many = order.run((rows, columns), one.run), band.width, one.digit == 0
        planes = band.asked[i], band.told[i], band.mixture.turn[i]
        asked = fastest().in_turn(run, columns, *planes, many, width, band.low[i], band.high[i], band.offset[i])
        begin = (CHANNELS * one.band + one.channel) * h * w + places(self.shapes)[one.level - 1]
        return Question(asked, band, i, width * DIGIT if many else width, begin)

    def _finished(self, one: PyramidPart, band: Band, short: bool) -> None:
        """A band and channel has been told: its values, errors and means. What nothing else needs
        is let go.
        """
        level, i, k = self.level, one.level - 1, CHANNELS * one.band + one.channel
        assert level is not None
        level.band, self._begun, level.base[one.channel] = None, None, np.empty(0, np.int32)
        if one.channel == CHANNELS - 1:
            level.raw = None
        exact = self.last and not short
        means = not (exact or (self.blind and self.networks.visited(self.state.step + 1, one.level)))
        value, mean, error, louds = band.concluded(exact, means, lattice.sides(self.shapes[i], one.band))
        for known, plane in ((self.low, band.low), (self.high, band.high), (self.value, value), (self.mean, mean)):
            known[i].planes[k] = plane
        level.errors.append(error)
        level.louds.append(louds)


def bands(details: Planes, channel: int, finer: tuple[int, int]) -> tuple[Array, Array, Array]:
    """HL, LH, HH (N, 1, ., .) of one channel of a level, int32: those that make a field of size
    `finer`.
    """
    return lattice.apart(details[:, channel::CHANNELS, :, :].astype(np.int32), finer)


def places(shapes: list[tuple[int, int]]) -> list[int]:
    """Where the details of level 1, 2, ... begin among a picture's coefficients (see
    `PyramidWalk.values`).
    """
    begins = [CHANNELS * shapes[-1][0] * shapes[-1][1]]
    for h, w in shapes[1:-1]:
        begins.append(begins[-1] + DETAILS * h * w)
    return begins
