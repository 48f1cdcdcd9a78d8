"""The header of a file: what a decoder must know before the first chunk. `docs/format.md`,
"Header", names every field.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from uqdm.errors import DamagedError, LimitError, NotUqdmError, TruncatedError, VersionError
from uqdm.format import fields
from uqdm.format.fields import decode_varint, varint
from uqdm.format.limits import MAX_CHUNKS, MAX_COMPACT, MAX_EXTRA, MAX_NAME, MAX_SIDE

# In the manner of PNG: a byte above 127 (7-bit transports), CR LF and LF (text-mode transfers), and
# ^Z (typing the file in DOS).
MAGIC = b"\x89UQD\r\n\x1a\n"
FIRST = 0x10  # major in the high four bits, minor in the low four: 1.0, the oldest version that is read
VERSION = 0x11  # the newest one
DEFAULT_SEED = 0
ARITHMETIC = ("exact", "float64", "float32")  # of the network; the place in this tuple is the number in the flags
CHECK = 4  # bytes of a check, the header's and a piece's
FINGERPRINT, SHORT = 8, 4  # bytes of the model's fingerprint in a file, and in a compact one

_GREY, _ALPHA, _SEED, _COMPACT = 1, 2, 4, 32
_ARITHMETIC_SHIFT = 3  # bits 3 and 4 are the place in ARITHMETIC
_KNOWN_FLAGS = _GREY | _ALPHA | _SEED | 3 << _ARITHMETIC_SHIFT
_PREFIX = len(MAGIC) + 2  # magic, version, length of the body


@dataclass(frozen=True)
class Header:
    """What a decoder must know before the first chunk.

    `width`, `height` in pixels, 1 to 2**24. `grey`: one channel instead of three. `alpha`: the file
    carries an alpha plane. `arithmetic`: of the network, "exact" (integers: any machine gives the
    same bits), "float64" or "float32". `model`: its name, at most 64 bytes of UTF-8 without slashes
    or control characters, not beginning with a dot. `fingerprint`: 8 bytes. `chunks`: step chunks
    of a whole file, 1 to 240. `extra`: what only the model's family understands, at most 64 bytes.
    `seed`: of the dither, below 2**64. `minor`: of the format's version 1, the first that has what
    the file's model needs. `compact`: see `compacted`; such a header has no name and 4 bytes of the
    fingerprint. Raises `ValueError` for anything else: a header that cannot be written is a mistake
    in the program.
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
    minor: int = 0
    compact: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.minor <= VERSION - FIRST:
            raise ValueError(f"minor is {self.minor}; expected 0 to {VERSION - FIRST}")
        for name, value in (("width", self.width), ("height", self.height)):
            if not 1 <= value <= MAX_SIDE:
                raise ValueError(f"{name} is {value}; expected 1 to {MAX_SIDE}")
        if self.arithmetic not in ARITHMETIC:
            raise ValueError(f"arithmetic is {self.arithmetic!r}; expected one of {', '.join(ARITHMETIC)}")
        size = SHORT if self.compact else FINGERPRINT
        if len(self.fingerprint) != size:
            raise ValueError(f"fingerprint has {len(self.fingerprint)} bytes; expected {size}")
        if not 1 <= self.chunks <= MAX_CHUNKS:
            raise ValueError(f"chunks is {self.chunks}; expected 1 to {MAX_CHUNKS}")
        if len(self.extra) > MAX_EXTRA:
            raise ValueError(f"extra has {len(self.extra)} bytes; expected at most {MAX_EXTRA}")
        if not 0 <= self.seed < 1 << 64:
            raise ValueError(f"seed is {self.seed}; expected 0 to 2**64 - 1")
        if self.compact:
            if not self.minor or self.arithmetic != "exact" or self.alpha or self.model:
                raise ValueError("a compact file is of version 1.1 and exact, and has neither alpha nor a model's name")
            if self.width * self.height > MAX_COMPACT:
                raise ValueError(f"a compact file of {self.width} × {self.height}; it has at most {MAX_COMPACT} pixels")
            return
        # A name from a file may end in a path or on a terminal: no separators, no "..", nothing
        # unprintable.
        if (
            not self.model
            or not self.model.isprintable()
            or "/" in self.model
            or "\\" in self.model
            or self.model[0] == "."
        ):
            raise ValueError(
                f"model name {self.model!r} is empty, begins with a dot, or holds slashes or control characters"
            )
        if len(self.model.encode()) > MAX_NAME:
            raise ValueError(
                f"model name {self.model!r} has {len(self.model.encode())} bytes; expected at most {MAX_NAME}"
            )

    @property
    def version(self) -> str:
        """ "1.0" of minor 0."""
        return version_text(FIRST + self.minor)

    def compacted(self) -> "Header":
        """The header of a small file of steps only: without a name, with half of the fingerprint. Its
        steps have a compact form too (`chunks.write_compact_step`).
        """
        return replace(self, model="", fingerprint=self.fingerprint[:SHORT], compact=True)

    def symbol_check(self, step: int) -> int:
        """Bytes of the check of its symbols with which the payload of a step (from 1) begins: 4. In a
        compact file 1, and 2 in the last step.
        """
        return (2 if step == self.chunks else 1) if self.compact else CHECK

    @property
    def channels(self) -> int:
        """1 or 3; alpha is not counted."""
        return 1 if self.grey else 3


def write_header(header: Header) -> bytes:
    """The bytes of the header: 33 for a 64 × 64 file of the model "nano" with the default seed and
    one byte of `extra`. A compact one takes 23.
    """
    flags = (
        (_GREY if header.grey else 0)
        | (_ALPHA if header.alpha else 0)
        | (_SEED if header.seed != DEFAULT_SEED else 0)
        | (_COMPACT if header.compact else 0)
        | ARITHMETIC.index(header.arithmetic) << _ARITHMETIC_SHIFT
    )
    name = header.model.encode()
    body = bytes([flags]) + varint(header.width) + varint(header.height) + bytes([header.chunks])
    body += header.fingerprint
    if not header.compact:
        body += bytes([len(name)]) + name
    if header.seed != DEFAULT_SEED:
        body += varint(header.seed)
    body += header.extra if header.compact else bytes([len(header.extra)]) + header.extra
    data = MAGIC + bytes([FIRST + header.minor, len(body)]) + body
    return data + fields.crc32(data, 0).to_bytes(CHECK, "little")


def read_header(read: Callable[[int], bytes], max_pixels: int | None) -> tuple[Header, int]:
    """The header and its check, from the beginning of a stream; `read(n)` gives n bytes, or fewer
    where the stream ends.

    `max_pixels`: see `ChunkReader`, which names the errors too.
    """
    data = read(len(MAGIC))
    if not data:
        raise NotUqdmError("the file is empty; expected a .uqdm file")
    if not MAGIC.startswith(data):
        if data[:4] == MAGIC[:4] or data[1:4] == MAGIC[1:4]:
            raise NotUqdmError(
                f"bytes 0 to 7 are {data.hex(' ')}; expected {MAGIC.hex(' ')}: "
                "a .uqdm file whose line ends were changed; transfer it again, in binary mode"
            )
        raise NotUqdmError(f"not a .uqdm file: it begins with {data.hex(' ')}; expected {MAGIC.hex(' ')}")
    data += read(1)
    if len(data) == len(MAGIC) + 1 and not FIRST <= data[-1] <= VERSION:
        what = "update uqdm" if data[-1] > VERSION else "a draft of 1.0, which only the uqdm of its time decodes"
        raise VersionError(
            f"written in format version {version_text(data[-1])}; "
            f"this reader knows versions {version_text(FIRST)} to {version_text(VERSION)}: {what}"
        )
    data += read(1)
    size = data[-1] + CHECK if len(data) == _PREFIX else 0
    rest = read(size)
    if len(data) < _PREFIX or len(rest) < size:
        expected = f"{_PREFIX + size}" if len(data) == _PREFIX else f"more than {_PREFIX}"
        raise TruncatedError(f"cut inside the header, at byte {len(data + rest)} of {expected}: nothing can be decoded")
    body, stored = rest[:-CHECK], int.from_bytes(rest[-CHECK:], "little")
    found = fields.crc32(data + body, 0)
    if found != stored:
        raise DamagedError(
            f"header (bytes 0 to {len(data + rest)}): checksum {stored:08x}, but its bytes give {found:08x}; nothing"
            " can be decoded"
        )
    return _parse_body(body, max_pixels, data[len(MAGIC)] - FIRST), stored


class _Body:
    """Takes the fields of a header from its body. Raises `DamagedError` where there is too little."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        """Bytes that are not taken yet."""
        return len(self._data) - self._at

    def bytes(self, count: int) -> bytes:
        if count > self.left:
            raise DamagedError(f"header: its body of {len(self._data)} bytes is too short for its fields")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.bytes(1)[0]

    def varint(self, what: str) -> int:
        found = decode_varint(self._data, self._at)
        if found is None:
            raise DamagedError(f"header: {what} is malformed")
        value, self._at = found
        return value


def _parse_body(data: bytes, max_pixels: int | None, minor: int) -> Header:
    """The fields of a header whose checksum is right; what is wrong here was written wrong."""
    body = _Body(data)
    flags, known = body.byte() if data else 0, _KNOWN_FLAGS | (_COMPACT if minor else 0)
    if flags & ~known:
        raise DamagedError(f"header: flags {flags:#04x} with unknown bits; this reader knows {known:#04x}: update uqdm")
    arithmetic = flags >> _ARITHMETIC_SHIFT & 3
    if arithmetic >= len(ARITHMETIC):
        raise DamagedError(
            f"header: arithmetic {arithmetic} is unknown; this reader knows 0 to {len(ARITHMETIC) - 1}: update uqdm"
        )
    compact = bool(flags & _COMPACT)
    w, h = body.varint("width or height"), body.varint("width or height")
    chunks, fingerprint = body.byte(), body.bytes(SHORT if compact else FINGERPRINT)
    name = b"" if compact else body.bytes(body.byte())
    seed = DEFAULT_SEED
    if flags & _SEED:
        seed = body.varint("the seed")
        if seed == DEFAULT_SEED:
            raise DamagedError("header: the seed is malformed")
    extra = body.bytes(body.left if compact else body.byte())
    if body.left:
        raise DamagedError(f"header: {body.left} bytes left over at the end of its body")
    if not (1 <= w <= MAX_SIDE and 1 <= h <= MAX_SIDE):
        raise LimitError(f"header: size {w} × {h}; each side is 1 to {MAX_SIDE} pixels")
    if max_pixels is not None and w * h > max_pixels:
        raise LimitError(
            f"header: size {w} × {h} is {w * h} pixels, the limit is {max_pixels}; if you trust the file and have the"
            f" memory, raise it with max_pixels={w * h} (--max-pixels)"
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
            minor=minor,
            compact=compact,
        )
    except ValueError as error:  # of which UnicodeDecodeError is one
        raise DamagedError(f"header: {error}") from error


def version_text(byte: int) -> str:
    """ "1.0" of the byte 0x10."""
    return f"{byte >> 4}.{byte & 15}"
