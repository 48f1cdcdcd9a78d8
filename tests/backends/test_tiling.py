"""Tiles: every pixel comes from exactly one place, and a convolution cannot tell that it was cut."""

import numpy as np
import pytest
import torch

from uqdm.backends import tiling
from uqdm.models.convnet import StepNet


@pytest.mark.parametrize(("h", "w"), [(1, 1), (3, 64), (64, 64), (65, 64), (100, 200), (128, 127)])
def test_fixed_tiles_cover_every_pixel_once(h: int, w: int) -> None:
    field = np.random.default_rng(0).normal(size=(2, 3, h, w))
    shapes = []

    def call(part: np.ndarray) -> tuple[np.ndarray, ...]:
        shapes.append(part.shape)
        return part * 2, part[:, :1]

    double, first = tiling.fixed(call, (field,), 64, 4)
    assert (double == field * 2).all()
    assert (first == field[:, :1]).all()
    assert all(s[1:] == (3, 64, 64) and s[0] <= 4 for s in shapes)


def test_a_network_sees_no_seams_between_overlapping_tiles() -> None:
    torch.manual_seed(0)
    net = StepNet([5.0, 12.0, 10.0], [127.5, 0, 0], 8, 2).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    random = np.random.default_rng(0)
    low = random.integers(0, 200, (1, 3, 90, 74)).astype(np.float64)
    high = low + random.integers(0, 20, low.shape)

    def call(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            return tuple(t.numpy() for t in net(torch.from_numpy(a.copy()), torch.from_numpy(b.copy())))

    whole = call(low, high)
    tiled = tiling.overlapping(call, (low, high), 32, net.reach())
    for a, b in zip(whole, tiled, strict=True):
        assert np.abs(a - b).max() < 1e-9
    short = tiling.overlapping(call, (low, high), 32, net.reach() - 4)
    assert np.abs(whole[0] - short[0]).max() > 1e-9  # so the halo is no larger than needed
