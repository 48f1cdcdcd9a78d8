"""What a JPEG 2000 file holds: the boxes of its header and the sizes in its codestream."""

import struct

from uqdm.files.boxes import boxes
from uqdm.files.facts import Facts, depth

MAGIC, CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF = b"JpgTiffExif->JP2"
_SRGB, _GREY = 16, 17
_COLOUR, _OPACITY, _PREMULTIPLIED = 0, 1, 2  # what a channel is, by the box of channel definitions
_MAIN = 65535  # for any colour: an alpha channel for 0 belongs to the whole picture


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `struct.error`, `IndexError` if the file is broken."""
    found = list(boxes(data))
    header = dict(reversed(list(boxes(_only(found, b"jp2h")))))  # if there are two of a kind, the first counts
    stream = _only(found, b"jp2c")
    width, height, sizes, comment, exact = _sizes(stream)
    kinds = _kinds(header.get(b"cdef"), len(sizes))
    bits = max((value & 0x7F) + 1 for value, _, _ in sizes)
    grey = len(sizes) <= 2
    method, space, icc = _space(header)
    reasons: list[str] = []
    impossible = None
    if b"pclr" in header:
        reasons.append("a palette")
    if any(value & 0x80 for value, _, _ in sizes):
        impossible = "values with a sign"
    elif len(sizes) > 4:
        impossible = f"{len(sizes)} bands"
    elif bits > 8 and len(sizes) > 1 and not (exact and len(set(sizes)) == 1 and bits <= 16):
        impossible = f"{depth(bits)} in {len(sizes)} channels, coded with loss or each in its own way"  # see `wider`
    elif any((value & 0x7F) != 7 for value, _, _ in sizes):
        reasons.append(depth(bits))
    if list(kinds.values())[: 1 if grey else 3] != [_COLOUR] * (1 if grey else 3):
        impossible = impossible or "channels in another order"
    if any((x, y) != (1, 1) for _, x, y in sizes):
        reasons.append("channels of lower resolution")
    if method == 1 and space != (_GREY if grey else _SRGB):
        called = {12: "CMYK", 14: "Lab", 18: "YCC"}.get(space, f"number {space}")
        reasons.append(f"another colour space ({called})")
    elif method not in (1, 2, 3):
        reasons.append("a colour space that is not said")
    last = kinds.get(len(sizes) - 1) if len(sizes) in (2, 4) else None
    alpha, premultiplied = last in (_OPACITY, _PREMULTIPLIED), last == _PREMULTIPLIED
    lost: tuple[str, ...] = ()
    if premultiplied:
        reasons.append("colours multiplied by alpha")
        impossible = impossible or (f"{depth(bits)}, multiplied by alpha" if bits > 8 else None)
    elif len(sizes) in (2, 4) and not alpha:
        reasons.append(f"{len(sizes)} bands, of which none is said to be alpha")
        lost = ("the last band",)
    dropped = ["a comment"] if comment else []
    exif = xmp = None
    for name, body in found:
        if name == b"uuid" and body.startswith(_XMP):
            xmp = body[16:]
        elif name == b"uuid" and body.startswith(_EXIF):
            exif = body[16:].removeprefix(b"Exif\0\0")
        elif name in (b"uuid", b"xml ", b"jp2i", b"uinf"):
            dropped.append(f"the box {name.decode('latin-1').strip()}")
    if b"res " in header:
        dropped.append("resolution (the box res)")
    if icc and method == 1:
        dropped.append("an ICC profile beside the colour space")
        icc = None
    return Facts(
        "JPEG 2000", width, height, bits, grey, alpha, tuple(reasons), impossible, premultiplied=premultiplied,
        icc=icc, exif=exif,
        xmp=xmp, dropped=tuple(dict.fromkeys(dropped)), lost=lost,
    )  # fmt: skip


def _only(found: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    for other, body in found:
        if other == name:
            return body
    raise ValueError(f"no box {name.decode()}")


def wider(data: bytes) -> bytes:
    """The codestream alone, with a header that says one bit more for each component.

    Pillow shifts several components of more than 8 bits to 8 bits, and rounds. The brightest values
    become 256, which it stores as 0. In a stream without loss the same values lie in the middle of
    the wider range. So bright and dark can be told apart.
    """
    stream = bytearray(_only(list(boxes(data)), b"jp2c"))
    for i in range(struct.unpack_from(">H", stream, 40)[0]):
        stream[42 + 3 * i] += 1
    return bytes(stream)


def _sizes(stream: bytes) -> tuple[int, int, list[tuple[int, int, int]], bool, bool]:
    """Width, height, each component's depth and steps, whether a person wrote a comment, and
    whether nothing is lost.
    """
    if stream[:4] != CODESTREAM:
        raise ValueError("no codestream")
    right, bottom, left, top = struct.unpack_from(">IIII", stream, 8)
    (count,) = struct.unpack_from(">H", stream, 40)
    sizes = [struct.unpack_from(">BBB", stream, 42 + 3 * i) for i in range(count)]
    if not sizes or right <= left or bottom <= top:
        raise ValueError("no picture in it")
    at, comment, exact = 2, False, False
    while stream[at : at + 2] not in (b"\xff\x90", b"\xff\xd9"):
        marker, size = struct.unpack_from(">HH", stream, at)
        text = stream[at + 6 : at + 2 + size]
        comment = comment or (marker == 0xFF64 and not text.startswith((b"Created by OpenJPEG", b"Kakadu")))
        if marker == 0xFF52:  # COD; its last byte before the precincts names the wavelet
            exact = stream[at + 13] == 1
        elif marker == 0xFF53:  # COC: a component with settings of its own
            exact = False
            break
        at += 2 + size
    return right - left, bottom - top, sizes, comment, exact


def _kinds(body: bytes | None, count: int) -> dict[int, int]:
    """What each channel is. Without a box all are colours."""
    if body is None:
        return dict.fromkeys(range(count), _COLOUR)
    (entries,) = struct.unpack_from(">H", body)
    found = [struct.unpack_from(">HHH", body, 2 + 6 * i) for i in range(entries)]
    if any(kind == _COLOUR and belongs != channel + 1 for channel, kind, belongs in found):
        return {}  # channels in another order
    return {channel: kind for channel, kind, belongs in found if kind == _COLOUR or belongs in (0, _MAIN)}


def _space(header: dict[bytes, bytes]) -> tuple[int, int, bytes | None]:
    """Method, number of the colour space, ICC profile."""
    body = header.get(b"colr")
    if body is None:
        return 0, 0, None
    method = body[0]
    if method == 1:
        return 1, struct.unpack_from(">I", body, 3)[0], None
    return method, 0, body[3:] if method in (2, 3) else None
