"""Pictures come in as they are or not at all."""

import concurrent.futures
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uqdm.errors import ImageError, LimitError
from uqdm.files import read, write
from uqdm.picture import to_array


def noise(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def png(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, options.pop("format", "PNG"), **options)
    return out.getvalue()


def png16(colour_type: int, values: Any) -> bytes:
    """A 16-bit PNG made by hand, since Pillow writes none in colour. `values`: uint16 (H, W, C)."""
    height, width = values.shape[:2]
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_picture_is_read_from_a_path_bytes_or_an_open_file(tmp_path: Path) -> None:
    data = png(Image.fromarray(noise(3, 4)))
    (tmp_path / "a.png").write_bytes(data)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), data, io.BytesIO(data)):
        assert (to_array(read(source)) == noise(3, 4)).all()
    out = io.BytesIO()
    write(read(data), out)
    assert (to_array(read(out.getvalue())) == noise(3, 4)).all()


def test_a_transparent_colour_becomes_alpha() -> None:
    picture = read(png(Image.fromarray(np.array([[0, 9]], np.uint8)), transparency=9))
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255, 0]]
    assert picture.pixels.ravel().tolist() == [0, 9]


def palette(transparent: bool) -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    return png(image, transparency=bytes([0, 255])) if transparent else png(image)


def frames() -> bytes:
    images = [Image.fromarray(noise(4, 4, 3)), Image.fromarray(noise(4, 4, 3) // 2)]
    return png(images[0], save_all=True, append_images=images[1:])


WIDE = (np.arange(12).reshape(2, 2, 3) * 5000).astype(np.uint16)
REFUSED: list[tuple[str, bytes, str, list[Any]]] = [
    ("16-bit grey", png16(0, WIDE[:, :, :1]), r"16 bits a channel", (WIDE[:, :, 0] >> 8).tolist()),
    ("16-bit RGB", png16(2, WIDE), "16 bits a channel", (WIDE >> 8).tolist()),
    (
        "16-bit TIFF",
        png(Image.fromarray(WIDE[:, :, 0]), format="TIFF"),
        "16 bits a channel",
        (WIDE[:, :, 0] >> 8).tolist(),
    ),
    ("16-bit PGM", b"P5 2 1 65535\n\x12\x34\x56\x78", r"16 bits", [[0x12, 0x56]]),
    ("16-bit PPM", b"P6 1 1 65535\n\x12\x00\x34\x00\x56\x00", r"16 bits", [[[0x12, 0x34, 0x56]]]),
    ("palette", palette(False), "a palette", [[[255, 0, 0], [0, 0, 255]]]),
    ("transparent palette", palette(True), r"a palette", [[[255, 0, 0, 0], [0, 0, 255, 255]]]),
    ("1 bit", png(Image.fromarray(np.array([[True, False]]))), "1 bit a pixel", [[255, 0]]),
    ("CMYK", png(Image.new("CMYK", (1, 1), (0, 0, 0, 0)), format="TIFF"), "CMYK", [[[255, 255, 255]]]),
    (
        "float",
        png(Image.fromarray(np.array([[0.0, 1.0, 0.5]], np.float32)), format="TIFF"),
        r"float values",
        [[0, 255, 128]],
    ),
    ("32-bit", png(Image.fromarray(np.array([[0, 300]], np.int32)), format="TIFF"), r"32-bit integers", [[0, 255]]),
    ("animated", frames(), r"2 frames", noise(4, 4, 3).tolist()),
]


@pytest.mark.parametrize(
    ("data", "why", "converted"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_other_kinds_are_refused_by_name_and_converted_on_request(data: bytes, why: str, converted: list[Any]) -> None:
    with pytest.raises(ImageError, match=rf"{why}.*--convert"):
        read(data)
    assert np.abs(to_array(read(data, convert=True)).astype(int) - np.array(converted)).max() <= (
        1 if why == "16 bits" else 0
    )


WHOLE = png(Image.fromarray(noise(40, 40, 3)))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"not a picture", "no known format"),
        (WHOLE[:20], r"not a picture|broken"),
        (WHOLE[:500], "broken or cut"),
    ],
    ids=["empty", "not a picture", "cut header", "cut data"],
)
def test_what_is_not_a_whole_picture_is_refused(data: bytes, why: str) -> None:
    for convert in (False, True):
        with pytest.raises(ImageError, match=why):
            read(data, convert)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="directory"):
        read(tmp_path)


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    for side in (11000, 60000):  # above our limit, and above Pillow's
        ihdr = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + WHOLE[33:]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(LimitError):
                read(bomb)
    with pytest.raises(LimitError, match="1600 pixels; the limit is 1599"):
        read(WHOLE, max_pixels=1599)


# --- only what is meant to be read


def test_an_eps_with_the_name_of_a_png_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "holiday.png").write_bytes(eps)
    for convert in (False, True):
        with pytest.raises(ImageError, match=r"holiday\.png.*no known format \(EPS\)"):
            read(tmp_path / "holiday.png", convert)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("format", sorted(Image.SAVE))
def test_what_pillow_would_open_otherwise_is_refused(format: str) -> None:
    if format in ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "DIB", "PPM", "GIF", "JPEG2000", "AVIF"):
        return
    try:
        data = png(Image.new("RGB", (16, 16)), format=format)
    except (OSError, ValueError, KeyError, AttributeError):
        return
    with pytest.raises(ImageError, match="no known format"):
        read(data, convert=True)


# --- limits


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM", "GIF", "JPEG2000", "AVIF"])
def test_our_limit_is_the_only_one(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(Image.fromarray(noise(60, 40, 3)), format=format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's, which stands for a picture of 200 megapixels
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(data, convert=True, max_pixels=2400).pixels.shape[:2] == (60, 40)
    with pytest.raises(LimitError, match=r"40 × 60, 2400 pixels; the limit is 2399.*--max-pixels"):
        read(data, convert=True, max_pixels=2399)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pillows_limit_is_back_after_threads_have_lifted_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(Image.fromarray(noise(60, 40, 3)), format="WEBP", lossless=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, [data] * 64))
    assert all((one.pixels == noise(60, 40, 3)).all() for one in found)
    assert Image.MAX_IMAGE_PIXELS == 100


# --- broken files


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "PPM", "GIF", "JPEG2000", "AVIF"])
def test_a_cut_or_changed_file_is_read_or_refused_but_never_anything_else(format: str) -> None:
    data = png(Image.fromarray(noise(20, 24, 3)), format=format)
    rng = np.random.default_rng(5)
    cuts = [data[:size] for size in rng.integers(1, len(data), 25)]
    changed = []
    for _ in range(75):
        one = bytearray(data)
        for at in rng.integers(0, min(len(data), 200), rng.integers(1, 4)):  # headers, mostly
            one[at] = rng.integers(256)
        changed.append(bytes(one))
    refused = 0
    for one in cuts + changed:
        try:
            read(one, convert=True, max_pixels=1 << 20)
        except (ImageError, LimitError):
            refused += 1
    assert refused >= 20


def test_two_headers_that_differ_are_not_decoded_by_the_larger() -> None:
    data = bytearray(png(Image.fromarray(noise(20, 24, 3)), format="JPEG2000"))
    at = data.index(b"ihdr") + 4
    data[at : at + 8] = struct.pack(">II", 60000, 60000)  # as a decoder would believe, and allocate 10 GB
    with pytest.raises(ImageError, match="24 × 20, the decoder 60000 × 60000"):
        read(bytes(data))
