"""Random integers: the same everywhere, uniform, and to be entered at any place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqdm.entropy import randomness

PINNED = [4188131702, 3493329091, 1277232997, 3226943899, 963329307, 1998440675, 3604436354]


def test_the_generator_gives_these_integers_everywhere() -> None:
    assert randomness.raw(0, 1, 4).tolist() == PINNED[:4]
    assert randomness.raw(2**64 - 1, randomness.SAMPLING, 3).tolist() == PINNED[4:]
    assert (randomness.raw(5, 2, 1001)[:7] == randomness.raw(5, 2, 7)).all()


@given(st.integers(0, 2**64 - 1), st.integers(0, 200), st.integers(0, 60))
def test_a_stream_entered_anywhere_goes_on_as_from_its_beginning(seed: int, start: int, count: int) -> None:
    found = randomness.raw(seed, 3, count, start)
    assert found.dtype == np.uint32
    assert (found == randomness.raw(seed, 3, start + count)[start:]).all()


@pytest.mark.parametrize("start", [2**33 + 5, 2**66 + 7, 2**67 - 8])
def test_a_start_may_be_as_far_as_one_likes(start: int) -> None:
    generator = np.random.Philox(counter=0, key=np.array([7, 3], np.uint64))
    generator.advance(start // 8)
    words = generator.random_raw(8)
    halves = [int(w) >> shift & 0xFFFFFFFF for w in words for shift in (0, 32)]
    assert randomness.raw(7, 3, 8, start).tolist() == halves[start % 8 : start % 8 + 8]


def test_dither_is_uniform_below_its_limit() -> None:
    width = np.full(200_000, 48_000, np.int64)
    d = randomness.below(width, randomness.raw(1, 1, len(width)))
    assert d.min() >= 0
    assert d.max() < 48_000
    assert abs(d.mean() / 48_000 - 0.5) < 0.003
    assert abs(d.std() / 48_000 - 12**-0.5) < 0.002
