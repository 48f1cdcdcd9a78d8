"""Decoders of exact files, of mode `tight` and of the family `nested`, written from docs/format.md alone: they use nothing of the package.

What the document leaves out or says wrongly stops it. Slow and small on purpose: whole files, no previews.
"""

import functools
import json
import zlib
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
import pytest
from golden import make
from safetensors.numpy import load_file

ONE, SHARED = 1 << 16, 2**24 - 1024


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


class Header(NamedTuple):
    width: int
    height: int
    grey: bool
    steps: int
    seed: int
    end: int
    check: int


def header(data: bytes) -> Header:
    assert data[:9] == bytes.fromhex("89 55 51 44 0D 0A 1A 0A 10")
    end = 10 + data[9]
    body, check = data[10:end], int.from_bytes(data[end : end + 4], "little")
    assert zlib.crc32(data[:end]) == check
    flags = body[0]
    assert flags >> 3 == 0  # exact
    width, at = varint(body, 1)
    height, at = varint(body, at)
    steps, at = body[at], at + 9  # and the fingerprint
    at += 1 + body[at]  # the name
    seed, at = varint(body, at) if flags & 4 else (0, at)
    assert body[at:] == b"\1\0"  # the sub-header: `tight`
    return Header(width, height, bool(flags & 1), steps, seed, end + 4, check)


def chunks(data: bytes, at: int, check: int) -> dict[int, bytes]:
    found = {}
    while at < len(data):
        start = at
        size, at = varint(data, at + 1)
        check = zlib.crc32(data[start:at], check)
        assert check & 0xFFFF == int.from_bytes(data[at : at + 2], "little")
        at, payload = at + 2, b""
        for _ in range(max(1, -(-size // 4096))):
            piece = data[at : at + min(4096, size - len(payload))]
            at, payload = at + len(piece) + 4, payload + piece
            check = zlib.crc32(piece, check)
            assert check == int.from_bytes(data[at - 4 : at], "little")
        found[data[start]] = payload
    return found


class Stream:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.range = data, 8, 2**64 - 1
        self.above = int.from_bytes(data[:8].ljust(8, b"\0"), "big")

    def symbol(self, cumulative: list[int]) -> int:
        unit = self.range >> 24
        found = next(j for j in range(len(cumulative) - 1) if cumulative[j] <= self.above // unit < cumulative[j + 1])
        self.above -= unit * cumulative[found]
        self.range = unit * (cumulative[found + 1] - cumulative[found])
        if self.range < 2**32:
            word = self.data[self.at : self.at + 4].ljust(4, b"\0")
            self.above, self.range, self.at = self.above << 32 | int.from_bytes(word, "big"), self.range << 32, self.at + 4
        return found


def nearest(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_EVEN))


@functools.cache
def logistic(cell: int) -> int:
    """At t = -24 + cell / 128."""
    with localcontext() as context:
        context.prec = 50
        t = Decimal(cell) / 128 - 24
        return {0: 0, 48 * 128: 2**36}.get(cell, nearest(2**36 / (1 + (-t).exp())))


@functools.cache
def mantissa(level: int) -> int:
    with localcontext() as context:
        context.prec = 50
        return nearest(Decimal(2) ** (30 - Decimal(level % 8) / 8))


def distribution(position: int, location: int, level: int) -> int:
    t = (position - location) * mantissa(level) >> 25 + level // 8
    return interpolated(min(max(t, -24 * ONE), 24 * ONE))


def interpolated(t: int) -> int:
    cell, rest = divmod(t + 24 * ONE, 512)
    return logistic(cell) + ((logistic(cell + 1) - logistic(cell)) * rest // 512 if rest else 0)


def philox(seed: int, stream: int, count: int) -> list[int]:
    found: list[int] = []
    low64 = 2**64 - 1
    for block in range(1, -(-count // 8) + 1):
        c, key = [block, 0, 0, 0], [seed, stream]
        for _ in range(10):
            p, q = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
            c = [q >> 64 ^ c[1] ^ key[0], q & low64, p >> 64 ^ c[3] ^ key[1], p & low64]
            key = [(key[0] + 0x9E3779B97F4A7C15) & low64, (key[1] + 0xBB67AE8584CAA73B) & low64]
        for value in c:
            found += [value & 0xFFFFFFFF, value >> 32]
    return found


def lattice(height: int, width: int) -> list[tuple[int, int]]:
    def turn(place: tuple[int, int]) -> tuple[int, ...]:
        return tuple(part >> bit & 1 for bit in range(24) for part in place)

    return sorted(((y, x) for y in range(height) for x in range(width)), key=turn)


def convolved(x: Any, weights: dict[str, Any], name: str) -> Any:
    weight, bias, shift = (weights[f"{name}.{field}"].astype(np.int64) for field in ("weight", "bias", "shift"))
    k, (h, w) = weight.shape[2], x.shape[1:]
    x = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = sum(np.tensordot(weight[:, :, i, j], x[:, i : i + h, j : j + w], 1) for i in range(k) for j in range(k))
    return out + bias[:, None, None] >> shift[:, None, None]


def limited(h: Any, n: Any) -> Any:
    n = n.astype(np.int64)[:, None, None]
    return np.clip(h + (1 << n >> 1) >> n, 0, 1023)


def suggested(weights: dict[str, Any], blocks: int, low: Any, high: Any) -> tuple[Any, Any]:
    def constant(name: str) -> Any:
        return weights[name].astype(np.int64).reshape(-1, 1, 1)

    h, w = low.shape[1:]
    if "enter.weight" not in weights:
        return (constant("middle") << 15) + constant("offset") + 0 * low, np.clip(constant("level") >> 6, 0, 127) + 0 * low
    low, high = (np.pad(a, ((0, 0), (0, h % 2), (0, w % 2)), "edge") for a in (low, high))
    m, (even_h, even_w) = low + high, low.shape[1:]
    around = np.pad(m, ((0, 0), (1, 1), (1, 1)), "edge")
    d = 16 * m
    for (i, a), (j, b) in ((p, q) for p in enumerate((1, 2, 1)) for q in enumerate((1, 2, 1))):
        d = d - a * b * around[:, i : i + even_h, j : j + even_w]
    detail = int(weights["detail"].reshape(-1)[0])
    planes = [m - constant("middle"), np.clip(d + (2**detail // 2) >> detail, -2047, 2047), np.clip(high - low + 1, 0, constant("wide"))]
    quarters = [np.concatenate(planes)[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = convolved(np.stack(quarters, 1).reshape(-1, even_h // 2, even_w // 2), weights, "enter")
    for i in range(blocks):
        a = np.clip(convolved(limited(x, weights[f"body.{i}.down"]), weights, f"body.{i}.first"), 0, 1023)
        x = x + convolved(a, weights, f"body.{i}.second")
    raw = convolved(limited(x, weights["down"]), weights, "head").reshape(6, 2, 2, even_h // 2, even_w // 2)
    raw = raw.transpose(0, 3, 1, 4, 2).reshape(6, even_h, even_w)
    skip, width = constant("skip"), constant("width")
    pull = np.sign(skip) * width * d // np.where(skip == 0, 1, abs(skip) + abs(d))
    location = (m << 15) + (raw[:3] * width >> 10) + constant("offset") + np.where(skip == 0, 0, pull)
    return np.clip(location, -(2**30), 2**30)[:, :h, :w], np.clip(raw[3:] + constant("level") >> 6, 0, 127)[:, :h, :w]


def integral(t: int) -> int:
    cell, rest = divmod(t + 24 * ONE, 512)
    whole = sum(logistic(j) + logistic(j + 1) for j in range(cell)) * 512
    return whole + (logistic(cell) + interpolated(t)) * rest


@functools.cache
def mean(location: int, level: int, low: int, high: int) -> int:
    bottom, top, shift = low * ONE - ONE // 2, high * ONE + ONE // 2, 25 + level // 8
    a, b = ((end - location) * mantissa(level) >> shift for end in (bottom, top))
    mirrored = a + b > 0
    if mirrored:
        a, b = -b, -a
    if b > 24 * ONE:
        found = location
    else:
        e = min(b + 12 * ONE, 0)
        b -= e
        a = min(max(a - e, -24 * ONE), b)
        if b - a < 512:
            found = 2**15 * (low + high)
        else:
            f = [interpolated(t) for t in (a, b)]
            u = (integral(b) - integral(a) - 2 * (b - a) * f[0]) // (2 * (f[1] - f[0]))
            with localcontext() as context:
                context.prec = 50
                u = u * nearest(Decimal(2) ** (30 + Decimal(level % 8) / 8)) >> 35 - level // 8
            found = bottom + u if mirrored else top - u
    return min(max(found, low * ONE), high * ONE)


def shown(location: Any, level: Any, low: Any, high: Any, rgb: bool, grey: bool) -> Any:
    """The preview after a whole step."""
    each = zip(*(a.ravel().tolist() for a in np.broadcast_arrays(location, level, low, high)))
    v = np.array([mean(*one) for one in each]).reshape(low.shape)
    known = low == high
    if not rgb:
        (y, co, cg), known = (v * [[[1]], [[0]], [[0]]], known[:1]) if grey else (v, known)
        t = y - (cg >> 1) + 2**14
        b = t - (co >> 1) + 2**14
        v = np.stack([y, y, y]) if grey else np.stack([b + co, t + cg, b])
        low = low * [[[1]], [[0]], [[0]]] if grey else low
    return np.where(known.all(0), pixels(low, rgb), np.clip(v + 2**15 >> 16, 0, 255)).transpose(1, 2, 0)


def pixels(v: Any, rgb: bool) -> Any:
    if rgb:
        return v
    y, co, cg = v
    t = y - (cg >> 1)
    b = t - (co >> 1)
    return np.stack([b + co, cg + t, b])


def decode(data: bytes, model: dict[str, Any], weights: dict[str, Any], steps: int | None = None) -> Any:
    head = header(data)
    payloads = chunks(data, head.end, head.check)
    constants, order = model["constants"], lattice(head.height, head.width)
    rgb, plane = constants["space"] == "rgb", head.width * head.height
    low = np.zeros((3, head.height, head.width), np.int64) + np.array([0, 0, 0] if rgb else [0, -255, -255])[:, None, None]
    high = np.full_like(low, 255)
    for s in range(head.steps):
        own = {name.removeprefix(f"{s}."): a for name, a in weights.items() if name.startswith(f"{s}.")}
        location, level = suggested(own, model["network"]["steps"][s]["blocks"], low, high)
        if head.grey and rgb:
            location, level = (np.repeat(a[1:2], 3, 0) for a in (location, level))
        if s == steps:
            return shown(location, level, low, high, rgb, head.grey)
        last = s == head.steps - 1
        widths = [ONE] * 3 if last else constants["widths"][s]
        random = philox(head.seed, s + 1, 3 * plane)

        def dither(c: int, number: int) -> int:
            return 0 if last else random[c * plane + number] * widths[c] >> 32  # noqa: B023

        def known(c: int, place: tuple[int, int], d: int, k: int) -> None:
            """The interval k of a coordinate is its own."""
            w = widths[c]  # noqa: B023
            after_low[c][place] = max(after_low[c][place], -(-(d + k * w) // ONE))  # noqa: B023
            after_high[c][place] = min(after_high[c][place], -(-(d + (k + 1) * w) // ONE) - 1)  # noqa: B023

        asked = []
        for c in (1,) if head.grey and rgb else (0,) if head.grey else (0, 1, 2):
            for number, place in enumerate(order):
                d = dither(c, number)
                first, end = ((int(a[c][place]) * ONE - d) // widths[c] for a in (low, high))
                if first < end:
                    asked.append((int(level[c][place]) + constants["priority"][c], c, place, d, first, end))
        asked.sort(key=lambda one: -one[0])  # equals stay in order
        stream, symbols = Stream(payloads[16 + s][4:]), []
        after_low, after_high = low.copy(), high.copy()
        for _, c, place, d, first, end in asked:
            bottom, top = int(low[c][place]), int(high[c][place])
            cuts = [bottom, *(-(-(d + k * widths[c]) // ONE) for k in range(first + 1, end + 1)), top + 1]
            cuts = [min(max(v, bottom), top + 1) for v in cuts]
            f = [distribution(v * ONE - ONE // 2, int(location[c][place]), int(level[c][place])) for v in cuts]
            total, n = f[-1] - f[0], len(f) - 1
            symbols.append(stream.symbol([((f[j] - f[0]) * SHARED // total if total else j * SHARED // n) + j for j in range(n + 1)]))
            for twin in (0, 1, 2) if head.grey and rgb else (c,):
                known(twin, place, d, first + symbols[-1])
        if head.grey and not rgb:
            for c in (1, 2):
                for number, place in enumerate(order):
                    d = dither(c, number)
                    known(c, place, d, -d // widths[c])
        assert zlib.crc32(np.array(symbols, "<u2").tobytes()) == int.from_bytes(payloads[16 + s][:4], "big"), f"step {s + 1}"
        low, high = after_low, after_high
    assert (low == high).all()
    return pixels(low, rgb).transpose(1, 2, 0)


# ---- the family nested ----

PASSES = ((0, 0), (1, 1), (0, 1), (1, 0))


def leaking(numerator: Any, shift: Any, half: bool) -> Any:
    """limit(numerator / 2**shift), below zero an eighth; `half`: of the nearest, for the stream's shifts."""
    above = numerator + (half * (1 << shift) >> 1) >> shift
    below = numerator + (half * (1 << shift + 3) >> 1) >> shift + 3
    return np.where(numerator >= 0, np.minimum(above, 1023), np.maximum(below, -128))


def sums(x: Any, weights: dict[str, Any], name: str) -> tuple[Any, Any]:
    """A convolution's sums before their shift, and the shift."""
    bare = weights | {f"{name}.shift": 0 * weights[f"{name}.shift"]}
    return convolved(x, bare, name), weights[f"{name}.shift"].astype(np.int64)[:, None, None]


def network(weights: dict[str, Any], name: str, blocks: int, x: Any, joined: Any = None) -> Any:
    h = convolved(x, weights, f"{name}.enter")
    if joined is not None:
        h = h + convolved(joined, weights, f"{name}.join")
    for i in range(blocks):
        a = leaking(h, weights[f"{name}.body.{i}.down"].astype(np.int64)[:, None, None], True)
        a = leaking(*sums(a, weights, f"{name}.body.{i}.first"), False)
        h = h + convolved(a, weights, f"{name}.body.{i}.second")
    a = leaking(h, weights[f"{name}.down"].astype(np.int64)[:, None, None], True)
    return convolved(a, weights, f"{name}.head") if f"{name}.head.weight" in weights else a


def evened(low: Any, high: Any) -> tuple[Any, Any]:
    h, w = low.shape[1:]
    low, high = (np.pad(a, ((0, 0), (0, h % 2), (0, w % 2)), "edge") for a in (low, high))
    return low, high


def high_passed(m: Any) -> Any:
    h, w = m.shape[1:]
    around, d = np.pad(m, ((0, 0), (1, 1), (1, 1)), "edge"), 16 * m
    for (i, a), (j, b) in ((p, q) for p in enumerate((1, 2, 1)) for q in enumerate((1, 2, 1))):
        d = d - a * b * around[:, i : i + h, j : j + w]
    return d


def quartered(planes: Any) -> Any:
    return np.stack([planes[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1).reshape(-1, planes.shape[1] // 2, planes.shape[2] // 2)


def pull(skip: Any, width: Any, d: Any) -> Any:
    skip, width = (np.array(a, np.int64).reshape(-1, 1, 1) for a in (skip, width))
    return np.where(skip == 0, 0, np.sign(skip) * width * d // np.where(skip == 0, 1, abs(skip) + abs(d)))


def nested_features(own: dict[str, Any], low: Any, high: Any) -> tuple[Any, Any, Any, Any]:
    """m, D, the high-pass as a feature, and all features; of even fields."""
    m = low + high
    d, detail = high_passed(m), int(own["detail"].reshape(-1)[0])
    feature = np.clip(d + (2**detail // 2) >> detail, -2047, 2047)
    middle, wide = (own[name].astype(np.int64).reshape(-1, 1, 1) for name in ("middle", "wide"))
    return m, d, quartered(feature), quartered(np.concatenate([m - middle, feature, np.clip(high - low + 1, 0, wide)]))


def nested_mixtures(own: dict[str, Any], described: dict[str, Any], number: int, seen: Any, activations: Any) -> Any:
    """A function from a place (channel, row, column in the pass's field) to [(share, location, level), ...]."""
    row, column = PASSES[number]
    m, d, detail, features = nested_features(own, *evened(*seen))
    raw = network(own, f"pass{number}", described["passes"], features if activations is None else detail, activations)
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
        top = max(logarithm)
        e = [exponential(min(top - v, 1024)) for v in logarithm]
        share = [v * (256 - count) // sum(e) + 1 for v in e]
        share[logarithm.index(top)] += 256 - sum(share)
        return list(zip(share, location, level))

    return mixture


def mixture_mean(mixture: list[tuple[int, int, int]], low: int, high: int) -> int:
    bottom, top = low * ONE - ONE // 2, high * ONE + ONE // 2
    means = [mean(location, level, low, high) - bottom for _, location, level in mixture]
    masses = [distribution(top, location, level) - distribution(bottom, location, level) for _, location, level in mixture]
    shares = [share * (mass >> 12) for (share, _, _), mass in zip(mixture, masses)]
    shares = shares if any(shares) else [share for share, _, _ in mixture]
    return bottom + sum(a * m for a, m in zip(shares, means)) // sum(shares)


def nested_preview(own: dict[str, Any], described: dict[str, Any], low: Any, high: Any) -> Any:
    """Positions."""
    activations = None
    if described["trunk"] is not None:
        activations = network(own, "trunk", described["trunk"], nested_features(own, *evened(low, high))[3])
    found, seen = np.zeros_like(low), (low.copy(), high.copy())
    for number, (row, column) in enumerate(PASSES):
        mixture = nested_mixtures(own, described, number, seen, activations)
        for c in range(3):
            for y, x in np.ndindex(low[0, row::2, column::2].shape):
                place = (c, 2 * y + row, 2 * x + column)
                found[place] = mixture_mean(mixture(c, y, x), int(low[place]), int(high[place]))
        twice = found[:, row::2, column::2] + 2**14 >> 15
        seen[0][:, row::2, column::2], seen[1][:, row::2, column::2] = twice >> 1, twice - (twice >> 1)
    return found


def nested_shown(v: Any, low: Any, high: Any, grey: bool) -> Any:
    known = low == high
    if grey:
        v, low, known = (a * np.array([1, 0, 0]).reshape(3, 1, 1) if a.dtype != bool else a[:1] for a in (v, low, known))
    y, co, cg = v
    t = y - (cg >> 1) + 2**14
    b = t - (co >> 1) + 2**14
    rgb = np.stack([y, y, y]) if grey else np.stack([b + co, t + cg, b])
    return np.where(known.all(0), pixels(low, False), np.clip(rgb + 2**15 >> 16, 0, 255)).transpose(1, 2, 0)


def decode_nested(data: bytes, model: dict[str, Any], weights: dict[str, Any], steps: int | None = None) -> Any:
    head = header(data)
    payloads, constants = chunks(data, head.end, head.check), model["constants"]
    size = (head.height, head.width)
    random = np.array(philox(head.seed, 1, 3 * size[0] * size[1])[: 3 * size[0] * size[1]], np.int64).reshape(3, *size)
    offset = random * np.array(constants["widths"][0]).reshape(3, 1, 1) >> 32
    low = np.zeros((3, *size), np.int64) + np.array([0, -255, -255]).reshape(3, 1, 1)
    high = np.full_like(low, 255)
    for s in range(head.steps):
        own = {name.removeprefix(f"{s}."): a for name, a in weights.items() if name.startswith(f"{s}.")}
        described, widths = model["network"]["steps"][s], constants["widths"][s]
        if s == steps:
            return nested_shown(nested_preview(own, described, low, high), low, high, head.grey)
        activations = None
        if described["trunk"] is not None:
            activations = network(own, "trunk", described["trunk"], nested_features(own, *evened(low, high))[3])
        stream, symbols = Stream(payloads[16 + s][4:]), []
        for number, (row, column) in enumerate(PASSES):
            mixtures, asked = nested_mixtures(own, described, number, (low, high), activations), []
            for c in (0,) if head.grey else (0, 1, 2):
                for y, x in lattice(*low[0, row::2, column::2].shape):
                    place = (c, 2 * y + row, 2 * x + column)
                    first, end = ((int(a[place]) - int(offset[place])) // widths[c] for a in (low, high))
                    if first < end:
                        mixture = mixtures(c, y, x)
                        middle = sum(share * level for share, _, level in mixture) // 256
                        asked.append((middle + constants["priority"][c], place, first, end, mixture))
            asked.sort(key=lambda one: -one[0])
            for _, place, first, end, mixture in asked:
                c, o = place[0], int(offset[place])
                bottom, top = int(low[place]), int(high[place])
                cuts = [bottom, *(o + k * widths[c] for k in range(first + 1, end + 1)), top + 1]
                f = [sum(w * distribution(v * ONE - ONE // 2, at, level) for w, at, level in mixture) >> 8 for v in cuts]
                total, n = f[-1] - f[0], len(f) - 1
                symbols.append(stream.symbol([((f[j] - f[0]) * SHARED // total if total else j * SHARED // n) + j for j in range(n + 1)]))
                k = first + symbols[-1]
                low[place], high[place] = max(bottom, o + k * widths[c]), min(top, o + (k + 1) * widths[c] - 1)
            if head.grey:
                for c in (1, 2):
                    o, inside = offset[c, row::2, column::2], (c, slice(row, None, 2), slice(column, None, 2))
                    k = -o // widths[c]
                    low[inside] = np.maximum(low[inside], o + k * widths[c])
                    high[inside] = np.minimum(high[inside], o + (k + 1) * widths[c] - 1)
        assert zlib.crc32(np.array(symbols, "<u2").tobytes()) == int.from_bytes(payloads[16 + s][:4], "big"), f"step {s + 1}"
    assert (low == high).all()
    return pixels(low, False).transpose(1, 2, 0)


@functools.cache
def exponential(k: int) -> int:
    with localcontext() as context:
        context.prec = 50
        return nearest(2**30 * (-Decimal(k) / 64).exp())


CASES = make.cases()


def decoded(name: str, steps: int | None = None) -> Any:
    """A golden file by what its model's family is."""
    data, folder = (make.HERE / f"{name}.uqdm").read_bytes(), make.place(CASES[name][0])
    model, weights = json.loads((folder / "model.json").read_text()), load_file(folder / "weights.safetensors")
    return {"uqdm": decode, "nested": decode_nested}[model["family"]](data, model, weights, steps)


@pytest.mark.parametrize("name", [name for name, (_, _, options) in CASES.items() if options.get("mode") != "paper"])
def test_what_the_document_says_decodes_golden_files(name: str) -> None:
    assert (decoded(name) == CASES[name][1].pixels).all()


PREVIEWED = (
    "light-row",
    "light-carried",
    "light-grey",
    "chance-grey",
    "chance-column",
    "nano-row",
    "nested-rgb",
    "nested-grey",
    "nested-column",
)


@pytest.mark.parametrize("name", PREVIEWED)
def test_what_the_document_says_shows_the_codecs_previews(name: str) -> None:
    data, codec = (make.HERE / f"{name}.uqdm").read_bytes(), make.codecs()[CASES[name][0]]
    for step in range(header(data).steps):
        expected = codec.decode(data, step=step).picture.pixels
        found = decoded(name, step)
        assert (found[..., 1:2] if expected.shape[2] == 1 else found).tolist() == expected.tolist()
