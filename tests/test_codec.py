"""Pictures to streams and back: the promises of docs/format.md, on files of the embedded models and
of toy networks.
"""

import dataclasses
import functools
import io
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import photograph
from toys import Floats, Integers, ToyCodec

import uqdm
from uqdm import codec, errors, files, format, library
from uqdm.entropy import choice
from uqdm.picture import Picture
from uqdm.previews import Method
from uqdm.walk import Reader


def toy(kind: str, **options: Any) -> ToyCodec:
    """A codec over a network of integers, the default's kind, or of floats, or of one that cannot
    look at the middle of a step.
    """
    networks = {"exact": Integers(mixed=True), "floats": Floats(sees_z=True), "unmixed": Integers()}
    return ToyCodec(networks[kind], "rgb" if kind == "floats" else "ycocg-r", **options)


def known(decoded: codec.Decoded) -> tuple[Any, ...]:
    """What is told of a decoded file, pixels and alpha as bytes."""
    picture = decoded.picture
    alpha = None if picture.alpha is None else picture.alpha.tobytes()
    return (picture.pixels.tobytes(), alpha, decoded.step, decoded.steps, decoded.partial, decoded.bound, decoded.tail)


def checks(data: bytes) -> list[int]:
    """Where in a file a check ends, as docs/format.md has it: the header's, every head's, every
    piece's.
    """
    contents = format.parse(data)
    found = [contents.header_size]
    for chunk in contents.chunks:
        found.append(chunk.start + 1 + len(format.varint(chunk.size)) + 2)
        for at in range(0, max(chunk.size, 1), format.PIECE):
            found.append(found[-1] + min(format.PIECE, chunk.size - at) + 4)
    assert found[-1] == len(data)
    return found


def rebuilt(data: bytes, **changed: bytes) -> bytes:
    """The file with payloads of steps ("step2" -> bytes) replaced and every check made right
    again.
    """
    contents = format.parse(data)
    out = bytearray(data[: contents.header_size])
    for chunk in contents.chunks:
        out += format.write_chunk(chunk.kind, chunk.index, changed.get(f"step{chunk.index}", chunk.payload), out)
    return bytes(out)


@pytest.fixture(params=["default, tight", "light, tight", "light, paper"])
def coded(request: pytest.FixtureRequest) -> tuple[codec.Codec, str]:
    """The embedded models in all their modes."""
    name, mode = request.param.split(", ")
    return request.getfixturevalue(name), mode


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 1, 3), (1, 9, 3), (33, 18, 3), (20, 24), (20, 24, 4), (20, 24, 2)])
def test_every_size_and_kind_comes_back_bit_for_bit(coded: tuple[codec.Codec, str], shape: tuple[int, ...]) -> None:
    model, mode = coded
    picture = photograph(shape[0], shape[1])
    channels = shape[2] if len(shape) == 3 else 1
    picture = {1: picture[..., 0], 2: picture[..., :2], 3: picture, 4: np.dstack([picture, picture[..., 0]])}[channels]
    data = model.compress(picture, mode=mode)
    assert (model.decompress(data) == picture).all()


def test_noise_and_flat_pictures_come_back(default: codec.Codec) -> None:
    random = np.random.default_rng(0)
    for picture in (
        random.integers(0, 256, (31, 40, 3)),
        np.zeros((16, 16, 3)),
        np.full((16, 16, 3), 255),
        random.integers(0, 2, (16, 16, 3)) * 255,
    ):
        picture = picture.astype(np.uint8)
        assert (default.decompress(default.compress(picture)) == picture).all()


@pytest.mark.parametrize("seed", [1, 2**64 - 1])
def test_any_seed_comes_back_and_gives_other_bytes(default: codec.Codec, seed: int) -> None:
    picture = photograph(16, 16)
    data = default.compress(picture, seed=seed)
    assert (default.decompress(data) == picture).all()
    assert data != default.compress(picture)


def test_coded_length_is_the_models_estimate_within_0_3_percent_and_4_bytes_per_step(
    coded: tuple[codec.Codec, str],
) -> None:
    model, mode = coded
    picture = photograph(64, 64)
    contents = format.parse(model.compress(picture, mode=mode))
    estimate = model.estimate(picture, mode=mode)
    for chunk, bits in zip(contents.chunks, estimate, strict=True):
        head = contents.header.symbol_check(chunk.index)
        assert abs(len(chunk.payload) - head - bits / 8) <= 0.003 * bits / 8 + 4


def test_everything_but_the_coded_symbols_takes_at_most_24_bytes_and_5_a_step(default: codec.Codec) -> None:
    """A header of 23, and for each step its length and two checks; the last step's is longer by 1."""
    data = default.compress(photograph(64, 64))
    contents = format.parse(data)
    assert contents.header.compact
    coded = sum(len(chunk.payload) - contents.header.symbol_check(chunk.index) for chunk in contents.chunks)
    assert len(data) - coded <= 24 + 5 * default.steps


def test_a_batch_gives_each_picture_its_own_file(default: codec.Codec) -> None:
    pictures = [photograph(24, 24, 0), photograph(16, 30, 1), photograph(24, 24, 2), photograph(24, 24, 3)[..., 0]]
    files = default.compress(pictures)
    assert [default.compress(p) for p in pictures] == files
    for picture, found in zip(pictures, default.decompress(files), strict=True):
        assert (picture == found).all()


# --- cut anywhere


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many symbols each chunk that is read gives, whole or not, in the order in which they are
    read.
    """
    found: list[int] = []
    finish = Reader.finish

    def counting(reader: Reader) -> None:
        found.append(reader.received)
        finish(reader)

    monkeypatch.setattr(Reader, "finish", counting)
    return found


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("mode", ["tight", "paper"])
@pytest.mark.parametrize("kind", ["exact", "floats", "unmixed"])
def test_a_file_cut_at_any_byte_decodes_uses_every_certain_symbol_and_says_how_far(
    kind: str, mode: str, grey: bool, used: list[int]
) -> None:
    pixels = photograph(12, 10)
    pixels = pixels[..., :1] if grey else pixels
    alpha = np.add.outer(np.arange(12), np.arange(10)).astype(np.uint8)
    model = toy(kind)
    data = model.compress(Picture(pixels, alpha, b"profile"), mode=mode)
    contents, checked = format.parse(data), checks(data)
    size = contents.header_size
    steps = [chunk for chunk in contents.chunks if chunk.kind == format.STEP]
    head = 4 + (kind == "floats")
    for n in range(size):
        with pytest.raises(errors.FormatError):
            model.decode(data[:n])
    before, symbols, errors_ = None, -1, []
    for n in range(size, len(data) + 1):
        used.clear()
        decoded = model.decode(data[:n])
        reached = sum(chunk.end <= n for chunk in steps)
        assert (decoded.step, decoded.steps) == (reached, len(steps))
        assert decoded.tail == n - max(end for end in checked if end <= n)
        assert len(used) in (reached, reached + 1)
        assert decoded.partial == (sum(used[reached:]) > 0)
        assert sum(used) >= symbols  # more bytes never make fewer symbols certain
        symbols = sum(used)
        if reached < len(steps) and n >= steps[reached].start + 4 + head + 12:  # a head, a check, three words
            assert decoded.partial
        error = np.abs(decoded.picture.pixels.astype(int) - pixels)
        assert error.max() <= decoded.bound
        if before is not None and mode == "tight":
            assert decoded.bound <= before.bound
        if not decoded.partial and n < len(data):
            assert known(decoded)[:2] == known(model.decode(data[:n], step=reached))[:2]
        assert (decoded.picture.alpha is None) == (n < contents.chunks[1].end)
        before = decoded
        errors_.append((error**2).mean())
    assert (decoded.picture.pixels == pixels).all()
    assert (decoded.step, decoded.partial, decoded.bound, decoded.tail) == (len(steps), False, 0, 0)
    if mode == "tight":  # paper previews of whole steps are the network's alone, as published
        lowest = np.minimum.accumulate(errors_)
        assert (errors_ <= 1.5 * lowest + 0.05).all()
        assert np.mean(errors_ <= 1.05 * lowest) > 0.85


def test_the_default_model_decodes_files_cut_anywhere_and_gets_better_with_their_length(default: codec.Codec) -> None:
    picture = photograph(32, 32)
    data = default.compress(picture)
    size = format.parse(data).header_size
    found = [default.decode(data[:n]) for n in np.linspace(size, len(data), 24).astype(int)]
    errors_ = [((decoded.image.astype(float) - picture) ** 2).mean() for decoded in found]
    assert all(
        b < 1.1 * a for a, b in pairwise(errors_[1:])
    )  # one picture; over many the mean never falls (docs/log.md)
    assert all(b < a for a, b in zip(errors_, errors_[4:]))
    assert all(np.abs(decoded.image.astype(int) - picture).max() <= decoded.bound for decoded in found)
    assert all(a.bound >= b.bound for a, b in pairwise(found))
    assert sum(decoded.partial for decoded in found) >= 18


def test_a_file_cut_after_any_chunk_decodes_to_that_step(default: codec.Codec) -> None:
    picture = photograph(32, 32)
    data = default.compress(picture)
    contents = format.parse(data)
    ends = [contents.header_size, *(chunk.end for chunk in contents.chunks)]
    for step, end in enumerate(ends):
        assert known(default.decode(data[:end])) == known(default.decode(data, step=step))
        assert default.decode(data[:end]).step == step


def test_the_flow_goes_on_from_whole_steps() -> None:
    model, picture = toy("exact"), photograph(12, 10)
    data = model.compress(picture)
    end, head = format.parse(data).chunks[1].end, checks(data)[5]
    cut, whole = model.decode(data[: end + 60], method="flow"), model.decode(data, step=2, method="flow")
    assert (cut.step, cut.partial, cut.bound, cut.tail) == (2, False, whole.bound, end + 60 - head)
    assert (cut.image == whole.image).all()
    assert model.decode(data, method="flow").bound == 0


@pytest.mark.parametrize("method", ["flow", "ancestral"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "mode"), [("nano", "tight"), ("light", "tight"), ("light", "paper")])
def test_whatever_the_method_previews_keep_their_bound_in_tight_mode_and_promise_none_as_published(
    name: str, mode: str, method: Method, seed: int, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    picture = (
        np.random.default_rng(seed).integers(0, 2, (12, 10, 3), dtype=np.uint8) * 255 if seed else photograph(12, 10)
    )
    data = model.compress(picture, mode=mode)
    ends = [chunk.end for chunk in format.parse(data).chunks]
    for end in (*ends, ends[0] + 30, ends[1] + 60, ends[2] + 90):
        found = model.decode(data[:end], method=method, seed=seed)
        worst = int(np.abs(found.image.astype(int) - picture).max())
        assert worst <= found.bound
        if mode == "paper" and end < ends[-1]:
            assert found.bound == 255
        if mode == "tight" and end >= ends[2]:
            assert found.bound < 64


def test_ancestral_previews_use_every_certain_symbol_of_a_step_that_was_cut(coded: tuple[codec.Codec, str]) -> None:
    model, mode = coded
    picture = photograph(32, 32)
    data = model.compress(picture, mode=mode)
    last = format.parse(data).chunks[-2]
    ends = np.linspace(last.start, last.end, 6).astype(int)
    found = [model.decode(data[:end], method="ancestral", seed=5) for end in ends]
    assert [decoded.partial for decoded in found] == [False, *[True] * 4, False]
    errors_ = [((decoded.image.astype(float) - picture) ** 2).mean() for decoded in found]
    assert all(b < a for a, b in pairwise(errors_))
    known_by_then = model.decode(data[: ends[3]])
    assert found[3].step == known_by_then.step


def test_a_lower_temperature_is_nearer_to_the_mean_and_zero_knows_no_chance(default: codec.Codec) -> None:
    picture = photograph(32, 32)
    data = default.compress(picture)

    def error(temperature: float, seed: int = 0) -> float:
        # After fewer steps the medians of many wide cells in a row are no nearer than draws at 0.6.
        found = default.decode(data, step=4, method="ancestral", seed=seed, temperature=temperature).image
        return float(((found.astype(float) - picture) ** 2).mean())

    assert error(0) < error(0.6) < error(1)
    assert error(0, seed=1) == error(0)
    assert error(0.6, seed=1) != error(0.6)
    a, b = (default.sample(1, 16, 16, seed, temperature=0)[0] for seed in (1, 2))
    assert a.std() < default.sample(1, 16, 16, 1)[0].std()
    assert (a != b).any()  # the dither is another
    with pytest.raises(ValueError, match=r"temperature 1\.5; expected 0 \.\. 1"):
        default.decode(data, step=1, method="ancestral", temperature=1.5)


def test_a_mix_of_whole_and_cut_files_gives_what_each_gives_alone() -> None:
    for kind in ("exact", "floats"):
        model = toy(kind)
        pictures = [photograph(12, 10, seed) for seed in range(4)] + [photograph(9, 11), photograph(12, 10)[..., 0]]
        whole = model.compress(pictures) + model.compress(pictures[:2], mode="paper", seed=9)
        ends = [chunk.end for chunk in format.parse(whole[0]).chunks]
        cut = [whole[0][: ends[1] + n] for n in (0, 2, 6, 9, 30, 90)] + [
            whole[1][: ends[1] + 40],
            whole[0][: ends[0] + 20],
        ]
        cut += [data[: len(data) - 1 - i] for i, data in enumerate(whole)]
        files = [data for pair in zip(cut, cut[::-1]) for data in pair] + whole
        for data, decoded in zip(files, model.decode_many(files), strict=True):
            assert known(decoded) == known(model.decode(data))


@pytest.mark.parametrize("method", ["denoise", "flow", "ancestral"])
def test_previews_get_closer_with_every_step(default: codec.Codec, method: str) -> None:
    picture = photograph(64, 64)
    data = default.compress(picture)
    errors_ = [
        ((default.decode(data, step=s, method=method).image.astype(float) - picture) ** 2).mean()
        for s in range(default.steps + 1)
    ]
    assert all(a > b for a, b in pairwise(errors_))
    assert errors_[-1] == 0


class Slow(io.RawIOBase):
    """A stream that gives a byte or two at a time, as a network may."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 1 + self._file.tell() % 2))

    def tell(self) -> int:
        return self._file.tell()


def arriving(model: codec.Codec, data: bytes, parts: int) -> Iterator[tuple[int, codec.Decoded]]:
    """Previews, and how many bytes had been read when each was given."""
    stream = Slow(data)
    for decoded in model.progressive(stream, parts=parts):  # type: ignore[arg-type]
        yield stream.tell(), decoded


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("mode", ["tight", "paper"])
@pytest.mark.parametrize("kind", ["exact", "floats", "unmixed"])
def test_previews_that_arrive_are_what_the_bytes_so_far_decode_to(kind: str, mode: str, parts: int) -> None:
    model, picture = toy(kind), photograph(24, 22)
    data = model.compress(Picture(picture, np.full((24, 22), 7, np.uint8)), mode=mode)
    ends = [chunk.end for chunk in format.parse(data).chunks if chunk.kind == format.STEP]
    found = list(arriving(model, data, parts))
    assert [n for n, decoded in found if not decoded.partial and not decoded.tail] == ends
    assert len(found) == parts * len(ends)
    for n, decoded in found:
        assert known(decoded) == known(model.decode(data[:n]))
    assert [known(decoded) for decoded in model.progressive(data, parts=parts)] == [
        known(decoded) for _, decoded in found
    ]
    assert (found[-1][1].picture.pixels == picture).all()
    short = data[: (ends[1] + 3 * ends[2]) // 4]
    *_, last = model.progressive(short, parts=parts)
    assert known(last) == known(model.decode(short))
    assert last.partial


def test_previews_of_the_default_model_arrive_with_their_bytes(default: codec.Codec) -> None:
    data = default.compress(photograph(32, 32))
    for n, decoded in arriving(default, data, 2):
        assert known(decoded) == known(default.decode(data[:n]))
    ends = [chunk.end for chunk in format.parse(data).chunks]
    stream = io.BytesIO(data)
    for method in ("flow", "ancestral"):
        stream.seek(0)
        for end, decoded in zip(ends, default.progressive(stream, method), strict=True):
            assert stream.tell() == end
            assert (decoded.image == default.decompress(data, step=decoded.step, method=method)).all()


def test_all_previews_together_ask_the_network_little_more_often_than_one_decode() -> None:
    data = toy("exact").compress(photograph(12, 10))
    for network, most in ((Integers(), 4), (Integers(mixed=True), 4 + 3 * 3)):
        model = ToyCodec(network, "ycocg-r")
        collect = list(model.progressive(data, parts=4))
        assert len(collect) >= 13
        assert len(network.calls) <= most


def test_previews_end_with_an_error_at_damage_after_those_before_it() -> None:
    model = toy("exact")
    data = bytearray(model.compress(photograph(12, 10)))
    data[-10] ^= 1
    previews, found = model.progressive(bytes(data)), []
    with pytest.raises(errors.DamagedError, match="step 4"):
        found.extend((decoded.step, decoded.partial) for decoded in previews)
    assert found[-2:] == [(3, False), (3, True)]


def test_metadata_and_alpha_travel_with_every_prefix(default: codec.Codec) -> None:
    picture = photograph(16, 16)
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = default.compress(Picture(picture, alpha, b"profile", b"II*\0exif", b"<x/>"))
    first = default.decode(data, step=0).picture
    assert (first.icc, first.exif, first.xmp) == (b"profile", b"II*\0exif", b"<x/>")
    assert first.alpha is not None
    assert (first.alpha == alpha).all()
    assert (default.decode(data).picture.pixels == picture).all()


# --- damage


def test_other_symbols_than_were_encoded_are_an_error_that_names_the_step_and_salvage_gives_the_steps_before(
    default: codec.Codec,
) -> None:
    data = default.compress(Picture(photograph(32, 32), xmp=b"<x/>"))  # so not compact: steps have their own checks
    payload = bytearray(format.parse(data).steps[2].payload)
    for at in (0, 20):  # the check, the stream
        wrong = bytearray(payload)
        wrong[at] ^= 4
        damaged = rebuilt(data, step3=bytes(wrong))
        with pytest.raises(errors.NumericsError, match=r"step 3: .*--step 2"):
            default.decompress(damaged)
        with pytest.raises(errors.NumericsError, match="step 3"):
            list(default.progressive(damaged))
        assert (default.decompress(damaged, step=2) == default.decompress(data, step=2)).all()
        found = default.decode(damaged, salvage=True)
        assert (found.step, found.partial) == (2, False)
        assert isinstance(found.damage, errors.NumericsError)
        assert (found.image == default.decompress(data, step=2)).all()
    for step1 in (b"abc", format.parse(data).steps[0].payload + b"\0"):
        with pytest.raises(errors.DamagedError, match=r"step 1.*not one that an encoder writes"):
            default.decompress(rebuilt(data, step1=step1))
        assert default.decode(rebuilt(data, step1=step1), salvage=True).step == 0


@pytest.mark.parametrize("kind", ["exact", "floats"])
def test_a_byte_flipped_anywhere_is_noticed_and_salvage_gives_what_precedes_it(kind: str) -> None:
    model, picture = toy(kind), photograph(6, 5)
    data = model.compress(Picture(picture, np.arange(30, dtype=np.uint8).reshape(6, 5), exif=b"II*\0exif"))
    contents = format.parse(data)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(errors.FormatError) as error:
            model.decode(bytes(damaged))
        if at < contents.header_size:
            with pytest.raises(errors.FormatError):
                model.decode(bytes(damaged), salvage=True)
            continue
        found = model.decode(bytes(damaged), salvage=True)
        assert (type(found.damage), str(found.damage)) == (type(error.value), str(error.value))
        start = next(chunk.start for chunk in contents.chunks if at < chunk.end)
        expected = model.decode(data[:start])
        assert known(found) == known(expected)
        assert (found.picture.exif, found.tail) == (expected.picture.exif, 0)
        assert np.abs(found.picture.pixels.astype(int) - picture).max() <= found.bound


def test_of_a_long_step_salvage_gives_the_pieces_before_the_damage() -> None:
    model = toy("exact")
    picture = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    data = model.compress(picture)
    step = format.parse(data).chunks[3]
    assert 3 * format.PIECE < step.size < 1 << 14
    first = step.start + 1 + 2 + 2
    for piece in range(3):
        start = first + piece * (format.PIECE + 4)
        for at in (start, start + format.PIECE + 3):
            damaged = bytearray(data)
            damaged[at] ^= 16
            found = model.decode(bytes(damaged), salvage=True)
            assert isinstance(found.damage, errors.DamagedError)
            assert f"bytes {start} to" in str(found.damage)
            assert known(found) == known(model.decode(data[:start]))
            assert found.partial == (piece > 0)


def test_bytes_behind_the_end_and_foreign_chunks_are_damage() -> None:
    model, picture = toy("exact"), photograph(12, 10)
    data, other = model.compress(picture), model.compress(picture, seed=1)
    chunks = format.parse(data).chunks
    longer = model.decode(data + b"\0", salvage=True)
    assert (longer.image == picture).all()
    assert "end" in str(longer.damage)
    foreign = data[: chunks[2].start] + other[-(len(data) - chunks[2].start) :]
    with pytest.raises(errors.FormatError):
        model.decode(foreign)
    assert known(model.decode(foreign, salvage=True)) == known(model.decode(data, step=2))


@pytest.mark.parametrize("mode", ["tight", "paper"])
@pytest.mark.parametrize("kind", ["exact", "floats"])
def test_damage_in_bytes_that_no_check_covers_is_shown_or_refused_and_salvage_gives_the_steps_before(
    kind: str, mode: str
) -> None:
    random = np.random.default_rng(0)
    for name in choice.available():
        model = toy(kind, coder=name)
        data = model.compress(photograph(12, 10), mode=mode)
        chunks = format.parse(data).chunks
        for _ in range(60):
            k = int(random.integers(len(chunks)))
            n = int(random.integers(chunks[k].start + 8, chunks[k].end - 4))
            damaged = bytearray(data[:n])
            for at in random.integers(chunks[k].start + 5, n, 3):  # behind the head
                damaged[at] = int(random.integers(256))
            found = model.decode(bytes(damaged), salvage=True)
            assert found.step == k
            try:
                assert known(model.decode(bytes(damaged))) == known(found)
                assert found.damage is None
            except errors.NumericsError as error:
                assert str(error) == str(found.damage)  # noqa: PT017
                assert (found.image == model.decompress(data, step=k)).all()


def test_one_damaged_file_does_not_spoil_the_others_of_its_batch() -> None:
    model = toy("exact")
    files = model.compress([photograph(12, 10, seed) for seed in range(4)])
    flipped = bytearray(files[1])
    flipped[-9] ^= 1
    wrong = bytearray(format.parse(files[2]).chunks[1].payload)
    wrong[1] ^= 1
    files[1:3] = [bytes(flipped), rebuilt(files[2], step2=bytes(wrong))]
    with pytest.raises((errors.FormatError, errors.NumericsError)):
        model.decode_many(files)
    found = model.decode_many(files, salvage=True)
    assert [decoded.step for decoded in found] == [4, 3, 1, 4]
    assert [type(decoded.damage).__name__ for decoded in found] == [
        "NoneType",
        "DamagedError",
        "NumericsError",
        "NoneType",
    ]
    for data, decoded in zip(files, found, strict=True):
        assert known(decoded) == known(model.decode(data, salvage=True))


def test_salvage_takes_at_most_the_steps_that_are_asked_for() -> None:
    model = toy("exact")
    data = model.compress(photograph(12, 10))
    damaged = bytearray(data)
    damaged[-9] ^= 1
    assert model.decode(bytes(damaged), step=3, salvage=True).damage is None
    found = model.decode(bytes(damaged), step=4, salvage=True)
    assert found.step == 3
    assert found.damage is not None


# --- the same bits, whoever codes them


@pytest.mark.parametrize("mode", ["tight", "paper"])
def test_all_coders_write_the_same_bytes_and_read_each_others(mode: str) -> None:
    names = choice.available()
    assert "plain" in names
    picture = photograph(21, 13)
    codecs = {name: ToyCodec(Integers(mixed=True), "ycocg-r", coder=name) for name in names}
    files = {name: one.compress(picture, mode=mode) for name, one in codecs.items()}
    data = files["plain"]
    assert all(file == data for file in files.values())
    lengths = [*range(60, len(data), 83), len(data)]
    plain = [known(codecs["plain"].decode(data[:n])) for n in lengths]
    for one in codecs.values():
        assert (one.decompress(data) == picture).all()
        assert [known(one.decode(data[:n])) for n in lengths] == plain
        assert [known(decoded) for decoded in one.progressive(data, parts=3)] == [
            known(decoded) for decoded in codecs["plain"].progressive(data, parts=3)
        ]
    with pytest.raises(ValueError, match="plain"):
        ToyCodec(Integers(), coder="fastest").compress(picture)


# --- headers and models that do not fit


def reheaded(data: bytes, **changes: object) -> bytes:
    """The file under another header, every check made right again."""
    contents = format.parse(data)
    out = bytearray(format.write_header(dataclasses.replace(contents.header, **changes)))  # type: ignore[arg-type]
    for chunk in contents.chunks:
        out += format.write_chunk(chunk.kind, chunk.index, chunk.payload, out)
    return bytes(out)


def test_a_header_that_does_not_fit_its_model_is_refused() -> None:
    for kind, changes, what in (
        ("exact", {"chunks": 5}, "5 steps.*has 4"),
        ("exact", {"extra": b"\1"}, "4 steps.*has 5"),
        ("exact", {"extra": b"\2"}, "sub-header is 02"),
        ("exact", {"extra": b""}, "sub-header is empty"),
        ("exact", {"arithmetic": "float64"}, "float64 arithmetic.*integers"),
        ("exact", {"arithmetic": "float32"}, "float32 arithmetic.*integers"),
        ("floats", {"arithmetic": "exact"}, "exact arithmetic.*floats"),
        ("nano", {"extra": b"\1"}, "says mode paper; model 'nano', which it names, has tight only"),
    ):
        model: codec.Codec = uqdm.load("nano") if kind == "nano" else toy(kind)
        wrong = reheaded(model.compress(photograph(8, 8)), **changes)
        for attempt in (
            model.decode,
            functools.partial(model.decode, salvage=True),
            lambda data, model=model: list(model.progressive(data)),
        ):
            with pytest.raises(errors.DamagedError, match=what):
                attempt(wrong)


@pytest.mark.parametrize("value", [0, 255])
def test_ancestral_previews_of_extreme_pictures_stay_extreme(coded: tuple[codec.Codec, str], value: int) -> None:
    model, mode = coded
    data = model.compress(np.full((16, 16, 3), value, np.uint8), mode=mode)
    assert np.abs(model.decompress(data, step=3, method="ancestral").astype(int) - value).mean() < 8


def test_an_ancestral_preview_does_not_depend_on_its_place_in_a_batch(default: codec.Codec) -> None:
    data = default.compress(photograph(16, 16))
    a, b = default.decode_many([data, data], step=1, method="ancestral", seed=3)
    assert (a.image == b.image).all()
    assert (a.image == default.decode(data, step=1, method="ancestral", seed=3).image).all()


def test_grey_costs_less_than_the_same_picture_in_colour(coded: tuple[codec.Codec, str]) -> None:
    model, mode = coded
    grey = photograph(32, 32)[..., 0]
    assert len(model.compress(grey, mode=mode)) < len(model.compress(np.stack([grey] * 3, -1), mode=mode))


def test_a_pillow_image_keeps_its_alpha_and_profile(default: codec.Codec) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.dstack([photograph(8, 8), np.full((8, 8), 7, np.uint8)])).save(
        file, "PNG", icc_profile=b"profile"
    )
    back = default.decode(default.compress(Image.open(file))).picture
    assert back.icc == b"profile"
    assert back.alpha is not None
    assert (back.alpha == 7).all()
    with pytest.raises(errors.ImageError, match="palette"):
        default.compress(Image.new("P", (4, 4)))


def test_mistaken_arguments_say_what_was_expected(default: codec.Codec) -> None:
    picture = photograph(8, 8)
    with pytest.raises(ValueError, match="has tight only"):
        default.compress(picture, mode="fast")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="float64"):
        codec.Codec(default.package, precision="float16")
    with pytest.raises(ValueError, match="denoise, ancestral or flow"):
        default.decompress(default.compress(picture), step=1, method="best")  # type: ignore[call-overload]
    with pytest.raises(errors.LimitError, match="max_pixels"):
        codec.Codec(default.package, max_pixels=10).sample(1, 8, 8)


def test_streams_that_no_encoder_writes_are_refused(default: codec.Codec) -> None:
    data = default.compress(photograph(16, 16))
    payload = format.parse(data).chunks[0].payload
    with pytest.raises(errors.DamagedError, match="step 1"):
        default.decompress(rebuilt(data, step1=payload + b"\0"))


def test_files_of_other_models_are_refused(default: codec.Codec) -> None:
    data = default.compress(Picture(photograph(16, 16), xmp=b"<x/>"))  # so not compact: with its model's name
    renamed = functools.partial(reheaded, data)
    with pytest.raises(errors.FingerprintError, match="fingerprint"):
        library.open_for(renamed(fingerprint=b"\0" * 8))
    with pytest.raises(errors.FingerprintError):
        default.decompress(renamed(fingerprint=b"\0" * 8))
    with pytest.raises(errors.UnknownModelError, match="no-such-model"):
        library.open_for(renamed(model="no-such-model", fingerprint=b"\1" * 8))
    assert (
        library.open_for(renamed(model="another-name")).fingerprint == default.fingerprint
    )  # what it computes is what counts


class Asked(ToyCodec):
    """Remembers in which precisions networks were asked for; in float32 it gives other numbers."""

    def networks(self, precision: str | None) -> Any:
        self.__dict__.setdefault("precisions", []).append(precision)
        network = self._network

        class Rounded(type(network)):  # type: ignore[misc]
            def __call__(self, *arguments: Any) -> Any:
                return tuple(a.astype(np.float32).astype(np.float64) for a in network(*arguments))

        return Rounded() if precision == "float32" else network


def test_files_of_float_models_say_how_the_network_ran_and_decoding_follows_them() -> None:
    picture = photograph(16, 16)
    fast, slow = Asked(Floats(), precision="float32"), Asked(Floats())
    data = fast.compress(picture)
    assert (fast.exact, fast.arithmetic, uqdm.inspect(data).arithmetic) == (False, "float32", "float32")
    assert (slow.decompress(data) == picture).all()
    assert "float32" in slow.precisions
    assert uqdm.inspect(slow.compress(picture)).arithmetic == slow.arithmetic == "float64"
    assert (fast.decompress(slow.compress(picture)) == picture).all()


def test_the_default_model_computes_in_integers_and_its_files_say_so(default: codec.Codec) -> None:
    assert default.exact
    assert default.arithmetic == "exact"
    picture = photograph(16, 16)
    data = default.compress(picture)
    assert uqdm.inspect(data).arithmetic == "exact"
    for precision in codec.PRECISIONS:
        other = codec.Codec(default.package, precision=precision)
        assert other.arithmetic == "exact"
        assert other.compress(picture) == data
        assert (other.decompress(data) == picture).all()


def test_samples_follow_their_seed(default: codec.Codec) -> None:
    a, b = default.sample(2, 16, 24, seed=5)
    again = default.sample(2, 16, 24, seed=5)
    assert a.shape == (16, 24, 3)
    assert (a == again[0]).all()
    assert (b == again[1]).all()
    assert (a != b).any()
    assert (a != default.sample(1, 16, 24, seed=6)[0]).any()


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8), "text", None]
)
def test_what_is_not_a_picture_is_refused(default: codec.Codec, wrong: object) -> None:
    with pytest.raises(errors.ImageError):
        default.compress(wrong)  # type: ignore[call-overload]


def test_steps_that_are_not_there_are_refused(default: codec.Codec) -> None:
    data = default.compress(photograph(16, 16))
    with pytest.raises(errors.LimitError, match=f"this file has steps 0 to {default.steps}"):
        default.decompress(data, step=default.steps + 1)
    with pytest.raises(errors.LimitError, match="holds 1"):
        default.decompress(uqdm.truncate(data, step=1), step=3)


def test_a_header_that_asks_for_too_much_is_refused_at_once() -> None:
    model = toy("exact")
    fingerprint = bytes.fromhex(model.fingerprint)[:8]
    for side in (1 << 24, 1 << 14):
        h = format.Header(side, side, False, False, "exact", model.name, fingerprint, 4, b"\0")
        data = format.write_header(h)
        tracemalloc.start()
        for attempt in (
            model.decode,
            lambda data: model.decode(data, salvage=True),
            lambda data: list(model.progressive(data)),
        ):
            with pytest.raises(errors.LimitError, match="max_pixels"):
                attempt(data)
        with pytest.raises(errors.LimitError):
            library.open_for(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def test_load_chooses_what_runs_the_network_and_the_coder_and_no_bit_depends_on_it(default: codec.Codec) -> None:
    picture = photograph(20, 20)
    data = default.compress(picture)
    assert default.steps == 7
    for options in (
        {},
        {"backend": "numpy"},
        {"coder": "plain", "threads": 1},
        {"precision": "float64"},
        {"max_pixels": 400},
    ):
        one = uqdm.load(**options)  # type: ignore[arg-type]
        assert one.compress(picture) == data
        assert (one.decompress(data) == picture).all()
    with pytest.raises(errors.BackendError, match="abacus"):
        uqdm.load(backend="abacus")


def test_max_pixels_limits_what_is_written_read_and_drawn() -> None:
    picture = photograph(12, 10)
    data = toy("exact").compress(picture)
    allowed, refused = (ToyCodec(Integers(mixed=True), "ycocg-r", max_pixels=n) for n in (120, 119))
    assert allowed.compress(picture) == data
    assert (allowed.decompress(data) == picture).all()
    assert allowed.sample(1, 12, 10)[0].shape == (12, 10, 3)
    for attempt in (
        lambda: refused.compress(picture),
        lambda: refused.compress([picture[:5], picture]),
        lambda: refused.decompress(data),
        lambda: list(refused.progressive(data)),
        lambda: refused.sample(1, 12, 10),
    ):
        with pytest.raises(errors.LimitError, match="120"):
            attempt()


def test_pictures_from_files_keep_what_they_carry(default: codec.Codec) -> None:
    picture = photograph(12, 12)
    file = io.BytesIO()
    carried = Picture(picture, None, b"profile", b"II*\0exif", b"<x/>")
    files.write(carried, file, "PNG")
    back = default.decode(default.compress(files.read(file.getvalue()))).picture
    assert (back.pixels == picture).all()
    assert (back.icc, back.exif, back.xmp) == (carried.icc, carried.exif, carried.xmp)


def test_a_picture_with_alpha_comes_back_where_errors_are_told_too(default: codec.Codec) -> None:
    image = np.random.default_rng(0).integers(0, 256, (130, 130, 4), dtype=np.uint8) // 8
    data = default.compress(image)
    assert {format.ALPHA, format.ERRORS} <= {chunk.kind for chunk in format.parse(data).chunks}
    assert (default.decompress(data) == image).all()
