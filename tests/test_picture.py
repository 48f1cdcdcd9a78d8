"""Pictures as arrays, and alpha planes as bytes."""

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqdm.errors import DamagedError, ImageError
from uqdm.format.alpha import pack_alpha, unpack_alpha
from uqdm.picture import Picture, from_array


def noise(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2)), np.zeros((2, 2, 5), np.uint8), np.zeros((0, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_arrays_of_other_shapes_and_types_are_refused(array: Any) -> None:
    with pytest.raises(ImageError, match="expected"):
        from_array(array)


def test_a_picture_checks_its_planes() -> None:
    with pytest.raises(ImageError, match="pixels are"):
        Picture(noise(2, 2))
    with pytest.raises(ImageError, match="alpha is"):
        Picture(noise(2, 2, 3), noise(2, 3))


# --- alpha


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32), st.sampled_from([1, 2, 256]))
@settings(max_examples=60)
def test_an_alpha_plane_comes_back(height: int, width: int, seed: int, levels: int) -> None:
    alpha = np.random.default_rng(seed).integers(0, levels, (height, width), dtype=np.uint8)
    assert (unpack_alpha(pack_alpha(alpha), height, width) == alpha).all()


def test_simple_alpha_planes_are_small() -> None:
    assert pack_alpha(np.full((3000, 2000), 255, np.uint8)) == b"\x00\xff"
    ramp = (np.arange(256)[:, None] + np.arange(256)).astype(np.uint8)
    assert len(pack_alpha(ramp)) < 600
    assert (
        len(pack_alpha(noise(64, 64))) <= 64 * 64 * 65 // 64 + 1024
    )  # the container's limit holds for what does not compress


def test_a_hostile_alpha_plane_does_not_expand() -> None:
    with pytest.raises(DamagedError, match="101 values"):
        unpack_alpha(b"\x01" + zlib.compress(bytes(1 << 24)), 10, 10)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00\x01\x02",
        b"\x09abc",
        b"\x01noise",
        b"\x01" + zlib.compress(bytes(99)),
        b"\x01" + zlib.compress(bytes(100)) + b"!",
    ],
)
def test_a_broken_alpha_plane_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedError, match="alpha plane"):
        unpack_alpha(data, 10, 10)
