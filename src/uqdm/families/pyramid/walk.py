"""The pyramid as a walk over integers (`torch/model.py` says what it is); knows nothing of bytes.

A picture is the coefficients of a wavelet (`lattice`). Both ends draw one offset for each detail, uniform below its first width. Its
cell after step k is the interval of w_k integers, counted from the offset, that holds it. The first step tells the last low-pass as it is.

A step goes from the coarsest level to the finest, and at each level over HL, LH, HH, and in each over Y, Co, Cg. A part tells in which
child of its known cell each detail of one band and channel lies, under a mixture of logistics truncated to that cell. The most uncertain
come first. A detail whose predicted scale is below `threshold` widths is not asked for, and keeps its cell. Every number here is an
integer. So nothing has to be told besides symbols, and every preview is the same everywhere.

Details are kept by level, (N, 9, h, w) of the size of the level's low-pass image: HL, LH, HH, of each Y, Co, Cg. A band that is shorter
repeats its edge there; these places are never asked for.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, Decimal, localcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package, tuples
from uqdm.entropy import randomness, tables
from uqdm.entropy.mixtures import TOTAL
from uqdm.entropy.tables import FRACTION, Cells
from uqdm.errors import LimitError, PackageError
from uqdm.families import colour, order
from uqdm.families.boxes import CellsQuestion, Integers, drawn, pieces
from uqdm.families.pyramid import lattice
from uqdm.families.pyramid.correcting import BITS, CORRECTED, SIZES, Correcting, Place
from uqdm.families.pyramid.networks import COUPLINGS, FIRST, VALUE_BITS, Mixture, loud, relative
from uqdm.families.pyramid.tuning import LEAST, Layout

SPACE = "ycocg-r"
DITHER = 1  # stream of the offsets
CHANNELS, BANDS, DETAILS = 3, 3, 9
NOTHING = 2
DIGIT = 64  # children are told in two digits where there can be more than tables hold: first in groups of so many
MOST_STEPS = 16
THRESHOLD_BITS = 8
PREVIEW_BITS = 8  # behind the point of what previews are made from

Values = NDArray[np.int16]


class Networks(Protocol):
    """A model's networks, whatever runs them."""

    exact: bool

    def visited(self, step: int, level: int) -> bool:
        """Whether a step asks about a level."""

    def trunk(self, step: int, level: int, image: Values, value: Values, width: Values, above: Values, unit: Integers) -> Any:
        """What the passes of a level share (see `LevelNet.features`)."""

    def outputs(
        self,
        step: int,
        level: int,
        band: int,
        trunk: Any,
        image: Values,
        before: Values,
        now: Values,
        errors: Any,
        louds: Any,
        unit: Integers,
    ) -> tuple[Any, Any]:
        """A pass's raw outputs and the linear part of its locations (see `LevelNet`)."""

    def moved(self, image: Values, before: Values, told: Values, weights: Integers) -> Any:
        """What more weights of the linear part add to locations."""

    def mixture(
        self, step: int, level: int, band: int, channel: int, raw: Any, base: Any, unit: Integers, errors: Any, louds: Any
    ) -> Mixture:
        """Of one channel of a band (see `LevelNet.mixture`)."""


@dataclasses.dataclass(frozen=True)
class Constants:
    """What the arithmetic needs besides networks, as the package stores it."""

    bases: tuple[int, ...]  # base widths of the T steps
    threshold: int  # in 2**-THRESHOLD_BITS widths

    def __post_init__(self) -> None:
        if not 1 <= len(self.bases) <= MOST_STEPS or any(type(b) is not int for b in self.bases) or type(self.threshold) is not int:
            raise PackageError(f"base widths {self.bases}, threshold {self.threshold}: expected 1 to {MOST_STEPS} integers, and one")
        if self.bases[0] > 256 or not 0 <= self.threshold < 1 << THRESHOLD_BITS:
            raise PackageError(f"base widths {self.bases}, threshold {self.threshold}: expected at most 256, and 0 to 255")
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


class Part(NamedTuple):
    """One question of a step. `level` 0: the last low-pass, `digit` 0 its groups, 1 the rest. Else `digit` 0: groups of many children.

    A step that asks nothing has one part of digit NOTHING. Before a channel of a large band come the parts of its correction.
    """

    level: int
    band: int
    channel: int
    digit: int
    run: int


@dataclasses.dataclass(frozen=True)
class State:
    """What the receiver knows of N pictures after `step` chunks and, where it is `cut`, of parts of the next one. Lists are by level."""

    step: int
    size: tuple[int, int]  # (H, W)
    grey: bool
    ground: Values  # (N, 3, h, w) the last low-pass, pixel values
    low: list[Values]  # (N, 9, h, w) the cells, ends included
    high: list[Values]
    value: list[Values]  # best guesses in 2**-VALUE_BITS: middles of cells, or predictions within them
    mean: list[Values]  # posterior means, for previews; the same unit
    offset: list[Values]
    cut: bool = False
    work: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)  # the chunk in progress


class Ground:
    """What is asked of the last low-pass of one channel: one digit of each coefficient, all as likely as any other."""

    def __init__(self, level: int, channel: int, digit: int, shape: tuple[int, int], at: int) -> None:
        self.lowest, highest = lattice.low_range(level, channel)
        self.digit, self._at = digit, at
        self.size = shape[0] * shape[1] if digit != NOTHING else 0
        self.count = -(-(highest - self.lowest + 1) // DIGIT) if digit == 0 else DIGIT

    def symbols(self, values: Values, part: slice) -> Integers:
        """values (D,): a picture's coefficients (see `Pyramid.values`)."""
        own = values[self._at + part.start : self._at + part.stop].astype(np.int64) - self.lowest
        return own // DIGIT if self.digit == 0 else own % DIGIT

    def table(self, part: slice) -> Integers:
        """Rows of equal masses; the last column is no child."""
        share = (1 << tables.PRECISION) // (self.count + 1)
        row = np.full(self.count + 1, share, np.int64)
        row[-1] = 1
        row[0] += (1 << tables.PRECISION) - int(row.sum())
        return np.broadcast_to(row, (part.stop - part.start, self.count + 1))

    def children(self, part: slice) -> Integers:
        """(m,)"""
        return np.full(part.stop - part.start, self.count, np.int64)

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """Symbols by chance."""
        return np.minimum(drawn(self.table(part), chances), self.count - 1)


class Question(CellsQuestion):
    """What one run of one band and channel asks of one picture."""

    def __init__(self, asked: NDArray[np.int32], band: "Band", i: int, width: int, begin: int) -> None:
        super().__init__(asked, band.offset[i].reshape(-1)[asked].astype(np.int32))
        self._begin = begin  # place of the band and channel in a picture's coefficients
        self._low, self._high = band.low[i].reshape(-1), band.high[i].reshape(-1)
        count = band.mixture.location.shape[-1]
        self._mixture = tuple(a[i].reshape(-1, count) for a in band.mixture[:3])
        self._unit, self._width = band.width, width

    def symbols(self, values: Values, part: slice) -> Integers:
        """values (D,): a picture's coefficients."""
        begin, width = self.begin(part)
        return ((values[self.asked[part] + self._begin].astype(np.int64) << FRACTION) - begin) // width

    def _cells(self, part: slice) -> Cells:
        at, offset = self.asked[part], self.dither[part].astype(np.int64)
        low, high = self._low[at].astype(np.int32), self._high[at].astype(np.int32)
        start = ((low - offset) // self._unit * self._unit + offset) << FRACTION
        location, level, weight = (a[at] for a in self._mixture)
        width = np.full(len(at), self._width << FRACTION, np.int64)
        if location.shape[1] == 1:
            return Cells(low, high, start, width, location[:, 0].astype(np.int64), level[:, 0])
        return Cells(low, high, start, width, location.astype(np.int64), level, weight)


@dataclasses.dataclass
class Band:
    """One band and channel while it is told: (N, h, w) each, of the low-pass image's size."""

    low: Values  # the cells, as they become smaller
    high: Values
    parent: tuple[Values, Values]  # the cells as the band began
    offset: Values
    width: int  # of the children
    mixture: Mixture
    asked: NDArray[np.bool_]  # what has several children and is not skipped
    told: NDArray[np.bool_]  # what has been answered


@dataclasses.dataclass
class Level:
    """One level while it is told."""

    number: int
    image: Values  # (N, 3, h, w) the low-pass image
    before: Values  # (N, 9, h, w) values as the step began
    trunk: Any
    errors: list[Values] = dataclasses.field(default_factory=list)  # (N, h, w) of each band and channel so far, values
    louds: list[Values] = dataclasses.field(default_factory=list)
    raw: Any = None  # of the current band
    base: Any = None
    spoken: int = -1  # the number of that band
    correcting: Correcting | None = None  # of the current channel
    band: Band | None = None


class Chunk:
    """A step in progress: arrays of its own, which answers change in place."""

    def __init__(self, constants: Constants, networks: Networks, parts: list[Part], state: State) -> None:
        self.constants, self.networks, self.parts, self.state = constants, networks, parts, state
        self.last = state.step + 1 == constants.steps
        self.ground = state.ground.copy()
        self.low, self.high, self.value, self.mean = ([a.copy() for a in one] for one in (state.low, state.high, state.value, state.mean))
        self.shapes = lattice.shapes(*state.size, len(self.low))
        self.level: Level | None = None
        self._begun: Part | None = None  # whose band is in hand

    def become(self, step: int, cut: bool) -> State:
        """The state that this has led to."""
        s = self.state
        return State(step, s.size, s.grey, self.ground, self.low, self.high, self.value, self.mean, s.offset, cut)

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
        for i, (q, symbols) in enumerate(zip(questions, answers)):
            for piece in pieces(len(symbols)):
                y, x = np.divmod(q.asked[piece], np.int32(band.low.shape[2]))
                begin, width = q.begin(piece)
                bottom = (begin + symbols[piece] * width) >> FRACTION
                band.low[i, y, x] = np.maximum(bottom, band.low[i, y, x])
                band.high[i, y, x] = np.minimum(bottom + (width >> FRACTION) - 1, band.high[i, y, x])
                band.told[i, y, x] = one.digit == 1
        following = self.parts[number + 1] if number + 1 < len(self.parts) else None
        if short or following is None or following[:3] != one[:3]:
            self._finished(one, band, short)
        return None

    def _grounded(self, one: Part, questions: Sequence[Any], answers: Sequence[Integers]) -> None:
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

    def _band(self, one: Part) -> Band:
        """That of this part: made where its band and channel begin."""
        if self._begun is None or self._begun[:3] != one[:3]:
            level = self._level(one)
            level.band, self._begun = self._opened(level, one), one
        assert self.level is not None
        assert self.level.band is not None
        return self.level.band

    def _level(self, one: Part) -> Level:
        """That of this part, with its band's outputs: entered and asked for where they begin."""
        if self.level is None or self.level.number != one.level:
            self.level = self._entered(one.level)
        level, i, first = self.level, one.level - 1, CHANNELS * one.band
        if level.spoken != one.band:
            errors, louds = (np.stack(a[:first], 1) if first else None for a in (level.errors, level.louds))
            told, unit = self.value[i][:, :first], self.constants.units(self.state.step, one.level)
            level.raw, level.base = self.networks.outputs(
                self.state.step, one.level, one.band, level.trunk, level.image, level.before, told, errors, louds, unit
            )
            level.spoken = one.band
        return level

    def _entered(self, number: int) -> Level:
        """A level begins: its image from the levels above, and its trunk."""
        i, step, shape = number - 1, self.state.step, self.shapes[number]
        above = np.zeros((len(self.ground), DETAILS, *shape), np.int16)
        image = self.ground.astype(np.int32) << VALUE_BITS
        if self.level is not None:
            above[...] = np.stack(self.level.louds, 1).repeat(2, 2).repeat(2, 3)[:, :, : shape[0], : shape[1]]
            coarse = self.level.image.astype(np.int32)
            if self.last:  # all coarser coefficients are known
                image = lattice.level_up(coarse >> VALUE_BITS, lattice.apart(self.low[number].astype(np.int32), shape)) << VALUE_BITS
            else:
                image = lattice.level_up_values(coarse, lattice.apart(self.value[number].astype(np.int32), shape), VALUE_BITS)
        field = np.clip(image, -32768, 32767).astype(np.int16)
        width = self.high[i] - self.low[i] + np.int16(1)
        trunk = self.networks.trunk(step, number, field, self.value[i], width, above, self.constants.units(step, number))
        return Level(number, field, self.value[i].copy(), trunk)

    def _opened(self, level: Level, one: Part) -> Band:
        """A band and channel begins: its mixture, and what is asked."""
        first = CHANNELS * one.band
        low, high, offset, width, asked = self._choice(one)
        mixture = self._mixture(one, level.raw, level.base, self._errors(level, one), level.louds[first:])
        asked &= self._worth(mixture, width)
        band = Band(low, high, (low.copy(), high.copy()), offset, width, mixture, asked, np.zeros(asked.shape, bool))
        if self.state.grey and one.channel:  # both ends know the answer: 0
            bottom = -offset.astype(np.int32) // width * width + offset
            low[asked] = np.maximum(bottom, low)[asked]
            high[asked] = np.minimum(bottom + width - 1, high)[asked]
            band.told |= asked
        return band

    def _choice(self, one: Part) -> tuple[Values, Values, Values, int, NDArray[np.bool_]]:
        """Ends of the cells of a band and channel, offsets, the children's width, and whether there is more than one child."""
        i, k = one.level - 1, CHANNELS * one.band + one.channel
        low, high, offset = (a[i][:, k] for a in (self.low, self.high, self.state.offset))
        width = int(self.constants.widths(self.state.step, one.level)[k])
        found = several((low, high), offset, width)
        rows, columns = lattice.sides(self.shapes[i], one.band)
        found[:, rows:] = False
        found[:, :, columns:] = False
        return low, high, offset, width, found

    def _worth(self, mixture: Mixture, width: int) -> NDArray[np.bool_]:
        """Whether a prediction is so unsure that its detail is asked for now; in the last step all are."""
        return above_threshold(mixture.turn, width, 0 if self.last else self.constants.threshold)

    def _errors(self, level: Level, one: Part) -> list[Any]:
        """Of the earlier channels of a band, relative to their units."""
        first, unit = CHANNELS * one.band, self.constants.units(self.state.step, one.level)
        return [relative(e[:, None], VALUE_BITS, unit[j : j + 1])[:, 0] for j, e in enumerate(level.errors[first:], first)]

    def _mixture(self, one: Part, raw: Any, base: Any, errors: Sequence[Any], louds: Sequence[Any]) -> Mixture:
        unit = self.constants.units(self.state.step, one.level)
        return self.networks.mixture(self.state.step, one.level, one.band, one.channel, raw, base, unit, errors, louds)

    def _correcting(self, level: Level, one: Part) -> Correcting:
        """The corrections of a band's channel begin."""
        i, first, k, step = one.level - 1, CHANNELS * one.band, CHANNELS * one.band + one.channel, self.state.step
        low, high, offset, width, choice = self._choice(one)
        told, planes = self.value[i][:, :first], CHANNELS + DETAILS + first
        return Correcting(
            Place(
                layout=Layout(planes, (level.raw.shape[1] - COUPLINGS) // (3 * CHANNELS), one.channel),
                image=level.image,
                before=level.before,
                told=told,
                raw=level.raw,
                base=level.base,
                errors=self._errors(level, one),
                louds=level.louds[first:],
                cells=(low, high),
                offset=offset,
                several=choice,
                width=width,
                unit=int(self.constants.units(step, one.level)[k]),
                begin=k * low[0].size + places(self.shapes)[i],
                asked=lambda found: self._worth(found, width),
                mixture=functools.partial(self._mixture, one),
                linear=lambda n, weights: self.networks.moved(level.image[n : n + 1], level.before[n : n + 1], told[n : n + 1], weights),
            )
        )

    def _question(self, one: Part, band: Band, i: int) -> Question:
        h, w = band.low.shape[1:]
        rows, columns = lattice.sides(self.shapes[one.level - 1], one.band)
        y, x = np.divmod(order.run((rows, columns), one.run), np.int32(columns))
        asked, width = band.asked[i, y, x] & ~band.told[i, y, x], band.width
        if one.digit == 0:
            low, high, offset = (a[i, y, x].astype(np.int32) for a in (band.low, band.high, band.offset))
            asked &= (high - offset) // width - (low - offset) // width >= tables.MOST
            width *= DIGIT
        turn = (band.mixture.turn[i, y, x] // np.uint16(TOTAL) + np.uint16(1)) * asked
        chosen = (y * np.int32(w) + x)[order.by_priority(turn.astype(np.uint8))]
        begin = (CHANNELS * one.band + one.channel) * h * w + places(self.shapes)[one.level - 1]
        return Question(chosen, band, i, width, begin)

    def _finished(self, one: Part, band: Band, short: bool) -> None:
        """A band and channel has been told: its values, errors and means."""
        assert self.level is not None
        i, k = one.level - 1, CHANNELS * one.band + one.channel
        low, high, bottom, top = (a.astype(np.int32) << VALUE_BITS for a in (band.low, band.high, *band.parent))
        guess = np.clip(band.mixture.guess.astype(np.int32), bottom, top)
        centre = (low + high) >> 1
        certain = band.told | ~several(band.parent, band.offset, band.width)
        value = np.where(certain, centre, np.clip(guess, low, high))
        error = np.where(band.told, centre - guess, 0)
        louds = np.where(band.told, loud(error, band.mixture.turn), 0)
        mean = centre
        if not self.last or short:
            half = 1 << (FRACTION - VALUE_BITS - 1)
            mean = (tables.mixture_mean(*band.mixture[:3], band.low, band.high) + half) >> (FRACTION - VALUE_BITS)
        sides = lattice.sides(self.shapes[i], one.band)
        self.value[i][:, k], self.mean[i][:, k] = value, mean
        found = [a.astype(np.int16) for a in (error, louds)]
        for field in (band.low, band.high, self.value[i][:, k], self.mean[i][:, k], *found):
            lattice.repeat_edge(field, sides)
        self.level.errors.append(found[0])
        self.level.louds.append(found[1])
        self.level.band, self._begun = None, None


def several(cells: tuple[Values, Values], offset: Values, width: int) -> NDArray[np.bool_]:
    """Whether cells have more than one child of that width."""
    low, high = (end.astype(np.int32) for end in cells)
    found: NDArray[np.bool_] = (low - offset) // width < (high - offset) // width
    return found


def places(shapes: list[tuple[int, int]]) -> list[int]:
    """Where the details of level 1, 2, ... begin among a picture's coefficients (see `Pyramid.values`)."""
    begins = [CHANNELS * shapes[-1][0] * shapes[-1][1]]
    for h, w in shapes[1:-1]:
        begins.append(begins[-1] + DETAILS * h * w)
    return begins


def above_threshold(turn: NDArray[np.uint16], width: int, threshold: int) -> NDArray[np.bool_]:
    """Whether predicted scales are at least threshold / 2**THRESHOLD_BITS widths; `turn` of `Mixture`: TOTAL times the scale's level."""
    return turn >= np.uint16(least_turn(width, threshold))


@functools.cache
def least_turn(width: int, threshold: int) -> int:
    """The least `turn` of a scale that is asked for."""
    if threshold == 0:
        return 0
    with localcontext() as context:
        context.prec = 50
        octaves = (Decimal(width) * threshold / (1 << THRESHOLD_BITS)).ln() / Decimal(2).ln() - tables.LOWEST_OCTAVE
        return max(0, int((octaves * tables.LEVELS_PER_OCTAVE * TOTAL).to_integral_value(ROUND_CEILING)))


class Pyramid:
    """The walk. Implements `families.Family`."""

    side_size = 0
    bounded = True
    measured = True

    def __init__(self, constants: Constants, networks: Networks, halvings: int = 0) -> None:
        """`halvings`: so many of the finest levels are left out."""
        self.constants, self.networks, self.halvings = constants, networks, halvings
        self._parts: dict[tuple[int, tuple[int, int], bool], list[Part]] = {}

    @property
    def chunks(self) -> int:
        """T."""
        return self.constants.steps

    def reduced(self, halvings: int) -> "Pyramid":
        """A step's coarse levels come first and know nothing of the finer ones, so these need not be read."""
        return Pyramid(self.constants, self.networks, halvings)

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> State:
        """Before the first chunk: all coefficients anywhere in their ranges. The chroma of a grey picture is 0 and never asked for."""
        h, w = shape
        if 3 * h * w >= 2**31:
            raise LimitError(f"{w} x {h} is {h * w:,} pixels; places of coefficients are numbers below 2**31: at most 715,827,882 pixels")
        count, n = lattice.levels(h, w), len(seeds)
        shapes = lattice.shapes(h, w, count)
        ground = np.zeros((n, CHANNELS, *shapes[-1]), np.int16)
        ground[:, 0] = sum(lattice.low_range(count, 0)) // 2
        state = State(0, shape, grey, ground, [], [], [], [], [])
        drawn_so_far = 0
        for level in range(1, count + 1):
            low, high, value, mean, offset = (np.zeros((n, DETAILS, *shapes[level]), np.int16) for _ in range(5))
            area = shapes[level][0] * shapes[level][1]
            for k, most in enumerate(self.constants.widths(0, level).tolist()):
                if all(lattice.sides(shapes[level - 1], k // CHANNELS)):
                    high[:, k] = lattice.detail_range(level, k // CHANNELS, k % CHANNELS)
                    low[:, k] = -high[:, k]
                for one, seed in zip(offset, seeds):
                    one[k] = randomness.below(most, randomness.raw(seed, DITHER, area, drawn_so_far)).reshape(shapes[level])
                drawn_so_far += area
            for known, array in zip((state.low, state.high, state.value, state.mean, state.offset), (low, high, value, mean, offset)):
                known.append(array)
        return state

    def values(self, pixels: NDArray[np.uint8]) -> Values:
        """Pixels (N, 3, H, W) as the integers that are coded: (N, D), the last low-pass, then the details of level 1, 2, ..."""
        v = colour.forward(pixels, SPACE)
        low, bands = lattice.forward(v, lattice.levels(*v.shape[2:]))
        parts = [low, *(lattice.side_by_side(level) for level in bands)]
        return np.concatenate([p.astype(np.int16).reshape(len(v), -1) for p in parts], 1)

    def side(self, state: State) -> list[bytes]:
        """Nothing is told besides symbols."""
        return [b""] * len(state.ground)

    def parts(self, state: State) -> int:
        """A part is a run of a digit of a channel of a band of a level."""
        return len(self._list(state))

    def _list(self, state: State) -> list[Part]:
        key = state.step, state.size, state.grey
        if key not in self._parts:
            self._parts[key] = list(self._all(*key)) or [Part(0, 0, 0, NOTHING, 0)]
        return self._parts[key]

    def _all(self, step: int, size: tuple[int, int], grey: bool) -> Iterator[Part]:
        count = lattice.levels(*size)
        shapes = lattice.shapes(*size, count)
        if step == 0:
            yield from (Part(0, 0, c, digit, 0) for c in range(1 if grey else CHANNELS) for digit in range(2))
        for level in range(count, min(self.halvings, count), -1):
            if not self.networks.visited(step, level):
                break
            for k, width in enumerate(self.constants.widths(step, level).tolist()):
                band, channel = divmod(k, CHANNELS)
                rows, columns = lattice.sides(shapes[level - 1], band)
                if rows * columns >= LEAST and not (grey and channel):
                    yield from (Part(level, band, channel, digit, 0) for digit in (CORRECTED, SIZES, BITS))
                most = 2 * lattice.detail_range(level, band, channel) // width + 2  # children
                for digit in range(0 if most > tables.MOST else 1, 2):
                    for run in range(max(1, order.runs((rows, columns)))):
                        yield Part(level, band, channel, digit, run)

    def question(self, state: State, part: int, side: Sequence[bytes]) -> list[Any]:
        """What part `part` of the next chunk asks, one record for each picture."""
        if part == 0:
            state.work["chunk"] = Chunk(self.constants, self.networks, self._list(state), state)
        found: list[Any] = state.work["chunk"].question(part)
        return found

    def update(self, state: State, part: int, questions: Sequence[Any], answers: Sequence[Integers]) -> State:
        """What is known after the answers, which may fall short."""
        chunk: Chunk = state.work["chunk"]
        chunk.answered(part, questions, answers)
        if any(len(a) < q.size for a, q in zip(answers, questions)):
            return chunk.become(state.step, True)
        if part + 1 == len(chunk.parts):
            return chunk.become(state.step + 1, False)
        return state

    # --- previews

    def denoise(self, state: State) -> NDArray[np.uint8]:
        """The `denoise` reconstruction: posterior means from what each step's own networks said. uint8 (N, 3, H, W); exact at the end."""
        least = min(self.halvings, len(state.low))
        shapes = lattice.shapes(*state.size, len(state.low))[least:]
        if state.step >= self.chunks:
            v = state.ground.astype(np.int32)
            for details, finer in zip(reversed(state.low[least:]), reversed(shapes[:-1])):
                v = lattice.level_up(v, lattice.apart(details.astype(np.int32), finer))
            return colour.inverse(np.clip(v, -32768, 32767).astype(np.int16), SPACE)
        v = state.ground.astype(np.int32) << PREVIEW_BITS
        for details, finer in zip(reversed(state.mean[least:]), reversed(shapes[:-1])):
            bands = lattice.apart(details.astype(np.int32) << (PREVIEW_BITS - VALUE_BITS), finer)
            v = lattice.level_up_values(v, bands, PREVIEW_BITS)
        v = np.clip(v, -(1 << 13) << PREVIEW_BITS, ((1 << 13) - 1) << PREVIEW_BITS) << (FRACTION - PREVIEW_BITS)
        if state.grey:  # luma is the pixel: the transform's floors took nothing off it
            return colour.preview(np.repeat(v[:, :1], 3, 1), "rgb")
        return colour.preview(v, SPACE)

    def flow(self, state: State) -> NDArray[np.uint8]:
        """The same as `denoise`: a mean has no noise to follow."""
        return self.denoise(state)

    def bound(self, state: State) -> list[int]:
        """Cells of a wavelet bound nothing useful: 255 before the end, 0 there."""
        return [0 if state.step >= self.chunks else 255] * len(state.ground)

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """Before the first chunk, after it, ..., after the last."""
        return [(255, 255, 255)] * self.chunks + [(0, 0, 0)]
