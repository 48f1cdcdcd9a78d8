"""What the view's server answers: pictures that are those of the codec, the curve, comparisons."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from golden import make
from PIL import Image, ImageOps
from serving import get, serving

import uqdm
from uqdm import codec, format, library, measured, quality
from uqdm.picture import Picture
from uqdm.view import Server, aside, pixels, viewed

PICTURE = photograph(40, 48)


def settled(found: Server, name: str) -> list[dict[str, object]]:
    """The points of the curve, when all have been measured."""
    for _ in range(2000):
        curve = get(found, "/curve", name=name).json
        if curve["done"]:
            return curve["points"]  # type: ignore[no-any-return]
        time.sleep(0.01)
    raise AssertionError("the curve is never done")


# --- pictures


def test_previews_are_those_of_the_codec_bit_for_bit(shown: Server, folder: Path, small: codec.Codec) -> None:
    data = (folder / "a.uqdm").read_bytes()
    contents = format.parse(data)
    ends = format.ends(contents)
    sizes = {*ends[1:], *(size + 1 for size in ends[1:-1]), *(size - 1 for size in ends[1:]), len(data) // 2}
    for size in sorted(sizes, key=lambda n: n * 7919 % 101):  # in no order
        reply, expected = get(shown, "/preview", name="a.uqdm", bytes=size), small.decode(data[:size])
        assert (reply.pixels == expected.image).all(), size
        assert (reply.told["step"], reply.told["partial"], reply.told["bound"]) == (
            expected.step,
            expected.partial,
            expected.bound,
        )
        error = np.mean((expected.image.astype(float) - PICTURE) ** 2)
        assert reply.told["exact"] == (error == 0)
        assert reply.told["psnr"] == (pytest.approx(quality.psnr(float(error))) if error else None)


def test_reduced_previews_are_those_of_the_codec(default: codec.Codec, tmp_path: Path) -> None:
    data = (make.HERE / "photo-rgb.uqdm").read_bytes()
    (tmp_path / "a.uqdm").write_bytes(data)
    with serving(tmp_path / "a.uqdm") as found:
        assert get(found, "/about", name="a.uqdm").json["halvings"] == 0  # so small a picture needs no first look
        for halvings in (1, 2):
            reply = get(found, "/preview", name="a.uqdm", bytes=len(data) // 2, halvings=halvings)
            assert (reply.pixels == default.decode(data[: len(data) // 2], reduce=halvings).image).all()


@pytest.mark.parametrize(
    ("sides", "halvings"), [((64, 64), 0), ((256, 128), 0), ((256, 129), 1), ((768, 512), 2), ((8192, 8192), 5)]
)
def test_first_looks_are_small(sides: tuple[int, int], halvings: int) -> None:
    assert viewed.first_halvings(sides[0] * sides[1]) == halvings


def test_the_curve_has_the_ends_of_steps_and_places_inside(shown: Server, folder: Path, small: codec.Codec) -> None:
    data = (folder / "a.uqdm").read_bytes()
    points = {one["bytes"]: one for one in settled(shown, "a.uqdm")}
    ends = format.ends(format.parse(data))[1:]
    assert set(ends) < set(points)
    assert points[len(data)] == {"bytes": len(data), "psnr": None, "exact": True, "kept": True}
    for size, point in points.items():
        if size != len(data):
            error = np.mean((small.decompress(data[:size]).astype(float) - PICTURE) ** 2)
            assert point["psnr"] == pytest.approx(quality.psnr(float(error)))


def test_without_an_original_psnr_is_against_the_whole_file(shown: Server, folder: Path) -> None:
    about = get(shown, "/about", name="deeper/b.uqdm").json
    assert about["reference"] == {"kind": "whole", "said": ""}
    points = settled(shown, "deeper/b.uqdm")
    assert all(one["psnr"] or one["exact"] for one in points)
    assert (get(shown, "/original", name="deeper/b.uqdm").pixels == photograph(24, 20, 1)).all()


def test_a_cut_file_without_an_original_has_no_psnr_and_says_why(shown: Server, folder: Path) -> None:
    (folder / "cut.uqdm").write_bytes((folder / "deeper" / "b.uqdm").read_bytes()[:-9])
    about = get(shown, "/about", name="cut.uqdm").json
    assert about["reference"] == {"kind": "", "said": "the file is not whole, and there is no original"}
    assert {one["psnr"] for one in settled(shown, "cut.uqdm")} == {None}
    assert get(shown, "/original", name="cut.uqdm").status == 422


def test_the_curve_of_a_file_with_an_index_is_there_at_once(
    default: codec.Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "LEAST_INDEXED", 1000)
    data = default.compress(photograph(130, 130))
    told = {one.bytes: one.psnr for one in format.read_index(format.parse(data)) or []}
    cut = format.ends(format.parse(data))[3] + 20
    (tmp_path / "a.uqdm").write_bytes(data[:cut])
    with serving(tmp_path / "a.uqdm") as found:
        about = get(found, "/about", name="a.uqdm").json
        assert about["told"]
        first = get(found, "/curve", name="a.uqdm").json["points"]
        expected = {size: psnr for size, psnr in told.items() if about["first"] <= size <= cut}
        assert len(expected) > 1
        assert {one["bytes"]: one["psnr"] for one in first if one["psnr"]} == expected
        size = max(expected)
        reply = get(found, "/preview", name="a.uqdm", bytes=size)
        error = np.mean((reply.pixels.astype(float) - photograph(130, 130)) ** 2)
        assert expected[size] <= quality.psnr(float(error)) < expected[size] + 1 / 200


def test_an_original_that_is_named_is_compared_with(folder: Path, tmp_path: Path) -> None:
    (folder / "a.png").rename(tmp_path / "elsewhere.png")
    (folder / "a.uqdm").write_bytes((folder / "a.uqdm").read_bytes()[:-9])
    with serving(folder / "a.uqdm", tmp_path / "elsewhere.png") as found:
        about = get(found, "/about", name="a.uqdm").json
        assert about["reference"] == {"kind": "original", "said": "elsewhere.png"}
        assert (get(found, "/original", name="a.uqdm").pixels == PICTURE).all()


@pytest.mark.parametrize("codec", ["jpeg", "jxl", "avif"])
def test_the_same_bytes_in_another_codec_take_no_more(shown: Server, folder: Path, codec: str) -> None:
    if codec not in aside.offered():
        pytest.skip(f"{codec} needs the extra eval")
    size = (folder / "a.uqdm").stat().st_size // 2
    reply = get(shown, "/beside", name="a.uqdm", bytes=size, codec=codec)
    assert reply.status == 200
    assert 0 < reply.told["bytes"] <= size
    error = np.mean((reply.pixels.astype(float) - PICTURE) ** 2)
    assert reply.told["psnr"] == pytest.approx(quality.psnr(float(error)))
    assert reply.told["psnr"] > 20


def test_carried_metadata_turns_the_picture_and_keeps_its_profile(nano: codec.Codec, tmp_path: Path) -> None:
    from uqdm.files import ifd

    exif = ifd.blob({ifd.ORIENTATION: ifd.number(ifd.SHORT, 6)})
    picture = Picture(photograph(24, 40), exif=exif, icc=None)
    (tmp_path / "a.uqdm").write_bytes(nano.compress(picture))
    with serving(tmp_path / "a.uqdm") as found:
        about = get(found, "/about", name="a.uqdm").json
        assert (about["width"], about["height"]) == (24, 40)
        reply = get(found, "/preview", name="a.uqdm", bytes=about["bytes"])
        assert (reply.pixels == np.rot90(picture.pixels, -1)).all()


def test_broken_metadata_does_not_hide_the_picture() -> None:
    from uqdm.files import ifd

    whole = ifd.blob({ifd.ORIENTATION: ifd.number(ifd.SHORT, 8)})
    assert pixels.orientation(whole) == 8
    assert pixels.orientation(ifd.blob({ifd.ORIENTATION: ifd.number(ifd.SHORT, 9)})) == 1
    assert pixels.orientation(None) == 1
    for k in range(len(whole)):
        assert 1 <= pixels.orientation(whole[:k]) <= 8
        for value in (0, 1, 255):
            assert 1 <= pixels.orientation(whole[:k] + bytes([value]) + whole[k + 1 :]) <= 8


@pytest.mark.parametrize("how", range(1, 9))
def test_pictures_are_turned_as_pillow_turns_them(how: int) -> None:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = how
    Image.fromarray(PICTURE).save(out, "PNG", exif=exif)
    with Image.open(out) as image:
        assert (np.asarray(ImageOps.exif_transpose(image)) == pixels.turned(PICTURE, how)).all()


def test_the_base_install_is_enough(folder: Path) -> None:
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "imagecodecs", "scipy", "matplotlib", "torchmetrics", "pillow_heif"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from uqdm.view import Server, Shelf, aside
server = Server(Shelf(sys.argv[1]), model=sys.argv[2], threads=1)
about = server.answers.answer("/about?name=a.uqdm")
shown = server.answers.answer("/preview?name=a.uqdm&bytes=500")
print(about.status, shown.status, sorted(aside.offered()))
server.server_close()
"""
    source = str(Path(uqdm.__file__).parent.parent)
    words = [sys.executable, "-c", code, str(folder), str(library.SHIPPED / library.DEFAULT)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": source})
    assert done.stdout.startswith("200 200 [")
    assert "'jpeg'" in done.stdout
    assert "jxl" not in done.stdout


def test_without_the_extra_there_is_no_jpeg_xl(shown: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    aside.offered.cache_clear()
    try:
        assert "jxl" not in get(shown, "/about", name="a.uqdm").json["codecs"]
        assert get(shown, "/beside", name="a.uqdm", bytes=500, codec="jxl").status == 400
    finally:
        aside.offered.cache_clear()


def test_a_long_profile_before_the_picture_costs_nothing(small: codec.Codec, tmp_path: Path) -> None:
    data = small.compress(Picture(PICTURE, icc=bytes(1 << 20)))
    (tmp_path / "a.uqdm").write_bytes(data[: 1 << 20])  # it is not even whole
    (tmp_path / "b.uqdm").write_bytes(data)
    begin = format.ends(format.parse(data))[0]
    with serving(tmp_path) as found:
        assert get(found, "/about", name="a.uqdm").json["ends"] == []
        assert begin < get(found, "/about", name="b.uqdm").json["first"] < begin + 50


def test_another_codec_stops_between_two_files_and_goes_on_where_it_was() -> None:
    calls: list[int] = []

    def twice(step: int, part: int, parts: int) -> None:
        calls.append(step)
        if len(calls) == 3:
            raise InterruptedError

    beside = aside.Beside("jpeg", PICTURE)
    with pytest.raises(InterruptedError):
        beside.at(900, twice)
    more: list[int] = []
    coded = beside.at(900, lambda step, part, parts: more.append(step))
    alone: list[int] = []
    expected = aside.Beside("jpeg", PICTURE).at(900, lambda step, part, parts: alone.append(step))
    assert len(more) == len(alone) - 2  # two files were there already
    assert (coded.setting, coded.bits) == (expected.setting, expected.bits)
    assert (coded.pixels == expected.pixels).all()
