"""Pictures go out exactly as they are, or not at all; what would change them is asked for by
name.
"""

import io
import warnings
from pathlib import Path
from typing import Any

import imagecodecs as ic
import numpy as np
import pytest
import tifffile
from PIL import Image

from uqdm.errors import OutputError
from uqdm.files import EXACT, READABLE, WRITABLE, check_format, encode, format_of, read, write
from uqdm.files.writing import KINDS
from uqdm.picture import Picture, from_array, to_array

from .making import noise

SECOND = {
    "PNG": ic.png_decode,
    "TIFF": lambda data: tifffile.imread(io.BytesIO(data)),
    "WEBP": ic.webp_decode,
    "JPEG2000": ic.jpeg2k_decode,
    "BMP": ic.bmp_decode,
}
SHAPES = [
    (13, 17),
    (13, 17, 2),
    (13, 17, 3),
    (13, 17, 4),
    (1, 1),
    (1, 1, 2),
    (1, 1, 3),
    (1, 1, 4),
    (1, 300, 3),
    (300, 1, 4),
]


def fitting(suffix: str) -> list[tuple[int, ...]]:
    """The shapes that a suffix holds."""
    held = []
    for shape in SHAPES:
        try:
            check_format(
                format_of("a" + suffix), grey=shape[2:] in ((), (2,)), alpha=shape[2:] in ((2,), (4,)), lossy=False
            )
        except OutputError:
            continue
        held.append(shape)
    return held


@pytest.mark.parametrize(("suffix", "shape"), [(suffix, shape) for suffix in EXACT for shape in fitting(suffix)])
def test_exact_suffixes_give_every_value_back(suffix: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = noise(*shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # WebP says that grey becomes colours
        write(from_array(array), tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    format = format_of(f"a{suffix}")
    expected = array
    if format == "WEBP" and shape[2:] in ((), (2,)):
        grey = np.repeat(array.reshape(*shape[:2], -1)[:, :, :1], 3, 2)
        expected = np.dstack([grey, array[:, :, 1]]) if shape[2:] else grey
    found = to_array(read(data))
    assert found.shape == expected.shape
    assert (found == expected).all()
    if format in SECOND:
        second = SECOND[format](data)
        if format == "WEBP" and second.shape != expected.shape:
            second = second[:, :, : expected.shape[2]]
        assert (second.reshape(expected.shape) == expected).all()
    else:  # the pixels of a PNM are the end of the file
        assert data.endswith(array.tobytes())


def test_all_shapes_have_a_suffix_that_holds_them_exactly() -> None:
    for suffix in (".png", ".tif", ".tiff", ".jp2", ".webp"):
        assert fitting(suffix) == SHAPES


def test_what_is_written_exactly_can_be_read_again() -> None:
    assert WRITABLE <= READABLE
    assert set(EXACT) < WRITABLE
    assert {suffix for kind in KINDS if not kind.exact for suffix in kind.suffixes} == {".jpg", ".jpeg", ".avif"}


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".avif"])
def test_suffixes_that_change_values_are_refused_unless_asked_for(suffix: str, tmp_path: Path) -> None:
    picture = from_array(noise(20, 30, 3))
    with pytest.raises(OutputError, match=r"changes the values.*\.png.*--lossy-output"):
        write(picture, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []
    write(picture, tmp_path / f"a{suffix}", lossy=True)
    assert read(tmp_path / f"a{suffix}").pixels.shape == (20, 30, 3)


@pytest.mark.parametrize("suffix", sorted(set(Image.registered_extensions()) - WRITABLE))
def test_every_other_suffix_that_pillow_knows_is_refused(suffix: str, tmp_path: Path) -> None:
    for lossy in (False, True):
        with pytest.raises(OutputError, match=rf"suffix \{suffix}; use \.png"):
            write(from_array(noise(4, 4, 3)), tmp_path / f"a{suffix}", lossy=lossy)
    assert list(tmp_path.iterdir()) == []


def test_formats_that_cannot_hold_a_picture_are_named(tmp_path: Path) -> None:
    cases: list[tuple[str, Any, str]] = [
        ("a.jpg", noise(4, 4, 4), r"RGBA.*JPEG.*\.png"),
        ("a.bmp", noise(4, 4, 4), r"RGBA.*BMP"),
        ("a.ppm", noise(4, 4), r"grey.*PPM.*\.pgm"),
        ("a.pgm", noise(4, 4, 3), r"RGB.*PGM.*\.ppm"),
        ("a.webp", np.zeros((1, 16384, 3), np.uint8), r"16384 × 1.*WEBP.*16383"),
        ("a.xyz", noise(4, 4), r"suffix \.xyz"),
    ]
    for name, array, why in cases:
        with pytest.raises(OutputError, match=why):
            write(from_array(array), tmp_path / name, lossy=True)
    with pytest.raises(OutputError, match="expected one of PNG"):
        encode(from_array(noise(4, 4)), "EPS")
    assert list(tmp_path.iterdir()) == []


def test_whatever_an_encoder_raises_is_about_the_output() -> None:
    huge = Picture(noise(4, 4, 3), exif=bytes(70000))  # a JPEG has room for 64 KiB
    with pytest.raises(OutputError, match=r"JPEG.*\.png"):
        encode(huge, "JPEG", lossy=True)


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    picture = from_array(noise(4, 4, 3))
    for name, format in (("a.png", "PNG"), ("b.TIF", "TIFF"), ("c", "PNG"), ("d.bmp", "BMP"), ("e.JP2", "JPEG2000")):
        write(picture, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.format == format
    write(picture, tmp_path / "e.png", "BMP")
    with Image.open(tmp_path / "e.png") as image:
        assert image.format == "BMP"
    out = io.BytesIO()
    write(picture, out)
    assert (to_array(read(out.getvalue())) == picture.pixels).all()
