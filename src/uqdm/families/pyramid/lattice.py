"""The family's lattice: the reversible 5/3 wavelet, the ranges of its coefficients, the widths of
cells; NumPy integers only.

A picture in YCoCg-R is split `levels` times. Level 1 is the finest. A field of h x w becomes a
low-pass LL of ceil(h/2) x ceil(w/2) and three bands: HL (high-pass along rows) of ceil(h/2) x
floor(w/2), LH of floor(h/2) x ceil(w/2), HH of floor(h/2) x floor(w/2). The rows are split last and
joined first, as in JPEG 2000 (ISO 15444-1, annex F).
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BANDS = ("HL", "LH", "HH")  # in the order in which a level sends them
MOST_LEVELS = 6
SMALLEST = 2  # pixels: a field whose longer side is no larger is not split again
# What an error of 1 in a coefficient of HL (or LH) and of HH does to the picture, the root of the
# sum of squares; levels 1 to 6.
NORMS = (
    (1.038, 0.719), (1.592, 0.922), (2.919, 1.586), (5.703, 3.043), (11.33, 6.019), (22.64, 12.01),
)  # fmt: skip
FACTORS = (1.0, 2.449, 2.0)  # of widths of Y, Co, Cg: then each makes the same error in RGB

Array = NDArray[Any]
Widths = tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]  # [step][level - 1][band][channel]


def levels(height: int, width: int) -> int:
    """How many times a picture is split: until its longer side is at most SMALLEST, at most
    MOST_LEVELS.
    """
    side, count = max(height, width), 0
    while count < MOST_LEVELS and side > SMALLEST:
        side, count = (side + 1) // 2, count + 1
    return count


def shapes(height: int, width: int, count: int) -> list[tuple[int, int]]:
    """(h, w) of the picture and of the low-pass of levels 1, ..., `count`."""
    found = [(height, width)]
    for _ in range(count):
        found.append(((found[-1][0] + 1) // 2, (found[-1][1] + 1) // 2))
    return found


# --- the transform


def _split(a: Array, axis: int) -> tuple[Array, Array]:
    """-> low and high along an axis, -1 or -2, of int32. The picture is continued by mirroring, without
    repeating its edge.
    """
    a = a.swapaxes(axis, -1)
    even, odd = a[..., ::2], a[..., 1::2]
    if not odd.shape[-1]:
        return even.copy().swapaxes(axis, -1), odd.copy().swapaxes(axis, -1)
    high = odd - ((even[..., : odd.shape[-1]] + _right(even, odd.shape[-1])) >> 1)
    before, behind = _sides(high, even.shape[-1])
    low = even + ((before + behind + 2) >> 2)
    return low.swapaxes(axis, -1), high.swapaxes(axis, -1)


def _join(low: Array, high: Array, axis: int, bits: int = 0) -> Array:
    """Inverse of `_split`; with `bits`, of best guesses that have as many behind the point
    (`level_up_values`).
    """
    even_less, odd_less, half = (1 << (bits - 3), 1 << (bits - 2), 1) if bits else (0, 0, 0)
    low, high = low.swapaxes(axis, -1), high.swapaxes(axis, -1)
    found = np.empty((*low.shape[:-1], low.shape[-1] + high.shape[-1]), low.dtype)
    if not high.shape[-1]:
        found[...] = low
        return found.swapaxes(axis, -1)
    before, behind = _sides(high, low.shape[-1])
    even = low - ((before + behind + 2) >> 2) - even_less
    found[..., ::2] = even
    found[..., 1::2] = high + ((even[..., : high.shape[-1]] + _right(even, high.shape[-1]) + half) >> 1) - odd_less
    return found.swapaxes(axis, -1)


def _right(even: Array, count: int) -> Array:
    """The even sample to the right of each of `count` odd ones."""
    return even[..., 1:] if even.shape[-1] > count else np.concatenate([even[..., 1:], even[..., -1:]], -1)


def _sides(high: Array, count: int) -> tuple[Array, Array]:
    """The odd samples to the left and right of each of `count` even ones."""
    before = np.concatenate([high[..., :1], high], -1)[..., :count]
    behind = high if high.shape[-1] == count else np.concatenate([high, high[..., -1:]], -1)
    return before, behind


def forward(v: Array, count: int) -> tuple[Array, list[tuple[Array, Array, Array]]]:
    """Integers (..., H, W) -> the last low-pass, and HL, LH, HH of levels 1, ..., `count`, all
    int32.
    """
    low, bands = v.astype(np.int32), []
    for _ in range(count):
        top, bottom = _split(low, -2)
        (low, hl), (lh, hh) = _split(top, -1), _split(bottom, -1)
        bands.append((hl, lh, hh))
    return low, bands


def level_up(low: Array, bands: tuple[Array, Array, Array]) -> Array:
    """One level of the inverse: LL, (HL, LH, HH) -> the finer field."""
    hl, lh, hh = bands
    return _join(_join(low, hl, -1), _join(lh, hh, -1), -2)


def inverse(low: Array, bands: Sequence[tuple[Array, Array, Array]]) -> Array:
    """Inverse of `forward`."""
    for level in reversed(bands):
        low = level_up(low, level)
    return low


def level_up_values(low: Array, bands: tuple[Array, Array, Array], bits: int) -> Array:
    """One level of the inverse for best guesses, integers with `bits` (3 or more) behind the point.

    `level_up` rounds in whole values: on average it adds 1/2 less 3/8 to what an even sample loses,
    and takes 1/4 from an odd one. A guess with bits is hardly rounded, so 1/8 and 1/4 are taken off
    here in its place.
    """
    hl, lh, hh = bands
    return _join(_join(low, hl, -1, bits), _join(lh, hh, -1, bits), -2, bits)


# --- details side by side


def sides(finer: tuple[int, int], band: int) -> tuple[int, int]:
    """(h, w) of a band of the level that makes a field of size `finer`."""
    h, w = finer
    return (h // 2 if band else (h + 1) // 2), ((w + 1) // 2 if band == 1 else w // 2)


def side_by_side(bands: tuple[Array, Array, Array]) -> Array:
    """HL, LH, HH (N, C, ., .) -> (N, 3 C, h, w), h and w the low-pass image's; a shorter band
    repeats its edge, an empty one is 0.
    """
    hl, lh, hh = bands
    n, c = hl.shape[:2]
    h, w = hl.shape[2], lh.shape[3]
    found = np.zeros((n, 3 * c, h, w), hl.dtype)
    for k, band in enumerate((hl, lh, hh)):
        found[:, k * c : (k + 1) * c, : band.shape[2], : band.shape[3]] = band
        repeat_edge(found[:, k * c : (k + 1) * c], band.shape[2:])
    return found


def repeat_edge(field: Array, size: tuple[int, ...]) -> None:
    """Puts the last row and column of the first `size` of a field (..., h, w) into the one behind
    it, where there is one, in place.
    """
    rows, columns = size
    if 0 < columns < field.shape[-1]:
        field[..., columns] = field[..., columns - 1]
    if 0 < rows < field.shape[-2]:
        field[..., rows, :] = field[..., rows - 1, :]


def apart(details: Array, finer: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Inverse of `side_by_side`, views."""
    c = details.shape[1] // 3
    hl, lh, hh = (details[:, k * c : (k + 1) * c, : sides(finer, k)[0], : sides(finer, k)[1]] for k in range(3))
    return hl, lh, hh


# --- ranges and widths

_Y = (
    (383, 510),
    (519, 796),
    (592, 965),
    (608, 1004),
    (615, 1015),
    (620, 1031),
)  # attained by extreme pictures: HL and LH, HH
_C = ((765, 1020), (1037, 1594), (1185, 1930), (1214, 2007), (1229, 2029), (1240, 2060))
_LOW_Y = (
    (0, 255),
    (-158, 415),
    (-208, 465),
    (-235, 491),
    (-239, 495),
    (-243, 500),
    (-244, 502),
)  # of LL by level, from the picture itself
_LOW_C = ((-255, 255), (-575, 575), (-675, 675), (-727, 727), (-735, 735), (-744, 744), (-750, 750))
MARGIN = 64  # beyond what extreme pictures were seen to attain


def detail_range(level: int, band: int, channel: int) -> int:
    """Details lie in -r .. r; this is r."""
    table = _Y if channel == 0 else _C
    return table[level - 1][1 if band == 2 else 0] + MARGIN


def low_range(level: int, channel: int) -> tuple[int, int]:
    """Ends of the last low-pass, of level `level`; level 0 is the picture itself."""
    low, high = (_LOW_Y if channel == 0 else _LOW_C)[level]
    return (low, high) if level == 0 else (low - MARGIN, high + MARGIN)


@functools.cache
def widths(bases: tuple[int, ...]) -> Widths:
    """Of cells after each step, by level, band and channel: about base * factor / norm, each a
    multiple of the next step's.

    `bases`: of the steps, decreasing, the last one 1: that step's widths are all 1. From there
    upward each width is the one below it times the integer that brings it nearest to its target, so
    that rounding does not pile up.
    """
    if bases[-1:] != (1,) or any(a <= b for a, b in itertools.pairwise(bases)):
        raise ValueError(f"base widths are {bases}; expected them to decrease to 1")
    rows: list[list[list[list[int]]]] = [[[[1] * 3 for _ in BANDS] for _ in NORMS]]
    for base in reversed(bases[:-1]):
        rows.insert(
            0,
            [
                [[nearest(rows[0][i][b][c], base * f / norms[b == 2]) for c, f in enumerate(FACTORS)] for b in range(3)]
                for i, norms in enumerate(NORMS)
            ],
        )
    return tuple(tuple(tuple(tuple(channels) for channels in bands) for bands in levels) for levels in rows)


def nearest(unit: int, target: float) -> int:
    return unit * max(1, round(target / unit))
