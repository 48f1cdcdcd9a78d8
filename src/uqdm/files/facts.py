"""What a picture file holds, before any pixel is decoded: one record for all formats. Knows no
format and no Pillow.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What the file says of itself. A format's `look` finds it in the header, not in what a decoder
    delivered.

    `reasons` say why the pixels cannot be taken as they are, in words that follow "the file has";
    they are empty for 8-bit grey or RGB, with or without straight alpha. `impossible` is the reason
    why not even a conversion is defined, or None. `bits` are those of the widest sample. `grey`
    means one colour channel. `alpha` says whether there is an alpha plane, straight or not. `key`
    is the one transparent colour, in the units of the file, or None. `premultiplied` means that the
    decoder delivers colours multiplied by alpha. `resolution` has pixels per unit in x and y, each
    as a fraction, and EXIF's number of the unit (2: inch, 3: centimetre). `dropped` names what is
    not carried. `lost` names what a conversion loses besides precision.
    """

    format: str
    width: int
    height: int
    bits: int = 8
    grey: bool = False
    alpha: bool = False
    reasons: tuple[str, ...] = ()
    impossible: str | None = None
    key: tuple[int, ...] | None = None
    premultiplied: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    resolution: tuple[tuple[int, int], tuple[int, int], int] | None = None
    dropped: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def depth(bits: int) -> str:
    """Why a depth is not taken."""
    return "1 bit a pixel" if bits == 1 else f"{bits} bits a channel"


def frames(count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Why the first of `count` pictures in a file is not taken, and what a conversion loses."""
    if count <= 1:
        return (), ()
    return (f"{count} frames",), (f"{count - 1} further frame{'s' * (count > 2)}",)


def after(data: bytes, end: int) -> tuple[str, ...]:
    """What is dropped if a file goes on after its picture. Zeros are padding."""
    rest = len(data[end:].rstrip(b"\0"))
    return (f"{rest} bytes after the end of the picture",) if rest else ()
