"""The family `pyramid`, from docs/format.md alone."""

import functools
import itertools
from collections.abc import Callable
from decimal import Decimal, localcontext
from math import ceil, log, log2
from typing import Any, NamedTuple

import numpy as np

from document import nested
from document.convolutions import high_passed, summed
from document.stream import ONE, SHARED, Payload, Stream, chunks, header, logistic, mantissa, nearest, philox, pixels
from document.stream import lattice as lattice_order

NORMS = ((1.038, 0.719), (1.592, 0.922), (2.919, 1.586), (5.703, 3.043), (11.33, 6.019), (22.64, 12.01))
FACTORS = (1.0, 2.449, 2.0)
LUMA = ((447, 574), (583, 860), (656, 1029), (672, 1068), (679, 1079), (684, 1095))
CHROMA = ((829, 1084), (1101, 1658), (1249, 1994), (1278, 2071), (1293, 2093), (1304, 2124))
LOW_LUMA = ((0, 255), (-222, 479), (-272, 529), (-299, 555), (-303, 559), (-307, 564), (-308, 566))
LOW_CHROMA = (255, 639, 739, 791, 799, 808, 814)
LIKELY, EVEN, BIT = (16, 16, 16, 12, 8, 4, 3, 2, 1, 1, 1), (1,) * 11, (1, 1)
RUN, WORTH, MOST, GROUP = 1 << 20, 1 << 14, 1023, 64


class MissingError(Exception):
    """A cut file does not hold the next symbol."""


def taken(stream: Stream, parts: list[int]) -> int:
    symbol = stream.symbol(parts)
    if symbol is None:
        raise MissingError
    return symbol


# --- the wavelet


def count_of_levels(height: int, width: int) -> int:
    side, count = max(height, width), 0
    while side > 2 and count < 6:
        side, count = (side + 1) // 2, count + 1
    return count


def join(low: Any, high: Any, axis: int, b: int | None) -> Any:
    """`b`: bits behind the point, without the floors' mean losses; None: exactly."""
    low, high = np.moveaxis(low, axis, -1), np.moveaxis(high, axis, -1)
    evens, odds = low.shape[-1], high.shape[-1]
    if not odds:
        return np.moveaxis(low, -1, axis)
    before = np.concatenate([high[..., :1], high], -1)[..., :evens]
    behind = np.concatenate([high, high[..., -1:]], -1)[..., :evens]
    even = low - (before + behind + 2 >> 2) - (0 if b is None else 1 << b - 3)
    right = np.concatenate([even[..., 1:], even[..., -1:]], -1)[..., :odds]
    odd = high + (even[..., :odds] + right + (b is not None) >> 1) - (0 if b is None else 1 << b - 2)
    found = np.empty((*low.shape[:-1], evens + odds), np.int64)
    found[..., ::2], found[..., 1::2] = even, odd
    return np.moveaxis(found, -1, axis)


def inverse(low: Any, bands: list[Any], b: int | None = None) -> Any:
    """One level."""
    return join(join(low, bands[0], -1, b), join(bands[1], bands[2], -1, b), -2, b)


def detail_range(level: int, band: int, channel: int) -> int:
    return (CHROMA if channel else LUMA)[level - 1][band == 2]


def low_range(count: int, channel: int) -> tuple[int, int]:
    return (-LOW_CHROMA[count], LOW_CHROMA[count]) if channel else LOW_LUMA[count]


def widths(bases: list[int], level: int) -> list[list[int]]:
    """By step, of the nine planes of a level."""
    rows = [[1] * 9]
    for base in reversed(bases[:-1]):
        row = []
        for k, below in enumerate(rows[0]):
            t = base * FACTORS[k % 3] / NORMS[level - 1][k // 3 == 2]
            row.append(below * max(1, round(t / below)))
        rows.insert(0, row)
    return rows


# --- integers around the networks


def rel(x: Any, b: int, unit: Any) -> Any:
    return np.clip(x * (2**24 // unit)[:, None, None] + 2 ** (18 + b) >> 19 + b, -2047, 2047)


def sixteen(x: Any) -> Any:
    return np.clip(x, -32768, 32767)


@functools.cache
def louds() -> Any:
    with localcontext() as context:
        context.prec = 50
        return np.array([nearest(32 * (1 + Decimal(q) / 32).ln()) - 22 for q in range(2049)])


@functools.cache
def scales() -> tuple[Any, Any]:
    """m and s of F, by level."""
    return np.array([mantissa(level) for level in range(128)]), 25 + np.arange(128) // 8


@functools.cache
def logistics() -> Any:
    return np.array([logistic(cell) for cell in range(48 * 128 + 1)] + [2**36])


def distribution(position: Any, location: Any, level: Any) -> Any:
    """As that of `stream`, of arrays."""
    m, s = scales()
    t = np.clip((position - location) * m[level] >> s[level], -24 * ONE, 24 * ONE) + 24 * ONE
    below = logistics()[t >> 9]
    return below + ((logistics()[(t >> 9) + 1] - below) * (t & 511) >> 9)


@functools.cache
def exponentials() -> Any:
    return np.array([nested.exponential(k) for k in range(1025)])


def weights(logarithm: Any) -> Any:
    """Of mixtures, (J, h, w)."""
    e, count = exponentials()[np.minimum(logarithm.max(0) - logarithm, 1024)], len(logarithm)
    found = e * (256 - count) // e.sum(0) + 1
    first = logarithm.argmax(0)[None]
    np.put_along_axis(found, first, np.take_along_axis(found, first, 0) + 256 - found.sum(0), 0)
    return found


class Mixture(NamedTuple):
    """(J, h, w) each."""

    location: Any
    level: Any
    weight: Any

    @property
    def total(self) -> Any:
        """S, the sum of level times weight."""
        return (self.level * self.weight).sum(0)

    def mean(self, low: Any, high: Any) -> Any:
        found = np.zeros_like(low)
        for y, x in np.ndindex(low.shape):
            one = [(int(w), int(at), int(level)) for at, level, w in zip(*(a[:, y, x] for a in self))]
            found[y, x] = nested.mixture_mean(one, int(low[y, x]), int(high[y, x])) + 2**12 >> 13
        return found


@functools.cache
def fixed(likely: tuple[int, ...]) -> list[int]:
    """Boundaries of the parts of a table of a correction."""
    return list(itertools.accumulate((a * (2**24 - 1024) // sum(likely) for a in likely), initial=0))


@functools.cache
def ground_table(k: int) -> list[int]:
    share = 2**24 // (k + 1)
    return [0, *(2**24 - 1 - (k - j) * share for j in range(1, k + 1))]


@functools.cache
def places(rows: int, columns: int) -> Any:
    return np.array(lattice_order(rows, columns)).reshape(-1, 2).T


def least_total(width: int, threshold: int) -> int:
    """The least S of a detail that is asked for."""
    return max(0, ceil(2048 * (log2(width * threshold / 256) + 5))) if threshold else 0


# --- what is known of a level, and a level while it is told


class Level:
    """Planes (9, h, w) of details."""

    def __init__(self, number: int, finer: tuple[int, int], bases: list[int]) -> None:
        (h, w), self.number = finer, number
        self.shape = (h + 1) // 2, (w + 1) // 2
        self.sides = [((h + 1) // 2, w // 2), (h // 2, (w + 1) // 2), (h // 2, w // 2)]
        self.widths = np.array(widths(bases, number))
        self.low, self.high, self.value, self.offset = (np.zeros((9, *self.shape), np.int64) for _ in range(4))
        for k in range(9):
            if all(self.sides[k // 3]):
                self.high[k] = detail_range(number, k // 3, k % 3)
                self.low[k] = -self.high[k]
        self.means: list[Any] = [None] * 9  # what they are made of, where a step has told it

    def unit(self, s: int) -> Any:
        return self.widths[s - 1] if s else 4 * self.widths[0]

    def apart(self, planes: Any) -> list[Any]:
        return [planes[3 * band : 3 * band + 3, :rows, :columns] for band, (rows, columns) in enumerate(self.sides)]

    def fill(self, plane: Any, band: int) -> None:
        """Repeats the last column and row of a band behind it."""
        rows, columns = self.sides[band]
        if rows and columns:
            plane[:, columns:] = plane[:, columns - 1 : columns]
            plane[rows:] = plane[rows - 1 : rows]

    def mean(self) -> Any:
        found = np.zeros((9, *self.shape), np.int64)
        for k, told in enumerate(self.means):
            if told is not None:
                mixture, low, high = told
                rows, columns = self.sides[k // 3]
                inner = np.s_[:rows, :columns]
                found[k][inner] = Mixture(*(a[:, *inner] for a in mixture)).mean(low[inner], high[inner])
        return found


class Telling:
    """A level in a step."""

    def __init__(self, one: "Decoder", s: int, level: Level, image: Any, loudness: Any) -> None:
        self.one, self.s, self.level, self.image, self.unit = one, s, level, sixteen(image), level.unit(s)
        self.own, self.described = one.own(s, level.number)
        self.before, self.width, self.last = level.value.copy(), level.widths[s], s == len(level.widths) - 1
        self.error, self.loudness = np.zeros((2, 9, *level.shape), np.int64)
        self.trunk = nested.network(self.own, "trunk", self.described["trunk"], self.features(loudness))

    def features(self, loudness: Any) -> Any:
        flat = np.clip(self.image - np.array([1020, 0, 0])[:, None, None] >> 2, -2047, 2047)
        sharp = rel(high_passed(self.image), 7, self.unit[:3])
        wide = np.minimum(rel(self.level.high - self.level.low + 1, 0, self.unit), 128)
        return np.concatenate([flat, sharp, rel(self.before, 3, self.unit), wide, loudness])

    def begin(self, band: int) -> None:
        """The pass of a band: raw results, and bases."""
        earlier, name, value = slice(0, 3 * band), f"pass{band}", self.level.value
        if band:
            numbers = [rel(a[earlier], 3, self.unit[earlier]) for a in (value, self.error)]
            x, joined = np.concatenate([*numbers, self.loudness[earlier]]), self.trunk
        else:
            x, joined = self.trunk, None
        self.raw = sixteen(nested.network(self.own, name, self.described["passes"], x, joined))
        self.planes = np.concatenate(
            [high_passed(self.image) + 8 >> 4, self.before, value[earlier] - self.before[earlier]]
        )
        linear = self.own[f"{name}.linear"].astype(np.int64)
        self.base = 2 * summed(self.planes, linear) + 2**13 * self.before[3 * band : 3 * band + 3]
        self.count = self.own[f"{name}.offset"].shape[1]

    def rows(self, c: int) -> list[range]:
        """Of a channel, where raw offsets, levels, logarithms and couplings are."""
        j = self.count
        return [
            *(range((3 * kind + c) * j, (3 * kind + c + 1) * j) for kind in range(3)),
            range(9 * j + c * (c - 1), 9 * j + c * (c + 1)),
        ]

    def mixture(self, band: int, c: int) -> Mixture:
        k, u = 3 * band + c, int(self.unit[3 * band + c])
        offset, level, logarithm, couplings = (self.raw[list(rows)] for rows in self.rows(c))
        shift, stretch = np.zeros((2, *self.level.shape), np.int64)
        for i in range(c):
            one = slice(3 * band + i, 3 * band + i + 1)
            shift += couplings[2 * i] * rel(self.error[one], 3, self.unit[one])[0]
            stretch += couplings[2 * i + 1] * self.loudness[3 * band + i]
        offsets, levels = (
            self.own[f"pass{band}.{name}"][c].astype(np.int64)[:, None, None] for name in ("offset", "level")
        )
        location = self.base[k - 3 * band] + 2**6 * u * (offset + offsets) + 2**3 * u * shift
        level = level + levels + (round(512 / log(2)) * stretch >> 13) + round(512 * (log2(u) + 5)) + 32 >> 6
        return Mixture(np.clip(location, -(2**30), 2**30), np.clip(level, 0, 127), weights(logarithm))

    def correct(self, stream: Stream, band: int, c: int) -> None:
        if not taken(stream, fixed(BIT)):
            return
        groups = [9] * (12 + 3 * band) + [1] + [self.count] * 3 + ([2 * c] if c else [])
        exponents = [taken(stream, fixed(EVEN)) for _ in groups]
        sizes = [taken(stream, fixed(LIKELY)) for _ in range(sum(groups))]
        told: list[int] = []
        for e, size in zip((e for e, n in zip(exponents, groups) for _ in range(n)), sizes):
            bits = [taken(stream, fixed(BIT)) for _ in range(size)]
            q = functools.reduce(lambda q, bit: 2 * q + bit, bits[1:], 1) if bits else 0
            told.append((-q if bits and bits[0] else q) << e)
        linear, rest = 9 * (12 + 3 * band), iter(told)
        kernel = np.array([next(rest) for _ in range(linear)]).reshape(1, -1, 3, 3)
        self.base[c] += 2 * summed(self.planes, kernel)[0] + 16 * next(rest)
        for row in itertools.chain(*self.rows(c)):
            self.raw[row] = sixteen(self.raw[row] + next(rest))

    def channel(self, stream: Stream, band: int, c: int) -> None:
        """Tells a channel of a band."""
        k, level, grey = 3 * band + c, self.level, self.one.head.grey and c > 0
        (rows, columns), w = level.sides[band], int(self.width[k])
        if rows * columns >= WORTH and not grey:
            self.answered(lambda: self.correct(stream, band, c))
        mixture = self.mixture(band, c)
        low, high, o = level.low[k], level.high[k], level.offset[k]
        before, several = (low.copy(), high.copy()), (low - o) // w < (high - o) // w
        asked, told = several.copy(), np.zeros(level.shape, bool)
        asked[rows:], asked[:, columns:] = False, False
        if not self.last:
            asked &= mixture.total >= least_total(w, self.one.constants["threshold"])
        if grey:
            bottom = -o // w * w + o
            low[asked], high[asked] = np.maximum(low, bottom)[asked], np.minimum(high, bottom + w - 1)[asked]
            told |= asked
        else:
            if 2 * detail_range(level.number, band, c) // w + 2 > MOST:
                many = asked & ((high - o) // w - (low - o) // w >= MOST)
                self.answered(lambda: self.ask(stream, k, mixture, many, GROUP * w, None))
            self.answered(lambda: self.ask(stream, k, mixture, asked, w, told))
        level.means[k] = mixture, low.copy(), high.copy()
        self.finish(k, mixture, before, several, told)

    def answered(self, question: Callable[[], None]) -> None:
        """Asks, unless a symbol is missing already."""
        try:
            if not self.one.quiet:
                question()
        except MissingError:
            self.one.quiet = True

    def ask(self, stream: Stream, k: int, mixture: Mixture, asked: Any, width: int, told: Any) -> None:
        """A part of a channel; children are together in intervals of `width`."""
        level, w = self.level, int(self.width[k])
        low, high, o = level.low[k], level.high[k], level.offset[k]
        y, x = places(*level.sides[k // 3])
        for begin in range(0, len(y), RUN):
            run = y[begin : begin + RUN], x[begin : begin + RUN]
            run = tuple(a[asked[run]] for a in run)
            order = np.argsort(-(mixture.total[run] // 256), kind="stable")
            run = tuple(a[order] for a in run)
            start = (low[run] - o[run]) // w * w + o[run]
            children = (high[run] - start) // width + 1
            rows = self.tables(Mixture(*(a[:, *run] for a in mixture)), low[run], high[run], start, width, children)
            for at, first, parts in zip(zip(*(a.tolist() for a in run)), start.tolist(), rows):
                bottom = first + taken(stream, parts) * width
                low[at], high[at] = max(low[at], bottom), min(high[at], bottom + width - 1)
                if told is not None:
                    told[at] = True

    def tables(self, mixture: Mixture, low: Any, high: Any, start: Any, width: int, children: Any) -> Any:
        """Of M details their parts' boundaries."""
        for piece in (slice(i, i + 4096) for i in range(0, len(low), 4096)):
            count = children[piece] + 1
            of = np.repeat(np.arange(len(count)), count)
            ends = np.cumsum(count)
            j = np.arange(len(of)) - np.repeat(ends - count, count)
            cut = np.clip(start[piece][of] + j * width, low[piece][of], high[piece][of] + 1)
            each = zip(*(a[:, piece].take(of, 1) for a in mixture))
            f = sum(weight * distribution(cut * ONE - ONE // 2, at, scale) for at, scale, weight in each) >> 8
            first, total = f[ends - count], f[ends - 1] - f[ends - count]
            shares = np.where(
                total[of], (f - first[of]) * SHARED // np.maximum(total, 1)[of], j * SHARED // (count - 1)[of]
            )
            yield from (one.tolist() for one in np.split(shares + j, ends[:-1]))

    def finish(self, k: int, mixture: Mixture, before: Any, several: Any, told: Any) -> None:
        """Values, errors and loudness after a channel."""
        level = self.level
        low, high, bottom, top = (8 * a for a in (level.low[k], level.high[k], *before))
        guess = sixteen(((mixture.location * mixture.weight).sum(0) // 256 + 2**12) // 2**13)
        guess = np.clip(guess, bottom, top)
        centre = (low + high) // 2
        level.value[k] = np.where(told | ~several, centre, np.clip(guess, low, high))
        error = np.where(told, centre - guess, 0)
        m, s = (a[(mixture.total + 128) // 256] for a in scales())
        loud = louds()[np.minimum((abs(error) * 2**13 * m >> s) >> 11, 2048)]
        self.error[k], self.loudness[k] = (error + 2**15) % 2**16 - 2**15, np.where(told, loud, 0)
        for plane in (level.low[k], level.high[k], level.value[k], self.error[k], self.loudness[k]):
            level.fill(plane, k // 3)


class Decoder:
    def __init__(self, data: bytes, model: dict[str, Any], weights: dict[str, Any]) -> None:
        assert data[8] == 0x11
        self.head, self.constants, self.network, self.weights = (
            header(data),
            model["constants"],
            model["network"],
            weights,
        )
        size, self.levels = (self.head.height, self.head.width), []
        for number in range(1, count_of_levels(*size) + 1):
            self.levels.append(Level(number, size, self.constants["bases"]))
            size = self.levels[-1].shape
        lows = [sum(low_range(len(self.levels), c)) // 2 for c in range(3)]
        self.ground = np.zeros((3, *size), np.int64) + np.array(lows)[:, None, None]
        total = sum(level.offset.size for level in self.levels)
        random, at = np.array(philox(self.head.seed, 1, total)[:total], np.int64), 0
        for level in self.levels:
            own = random[at : at + level.offset.size].reshape(level.offset.shape)
            level.offset, at = own * level.widths[0][:, None, None] >> 32, at + level.offset.size

    def own(self, s: int, number: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Of a level in a step, its arrays and what is said of them."""
        kind = min(number, 3) - 1
        prefix = f"{s}.{kind}."
        return {
            name.removeprefix(prefix): a for name, a in self.weights.items() if name.startswith(prefix)
        }, self.network["steps"][s][kind]

    def tell_ground(self, stream: Stream) -> None:
        for c in range(1 if self.head.grey else 3):
            lowest, highest = low_range(len(self.levels), c)
            for k, first in ((-(-(highest - lowest + 1) // 64), True), (64, False)):
                for place in np.ndindex(self.ground[c].shape):
                    symbol = taken(stream, ground_table(k))
                    self.ground[(c, *place)] = (
                        lowest + 64 * symbol + 32 if first else self.ground[(c, *place)] + symbol - 32
                    )
        if self.head.grey:
            self.ground[1:] = 0

    def tell(self, s: int, stream: Stream) -> None:
        if s == 0:
            self.tell_ground(stream)
        above: Telling | None = None
        for level in reversed(self.levels):
            if self.own(s, level.number)[1] is None:
                break
            image, loudness = 8 * self.ground, np.zeros((9, *level.shape), np.int64)
            if above is not None:
                if above.last and not self.quiet:
                    image = 8 * inverse(above.image >> 3, above.level.apart(above.level.low))
                else:
                    image = inverse(above.image, above.level.apart(above.level.value), 3)
                loudness = above.loudness.repeat(2, 1).repeat(2, 2)[:, : level.shape[0], : level.shape[1]]
            above = Telling(self, s, level, image, loudness)
            for band in range(3):
                above.begin(band)
                for c in range(3):
                    above.channel(stream, band, c)

    def step(self, s: int, payload: Payload) -> bool:
        """Takes what the payload tells; whether that is the whole step."""
        stream, before = Stream(payload), [level.means.copy() for level in self.levels]
        self.quiet = False
        try:
            self.tell(s, stream)
            whole = not self.quiet
        except MissingError:  # in the last low-pass
            whole = False
        if whole:
            stream.finish()
            whole = payload.whole or bool(stream.found)
        if not whole and not stream.found:
            for level, means in zip(self.levels, before):
                level.means = means
        return whole

    def exact(self) -> Any:
        v = self.ground
        for level in reversed(self.levels):
            assert (level.low == level.high).all()
            v = inverse(v, level.apart(level.low))
        return pixels(v, False).transpose(1, 2, 0)

    def preview(self) -> Any:
        v = 2**8 * self.ground
        for level in reversed(self.levels):
            v = inverse(v, level.apart(2**5 * level.mean()), 8)
        y, co, cg = np.clip(v, -(2**21), 2**21 - 2**8) * 2**8
        t = y - (cg >> 1) + 2**14
        b = t - (co >> 1) + 2**14
        found = np.stack([y, y, y] if self.head.grey else [b + co, t + cg, b])
        return np.clip(found + 2**15 >> 16, 0, 255).transpose(1, 2, 0)


def corrected(preview: Any, payload: Payload, grey: bool) -> Any:
    """By a chunk of tag 15. preview (H, W, 3)."""
    most, largest, odds = payload.data[0], payload.data[1], payload.data[2:50]
    stream = Stream(Payload(payload.data[50:], True, check=0))
    tables = [multiples(rare, ratio, largest) for rare, ratio in zip(odds[::2], odds[1::2])]
    h, w = preview.shape[:2]
    found, told = preview[..., :1] if grey else preview, np.zeros((h, w), np.int64)
    found = found.copy()
    for c in range(found.shape[2]):
        around = np.pad(found[..., c], 1, "edge")
        around = np.stack([around[y : y + h, x : x + w] for y in range(3) for x in range(3)])
        span, before = around.max(0) - around.min(0), told.copy()
        for place in np.ndindex(h, w):
            kind = 8 * min(2, int(before[place])) + min(7, int(span[place]).bit_length())
            k = taken(stream, tables[kind]) - largest
            found[(*place, c)] += (2 * most + 1) * k
            told[place] = max(told[place], abs(k))
    return np.repeat(np.clip(found, 0, 255), 3 if grey else 1, 2)


def multiples(rare: int, ratio: int, largest: int) -> list[int]:
    """Boundaries of the parts of a class."""
    with localcontext() as context:
        context.prec = 50
        some = min(nearest(Decimal(2) ** (24 - Decimal(rare + 1) / 16)), 2**24 - 2 * largest - 2)
    h = [2**20]
    for _ in range(largest - 1):
        h.append(max(1, h[-1] * ratio // 256))
    sides = [some * one // (2 * sum(h)) + 1 for one in h[:largest]]
    return list(itertools.accumulate([*sides[::-1], 2**24 - 1 - 2 * sum(sides), *sides], initial=0))


def decode(data: bytes, model: dict[str, Any], weights: dict[str, Any], steps: int | None = None) -> Any:
    """Pixels (H, W, 3) of a file, or after so many steps; of a cut file what all its symbols
    tell.
    """
    one = Decoder(data, model, weights)
    payloads = chunks(data, one.head)
    for s in range(one.head.steps):
        if s != steps and 16 + s not in payloads and 15 in payloads and payloads[15].whole:
            return corrected(one.preview(), payloads[15], one.head.grey)
        if s == steps or 16 + s not in payloads or not one.step(s, payloads[16 + s]):
            return one.preview()
    return one.exact()
