"""The formats that are read, and how they are told apart. Whatever is not in the table is
refused.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from uqdm.errors import ImageError
from uqdm.files import avif, bmp, gif, jp2, jpeg, png, pnm, tiff, webp
from uqdm.files.facts import Facts

READABLE = frozenset(
    {".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)  # the suffixes of picture files, for all commands


@dataclass(frozen=True)
class Format:
    """A format: whether a file has it, by its first bytes, and what such a file holds."""

    name: str
    fits: Callable[[bytes], bool]
    look: Callable[[bytes], Facts]


FORMATS = (
    Format("PNG", lambda data: data.startswith(png.MAGIC), png.look),
    Format("JPEG", lambda data: data.startswith(b"\xff\xd8\xff"), jpeg.look),
    Format("TIFF", lambda data: data.startswith(tiff.MAGIC), tiff.look),
    Format("WebP", lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", webp.look),
    Format("BMP", lambda data: data.startswith(b"BM"), bmp.look),
    Format("PNM", lambda data: re.match(rb"P[1-6][\s#]", data[:3]) is not None, pnm.look),
    Format("GIF", lambda data: data[:6] in (b"GIF87a", b"GIF89a"), gif.look),
    Format("JPEG 2000", lambda data: data.startswith(jp2.MAGIC), jp2.look),
    Format("AVIF", avif.is_avif, avif.look),
)
_OTHERS = (  # common formats by their first bytes; they are named, so that people see why a file is refused
    (rb"%!PS|\xc5\xd0\xd3\xc6", "EPS"),
    (rb"%PDF", "PDF"),
    (rb"8BPS", "Photoshop"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (rb"....ftyp(heic|heix|hevc|mif1|msf1|heim)", "HEIC"),
    (rb"\x00\x00\x01\x00", "ICO"),
    (rb"v/1\x01", "OpenEXR"),
    (rb"P[7Ff]\s", "PAM or PFM"),
    (rb"\xff\x4f\xff\x51", "a JPEG 2000 codestream without its file format"),
    (rb"\s*<(\?xml|svg)", "SVG"),
    (rb"#\?RADIANCE", "HDR"),
    (rb"\x89UQD", "a .uqdm file; decompress it first"),
)
# what `look` raises at a broken header
BROKEN = (ValueError, IndexError, KeyError, StopIteration, struct.error, zlib.error, OverflowError)


def look(name: str, data: bytes) -> Facts:
    """What the file holds. `name` is for messages.

    Raises `ImageError` if `data` has no format that is read, or its header is broken.
    """
    for one in FORMATS:
        if one.fits(data):
            try:
                return one.look(data)
            except BROKEN as error:
                raise ImageError(
                    f"{name} is a {one.name} file that is broken or cut: {str(error) or type(error).__name__}"
                ) from error
    known = ", ".join(one.name for one in FORMATS)
    others = [what for pattern, what in _OTHERS if re.match(pattern, data[:64], re.DOTALL)]
    kind = f"of no known format ({others[0]})" if others else "of no known format"
    raise ImageError(f"{name} is not a picture that can be read: {kind}; {known} are read")
