"""Where a stream is cut: by step, rate, bytes or largest error, from Python as from the command
line.
"""

import numpy as np
import planes
import pytest
from conftest import photograph

from uqdm import format, library
from uqdm.codec import Codec
from uqdm.errors import FingerprintError, LimitError
from uqdm.goals import Goal
from uqdm.rate import beginning, promises, step_within


@pytest.fixture(scope="module")
def model() -> Codec:
    return Codec(planes.package())


@pytest.fixture(scope="module")
def data(model: Codec) -> bytes:
    return model.compress(photograph(12, 20))


def test_a_cut_by_step_rate_or_bytes_is_a_beginning(data: bytes) -> None:
    ends = format.ends(format.parse(data))
    assert beginning(data, Goal()) == data
    assert beginning(data, Goal(step=1)) == library.truncate(data, step=1) == data[: ends[1]]
    assert beginning(data, Goal(bpp=9.5)) == library.truncate(data, bpp=9.5) == data[: int(9.5 * 240 / 8)]
    assert beginning(data, Goal(target_size=77)) == library.truncate(data, target_size=77) == data[:77]
    with pytest.raises(LimitError):
        beginning(data, Goal(target_size=3))


GOALS = ({"step": 1}, {"bpp": 9.5}, {"target_size": 77}, {"max_error": 30})


@pytest.mark.parametrize("goal", GOALS)
def test_a_codec_decodes_the_beginning_that_a_goal_asks_for(model: Codec, data: bytes, goal: dict[str, int]) -> None:
    short = beginning(data, Goal(**goal), model.package)
    assert len(short) < len(data)
    expected = model.decode(short)
    for found in (model.decode(data, **goal), *model.decode_many([data, short], **goal)):
        assert (found.step, found.partial, found.bound) == (expected.step, expected.partial, expected.bound)
        assert (found.image == expected.image).all()
    assert (model.decompress(data, **goal) == expected.image).all()
    assert all((image == expected.image).all() for image in model.decompress([data, short], **goal))


def test_decoding_wants_one_goal_that_the_file_can_reach(model: Codec, data: bytes) -> None:
    with pytest.raises(ValueError, match="step=1 and bpp=2 cannot be used together"):
        model.decompress(data, step=1, bpp=2)
    with pytest.raises(LimitError, match="30 dB were asked for; the file has no index"):
        model.decompress(data, psnr=30)
    with pytest.raises(LimitError, match="an error of at most 0 was asked for, which only step 3 keeps; the file was"):
        model.decompress(data[:-1], max_error=0)


def test_with_salvage_a_file_that_falls_short_of_a_goal_is_decoded_as_far_as_it_goes(model: Codec, data: bytes) -> None:
    damaged = bytearray(data)
    damaged[-3] ^= 1
    for goal in ({"step": 3}, {"max_error": 0}):
        found = model.decode(bytes(damaged), salvage=True, **goal)
        assert (found.step, found.damage is None) == (2, False)
        assert model.decode(data[:-1], salvage=True, **goal).step == 2
    for goal in ({"step": 2}, {"max_error": 7}):
        found = model.decode(bytes(damaged), salvage=True, **goal)
        assert (found.step, found.partial, found.damage) == (2, False, None)


@pytest.mark.parametrize(("most", "step"), [(255, 0), (31, 1), (30, 2), (7, 2), (6, 3), (0, 3)])
def test_a_cut_by_error_is_the_first_step_that_promises_it_and_previews_keep_it(
    model: Codec, data: bytes, most: int, step: int
) -> None:
    contents = format.parse(data, steps=0)
    assert step_within(promises(model.package, contents), most) == model.step_within(most) == step
    short = beginning(data, Goal(max_error=most), model.package)
    assert short == library.truncate(data, step=step)
    assert np.abs(model.decompress(short).astype(int) - photograph(12, 20)).max() <= most


def test_a_cut_by_error_needs_the_model_that_wrote_the_file(data: bytes) -> None:
    with pytest.raises(ValueError, match="needs the model"):
        beginning(data, Goal(max_error=3))
    with pytest.raises(FingerprintError):
        beginning(data, Goal(max_error=3), planes.package(bits=(4, 4)))


def test_truncate_finds_the_model_of_a_file_where_the_largest_error_needs_it(nano: Codec) -> None:
    data = nano.compress(photograph(12, 20))
    short = library.truncate(data, max_error=30)
    assert (
        short == library.truncate(data, step=nano.step_within(30)) == library.truncate(data, max_error=30, model="nano")
    )
    with pytest.raises(FingerprintError):
        library.truncate(data, max_error=30, model="uqdm-light")


def test_ends_are_where_no_byte_is_left_over(data: bytes) -> None:
    found = format.ends(format.parse(data))
    assert found[-1] == len(data)
    for step, end in enumerate(found):
        contents = format.parse(data[:end])
        assert (len(contents.steps), contents.tail, contents.partial) == (step, 0, None)


def test_a_rate_that_comes_of_a_length_gives_the_length() -> None:
    for pixels in (1, 240, 4097, 1 << 26):
        assert all(format.bytes_at(8 * n / pixels, pixels) == n for n in (0, 1, 77, 12345, pixels))
