"""How a float network's suggestions become integers that both ends agree on; knows no model.

Two machines compute almost the same floats. A value is rounded to a grid, and the encoder chooses
an offset of the grids (one byte) for which no value lies near a rounding boundary. So a small
difference between machines changes nothing.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.tables import FRACTION, LEVELS, LEVELS_PER_OCTAVE, LOWEST_OCTAVE
from uqdm.families.boxes import Integers

Floats = NDArray[np.float64]
MARGIN = 2.0**-28  # of a grid's step: no float may lie so near a rounding boundary; 64-bit drift is a thousandth of it
OFFSETS = 256


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A network's output as integers, (N, C, H, W): location in 2**-16 pixel values, scale level.
    `side`: how they were rounded.
    """

    location: NDArray[np.int32]
    level: NDArray[np.uint8]
    side: tuple[bytes, ...]


def coarsest(widths: Sequence[int]) -> Integers:
    """(C, 1, 1) the coarsest grid of locations: an eighth of the interval's width, as a power of
    two of 2**-16.
    """
    return np.array([int(w).bit_length() - 4 for w in widths], np.int64)[:, None, None]


def chosen(location: Floats, log2_scale: Floats, coarsest: Integers) -> bytes:
    """For one picture (C, H, W) the first offset, one byte, that leaves every float at least MARGIN
    from where its rounding changes.

    Where there is none, it is the one with the widest margin.
    """
    margins = []
    for offset in range(OFFSETS):
        margins.append(margin(location, log2_scale, coarsest, offset))
        if margins[-1] >= MARGIN:
            break
    return bytes([int(np.argmax(margins))])


def _levels(log2_scale: Floats, offset: float) -> Floats:
    """Scale levels before rounding: eight to the octave."""
    return (log2_scale - LOWEST_OCTAVE) * LEVELS_PER_OCTAVE + offset


def _nearest(levels: Floats) -> Integers:
    return np.clip(np.rint(levels), 0, LEVELS - 1).astype(np.int64)


def _on_grid(location: Floats, level: Integers, coarsest: Integers, offset: float) -> tuple[Floats, Integers]:
    """Locations in steps of their grids, before rounding, and the steps as powers of two of 2**-16
    pixel values.

    A grid of an eighth of the scale's octave (at most 2**coarsest) costs almost no bits, and keeps
    the chance that two machines round a float to different sides in proportion to their drift.
    """
    step = np.minimum(level // LEVELS_PER_OCTAVE + (LOWEST_OCTAVE + FRACTION - 3), coarsest)
    bounded = np.clip(location, -(2.0**13), 2.0**13)
    return np.ldexp(bounded, (FRACTION - step).astype(np.int32)) + offset, step


def margin(location: Floats, log2_scale: Floats, coarsest: Integers, offset: int) -> float:
    """How near the nearest value comes to where its rounding changes, in steps of its grid;
    0 .. 1/2.
    """
    levels = _levels(log2_scale, offset / OFFSETS)
    positions, _ = _on_grid(location, _nearest(levels), coarsest, offset / OFFSETS)
    return min(float(np.abs(a - np.floor(a) - 0.5).min()) for a in (levels, positions))


def rounded(
    location: Floats, log2_scale: Floats, coarsest: Integers, side: Sequence[bytes]
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Floats (N, C, H, W) to integers, each picture with its offset."""
    locations, levels = np.empty(location.shape, np.int32), np.empty(location.shape, np.uint8)
    for i, one in enumerate(side):
        level = _nearest(_levels(log2_scale[i], one[0] / OFFSETS))
        positions, step = _on_grid(location[i], level, coarsest, one[0] / OFFSETS)
        # The rounding's boundaries move, its values hardly: what the offset adds is taken off
        # again.
        locations[i] = (np.rint(positions).astype(np.int64) << step) - ((one[0] << step) // OFFSETS)
        levels[i] = level
    return locations, levels
