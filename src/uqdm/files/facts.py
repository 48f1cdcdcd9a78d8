"""What a picture file holds, before any pixel is decoded: one record for all formats. Knows no format and no Pillow."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """What the file says of itself; a format's `look` finds it in the header, not in what a decoder delivered.

    `reasons`: why the pixels cannot be taken as they are, in words that follow "the file has"; empty for 8-bit grey or RGB, with or
    without straight alpha. `impossible`: the reason why not even a conversion is defined, or None. `bits`: of the widest sample.
    `grey`: one colour channel. `alpha`: whether there is an alpha plane, straight or not. `key`: the one transparent colour, in the
    units of the file, or None. `premultiplied`: the decoder delivers colours that are multiplied by alpha. `resolution`: pixels per
    unit in x and y, each as a fraction, and EXIF's number of the unit (2: inch, 3: centimetre). `dropped`: what is not carried, by
    name. `lost`: what a conversion loses besides precision, by name.
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
    """For the first of `count` pictures in a file: why it is not taken, and what a conversion loses."""
    if count <= 1:
        return (), ()
    return (f"{count} frames",), (f"{count - 1} further frame{'s' * (count > 2)}",)


def after(data: bytes, end: int) -> tuple[str, ...]:
    """What is dropped of a file whose picture ends before the file does; zeros are padding."""
    rest = len(data[end:].rstrip(b"\0"))
    return (f"{rest} bytes after the end of the picture",) if rest else ()
