"""What a WebP file holds: the chunks of its RIFF container."""

import struct
from collections.abc import Iterator

from uqdm.files.facts import Facts, after, frames


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and contents of each chunk. Raises `ValueError`, `struct.error` if one is cut."""
    end, at = min(len(data), 8 + int(struct.unpack_from("<I", data, 4)[0])), 12
    while at < end:
        name, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        if at + 8 + size > len(data):
            raise ValueError(f"the chunk {name.decode('latin-1')} is cut")
        yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `struct.error`, `IndexError` if the file is broken."""
    size: tuple[int, int] | None = None
    alpha, count = False, 0
    carried: dict[bytes, bytes] = {}
    dropped: list[str] = []
    extended = False
    for name, body in chunks(data):
        if name == b"VP8X":
            extended, alpha = True, bool(body[0] & 0x10)
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif name == b"VP8L":
            if body[0] != 0x2F:
                raise ValueError("a lossless picture is announced, but there is none")
            (packed,) = struct.unpack_from("<I", body, 1)
            size = size or (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
            alpha = bool(packed >> 28 & 1) if not extended else alpha
        elif name == b"VP8 ":
            width, height = struct.unpack_from("<HH", body, 6)
            size = size or (width & 0x3FFF, height & 0x3FFF)
        elif name == b"ANMF":
            count += 1
        elif name in (b"ICCP", b"EXIF", b"XMP "):
            carried.setdefault(name, body)
        elif name not in (b"ALPH", b"ANIM"):
            dropped.append(f"the chunk {name.decode('latin-1').strip()}")
    if size is None:
        raise ValueError("no picture in it")
    reasons, lost = frames(count)
    exif = carried.get(b"EXIF", b"").removeprefix(b"Exif\0\0") or None
    return Facts(
        "WebP", *size, alpha=alpha, reasons=reasons, icc=carried.get(b"ICCP"), exif=exif, xmp=carried.get(b"XMP "),
        dropped=(*dropped, *after(data, 8 + int(struct.unpack_from("<I", data, 4)[0]))), lost=lost,
    )  # fmt: skip
