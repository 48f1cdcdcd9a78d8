"""Picture files in, pictures out. Pillow only decodes; before that it is known what the file holds
and whether it is taken.

A picture is taken as it is or refused. What would change its values happens only with
`convert=True`. Orientation is carried in EXIF and not applied, so the pixels stay those of the
file.
"""

import os
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from uqdm.errors import ImageError, LimitError
from uqdm.files import decoding, formats, ifd
from uqdm.files.facts import Facts
from uqdm.picture import Picture, from_array

MAX_PIXELS = 1 << 26  # the same as the container's

TAKEN = "only 8-bit grey or RGB, with or without straight alpha, is taken as it is"


def read(
    source: str | os.PathLike[str] | bytes | BinaryIO, convert: bool = False, *, max_pixels: int = MAX_PIXELS
) -> Picture:
    """A picture from a path, from the bytes of a picture file, or from an open binary file.

    These are taken as they are: 8-bit grey and RGB, each with or without straight alpha or one
    transparent colour; and grey PNG of 2 or 4 bits, which 8 bits hold exactly. `convert` also takes
    16 bits (the high byte is kept), 1 bit, palettes (RGB, or RGBA if entries are transparent), CMYK
    and other colour spaces (by Pillow's formulas, not by their ICC profile, which is dropped),
    floats (0 to 1 becomes 0 to 255; other ranges are clipped), colours multiplied by alpha, bands
    that are no colour (dropped), and the first frame of several. `Picture.dropped` names what is
    lost.

    Raises `ImageError` for anything else, for files that are empty, broken or not pictures, and
    `LimitError` above `max_pixels`, before pixels are decoded.
    """
    name, data = _bytes_of(source)
    if not data:
        raise ImageError(f"{name} is empty; expected a picture")
    facts = formats.look(name, data)
    pixels = facts.width * facts.height
    if pixels > max_pixels:
        raise LimitError(
            f"{name} is {facts.width} × {facts.height}, {pixels} pixels; the limit is {max_pixels}: raise it with"
            " --max-pixels (max_pixels)"
        )
    check(name, facts, convert)
    try:
        array, facts = decoding.decoded(facts, data)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except MemoryError as error:
        raise LimitError(
            f"{name} needs more memory than there is, or is broken: {facts.width} × {facts.height} pixels"
        ) from error
    # what Pillow raises for a broken file depends on its format and on the place of the fault
    except Exception as error:
        if facts.reasons:
            advice = "it is broken, or of a kind that is not converted: turn it into an 8-bit PNG with another program"
            raise ImageError(f"{name} cannot be decoded: {_reason(error)}; {advice}") from error
        raise ImageError(f"{name} is broken or cut, it cannot be decoded: {_reason(error)}") from error
    exif, dropped = _with_resolution(facts)
    bare = from_array(array)
    lost = facts.lost if facts.reasons else ()
    return Picture(bare.pixels, bare.alpha, facts.icc or None, exif, facts.xmp or None, (*dropped, *lost))


def check(name: str, facts: Facts, convert: bool) -> None:
    """Raises `ImageError` if the file holds what is not taken."""
    if facts.impossible:
        raise ImageError(
            f"{name} has {facts.impossible}; {TAKEN}: turn it into an 8-bit PNG or TIFF with another program first"
        )
    if facts.reasons and not convert:
        raise ImageError(f"{name} has {' and '.join(facts.reasons)}; {TAKEN}: use --convert (convert=True)")


def _bytes_of(source: str | os.PathLike[str] | bytes | BinaryIO) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return "the picture", source
    if isinstance(source, str | os.PathLike):
        try:
            return os.fspath(source), Path(source).read_bytes()
        except OSError as error:
            raise ImageError(f"{os.fspath(source)} cannot be read: {error.strerror}") from error
    return str(getattr(source, "name", "the picture")), source.read()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


# --- metadata


def _with_resolution(facts: Facts) -> tuple[bytes | None, tuple[str, ...]]:
    """EXIF, and what is dropped. A resolution that the format says elsewhere becomes EXIF if the
    file has no EXIF.
    """
    if facts.resolution is None:
        return facts.exif or None, facts.dropped
    if not facts.exif:
        return ifd.blob(ifd.resolution(*facts.resolution)), facts.dropped
    said = ifd.resolution_of(facts.exif)
    x, y = (
        Fraction(*value) * (Fraction(254, 100) if facts.resolution[2] == 3 else 1) for value in facts.resolution[:2]
    )
    if said is not None and all(abs(a - b) * 100 < a for a, b in zip((x, y), said, strict=True)):
        return facts.exif, facts.dropped
    return facts.exif, (*facts.dropped, f"resolution ({float(x):.4g} × {float(y):.4g} dpi)")
