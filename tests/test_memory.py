"""How much memory a pixel decoding takes, as docs/format.md promises ("Limits"): with the models
that ship, in NumPy's arrays.

What a tile, a run or a block of coordinates takes is bounded, whatever the picture's size. So they
are small here, as in comparison with a large picture.
"""

import tracemalloc
from collections.abc import Callable

import pytest
from conftest import photograph

import uqdm
from uqdm.codec import Codec
from uqdm.families import boxes, order
from uqdm.families.pyramid import fields, tuning

WHOLE, CUT = 150, 210  # bytes a pixel
# Likewise of a pyramid: to encode, to decode, and to decode a file that is cut in its last step.
PYRAMID = 115, 115, 115
every_model = pytest.mark.parametrize("model", ["nano", "uqdm-light"])
Peaks = Callable[[int], dict[int, int]]


@pytest.fixture
def peaks(model: str, monkeypatch: pytest.MonkeyPatch) -> Peaks:
    """Of a side, the largest number of bytes in use while a whole file and one cut in its third
    step are decoded.
    """
    monkeypatch.setattr(boxes, "KEPT", 1 << 10)
    monkeypatch.setattr(boxes, "BLOCK", 1 << 11)
    monkeypatch.setattr(order, "RUN", 1 << 11)
    codec = uqdm.load(model, threads=1)
    walk = codec.family("tight")
    (getattr(walk, "networks", None) or getattr(walk, "denoiser")).tile = 64  # noqa: B009

    def measured(side: int) -> dict[int, int]:
        data, found = codec.compress(photograph(side, side)), {}
        for most, size in ((WHOLE, len(data)), (CUT, 6 * len(data) // 10)):
            tracemalloc.start()
            try:
                codec.decode(data[:size])
                found[most] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        return found

    return measured


@every_model
def test_decoding_takes_no_more_memory_a_pixel_than_promised(peaks: Peaks) -> None:
    side = 192
    for most, peak in peaks(side).items():
        assert peak < most * side**2 + (4 << 20)  # what is bounded


@pytest.mark.slow
@every_model
def test_memory_grows_with_the_pixels_no_faster_than_promised(peaks: Peaks) -> None:
    small, large = 320, 448
    before, after = peaks(small), peaks(large)
    for most in before:
        assert (after[most] - before[most]) / (large**2 - small**2) < most


@pytest.fixture
def pyramid(monkeypatch: pytest.MonkeyPatch) -> Codec:
    """The default model; what is bounded takes little here."""
    for module, name, size in (
        (boxes, "KEPT", 1 << 10),
        (boxes, "BLOCK", 1 << 11),
        (order, "RUN", 1 << 11),
        (fields, "STRIP", 1 << 11),
        (tuning, "SAMPLE", 1 << 10),
    ):
        monkeypatch.setattr(module, name, size)
    codec = uqdm.load("photo", threads=1)
    codec.networks(None).tile = 32  # type: ignore[attr-defined]
    return codec


def test_a_pyramid_takes_no_more_memory_for_a_pixel_than_12_megapixels_in_2_gib_leave(pyramid: Codec) -> None:
    """A process takes some 500 MiB anyway. Both sizes are large enough for corrections."""
    small, large = 256, 320
    found = []
    pyramid.decode(pyramid.compress(photograph(small, small)))  # networks and tables are made once
    for side in (small, large):
        pixels, data, peaks = photograph(side, side), b"", []
        for share in (None, 1.0, 0.8):
            tracemalloc.start()
            try:
                if share is None:
                    data = pyramid.compress(pixels)
                else:
                    pyramid.decode(data[: int(share * len(data))])
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        found.append(peaks)
    for before, after, most in zip(*found, PYRAMID):
        assert (after - before) / (large**2 - small**2) < most
