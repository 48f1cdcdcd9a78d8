"""What all families' decoders share, from docs/format.md alone: header and chunks, range coder,
generator, tables, means.

Files may end anywhere behind the header. What the document leaves out or says wrongly stops it.
Slow and small on purpose.
"""

import functools
import itertools
import zlib
from bisect import bisect_right
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np

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
    fingerprint: bytes
    seed: int
    paper: bool
    end: int
    check: int
    compact: bool


def header(data: bytes) -> Header:
    assert data[:8] == bytes.fromhex("89 55 51 44 0D 0A 1A 0A")
    assert data[8] in (0x10, 0x11)  # the version
    end = 10 + data[9]
    body, check = data[10:end], int.from_bytes(data[end : end + 4], "little")
    assert zlib.crc32(data[:end]) == check
    flags = body[0]
    assert flags >> 3 in (0, 4)  # exact
    compact = flags >> 5 == 1
    assert not compact or data[8] == 0x11
    width, at = varint(body, 1)
    height, at = varint(body, at)
    steps, at = body[at], at + 1
    fingerprint = body[at : at + (4 if compact else 8)]
    at += len(fingerprint)
    at += 0 if compact else 1 + body[at]  # the name
    seed, at = varint(body, at) if flags & 4 else (0, at)
    extra = body[at:] if compact else body[at + 1 :]
    assert compact or body[at] == len(extra)
    assert extra in (b"\0", b"\1")
    return Header(width, height, bool(flags & 1), steps, fingerprint, seed, extra == b"\1", end + 4, check, compact)


class Payload(NamedTuple):
    data: bytes
    whole: bool
    check: int = 4  # bytes at its beginning that check its symbols


def compact_steps(data: bytes, head: Header) -> dict[int, Payload]:
    found, at = {}, head.end
    for tag in range(16, 16 + head.steps):
        start = at
        while at < len(data) and data[at] & 128:
            at += 1
        if at >= len(data):
            return found
        size, at = varint(data, start)
        end = at + size
        whole = end + 2 <= len(data)
        before = int.from_bytes(data[start - 4 : start], "little")
        assert not whole or zlib.crc32(data[start:end], before) % 2**16 == int.from_bytes(data[end : end + 2], "little")
        found[tag] = Payload(data[at:end], whole, 2 if tag == 15 + head.steps else 1)
        at = end + 2
    assert at >= len(data)
    return found


def chunks(data: bytes, head: Header) -> dict[int, Payload]:
    """By tag. The last one may be cut; one whose head is not whole is not there."""
    if head.compact:
        return compact_steps(data, head)
    found, at, check = {}, head.end, head.check
    while at < len(data):
        start = at
        while at + 1 < len(data) and data[at + 1] & 128:
            at += 1
        if len(data) < at + 4:
            break
        size, at = varint(data, start + 1)
        check = zlib.crc32(data[start:at], check)
        assert check & 0xFFFF == int.from_bytes(data[at : at + 2], "little")
        at, payload, whole = at + 2, b"", True
        for _ in range(max(1, -(-size // 4096))):
            piece = data[at : at + min(4096, size - len(payload))]
            at, payload = at + len(piece) + 4, payload + piece
            check = zlib.crc32(piece, check)
            whole = at <= len(data)
            assert not whole or check == int.from_bytes(data[at - 4 : at], "little")
        found[data[start]] = Payload(payload, whole)
    return found


def index(data: bytes, head: Header) -> list[tuple[int, int, bool]]:
    """Bytes, PSNR and whether it is inside a step, of each place that a file's index tells of."""
    payload, places, at = chunks(data, head)[0].data, list[tuple[int, int, bool]](), 0
    assert data[head.end] == 0
    assert len(payload) <= 4096
    size = head.end + 1 + (1 if len(payload) < 128 else 2) + 2 + len(payload) + 4
    while at < len(payload):
        distance, at = varint(payload, at)
        size += distance >> 1
        assert not places or distance > 1
        places.append((size, int.from_bytes(payload[at : at + 2], "little"), bool(distance & 1)))
        at += 2
    assert at == len(payload)
    ends = [size for size, _, inside in places if not inside]
    assert not places[0][2]
    assert 1 <= len(ends) <= head.steps + 1
    for step, end in enumerate(ends):  # a file that is cut there has so many whole steps, and no byte more
        found = chunks(data[:end], head)
        assert end > len(data) or sum(tag >= 16 and one.whole for tag, one in found.items()) == step
        assert end > len(data) or sum(tag >= 16 for tag in chunks(data[: end - 1], head)) == step
    return places


class Stream:
    """Symbols of a step's payload, as long as they are certain; `found` collects them."""

    def __init__(self, payload: Payload) -> None:
        self.check, self.data, self.whole = payload.data[: payload.check], payload.data[payload.check :], payload.whole
        self.above, self.at, self.range = int.from_bytes(self.data[:8].ljust(8, b"\0"), "big"), 8, 2**64 - 1
        self.found: list[int] = []

    def symbol(self, cumulative: list[int]) -> int | None:
        unit = self.range >> 24
        missing = 0 if self.whole else max(0, self.at - len(self.data))
        least, most = (min(above // unit, 2**24) for above in (self.above, self.above + 256**missing - 1))
        found = bisect_right(cumulative, least) - 1
        assert found + 1 < len(cumulative)
        if most >= cumulative[found + 1]:
            return None
        self.above -= unit * cumulative[found]
        self.range = unit * (cumulative[found + 1] - cumulative[found])
        if self.range < 2**32:
            word = self.data[self.at : self.at + 4].ljust(4, b"\0")
            self.above, self.range, self.at = (
                self.above << 32 | int.from_bytes(word, "big"),
                self.range << 32,
                self.at + 4,
            )
        self.found.append(found)
        return found

    def finish(self) -> None:
        """The check of a whole step's symbols."""
        found = zlib.crc32(np.array(self.found, "<u2").tobytes())
        assert not self.whole or found % 256 ** len(self.check) == int.from_bytes(self.check, "big")


def cumulative(f: list[int], total: int) -> list[int]:
    """Boundaries of the symbols' parts, from the distribution function at the boundaries of n
    children.
    """
    n = len(f) - 1
    return [((f[j] - f[0]) * SHARED // total if total else j * SHARED // n) + j for j in range(n + 1)]


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


@functools.cache
def integrals() -> list[int]:
    """S at the entries of the table."""
    return list(itertools.accumulate(((logistic(j) + logistic(j + 1)) * 512 for j in range(48 * 128)), initial=0))


def integral(t: int) -> int:
    cell, rest = divmod(t + 24 * ONE, 512)
    return integrals()[cell] + (logistic(cell) + interpolated(t)) * rest


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


def blended(p: Any, q: Any, share: int) -> Any:
    return p + ((q - p) * share >> 16)


def shown(v: Any, low: Any, high: Any, rgb: bool, grey: bool) -> Any:
    """Positions and boxes to the pixels of a preview, (H, W, 3)."""
    known = low == high
    if not rgb:
        luma = np.array([1, 0, 0]).reshape(3, 1, 1)
        (y, co, cg), known, low = (v * luma, known[:1], low * luma) if grey else (v, known, low)
        t = y - (cg >> 1) + 2**14
        b = t - (co >> 1) + 2**14
        v = np.stack([y, y, y]) if grey else np.stack([b + co, t + cg, b])
    return np.where(known.all(0), pixels(low, rgb), np.clip(v + 2**15 >> 16, 0, 255)).transpose(1, 2, 0)


def pixels(v: Any, rgb: bool) -> Any:
    if rgb:
        return v
    y, co, cg = v
    t = y - (cg >> 1)
    b = t - (co >> 1)
    return np.stack([b + co, cg + t, b])
