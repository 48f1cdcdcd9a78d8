"""Things of one size are worked on together, and none is lost."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from uqdm.batches import PIXELS, together

SIZES = st.lists(st.tuples(st.sampled_from([64, 300, 400]), st.sampled_from([64, 500])), max_size=200)


@given(SIZES, st.none() | st.integers(1, 9), st.none() | st.integers(1, 40))
def test_every_thing_is_in_one_list_of_its_own_size_that_is_not_too_large(sizes, most, waiting) -> None:
    found = list(together(((size, i) for i, size in enumerate(sizes)), most, waiting))
    assert Counter(i for some in found for i in some) == Counter(range(len(sizes)))
    for some in found:
        height, width = sizes[some[0]]
        assert {sizes[i] for i in some} == {(height, width)}
        assert some == sorted(some)
        assert len(some) == 1 or len(some) * height * width <= PIXELS
        assert most is None or len(some) <= most


def test_a_list_is_given_as_soon_as_it_is_full_or_too_many_wait() -> None:
    taken = []

    def things():
        for i, size in enumerate([(8, 8), (8, 9), (8, 8), (8, 9), (8, 7), (8, 9)]):
            taken.append(i)
            yield size, i

    lists = together(things(), 2, 3)
    assert (next(lists), len(taken)) == ([0, 2], 3)
    assert (next(lists), len(taken)) == ([1, 3], 4)
    assert list(lists) == [[4], [5]]
    waiting = together((((8, n), n) for n in (1, 2, 3, 4)), 9, 3)
    assert next(waiting) == [1]
