"""Floats to integers: the nearest level, the nearest point of a grid as fine as the scale asks for,
at any offset.
"""

import numpy as np
import pytest

from uqdm.entropy import tables
from uqdm.families.uqdm import rounding

WIDE = np.full((1, 1, 1), 30, np.int64)


def rounded(location, log2_scale, offset=0, coarsest=WIDE):  # type: ignore[no-untyped-def]
    shape = (1, 1, 1, -1)
    found = rounding.rounded(np.reshape(location, shape), np.reshape(log2_scale, shape), coarsest, [bytes([offset])])
    return found[0].reshape(-1), found[1].reshape(-1)


@pytest.mark.parametrize("offset", [0, 1, 100, 255])
def test_levels_are_the_nearest_but_for_the_offset(offset: int) -> None:
    log2 = np.linspace(-6, 12, 1001)
    level = rounded(np.zeros(1001), log2, offset)[1].astype(float)
    inside = (log2 > -5) & (log2 < 10.7)
    assert np.abs(level / 8 - 5 - log2 - offset / 2048)[inside].max() <= 1 / 16 + 1e-12
    assert level.min() == 0
    assert level.max() == tables.LEVELS - 1


@pytest.mark.parametrize("offset", [0, 1, 100, 255])
def test_locations_are_within_half_a_grid(offset: int) -> None:
    location = np.random.default_rng(0).uniform(-300, 300, 1000)
    found, level = rounded(location, np.full(1000, 0.375), offset)
    assert (level == 43 + (offset > 128)).all()
    assert np.abs(found / 2**16 - location).max() <= 2.0 ** (43 // 8 - 5) / 16 + 2**-15
    coarse, _ = rounded(location, np.full(1000, 10.0), offset, np.full((1, 1, 1), 12, np.int64))
    assert np.abs(coarse / 2**16 - location).max() <= 2**12 / 2**16 / 2 + 2**-15


def test_absurd_locations_are_limited() -> None:
    assert (rounded([1e300, -1e300], [0.0, 0.0])[0] >> 16).tolist() == [2**13, -(2**13)]


def test_margins_see_a_value_on_a_boundary_and_an_offset_moves_it_away() -> None:
    location, scale = np.full((1, 1, 1), 0.5 / 8 * 2.0**0), np.zeros((1, 1, 1))
    assert rounding.margin(location, scale, WIDE, 0) == 0
    assert rounding.margin(location, scale, WIDE, 1) == pytest.approx(1 / 256)
    assert rounding.margin(np.zeros((1, 1, 1)), np.full((1, 1, 1), 1 / 16), WIDE, 0) == 0
