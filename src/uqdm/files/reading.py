"""Picture files in, pictures out. Pillow only decodes; what the file holds, and whether it is taken, is decided before.

A picture is taken as it is or refused: whatever would change its values happens only with `convert=True`. Orientation is carried in
EXIF, not applied, so the pixels stay those of the file.
"""

import contextlib
import dataclasses
import io
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from uqdm.errors import ImageError, LimitError
from uqdm.files import formats, ifd, jp2, png, tiff
from uqdm.files.facts import Facts
from uqdm.picture import Bytes8, Picture, from_array

MAX_PIXELS = 1 << 26  # the same as the container's

# The decoders are made by name: Pillow's own search through all formats never runs, and neither does what it would start.
_DECODERS: dict[str, Any] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "PNM": PpmImagePlugin.PpmImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "JPEG 2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
_TAKEN = "only 8-bit grey or RGB, with or without straight alpha, is taken as it is"


def read(source: str | os.PathLike[str] | bytes | BinaryIO, convert: bool = False, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """A picture from a path, from the bytes of a picture file, or from an open binary file. `Picture.dropped` names what is lost.

    Taken as they are: 8-bit grey and RGB, each with or without straight alpha or one transparent colour; and grey PNG of 2 or 4 bits,
    which 8 bits hold exactly. With `convert`, also: 16 bits (the high byte is kept), 1 bit, palettes (RGB, or RGBA where entries are
    transparent), CMYK and other colour spaces (by Pillow's formulas, not by their ICC profile, which is dropped), floats (0 to 1 is
    taken as 0 to 255; other ranges are clipped), colours multiplied by alpha, bands that are no colour (dropped), and the first frame
    of several. Raises `ImageError` for anything else, for files that are empty, broken or not pictures, and `LimitError` above
    `max_pixels`, before pixels are decoded.
    """
    name, data = _bytes_of(source)
    if not data:
        raise ImageError(f"{name} is empty; expected a picture")
    facts = formats.look(name, data)
    pixels = facts.width * facts.height
    if pixels > max_pixels:
        raise LimitError(
            f"{name} is {facts.width} × {facts.height}, {pixels} pixels; the limit is {max_pixels}: raise it with --max-pixels (max_pixels)"
        )
    check(name, facts, convert)
    try:
        array, facts = _decoded(facts, data, pixels)
    except ImageError:
        raise
    except MemoryError as error:
        raise LimitError(f"{name} needs more memory than there is, or is broken: {facts.width} × {facts.height} pixels") from error
    except Exception as error:  # what Pillow raises for a broken file depends on its format and on where it is broken
        if facts.reasons:
            advice = "it is broken, or of a kind that is not converted: turn it into an 8-bit PNG with another program"
            raise ImageError(f"{name} cannot be decoded: {_reason(error)}; {advice}") from error
        raise ImageError(f"{name} is broken or cut, it cannot be decoded: {_reason(error)}") from error
    exif, dropped = _with_resolution(facts)
    bare = from_array(array)
    lost = facts.lost if facts.reasons else ()
    return Picture(bare.pixels, bare.alpha, facts.icc or None, exif, facts.xmp or None, (*dropped, *lost))


def check(name: str, facts: Facts, convert: bool) -> None:
    """Raises `ImageError` where the file holds what is not taken."""
    if facts.impossible:
        raise ImageError(f"{name} has {facts.impossible}; {_TAKEN}: turn it into an 8-bit PNG or TIFF with another program first")
    if facts.reasons and not convert:
        raise ImageError(f"{name} has {' and '.join(facts.reasons)}; {_TAKEN}: use --convert (convert=True)")


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


# --- pixels ----------------------------------------------------------------------------------------------------------------------


def _decoded(facts: Facts, data: bytes, pixels: int) -> tuple[NDArray[np.uint8], Facts]:
    """uint8 (H, W), or (H, W, C), and the facts with what only the decoder tells: of AVIF, the metadata."""
    with _unlimited(pixels), _opened(facts, data) as image:
        _same_size(facts, image)  # before anything is allocated by the decoder's reading of the header
        image.load()
        _same_size(facts, image)
        if facts.format == "AVIF":
            info = image.info
            facts = dataclasses.replace(facts, icc=info.get("icc_profile"), exif=_blob(info.get("exif")), xmp=_blob(info.get("xmp")))
        if facts.reasons:
            array = _converted(facts, image)
            if facts.format == "JPEG 2000" and facts.bits > 8 and array.ndim == 3:
                array = _brightest(array, data)
        else:
            array = np.asarray(image)
            # Of AVIF, and of PNG with 16 bits and alpha, the decoder delivers grey as colours.
            if image.mode != _mode(facts) and not (facts.grey and image.mode in ("RGB", "RGBA")):
                raise ImageError(f"the header says {_mode(facts)}, the decoder delivers {image.mode}")
        array = _one_channel(array) if facts.grey else array
        return _with_alpha(facts, image, array, data), facts


def _one_channel(array: Bytes8) -> Bytes8:
    """Grey that was delivered in three channels, which are the same, as one; alpha stays."""
    if array.ndim == 2 or array.shape[2] < 3:
        return array
    if (array[:, :, 1:3] != array[:, :, :1]).any():
        raise ImageError("the header says grey, the decoder delivers colours")
    return np.ascontiguousarray(array[:, :, ::3]) if array.shape[2] == 4 else array[:, :, 0]


def _same_size(facts: Facts, image: Image.Image) -> None:
    if image.size != (facts.width, facts.height):
        raise ImageError(f"the header says {facts.width} × {facts.height}, the decoder {image.width} × {image.height}: the file is broken")


def _mode(facts: Facts) -> str:
    """Pillow's name of what an accepted file holds."""
    return ("L" if facts.grey else "RGB") + ("A" if facts.alpha else "")


def _opened(facts: Facts, data: bytes) -> ImageFile.ImageFile:
    if facts.format == "PNG":
        data = png.pixels_only(data)
    elif facts.format == "TIFF":
        data = tiff.pixels_only(data)
    opened: ImageFile.ImageFile = _DECODERS[facts.format](io.BytesIO(data), "")
    return opened


def _converted(facts: Facts, image: Image.Image) -> Bytes8:
    """Pixels of any kind as 8-bit grey or RGB, with the alpha that the decoder delivers."""
    mode = image.mode
    if mode == "I" and facts.format == "TIFF":  # 32 bits, or 16 with a sign
        return np.asarray(image).astype(np.int64).clip(0, 255).astype(np.uint8)
    if mode.startswith("I"):
        shift = facts.bits - 8 if facts.format == "TIFF" else 8  # TIFF's values are those of the file, others are scaled to 16 bits
        return (np.asarray(image).astype(np.int64).clip(0, 65535) >> shift).astype(np.uint8)
    if mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0)
        scaled: Bytes8 = np.rint((values * 255 if values.max() <= 1 else values).clip(0, 255)).astype(np.uint8)
        return scaled
    if mode in ("1", "L", "LA", "La"):
        array = np.asarray(image.convert("LA" if mode in ("LA", "La") else "L"))
    else:
        clear = mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info
        array = np.asarray(image.convert("RGBA" if clear else "RGB"))
    if array.ndim == 3 and array.shape[2] in (2, 4):
        if not facts.alpha:
            return array[:, :, :-1]  # a band that is not known to be alpha
        if facts.premultiplied:
            return _divided(array)
    return array


def _brightest(array: Bytes8, data: bytes) -> Bytes8:
    """The brightest values of a JPEG 2000 file, which the decoder makes 0, as 255; see `jp2.wider`."""
    with Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(jp2.wider(data)), "") as image:
        image.load()
        other = np.asarray(image)[:, :, : array.shape[2]]
    return np.where((array == 0) & (other >= 128), np.uint8(255), array)


def _divided(array: Bytes8) -> Bytes8:
    """Colours that were multiplied by alpha, divided by it again, to the nearest value."""
    alpha = array[:, :, -1:].astype(np.int64)
    colours = (array[:, :, :-1].astype(np.int64) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([colours.clip(0, 255).astype(np.uint8), array[:, :, -1:]], axis=2)


def _with_alpha(facts: Facts, image: Image.Image, array: Bytes8, data: bytes) -> Bytes8:
    """The pixels, with the alpha that the one transparent colour of a PNG means."""
    if facts.key is None:
        return array
    if facts.bits == 16:
        same = _sixteen(facts, image, data) == facts.key
    else:
        scale = 255 // ((1 << facts.bits) - 1)  # 85 of 2 bits, 17 of 4: the decoder has scaled the pixels, but not the key
        same = array.reshape(*array.shape[:2], -1) == np.array(facts.key) * scale
    return np.dstack([array, np.where(same.all(axis=2), 0, 255).astype(np.uint8)])


def _sixteen(facts: Facts, image: Image.Image, data: bytes) -> NDArray[np.uint16]:
    """All 16 bits of a PNG without alpha, (H, W, C): of colours Pillow delivers high bytes only, so it is asked for the low ones too."""
    if facts.grey:
        return np.asarray(image).astype(np.uint16)[:, :, None]
    with _opened(facts, data) as other:
        if [tile[3] for tile in other.tile] != ["RGB;16B"]:
            raise ImageError("16-bit colours with a transparent one, which the installed Pillow does not deliver")
        # The order of bytes is turned round, so that what is thrown away is the high byte.
        other.tile = [ImageFile._Tile(tile[0], tile[1], tile[2], "RGB;16L") for tile in other.tile]
        other.load()
        high, low = np.asarray(image).astype(np.uint16), np.asarray(other).astype(np.uint16)
        return high * np.uint16(256) + low


_lock, _inside, _before = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS


@contextlib.contextmanager
def _unlimited(pixels: int) -> Iterator[None]:
    """Lifts Pillow's own limit, for pictures that are within ours and beyond it, until the last of them is decoded.

    Most decoders do not ask for it when they are made by name; those of WebP, GIF and TIFF's tiles do.
    """
    global _inside, _before
    if Image.MAX_IMAGE_PIXELS is None or pixels <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _lock:
        if _inside == 0:
            _before = Image.MAX_IMAGE_PIXELS
        _inside += 1
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                Image.MAX_IMAGE_PIXELS = _before


# --- metadata --------------------------------------------------------------------------------------------------------------------


def _blob(value: Any) -> bytes | None:
    data: bytes = value.encode() if isinstance(value, str) else bytes(value or b"")
    return data.removeprefix(b"Exif\0\0") or None


def _with_resolution(facts: Facts) -> tuple[bytes | None, tuple[str, ...]]:
    """EXIF, and what is dropped. A resolution that the format says elsewhere becomes EXIF where there is none."""
    if facts.resolution is None:
        return facts.exif or None, facts.dropped
    if not facts.exif:
        return ifd.blob(ifd.resolution(*facts.resolution)), facts.dropped
    said = ifd.resolution_of(facts.exif)
    x, y = (Fraction(*value) * (Fraction(254, 100) if facts.resolution[2] == 3 else 1) for value in facts.resolution[:2])
    if said is not None and all(abs(a - b) * 100 < a for a, b in zip((x, y), said, strict=True)):
        return facts.exif, facts.dropped
    return facts.exif, (*facts.dropped, f"resolution ({float(x):.4g} × {float(y):.4g} dpi)")


# --- Pillow images ---------------------------------------------------------------------------------------------------------------


def is_pillow(value: object) -> bool:
    """Whether `value` is a Pillow image."""
    return isinstance(value, Image.Image)


def from_pillow(image: Image.Image) -> Picture:
    """A picture from a Pillow image of mode L, LA, RGB or RGBA, with its transparency and metadata.

    One that was opened from a file and not changed is read from that file, so that nothing is lost on the way. Raises `ImageError` for
    other modes, and where it can no longer be told what the file held. What is not carried is named in a warning.
    """
    picture = _from_file(image) if isinstance(image, ImageFile.ImageFile) else _from_memory(image)
    if picture.dropped:
        warnings.warn(f"not carried: {', '.join(picture.dropped)}", stacklevel=3)
    return picture


def _from_file(image: ImageFile.ImageFile) -> Picture:
    """Of an image that still stands for its file: that file, read again."""
    source = _source_of(image)
    if source is None:
        raise ImageError(
            f"the Pillow image was loaded from a {image.format} file, which is closed, and Pillow does not tell whether that held more "
            "than 8 bits or other channels: give the file, or image.copy() for the pixels as Pillow has them"
        )
    if getattr(image, "is_animated", False) and image.tell() != 0:
        raise ImageError(f"the Pillow image stands at frame {image.tell()} of its file: give image.copy()")
    return read(source, max_pixels=sys.maxsize)


def _source_of(image: ImageFile.ImageFile) -> bytes | str | None:
    """The bytes of the open file, or the path of one that was closed after loading."""
    file = image.fp
    if file is not None and not getattr(file, "closed", False):
        try:
            at = file.tell()
            file.seek(0)
            data: bytes = file.read()
            file.seek(at)
        except (OSError, ValueError):
            return None
        if data:
            return data
    path = image.filename
    return os.fsdecode(path) if path and os.path.isfile(path) else None


def _from_memory(image: Image.Image) -> Picture:
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        names = {"1": "1 bit a pixel", "P": "a palette", "PA": "a palette", "F": "float values", "I": "32-bit integers"}
        why = "16 bits a channel" if image.mode.startswith("I;16") else names.get(image.mode, "other colours")
        raise ImageError(f"the Pillow image has {why} (mode {image.mode}); {_TAKEN}: convert it first, with image.convert")
    grey = image.mode in ("L", "LA")
    bare = from_array(np.asarray(image.convert("LA" if grey else "RGBA") if "transparency" in image.info else image))
    info = image.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    return Picture(bare.pixels, bare.alpha, _blob(info.get("icc_profile")), _blob(info.get("exif")), _blob(xmp))
