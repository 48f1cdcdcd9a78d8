"""What a BMP file holds: header, masks, palette."""

import struct

import numpy as np

from uqdm.files.facts import Facts

RAW, RLE8, RLE4, BITFIELDS, JPEG, PNG, ALPHA_BITFIELDS = range(7)
_SIZES = (12, 40, 52, 56, 64, 108, 124)
_EMBEDDED = int.from_bytes(b"MBED", "big")
_PLAIN_SPACES = {int.from_bytes(name, "big") for name in (b"sRGB", b"Win ")}


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `struct.error` if the file is broken."""
    start, size = struct.unpack_from("<II", data, 10)
    if size not in _SIZES:
        raise ValueError(f"a header of {size} bytes")
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        packing, x, y, colours = RAW, 0, 0, 0
    else:
        width, height, _, bits, packing, _, x, y, colours = struct.unpack_from("<iiHHIIiiI", data, 18)
    height = abs(height)  # negative if the first row is the uppermost
    if width < 1 or height < 1:
        raise ValueError(f"a size of {width} × {height}")
    resolution = ((x, 100), (y, 100), 3) if x > 0 and y > 0 else None
    icc, dropped = _profile(data, size)
    reasons: list[str] = []
    impossible, alpha, grey = None, False, False
    if packing in (JPEG, PNG) or packing > ALPHA_BITFIELDS or bits not in (1, 2, 4, 8, 16, 24, 32):
        impossible = f"a kind of pixels that is not decoded ({bits} bits, compression {packing})"
    elif bits <= 8:
        grey = packing == RAW and bits == 8 and _is_grey(data, 14 + size, colours or 256, 3 if size == 12 else 4)
        if not grey:
            reasons.append("a palette")
    elif bits == 16:
        reasons.append("5 or 6 bits a channel")
    elif bits == 32 and packing in (BITFIELDS, ALPHA_BITFIELDS):
        count = 4 if size >= 56 or packing == ALPHA_BITFIELDS else 3
        masks = struct.unpack_from(f"<{count}I", data, 54)
        if any(mask not in (0xFF, 0xFF00, 0xFF0000, 0xFF000000) for mask in masks[:3]) or len(set(masks)) < count:
            impossible = f"masks of bits that are not decoded ({', '.join(f'{mask:08x}' for mask in masks)})"
        alpha = count == 4 and masks[3] != 0
    elif bits == 32 and packing == RAW and _fourth_byte(data, start, width * height):
        reasons.append("a fourth byte in each pixel, whose meaning is not defined")
    return Facts(
        "BMP", width, height, min(bits, 8), grey, alpha, tuple(reasons), impossible, icc=icc, resolution=resolution,
        dropped=dropped,
        lost=("the fourth byte of each pixel",) if bits == 32 and reasons else (),
    )  # fmt: skip


def _is_grey(data: bytes, at: int, colours: int, width: int) -> bool:
    """Whether the palette maps every value to itself, so that it says nothing."""
    return colours == 256 and all(data[at + width * i : at + width * i + 3] == bytes([i] * 3) for i in range(256))


def _fourth_byte(data: bytes, start: int, pixels: int) -> bool:
    """Whether the bytes beside B, G and R mean something: they differ, or are neither 0 nor 255."""
    values = np.frombuffer(data, np.uint8, min(4 * pixels, len(data) - start), start)[3::4]
    return len(values) > 0 and not ((values == 0).all() or (values == 255).all())


def _profile(data: bytes, size: int) -> tuple[bytes | None, tuple[str, ...]]:
    """The ICC profile, and what else is said about colours."""
    if size < 108:
        return None, ()
    (space,) = struct.unpack_from("<I", data, 14 + 56)
    if space == _EMBEDDED and size == 124:
        offset, length = struct.unpack_from("<II", data, 14 + 112)
        profile = data[14 + offset : 14 + offset + length]
        if len(profile) != length:
            raise ValueError("the ICC profile is cut")
        return profile, ()
    return None, () if space in _PLAIN_SPACES else ("the colour space in the header",)
