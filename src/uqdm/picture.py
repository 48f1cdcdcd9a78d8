"""Pictures as uint8 arrays. NumPy only; knows no picture file, no Pillow and no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import ImageError

Bytes8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels and what came with them.

    `pixels`: uint8 (H, W, C), C = 1 (grey) or 3 (RGB). `alpha`: uint8 (H, W), 255 is opaque, or
    None. `icc`, `exif` (from its TIFF header on), `xmp`: as found in the file, or None. `dropped`:
    what else the file held, by name; it is not carried. Raises `ImageError` for arrays of other
    shapes or types.
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
            raise ImageError(
                f"pixels are {self.pixels.dtype} of shape {shape}; expected uint8 (H, W, 1) or (H, W, 3), not empty"
            )
        if self.alpha is not None and (self.alpha.dtype != np.uint8 or self.alpha.shape != shape[:2]):
            raise ImageError(f"alpha is {self.alpha.dtype} of shape {self.alpha.shape}; expected uint8 {shape[:2]}")

    @property
    def grey(self) -> bool:
        """Whether there is one channel instead of three."""
        return bool(self.pixels.shape[2] == 1)


def from_array(array: NDArray[Any]) -> Picture:
    """A picture from uint8 (H, W) or (H, W, 1) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H,
    W, 4) RGB and alpha.

    Raises `ImageError` for other shapes and for other types, which are never converted: a float
    image may mean anything.
    """
    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise ImageError(f"the array is {array.dtype}; expected uint8, 0 to 255")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or 0 in array.shape:
        raise ImageError(
            f"the array has shape {array.shape}; expected (H, W) or (H, W, C) with C from 1 to 4, not empty"
        )
    channels = 1 if array.shape[2] <= 2 else 3
    has_alpha = array.shape[2] in (2, 4)
    return Picture(
        np.ascontiguousarray(array[:, :, :channels]), np.ascontiguousarray(array[:, :, -1]) if has_alpha else None
    )


def to_array(picture: Picture) -> Bytes8:
    """uint8 (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, or (H, W, 4) RGB and alpha."""
    if picture.alpha is not None:
        return np.concatenate([picture.pixels, picture.alpha[:, :, None]], axis=2)
    return picture.pixels[:, :, 0] if picture.grey else picture.pixels


def stacked(pictures: Sequence[Picture]) -> Bytes8:
    """The pixels of pictures of one size, (N, 3, H, W). Grey ones are there three times."""
    stack = np.stack([p.pixels for p in pictures]).transpose(0, 3, 1, 2)
    return np.repeat(stack, 3, 1) if stack.shape[1] == 1 else stack


def halved(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) -> means of 2 x 2, sides rounded up; an odd last row or column stands twice."""
    h, w = plane.shape
    whole = np.pad(plane, ((0, h % 2), (0, w % 2)), "edge").astype(np.uint16)
    return ((whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2] + 2) // 4).astype(np.uint8)
