"""The index in the head of a file: what its beginnings show, in bytes and decibels. Knows no
pictures; `docs/format.md`, "Index", is the document.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from uqdm.errors import DamagedError, LimitError
from uqdm.format.chunks import INDEX, Contents
from uqdm.format.cuts import ends
from uqdm.format.fields import decode_varint, varint

UNITS = 256  # of a decibel
EXACT = 0xFFFF  # in the place of a PSNR: without any error


@dataclass(frozen=True)
class Place:
    """A beginning of a file: `bytes` of it show a preview of `psnr` decibels, over all values of all
    channels but alpha, rounded down to 1/256 (infinite: without any error). They hold `step` whole
    steps, and if `inside` a part of the next one.
    """

    bytes: int
    psnr: float
    step: int
    inside: bool = False


def write_index(places: Sequence[Place], begin: int) -> bytes:
    """The payload of an index. `places`: in the order of the file. `begin`: the byte from which the
    first one is counted: where the index ends, or would end.
    """
    out = bytearray()
    for place in places:
        out += varint((place.bytes - begin) << 1 | place.inside)
        psnr = EXACT if math.isinf(place.psnr) else min(max(math.floor(UNITS * place.psnr), 0), EXACT - 1)
        out += psnr.to_bytes(2, "little")
        begin = place.bytes
    return bytes(out)


def read_index(contents: Contents) -> list[Place] | None:
    """What a file's index tells, by ascending bytes. None: the file has none, or ends inside it.

    Raises `DamagedError` for what no encoder writes, and where steps that are there end elsewhere.
    """
    own = next((chunk for chunk in contents.chunks if chunk.kind == INDEX), None)
    if own is None:
        return None
    places, at, size, step = list[Place](), 0, own.end, 0
    while at < len(own.payload):
        found = decode_varint(own.payload, at)
        if found is None or found[1] + 2 > len(own.payload):
            raise DamagedError("the index ends inside a place")
        number, at = found
        told, at = int.from_bytes(own.payload[at : at + 2], "little"), at + 2
        inside, more = bool(number & 1), number >> 1
        if (inside and not places) or (places and not more):
            raise DamagedError(f"the index: place {len(places) + 1} is not one that an encoder writes")
        size, step = size + more, step + (not inside and bool(places))
        places.append(Place(size, math.inf if told == EXACT else told / UNITS, step, inside))
    _check([place.bytes for place in places if not place.inside], contents)
    return places


def _check(told: list[int], contents: Contents) -> None:
    """Raises `DamagedError` unless steps end where the index says."""
    real = ends(contents)
    if not contents.steps and contents.partial is None:
        real = []  # metadata may be missing, so nobody knows where the steps begin
    if not told or len(told) > contents.header.chunks + 1 or any(a != b for a, b in zip(told, real)):
        raise DamagedError(f"the index says that steps end at bytes {told}; they end at {real}: it was written wrong")


def reaching(places: Sequence[Place] | None, psnr: float, size: int) -> int:
    """Bytes up to the first place of an index that has at least so many decibels, in a file of
    `size` bytes.

    Raises `LimitError` where there is no index, or no such place in it or in the file.
    """
    if places is None:
        raise LimitError(
            f"{psnr:g} dB were asked for; the file has no index, so what its beginnings show is not known without the"
            " picture: ask for bits per pixel, bytes or a step, or write the file from the picture with compress --psnr"
        )
    found = next((place for place in places if place.psnr >= psnr), None)
    if found is None:
        most = max(place.psnr for place in places)
        raise LimitError(f"{psnr:g} dB were asked for; the file's index knows of at most {most:.2f} dB: ask for less")
    if found.bytes > size:
        raise LimitError(
            f"{psnr:g} dB were asked for, which take {found.bytes} bytes; the file was cut and holds {size}: ask for"
            " less, or get more of the file"
        )
    return found.bytes
