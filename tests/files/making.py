"""Picture files made by hand or by other writers than Pillow, for tests."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import tifffile
from PIL import Image


def noise(*shape: int, top: int = 255, kind: Any = np.uint8) -> Any:
    """Random values 0 .. top."""
    return np.random.default_rng(sum(shape)).integers(0, top, shape, endpoint=True).astype(kind)


def saved(array: Any, format: str, **options: Any) -> bytes:
    """By Pillow. `array`: or a Pillow image."""
    out = io.BytesIO()
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(out, format, **options)
    return out.getvalue()


def tiff(array: Any, **options: Any) -> bytes:
    """By tifffile, which interprets `photometric`, `extrasamples`, `planarconfig`, `extratags` as
    the standard does.
    """
    out = io.BytesIO()
    tifffile.imwrite(out, array, **{"metadata": None, "software": False} | options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)  # y, x, steps of a pass


def png(colour: int, bits: int, values: Any, *chunks: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    """A PNG of values in file units, uint (H, W, C), with chunks between header and pixels."""
    height, width, _ = values.shape
    passes = [values[y::down, x::right] for y, x, down, right in ADAM7] if interlaced else [values]
    body = b"".join(b"\0" + row for one in passes if one.size for row in _rows(one, bits))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    parts = [
        chunk(b"IHDR", header),
        *(chunk(*one) for one in chunks),
        chunk(b"IDAT", zlib.compress(body)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _rows(values: Any, bits: int) -> list[bytes]:
    """Rows of packed samples."""
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in values]
    spread = (values.reshape(len(values), -1, 1).astype(np.uint8) >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1
    return [row.tobytes() for row in np.packbits(spread.reshape(len(values), -1), axis=1)]


def bmp(bits: int, rows: bytes, size: tuple[int, int], packing: int = 0, more: bytes = b"", header: int = 40) -> bytes:
    """A BMP of pixel rows from the lowest up. `more`: masks or palette, after the first 40 bytes of
    the header. `size`: (H, W).
    """
    start = 14 + 40 + len(more)
    info = struct.pack("<IiiHHIIiiII", header, size[1], size[0], 1, bits, packing, len(rows), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + more + rows


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def jp2(stream: bytes, bands: int, space: int, *boxes: bytes, bits: int = 8, size: tuple[int, int]) -> bytes:
    """A JPEG 2000 file around a codestream. `boxes`: of its header, beside size and colour
    space.
    """
    header = box(b"ihdr", struct.pack(">IIHBBBB", *size, bands, bits - 1, 7, 0, 0)) + box(
        b"colr", struct.pack(">BBBI", 1, 0, 0, space)
    )
    kind = box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return b"\0\0\0\x0cjP  \r\n\x87\n" + kind + box(b"jp2h", header + b"".join(boxes)) + box(b"jp2c", stream)


def jpeg_with(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments after its first marker."""
    return (
        data[:2]
        + b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
        + data[2:]
    )
