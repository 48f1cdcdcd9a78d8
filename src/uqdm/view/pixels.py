"""Pixels for a page: as PNG, the right way up, and how far two pictures are apart. Knows no file of
ours.
"""

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uqdm import quality
from uqdm.files import ifd
from uqdm.picture import Picture

Pixels = NDArray[np.uint8]


def rgb(pixels: Pixels) -> Pixels:
    """(H, W, 3) of (H, W, 1) or (H, W, 3)."""
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def decibels(a: Pixels, b: Pixels) -> float:
    """PSNR of two pictures (H, W, 1) or (H, W, 3), over all values; alpha does not count."""
    if a.shape != b.shape:
        a, b = rgb(a), rgb(b)
    return quality.psnr(quality.mse(a, b))


def orientation(exif: bytes | None) -> int:
    """How a picture was held, by its EXIF: 1 to 8, and 1 where it does not say."""
    try:
        tree, _ = ifd.exif_tree(exif or b"")
        entry = tree.get(ifd.ORIENTATION)
        found = entry.numbers()[0] if isinstance(entry, ifd.Entry) and entry.count == 1 else 1
    except (ValueError, IndexError, struct.error):  # broken EXIF is no reason to show nothing
        return 1
    return found if 1 <= found <= 8 else 1


def turned(array: Pixels, how: int) -> Pixels:
    """An array (H, W, ...) the right way up (see `orientation`)."""
    if how >= 5:
        array = array.swapaxes(0, 1)
    if how in (3, 4, 7, 8):
        array = array[::-1]
    if how in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def png(array: Pixels, how: int = 1, icc: bytes | None = None) -> bytes:
    """A PNG file of (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), right way up, quickly made."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(turned(array, how))).save(out, "PNG", compress_level=1, icc_profile=icc)
    return out.getvalue()


def plain(picture: Picture) -> int:
    """Bytes that a picture takes."""
    return picture.pixels.nbytes + (picture.alpha.nbytes if picture.alpha is not None else 0)
