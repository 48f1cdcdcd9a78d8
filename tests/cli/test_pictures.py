"""Pictures through the commands: taken or refused, announced, written exactly or not at all."""

import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from commands import Run, failed, picture, pixels, succeeded
from PIL import Image

from uqdm.cli import main


def test_what_is_not_carried_is_named_on_stderr(run: Run) -> None:
    image = Image.fromarray(picture())
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("Author", "me")
    info.add(b"gAMA", struct.pack(">I", 45455))
    image.save("a.png", pnginfo=info)
    result = succeeded(run("compress", "a.png"))
    assert result.stderr.strip() == "uqdm: a.png: not carried: gAMA (gamma), text (Author)"


def test_a_whole_picture_is_not_written_where_its_values_would_change(run: Run) -> None:
    array = picture()
    succeeded(run("compress", "a.png"))
    for name, word in (
        ("b.jpg", "--lossy-output"),
        ("b.avif", "--lossy-output"),
        ("b.gif", ".gif"),
        ("b.ico", ".ico"),
        ("b.pcx", ".pcx"),
    ):
        failed(run("decompress", "a.uqdm", name), 1, word, ".png")
        assert not Path(name).exists()
    succeeded(run("decompress", "a.uqdm", "b.jpg", "--lossy-output"))
    succeeded(run("decompress", "a.uqdm", "preview.jpg", "--step", 2))
    succeeded(run("truncate", "a.uqdm", "cut.uqdm", "--step", 3))
    succeeded(run("decompress", "cut.uqdm", "cut.jpg", "--step", 3))
    for name in ("b.tif", "b.webp", "b.jp2", "b.bmp", "b.ppm", "b.pnm"):
        succeeded(run("decompress", "a.uqdm", name))
        assert (pixels(name) == array).all()


def test_a_refusal_of_the_format_comes_before_the_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(channels=4)
    succeeded(run("compress", "a.png"))
    from uqdm.codec import Codec

    monkeypatch.setattr(Codec, "decode_many", lambda *a, **k: pytest.fail("the file was decoded"))
    failed(run("decompress", "a.uqdm", "b.jpg"), 1, "JPEG")
    failed(run("decompress", "a.uqdm", "b.jpg", "--step", 1), 1, "RGBA", "JPEG")
    failed(run("decompress", "a.uqdm", "b.bmp"), 1, "RGBA", "BMP")


def test_metadata_without_a_place_is_named_on_stderr(run: Run) -> None:
    image = Image.fromarray(picture())
    image.save("a.png", icc_profile=b"a profile")
    succeeded(run("compress", "a.png"))
    assert succeeded(run("decompress", "a.uqdm", "b.bmp")).stderr == "uqdm: b.bmp: BMP does not hold the ICC profile\n"
    assert succeeded(run("decompress", "a.uqdm", "b.png")).stderr == ""


def test_a_turned_tiff_keeps_its_size_and_its_orientation(run: Run) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    array = picture()
    Image.fromarray(array).save("a.tif", exif=exif)
    succeeded(run("compress", "a.tif"))
    succeeded(run("decompress", "a.uqdm", "b.png"))
    with Image.open("b.png") as back:
        assert back.size == (10, 12)
        assert (np.asarray(back) == array).all()
        assert back.getexif()[0x0112] == 6


def test_more_pixels_than_pillow_allows_are_taken_on_request(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    picture()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's, which stands for a picture of 200 megapixels
    succeeded(run("compress", "a.png", "--max-pixels", 120))
    failed(run("compress", "a.png", "b.uqdm", "--max-pixels", 119), 1, "119", "--max-pixels")


def test_a_folder_is_searched_for_all_suffixes_that_are_read(run: Run) -> None:
    from uqdm.files import READABLE

    Path("in").mkdir()
    array = picture("in/a.png")
    for name in ("b.jp2", "c.tiff", "d.bmp", "e.ppm"):
        Image.fromarray(array).save(Path("in") / name)
    Path("in/notes.txt").write_text("not a picture")
    result = succeeded(run("compress", "in", "out"))
    assert len(result.stdout.splitlines()) == 5
    assert {".jp2", ".tiff", ".bmp", ".ppm", ".png"} <= READABLE
    assert len({path.read_bytes() for path in Path("out").iterdir()}) <= 2  # the BMP says its resolution


def test_an_eps_called_png_is_refused(run: Run) -> None:
    Path("holiday.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    failed(run("compress", "holiday.png", "--convert"), 1, "holiday.png", "EPS")


def test_the_command_is_the_one_that_is_installed() -> None:
    assert "--lossy-output" in CliRunner().invoke(main, ["decompress", "--help"]).output
