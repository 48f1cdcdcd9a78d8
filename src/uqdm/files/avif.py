"""What an AVIF file holds: the boxes of its header."""

import struct

from uqdm.files.boxes import boxes
from uqdm.files.facts import Facts, depth, frames

_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_PLAIN = {(1, 13), (1, 1), (2, 2), (1, 2), (2, 13)}  # primaries and transfer of sRGB, or not specified


def is_avif(data: bytes) -> bool:
    """Whether the first box names the format."""
    if data[4:8] != b"ftyp":
        return False
    size = int.from_bytes(data[:4], "big")
    return any(data[i : i + 4] in (b"avif", b"avis") for i in (8, *range(16, min(size, 256), 4)))


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `struct.error`, `IndexError` if the file is broken."""
    found = dict(reversed(list(boxes(data))))
    meta = dict(reversed(list(boxes(found[b"meta"][4:]))))
    primary = int.from_bytes(meta[b"pitm"][4:], "big")
    parts = dict(boxes(meta[b"iprp"]))
    properties = list(boxes(parts[b"ipco"]))
    owned = [properties[i - 1] for i in _owned(parts[b"ipma"], primary) if i]
    width, height = next(struct.unpack_from(">II", body, 4) for name, body in owned if name == b"ispe")
    # Every picture in the file counts, so that no tile and no alpha plane of more bits is
    # overlooked.
    codes = [body[2] for name, body in properties if name == b"av1C"]
    if not codes:
        raise ValueError("no AV1 picture in it")
    bits = max(12 if code & 0x20 else 10 if code & 0x40 else 8 for code in codes)
    bits = max([bits, *(value for name, body in properties if name == b"pixi" for value in body[5:])])
    grey = all(body[2] & 0x10 for name, body in owned if name == b"av1C") and any(name == b"av1C" for name, _ in owned)
    alpha = any(name == b"auxC" and body[4:].split(b"\0")[0] in _ALPHA for name, body in properties)
    dropped: list[str] = []
    for name, body in owned:
        if name == b"colr" and body[:4] == b"nclx" and struct.unpack_from(">HH", body, 4) not in _PLAIN:
            dropped.append("colour space (nclx {}, {})".format(*struct.unpack_from(">HH", body, 4)))
        elif name in (b"clli", b"mdcv", b"amve", b"cclv", b"pasp"):
            dropped.append(f"the property {name.decode()}")
    reasons: list[str] = [depth(bits)] if bits > 8 else []
    impossible = "a part that is to be cut out (clap)" if any(name == b"clap" for name, _ in owned) else None
    references = b"".join(name for name, _ in boxes(meta[b"iref"][4:])) if b"iref" in meta else b""
    if b"prem" in references:
        reasons.append("colours multiplied by alpha")
    several, lost = frames(2 if b"moov" in found and found[b"ftyp"][:4] == b"avis" else 1)
    if several:
        several, lost = ("a sequence of pictures",), ("the other pictures of the sequence",)
    if b"tmap" in meta.get(b"iinf", b""):
        dropped.append("a gain map")
    return Facts(
        "AVIF", width, height, bits, grey, alpha, (*several, *reasons), impossible, dropped=tuple(dropped), lost=lost
    )


def _owned(body: bytes, item: int) -> list[int]:
    """The numbers of an item's properties."""
    wide, long = body[0] >= 1, bool(body[3] & 1)
    (count,) = struct.unpack_from(">I", body, 4)
    at = 8
    for _ in range(count):
        (number,) = struct.unpack_from(">I" if wide else ">H", body, at)
        at += 4 if wide else 2
        size = body[at]
        at += 1
        numbers = struct.unpack_from(f">{size}{'H' if long else 'B'}", body, at)
        at += size * (2 if long else 1)
        if number == item:
            return [value & (0x7FFF if long else 0x7F) for value in numbers]
    return []
