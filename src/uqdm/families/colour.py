"""Pixels to the coordinates that a model codes, and back; knows nothing of models.

A colour space is the identity or YCoCg-R (Malvar & Sullivan 2003), which is reversible in integers:
Y keeps 0 .. 255, Co and Cg take -255 .. 255. Previews come back from coordinates in 2**-16 by the
same transform without its rounding: all of it in integers.
"""

import numpy as np
from numpy.typing import NDArray

LOWEST = {"rgb": (0, 0, 0), "ycocg-r": (0, -255, -255)}
HIGHEST = {"rgb": (255, 255, 255), "ycocg-r": (255, 255, 255)}


def forward(rgb: NDArray[np.uint8], space: str) -> NDArray[np.int16]:
    """(N, 3, H, W) pixels -> (N, 3, H, W) integer coordinates of `space`."""
    x = rgb.astype(np.int16)
    if space == "rgb":
        return x
    r, g, b = x[:, 0], x[:, 1], x[:, 2]
    co = r - b
    t = b + (co >> 1)
    cg = g - t
    return np.stack([t + (cg >> 1), co, cg], 1)


def inverse(values: NDArray[np.int16], space: str) -> NDArray[np.uint8]:
    """Exact inverse of `forward`."""
    if space != "rgb":
        y, co, cg = values[:, 0], values[:, 1], values[:, 2]
        t = y - (cg >> 1)
        b = t - (co >> 1)
        values = np.stack([b + co, cg + t, b], 1)
    # Values that no picture has (only damaged or sampled streams make them) must not wrap around.
    return np.clip(values, 0, 255).astype(np.uint8)


def preview(positions: NDArray[np.int32], space: str) -> NDArray[np.uint8]:
    """Pixels nearest to coordinates in 2**-16: (N, 3, H, W) int32 -> uint8 (N, 3, H, W)."""
    if space == "rgb":
        return _pixels(positions)
    out = np.empty(positions.shape, np.uint8)
    # The integer transform floors two halves, which takes 1/4 off on average; without it previews
    # would be off too.
    quarter = np.int32(1 << 14)
    for pixels, (y, co, cg) in zip(out, positions):
        t = y - (cg >> 1) + quarter
        pixels[1] = _pixels(cg + t)
        t -= co >> 1
        t += quarter
        pixels[2] = _pixels(t)
        t += co
        pixels[0] = _pixels(t)
    return out


def _pixels(positions: NDArray[np.int32]) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = np.clip((positions + np.int32(1 << 15)) >> 16, 0, 255).astype(np.uint8)
    return found


def errors(spans: tuple[int, int, int], space: str) -> tuple[int, int, int]:
    """How far R, G and B of a preview can be from the true ones, where coordinates are at most
    `spans` apart.

    In YCoCg-R G = Y + ceil(Cg / 2), B = Y - floor(Cg / 2) - floor(Co / 2) and R = B + Co; `preview`
    has the same without floors, plus a quarter for each, and rounds: for G at most 3/4 besides the
    spans' halves, for B and R at most 1.
    """
    if space == "rgb" or not any(spans):
        return spans
    y, co, cg = spans
    red_blue = min(255, y + (co + cg) // 2 + 1)
    return red_blue, min(255, y + -(-cg // 2)), red_blue
