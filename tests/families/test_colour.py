"""Colour: exactly reversible on all pixels, previews unbiased."""

import numpy as np
import pytest

from uqdm.families import colour


@pytest.mark.parametrize("space", ["rgb", "ycocg-r"])
def test_every_pixel_comes_back_and_stays_in_the_stated_range(space: str) -> None:
    axis = np.concatenate([np.arange(0, 256, 5), [1, 254]])
    rgb = np.stack(np.meshgrid(axis, axis, axis), 0).reshape(1, 3, -1, 1).astype(np.uint8)
    values = colour.forward(rgb, space)
    assert (colour.inverse(values, space) == rgb).all()
    for c in range(3):
        assert values[:, c].min() >= colour.LOWEST[space][c]
        assert values[:, c].max() <= colour.HIGHEST[space][c]


@pytest.mark.parametrize("space", ["rgb", "ycocg-r"])
def test_previews_of_exact_coordinates_are_the_pixels_within_rounding_and_unbiased(space: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (1, 3, 100, 100)).astype(np.uint8)
    error = colour.preview(colour.forward(rgb, space).astype(float), space).astype(int) - rgb
    assert np.abs(error).max() <= 1
    assert np.abs(error.mean((0, 2, 3))).max() < 0.3


def test_grey_has_no_chroma() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), 3, 1)
    values = colour.forward(grey, "ycocg-r")
    assert (values[:, 1:] == 0).all()
    assert (values[:, 0] == grey[:, 0]).all()
