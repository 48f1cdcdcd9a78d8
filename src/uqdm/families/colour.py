"""Pixels to the coordinates that a model codes, and back; knows nothing of models.

A colour space is the identity or YCoCg-R (Malvar & Sullivan 2003), which is reversible in integers: Y keeps 0 .. 255,
Co and Cg take -255 .. 255. Previews come back from real-valued coordinates by the same transform without its rounding.
"""

import numpy as np
from numpy.typing import NDArray

LOWEST = {"rgb": (0, 0, 0), "ycocg-r": (0, -255, -255)}
HIGHEST = {"rgb": (255, 255, 255), "ycocg-r": (255, 255, 255)}


def forward(rgb: NDArray[np.uint8], space: str) -> NDArray[np.int32]:
    """(N, 3, H, W) pixels -> (N, 3, H, W) integer coordinates of `space`."""
    x = rgb.astype(np.int32)
    if space == "rgb":
        return x
    r, g, b = x[:, 0], x[:, 1], x[:, 2]
    co = r - b
    t = b + (co >> 1)
    cg = g - t
    return np.stack([t + (cg >> 1), co, cg], 1)


def inverse(values: NDArray[np.int32], space: str) -> NDArray[np.uint8]:
    """Exact inverse of `forward`."""
    if space != "rgb":
        y, co, cg = values[:, 0], values[:, 1], values[:, 2]
        t = y - (cg >> 1)
        b = t - (co >> 1)
        values = np.stack([b + co, cg + t, b], 1)
    # Values that no picture has (only damaged or sampled streams make them) must not wrap around.
    return np.clip(values, 0, 255).astype(np.uint8)


def preview(values: NDArray[np.float64], space: str) -> NDArray[np.uint8]:
    """Pixels nearest to real-valued coordinates: (N, 3, H, W) -> uint8 (N, 3, H, W)."""
    if space != "rgb":
        # The integer transform floors two halves, which takes 1/4 off on average; without it previews would be off too.
        y, co, cg = values[:, 0], values[:, 1], values[:, 2]
        t = y - cg / 2 + 0.25
        b = t - co / 2 + 0.25
        values = np.stack([b + co, cg + t, b], 1)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
