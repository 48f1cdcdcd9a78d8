"""Pictures as uint8 arrays, and alpha planes as bytes. NumPy only; knows no picture file, no Pillow and no model."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import DamagedError, ImageError

Bytes8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels and what came with them.

    `pixels`: uint8 (H, W, C), C = 1 (grey) or 3 (RGB). `alpha`: uint8 (H, W), 255 is opaque, or None. `icc`, `exif` (from its TIFF
    header on), `xmp`: as found in the file, or None. `dropped`: what else the file held, by name; it is not carried. Raises
    `ImageError` for arrays of other shapes or types.
    """

    pixels: Bytes8
    alpha: Bytes8 | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise ImageError(f"pixels are {self.pixels.dtype} of shape {shape}; expected uint8 (H, W, 1) or (H, W, 3), not empty")
        if self.alpha is not None and (self.alpha.dtype != np.uint8 or self.alpha.shape != shape[:2]):
            raise ImageError(f"alpha is {self.alpha.dtype} of shape {self.alpha.shape}; expected uint8 {shape[:2]}")


def from_array(array: NDArray[Any]) -> Picture:
    """A picture from uint8 (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB and alpha.

    Raises `ImageError` for other shapes and for other types, which are never converted: a float image may mean anything.
    """
    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise ImageError(f"the array is {array.dtype}; expected uint8, 0 to 255")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or 0 in array.shape:
        raise ImageError(f"the array has shape {array.shape}; expected (H, W) or (H, W, C) with C from 1 to 4, not empty")
    channels = 1 if array.shape[2] <= 2 else 3
    has_alpha = array.shape[2] in (2, 4)
    return Picture(np.ascontiguousarray(array[:, :, :channels]), np.ascontiguousarray(array[:, :, -1]) if has_alpha else None)


def to_array(picture: Picture) -> Bytes8:
    """uint8 (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, or (H, W, 4) RGB and alpha."""
    if picture.alpha is not None:
        return np.concatenate([picture.pixels, picture.alpha[:, :, None]], axis=2)
    return picture.pixels[:, :, 0] if picture.pixels.shape[2] == 1 else picture.pixels


# --- alpha -----------------------------------------------------------------------------------------------------------------------

_CONSTANT, _PLAIN, _LEFT, _UP, _BOTH = 0, 1, 2, 3, 4


def pack_alpha(alpha: Bytes8) -> bytes:
    """An alpha plane, uint8 (H, W), losslessly: one byte that names the filter, then the value of a constant plane, or the filtered
    plane in zlib's format. Of the four filters the shortest result is taken, the first of equals."""
    if (alpha == alpha.flat[0]).all():
        return bytes([_CONSTANT, int(alpha.flat[0])])
    candidates = [bytes([kind]) + zlib.compress(_filtered(alpha, kind).tobytes(), 9) for kind in (_PLAIN, _LEFT, _UP, _BOTH)]
    return min(candidates, key=len)


def unpack_alpha(data: bytes, height: int, width: int) -> Bytes8:
    """The alpha plane, uint8 (height, width). Allocates nothing beyond it: a plane that would unpack to more is refused.

    Raises `DamagedError`: unknown filter, broken data, too few or too many values.
    """
    kind = data[0] if data else -1
    if kind == _CONSTANT and len(data) == 2:
        return np.full((height, width), data[1], np.uint8)
    if kind not in (_PLAIN, _LEFT, _UP, _BOTH):
        raise DamagedError(f"alpha plane: unknown filter {kind}, or a length of {len(data)} that does not fit it")
    size = height * width
    unpacker = zlib.decompressobj()
    try:
        values = unpacker.decompress(data[1:], size + 1)
    except zlib.error as error:
        raise DamagedError(f"alpha plane: broken data ({error})") from error
    if len(values) != size or not unpacker.eof or unpacker.unused_data:
        raise DamagedError(f"alpha plane: {len(values)} values or data left over; expected exactly {size} values")
    plane = np.frombuffer(values, np.uint8).reshape(height, width)
    if kind in (_LEFT, _BOTH):
        plane = np.cumsum(plane, axis=1, dtype=np.uint8)  # wraps at 256, as the differences did
    if kind in (_UP, _BOTH):
        plane = np.cumsum(plane, axis=0, dtype=np.uint8)
    return plane.copy() if kind == _PLAIN else plane


def _filtered(alpha: Bytes8, kind: int) -> Bytes8:
    """Differences modulo 256 to the left neighbour, to the one above, or one after the other."""
    if kind in (_LEFT, _BOTH):
        alpha = np.diff(alpha, axis=1, prepend=np.uint8(0)).astype(np.uint8)
    if kind in (_UP, _BOTH):
        alpha = np.diff(alpha, axis=0, prepend=np.uint8(0)).astype(np.uint8)
    return alpha
