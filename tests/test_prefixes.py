"""Beginnings of files shown from states that are kept: value for value what the codec decodes."""

import pytest
from conftest import photograph
from golden import make

from uqdm import codec, format, library
from uqdm.prefixes import STATES, Prefixes


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def codecs() -> library.CodecPool:
    return library.CodecPool(threads=1)


def same(one: codec.Decoded, other: codec.Decoded) -> bool:
    fields = ("step", "steps", "partial", "bound", "tail", "corrected")
    metadata = all(getattr(one.picture, name) == getattr(other.picture, name) for name in ("icc", "exif", "xmp"))
    values = one.image.shape == other.image.shape and (one.image == other.image).all()
    return bool(values and metadata and all(getattr(one, name) == getattr(other, name) for name in fields))


@pytest.mark.parametrize("room", [STATES, 1])
@pytest.mark.parametrize("name", ["photo-grey", "photo-carried", "nano-carried", "light-paper"])
def test_beginnings_in_any_order_are_those_of_the_codec(codecs: library.CodecPool, name: str, room: int) -> None:
    data = (make.HERE / f"{name}.uqdm").read_bytes()
    model = codecs.open_for(data)
    ends = format.ends(format.parse(data))
    sizes = [*ends, *(size + 9 for size in ends[:-1]), *(size - 1 for size in ends[1:]), len(data), len(data) - 30]
    mine = Prefixes(model, room=room)  # with 1, a single state is kept
    for size in sizes[::2] + sizes[1::2] + [len(data)]:
        if size >= ends[0]:
            assert same(mine.decode(data[:size]), model.decode(data[:size])), size


def test_a_correction_is_applied_where_it_is_whole(default: codec.Codec) -> None:
    data = default.compress(photograph(20, 24), max_error=8)
    assert format.parse(data).payload(format.CORRECTION) is not None
    mine = Prefixes(default)
    for size, corrected in ((len(data), True), (len(data) - 1, False)):
        decoded = mine.decode(data[:size])
        assert decoded.corrected == corrected
        assert same(decoded, default.decode(data[:size]))


def test_a_beginning_that_is_stopped_leaves_the_states_that_it_reached(codecs: library.CodecPool) -> None:
    data = (make.HERE / "nano-rgb.uqdm").read_bytes()
    model = codecs.open_for(data)
    mine = Prefixes(model)
    steps: list[int] = []

    def progress(step: int, part: int, parts: int) -> None:
        steps.append(step)
        if step == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        mine.decode(data, progress)
    assert set(steps) == {1, 2, 3}
    steps.clear()
    decoded = mine.decode(data, lambda step, part, parts: steps.append(step))
    assert min(steps) == 3  # the first two steps were not decoded again
    assert same(decoded, model.decode(data))


@pytest.mark.parametrize(("room", "again"), [(STATES, set()), (1, {1, 2})])
def test_states_are_kept_as_far_as_there_is_room(codecs: library.CodecPool, room: int, again: set[int]) -> None:
    data = (make.HERE / "nano-rgb.uqdm").read_bytes()
    mine = Prefixes(codecs.open_for(data), room=room)
    mine.decode(data)
    steps: set[int] = set()
    mine.decode(data[: format.ends(format.parse(data))[2]], lambda step, part, parts: steps.add(step))
    assert steps == again
