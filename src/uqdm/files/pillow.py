"""Pillow images to pictures: from their file if there is one that `read` reads, otherwise from
memory.
"""

import os
import sys
import warnings

import numpy as np
from PIL import Image, ImageFile

from uqdm.errors import ImageError
from uqdm.files.decoding import blob
from uqdm.files.reading import TAKEN, read
from uqdm.picture import Picture, from_array

OURS = "UQDM"  # Pillow's name of the format


def is_pillow(value: object) -> bool:
    """Whether `value` is a Pillow image."""
    return isinstance(value, Image.Image)


def from_pillow(image: Image.Image) -> Picture:
    """A picture from a Pillow image of mode L, LA, RGB or RGBA, with its transparency and metadata.

    If it was opened from a file and not changed, it is read from that file, so that nothing is lost
    on the way. A .uqdm file loses nothing in Pillow (`uqdm.pillow`), so it is taken as it was
    loaded: what was cut is a preview. Raises `ImageError` for other modes, for what cannot be
    loaded, and if nobody can tell any more what the file held. A warning names what is not carried.
    """
    foreign = image.format != OURS
    picture = _from_file(image) if isinstance(image, ImageFile.ImageFile) and foreign else _from_memory(image)
    if picture.dropped:
        warnings.warn(f"not carried: {', '.join(picture.dropped)}", stacklevel=3)
    return picture


def _from_file(image: ImageFile.ImageFile) -> Picture:
    """If the image still stands for its file, that file, read again."""
    source = _source_of(image)
    if source is None:
        raise ImageError(
            f"the Pillow image was loaded from a {image.format} file, which is closed, and Pillow does not tell whether"
            " that held more than 8 bits or other channels: give the file, or image.copy() for the pixels as Pillow"
            " has them"
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
        raise ImageError(
            f"the Pillow image has {why} (mode {image.mode}); {TAKEN}: convert it first, with image.convert"
        )
    try:
        image.load()
    except OSError as error:
        raise ImageError(f"the Pillow image cannot be loaded: {error}") from error
    grey = image.mode in ("L", "LA")
    bare = from_array(np.asarray(image.convert("LA" if grey else "RGBA") if "transparency" in image.info else image))
    info = image.info
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    return Picture(bare.pixels, bare.alpha, blob(info.get("icc_profile")), blob(info.get("exif")), blob(xmp))
