"""Where a stream is cut: by step, rate, bytes or largest error, from Python as from the command
line.
"""

import numpy as np
import planes
import pytest
from conftest import photograph

from uqdm import format
from uqdm.codec import Codec
from uqdm.errors import FingerprintError, LimitError
from uqdm.rate import Cut, promises, step_within


@pytest.fixture(scope="module")
def model() -> Codec:
    return Codec(planes.package())


@pytest.fixture(scope="module")
def data(model: Codec) -> bytes:
    return model.compress(photograph(12, 20))


def test_a_cut_by_step_rate_or_bytes_is_what_truncate_gives(data: bytes) -> None:
    assert Cut().of(data) == data
    assert Cut(step=1).of(data) == format.truncate(data, step=1)
    assert Cut(bpp=9.5).of(data) == format.truncate(data, bpp=9.5) == data[: int(9.5 * 240 / 8)]
    assert Cut(nbytes=77).of(data) == data[:77]
    with pytest.raises(LimitError):
        Cut(nbytes=3).of(data)


@pytest.mark.parametrize(("most", "step"), [(255, 0), (31, 1), (30, 2), (7, 2), (6, 3), (0, 3)])
def test_a_cut_by_error_is_the_first_step_that_promises_it_and_previews_keep_it(
    model: Codec, data: bytes, most: int, step: int
) -> None:
    contents = format.parse(data, steps=0)
    assert step_within(promises(model.package, contents), most) == model.step_within(most) == step
    cut = Cut(max_error=most)
    assert cut.resolved(model.package, contents) == Cut(step=step)
    short = cut.of(data, model.package)
    assert short == format.truncate(data, step=step)
    assert np.abs(model.decompress(short).astype(int) - photograph(12, 20)).max() <= most


def test_a_cut_by_error_needs_the_model_that_wrote_the_file(data: bytes) -> None:
    with pytest.raises(ValueError, match="needs the model"):
        Cut(max_error=3).of(data)
    with pytest.raises(FingerprintError):
        Cut(max_error=3).of(data, planes.package(bits=(4, 4)))


def test_a_cut_is_one_of_the_four() -> None:
    with pytest.raises(ValueError, match="at most one"):
        Cut(step=1, nbytes=90)


def test_ends_are_where_no_byte_is_left_over(data: bytes) -> None:
    found = format.ends(format.parse(data))
    assert found[-1] == len(data)
    for step, end in enumerate(found):
        contents = format.parse(data[:end])
        assert (len(contents.steps), contents.tail, contents.partial) == (step, 0, None)


def test_a_rate_that_comes_of_a_length_gives_the_length() -> None:
    for pixels in (1, 240, 4097, 1 << 26):
        assert all(format.bytes_at(8 * n / pixels, pixels) == n for n in (0, 1, 77, 12345, pixels))
