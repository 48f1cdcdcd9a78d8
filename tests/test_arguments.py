"""What goes in is understood or refused at once: iterables, files in every form, numbers that are
none.
"""

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import photograph
from toys import Integers, ToyCodec

import uqdm
from uqdm import cli, codec, errors, format, library


@pytest.fixture(scope="module")
def toy() -> codec.Codec:
    return ToyCodec(Integers(mixed=True), "ycocg-r")


def forms(data: bytes, path: Path) -> list[Any]:
    """A file in every form in which it is taken."""
    path.write_bytes(data)
    return [
        data,
        bytearray(data),
        memoryview(data),
        str(path),
        path,
        io.BytesIO(data),
        path.open("rb"),
        path.open("rb", buffering=0),
    ]


def test_every_way_in_takes_a_file_in_every_form(toy: codec.Codec, default: codec.Codec, tmp_path: Path) -> None:
    picture = photograph(12, 10)
    data, path = toy.compress(picture), tmp_path / "a.uqdm"
    ways: list[Callable[[Any], Any]] = [
        lambda one: toy.decompress(one).tobytes(),
        lambda one: toy.decode(one).image.tobytes(),
        lambda one: toy.decode_many([one])[0].image.tobytes(),
        lambda one: [decoded.image.tobytes() for decoded in toy.progressive(one)],
        uqdm.inspect,
        lambda one: uqdm.truncate(one, step=1),
    ]
    for way in ways:
        expected = way(data)
        assert all(way(one) == expected for one in forms(data, path))
    assert all(uqdm.open_for(one) == default for one in forms(default.compress(photograph(8, 8)), path))


def test_a_path_that_cannot_be_read_is_named(toy: codec.Codec, tmp_path: Path) -> None:
    for way in (toy.decompress, toy.progressive, uqdm.inspect, uqdm.open_for, lambda one: uqdm.truncate(one, step=1)):
        with pytest.raises(errors.FormatError, match=r"absent\.uqdm: cannot be read: No such file"):
            way(tmp_path / "absent.uqdm")
        with pytest.raises(errors.FormatError, match="cannot be read"):
            way(tmp_path)
        with pytest.raises(errors.FormatError, match="cannot be read: embedded null"):
            way("a\0b")


def test_what_is_no_file_is_refused_with_what_is_expected(toy: codec.Codec, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    for way in (toy.decode, toy.progressive, uqdm.inspect, uqdm.open_for, lambda one: uqdm.truncate(one, step=1)):
        for one in (3, None, photograph(4, 4), {"a": 1}):
            with pytest.raises(
                TypeError, match=r"expected the bytes of a \.uqdm file, its path, or a binary file object; found"
            ):
                way(one)
        with (tmp_path / "text").open() as text, pytest.raises(TypeError, match="open it with mode 'rb'"):
            way(text)
    with pytest.raises(TypeError, match="expected several files"):
        toy.decode_many(b"one file")  # type: ignore[arg-type]


def test_an_iterable_is_gone_through_once_and_whole(toy: codec.Codec) -> None:
    pictures = [photograph(12, 10, i) for i in range(3)]
    files = toy.compress(pictures)

    def each(items: Any) -> Iterator[Any]:
        yield from items

    assert toy.compress(each(pictures)) == toy.compress(tuple(pictures)) == toy.compress(np.stack(pictures)) == files
    assert toy.estimate(each(pictures)).shape == toy.estimate(pictures).shape
    for some in (each(files), tuple(files), dict.fromkeys(files), (one for one in files)):
        assert [image.tobytes() for image in toy.decompress(some)] == [picture.tobytes() for picture in pictures]
    assert [decoded.step for decoded in toy.decode_many(each(files))] == [4, 4, 4]
    assert toy.compress(each([])) == toy.compress([]) == toy.decompress(each([])) == []
    salvaged = toy.decode_many(each([files[0], files[1][:-1] + b"\0", files[2]]), salvage=True)
    assert [decoded.damage is None for decoded in salvaged] == [True, False, True]


def test_the_other_methods_show_whole_steps_and_refuse_more(toy: codec.Codec) -> None:
    data = toy.compress(photograph(12, 10))
    for method in ("ancestral", "flow"):
        assert [decoded.step for decoded in toy.progressive(data, method)] == [1, 2, 3, 4]
        assert len(list(toy.progressive(data, method, parts=1))) == 4
        with pytest.raises(ValueError, match=f"parts 3; with the method '{method}' previews are of whole steps"):
            toy.progressive(data, method, parts=3)
    assert len(list(toy.progressive(data))) == 8


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("value", [NAN, INF, -INF, -0.1, 1.5, "warm", True, None])
def test_a_temperature_is_a_number_of_0_to_1(toy: codec.Codec, value: Any) -> None:
    with pytest.raises(ValueError, match=r"temperature .*; expected 0 \.\. 1"):
        toy.decode(toy.compress(photograph(4, 4)), method="ancestral", temperature=value)
    with pytest.raises(ValueError, match=r"temperature .*; expected 0 \.\. 1"):
        toy.sample(1, 4, 4, temperature=value)


@pytest.mark.parametrize("value", [NAN, INF, -1, 1.5, "3", True])
def test_numbers_that_count_are_whole_and_in_range(toy: codec.Codec, value: Any) -> None:
    picture = photograph(4, 4)
    data = toy.compress(picture)
    ways: dict[str, Callable[[], Any]] = {
        "seed": lambda: toy.compress(picture, seed=value),
        "max_error": lambda: toy.compress(picture, max_error=value),
        "step": lambda: toy.decompress(data, step=value),
        "parts": lambda: toy.progressive(data, parts=value),
        "count": lambda: toy.sample(value, 4, 4),
        "height": lambda: toy.sample(1, value, 4),
        "width": lambda: toy.sample(1, 4, value),
        "max_pixels": lambda: uqdm.load(max_pixels=value),
        "threads": lambda: uqdm.load(threads=value),
    }
    for name, way in ways.items():
        with pytest.raises((TypeError, ValueError), match=f"^{name} {value!r}; expected"):
            way()
    for name in ("step", "target_size", "max_error"):
        with pytest.raises((TypeError, ValueError), match=f"^{name} {value!r}; expected a whole number"):
            uqdm.truncate(data, **{name: value})


def test_rates_are_numbers(toy: codec.Codec) -> None:
    data = toy.compress(photograph(4, 4))
    for value in (NAN, INF, -1.0, 0):
        for way in (toy.decompress, uqdm.truncate):
            with pytest.raises(ValueError, match="expected a number of bits per pixel above 0"):
                way(data, bpp=value)


def test_arguments_of_load_are_refused_by_load() -> None:
    for options, words in (
        ({"coder": "rans"}, "coder 'rans' is not available here; there are"),
        ({"backend": "abacus"}, "backend 'abacus'; expected one of"),
        ({"precision": "float16"}, "precision 'float16'; expected None or one of float64, float32"),
        ({"threads": 10**6}, "threads 1000000; expected a whole number of 1 to 256"),
        ({"max_pixels": 0}, "max_pixels 0; expected 1 or more"),
        ({"device": 0}, "device 0; expected a name such as"),
        ({"device": "tpu9", "backend": "torch"}, "tpu9|torch cannot be imported"),
    ):
        with pytest.raises((ValueError, TypeError, errors.BackendError), match=words):
            uqdm.load(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_command_takes_a_number_that_is_none(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.uqdm").write_bytes(b"")
    for words in (
        ["decompress", "a.uqdm", "--bpp"],
        ["decompress", "a.uqdm", "--temperature"],
        ["truncate", "a.uqdm", "b.uqdm", "--bpp"],
        ["sample", "--temperature"],
        ["compare", "a.uqdm", "--bpp"],
        ["train", "--data", "a", "--minutes"],
    ):
        found = CliRunner().invoke(cli.main, [*words, value])
        assert found.exit_code == 2, (words, found.output)
        assert f"Invalid value for '{words[-1]}'" in found.stderr
    for words in (
        ["compress", "a.png", "--threads"],
        ["train", "--data", "a", "--threads"],
        ["evaluate", "a", "--out", "b", "--jobs"],
    ):
        found = CliRunner().invoke(cli.main, [*words, "1000000"])
        assert found.exit_code == 2
        assert "1<=x<=256" in found.stderr


def test_a_mismatch_in_an_exact_file_is_called_damage_and_in_one_of_floats_arithmetic(
    default: codec.Codec, toy: codec.Codec
) -> None:
    from toys import Floats

    floats = ToyCodec(Floats())
    for one, words in (
        (default, "damaged before it was written, was forged"),
        (floats, "arithmetic, in floats, differs"),
    ):
        data = one.compress(photograph(12, 10))
        contents = format.parse(data)
        file = bytearray(data[: contents.header_size])
        for chunk in contents.chunks:
            at = 0 if one.exact else 1
            payload = bytearray(chunk.payload)
            payload[at] ^= chunk.index == 2  # of the check of the symbols
            if contents.header.compact:
                file += format.write_compact_step(bytes(payload), file)
            else:
                file += format.write_chunk(chunk.kind, chunk.index, bytes(payload), file)
        with pytest.raises(errors.NumericsError, match=f"step 2: .*{words}") as caught:
            one.decompress(bytes(file))
        assert ("in integers, the same everywhere" in str(caught.value)) == one.exact


def test_the_package_has_one_psnr() -> None:
    torch = pytest.importorskip("torch")
    from uqdm import quality
    from uqdm.families.torch import held_out as evaluate

    a = torch.zeros(1, 3, 4, 4)
    assert evaluate.psnr(a, a).tolist() == [quality.CAP]
    assert (
        evaluate.psnr(a, a + 2 / 255).tolist()
        == [pytest.approx(20 * math.log10(255))]
        == [pytest.approx(quality.psnr(1))]
    )


def test_names_that_the_package_gives_are_where_they_say() -> None:
    assert uqdm.load is library.load
    assert uqdm.list_models is library.available
    assert all(hasattr(uqdm, name) for name in uqdm.__all__)
