"""What callers give to a codec: pictures of several kinds, and numbers. Each is checked, and errors
say what was expected.
"""

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from uqdm.errors import ImageError
from uqdm.picture import Picture, from_array


def pictures(image: Any) -> tuple[list[Picture], bool]:
    """One picture or an iterable of pictures, which is gone through once; and whether it was a
    batch.
    """
    one = isinstance(image, Picture) or _is_pillow(image) or (isinstance(image, np.ndarray) and image.ndim != 4)
    if (
        one
        or isinstance(image, str | bytes | bytearray | memoryview)
        or hasattr(image, "detach")
        or not isinstance(image, Iterable)
    ):
        return [_picture(image)], False
    return [_picture(one) for one in image], True


def whole(name: str, value: Any, least: int) -> int:
    """A whole number, Python's or NumPy's. Raises `TypeError` for what is none, `ValueError` for
    one below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} {value!r}; expected a whole number of {least} or more")
    if value < least:
        raise ValueError(f"{name} {value}; expected {least} or more")
    return int(value)


def seed(value: Any) -> None:
    """`TypeError` or `ValueError` for what is no number of 64 bits."""
    if whole("seed", value, 0) >= 1 << 64:
        raise ValueError(f"seed {value}; expected 0 to 2**64 - 1")


def share(name: str, value: Any) -> None:
    """`ValueError` for what is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or not 0 <= value <= 1:
        raise ValueError(f"{name} {value!r}; expected 0 .. 1")


def _is_pillow(image: Any) -> bool:
    """Whoever has a Pillow image has imported Pillow; nobody else needs it here."""
    if "PIL.Image" not in sys.modules:
        return False
    from uqdm import files

    return files.is_pillow(image)


def _picture(image: Any) -> Picture:
    if isinstance(image, Picture):
        return image
    if isinstance(image, np.ndarray):
        return from_array(image)
    if _is_pillow(image):
        from uqdm import files

        return files.from_pillow(image)
    found = "a tensor; give image.numpy() as (H, W, 3)" if hasattr(image, "detach") else type(image).__name__
    raise ImageError(
        f"expected a Picture, a Pillow image or a uint8 array (H, W), (H, W, 3) or (H, W, 4), found {found}"
    )
