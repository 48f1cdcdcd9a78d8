"""Tiles: every pixel comes from exactly one place, and a convolution cannot tell that it was
cut.
"""

import tracemalloc

import numpy as np
import pytest

from uqdm.exact import tiling


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


def test_a_picture_of_one_row_is_not_filled_up_to_a_tile_in_memory() -> None:
    # The whole field was: a header of 16 million pixels in one row would have taken 25 GB.
    field = np.zeros((1, 3, 1, 100_000))
    tracemalloc.start()
    tiling.fixed(lambda part: (part,), (field,), 64, 4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * field.nbytes


def test_a_network_sees_no_seams_between_overlapping_tiles() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(i, o, 3, padding=1) for i, o in ((6, 8), (8, 8), (8, 8), (8, 3))
    ]  # sees four pixels around
    net = torch.nn.Sequential(
        layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2], torch.nn.ReLU(), layers[3]
    ).double()
    random = np.random.default_rng(0)
    low = random.integers(0, 200, (1, 3, 90, 74)).astype(np.float64)
    high = low + random.integers(0, 20, low.shape)

    def call(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            return (net(torch.from_numpy(np.concatenate([a, b], 1))).numpy(),)

    whole = call(low, high)
    tiled = tiling.overlapping(call, (low, high), 32, 4)
    for a, b in zip(whole, tiled, strict=True):
        assert np.abs(a - b).max() < 1e-9
    short = tiling.overlapping(call, (low, high), 32, 2)
    assert np.abs(whole[0] - short[0]).max() > 1e-9  # so the halo is no larger than needed


@pytest.mark.parametrize(
    ("n", "h", "w", "most"), [(1, 16, 16, 1), (4, 8, 8, 4), (5, 8, 8, 4), (3, 40, 6, 2), (2, 40, 40, 1)]
)
def test_small_fields_share_a_call_up_to_the_area_of_a_tile(n: int, h: int, w: int, most: int) -> None:
    field = np.random.default_rng(0).integers(-99, 99, (n, 3, h, w)).astype(np.int16)
    counts = []

    def call(part: np.ndarray) -> tuple[np.ndarray, ...]:
        counts.append(len(part))
        return part.astype(np.int32) * 7, (part[:, :1] > 0).astype(np.uint8)

    a, b = tiling.overlapping(call, (field,), 16, 2)
    assert max(counts) == most
    assert (a.dtype, b.dtype) == (np.int32, np.uint8)
    assert (a == field.astype(np.int32) * 7).all()
    assert (b == (field[:, :1] > 0)).all()


@pytest.mark.parametrize(("h", "w"), [(1, 1), (5, 8), (8, 5), (6, 4)])
def test_odd_fields_have_their_last_row_and_column_twice(h: int, w: int) -> None:
    field = np.arange(h * w).reshape(1, 1, h, w)

    def call(part: np.ndarray) -> tuple[np.ndarray, ...]:
        assert part.shape[2] % 2 == part.shape[3] % 2 == 0
        assert (part[:, :, -1, -1] == field[:, :, -1, -1]).all()
        return (part,)

    (found,) = tiling.evened(call)(field)
    assert (found == field).all()
