"""Corrections keep their promise at any error, and files that end in one are read, cut and damaged
like others.
"""

import numpy as np
import pytest
from conftest import photograph
from golden import make
from numpy.typing import NDArray

from uqdm import bundle, format, library, nearlossless
from uqdm.codec import Codec
from uqdm.errors import DamagedError
from uqdm.goals import Goal
from uqdm.rate import beginning


def pair(spread: float, shape: tuple[int, int, int] = (3, 29, 34)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A preview, and a picture that differs from it."""
    random = np.random.default_rng(3)
    preview = np.clip(random.normal(128, 60, shape), 0, 255).astype(np.uint8)
    return preview, np.clip(preview + np.rint(random.laplace(0, spread, shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("most", [1, 2, 5, 40, 254])
@pytest.mark.parametrize("shape", [(3, 29, 34), (1, 29, 34), (3, 1, 1)])
def test_a_corrected_preview_is_within_the_error(most: int, shape: tuple[int, int, int]) -> None:
    preview, pixels = pair(3.0, shape)
    correction = nearlossless.written(preview, pixels, most)
    assert correction is not None
    found, told = nearlossless.applied(preview, correction)
    assert told == most
    assert np.abs(found.astype(int) - pixels).max() <= most


def test_what_is_within_the_error_already_costs_next_to_nothing_and_stays() -> None:
    preview, pixels = pair(0.3)
    most = int(np.abs(preview.astype(int) - pixels).max())
    correction = nearlossless.written(preview, pixels, most)
    assert correction is not None
    assert len(correction) <= 2 + 2 * nearlossless.CLASSES + 4
    assert (nearlossless.applied(preview, correction)[0] == preview).all()


def test_rare_corrections_cost_about_their_entropy() -> None:
    preview, pixels = pair(0.0, (3, 128, 128))
    places = np.random.default_rng(4).random(pixels.shape) < 0.01
    pixels = np.where(places, preview ^ 8, preview).astype(np.uint8)
    correction = nearlossless.written(preview, pixels, 2)
    assert correction is not None
    ideal = pixels.size * (-0.01 * np.log2(0.01) - 0.99 * np.log2(0.99) + 0.01) / 8
    assert len(correction) < 1.25 * ideal + 100


def test_a_preview_that_is_too_far_off_has_no_correction() -> None:
    assert nearlossless.written(np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 255, np.uint8), 2) is None


def test_what_no_encoder_writes_is_refused() -> None:
    preview, pixels = pair(3.0)
    correction = nearlossless.written(preview, pixels, 1)
    assert correction is not None
    for broken in (b"", correction[:20], b"\0" + correction[1:], correction[:1] + b"\xff" + correction[2:]):
        with pytest.raises(DamagedError):
            nearlossless.applied(preview, broken)


# --- in files


@pytest.fixture(scope="module")
def coder() -> Codec:
    return Codec(bundle.read(make.place("pyramid-by-chance")))


PICTURE = photograph(40, 52)


@pytest.mark.parametrize("most", [1, 3, 12, 60])
@pytest.mark.parametrize("picture", [PICTURE, PICTURE[..., 1]], ids=["rgb", "grey"])
def test_a_file_of_a_measured_family_keeps_any_error(coder: Codec, most: int, picture: NDArray[np.uint8]) -> None:
    data = coder.compress(picture, max_error=most)
    found = coder.decode(data)
    off = np.abs(found.image.astype(int) - picture).max()
    assert off <= found.bound <= most
    assert list(coder.progressive(data))[-1].bound == found.bound
    assert (list(coder.progressive(data))[-1].image == found.image).all()
    assert len(data) <= len(coder.compress(picture, max_error=0))
    assert format.inspect(data).corrected_to in (None, most)


def test_errors_of_whole_steps_are_told_and_true(coder: Codec) -> None:
    data = coder.compress(PICTURE, max_error=0)
    for step in range(1, coder.steps):
        found = coder.decode(data, step=step)
        assert found.bound == np.abs(found.image.astype(int) - PICTURE).max()
    assert coder.decode(data).bound == 0


def test_a_small_file_does_not_tell_errors_unless_asked(coder: Codec) -> None:
    assert format.parse(coder.compress(PICTURE)).payload(format.ERRORS) is None


@pytest.fixture(scope="module")
def corrected(coder: Codec) -> bytes:
    data = coder.compress(PICTURE, max_error=3)
    assert format.inspect(data).corrected_to == 3
    return data


def test_a_corrected_file_can_be_cut_anywhere(coder: Codec, corrected: bytes) -> None:
    contents = format.parse(corrected)
    last = contents.steps[-1]
    preview = coder.decompress(corrected, step=last.index)
    for end in range(last.end, len(corrected), 7):
        assert (coder.decompress(corrected[:end]) == preview).all()
    assert library.truncate(corrected, step=last.index) == corrected[: last.end]


def test_a_cut_by_error_takes_a_file_that_is_corrected_enough_whole(coder: Codec, corrected: bytes) -> None:
    assert beginning(corrected, Goal(max_error=3), coder.package) == corrected
    assert len(beginning(corrected, Goal(max_error=200), coder.package)) < len(corrected)


def test_damage_and_additions_are_noticed(coder: Codec, corrected: bytes) -> None:
    start = format.parse(corrected).steps[-1].end
    for at in range(start, len(corrected), 11):
        broken = bytearray(corrected)
        broken[at] ^= 4
        with pytest.raises(DamagedError):
            coder.decode(bytes(broken))
    with pytest.raises(DamagedError, match="after the correction"):
        coder.decode(corrected + b"x")


def test_files_of_version_1_0_have_no_such_chunks(corrected: bytes) -> None:
    header = format.parse(corrected).header
    old = bytearray(format.write_header(format.Header(**{**vars(header), "minor": 0})))
    old += format.write_chunk(format.ERRORS, 0, bytes(header.chunks - 1), old)
    with pytest.raises(DamagedError, match=r"version 1\.0"):
        format.parse(bytes(old))
