"""Chunks: a header and chunks in, the bytes of a file out, and back. Knows nothing of pictures,
models or entropy coding.

`docs/format.md` is the document that this file follows, field by field. It promises four things:

1. A file is a header and then chunks. Cut anywhere past the header it still parses. It gives the
   chunks that are whole, and of the step that is cut what is there.
2. Every byte is under a check, one for every 4 KiB of a chunk (one a step in a compact file). Each
   check starts from the one before it, the first from the header's. So a piece that is damaged,
   repeated, left out, or that belongs to another file does not fit where it stands.
3. Sizes are checked against limits before anything is allocated. Memory grows only with bytes that
   have really arrived.
4. On request (`salvage`) damage is no error but an end: what passed its checks before it is given.

The exception to 2: the last bytes of a cut file are under no check yet. They are counted as `tail`,
and a chunk's `verified` says where in its payload they begin.
"""

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from uqdm.errors import DamagedError, LimitError
from uqdm.format import fields
from uqdm.format.fields import MAX_VARINT, decode_varint, varint
from uqdm.format.header import CHECK, Header, read_header
from uqdm.format.limits import MAX_CHUNKS, MAX_INDEX, MAX_METADATA, MAX_PIXELS, PIECE, largest_alpha, largest_step

INDEX, ICC, EXIF, XMP, ALPHA, ERRORS, CORRECTION, STEP = 0, 1, 2, 3, 4, 5, 15, 16
KIND_NAMES = {
    INDEX: "index",
    ICC: "ICC profile", EXIF: "EXIF", XMP: "XMP", ALPHA: "alpha plane", ERRORS: "errors", CORRECTION: "correction",
    STEP: "step",
}  # fmt: skip

_FIRST_STEP_TAG = STEP  # tag of step index i is 15 + i
_HEAD_CHECK = 2  # bytes
_COMPACT_CHECK = 2  # bytes of a step's check in a compact file


@dataclass(frozen=True)
class Chunk:
    """One chunk, or the beginning of a step: `kind` is INDEX, ICC, EXIF, XMP, ALPHA, ERRORS,
    CORRECTION or STEP; `index` counts steps from 1 and is 0 for the others. `payload`: its bytes, checks taken
    out. `start`, `end`: its place in the file, in bytes, head and checks included. `size`: bytes of
    the payload when whole. `verified`: the first so many bytes of `payload` are under a check that
    passed.

    Where not `whole` (steps only), `payload` and `end` are what is there so far:
    `payload[verified:]` may be damaged.
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
    """A parsed file. `header_size`: in bytes. `chunks`: the whole ones. The rest is as a
    `ChunkReader` has it at its end.
    """

    header: Header
    header_size: int
    chunks: list[Chunk]
    tail: int
    partial: Chunk | None = None
    damage: DamagedError | LimitError | None = None

    @property
    def steps(self) -> list[Chunk]:
        """The whole steps."""
        return [chunk for chunk in self.chunks if chunk.kind == STEP]

    def payload(self, kind: int) -> bytes | None:
        """Of the chunk of a kind that is there at most once."""
        return next((chunk.payload for chunk in self.chunks if chunk.kind == kind), None)


def write_chunk(kind: int, index: int, payload: bytes, before: bytes | bytearray) -> bytes:
    """The bytes of one chunk, to be put right after `before`.

    `kind`: STEP (`index` from 1) or another one (`index` 0). `before`: the file so far,
    or its end: its last four bytes, which are the check of the header or of the chunk before, are
    where this chunk's checks start. A step costs 8 or 9 bytes besides a payload of up to 4 KiB, and
    4 more for every 4 KiB (or part of it) further. Raises `LimitError` for metadata above 16 MiB,
    `ValueError` for a kind or index that cannot be.
    """
    if kind == STEP:
        if not 1 <= index <= MAX_CHUNKS:
            raise ValueError(f"step index is {index}; expected 1 to {MAX_CHUNKS}")
    elif kind not in KIND_NAMES or index != 0:
        raise ValueError(
            f"kind {kind} with index {index}; expected one of {sorted(KIND_NAMES)}, and index 0 for all but steps"
        )
    if kind in (ICC, EXIF, XMP) and len(payload) > MAX_METADATA:
        raise LimitError(
            f"the {KIND_NAMES[kind]} has {len(payload)} bytes; the format carries at most {MAX_METADATA}: remove it"
        )
    if len(before) < CHECK:
        raise ValueError(f"a chunk needs what stands before it, at least {CHECK} bytes; found {len(before)}")
    start = int.from_bytes(before[-CHECK:], "little")
    head = bytes([_FIRST_STEP_TAG + index - 1 if kind == STEP else kind]) + varint(len(payload))
    crc = fields.crc32(head, start)
    out = bytearray(head + (crc & 0xFFFF).to_bytes(_HEAD_CHECK, "little"))
    for at in range(0, max(len(payload), 1), PIECE):  # an empty payload is one empty piece
        piece = payload[at : at + PIECE]
        crc = fields.crc32(piece, crc)
        out += piece
        out += crc.to_bytes(CHECK, "little")
    return bytes(out)


def write_compact_step(payload: bytes, before: bytes | bytearray) -> bytes:
    """The bytes of the next step of a compact file: its length, its payload, and one check of both.

    `before`: the file so far. Its last four bytes are where the check starts, whatever they are.
    A payload of less than 128 bytes costs 3 bytes besides, one of less than 16 KiB costs 4.
    """
    out = varint(len(payload)) + payload
    found = fields.crc32(out, int.from_bytes(before[-CHECK:], "little"))
    return out + (found & 0xFFFF).to_bytes(_COMPACT_CHECK, "little")


@dataclass(frozen=True)
class _Head:
    """What stands before a payload: `tag`, what it means, and the CRC up to here. Its own check has
    passed, if it has one.
    """

    tag: int
    kind: int
    index: int
    size: int
    start: int
    crc: int


class ChunkReader:
    """Reads a file as its bytes arrive: the header at once, then whole chunks by iteration (or
    `growing`), once.

    `stream`: a binary file object whose `read(n)` may return less than n, and nothing at the end.
    `max_pixels`: width × height above it is refused (None: no limit, for callers that allocate
    nothing by it). `steps`: stop after that many (0: before the first) and judge nothing behind
    them. `salvage`: damage behind the header ends the iteration as if the file ended there. Never
    asks for a byte that it does not need, so a chunk is given as soon as its last byte is there.
    After the iteration:

    - `partial`: the step in which the file ended, if its head is there: every byte of its payload
      that is. With `salvage` also the step in which the damage is, if pieces of it passed their
      checks before: these only.
    - `tail`: bytes at the end of the file behind the last check that passed; 0 for a whole file,
      for one cut right after a check, and where `steps` or damage ended the iteration (after damage
      nothing is given that is under no check).
    - `damage`: with `salvage`, the error that would have been raised.

    Raises `NotUqdmError`, `VersionError`, `TruncatedError`, `DamagedError`, `LimitError` for the
    header, and `DamagedError` or `LimitError` from the iteration, after the chunks before the
    damage have been given.
    """

    def __init__(
        self, stream: BinaryIO, *, steps: int | None = None, max_pixels: int | None = MAX_PIXELS, salvage: bool = False
    ) -> None:
        if steps is not None and steps < 0:
            raise ValueError(f"steps is {steps}; expected 0 or more")
        self._stream = stream
        self._steps = steps
        self._salvage = salvage
        self.position = 0  # bytes read so far
        self.partial: Chunk | None = None
        self.tail = 0
        self.damage: DamagedError | LimitError | None = None
        self.header, self._check = read_header(self._read, max_pixels)
        self.header_size = self.position
        self._checked = self.position  # up to here every byte is under a check that passed
        self._last_tag = -1
        self._alpha = False  # whether its chunk has been read

    @property
    def unverified(self) -> int:
        """How many of the bytes read so far stand behind the last check that passed."""
        return self.position - self._checked

    def __iter__(self) -> Iterator[Chunk]:
        return self._chunks(lambda size: ())

    def growing(self, parts: int | Callable[[int], Sequence[int]]) -> Iterator[Chunk]:
        """Whole chunks as by iteration, and before each step what is there of it (`whole=False`)
        each time its payload has grown enough.

        `parts`: for a payload of so many bytes the byte counts, ascending, at which it is given
        (counts not between 0 and the size are left out); or a number n for the n − 1 inner points
        of n equal parts. A file cut inside a step: the rest is in `partial`.
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
        wanted, done = total if self._steps is None else min(self._steps, total), 0
        while self._last_tag < _FIRST_STEP_TAG + wanted - 1:
            head = self._read_compact_head() if self.header.compact else self._read_head()
            if head is None:
                return
            chunk = yield from self._read_payload(head, points)
            if not chunk.whole:
                self.tail = self.unverified
                self.partial = chunk if chunk.kind == STEP else None
                return
            yield chunk
            if chunk.kind == CORRECTION:
                break
            done = self._done
        if self._steps is not None:
            return
        start = self.position
        if self._read(1):
            last = (
                f"after step {done} of {total}, the last"
                if self._last_tag != CORRECTION
                else f"after the correction of step {done}"
            )
            raise DamagedError(
                f"{last}: the file should end at byte {start}, but goes on: "
                f"bytes were added there, what is before them still decodes with --step {done} or --salvage"
            )

    def _read(self, count: int) -> bytes:
        """`count` bytes (of which no caller asks more than PIECE), or fewer where the stream
        ends.
        """
        found = b""
        while len(found) < count:
            some = self._stream.read(count - len(found))
            if not some:
                break
            found = found + some if found else some
            self.position += len(some)
        return found

    def _read_head(self) -> _Head | None:
        """The head of the next chunk, judged. None: the file ends before the head does, or the
        steps begin and none is wanted.
        """
        start = self.position
        head = self._read(1)
        if self._steps == 0 and head == bytes([_FIRST_STEP_TAG]):
            return None
        while head and len(head) <= MAX_VARINT:  # tag, then a varint that ends with a byte below 128
            byte = self._read(1)
            head += byte
            if not byte or byte[0] < 128:
                break
        length = decode_varint(head, 1)
        if length is None and not (len(head) <= MAX_VARINT and (len(head) < 2 or head[-1] >= 128)):
            raise self._damaged(start, f"the length {head[1:].hex(' ')} is malformed")
        stored = self._read(_HEAD_CHECK) if length is not None else b""
        if length is None or len(stored) < _HEAD_CHECK:
            self.tail = self.unverified
            return None
        crc = fields.crc32(head, self._check)
        if crc & 0xFFFF != (check := int.from_bytes(stored, "little")):
            what = f"the check of the chunk's head is {check:04x}, but its bytes give {crc & 0xFFFF:04x}"
            raise self._damaged(start, f"{what}: flipped, repeated, missing or foreign bytes")
        kind, index = self._place(head[0], start)
        self._check_length(kind, length[0], start)
        self._checked = self.position
        return _Head(head[0], kind, index, length[0], start, crc)

    def _read_compact_head(self) -> _Head | None:
        """As `_read_head`, in a compact file: the next step's length, which has no check of its
        own.
        """
        start = self.position
        head = b"" if self._steps == 0 else self._read(1)
        while head and head[-1] >= 128 and len(head) < MAX_VARINT and (byte := self._read(1)):
            head += byte
        length = decode_varint(head, 0)
        if length is None:
            if len(head) == MAX_VARINT or (head and head[-1] < 128):
                raise self._damaged(start, f"the length {head.hex(' ')} is malformed")
            self.tail = self.unverified
            return None
        self._check_length(STEP, length[0], start)
        index, crc = self._done + 1, fields.crc32(head, self._check)
        return _Head(_FIRST_STEP_TAG + index - 1, STEP, index, length[0], start, crc)

    def _read_payload(self, head: _Head, points: Callable[[int], Sequence[int]]) -> Generator[Chunk, None, Chunk]:
        """The chunk of a head: of a step first what is there at each of the points; then the whole,
        or all there is before the end.
        """
        size, crc = head.size, head.crc
        payload, verified = bytearray(), 0
        piece, check_size = (max(size, 1), _COMPACT_CHECK) if self.header.compact else (PIECE, CHECK)
        before = self._check.to_bytes(CHECK, "little")

        def so_far(whole: bool = False) -> Chunk:
            return Chunk(head.kind, head.index, bytes(payload), head.start, self.position, size, whole, verified)

        stops = sorted({point for point in points(size) if 0 < point < size}, reverse=True) if head.kind == STEP else []
        while True:
            start, end = self.position, min(verified + piece, size)  # of this piece: in the file, in the payload
            while len(payload) < end:
                stop = stops[-1] if stops and stops[-1] <= end else end
                wanted = min(stop, len(payload) + PIECE)
                payload += self._read(wanted - len(payload))
                if len(payload) < wanted:
                    return so_far()
                if stops and stops[-1] == wanted:
                    stops.pop()
                    yield so_far()
            stored = self._read(check_size)
            if len(stored) < check_size:
                return so_far()
            crc = fields.crc32(bytes(payload[verified:]), crc)
            found = crc & (1 << 8 * check_size) - 1
            if found != (check := int.from_bytes(stored, "little")):
                if self._salvage and verified and head.kind == STEP:
                    self.partial = Chunk(
                        STEP, head.index, bytes(payload[:verified]), head.start, start, size, False, verified
                    )
                raise DamagedError(
                    f"{self._where(head.start, head.kind)}: checksum differs in bytes {start} to {self.position - 1},"
                    f" {end - verified} of the payload and their check: that is {check:0{2 * check_size}x}, but the"
                    f" bytes give {found:0{2 * check_size}x}. {self._remedy()}"
                )
            self._checked, verified = self.position, end
            if end == size:
                self._last_tag, self._check = head.tag, crc
                self._alpha = self._alpha or head.kind == ALPHA
                if self.header.compact:  # the next check starts from the last four bytes, whatever they are
                    last = before + varint(size) + payload[-CHECK:] + stored
                    self._check = int.from_bytes(last[-CHECK:], "little")
                return so_far(whole=True)

    def _place(self, tag: int, start: int) -> tuple[int, int]:
        """Kind and index of a tag, if it may stand here: metadata in ascending order, then steps
        without gaps.
        """
        total, last = self.header.chunks, self._last_tag
        if tag in (INDEX, ERRORS, CORRECTION) and not self.header.minor:
            raise self._damaged(
                start, f"a chunk of kind {tag}, which files of format version {self.header.version} do not have"
            )
        if tag == CORRECTION:
            if not self._done:
                raise self._damaged(start, "a correction, but no step before it")
            return tag, 0
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
        if expected == 1 and self.header.alpha and not self._alpha:
            raise self._damaged(start, "a step, but the alpha plane that the header announces is missing")
        if index != expected:
            raise self._damaged(
                start, f"step {index} of {total} is {'repeated' if index < expected else 'out of order'}"
            )
        return STEP, index

    def _check_length(self, kind: int, length: int, start: int) -> None:
        pixels = self.header.width * self.header.height
        step = largest_step(pixels)
        own = {INDEX: MAX_INDEX, ALPHA: largest_alpha(pixels), ERRORS: MAX_CHUNKS, CORRECTION: step, STEP: step}
        limit = own.get(kind, MAX_METADATA)
        if kind == ERRORS and length != self.header.chunks - 1:
            raise self._damaged(
                start, f"{length} errors; a file of {self.header.chunks} steps has one less than it has steps"
            )
        if length > limit:
            raise LimitError(
                f"{self._where(start, kind)}: a payload of {length} bytes; at most {limit} are possible here"
            )

    @property
    def _done(self) -> int:
        """Whole steps so far."""
        return max(self._last_tag - _FIRST_STEP_TAG + 1, 0)

    def _where(self, start: int, kind: int | None = None) -> str:
        """A chunk, by its kind if that is known. After a whole step only a step can stand."""
        if kind == CORRECTION:
            return f"correction after step {self._done} of {self.header.chunks} (byte {start})"
        if kind == STEP or self._done:
            return f"step {self._done + 1} of {self.header.chunks} (byte {start})"
        if kind is not None:
            return f"{KIND_NAMES[kind]} (byte {start})"
        return f"chunk at byte {start}, before the end of step 1 of {self.header.chunks}"

    def _remedy(self) -> str:
        if self._done:
            return (
                f"Earlier previews still decode with --step {self._done}, everything before the damage with --salvage"
            )
        return "No step before it can be decoded; what there is before the damage decodes with --salvage"

    def _damaged(self, start: int, what: str) -> DamagedError:
        expected = f"step {self._done + 1}" if self._done else f"metadata or step 1 of {self.header.chunks}"
        return DamagedError(f"{self._where(start)}: {what}; expected {expected} there. {self._remedy()}")


def parse(
    data: bytes, *, steps: int | None = None, max_pixels: int | None = MAX_PIXELS, salvage: bool = False
) -> Contents:
    """Header and chunks of a file, or of its beginning.

    `steps`, `max_pixels` and `salvage` as for `ChunkReader`, and it raises what `ChunkReader`
    raises.
    """
    reader = ChunkReader(io.BytesIO(data), steps=steps, max_pixels=max_pixels, salvage=salvage)
    chunks = list(reader)
    return Contents(reader.header, reader.header_size, chunks, reader.tail, reader.partial, reader.damage)
