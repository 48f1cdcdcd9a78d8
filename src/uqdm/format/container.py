"""A header and chunks in, the bytes of a .uqdm file out, and back; knows nothing of pictures, models or entropy coding.

`docs/format.md` is the document that this file follows, field by field. What it promises:

1. A file is a header and then chunks; cut anywhere past the header it still parses, to the chunks that are whole and to what is
   there of the step that is not.
2. Every byte is under a check, one for every 4 KiB of a chunk, and each check starts from the one before it (the header's for the
   first), so a piece that is damaged, repeated, left out, or that belongs to another file does not fit where it stands.
3. Sizes are checked against limits before anything is allocated, and memory grows only with bytes that have really arrived.
4. On request damage is not an error but an end: what passed its checks before it is given (`salvage`).

The exception to 2: the last bytes of a cut file are under no check yet. They are counted as `tail`, and a chunk's `verified` says
where in its payload they begin.
"""

import io
import json
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import BinaryIO

from uqdm import sources
from uqdm.errors import DamagedError, LimitError, NotUqdmError, TruncatedError, VersionError
from uqdm.sources import Source

# In the manner of PNG: a byte above 127 (7-bit transports), CR LF and LF (text-mode transfers), and ^Z (typing the file in DOS).
MAGIC = b"\x89UQD\r\n\x1a\n"
VERSION = 0x10  # major in the high four bits, minor in the low four: 1.0
DEFAULT_SEED = 0
ARITHMETIC = ("exact", "float64", "float32")  # of the network; the place in this tuple is the number in the flags

ICC, EXIF, XMP, ALPHA, STEP = 1, 2, 3, 4, 16
KIND_NAMES = {ICC: "ICC profile", EXIF: "EXIF", XMP: "XMP", ALPHA: "alpha plane", STEP: "step"}

MAX_SIDE = 1 << 24
MAX_PIXELS = 1 << 26  # decoding takes at most 150 bytes a pixel, 10 GiB; `docs/format.md`, "Limits", has more
MAX_CHUNKS = 240  # step chunks: the tag byte is 15 + index
MAX_NAME = 64  # bytes of UTF-8
MAX_EXTRA = 64  # bytes of the family's sub-header
MAX_METADATA = 16 << 20  # bytes of one ICC, EXIF or XMP chunk
PIECE = 4096  # bytes of payload under one check

_GREY, _ALPHA, _SEED = 1, 2, 4
_ARITHMETIC_SHIFT = 3  # bits 3 and 4 are the place in ARITHMETIC
_KNOWN_FLAGS = _GREY | _ALPHA | _SEED | 3 << _ARITHMETIC_SHIFT
_FIRST_STEP_TAG = STEP  # tag of step index i is 15 + i
_PREFIX = len(MAGIC) + 2  # magic, version, length of the body
_CRC = 4
_HEAD_CHECK = 2
_MAX_VARINT = 9  # bytes: 63 bits, for chunk lengths


@dataclass(frozen=True)
class Header:
    """What a decoder must know before the first chunk.

    `width`, `height` in pixels, 1 to 2**24. `grey`: one channel instead of three. `alpha`: the file carries an alpha plane.
    `arithmetic`: of the network, "exact" (integers: any machine gives the same bits), "float64" or "float32". `model`: its name, at
    most 64 bytes of UTF-8 without slashes or control characters, not beginning with a dot. `fingerprint`: 8 bytes. `chunks`: step
    chunks of a whole file, 1 to 240. `extra`: what only the model's family understands, at most 64 bytes. `seed`: of the dither,
    below 2**64. Raises `ValueError` for anything else: a header that cannot be written is a mistake in the program.
    """

    width: int
    height: int
    grey: bool
    alpha: bool
    arithmetic: str
    model: str
    fingerprint: bytes
    chunks: int
    extra: bytes
    seed: int = DEFAULT_SEED

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("height", self.height)):
            if not 1 <= value <= MAX_SIDE:
                raise ValueError(f"{name} is {value}; expected 1 to {MAX_SIDE}")
        if self.arithmetic not in ARITHMETIC:
            raise ValueError(f"arithmetic is {self.arithmetic!r}; expected one of {', '.join(ARITHMETIC)}")
        if len(self.fingerprint) != 8:
            raise ValueError(f"fingerprint has {len(self.fingerprint)} bytes; expected 8")
        if not 1 <= self.chunks <= MAX_CHUNKS:
            raise ValueError(f"chunks is {self.chunks}; expected 1 to {MAX_CHUNKS}")
        if len(self.extra) > MAX_EXTRA:
            raise ValueError(f"extra has {len(self.extra)} bytes; expected at most {MAX_EXTRA}")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed is {self.seed}; expected 0 to 2**64 - 1")
        # A name from a file may end in a path or on a terminal: no separators, no "..", nothing unprintable.
        if not self.model or not self.model.isprintable() or "/" in self.model or "\\" in self.model or self.model[0] == ".":
            raise ValueError(f"model name {self.model!r} is empty, begins with a dot, or holds slashes or control characters")
        if len(self.model.encode()) > MAX_NAME:
            raise ValueError(f"model name {self.model!r} has {len(self.model.encode())} bytes; expected at most {MAX_NAME}")

    @property
    def channels(self) -> int:
        """1 or 3; alpha is not counted."""
        return 1 if self.grey else 3


@dataclass(frozen=True)
class Chunk:
    """One chunk, or the beginning of a step: `kind` is ICC, EXIF, XMP, ALPHA or STEP; `index` counts steps from 1 and is 0 for the
    others. `payload`: its bytes, checks taken out. `start`, `end`: its place in the file, in bytes, head and checks included.
    `size`: bytes of the payload when whole. `verified`: the first so many bytes of `payload` are under a check that passed.

    Where not `whole` (steps only), `payload` and `end` are what is there so far: `payload[verified:]` may be damaged.
    """

    kind: int
    index: int
    payload: bytes
    start: int
    end: int
    size: int
    whole: bool
    verified: int


@dataclass(frozen=True)
class Contents:
    """A parsed file: `header_size` in bytes; `chunks`: the whole ones; `tail`, `partial`, `damage`: as `Reader` has them at its end."""

    header: Header
    header_size: int
    chunks: list[Chunk]
    tail: int
    partial: Chunk | None = None
    damage: DamagedError | LimitError | None = None


@dataclass(frozen=True)
class Info:
    """What `uqdm info` tells. All sizes in bytes, heads and checks included unless they say otherwise; `bpp` is bits per pixel of the
    file up to and with each whole step, so the last entry is that of a whole file. `extra`: the family's sub-header in hexadecimal.
    `chunks`: steps of a whole file, of which `steps_available` are there and whole. `partial_bytes`: bytes of payload of an unfinished
    step, of which the first `verified_bytes` are under a check. `tail_bytes`: what no check covers in a cut file."""

    width: int
    height: int
    channels: int
    alpha: bool
    model: str
    fingerprint: str
    arithmetic: str
    extra: str
    seed: int
    version: str
    header_bytes: int
    metadata_bytes: dict[str, int]
    step_bytes: list[int]
    bpp: list[float]
    chunks: int
    steps_available: int
    complete: bool
    partial_bytes: int
    verified_bytes: int
    tail_bytes: int
    total_bytes: int

    def to_json(self) -> str:
        """One JSON object with the fields above, by name, in order."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)


# --- writing ---------------------------------------------------------------------------------------------------------------------


def write_header(header: Header) -> bytes:
    """The bytes of the header: 33 for a 64 × 64 file of the model "nano" with the default seed and one byte of `extra`."""
    flags = (
        (_GREY if header.grey else 0)
        | (_ALPHA if header.alpha else 0)
        | (_SEED if header.seed != DEFAULT_SEED else 0)
        | ARITHMETIC.index(header.arithmetic) << _ARITHMETIC_SHIFT
    )
    name = header.model.encode()
    body = bytes([flags]) + _varint(header.width) + _varint(header.height) + bytes([header.chunks])
    body += header.fingerprint + bytes([len(name)]) + name
    if header.seed != DEFAULT_SEED:
        body += _varint(header.seed)
    body += bytes([len(header.extra)]) + header.extra
    data = MAGIC + bytes([VERSION, len(body)]) + body
    return data + _crc(data, 0).to_bytes(_CRC, "little")


def write_chunk(kind: int, index: int, payload: bytes, before: bytes | bytearray) -> bytes:
    """The bytes of one chunk, to be put right after `before`.

    `kind`: ICC, EXIF, XMP, ALPHA (`index` 0) or STEP (`index` from 1). `before`: the file so far, or its end: its last four bytes,
    which are the check of the header or of the chunk before, are where this chunk's checks start. A step costs 8 or 9 bytes
    besides a payload of up to 4 KiB, and 4 more for every 4 KiB (or part of it) further. Raises `LimitError` for metadata above 16 MiB,
    `ValueError` for a kind or index that cannot be.
    """
    if kind == STEP:
        if not 1 <= index <= MAX_CHUNKS:
            raise ValueError(f"step index is {index}; expected 1 to {MAX_CHUNKS}")
    elif kind not in KIND_NAMES or index != 0:
        raise ValueError(f"kind {kind} with index {index}; expected one of {sorted(KIND_NAMES)}, and index 0 for all but steps")
    if kind in (ICC, EXIF, XMP) and len(payload) > MAX_METADATA:
        raise LimitError(f"the {KIND_NAMES[kind]} has {len(payload)} bytes; the format carries at most {MAX_METADATA}: remove it")
    if len(before) < _CRC:
        raise ValueError(f"a chunk needs what stands before it, at least {_CRC} bytes; found {len(before)}")
    start = int.from_bytes(before[-_CRC:], "little")
    tag = _FIRST_STEP_TAG + index - 1 if kind == STEP else kind
    head = bytes([tag]) + _varint(len(payload))
    crc = _crc(head, start)
    out = bytearray(head + (crc & 0xFFFF).to_bytes(_HEAD_CHECK, "little"))
    for at in range(0, max(len(payload), 1), PIECE):  # an empty payload is one empty piece
        piece = payload[at : at + PIECE]
        crc = _crc(piece, crc)
        out += piece
        out += crc.to_bytes(_CRC, "little")
    return bytes(out)


# --- reading ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Head:
    """What stands before a payload, once its check has passed: `tag`, what it means, and the CRC up to here."""

    tag: int
    kind: int
    index: int
    size: int
    start: int
    crc: int


class Reader:
    """Reads a file as its bytes arrive: the header at once, then whole chunks by iteration (or `growing`), once.

    `stream`: a binary file object whose `read(n)` may return less than n, and nothing at the end. `max_pixels`: width × height
    above it is refused (None: no limit, for callers that allocate nothing by it). `steps`: stop after that many (0: before the first)
    and judge nothing behind them. `salvage`: damage behind the header ends the iteration as if the file ended there. Never asks for
    a byte that it does not need, so a chunk is given as soon as its last byte is there. After the iteration:

    - `partial`: the step in which the file ended, if its head is there: every byte of its payload that is. With `salvage` also the
      step in which the damage is, if pieces of it passed their checks before: these only.
    - `tail`: bytes at the end of the file behind the last check that passed; 0 for a whole file, for one cut right after a check, and
      where `steps` or damage ended the iteration (after damage nothing is given that is under no check).
    - `damage`: with `salvage`, the error that would have been raised.

    Raises `NotUqdmError`, `VersionError`, `TruncatedError`, `DamagedError`, `LimitError` for the header, and `DamagedError` or
    `LimitError` from the iteration, after the chunks before the damage have been given.
    """

    def __init__(self, stream: BinaryIO, *, steps: int | None = None, max_pixels: int | None = MAX_PIXELS, salvage: bool = False) -> None:
        if steps is not None and steps < 0:
            raise ValueError(f"steps is {steps}; expected 0 or more")
        self._stream = stream
        self._steps = steps
        self._salvage = salvage
        self.position = 0  # bytes read so far
        self.partial: Chunk | None = None
        self.tail = 0
        self.damage: DamagedError | LimitError | None = None
        self.header, self._check = self._read_header(max_pixels)
        self.header_size = self.position
        self._checked = self.position  # up to here every byte is under a check that passed
        self._last_tag = 0

    def __iter__(self) -> Iterator[Chunk]:
        return self._chunks(lambda size: ())

    def growing(self, parts: int | Callable[[int], Sequence[int]]) -> Iterator[Chunk]:
        """Whole chunks as by iteration, and before each step what is there of it (`whole=False`) each time its payload has grown enough.

        `parts`: for a payload of so many bytes the byte counts, ascending, at which it is given (counts not between 0 and the size
        are left out); or a number n for the n − 1 inner points of n equal parts. A file cut inside a step: the rest is in `partial`.
        """
        if callable(parts):
            return self._chunks(parts)
        n = parts
        if n < 1:
            raise ValueError(f"parts is {n}; expected 1 or more")
        return self._chunks(lambda size: [size * i // n for i in range(1, n)])

    def _chunks(self, points: Callable[[int], Sequence[int]]) -> Iterator[Chunk]:
        try:
            yield from self._wanted(points)
        except (DamagedError, LimitError) as error:
            if not self._salvage:
                raise
            self.damage = error

    def _wanted(self, points: Callable[[int], Sequence[int]]) -> Iterator[Chunk]:
        total = self.header.chunks
        wanted = total if self._steps is None else min(self._steps, total)
        while self._last_tag < _FIRST_STEP_TAG + wanted - 1:
            head = self._read_head()
            if head is None:
                return
            chunk = yield from self._read_payload(head, points)
            if not chunk.whole:
                self.tail = self.position - self._checked
                self.partial = chunk if chunk.kind == STEP else None
                return
            yield chunk
        if self._steps is not None:
            return
        start = self.position
        if self._read(1):
            raise DamagedError(
                f"after step {total} of {total}, the last: the file should end at byte {start}, but goes on: "
                f"bytes were added there, what is before them still decodes with --step {total} or --salvage"
            )

    def _read(self, count: int) -> bytes:
        """`count` bytes (of which no caller asks more than PIECE), or fewer where the stream ends."""
        found = b""
        while len(found) < count:
            some = self._stream.read(count - len(found))
            if not some:
                break
            found = found + some if found else some
            self.position += len(some)
        return found

    def _read_header(self, max_pixels: int | None) -> tuple[Header, int]:
        data = self._read(len(MAGIC))
        if not data:
            raise NotUqdmError("the file is empty; expected a .uqdm file")
        if not MAGIC.startswith(data):
            if data[:4] == MAGIC[:4] or data[1:4] == MAGIC[1:4]:
                raise NotUqdmError(
                    f"bytes 0 to 7 are {data.hex(' ')}; expected {MAGIC.hex(' ')}: "
                    "a .uqdm file whose line ends were changed; transfer it again, in binary mode"
                )
            raise NotUqdmError(f"not a .uqdm file: it begins with {data.hex(' ')}; expected {MAGIC.hex(' ')}")
        data += self._read(1)
        if len(data) == len(MAGIC) + 1 and data[-1] != VERSION:
            what = "update uqdm" if data[-1] > VERSION else "a draft of 1.0, which only the uqdm of its time decodes"
            raise VersionError(
                f"written in format version {_version(data[-1])}; this reader knows version {_version(VERSION)} only: {what}"
            )
        data += self._read(1)
        size = data[-1] + _CRC if len(data) == _PREFIX else 0
        rest = self._read(size)
        if len(data) < _PREFIX or len(rest) < size:
            expected = f"{_PREFIX + size}" if len(data) == _PREFIX else f"more than {_PREFIX}"
            raise TruncatedError(f"cut inside the header, at byte {self.position} of {expected}: nothing can be decoded")
        body, stored = rest[:-_CRC], int.from_bytes(rest[-_CRC:], "little")
        found = _crc(data + body, 0)
        if found != stored:
            raise DamagedError(
                f"header (bytes 0 to {self.position}): checksum {stored:08x}, but its bytes give {found:08x}; nothing can be decoded"
            )
        return _parse_body(body, max_pixels), stored

    def _read_head(self) -> _Head | None:
        """The head of the next chunk, judged. None: the file ends before the head does, or the steps begin and none is wanted."""
        start = self.position
        head = self._read(1)
        if self._steps == 0 and head == bytes([_FIRST_STEP_TAG]):
            return None
        while head and len(head) <= _MAX_VARINT:  # tag, then a varint that ends with a byte below 128
            byte = self._read(1)
            head += byte
            if not byte or byte[0] < 128:
                break
        length = _decode_varint(head, 1)
        if length is None and not (len(head) <= _MAX_VARINT and (len(head) < 2 or head[-1] >= 128)):
            raise self._damaged(start, f"the length {head[1:].hex(' ')} is malformed")
        stored = self._read(_HEAD_CHECK) if length is not None else b""
        if length is None or len(stored) < _HEAD_CHECK:
            self.tail = self.position - self._checked
            return None
        crc = _crc(head, self._check)
        if crc & 0xFFFF != (check := int.from_bytes(stored, "little")):
            what = f"the check of the chunk's head is {check:04x}, but its bytes give {crc & 0xFFFF:04x}"
            raise self._damaged(start, f"{what}: flipped, repeated, missing or foreign bytes")
        kind, index = self._place(head[0], start)
        self._check_length(kind, length[0], start)
        self._checked = self.position
        return _Head(head[0], kind, index, length[0], start, crc)

    def _read_payload(self, head: _Head, points: Callable[[int], Sequence[int]]) -> Generator[Chunk, None, Chunk]:
        """The chunk of a head: of a step first what is there at each of the points; then the whole, or all there is before the end."""
        size, crc = head.size, head.crc
        payload, verified = bytearray(), 0

        def so_far(whole: bool = False) -> Chunk:
            return Chunk(head.kind, head.index, bytes(payload), head.start, self.position, size, whole, verified)

        stops = sorted({point for point in points(size) if 0 < point < size}, reverse=True) if head.kind == STEP else []
        while True:
            start, end = self.position, min(verified + PIECE, size)  # of this piece: in the file, in the payload
            while len(payload) < end:
                stop = stops[-1] if stops and stops[-1] <= end else end
                payload += self._read(stop - len(payload))
                if len(payload) < stop:
                    return so_far()
                if stops and stops[-1] == stop:
                    stops.pop()
                    yield so_far()
            stored = self._read(_CRC)
            if len(stored) < _CRC:
                return so_far()
            crc = _crc(bytes(payload[verified:]), crc)
            if crc != (check := int.from_bytes(stored, "little")):
                if self._salvage and verified and head.kind == STEP:
                    self.partial = Chunk(STEP, head.index, bytes(payload[:verified]), head.start, start, size, False, verified)
                raise DamagedError(
                    f"{self._where(head.start, head.kind)}: checksum differs in bytes {start} to {self.position - 1}, "
                    f"{end - verified} of the payload and their check: that is {check:08x}, but the bytes give {crc:08x}. {self._remedy()}"
                )
            self._checked, verified = self.position, end
            if end == size:
                self._last_tag, self._check = head.tag, crc
                return so_far(whole=True)

    def _place(self, tag: int, start: int) -> tuple[int, int]:
        """Kind and index of a tag, if it may stand here: metadata in ascending order, then steps without gaps."""
        total, last = self.header.chunks, self._last_tag
        if tag < _FIRST_STEP_TAG and tag not in KIND_NAMES:
            raise self._damaged(start, f"a chunk of unknown kind {tag}")
        if tag < _FIRST_STEP_TAG:
            if tag == last:
                raise self._damaged(start, f"a second {KIND_NAMES[tag]} chunk")
            if tag < last:
                raise self._damaged(start, f"a chunk of kind {KIND_NAMES[tag]} is out of order")
            if tag == ALPHA and not self.header.alpha:
                raise self._damaged(start, "an alpha plane that the header does not announce")
            return tag, 0
        index, expected = tag - _FIRST_STEP_TAG + 1, max(last - _FIRST_STEP_TAG + 1, 0) + 1
        if expected == 1 and self.header.alpha and last != ALPHA:
            raise self._damaged(start, "a step, but the alpha plane that the header announces is missing")
        if index != expected:
            raise self._damaged(start, f"step {index} of {total} is {'repeated' if index < expected else 'out of order'}")
        return STEP, index

    def _check_length(self, kind: int, length: int, start: int) -> None:
        header = self.header
        pixels = header.width * header.height
        limit = MAX_METADATA
        if kind == ALPHA:
            limit = pixels + pixels // 64 + 1024  # what a plane that does not compress costs, and room
        elif kind == STEP:
            limit = 8 * 3 * pixels + 64  # 8 bytes a coordinate: far above what any coder needs
        if length > limit:
            raise LimitError(f"{self._where(start, kind)}: a payload of {length} bytes; at most {limit} are possible here")

    @property
    def _done(self) -> int:
        """Whole steps so far."""
        return max(self._last_tag - _FIRST_STEP_TAG + 1, 0)

    def _where(self, start: int, kind: int | None = None) -> str:
        """A chunk, by its kind if that is known. After a whole step only a step can stand."""
        if kind == STEP or self._done:
            return f"step {self._done + 1} of {self.header.chunks} (byte {start})"
        if kind is not None:
            return f"{KIND_NAMES[kind]} (byte {start})"
        return f"chunk at byte {start}, before the end of step 1 of {self.header.chunks}"

    def _remedy(self) -> str:
        if self._done:
            return f"Earlier previews still decode with --step {self._done}, everything before the damage with --salvage"
        return "No step before it can be decoded; what there is before the damage decodes with --salvage"

    def _damaged(self, start: int, what: str) -> DamagedError:
        expected = f"step {self._done + 1}" if self._done else f"metadata or step 1 of {self.header.chunks}"
        return DamagedError(f"{self._where(start)}: {what}; expected {expected} there. {self._remedy()}")


def parse(data: bytes, *, steps: int | None = None, max_pixels: int | None = MAX_PIXELS, salvage: bool = False) -> Contents:
    """Header and chunks of a file, or of its beginning.

    `steps`, `max_pixels` and `salvage` as for `Reader`, and it raises what `Reader` raises.
    """
    reader = Reader(io.BytesIO(data), steps=steps, max_pixels=max_pixels, salvage=salvage)
    chunks = list(reader)
    return Contents(reader.header, reader.header_size, chunks, reader.tail, reader.partial, reader.damage)


def inspect(data: Source) -> Info:
    """What a file says of itself; allocates nothing by the size that the header claims. Raises what `Reader` raises.

    `data`: its bytes, its path, or a binary file object, which is read to its end.
    """
    data = sources.read(data)
    contents = parse(data, max_pixels=None)
    header, partial = contents.header, contents.partial
    found = [chunk for chunk in contents.chunks if chunk.kind == STEP]
    return Info(
        width=header.width,
        height=header.height,
        channels=header.channels,
        alpha=header.alpha,
        model=header.model,
        fingerprint=header.fingerprint.hex(),
        arithmetic=header.arithmetic,
        extra=header.extra.hex(),
        seed=header.seed,
        version=_version(VERSION),
        header_bytes=contents.header_size,
        metadata_bytes={KIND_NAMES[chunk.kind]: chunk.end - chunk.start for chunk in contents.chunks if chunk.kind != STEP},
        step_bytes=[chunk.end - chunk.start for chunk in found],
        bpp=[8 * chunk.end / (header.width * header.height) for chunk in found],
        chunks=header.chunks,
        steps_available=len(found),
        complete=len(found) == header.chunks,
        partial_bytes=len(partial.payload) if partial else 0,
        verified_bytes=partial.verified if partial else 0,
        tail_bytes=contents.tail,
        total_bytes=len(data),
    )


def truncate(data: Source, *, nbytes: int | None = None, bpp: float | None = None, step: int | None = None) -> bytes:
    """The first bytes of a file (`data` as for `inspect`), nothing re-encoded; exactly one of the three must be given.

    `nbytes`: exactly that many. `bpp`: ⌊bpp · width · height / 8⌋ of them. `step`: up to the end of that step (0: header and
    metadata only); nothing behind it is judged. A file that is already shorter than `nbytes` or `bpp` ask for is returned whole.
    Raises `LimitError` where the request ends inside the header or asks for a step that the file does not hold, `ValueError`
    unless exactly one is given, and what `Reader` raises.
    """
    if (nbytes is not None) + (bpp is not None) + (step is not None) != 1:
        raise ValueError("give exactly one of nbytes, bpp and step")
    for name, value in (("nbytes", nbytes), ("step", step)):
        if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
            raise TypeError(f"{name} is {value!r}; expected a whole number")
    data = sources.read(data)
    reader = Reader(io.BytesIO(data), max_pixels=None)
    header, end = reader.header, reader.header_size
    if step is not None:
        if not 0 <= step <= header.chunks:
            raise LimitError(f"step {step} was asked for; this file has steps 0 to {header.chunks}")
        contents = parse(data, steps=step, max_pixels=None)
        available = sum(chunk.kind == STEP for chunk in contents.chunks)
        if available < step:
            raise LimitError(f"step {step} was asked for; the file was cut and holds {available} of {header.chunks} whole steps")
        return data[: contents.chunks[-1].end if contents.chunks else end]
    if bpp is not None:
        if not 0 <= bpp < float("inf"):
            raise LimitError(f"{bpp} bits per pixel were asked for; expected a number of 0 or more")
        # A rate that was itself computed from a length must give that length back, so rounding errors of the product are forgiven.
        nbytes = int(min(bpp * header.width * header.height / 8 * (1 + 1e-12), len(data)))
    assert nbytes is not None
    if nbytes < end:
        raise LimitError(
            f"{nbytes} bytes were asked for, but the header alone takes {end} "
            f"({8 * end / (header.width * header.height):.3f} bits per pixel): ask for at least that"
        )
    return data[:nbytes]


# --- details ---------------------------------------------------------------------------------------------------------------------


def _parse_body(body: bytes, max_pixels: int | None) -> Header:
    """The fields of a header whose checksum is right; what is wrong here was written wrong."""
    flags = body[0] if body else 0
    if flags & ~_KNOWN_FLAGS:
        raise DamagedError(f"header: flags {flags:#04x} with unknown bits; this reader knows {_KNOWN_FLAGS:#04x}: update uqdm")
    arithmetic = flags >> _ARITHMETIC_SHIFT & 3
    if arithmetic >= len(ARITHMETIC):
        raise DamagedError(f"header: arithmetic {arithmetic} is unknown; this reader knows 0 to {len(ARITHMETIC) - 1}: update uqdm")
    at = 1
    width = _decode_varint(body, at)
    height = _decode_varint(body, width[1]) if width else None
    if width is None or height is None:
        raise DamagedError("header: width or height is malformed")
    at = height[1]
    if len(body) < at + 10 or len(body) < at + 10 + body[at + 9]:
        raise DamagedError(f"header: its body of {len(body)} bytes is too short for its fields")
    chunks, fingerprint, name = body[at], body[at + 1 : at + 9], body[at + 10 : at + 10 + body[at + 9]]
    at += 10 + len(name)
    seed = DEFAULT_SEED
    if flags & _SEED:
        decoded = _decode_varint(body, at)
        if decoded is None or decoded[0] == DEFAULT_SEED:
            raise DamagedError("header: the seed is malformed")
        seed, at = decoded
    if len(body) < at + 1 or len(body) < at + 1 + body[at]:
        raise DamagedError(f"header: its body of {len(body)} bytes is too short for its fields")
    extra = body[at + 1 : at + 1 + body[at]]
    at += 1 + len(extra)
    if at != len(body):
        raise DamagedError(f"header: {len(body) - at} bytes left over at the end of its body")
    w, h = width[0], height[0]
    if not (1 <= w <= MAX_SIDE and 1 <= h <= MAX_SIDE):
        raise LimitError(f"header: size {w} × {h}; each side is 1 to {MAX_SIDE} pixels")
    if max_pixels is not None and w * h > max_pixels:
        raise LimitError(
            f"header: size {w} × {h} is {w * h} pixels, the limit is {max_pixels}; if you trust the file and have the memory, "
            f"raise it with max_pixels={w * h} (--max-pixels)"
        )
    try:
        return Header(
            width=w,
            height=h,
            grey=bool(flags & _GREY),
            alpha=bool(flags & _ALPHA),
            arithmetic=ARITHMETIC[arithmetic],
            model=name.decode(),
            fingerprint=fingerprint,
            chunks=chunks,
            extra=extra,
            seed=seed,
        )
    except ValueError as error:  # of which UnicodeDecodeError is one
        raise DamagedError(f"header: {error}") from error


def _version(byte: int) -> str:
    """ "1.0" of the byte 0x10."""
    return f"{byte >> 4}.{byte & 15}"


def _crc(data: bytes, start: int) -> int:
    """CRC-32 of ISO 3309, the one of zlib and PNG: it is in every language's standard library, and notices what CRC-32C would."""
    return zlib.crc32(data, start)


def _varint(value: int) -> bytes:
    """LEB128: seven bits a byte, lowest first, the high bit set on all but the last."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _decode_varint(data: bytes, at: int) -> tuple[int, int] | None:
    """Value and the position after it, or None: cut, longer than 64 bits, or with needless zero bytes at its end."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            return None
        byte = data[at + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return None if (byte == 0 and i > 0) or value >= 1 << 64 else (value, at + i + 1)
    return None
