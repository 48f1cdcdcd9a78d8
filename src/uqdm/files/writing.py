"""Pictures to picture files, exactly or not at all. Knows which suffix holds what.

An exact format gives every value back. Metadata that it has no place for is named, not lost
silently. Other formats are for previews, or on request.
"""

import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, PngImagePlugin

from uqdm.errors import ImageError, OutputError
from uqdm.files import ifd, tiff
from uqdm.files.placing import write_atomic
from uqdm.picture import Picture, to_array


@dataclass(frozen=True)
class FileFormat:
    """What a format holds. `limit` is the most pixels in a row or column. `options` are what its
    encoder is told.
    """

    name: str
    suffixes: tuple[str, ...]
    exact: bool = True
    grey: bool = True
    rgb: bool = True
    alpha: bool = True
    icc: bool = False
    exif: bool = False
    xmp: bool = False
    limit: int = (1 << 31) - 1
    options: tuple[tuple[str, Any], ...] = ()


KINDS = (
    FileFormat("PNG", (".png",), icc=True, exif=True, xmp=True),
    FileFormat("TIFF", (".tif", ".tiff"), icc=True, exif=True, xmp=True),
    FileFormat("WEBP", (".webp",), grey=False, icc=True, exif=True, xmp=True, limit=16383, options=(("lossless", True),
    ("exact", True))),
    FileFormat("JPEG2000", (".jp2",), options=(("irreversible", False),)),
    FileFormat("BMP", (".bmp",), alpha=False),
    FileFormat("PPM", (".ppm",), grey=False, alpha=False),
    FileFormat("PGM", (".pgm",), rgb=False, alpha=False),
    FileFormat("PNM", (".pnm",), alpha=False),
    FileFormat("JPEG", (".jpg", ".jpeg"), exact=False, alpha=False, icc=True, exif=True, xmp=True, limit=65535,
         options=(("quality", 95), ("subsampling", 0))),
    FileFormat("AVIF", (".avif",), exact=False, icc=True, exif=True, xmp=True, limit=65536, options=(("quality", 95),
    ("subsampling", "4:4:4"))),
)  # fmt: skip
EXACT = tuple(suffix for kind in KINDS if kind.exact for suffix in kind.suffixes)
WRITABLE = frozenset(suffix for kind in KINDS for suffix in kind.suffixes)
_BY_NAME = {kind.name: kind for kind in KINDS}
_BY_SUFFIX = {suffix: kind for kind in KINDS for suffix in kind.suffixes}
_PLACES = {"icc": "the ICC profile", "exif": "EXIF", "xmp": "XMP"}


def format_of(path: str | os.PathLike[str]) -> str:
    """The name of the format that a path's suffix asks for; PNG without a suffix. Raises
    `OutputError` for unknown ones.
    """
    suffix = Path(path).suffix.lower()
    if suffix and suffix not in _BY_SUFFIX:
        raise OutputError(
            f"{os.fspath(path)}: pictures cannot be written with the suffix {suffix}; use .png (exact are"
            f" {', '.join(EXACT)})"
        )
    return _BY_SUFFIX[suffix].name if suffix else "PNG"


def check_format(format: str, *, grey: bool, alpha: bool, lossy: bool, size: tuple[int, int] = (1, 1)) -> None:
    """Raises `OutputError` if a format cannot hold a picture of `size` (height, width), or not
    exactly and `lossy` is not set.
    """
    kind = _kind(format)
    if not kind.exact and not lossy:
        raise OutputError(
            f"{kind.name} changes the values of a picture, and this one is there exactly: "
            f"use {', '.join(EXACT)}, or allow it with --lossy-output (lossy=True)"
        )
    if alpha and not kind.alpha:
        raise OutputError(
            f"a picture with alpha ({'LA' if grey else 'RGBA'}) cannot be written as {kind.name}; use .png"
        )
    if not (kind.grey if grey else kind.rgb) and kind.name != "WEBP":  # WebP holds grey as three equal channels
        colour, other = ("grey", ".pgm") if grey else ("RGB", ".ppm")
        raise OutputError(f"a picture in {colour} cannot be written as {kind.name}; use {other} or .png")
    if max(size) > kind.limit:
        raise OutputError(
            f"a picture of {size[1]} × {size[0]} cannot be written as {kind.name}, whose limit is {kind.limit}; use"
            " .png"
        )


def encode(picture: Picture, format: str = "PNG", *, lossy: bool = False) -> bytes:
    """The bytes of a picture file, with the metadata that the format has a place for. `unheld`
    names the rest.

    `format` is the name of one of `KINDS`. `lossy` allows those that change values. Raises
    `OutputError` if the format cannot hold the picture, such as alpha in JPEG.
    """
    return _encoded(picture, format, lossy)[0]


def unheld(picture: Picture, format: str) -> tuple[str, ...]:
    """The names of what a format does not hold of a picture's metadata, or holds in another way."""
    kind = _kind(format)
    lost = [name for field, name in _PLACES.items() if getattr(picture, field) and not getattr(kind, field)]
    if kind.name == "WEBP" and picture.pixels.shape[2] == 1:
        lost.append("that the picture is grey (all three channels are the same)")
    if kind.name == "PNG" and picture.xmp and not _is_text(picture.xmp):
        lost.append("XMP, which is not UTF-8")
    if kind.name == "TIFF":
        lost += tiff.described(picture.exif)[1]
    return tuple(lost)


def _kind(format: str) -> FileFormat:
    if format.upper() not in _BY_NAME:
        raise OutputError(f"pictures cannot be written as {format}; expected one of {', '.join(_BY_NAME)}")
    return _BY_NAME[format.upper()]


def _encoded(picture: Picture, format: str, lossy: bool) -> tuple[bytes, tuple[str, ...]]:
    kind = _kind(format)
    height, width, channels = picture.pixels.shape
    check_format(format, grey=channels == 1, alpha=picture.alpha is not None, lossy=lossy, size=(height, width))
    try:
        data = tiff.write(picture) if kind.name == "TIFF" else _by_pillow(picture, kind)
    except MemoryError:
        raise
    except ImageError as error:
        raise OutputError(str(error)) from error
    except Exception as error:  # what Pillow raises depends on the format
        raise OutputError(
            f"the picture cannot be written as {kind.name}: {str(error) or type(error).__name__}; use .png"
        ) from error
    return data, unheld(picture, format)


def _by_pillow(picture: Picture, kind: FileFormat) -> bytes:
    options = dict(kind.options)
    if picture.icc and kind.icc:
        options["icc_profile"] = picture.icc
    if picture.exif and kind.exif:
        options["exif"] = picture.exif if kind.name == "AVIF" else b"Exif\0\0" + picture.exif
    if picture.xmp and kind.name == "PNG":
        if _is_text(picture.xmp):
            chunks = PngImagePlugin.PngInfo()
            chunks.add_itxt("XML:com.adobe.xmp", picture.xmp.decode())
            options["pnginfo"] = chunks
    elif picture.xmp and kind.xmp:
        options["xmp"] = picture.xmp
    resolution = ifd.resolution_of(picture.exif) if picture.exif and kind.name in ("PNG", "JPEG") else None
    # written again where programs look for it; JPEG has whole numbers only
    if resolution and max(resolution) < 1 << 16:
        options["dpi"] = tuple(float(value) if kind.name == "PNG" else round(value) for value in resolution)
    out = io.BytesIO()
    name = "PPM" if kind.name in ("PGM", "PNM") else kind.name
    Image.fromarray(to_array(picture)).save(out, name, **options)
    return out.getvalue()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def write(
    picture: Picture,
    target: str | os.PathLike[str] | BinaryIO,
    format: str | None = None,
    *,
    force: bool = False,
    lossy: bool = False,
) -> None:
    """Writes a picture file, to a path (whole or not at all) or to an open binary file.

    `format` is the name of one of `KINDS`; by default that of the path's suffix, or PNG. `force`
    replaces what is at the path. `lossy` allows formats that change values. A warning names
    metadata that is not held. Raises `OutputError`, also for an unknown suffix.
    """
    is_path = isinstance(target, str | os.PathLike)
    data, lost = _encoded(picture, format or (format_of(target) if is_path else "PNG"), lossy)  # type: ignore[arg-type]
    if isinstance(target, str | os.PathLike):
        write_atomic(target, data, force)
    else:
        target.write(data)
    if lost:
        warnings.warn(f"{os.fspath(target) if is_path else 'the file'} does not hold {', '.join(lost)}", stacklevel=2)  # type: ignore[arg-type]
