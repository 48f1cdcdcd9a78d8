"""The family `nested`, from docs/format.md alone. Of pictures whose passes are one run each."""

import functools
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from document.convolutions import convolved, evened, high_passed, pull, quartered
from document.stream import (
    ONE,
    Payload,
    Stream,
    blended,
    chunks,
    cumulative,
    distribution,
    header,
    lattice,
    mean,
    nearest,
    philox,
    pixels,
    shown,
)

PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))


def leaking(numerator: Any, shift: Any, half: bool) -> Any:
    """limit(numerator / 2**shift), below zero an eighth; `half`: of the nearest, for the stream's
    shifts.
    """
    above = numerator + (half * (1 << shift) >> 1) >> shift
    below = numerator + (half * (1 << shift + 3) >> 1) >> shift + 3
    return np.where(numerator >= 0, np.minimum(above, 1023), np.maximum(below, -128))


def sums(x: Any, weights: dict[str, Any], name: str) -> tuple[Any, Any]:
    """A convolution's sums before their shift, and the shift."""
    bare = weights | {f"{name}.shift": 0 * weights[f"{name}.shift"]}
    return convolved(x, bare, name), weights[f"{name}.shift"].astype(np.int64)[:, None, None]


def network(own: dict[str, Any], name: str, blocks: int, x: Any, joined: Any = None) -> Any:
    h = convolved(x, own, f"{name}.enter")
    if joined is not None:
        h = h + convolved(joined, own, f"{name}.join")
    for i in range(blocks):
        a = leaking(h, own[f"{name}.body.{i}.down"].astype(np.int64)[:, None, None], True)
        a = leaking(*sums(a, own, f"{name}.body.{i}.first"), False)
        h = h + convolved(a, own, f"{name}.body.{i}.second")
    a = leaking(h, own[f"{name}.down"].astype(np.int64)[:, None, None], True)
    return convolved(a, own, f"{name}.head") if f"{name}.head.weight" in own else a


@functools.cache
def exponential(k: int) -> int:
    with localcontext() as context:
        context.prec = 50
        return nearest(2**30 * (-Decimal(k) / 64).exp())


def weights(logarithm: list[int]) -> list[int]:
    """Of a mixture."""
    top, count = max(logarithm), len(logarithm)
    e = [exponential(min(top - v, 1024)) for v in logarithm]
    found = [v * (256 - count) // sum(e) + 1 for v in e]
    found[logarithm.index(top)] += 256 - sum(found)
    return found


def features(own: dict[str, Any], low: Any, high: Any) -> tuple[Any, Any, Any, Any]:
    """m, D, the high-pass as a feature, and all features; of even fields."""
    m = low + high
    d, detail = high_passed(m), int(own["detail"].reshape(-1)[0])
    feature = np.clip(d + (2**detail // 2) >> detail, -2047, 2047)
    middle, wide = (own[name].astype(np.int64).reshape(-1, 1, 1) for name in ("middle", "wide"))
    return m, d, quartered(feature), quartered(np.concatenate([m - middle, feature, np.clip(high - low + 1, 0, wide)]))


def outputs(own: dict[str, Any], described: dict[str, Any], number: int, seen: Any, activations: Any) -> Any:
    """raw of a pass."""
    _, _, detail, everything = features(own, *evened(*seen))
    return network(
        own, f"pass{number}", described["passes"], everything if activations is None else detail, activations
    )


def mixtures(own: dict[str, Any], described: dict[str, Any], number: int, seen: Any, activations: Any) -> Any:
    """A function from a place (channel, row, column in the pass's field) to [(share, location,
    level), ...].
    """
    row, column = PASSES[number]
    m, d, _, _ = features(own, *evened(*seen))
    raw = outputs(own, described, number, seen, activations)
    count = own[f"pass{number}.offset"].shape[1]
    raw = raw.reshape(3, 3, count, *raw.shape[1:])
    base = (m << 15) + pull(own[f"pass{number}.skip"], own["width"], d)

    def mixture(c: int, y: int, x: int) -> list[tuple[int, int, int]]:
        level, location, logarithm = [], [], [int(v) for v in raw[c, 2, :, y, x]]
        for j in range(count):
            one, at = (
                int(raw[c, 1, j, y, x]),
                int(base[c, 2 * y + row, 2 * x + column]) + (int(raw[c, 0, j, y, x]) * int(own["width"][c]) >> 10),
            )
            level.append(min(max(one + int(own[f"pass{number}.level"][c, j]) >> 6, 0), 127))
            location.append(min(max(at + int(own[f"pass{number}.offset"][c, j]), -(2**30)), 2**30))
        return list(zip(weights(logarithm), location, level))

    return mixture


def mixture_mean(mixture: list[tuple[int, int, int]], low: int, high: int) -> int:
    bottom, top = low * ONE - ONE // 2, high * ONE + ONE // 2
    means = [mean(location, level, low, high) - bottom for _, location, level in mixture]
    masses = [
        distribution(top, location, level) - distribution(bottom, location, level) for _, location, level in mixture
    ]
    shares = [share * (mass >> 12) for (share, _, _), mass in zip(mixture, masses)]
    shares = shares if any(shares) else [share for share, _, _ in mixture]
    return bottom + sum(a * m for a, m in zip(shares, means)) // sum(shares)


class Decoder:
    def __init__(self, data: bytes, model: dict[str, Any], weights: dict[str, Any]) -> None:
        assert data[8] == 0x10
        self.head, self.constants, self.network, self.weights = (
            header(data),
            model["constants"],
            model["network"],
            weights,
        )
        size = (3, self.head.height, self.head.width)
        self.low = np.zeros(size, np.int64) + np.array([0, -255, -255]).reshape(3, 1, 1)
        self.high = np.full(size, 255)
        random = np.array(philox(self.head.seed, 1, self.low.size)[: self.low.size], np.int64).reshape(size)
        self.offset = random * np.array(self.constants["widths"][0]).reshape(3, 1, 1) >> 32
        self.passes = [n for n, (row, column) in enumerate(PASSES) if self.low[0, row::2, column::2].size]

    def own(self, s: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of a step, its arrays and what is said of it."""
        found = {name.removeprefix(f"{s}."): a for name, a in self.weights.items() if name.startswith(f"{s}.")}
        return found, self.network["steps"][s]

    def activations(self, s: int, low: Any, high: Any) -> Any:
        own, described = self.own(s)
        if described["trunk"] is None:
            return None
        return network(own, "trunk", described["trunk"], features(own, *evened(low, high))[3])

    def know(self, s: int, place: tuple[int, int, int], k: int) -> None:
        """The coordinate is in the cell k."""
        o, w = int(self.offset[place]), self.constants["widths"][s][place[0]]
        self.low[place] = max(self.low[place], o + k * w)
        self.high[place] = min(self.high[place], o + (k + 1) * w - 1)

    def questions(self, s: int, number: int, activations: Any) -> list[tuple[Any, int, list[int]]]:
        """Of a pass: place, the cell of symbol 0, the parts' boundaries; in their order."""
        (row, column), found = PASSES[number], []
        mixture_of = mixtures(*self.own(s), number, (self.low, self.high), activations)
        for c in (0,) if self.head.grey else (0, 1, 2):
            for y, x in lattice(*self.low[0, row::2, column::2].shape):
                place, w = (c, 2 * y + row, 2 * x + column), self.constants["widths"][s][c]
                o, bottom, top = (int(a[place]) for a in (self.offset, self.low, self.high))
                first, end = (bottom - o) // w, (top - o) // w
                if first == end:
                    continue
                mixture = mixture_of(c, y, x)
                turn = sum(share * level for share, _, level in mixture) // 256 + self.constants["priority"][c]
                cuts = [bottom, *(o + k * w for k in range(first + 1, end + 1)), top + 1]
                f = [
                    sum(share * distribution(v * ONE - ONE // 2, at, level) for share, at, level in mixture) >> 8
                    for v in cuts
                ]
                found.append((turn, place, first, cumulative(f, f[-1] - f[0])))
        return [one[1:] for one in sorted(found, key=lambda one: -one[0])]  # equals stay in order

    def step(self, s: int, payload: Payload) -> int:
        """Takes what the payload tells; which share of the step's symbols that is, in 2**-16."""
        self.begun, stream = (self.low.copy(), self.high.copy()), Stream(payload)
        self.begun_activations = self.activations(s, *self.begun)
        for part, number in enumerate(self.passes):
            asked = self.questions(s, number, self.begun_activations)
            for got, (place, first, parts) in enumerate(asked):
                symbol = stream.symbol(parts)
                if symbol is None:
                    return max(1, ((part << 16) + (got << 16) // len(asked)) // len(self.passes)) if stream.found else 0
                self.know(s, place, first + symbol)
            if self.head.grey:
                row, column = PASSES[number]
                for c in (1, 2):
                    for y, x in np.ndindex(self.low[0, row::2, column::2].shape):
                        place = (c, 2 * y + row, 2 * x + column)
                        self.know(s, place, -int(self.offset[place]) // self.constants["widths"][s][c])
        stream.finish()
        return ONE

    def means(self, s: int, before: Any) -> Any:
        """Positions. `before`: the boxes that the step began with."""
        activations, found = self.activations(s, *before), np.zeros_like(self.low)
        seen = self.low.copy(), self.high.copy()
        for number in self.passes:
            row, column = PASSES[number]
            mixture_of = mixtures(*self.own(s), number, seen, activations)
            for c in range(3):
                for y, x in np.ndindex(self.low[0, row::2, column::2].shape):
                    place = (c, 2 * y + row, 2 * x + column)
                    box = int(self.low[place]), int(self.high[place])
                    found[place] = mixture_mean(mixture_of(c, y, x), *box)
                    if box == tuple(int(a[place]) for a in before):
                        twice = int(found[place]) + 2**14 >> 15
                        seen[0][place], seen[1][place] = twice >> 1, twice - (twice >> 1)
        return found

    def preview(self, s: int, share: int = 0) -> Any:
        """After s steps, and a share of the next one."""
        now = self.low, self.high
        if not share:
            v = self.means(s, now)
        elif s == self.head.steps - 1:
            v = self.means(s, self.begun)
        else:
            v = self.means(s + 1, now)
            v = blended(self.means(s, self.begun), v, share) if s else v
        return shown(v, self.low, self.high, False, self.head.grey)


def decode(data: bytes, model: dict[str, Any], weights: dict[str, Any], steps: int | None = None) -> Any:
    """Pixels (H, W, 3) of a file, or after so many steps; of a cut file what all its symbols
    tell.
    """
    one = Decoder(data, model, weights)
    payloads = chunks(data, one.head)
    for s in range(one.head.steps):
        if s == steps or 16 + s not in payloads:
            return one.preview(s)
        share = one.step(s, payloads[16 + s])
        if share < ONE:
            return one.preview(s, share)
    assert (one.low == one.high).all()
    return pixels(one.low, False).transpose(1, 2, 0)
