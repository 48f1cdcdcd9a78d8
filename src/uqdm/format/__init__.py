"""The bytes of a .uqdm file, as `docs/format.md` describes them. Needs the standard library only,
but for `format.alpha`.

limits, fields    numbers: what is too large, varints, checks
header            what a decoder must know first
chunks            a header and chunks to bytes, and back, as they arrive
index             what beginnings of a file show, as it tells itself
cuts              where a file may be cut
inspect           what a file says of itself
alpha             an alpha plane to bytes, and back (NumPy; not imported here)
"""

from uqdm.format.chunks import (
    ALPHA,
    CORRECTION,
    ERRORS,
    EXIF,
    ICC,
    INDEX,
    KIND_NAMES,
    STEP,
    XMP,
    Chunk,
    ChunkReader,
    Contents,
    parse,
    write_chunk,
    write_compact_step,
)
from uqdm.format.cuts import bytes_at, ends
from uqdm.format.fields import crc32, varint
from uqdm.format.header import ARITHMETIC, DEFAULT_SEED, MAGIC, VERSION, Header, write_header
from uqdm.format.index import Place, reaching, read_index, write_index
from uqdm.format.info import Info, inspect
from uqdm.format.limits import (
    MAX_CHUNKS,
    MAX_COMPACT,
    MAX_EXTRA,
    MAX_INDEX,
    MAX_METADATA,
    MAX_NAME,
    MAX_PIXELS,
    MAX_SIDE,
    PIECE,
)

__all__ = [
    "ALPHA",
    "ARITHMETIC",
    "CORRECTION",
    "DEFAULT_SEED",
    "ERRORS",
    "EXIF",
    "ICC",
    "INDEX",
    "KIND_NAMES",
    "MAGIC",
    "MAX_CHUNKS",
    "MAX_COMPACT",
    "MAX_EXTRA",
    "MAX_INDEX",
    "MAX_METADATA",
    "MAX_NAME",
    "MAX_PIXELS",
    "MAX_SIDE",
    "PIECE",
    "STEP",
    "VERSION",
    "XMP",
    "Chunk",
    "ChunkReader",
    "Contents",
    "Header",
    "Info",
    "Place",
    "bytes_at",
    "crc32",
    "ends",
    "inspect",
    "parse",
    "reaching",
    "read_index",
    "varint",
    "write_chunk",
    "write_compact_step",
    "write_header",
    "write_index",
]
