"""What a PNG file holds. The decoder gets only the chunks of its pixels. All others are read
here.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from uqdm.files.facts import Facts, after, depth, frames

MAGIC = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_SAMPLES = {GREY: 1, RGB: 3, PALETTE: 3, GREY_ALPHA: 2, RGB_ALPHA: 4}
_MOST = 1 << 24  # bytes of metadata: what a .uqdm file can carry of each kind
_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_HEAD = re.compile(rb"\s*\w*\s*(\d+)\s")  # of a raw profile: its kind and its length, then hexadecimal digits


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and contents of each chunk up to IEND. Raises `ValueError` if one is cut or its check
    fails.
    """
    at, name = len(MAGIC), b""
    while name != b"IEND":
        (size,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        (check,) = struct.unpack_from(">I", data, at + 8 + size)
        if check != zlib.crc32(name + body):
            raise ValueError(f"the check of the chunk {name.decode('latin-1')} fails")
        yield name, body
        at += 12 + size


def pixels_only(data: bytes) -> bytes:
    """The same picture without its metadata. A palette keeps its transparency."""
    keep = _PIXELS + ((b"tRNS",) if data[25] == PALETTE else ())
    kept = [(name, body) for name, body in chunks(data) if name in keep]
    return MAGIC + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in kept
    )


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `struct.error`, `zlib.error` if the file is broken."""
    found = list(chunks(data))
    end = len(MAGIC) + sum(12 + len(body) for _, body in found)
    if found[0][0] != b"IHDR":
        raise ValueError("the first chunk is not IHDR")
    width, height, bits, colour, _, _, _ = struct.unpack(">IIBBBBB", found[0][1])
    if colour not in _SAMPLES:
        raise ValueError(f"colour type {colour}")
    count, key, icc, exif, xmp, resolution = 1, None, None, None, None, None
    clear = False
    dropped: list[str] = []
    texts: list[str] = []
    for name, body in found[1:]:
        if name == b"tRNS" and colour == PALETTE:
            clear = True
        elif name == b"tRNS" and colour in (GREY, RGB):
            key = tuple(value & ((1 << bits) - 1) for value in struct.unpack(f">{len(body) // 2}H", body))
            if len(key) != _SAMPLES[colour]:
                raise ValueError(f"tRNS of {len(body)} bytes")
        elif name == b"iCCP":
            icc = _inflated(body.partition(b"\0")[2][1:])
        elif name == b"eXIf":
            exif = body.removeprefix(b"Exif\0\0")
        elif name == b"pHYs" and len(body) == 9:
            x, y, unit = struct.unpack(">IIB", body)
            if unit == 1:
                resolution = ((x, 100), (y, 100), 3)
            elif x != y:
                dropped.append("pHYs (shape of a pixel)")
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            keyword, text = _text(name, body)
            kind = (
                keyword.lower().removeprefix("raw profile type ")
                if keyword.lower().startswith("raw profile type ")
                else ""
            )
            profile = _raw_profile(text) if kind else None
            if keyword == "XML:com.adobe.xmp":
                xmp = text
            elif profile is not None and profile.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                xmp = xmp or profile.partition(b"\0")[2]
            elif profile is not None and kind in ("exif", "app1"):
                exif = exif or profile.removeprefix(b"Exif\0\0")
            elif profile is not None and kind == "xmp":
                xmp = xmp or profile
            elif profile is not None and kind in ("icc", "icm"):
                icc = icc or profile
            else:
                texts.append(keyword)
        elif name == b"acTL" and len(body) == 8:
            count = struct.unpack(">I", body[:4])[0]
        elif name == b"sBIT" and all(value == bits for value in body):
            continue  # it says what the header says
        elif name not in (*_PIXELS, b"hIST", b"fcTL", b"fdAT"):
            dropped.append(_name(name))
    if texts:
        dropped.append(f"text ({', '.join(dict.fromkeys(texts))})")
    reasons, lost = frames(count)
    if colour == PALETTE:
        reasons += ("a palette",)
    elif bits == 1 or bits > 8:
        reasons += (depth(bits),)
    return Facts(
        "PNG", width, height, bits, colour in (GREY, GREY_ALPHA), clear or colour in (GREY_ALPHA, RGB_ALPHA),
        reasons, key=key,
        icc=icc, exif=exif, xmp=xmp, resolution=resolution, dropped=(*dict.fromkeys(dropped), *after(data, end)),
        lost=lost,
    )  # fmt: skip


def _name(chunk: bytes) -> str:
    """A chunk's name, with its meaning if that is not plain."""
    name = chunk.decode("latin-1")
    meaning = {"gAMA": "gamma", "cHRM": "primaries", "cICP": "colour space", "sRGB": "rendering intent",
    "bKGD": "background",
               "tIME": "date", "sBIT": "significant bits"}.get(name)  # fmt: skip
    return f"{name} ({meaning})" if meaning else name


def _text(name: bytes, body: bytes) -> tuple[str, bytes]:
    """Keyword of a text chunk, and its text if that is carried."""
    keyword, _, rest = body.partition(b"\0")
    if not keyword.lower().startswith((b"raw profile type ", b"xml:com.adobe.xmp")):
        return keyword.decode("latin-1"), b""  # what is only named need not be unpacked
    if name == b"zTXt":
        rest = _inflated(rest[1:])
    elif name == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        rest = _inflated(rest) if packed else rest
    return keyword.decode("latin-1"), rest


def _raw_profile(text: bytes) -> bytes | None:
    """What ImageMagick and others write as hexadecimal text, or None if it is not that."""
    head = _HEAD.match(text)
    try:
        profile = bytes.fromhex(text[head.end() :].decode("ascii")) if head else b""
    except ValueError:
        return None
    return profile if head and len(profile) == int(head[1]) else None


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data, _MOST + 1)
    if len(found) > _MOST:
        raise ValueError(f"metadata that unpacks to more than {_MOST} bytes")
    if not unpacker.eof:
        raise ValueError("metadata that is cut")
    return found
