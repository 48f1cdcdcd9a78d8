"""Damage and hostility: whatever the bytes, there is a picture, an error of ours, or a note, in
bounded time and memory.

The full run is `benchmarks/fuzz.py` (20,000 mutants); here is a slice of it, a look at whether its
judge sees what is wrong, files that Hypothesis makes up, and headers that ask for too much.
"""

import contextlib
import importlib
import io
import signal
import sys
import threading
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import Integers, ToyCodec

from uqdm import format, library
from uqdm.codec import Codec, Decoded
from uqdm.entropy import tables
from uqdm.entropy.choice import available
from uqdm.errors import DamagedError, FormatError, LimitError, UqdmError
from uqdm.format import ALPHA, EXIF, ICC, STEP, Header
from uqdm.walk import Reader

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
fuzz, mutants = (importlib.import_module(name) for name in ("fuzz", "mutants"))

needs_alarm = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="bounds on time are signals, which this system lacks"
)
KILOBYTES = 1 << 16  # what refusing may allocate, with the error's own text
CALLS = 5000  # what it may call: some ten times what it does


def toy() -> ToyCodec:
    return ToyCodec(Integers(), "ycocg-r", max_pixels=fuzz.MAX_PIXELS)


@pytest.fixture(scope="module")
def model() -> ToyCodec:
    """A toy at work: what its first call imports is not measured."""
    found = toy()
    found.decompress(found.compress(np.zeros((4, 4, 3), np.uint8)))
    return found


@pytest.fixture(scope="module")
def real(model: ToyCodec) -> list[Any]:
    return fuzz.seeds(model)


def outcomes(codec: Codec, numbers: range, seconds: float = 10.0, mib: float = 512.0) -> Counter[str]:
    found = list(fuzz.verdicts(codec, numbers, 0, seconds, mib))
    return Counter(one.outcome for one in found)


# --- a slice of the command


@needs_alarm
def test_of_some_hundred_mutants_none_crashes_hangs_or_lies(model: ToyCodec) -> None:
    found = outcomes(model, range(600))
    assert not [name for name in fuzz.FORBIDDEN if found[name]], found
    assert found["refused"] > 300
    for name in ("same", "valid prefix", "noted", "another file"):  # every way out is taken
        assert found[name], found


@needs_alarm
def test_the_default_model_stands_them_too(default: Codec) -> None:
    small = Codec(default.package, threads=1, max_pixels=fuzz.MAX_PIXELS)
    found = outcomes(small, range(1000, 1040))
    assert not [name for name in fuzz.FORBIDDEN if found[name]], found


def test_mutants_follow_their_number_alone(model: ToyCodec, real: list[Any]) -> None:
    one, again = ([fuzz.mutant(i, 3, real, codec).data for i in range(40)] for codec in (model, toy()))
    assert one == again
    assert one != [fuzz.mutant(i, 4, real, model).data for i in range(40)]


def test_half_are_raw_and_a_quarter_each_sealed_and_sealed_with_the_check_of_symbols(
    model: ToyCodec, real: list[Any]
) -> None:
    assert Counter(fuzz.mutant(i, 0, real, model).group for i in range(100)) == {"raw": 50, "sealed": 25, "both": 25}


def test_sealing_leaves_a_real_file_as_it_is_and_makes_a_changed_one_parse(real: list[Any]) -> None:
    for one in real:
        assert mutants.seal(one.data) == one.data
        assert mutants.Parts.of(one.data).join() != one.data  # its checks are left to `seal`
        assert mutants.seal(mutants.Parts.of(one.data).join()) == one.data
        changed = bytearray(one.data)
        changed[-6] ^= 1
        with pytest.raises(DamagedError):
            format.parse(bytes(changed))
        format.parse(mutants.seal(bytes(changed)))


# --- the judge sees what is wrong


@needs_alarm
def test_a_decoder_that_does_not_check_symbols_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "finish", lambda self: None)
    assert outcomes(toy(), range(2, 400, 4))["WRONG"]  # sealed mutants


@needs_alarm
def test_a_decoder_that_does_not_check_bytes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Equal(int):
        def __eq__(self, other: object) -> bool:
            return True

        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = int.__hash__

        def __and__(self, other: int) -> "Equal":
            return Equal(int(self) & other)

    monkeypatch.setattr(format.fields, "crc32", lambda data, start: Equal(zlib.crc32(data, int(start))))
    monkeypatch.setattr(Reader, "finish", lambda self: None)
    found = outcomes(toy(), range(0, 200, 4))
    assert found["WRONG"], found


@needs_alarm
@pytest.mark.parametrize(
    ("fault", "outcome"), [("crash", "CRASH"), ("sleep", "SLOW"), ("hog", "MEMORY"), ("shift", "WRONG")]
)
def test_a_decoder_with_a_fault_is_found(
    model: ToyCodec, real: list[Any], fault: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = ToyCodec.decode

    def faulty(self: ToyCodec, data: bytes, **options: Any) -> Decoded:
        if fault == "crash":
            raise IndexError("out of range")
        if fault == "sleep":
            threading.Event().wait()
        if fault == "hog":
            raise MemoryError
        found = decode(self, data, **options)
        return replace(found, picture=replace(found.picture, pixels=found.picture.pixels ^ 1))

    monkeypatch.setattr(ToyCodec, "decode", faulty)
    judge = fuzz.Judge(model, real, 0.1 if fault == "sleep" else 60, 512)
    one = fuzz.Mutant(0, "raw", "none", real[3], real[3].data)

    def alarm(number: int, frame: Any) -> None:
        raise fuzz.TimeUp

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        assert judge.verdict(one).outcome == outcome
    finally:
        signal.signal(signal.SIGALRM, before)


# --- files that Hypothesis makes up


def try_everything(codec: ToyCodec, data: bytes) -> None:
    """Only errors of ours; what decodes is a picture of the size that the header says."""
    ways: list[Callable[[], Any]] = [
        lambda: codec.decode(data),
        lambda: codec.decode(data, salvage=True),
        lambda: codec.decode(data, step=1),
        lambda: list(codec.progressive(io.BytesIO(data))),
        lambda: format.inspect(data).to_json(),
        lambda: library.truncate(data, target_size=max(1, len(data) // 2)),
        lambda: library.truncate(data, bpp=1.0),
        lambda: library.truncate(data, step=1),
    ]
    for way in ways:
        with contextlib.suppress(UqdmError):
            found = way()
            if isinstance(found, Decoded):
                header = format.parse(data, steps=0).header
                assert found.picture.pixels.shape == (header.height, header.width, header.channels)


@given(
    st.sampled_from([b"", format.MAGIC, format.MAGIC + bytes([format.VERSION])]), st.binary(max_size=300), st.booleans()
)
def test_arbitrary_bytes_are_refused(model: ToyCodec, beginning: bytes, rest: bytes, sealed: bool) -> None:
    data = mutants.seal(beginning + rest) if sealed else beginning + rest
    with pytest.raises(FormatError if not sealed else UqdmError):
        model.decode(data)
    try_everything(model, data)


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_changed_files_decode_or_are_refused(model: ToyCodec, real: list[Any], data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from([one.data for one in real[:-1]])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(file)))
        file[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    changed = bytes(file)
    try_everything(model, mutants.seal(changed) if data.draw(st.booleans()) else changed)


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_headers_and_chunks_that_say_anything_decode_or_are_refused(
    model: ToyCodec, real: list[Any], data: st.DataObject
) -> None:
    parts = mutants.Parts.of(data.draw(st.sampled_from([one.data for one in real[:-1]])))
    number = st.one_of(st.integers(0, 40), st.integers(0, 1 << 70))
    for name, strategy in {
        "width": number,
        "height": number,
        "number": number,
        "steps": st.integers(0, 255),
        "flags": st.integers(0, 255),
    }.items():
        if data.draw(st.integers(0, 3)) == 0:
            setattr(parts, name, data.draw(strategy))
    for i in range(len(parts.chunks)):
        if data.draw(st.integers(0, 2)) == 0:
            parts.chunks[i] = parts.chunks[i][0], data.draw(st.binary(max_size=60))
        if data.draw(st.integers(0, 9)) == 0:
            parts.lengths[i] = data.draw(number)
    file = mutants.seal(parts.join())
    try_everything(model, file)
    try_everything(model, fuzz.agreed(file, model))


# --- headers that ask for too much


@contextlib.contextmanager
def cheap(calls: int = CALLS, peak: int = KILOBYTES) -> Iterator[None]:
    """What is inside allocates at most `peak` bytes and calls at most so many functions: work that
    no clock has to measure.
    """
    made, before = 0, sys.getprofile()

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        yield
        sys.setprofile(before)
        assert made < calls
        assert tracemalloc.get_traced_memory()[1] < peak
    finally:
        sys.setprofile(before)
        tracemalloc.stop()


def header(model: Codec, width: int = 8, height: int = 8, chunks: int | None = None, alpha: bool = False) -> bytes:
    fingerprint = bytes.fromhex(model.fingerprint)[:8]
    h = Header(
        width, height, False, alpha, "exact", model.name, fingerprint, model.steps if chunks is None else chunks, b"\0"
    )
    return format.write_header(h)


def every_decode(model: Codec, data: bytes) -> list[Callable[[], Any]]:
    return [
        lambda: model.decode(data),
        lambda: model.decode(data, salvage=True),
        lambda: model.decode(data, step=0),
        lambda: list(model.progressive(io.BytesIO(data))),
    ]


@pytest.mark.parametrize(
    ("width", "height"), [(1 << 24, 1 << 24), (1 << 24, 1), (1, 1 << 24), (1 << 13, (1 << 13) + 1), (129, 128)]
)
def test_a_picture_beyond_the_limit_is_refused_by_its_header(model: ToyCodec, width: int, height: int) -> None:
    data = header(model, width, height) + b"and more"
    for way in every_decode(model, data):
        with cheap(), pytest.raises(LimitError, match="max_pixels"):
            way()
    with cheap():
        assert format.inspect(data[:-8]).width == width
    with cheap():
        assert library.truncate(data[:-8], bpp=0.5) == data[:-8]


def test_the_default_limit_holds_where_none_is_given() -> None:
    plain = ToyCodec(Integers())
    data = header(plain, 1 << 13, (1 << 13) + 1)
    for way in [*every_decode(plain, data), lambda: library.open_for(data)]:
        with cheap(), pytest.raises(LimitError, match="max_pixels"):
            way()


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), ((1 << 24) + 1, 1), (1 << 63, 1 << 63)])
def test_sizes_that_no_picture_has_are_refused(model: ToyCodec, real: list[Any], width: int, height: int) -> None:
    parts = mutants.Parts.of(real[3].data)
    parts.width, parts.height = width, height
    data = mutants.seal(parts.join())
    for way in [
        *every_decode(model, data),
        lambda: format.inspect(data),
        lambda: library.truncate(data, target_size=60),
    ]:
        with cheap(), pytest.raises(LimitError):
            way()


@pytest.mark.parametrize("chunks", [0, 1, 3, 5, 240, 241, 255])
def test_a_number_of_steps_that_the_model_has_not_is_refused(model: ToyCodec, real: list[Any], chunks: int) -> None:
    parts = mutants.Parts.of(real[3].data)
    parts.steps = chunks
    data = mutants.seal(parts.join())
    for way in every_decode(model, data):
        with cheap(), pytest.raises(DamagedError):
            way()


def head(before: bytes, tag: int, length: int) -> bytes:
    """A chunk's head with a check that fits."""
    bare = bytes([tag]) + mutants.varint(length)
    return bare + (zlib.crc32(bare, int.from_bytes(before[-4:], "little")) & 0xFFFF).to_bytes(2, "little")


@pytest.mark.parametrize("tag", [ICC, EXIF, ALPHA, STEP])
@pytest.mark.parametrize("excess", [1, 1 << 20, (1 << 62) - (1 << 25)])
def test_a_length_beyond_the_limit_is_refused_by_its_head(model: ToyCodec, tag: int, excess: int) -> None:
    before = header(model, 16, 16, alpha=tag == ALPHA)
    most = {ALPHA: 256 + 4 + 1024, STEP: 24 * 256 + 64}.get(tag, 16 << 20)
    data = before + head(before, tag, most + excess) + bytes(20)
    for way in [
        every_decode(model, data)[0],
        lambda: format.inspect(data),
        lambda: list(model.progressive(io.BytesIO(data))),
    ]:
        with cheap(), pytest.raises(LimitError, match=f"at most {most} are possible"):
            way()
    with cheap(CALLS, 1 << 20):  # what precedes it: nothing but the size
        assert isinstance(model.decode(data, salvage=True).damage, LimitError)


@pytest.mark.parametrize(("tag", "length"), [(ICC, 16 << 20), (STEP, 24 * (1 << 26) + 64)])
def test_a_length_at_the_limit_costs_only_what_has_arrived(model: ToyCodec, tag: int, length: int) -> None:
    before = header(model, 1 << 13, 1 << 13)
    data = before + head(before, tag, length) + bytes(20)
    with cheap():
        found = format.inspect(data)
    assert (found.tail_bytes, found.partial_bytes) == (20, 20 if tag == STEP else 0)


def test_lengths_of_more_than_nine_bytes_and_of_needless_ones_are_refused(model: ToyCodec) -> None:
    before = header(model)
    for length in (b"\xff" * 9 + b"\1", b"\x80" * 40, b"\x85\0"):
        data = mutants.seal(before + bytes([STEP]) + length + bytes(30))
        for way in every_decode(model, data)[:1] + every_decode(model, data)[3:]:
            with cheap(), pytest.raises(DamagedError, match="malformed"):
                way()


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_an_alpha_plane_that_unpacks_to_too_much_is_not_unpacked(model: ToyCodec, kind: int) -> None:
    data = header(model, alpha=True)
    data += format.write_chunk(ALPHA, 0, bytes([kind]) + zlib.compress(bytes(1 << 20), 9), data)
    with cheap(CALLS, 1 << 18), pytest.raises(DamagedError, match="alpha plane"):
        model.decode(data)


def test_every_error_of_a_hostile_file_says_what_is_wrong_in_one_line(model: ToyCodec, real: list[Any]) -> None:
    said = []
    for i in range(0, 300, 3):
        try:
            model.decode(fuzz.mutant(i, 9, real, model).data)
        except UqdmError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all(len(text) > 20 and "\n" not in text for text in said)


def test_a_box_that_holds_nothing_has_a_mean_within_its_ends_from_every_coder() -> None:
    # Streams that no encoder writes leave such boxes in paper mode; a table was once read far
    # beyond its end for them.
    chance = np.random.default_rng(0)
    low, high = chance.integers(-255, 257, (2, 5000))
    location = np.where(chance.random(5000) < 0.5, (low + high) << 15, chance.integers(-(1 << 30), 1 << 30, 5000))
    level = chance.integers(0, 128, 5000)
    means = [tables.mean(location, level, low, high, coder).astype(np.int64) for coder in available()]
    for found in means:
        assert (found == means[0]).all()
        assert (found >= np.minimum(low, high) << 16).all()
        assert (found <= np.maximum(low, high) << 16).all()


def test_steps_that_contradict_each_other_in_paper_mode_do_not_crash(model: ToyCodec, real: list[Any]) -> None:
    for one in (one for one in real if "paper" in one.name and len(one.data) < 700):
        for step in range(1, 5):
            for stream in (b"\xff" * 40, bytes(40) + b"\1"):  # the last, and the first, symbol of every table
                parts = mutants.Parts.of(one.data)
                at = next(i for i, (tag, _) in enumerate(parts.chunks) if tag == STEP + step)
                parts.chunks[at] = parts.chunks[at][0], parts.chunks[at][1][:4] + stream
                file = fuzz.agreed(mutants.seal(parts.join()), model)
                try_everything(model, file)
                for end in range(20, len(file), 23):
                    with contextlib.suppress(UqdmError):
                        model.decode(file[:end])


def test_drawn_pictures_are_the_same_every_time() -> None:
    assert np.array_equal(fuzz.drawn(5, 7, 3, 1), fuzz.drawn(5, 7, 3, 1))
    assert fuzz.drawn(5, 7, 3, 1).std() > 1
