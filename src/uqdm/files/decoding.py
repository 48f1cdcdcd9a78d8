"""The pixels of a picture file as uint8 arrays, decoded by Pillow.

What the file holds is known before. Knows no metadata but AVIF's.
"""

import contextlib
import dataclasses
import io
import threading
from collections.abc import Iterator
from typing import Any

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

from uqdm.errors import ImageError
from uqdm.files import jp2, png, tiff
from uqdm.files.facts import Facts
from uqdm.picture import Bytes8

# The decoders are made by name. So Pillow's own search through all formats never runs, nor what it
# would start.
DECODERS: dict[str, Any] = {
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


def decoded(facts: Facts, data: bytes) -> tuple[NDArray[np.uint8], Facts]:
    """uint8 (H, W) or (H, W, C), and the facts, with what only the decoder knows: for AVIF, the
    metadata.
    """
    with _unlimited(facts.width * facts.height), _opened(facts, data) as image:
        _same_size(facts, image)  # before the decoder allocates anything by its own reading of the header
        image.load()
        _same_size(facts, image)
        if facts.format == "AVIF":
            info = image.info
            facts = dataclasses.replace(
                facts, icc=info.get("icc_profile"), exif=blob(info.get("exif")), xmp=blob(info.get("xmp"))
            )
        if facts.reasons:
            array = _converted(facts, image)
            if facts.format == "JPEG 2000" and facts.bits > 8 and array.ndim == 3:
                array = _brightest(array, data)
        else:
            array = np.asarray(image)
            # For AVIF, and for PNG with 16 bits and alpha, the decoder delivers grey as colours.
            if image.mode != _mode(facts) and not (facts.grey and image.mode in ("RGB", "RGBA")):
                raise ImageError(f"the header says {_mode(facts)}, but the decoder delivers {image.mode}")
        array = _one_channel(array) if facts.grey else array
        return _with_alpha(facts, image, array, data), facts


def _one_channel(array: Bytes8) -> Bytes8:
    """Grey that was delivered in three equal channels, as one channel. Alpha stays."""
    if array.ndim == 2 or array.shape[2] < 3:
        return array
    if (array[:, :, 1:3] != array[:, :, :1]).any():
        raise ImageError("the header says grey, but the decoder delivers colours")
    return np.ascontiguousarray(array[:, :, ::3]) if array.shape[2] == 4 else array[:, :, 0]


def _same_size(facts: Facts, image: Image.Image) -> None:
    if image.size != (facts.width, facts.height):
        raise ImageError(
            f"the header says {facts.width} × {facts.height}, the decoder {image.width} × {image.height}: the file is"
            " broken"
        )


def _mode(facts: Facts) -> str:
    """Pillow's name of what an accepted file holds."""
    return ("L" if facts.grey else "RGB") + ("A" if facts.alpha else "")


def _opened(facts: Facts, data: bytes) -> ImageFile.ImageFile:
    if facts.format == "PNG":
        data = png.pixels_only(data)
    elif facts.format == "TIFF":
        data = tiff.pixels_only(data)
    opened: ImageFile.ImageFile = DECODERS[facts.format](io.BytesIO(data), "")
    return opened


def _converted(facts: Facts, image: Image.Image) -> Bytes8:
    """Pixels of any kind as 8-bit grey or RGB, with the alpha that the decoder delivers."""
    mode = image.mode
    if mode == "I" and facts.format == "TIFF":  # 32 bits, or 16 with a sign
        return np.asarray(image).astype(np.int64).clip(0, 255).astype(np.uint8)
    if mode.startswith("I"):
        # TIFF's values are those of the file; others are scaled to 16 bits
        shift = facts.bits - 8 if facts.format == "TIFF" else 8
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
    """The brightest values of a JPEG 2000 file as 255. The decoder makes them 0; see
    `jp2.wider`.
    """
    with Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(jp2.wider(data)), "") as image:
        image.load()
        other = np.asarray(image)[:, :, : array.shape[2]]
    return np.where((array == 0) & (other >= 128), np.uint8(255), array)


def _divided(array: Bytes8) -> Bytes8:
    """Colours that were multiplied by alpha, divided by it again and rounded to the nearest
    value.
    """
    alpha = array[:, :, -1:].astype(np.int64)
    colours = (array[:, :, :-1].astype(np.int64) * 255 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([colours.clip(0, 255).astype(np.uint8), array[:, :, -1:]], axis=2)


def _with_alpha(facts: Facts, image: Image.Image, array: Bytes8, data: bytes) -> Bytes8:
    """The pixels, with the alpha that the transparent colour of a PNG means."""
    if facts.key is None:
        return array
    if facts.bits == 16:
        same = _sixteen(facts, image, data) == facts.key
    else:
        # 85 for 2 bits, 17 for 4: the decoder has scaled the pixels, but not the key
        scale = 255 // ((1 << facts.bits) - 1)
        same = array.reshape(*array.shape[:2], -1) == np.array(facts.key) * scale
    return np.dstack([array, np.where(same.all(axis=2), 0, 255).astype(np.uint8)])


def _sixteen(facts: Facts, image: Image.Image, data: bytes) -> NDArray[np.uint16]:
    """All 16 bits of a PNG without alpha, (H, W, C).

    Of colours Pillow delivers only the high bytes, so it is asked for the low ones too.
    """
    if facts.grey:
        return np.asarray(image).astype(np.uint16)[:, :, None]
    with _opened(facts, data) as other:
        if [tile[3] for tile in other.tile] != ["RGB;16B"]:
            raise ImageError("16-bit colours with a transparent one, which the installed Pillow does not deliver")
        # The order of bytes is reversed here, so that the byte thrown away is the high one.
        other.tile = [ImageFile._Tile(tile[0], tile[1], tile[2], "RGB;16L") for tile in other.tile]
        other.load()
        high, low = np.asarray(image).astype(np.uint16), np.asarray(other).astype(np.uint16)
        return high * np.uint16(256) + low


_lock, _inside, _before = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS


@contextlib.contextmanager
def _unlimited(pixels: int) -> Iterator[None]:
    """Lifts Pillow's own limit while pictures are decoded that are within our limit and beyond
    Pillow's.

    Most decoders do not look at it when they are made by name. Those of WebP, GIF and TIFF's tiles
    do.
    """
    global _inside, _before
    with _lock:
        limit = _before if _inside else Image.MAX_IMAGE_PIXELS
        lifted = limit is not None and pixels > limit
        if lifted:
            _before, _inside = limit, _inside + 1
            Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        if lifted:
            with _lock:
                _inside -= 1
                if _inside == 0:
                    Image.MAX_IMAGE_PIXELS = _before


def blob(value: Any) -> bytes | None:
    data: bytes = value.encode() if isinstance(value, str) else bytes(value or b"")
    return data.removeprefix(b"Exif\0\0") or None
