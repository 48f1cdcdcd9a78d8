"""Colour: exactly reversible on all pixels, previews unbiased, errors bounded."""

import numpy as np
import pytest

from uqdm.families import colour

SPACES = ["rgb", "ycocg-r"]


@pytest.mark.parametrize("space", SPACES)
def test_every_pixel_comes_back_and_stays_in_the_stated_range(space: str) -> None:
    axis = np.concatenate([np.arange(0, 256, 5), [1, 254]])
    rgb = np.stack(np.meshgrid(axis, axis, axis), 0).reshape(1, 3, -1, 1).astype(np.uint8)
    values = colour.forward(rgb, space)
    assert values.dtype == np.int16
    assert (colour.inverse(values, space) == rgb).all()
    for c in range(3):
        assert values[:, c].min() >= colour.LOWEST[space][c]
        assert values[:, c].max() <= colour.HIGHEST[space][c]


@pytest.mark.parametrize("space", SPACES)
def test_previews_of_exact_coordinates_are_the_pixels_within_rounding_and_unbiased(space: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (1, 3, 100, 100)).astype(np.uint8)
    error = colour.preview(colour.forward(rgb, space).astype(np.int32) << 16, space).astype(int) - rgb
    assert np.abs(error).max() <= 1
    assert np.abs(error.mean((0, 2, 3))).max() < 0.3


def test_values_that_no_picture_has_are_cut_off_and_do_not_wrap() -> None:
    values = np.array([[255, 255, 255], [0, -255, -255], [0, 255, 255]], np.int16).reshape(3, 3, 1, 1)
    for found in (colour.inverse(values, "ycocg-r"), colour.preview(values.astype(np.int32) << 16, "ycocg-r")):
        assert found[0, 1, 0, 0] == 255  # green: Y + Cg / 2
        assert found[1, 1, 0, 0] == 0
        assert found[2, 2, 0, 0] == 0


def test_grey_has_no_chroma() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), 3, 1)
    values = colour.forward(grey, "ycocg-r")
    assert (values[:, 1:] == 0).all()
    assert (values[:, 0] == grey[:, 0]).all()


@pytest.mark.parametrize("space", SPACES)
def test_pixels_are_no_further_apart_than_their_coordinates_allow(space: str) -> None:
    random = np.random.default_rng(0)
    for spans in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, 3), (3, 0, 8), (20, 9, 4), (255, 255, 255)):
        rgb = random.integers(0, 256, (1, 3, 200, 200)).astype(np.uint8)
        values = colour.forward(rgb, space)
        reach = np.array(spans)[:, None, None] << 16
        share = random.choice([-(1 << 16), 1 << 16, 0, 20000, -40001], values.shape)
        moved = (values.astype(np.int64) << 16) + (share * reach >> 16)
        ends = (np.array(bound[space])[:, None, None] << 16 for bound in (colour.LOWEST, colour.HIGHEST))
        shown = colour.preview(np.clip(moved, *ends).astype(np.int32), space)
        worst = np.abs(shown.astype(int) - rgb).max((0, 2, 3))
        allowed = colour.errors(spans, space)
        assert (worst <= allowed).all() or not any(
            spans
        )  # of coordinates that are all known, pixels come back by `inverse`
        assert max(allowed) <= 255
        assert any(allowed) == any(spans)
        if spans == (20, 9, 4):  # and the bound is not far from what happens
            assert (worst >= np.array(allowed) - 1).all()
