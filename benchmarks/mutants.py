"""Wrong files from real ones: bytes changed, or what they mean; knows how a file is put together,
not what becomes of it.

`BYTES` change a file's bytes as they stand. `MEANING` takes a file apart, changes what it says, and
leaves the checksums to `seal`. Each is a function of a source of chance, the file and another one,
and changes the file in place; nothing it makes has to be possible.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from uqdm import format
from uqdm.format import STEP

# --- bytes


def seal(data: bytes) -> bytes:
    """The same bytes with every checksum that a reader meets made to fit; the checks of symbols
    stay.
    """
    out = bytearray(data)
    at = 10 + out[9] if len(out) > 9 else len(out)
    if at + 4 > len(out):
        return data
    crc = zlib.crc32(out[:at])
    out[at : at + 4] = crc.to_bytes(4, "little")
    at += 4
    if is_compact(out):
        return _compact_sealed(out, at)
    while at < len(out):
        end, length = at + 1, 0
        while end < len(out) and end <= at + 9:
            length |= (out[end] & 127) << 7 * (end - at - 1)
            end += 1
            if out[end - 1] < 128:
                break
        crc = zlib.crc32(out[at:end], crc)
        if end + 2 > len(out):
            break
        out[end : end + 2] = (crc & 0xFFFF).to_bytes(2, "little")
        at, left = end + 2, length
        while True:
            piece = min(left, format.PIECE)
            if at + piece + 4 > len(out):
                return bytes(out)
            crc = zlib.crc32(out[at : at + piece], crc)
            out[at + piece : at + piece + 4] = crc.to_bytes(4, "little")
            at, left = at + piece + 4, left - piece
            if not left:
                break
    return bytes(out)


def _compact_sealed(out: bytearray, at: int) -> bytes:
    """The same for the steps of a compact file, from `at` on."""
    while at < len(out):
        end = at + 1
        while end < len(out) and end < at + 9 and out[end - 1] > 127:
            end += 1
        length = sum((byte & 127) << 7 * i for i, byte in enumerate(out[at:end]))
        if end + length + 2 > len(out):
            break
        crc = zlib.crc32(out[at : end + length], int.from_bytes(out[at - 4 : at], "little"))
        at = end + length + 2
        out[at - 2 : at] = (crc & 0xFFFF).to_bytes(2, "little")
    return bytes(out)


def is_compact(data: bytes | bytearray) -> bool:
    """Whether the header says that the file is compact."""
    return len(data) > 10 and data[8] == format.VERSION and bool(data[10] & 32)


Chance = random.Random
Alter = Callable[[Chance, bytearray, bytes, bytes], None]  # what is changed, the real file that it was, another one


def _place(chance: Chance, data: bytes | bytearray) -> int:
    """A position: one time in three in the first 64 bytes, where every byte means much."""
    most = min(len(data), 64) if chance.random() < 1 / 3 else len(data)
    return chance.randrange(max(most, 1))


def _stretch(chance: Chance, data: bytes | bytearray) -> tuple[int, int]:
    start = _place(chance, data)
    return start, min(start + chance.choice((1, 1, 2, 4, 9, 40, 400)), len(data))


def flip(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """One to eight bits flipped."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if data:
            data[_place(chance, data)] ^= 1 << chance.randrange(8)


def overwrite(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """A stretch of zeros, ones or chance."""
    start, end = _stretch(chance, data)
    data[start:end] = chance.choice((bytes(end - start), b"\xff" * (end - start), chance.randbytes(end - start)))


def cut(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """The end cut off."""
    del data[chance.randrange(len(data) + 1) :]


def cut_and_change(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """The end cut off, and bits flipped in what is then the end."""
    del data[chance.randrange(len(data) + 1) :]
    for _ in range(chance.randrange(1, 4) if data else 0):
        data[max(0, len(data) - 1 - chance.randrange(16))] ^= chance.randrange(1, 256)


def delete(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """A stretch left out."""
    start, end = _stretch(chance, data)
    del data[start:end]


def insert(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """Bytes put in."""
    at = _place(chance, data)
    data[at:at] = chance.choice((chance.randbytes, bytes))(chance.choice((1, 2, 4, 16, 200)))


def repeat(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """A stretch repeated, there or elsewhere."""
    start, end = _stretch(chance, data)
    at = chance.choice((end, _place(chance, data)))
    data[at:at] = data[start:end] * chance.choice((1, 1, 3))


def exchange(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """Two stretches exchanged."""
    a, b, c, d = sorted(chance.randrange(len(data) + 1) for _ in range(4))
    data[a:d] = data[c:d] + data[b:c] + data[a:b]


def append(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """More at the end: zeros, chance, the file once more, another file."""
    data += chance.choice(
        (bytes(chance.randrange(1, 40)), chance.randbytes(chance.randrange(1, 40)), bytes(data), other)
    )


def splice(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """The beginning of one file and the end of another, at places of chance or at the same one."""
    here, there = chance.randrange(len(data) + 1), chance.randrange(len(other) + 1)
    data[here:] = other[chance.choice((here, there)) :]


def whole_chunks(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """Chunks as they stand, checks and all: repeated, reordered, left out, taken from another
    file.
    """
    header, chunks = _cut_up(real)
    _, foreign = _cut_up(other)
    for _ in range(chance.choice((1, 1, 2))):
        at, to = chance.randrange(len(chunks)), chance.randrange(len(chunks))
        match chance.randrange(4):
            case 0:
                chunks.insert(to, chunks[at])
            case 1:
                chunks[at], chunks[to] = chunks[to], chunks[at]
            case 2 if len(chunks) > 1:
                del chunks[at]
            case _:
                chunks[at] = chance.choice(foreign)
    data[:] = header + b"".join(chunks)


def text_mode(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """Carried as text: line ends changed, the high bits lost, stopped at ^Z, or read as Latin-1 and
    written as UTF-8.
    """
    changes: Sequence[Callable[[bytes], bytes]] = (
        lambda b: b.replace(b"\r\n", b"\n"),
        lambda b: b.replace(b"\n", b"\r\n"),
        lambda b: bytes(byte & 127 for byte in b),
        lambda b: b.split(b"\x1a")[0],
        lambda b: b.decode("latin-1").encode(),
    )
    data[8 * chance.randrange(2) :] = chance.choice(changes)(bytes(data[8 * chance.randrange(2) :]))


def noise(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """Random bytes: all of them, those behind the magic, those behind the header, with their
    length.
    """
    start = chance.choice((0, 9, 10, format.parse(real).header_size))
    data[start:] = chance.randbytes(chance.choice((0, 1, 3, 20, 100, len(data))))


def absurd_header(chance: Chance, data: bytearray, real: bytes, other: bytes) -> None:
    """Bytes of the header at their extremes."""
    for _ in range(chance.choice((1, 2, 8))):
        at = chance.randrange(8, 60)
        data[at : at + 1] = bytes([chance.choice((0, 1, 127, 128, 240, 255))])


def _cut_up(real: bytes) -> tuple[bytes, list[bytes]]:
    contents = format.parse(real)
    return real[: contents.header_size], [real[chunk.start : chunk.end] for chunk in contents.chunks]


BYTES: tuple[Alter, ...] = (
    flip,
    overwrite,
    cut,
    cut_and_change,
    delete,
    insert,
    repeat,
    exchange,
    append,
    splice,
    whole_chunks,
    text_mode,
    noise,
    absurd_header,
)


# --- meaning


@dataclass
class Parts:
    """A file taken apart, to be changed and put together again."""

    flags: int
    width: int
    height: int
    steps: int
    fingerprint: bytes
    name: bytes
    number: int  # the seed of the dither
    extra: bytes
    chunks: list[tuple[int, bytes]]  # tag, payload
    lengths: dict[int, int] = field(default_factory=dict)  # of chunks whose head lies
    body: bytearray | None = None  # instead of the header's fields
    rest: bytes = b""
    version: int = format.VERSION

    @classmethod
    def of(cls, data: bytes) -> "Parts":
        """A real file's."""
        contents = format.parse(data)
        h = contents.header
        chunks = [
            (chunk.kind if chunk.kind != STEP else STEP - 1 + chunk.index, chunk.payload) for chunk in contents.chunks
        ]
        return cls(
            data[10],
            h.width,
            h.height,
            h.chunks,
            h.fingerprint,
            h.model.encode(),
            h.seed,
            h.extra,
            chunks,
            version=data[8],
        )

    def header(self) -> bytes:
        """The body of the header."""
        out = (
            bytes([self.flags])
            + varint(self.width)
            + varint(self.height)
            + bytes([self.steps & 255])
            + self.fingerprint
        )
        number = varint(self.number) if self.flags & 4 else b""
        if self.compact:
            return out + number + self.extra
        return out + bytes([len(self.name)]) + self.name + number + bytes([len(self.extra)]) + self.extra

    @property
    def compact(self) -> bool:
        """Whether the parts are put together in the compact form."""
        return self.version == format.VERSION and bool(self.flags & 32)

    def join(self) -> bytes:
        """The file's bytes, checksums not yet made."""
        body = bytes(self.header() if self.body is None else self.body)[:255]
        out = bytearray(format.MAGIC + bytes([self.version, len(body)]) + body + bytes(4))
        if self.compact:
            for i, (_, payload) in enumerate(self.chunks):
                out += varint(self.lengths.get(i, len(payload))) + payload + bytes(2)
            return bytes(out + self.rest)
        for i, (tag, payload) in enumerate(self.chunks):
            out += bytes([tag & 255]) + varint(self.lengths.get(i, len(payload))) + bytes(2)
            for at in range(0, max(len(payload), 1), format.PIECE):
                out += payload[at : at + format.PIECE] + bytes(4)
        return bytes(out + self.rest)

    def step(self, chance: Chance) -> tuple[int, int, bytearray]:
        """One of the steps: where it is, its tag, its payload."""
        at = chance.choice([i for i, (tag, _) in enumerate(self.chunks) if tag >= STEP])
        return at, self.chunks[at][0], bytearray(self.chunks[at][1])


def varint(value: int) -> bytes:
    """LEB128, of any size."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


Rewrite = Callable[[Chance, Parts, Parts], None]  # in place; the file, and another one


def symbols_changed(chance: Chance, parts: Parts, other: Parts) -> None:
    """Bytes of a step's payload: flipped, overwritten, put in, taken out."""
    at, tag, payload = parts.step(chance)
    for _ in range(chance.choice((1, 1, 2, 5))):
        where = chance.randrange(len(payload) + 1)
        match chance.randrange(4):
            case 0 | 1 if where < len(payload):
                payload[where] ^= chance.choice((1 << chance.randrange(8), chance.randrange(1, 256)))
            case 2:
                payload[where:where] = chance.randbytes(chance.randrange(1, 4))
            case _:
                del payload[where : where + chance.choice((1, 1, 2, 8))]
    parts.chunks[at] = tag, bytes(payload)


def symbols_replaced(chance: Chance, parts: Parts, other: Parts) -> None:
    """A step's stream replaced by nothing, zeros, ones, chance, a long one; its check may stay."""
    at, tag, payload = parts.step(chance)
    count = chance.choice((0, 1, 4, 8, len(payload), 3 * len(payload) + 1))
    # Zeros (but for the end, where no encoder writes one) and ones choose each table's ends, which
    # are the least likely symbols.
    stream = chance.choice(
        (bytes(count) + b"\1", b"\xff" * count, bytes(count), chance.randbytes(count), chance.randbytes(count) + b"\1")
    )
    parts.chunks[at] = tag, bytes(payload[: chance.choice((0, 3, 4, 4, 4, 4))]) + stream


def steps_mixed(chance: Chance, parts: Parts, other: Parts) -> None:
    """Steps repeated, reordered, left out or from another file; numbered anew or not."""
    for _ in range(chance.choice((1, 1, 2))):
        (at, tag, payload), (to, other_tag, moved) = parts.step(chance), parts.step(chance)
        match chance.randrange(4):
            case 0:
                parts.chunks[at], parts.chunks[to] = (tag, bytes(moved)), (other_tag, bytes(payload))
            case 1:
                parts.chunks.insert(to, (tag, bytes(payload)))
            case 2 if sum(tag >= STEP for tag, _ in parts.chunks) > 1:
                del parts.chunks[at]
            case _:
                parts.chunks[at] = tag, bytes(other.step(chance)[2])
    if chance.random() < 0.7:
        count = 0
        for i, (tag, payload) in enumerate(parts.chunks):
            if tag >= STEP:
                parts.chunks[i] = STEP + count, payload
                count += 1


def lengths_lie(chance: Chance, parts: Parts, other: Parts) -> None:
    """A chunk's head says another length, perhaps an absurd one."""
    at = chance.randrange(len(parts.chunks))
    true = len(parts.chunks[at][1])
    near = true + chance.choice((-4, -1, 1, 4, 7))
    parts.lengths[at] = max(
        0, chance.choice((near, near, 0, 2 * true, 4096, 1 << 20, 1 << 30, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 70))
    )


def tags_lie(chance: Chance, parts: Parts, other: Parts) -> None:
    """A chunk says that it is another kind, or another step."""
    at = chance.randrange(len(parts.chunks))
    parts.chunks[at] = chance.choice((0, 1, 2, 3, 4, 5, 15, 16, 17, parts.chunks[at][0] + 1, 255)), parts.chunks[at][1]


def fields_changed(chance: Chance, parts: Parts, other: Parts) -> None:
    """Fields of the header: other sizes, seeds, modes, colours, numbers of steps, models; near the
    truth or absurd.
    """
    for _ in range(chance.choice((1, 1, 1, 2))):
        big = chance.choice(
            (
                0,
                1,
                255,
                256,
                1 << 14,
                1 << 16,
                (1 << 24) - 1,
                1 << 24,
                (1 << 24) + 1,
                1 << 32,
                1 << 63,
                1 << 64,
                1 << 70,
            )
        )
        match chance.randrange(11):
            case 0:
                parts.width, parts.height = parts.height, parts.width
            case 1:
                parts.width = max(0, chance.choice((parts.width - 1, parts.width + 1, 2 * parts.width, big)))
            case 2:
                parts.height = max(0, chance.choice((parts.height - 1, parts.height + 1, 2 * parts.height, big)))
            case 3:
                parts.width, parts.height = chance.choice(
                    ((256, 256), (65536, 1), (1, 65536), (8192, 8192), (1 << 24, 1 << 24), (300, 200))
                )
            case 4:
                parts.flags |= 4
                parts.number = chance.choice((parts.number + 1, chance.getrandbits(64), chance.getrandbits(7), big))
            case 5:
                parts.flags ^= 1 << chance.randrange(8)
            case 6:
                parts.steps = chance.choice((0, 1, parts.steps - 1, parts.steps + 1, 240, 241, 255))
            case 7:
                parts.extra = chance.choice(
                    (b"\0", b"\1", b"\2", b"", bytes(2), chance.randbytes(64), chance.randbytes(65))
                )
                parts.steps += chance.choice((-1, 0, 1))
            case 8:
                parts.name = chance.choice(
                    (
                        b"",
                        b"/etc/passwd",
                        b"..",
                        b"uqdm-tiny",
                        b"\xff\xfe",
                        b"a\0b",
                        b"n" * 64,
                        b"n" * 65,
                        "\u202e".encode(),
                    )
                )
            case 9:
                parts.fingerprint = chance.choice((bytes(8), chance.randbytes(8), parts.fingerprint[::-1]))
            case _:
                parts.flags, parts.width, parts.height, parts.steps = (
                    other.flags,
                    other.width,
                    other.height,
                    other.steps,
                )
                parts.number, parts.extra = other.number, other.extra


def header_bytes(chance: Chance, parts: Parts, other: Parts) -> None:
    """Bytes of the header, whatever they mean."""
    parts.body = bytearray(parts.header())
    for _ in range(chance.choice((1, 2, 4))):
        at = chance.randrange(len(parts.body))
        match chance.randrange(4):
            case 0:
                parts.body[at:at] = chance.randbytes(chance.choice((1, 2, 9)))
            case 1 if len(parts.body) > 9:
                del parts.body[at : at + chance.choice((1, 2, 9))]
            case _:
                parts.body[at] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))


def more_behind(chance: Chance, parts: Parts, other: Parts) -> None:
    """Bytes, or another file's chunks, behind the end; perhaps a step that is not announced."""
    parts.rest = chance.choice((chance.randbytes(chance.randrange(1, 30)), bytes(chance.randrange(1, 30))))
    if chance.random() < 0.5:
        parts.chunks.append((parts.chunks[-1][0] + 1, other.chunks[-1][1]))


def carried_changed(chance: Chance, parts: Parts, other: Parts) -> None:
    """What is carried along: index, metadata and alpha changed, swapped, added, replaced by what
    unpacks to far too much.
    """
    bomb = bytes([chance.randrange(5)]) + zlib.compress(bytes(chance.choice((1, 63, 64, 65, 1 << 16, 1 << 22))), 9)
    payload = chance.choice(
        (bomb, bomb, b"", b"\0", b"\0\0", b"\0\0\0", chance.randbytes(9), b"\1", chance.randbytes(5000))
    )
    places = b"".join(
        varint(chance.choice((0, 1, 2, 3, 40, 41, 1 << 40))) + chance.randbytes(2) for _ in range(chance.randrange(9))
    )
    payload = chance.choice((payload, payload, places))
    carried = [i for i, (tag, _) in enumerate(parts.chunks) if tag < STEP]
    match chance.randrange(4):
        case 0 if carried:
            at = chance.choice(carried)
            changed = bytearray(parts.chunks[at][1] or b"?")
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            parts.chunks[at] = parts.chunks[at][0], bytes(changed)
        case 1 if carried:
            at = chance.choice(carried)
            parts.chunks[at] = parts.chunks[at][0], payload
        case 2:
            parts.chunks = [(0, places), *((tag, old) for tag, old in parts.chunks if tag != 0)]
        case _:
            parts.chunks = [(tag, old) for tag, old in parts.chunks if tag != 4]
            parts.chunks.insert(sum(tag < 4 for tag, _ in parts.chunks), (4, payload))
            parts.flags |= 2


MEANING: tuple[Rewrite, ...] = (
    *(symbols_changed,) * 4,
    *(symbols_replaced,) * 3,
    steps_mixed,
    lengths_lie,
    tags_lie,
    fields_changed,
    fields_changed,
    header_bytes,
    more_behind,
    carried_changed,
)
