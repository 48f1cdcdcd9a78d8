"""What a JPEG file holds: its frame header and its application segments, up to the first scan."""

import re
import struct
from collections.abc import Iterator

from uqdm.files.facts import Facts, after, depth

_FRAMES = {0xC0 + i for i in range(16)} - {0xC4, 0xC8, 0xCC}  # SOF0 .. SOF15, without the markers of tables
_DECODED = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # Huffman and arithmetic coding, sequential and progressive
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # but nothing inside a scan
_ALONE = {0x01, *range(0xD0, 0xD8)}
_EXIF, _XMP, _MORE_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _PHOTOSHOP = b"ICC_PROFILE\0", b"Photoshop 3.0\0"


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and contents of each segment up to the first scan. Raises `ValueError`, `IndexError`,
    `struct.error` if it is cut.
    """
    at = 2
    while True:
        if data[at] != 0xFF:
            raise ValueError(f"no marker at byte {at}")
        while data[at + 1] == 0xFF:
            at += 1
        marker = data[at + 1]
        at += 2
        if marker in _ALONE:
            continue
        if marker in (0xD9, 0xDA):
            yield marker, b""
            return
        (size,) = struct.unpack_from(">H", data, at)
        if size < 2 or at + size > len(data):
            raise ValueError(f"the segment at byte {at} is cut")
        yield marker, data[at + 2 : at + size]
        at += size


def _end(data: bytes) -> int:
    """The place after the last scan of the picture, or the end of the file if that is not found."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            return at
        if marker not in _ALONE and at + 2 <= len(data):
            at += int(struct.unpack_from(">H", data, at)[0])
    return len(data)


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `IndexError`, `struct.error` if the file is broken."""
    frame: tuple[int, int, int, int, int] | None = None
    exif, xmp, resolution = None, None, None
    profile: dict[int, bytes] = {}
    parts = 0
    dropped: list[str] = []
    for marker, body in segments(data):
        if marker in _FRAMES and frame is None:
            bits, height, width, components = struct.unpack_from(">BHHB", body)
            frame = marker, bits, height, width, components
        elif marker == 0xE0 and body.startswith(b"JFIF\0"):
            unit, x, y = struct.unpack_from(">BHH", body, 7)
            if unit in (1, 2) and x and y:
                resolution = ((x, 1), (y, 1), unit + 1)
            elif x != y:
                dropped.append("JFIF density (shape of a pixel)")
            if len(body) > 14:
                dropped.append("a JFIF thumbnail")
        elif marker == 0xE1 and body.startswith(_EXIF):
            exif = exif or body.removeprefix(_EXIF)
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = xmp or body.removeprefix(_XMP)
        elif marker == 0xE1 and body.startswith(_MORE_XMP):
            dropped.append("extended XMP")
        elif marker == 0xE2 and body.startswith(_ICC):
            profile[body[12]], parts = body[14:], body[13]
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            dropped.append("further pictures of the file (MPF)")
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            dropped.append("Photoshop's data (IPTC)")
        elif marker == 0xFE:
            dropped.append("a comment")
        elif 0xE0 <= marker <= 0xEF and not (marker == 0xEE and body.startswith(b"Adobe")):
            owner = body.partition(b"\0")[0][:24].decode("latin-1")
            dropped.append(f"APP{marker - 0xE0} ({owner})")
    if frame is None:
        raise ValueError("no frame header")
    icc = None
    if profile and sorted(profile) == list(range(1, parts + 1)):
        icc = b"".join(profile[i] for i in sorted(profile))
    elif profile:
        dropped.append("an ICC profile that is not whole")
    kind, bits, height, width, components = frame
    reasons, impossible, lost = [], None, []
    if bits != 8:
        impossible = depth(bits)
    elif kind not in _DECODED:
        impossible = f"a kind of JPEG that is not decoded (SOF{kind - 0xC0})"
    elif components == 4:
        reasons.append("CMYK colours")
        if icc:
            icc, lost = None, ["the ICC profile, which is that of CMYK"]
    elif components not in (1, 3):
        impossible = f"{components} components"
    if height == 0:
        impossible = "a height that is given after the picture"
    return Facts(
        "JPEG", width, height, bits, components == 1, reasons=tuple(reasons), impossible=impossible, icc=icc,
        exif=exif, xmp=xmp,
        resolution=resolution, dropped=(*dict.fromkeys(dropped), *after(data, _end(data))), lost=tuple(lost),
    )  # fmt: skip
