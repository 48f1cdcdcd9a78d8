"""The family `uqdm` with an exact network, in both entropy modes, from docs/format.md alone. Of
pictures that are one run.
"""

from decimal import Decimal, localcontext
from math import ceil
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


def limited(h: Any, n: Any) -> Any:
    n = n.astype(np.int64)[:, None, None]
    return np.clip(h + (1 << n >> 1) >> n, 0, 1023)


def features(own: dict[str, Any], low: Any, high: Any) -> Any:
    """Of a field of even sides."""
    m, detail = low + high, int(own["detail"].reshape(-1)[0])
    middle, wide = (own[name].astype(np.int64).reshape(-1, 1, 1) for name in ("middle", "wide"))
    planes = [
        m - middle,
        np.clip(high_passed(m) + (2**detail // 2) >> detail, -2047, 2047),
        np.clip(high - low + 1, 0, wide),
    ]
    return quartered(np.concatenate(planes))


def outputs(own: dict[str, Any], blocks: int, x: Any) -> Any:
    """raw, from features."""
    x = convolved(x, own, "enter")
    for i in range(blocks):
        a = np.clip(convolved(limited(x, own[f"body.{i}.down"]), own, f"body.{i}.first"), 0, 1023)
        x = x + convolved(a, own, f"body.{i}.second")
    return convolved(limited(x, own["down"]), own, "head")


def suggested(own: dict[str, Any], raw: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """Location and level of every coordinate; of a field of even sides if there is a network."""
    middle, offset, level, width, skip = (
        own[k].astype(np.int64).reshape(-1, 1, 1) for k in ("middle", "offset", "level", "width", "skip")
    )
    if raw is None:
        return (middle << 15) + offset + 0 * low, np.clip(level >> 6, 0, 127) + 0 * low
    m, (h, w) = low + high, low.shape[1:]
    raw = raw.reshape(6, 2, 2, h // 2, w // 2).transpose(0, 3, 1, 4, 2).reshape(6, h, w)
    location = (m << 15) + (raw[:3] * width >> 10) + offset + pull(skip, width, high_passed(m))
    return np.clip(location, -(2**30), 2**30), np.clip(raw[3:] + level >> 6, 0, 127)


class Decoder:
    def __init__(self, data: bytes, model: dict[str, Any], weights: dict[str, Any]) -> None:
        assert data[8] == 0x10
        self.head, self.constants, self.network, self.weights = (
            header(data),
            model["constants"],
            model["network"],
            weights,
        )
        self.rgb, self.grey = self.constants["space"] == "rgb", self.head.grey
        self.real = {
            k: [float.fromhex(v) for v in self.constants[k]]
            for k in ("alpha", "b", "c", "offset", "scale", "pixel_spread")
        }
        self.lowest = np.array([0, 0, 0] if self.rgb else [0, -255, -255]).reshape(3, 1, 1)
        size = (3, self.head.height, self.head.width)
        self.low, self.high = self.lowest + np.zeros(size, np.int64), np.full(size, 255)
        quantiles, count = self.constants["prior"], self.low.size
        self.z = np.array([quantiles[r >> 20] / ONE for r in philox(self.head.seed, 0, count)[:count]]).reshape(size)
        self.order = lattice(*size[1:])
        self.dithered = len(self.constants["widths"]) - (not self.head.paper)  # steps with a dither
        self.asked_channels = (1,) if self.grey and self.rgb else (0,) if self.grey else (0, 1, 2)

    def suggested(self, s: int) -> tuple[Any, Any]:
        own = {name.removeprefix(f"{s}."): a for name, a in self.weights.items() if name.startswith(f"{s}.")}
        (h, w), (low, high) = self.low.shape[1:], evened(self.low, self.high)
        raw = (
            outputs(own, self.network["steps"][s]["blocks"], features(own, low, high))
            if "enter.weight" in own
            else None
        )
        location, level = (a[:, :h, :w] for a in suggested(own, raw, low, high))
        if self.grey and self.rgb:
            location, level = (np.repeat(a[1:2], 3, 0) for a in (location, level))
        return location, level

    def interval(self, s: int, c: int, number: int) -> tuple[int, int]:
        """Dither and width of a coordinate."""
        if s == self.dithered:
            return 0, ONE
        w = self.constants["widths"][s][c]
        return self.random[(1 if self.grey and self.rgb else c) * len(self.order) + number] * w >> 32, w

    def know(self, s: int, c: int, number: int, k: int) -> None:
        """The coordinate is in the interval k."""
        (d, w), place = self.interval(s, c, number), (c, *self.order[number])
        self.low[place] = max(self.low[place], -(-(d + k * w) // ONE))
        self.high[place] = min(self.high[place], -(-(d + (k + 1) * w) // ONE) - 1)
        if s < self.dithered:
            y = float(d + k * w + w // 2) / ONE
            x = (y - self.real["offset"][c]) / self.real["scale"][c]
            self.z[place] = self.real["b"][s] * self.z[place] + self.real["c"][s] * x

    def observed(self) -> Any:
        """z_0 / alpha_0 in pixel values."""
        offset, scale = (np.array(self.real[k]).reshape(3, 1, 1) for k in ("offset", "scale"))
        return (self.z / self.real["alpha"][-1]) * scale + offset

    def question(self, s: int, c: int, number: int) -> tuple[int, list[int]] | None:
        """The interval of symbol 0 and the parts' boundaries; None for what is certain."""
        (d, w), place = self.interval(s, c, number), (c, *self.order[number])
        if self.head.paper and s == self.dithered:
            return self.normal(place)
        whole = int(self.lowest[c, 0, 0]), 255
        bottom, top = whole if self.head.paper else (int(self.low[place]), int(self.high[place]))
        first, end = ((v * ONE - d) // w for v in (bottom, top))
        location, level = (int(a[place]) for a in self.begun)
        if self.head.paper:
            f = [distribution(d + k * w, location, level) for k in range(first, end + 2)]
            return first, cumulative(f, 2**36)
        if first == end:
            return None
        cuts = [
            bottom,
            *(min(max(-(-(d + k * w) // ONE), bottom), top + 1) for k in range(first + 1, end + 1)),
            top + 1,
        ]
        f = [distribution(v * ONE - ONE // 2, location, level) for v in cuts]
        return first, cumulative(f, f[-1] - f[0])

    def normal(self, place: tuple[int, int, int]) -> tuple[int, list[int]]:
        """The last chunk of `paper` mode."""
        c, spread = place[0], self.real["pixel_spread"]
        p = int(np.rint(self.observed()[place] * 256))
        middle = min(max(p + 128 >> 8, int(self.lowest[c, 0, 0])), 255)
        reach = ceil(4 * spread[c]) + 2
        low, high = max(int(self.lowest[c, 0, 0]), middle - reach), min(255, middle + reach)
        sums, most = [0], (ceil(4 * max(spread)) + 3) * 256
        for v in range(low, high + 1):
            with localcontext() as context:
                context.prec = 50
                distance = Decimal(min(abs(v * 256 - p), most)) / 256
                share = nearest(2**30 * (-(distance**2) / (2 * Decimal(spread[c]) ** 2)).exp())
            sums.append(sums[-1] + max(1, share))
        return low, cumulative(sums, sums[-1])

    def step(self, s: int, payload: Payload) -> int:
        """Takes what the payload tells; which share of the step's symbols that is, in 2**-16."""
        plane, stream = len(self.order), Stream(payload)
        if s < self.dithered:
            self.random = philox(self.head.seed, s + 1, 3 * plane)
        places = [(c, number) for c in self.asked_channels for number in range(plane)]
        if s < len(self.constants["widths"]):
            self.begun = self.suggested(s)
            level = self.begun[1]
            places.sort(
                key=lambda at: -int(level[(at[0], *self.order[at[1]])]) - self.constants["priority"][at[0]]
            )  # equals stay in order
        asked = {at: found for at in places if (found := self.question(s, *at)) is not None}
        for (c, number), (first, parts) in asked.items():
            symbol = stream.symbol(parts)
            if symbol is None:
                return max(1, (len(stream.found) << 16) // len(asked)) if stream.found else 0
            for twin in (0, 1, 2) if self.grey and self.rgb else (c,):
                self.know(s, twin, number, first + symbol)
        stream.finish()
        if self.grey and not self.rgb:
            for c in (1, 2):
                for number in range(plane):
                    d, w = self.interval(s, c, number)
                    self.know(s, c, number, -d // w)
        return ONE

    def preview(self, s: int, share: int = 0) -> Any:
        """After s steps, and a share of the next one."""
        if self.head.paper and s == self.dithered:
            v = np.clip(np.rint(self.observed() * ONE).astype(np.int64), self.low * ONE, self.high * ONE)
        elif not share:
            location, level = self.suggested(s)
            v = np.clip(location, self.lowest * ONE, 255 * ONE) if self.head.paper else self.means(location, level)
        else:
            v = self.means(*self.begun)
            if not self.head.paper and self.network["mixed"] and s < self.dithered:
                q = self.means(*self.suggested(s + 1))
                v = blended(v, q, share) if s else q
        return shown(v, self.low, self.high, self.rgb, self.grey)

    def means(self, location: Any, level: Any) -> Any:
        each = zip(*(a.ravel().tolist() for a in np.broadcast_arrays(location, level, self.low, self.high)))
        return np.array([mean(*one) for one in each]).reshape(self.low.shape)


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
    return pixels(one.low, one.rgb).transpose(1, 2, 0)
