"""An alpha plane to the payload of its chunk, and back. Filters go over whole planes, so they are
NumPy's.
"""

import zlib

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import DamagedError

Plane = NDArray[np.uint8]  # (H, W), 255 is opaque

_CONSTANT, _PLAIN, _LEFT, _UP, _BOTH = 0, 1, 2, 3, 4


def pack_alpha(alpha: Plane) -> bytes:
    """An alpha plane, uint8 (H, W), losslessly: one byte that names the filter, then the value of a
    constant plane, or the filtered plane in zlib's format. Of the four filters the shortest result
    is taken, the first of equals.
    """
    if (alpha == alpha.flat[0]).all():
        return bytes([_CONSTANT, int(alpha.flat[0])])
    candidates = [
        bytes([kind]) + zlib.compress(_filtered(alpha, kind).tobytes(), 9) for kind in (_PLAIN, _LEFT, _UP, _BOTH)
    ]
    return min(candidates, key=len)


def unpack_alpha(data: bytes, height: int, width: int) -> Plane:
    """The alpha plane, uint8 (height, width). Allocates nothing beyond it: a plane that would
    unpack to more is refused.

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


def _filtered(alpha: Plane, kind: int) -> Plane:
    """Differences modulo 256 to the left neighbour, to the one above, or one after the other."""
    if kind in (_LEFT, _BOTH):
        alpha = np.diff(alpha, axis=1, prepend=np.uint8(0)).astype(np.uint8)
    if kind in (_UP, _BOTH):
        alpha = np.diff(alpha, axis=0, prepend=np.uint8(0)).astype(np.uint8)
    return alpha
