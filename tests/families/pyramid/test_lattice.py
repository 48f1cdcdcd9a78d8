"""The wavelet comes back at every size, its coefficients keep to their ranges, and cells of all
bands weigh alike.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqdm.families import colour
from uqdm.families.pyramid import lattice

BASES = (64, 32, 16, 4, 1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_every_picture_comes_back_from_its_coefficients(height: int, width: int, seed: int) -> None:
    count = lattice.levels(height, width)
    v = np.random.default_rng(seed).integers(-255, 256, (2, 3, height, width))
    low, bands = lattice.forward(v, count)
    assert low.shape[2:] == lattice.shapes(height, width, count)[-1]
    assert (lattice.inverse(low, bands) == v).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (5, 5), (64, 96)])
def test_details_side_by_side_come_apart_again(size: tuple[int, int]) -> None:
    v = np.random.default_rng(1).integers(-255, 256, (1, 3, *size))
    _, bands = lattice.forward(v, lattice.levels(*size))
    for level, finer in zip(bands, lattice.shapes(*size, len(bands))):
        for band, back in zip(level, lattice.apart(lattice.side_by_side(level), finer)):
            assert (band == back).all()


def test_a_picture_is_split_until_two_pixels_are_left_or_six_times() -> None:
    assert [lattice.levels(*size) for size in [(1, 1), (2, 2), (3, 1), (64, 64), (65, 64), (4000, 3)]] == [
        0,
        0,
        1,
        5,
        6,
        6,
    ]


def test_coefficients_of_extreme_pictures_keep_to_their_ranges() -> None:
    """Black and white in the pattern of each coefficient's own filter, which drives it as far as
    pictures can.
    """
    random = np.random.default_rng(0)
    for level in range(1, 4):
        side = 8 << level
        for band in range(3):
            for channel in range(3):
                # Which way each pixel moves this coefficient, from random pictures one pixel apart
                # in value.
                probe = np.zeros((1, 3, side, side), np.int32)
                low, bands = lattice.forward(probe, level)
                bands[level - 1][band][0, channel, 2, 2] = 1 << 12
                signs = np.sign(lattice.inverse(low, bands)[0, channel])
                for noise in range(4):
                    sign = np.where(random.random(signs.shape) < 0.03 * noise, -signs, signs)
                    ends = (0, 255) if channel == 0 else (-255, 255)
                    v = np.zeros((1, 3, side, side), np.int32)
                    v[0, channel] = np.where(sign > 0, ends[1], ends[0])
                    _, found = lattice.forward(v, level)
                    for i, parts in enumerate(found):
                        for b, part in enumerate(parts):
                            assert np.abs(part[:, channel]).max(initial=0) <= lattice.detail_range(i + 1, b, channel)


def test_coefficients_of_noise_of_extreme_colours_keep_to_their_ranges() -> None:
    rgb = (np.random.default_rng(2).integers(0, 2, (4, 3, 64, 64)) * 255).astype(np.uint8)
    low, bands = lattice.forward(colour.forward(rgb, "ycocg-r"), 5)
    for i, parts in enumerate(bands):
        for b, part in enumerate(parts):
            for c in range(3):
                assert np.abs(part[:, c]).max() <= lattice.detail_range(i + 1, b, c)
    for c in range(3):
        least, most = lattice.low_range(5, c)
        assert least <= low[:, c].min()
        assert low[:, c].max() <= most


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_the_norms_are_those_of_the_synthesis_basis(level: int) -> None:
    side = 16 << level
    for band in range(3):
        low, bands = lattice.forward(np.zeros((1, 1, side, side), np.int32), level)
        bands[level - 1][band][0, 0, 7, 7] = 1 << 14
        found = np.sqrt((lattice.inverse(low, bands).astype(float) ** 2).sum()) / (1 << 14)
        assert found == pytest.approx(lattice.NORMS[level - 1][band == 2], rel=0.005)


def test_widths_are_multiples_of_the_next_steps_and_near_their_targets() -> None:
    widths = np.array(lattice.widths(BASES))
    assert (widths[-1] == 1).all()
    for above, below in itertools.pairwise(widths):
        assert (above % below == 0).all()
    for base, rows in zip(BASES[:-1], widths):
        for i, norms in enumerate(lattice.NORMS):
            for b in range(3):
                for c, factor in enumerate(lattice.FACTORS):
                    target = base * factor / norms[b == 2]
                    if target >= 4:
                        assert 0.6 < rows[i, b, c] / target < 1.5


@pytest.mark.parametrize("bases", [(4, 4, 1), (2, 8, 1), (4, 2), ()])
def test_base_widths_have_to_decrease_to_one(bases: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected them to decrease to 1"):
        lattice.widths(bases)


def test_guesses_have_no_bias_from_rounding_down() -> None:
    """The inverse for guesses takes off what the exact one rounds down on average (edges, where it
    rounds less, apart).
    """
    random = np.random.default_rng(5)
    layers = [np.kron(random.normal(0, 20, (60, 3, 64 >> k, 64 >> k)), np.ones((1 << k, 1 << k))) for k in range(6)]
    v = np.sum(layers, 0).astype(np.int32)
    low, bands = lattice.forward(v, 2)
    found = low << 8
    for level in reversed(bands):
        found = lattice.level_up_values(found, tuple(b << 8 for b in level), 8)  # type: ignore[arg-type]
    assert abs((found / 256 - v).mean()) < 0.03
    assert np.abs(found / 256 - v).max() < 8
