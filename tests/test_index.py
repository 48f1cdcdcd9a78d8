"""The index in the head of long files: what their beginnings show (docs/format.md, "Index")."""

import io
import itertools
import json
import math
from pathlib import Path
from typing import Any

import document.pyramid
import document.stream
import numpy as np
import pytest
from commands import Run, failed, succeeded
from document.convolutions import whole
from golden import make
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file

import uqdm
from uqdm import bundle, codec, format, measured, pillow
from uqdm.errors import DamagedError, FormatError, LimitError
from uqdm.format import INDEX, STEP, Header, Place, parse, read_index, write_chunk, write_header, write_index
from uqdm.picture import Picture
from uqdm.quality import psnr

HEADER = Header(200, 100, False, False, "exact", "photo", bytes(range(8)), 3, b"\0", minor=1)
BY_CHANCE = make.HERE / "pyramid-by-chance"


def picture(seed: int, height: int = 144, width: int = 160) -> np.ndarray:
    """Waves and some noise, (H, W, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 9
    waves = [np.sin(y * a + x * b) for a, b in random.uniform(-1, 1, (3, 2))]
    return np.clip(128 + 60 * np.stack(waves, -1) + random.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def by_chance() -> codec.Codec:
    """A small pyramid of three steps, its weights by chance."""
    return codec.Codec(bundle.read(BY_CHANCE))


@pytest.fixture(scope="module")
def data(by_chance: codec.Codec) -> bytes:
    found: bytes = by_chance.compress(picture(0))
    return found


def places(data: bytes) -> list[Place]:
    found = read_index(parse(data))
    assert found is not None
    return found


def told(shown: np.ndarray, image: np.ndarray) -> float:
    """The PSNR of what is shown, as an index tells it."""
    found = psnr(float(np.mean((shown.astype(int) - image) ** 2)))
    return found if math.isinf(found) else math.floor(256 * found) / 256


# --- the container


def build(index: bytes, sizes: list[int], header: Header = HEADER) -> bytes:
    data = write_header(header)
    data += write_chunk(INDEX, 0, index, data)
    for k, size in enumerate(sizes, 1):
        data += write_chunk(STEP, k, bytes(size), data)
    return data


@given(
    st.lists(st.tuples(st.integers(1, 6000), st.lists(st.floats(0.005, 200), max_size=3)), min_size=1, max_size=3),
    st.floats(0, 255),
)
def test_places_come_back_to_a_256th_of_a_decibel_rounded_down(steps: list[Any], first: float) -> None:
    ends = format.ends(parse(build(b"", [size for size, _ in steps])))
    written = [Place(ends[0], first, 0)]
    for k, (_, inside) in enumerate(steps, 1):
        written += [Place(ends[k - 1] + 1 + i, dB, k - 1, True) for i, dB in enumerate(inside)]
        written.append(Place(ends[k], math.inf if k == 3 else 40.0, k))
    data = build(write_index(written, ends[0]), [size for size, _ in steps])
    moved = len(data) - ends[-1]
    found = places(data)
    assert [(one.bytes, one.step, one.inside) for one in found] == [
        (one.bytes + moved, one.step, one.inside) for one in written
    ]
    for one, before in zip(found, written):
        assert one.psnr == before.psnr or 0 <= before.psnr - one.psnr < 1 / 256


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0",  # ends inside a place
        b"\0\0\0\x80",
        b"\x80\0\0\0",  # a varint that is too long
        b"\1\0\0",  # the first place is inside a step
        b"\0\0\0\0\0\0",  # no byte between two places
        b"\2\0\0",  # step 1 begins elsewhere
        b"\0\0\0\x0c\0\0",  # step 1 ends elsewhere
        b"\0\0\0" + b"\x26\0\0" * 4,  # more steps than the header says
    ],
)
def test_an_index_that_no_encoder_writes_is_refused_by_who_reads_it(payload: bytes) -> None:
    data = build(payload, [10, 10, 10])
    with pytest.raises(DamagedError, match="the index"):
        read_index(parse(data))
    with pytest.raises(DamagedError, match="the index"):
        uqdm.inspect(data)


def test_an_index_comes_first_once_and_is_short() -> None:
    data = build(b"\0\0\0", [10, 10, 10])
    again = write_header(HEADER) + data[len(write_header(HEADER)) : format.ends(parse(data))[0]]
    with pytest.raises(DamagedError, match="a second index chunk"):
        parse(again + write_chunk(INDEX, 0, b"", again))
    later = write_header(HEADER)
    later += write_chunk(format.ICC, 0, b"profile", later)
    with pytest.raises(DamagedError, match="a chunk of kind index is out of order"):
        parse(later + write_chunk(INDEX, 0, b"", later))
    with pytest.raises(LimitError, match="index"):
        parse(build(bytes(format.MAX_INDEX + 1), [1]))
    old = Header(200, 100, False, False, "exact", "nano", bytes(range(8)), 3, b"\0")
    with pytest.raises(DamagedError, match=r"a chunk of kind 0, which files of format version 1\.0 do not have"):
        parse(build(b"\0\0\0", [1], old))


# --- what encoders write


def test_every_place_shows_what_the_index_says(by_chance: codec.Codec, data: bytes) -> None:
    found = places(data)
    assert len(data) >= measured.LEAST_INDEXED
    assert [one.bytes for one in found] == format.ends(parse(data))
    assert found[-1] == Place(len(data), math.inf, by_chance.steps)
    for one in found:
        decoded = by_chance.decode(data[: one.bytes])
        assert (decoded.step, decoded.partial) == (one.step, one.inside)
        assert told(decoded.image, picture(0)) == one.psnr


def test_the_default_model_tells_places_too(default: codec.Codec) -> None:
    image = picture(1, 160, 176)
    data = default.compress(image)
    found = places(data)
    for one in found:
        assert told(default.decompress(data[: one.bytes]), image) == one.psnr
    assert found[-1].bytes == len(data)
    assert parse(data).chunks[0].kind == INDEX
    assert parse(data).chunks[0].end < 1000


def test_files_are_as_without_an_index_but_for_their_checks(by_chance: codec.Codec, data: bytes) -> None:
    bare = by_chance.compress(picture(0), index=False)
    assert read_index(parse(bare)) is None
    assert [(c.kind, c.payload) for c in parse(bare).chunks] == [(c.kind, c.payload) for c in parse(data).chunks[1:]]
    assert (by_chance.decompress(data) == picture(0)).all()


def test_short_files_and_files_of_older_models_have_none(by_chance: codec.Codec, nano: codec.Codec) -> None:
    assert read_index(parse(by_chance.compress(picture(0), step=1))) is None
    assert read_index(parse(by_chance.compress(picture(2, 100, 130)))) is None
    assert read_index(parse(nano.compress(picture(2)))) is None


def test_a_file_cut_inside_its_index_decodes_and_has_none(by_chance: codec.Codec, data: bytes) -> None:
    begin, end = parse(data).header_size, parse(data).chunks[0].end
    rough = by_chance.decompress(data, step=0)
    for size in range(begin, end):
        assert read_index(parse(data[:size])) is None
        assert parse(data[:size]).tail <= size - begin
    for size in (begin, begin + 2, begin + 9, end - 1, end):
        assert (by_chance.decompress(data[:size]) == rough).all()
    assert read_index(parse(data[:end])) == places(data)
    assert uqdm.inspect(data[:end]).index == places(data)


def test_any_flipped_bit_of_an_index_is_noticed(data: bytes) -> None:
    begin, end = parse(data).header_size, parse(data).chunks[0].end
    for at in range(begin, end):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        with pytest.raises(FormatError):
            parse(bytes(broken))


def test_an_index_does_not_depend_on_the_batch_or_the_coder(by_chance: codec.Codec, data: bytes) -> None:
    assert by_chance.compress([picture(3), picture(0), picture(0)[::-1].copy()])[1] == data
    for name in uqdm.entropy.coder.available():
        assert codec.Codec(by_chance.package, coder=name).compress(picture(0)) == data


def test_grey_pictures_and_what_is_carried(by_chance: codec.Codec) -> None:
    grey, alpha = picture(4, 200, 240)[:, :, :1], picture(5, 200, 240)[:, :, 0]
    data = by_chance.compress(Picture(grey, alpha, b"a colour profile", b"II*\0exif", b"<xmp/>"))
    assert [chunk.kind for chunk in parse(data).chunks][:7] == [0, 1, 2, 3, 4, 5, STEP]
    for one in places(data):
        assert told(by_chance.decode(data[: one.bytes]).picture.pixels, grey) == one.psnr
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.info["icc_profile"] == b"a colour profile"
        assert opened.info["xmp"] == b"<xmp/>"


# --- goals


def test_a_file_with_a_goal_tells_of_what_it_may_reach(by_chance: codec.Codec, data: bytes) -> None:
    size = places(data)[-1].bytes * 3 // 4
    sized = by_chance.compress(picture(0), target_size=size)
    assert len(sized) == size
    assert 1 < len(places(sized)) < len(places(data))
    two = by_chance.compress(picture(0), step=2)
    assert [one.step for one in places(two) if not one.inside] == [0, 1, 2]
    wanted = places(data)[2].psnr + 1
    good = by_chance.compress(picture(0), psnr=wanted)
    assert places(good)[-1].bytes <= len(good) < len(data)
    assert told(by_chance.decompress(good), picture(0)) >= wanted - 1 / 256
    assert told(by_chance.decompress(good[:-1]), picture(0)) < wanted
    near = by_chance.compress(picture(0), max_error=2)
    for one in places(near):
        assert told(by_chance.decompress(near[: one.bytes]), picture(0)) == one.psnr


def test_a_cut_by_decibels_is_the_first_place_that_has_them(by_chance: codec.Codec, data: bytes) -> None:
    found = places(data)
    for before, one in itertools.pairwise(found):
        if one.psnr <= max(other.psnr for other in found if other.bytes < one.bytes):
            continue
        for wanted in (one.psnr, np.nextafter(max(before.psnr, 0.1), 99)):
            short = uqdm.truncate(data, psnr=wanted)
            assert short == data[: next(other.bytes for other in found if other.psnr >= wanted)]
            assert told(by_chance.decompress(short), picture(0)) >= wanted
            assert uqdm.truncate(short, psnr=wanted) == short  # the index goes with it
            assert (by_chance.decompress(data, psnr=wanted) == by_chance.decompress(short)).all()
    assert uqdm.truncate(data, psnr=math.inf) == data


def test_what_an_index_does_not_know_is_an_error(by_chance: codec.Codec, data: bytes) -> None:
    for bare in (by_chance.compress(picture(0), index=False), data[: parse(data).chunks[0].end - 1]):
        with pytest.raises(LimitError, match="has no index, so what its beginnings show is not known"):
            uqdm.truncate(bare, psnr=30)
    last = places(data)[-2]
    with pytest.raises(LimitError, match=f"take {last.bytes} bytes; the file was cut and holds {last.bytes - 1}"):
        uqdm.truncate(data[: last.bytes - 1], psnr=last.psnr)
    two = by_chance.compress(picture(0), step=2)
    with pytest.raises(LimitError, match=r"knows of at most [\d.]+ dB"):
        uqdm.truncate(two, psnr=90)
    for wrong in (0, -3, math.nan):
        with pytest.raises(ValueError, match="expected a number of decibels above 0"):
            uqdm.truncate(data, psnr=wrong)
    with pytest.raises(ValueError, match="cannot be used together"):
        uqdm.truncate(data, psnr=30, step=1)


# --- doors


def test_commands_show_and_use_the_index(run: Run, data: bytes) -> None:
    Path("a.uqdm").write_bytes(data)
    found = places(data)
    shown = succeeded(run("info", "a.uqdm")).stdout
    for one in found[1:-1]:
        name = f"in step {one.step + 1}" if one.inside else f"step {one.step}"
        words = [*name.split(), str(one.bytes), f"{8 * one.bytes / (144 * 160):.3f}", f"{one.psnr:.2f}"]
        assert words in [line.split() for line in shown.splitlines()]
    assert json.loads(succeeded(run("info", "a.uqdm", "--json")).stdout)["index"] == [
        {"bytes": p.bytes, "psnr": None if math.isinf(p.psnr) else p.psnr, "step": p.step, "inside": p.inside}
        for p in found
    ]
    wanted = found[len(found) // 2].psnr
    succeeded(run("truncate", "a.uqdm", "b.uqdm", "--psnr", wanted))
    assert Path("b.uqdm").read_bytes() == uqdm.truncate(data, psnr=wanted)
    assert "behind the end" in succeeded(run("info", "b.uqdm")).stdout
    succeeded(run("decompress", "a.uqdm", "a.png", "--psnr", wanted, "--model", BY_CHANCE))
    succeeded(run("decompress", "b.uqdm", "b.png", "--model", BY_CHANCE))
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    Image.fromarray(picture(0)).save("c.png")
    succeeded(run("compress", "c.png", "--model", BY_CHANCE, "--no-index"))
    assert "index" not in succeeded(run("info", "c.uqdm")).stdout
    failed(run("truncate", "c.uqdm", "d.uqdm", "--psnr", 30), 1, "has no index")
    failed(run("decompress", "c.uqdm", "d.png", "--psnr", 30, "--model", BY_CHANCE), 1, "has no index")
    failed(run("truncate", "a.uqdm", "d.uqdm", "--psnr", 30, "--step", 1), 2, "cannot be used together")
    assert not Path("d.uqdm").exists()


def test_pillow_saves_with_and_without(by_chance: codec.Codec, data: bytes) -> None:
    for options, expected in (({}, data), ({"index": False}, by_chance.compress(picture(0), index=False))):
        file = io.BytesIO()
        Image.fromarray(picture(0)).save(file, pillow.NAME, model=BY_CHANCE, **options)
        assert file.getvalue() == expected


# --- the document


def test_what_the_document_says_reads_the_index(data: bytes) -> None:
    found = document.stream.index(data, document.stream.header(data))
    assert found == [(p.bytes, 65535 if math.isinf(p.psnr) else int(256 * p.psnr), p.inside) for p in places(data)]


def test_what_the_document_says_shows_what_the_index_tells(
    by_chance: codec.Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that is small enough for the document's decoder, with an index all the same."""
    for name in ("LEAST", "LEAST_INDEXED"):
        monkeypatch.setattr(measured, name, 1)
    image = picture(6, 18, 21)
    data = by_chance.compress(Picture(image, image[:, :, 0]))  # with alpha it is not compact
    model = json.loads((BY_CHANCE / "model.json").read_text())
    weights = whole(load_file(BY_CHANCE / "weights.safetensors"))
    found = document.stream.index(data, document.stream.header(data))
    assert len(found) == by_chance.steps + 1
    for size, value, _ in found:
        shown = told(document.pyramid.decode(data[:size], model, weights), image)
        assert value == (65535 if math.isinf(shown) else 256 * shown)
