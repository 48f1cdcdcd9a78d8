"""What comes with a picture is carried, or named: nothing goes silently."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import imagecodecs as ic
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from uqdm.errors import ImageError
from uqdm.files import encode, from_pillow, ifd, read, unheld, write
from uqdm.files.decoding import DECODERS
from uqdm.picture import Picture, to_array

from .making import bmp, box, jp2, jpeg_with, noise, png, saved, tiff

GREY, RGB = noise(12, 16), noise(12, 16, 3)


def camera() -> bytes:
    """An EXIF blob as cameras write them: big-endian, with Exif, GPS and interoperability
    directories.
    """
    exif = Image.Exif()
    exif.endian = ">"
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Camera & Söhne", 6
    exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution], exif[ExifTags.Base.ResolutionUnit] = 72.0, 72.0, 2
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.ExposureTime], inner[ExifTags.Base.ISOSpeedRatings] = (1, 250), 400
    inner[ExifTags.Base.DateTimeOriginal], inner[ExifTags.Base.UserComment] = (
        "2026:11:26 12:00:00",
        b"ASCII\0\0\0a comment",
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 8.0, 14.25), 3: "E", 4: (11.0, 34.0, 31.5)})
    return exif.tobytes().removeprefix(b"Exif\0\0")


def tags(blob: bytes | None) -> dict[Any, Any]:
    """All tags of an EXIF blob, as Pillow reads them, by directory."""
    assert blob is not None
    exif = Image.Exif()
    exif.load(blob)
    found = {k: v for k, v in exif.items() if k not in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
    return {0: found, 1: dict(exif.get_ifd(ExifTags.IFD.Exif)), 2: dict(exif.get_ifd(ExifTags.IFD.GPSInfo))}


CARRIED = Picture(RGB, None, b"an ICC profile", camera(), b"<x:xmpmeta/>")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.avif"])
def test_profile_exif_and_xmp_come_back_from_every_format_that_holds_them(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said to be lost
        write(CARRIED, tmp_path / name, lossy=True)
    found = read(tmp_path / name)
    assert (found.icc, found.xmp) == (CARRIED.icc, CARRIED.xmp)
    assert found.pixels.shape == (12, 16, 3)
    if name not in ("a.tif", "a.avif"):
        assert found.exif == CARRIED.exif
    else:  # rewritten: in TIFF its tags stand beside the file's own, and AVIF has an orientation of its own
        assert tags(found.exif) == tags(CARRIED.exif)


def test_a_camera_jpeg_becomes_a_tiff_with_all_its_directories(tmp_path: Path) -> None:
    picture = read(saved(RGB, "JPEG", exif=b"Exif\0\0" + camera()))
    write(picture, tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:  # a second reader agrees
        page = file.pages[0]
        assert (page.asarray() == picture.pixels).all()
        assert page.tags["Make"].value.startswith("Camera & S")
        assert page.tags["ExifTag"].value["ExposureTime"] == (1, 250)
        assert page.tags["GPSTag"].value["GPSLatitudeRef"] == "N"
    with Image.open(tmp_path / "a.tif") as image:
        assert image.getexif()[ExifTags.Base.Orientation] == 6
    assert tags(read(tmp_path / "a.tif").exif) == tags(picture.exif)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_comes_out_as_it_is_stored_and_its_orientation_is_carried(orientation: int, order: str) -> None:
    data = tiff(
        RGB, photometric="rgb", byteorder=order, extratags=[(274, "H", 1, orientation, True)], description="a scan"
    )
    picture = read(data)
    assert (picture.pixels == RGB).all()
    found = tags(picture.exif)[0]
    assert found[ExifTags.Base.ImageDescription] == "a scan"
    assert found[ExifTags.Base.Orientation] == orientation


def test_exif_and_gps_of_a_tiff_are_carried(tmp_path: Path) -> None:
    write(CARRIED, tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        image.load()
        exif = image.getexif()
        big = tmp_path / "b.tif"
        Image.fromarray(RGB).save(big, exif=exif)  # by another writer, without compression
    found = tags(read(big).exif)
    assert found[1][ExifTags.Base.DateTimeOriginal] == "2026:11:26 12:00:00"
    assert found[2][1] == "N"


def raw_profile(kind: str, body: bytes) -> tuple[bytes, bytes]:
    """As ImageMagick writes it: lines of 72 hexadecimal digits."""
    digits = body.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    text = f"\n{kind}\n{len(body):8}\n{lines}\n".encode()
    return b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text)


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("exif", b"Exif\0\0" + camera(), "exif"),
        ("APP1", b"Exif\0\0" + camera(), "exif"),
        ("APP1", b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>", "xmp"),
        ("xmp", b"<x:xmpmeta/>", "xmp"),
        ("icc", b"an ICC profile", "icc"),
    ],
)
def test_raw_profiles_of_a_png_are_carried(kind: str, body: bytes, field: str) -> None:
    picture = read(png(2, 8, RGB, raw_profile(kind, body)))
    assert getattr(picture, field) == getattr(CARRIED, field)
    assert picture.dropped == ()


def test_what_a_png_says_beside_its_pixels_is_named() -> None:
    chunks = [
        (b"gAMA", struct.pack(">I", 100000)),
        (b"cHRM", bytes(32)),
        (b"sRGB", b"\0"),
        (b"cICP", bytes([9, 16, 0, 1])),
        (b"sBIT", bytes([5, 6, 5])),
        (b"bKGD", bytes(6)),
        (b"tIME", bytes(7)),
        (b"tEXt", b"Author\0me"),
        (b"iTXt", b"Title\0\0\0\0\0a title"),
        (b"zTXt", b"Comment\0\0" + zlib.compress(b"a comment")),
        raw_profile("iptc", b"keywords"),
        (b"prVt", b"private"),
    ]
    picture = read(png(2, 8, RGB, *chunks))
    assert (picture.pixels == RGB).all()
    named = "; ".join(picture.dropped)
    for word in ("gAMA", "cHRM", "sRGB", "cICP", "sBIT", "bKGD", "tIME", "Author", "Title", "Comment", "iptc", "prVt"):
        assert word in named
    assert read(png(2, 8, RGB, (b"sBIT", bytes([8, 8, 8])))).dropped == ()  # says what the header says


def test_what_a_jpeg_says_beside_its_pixels_is_named() -> None:
    data = jpeg_with(
        saved(RGB, "JPEG"),
        (0xFE, b"a comment"),
        (0xED, b"Photoshop 3.0\x008BIM"),
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)),
        (0xE2, b"MPF\0" + bytes(8)),
        (0xE2, b"ICC_PROFILE\0\x02\x02half"),
        (0xEB, b"JP\0\0"),
    )
    named = "; ".join(read(data).dropped)
    for word in ("a comment", "IPTC", "extended XMP", "MPF", "ICC profile that is not whole", "APP11"):
        assert word in named


@pytest.mark.parametrize("name", ["GIF", "WEBP", "JP2", "PPM"])
def test_what_other_formats_say_is_named(name: str) -> None:
    data, word = {
        "GIF": (saved(GREY, "GIF", comment=b"hello"), "a comment"),
        "WEBP": (with_chunk(saved(RGB, "WEBP", lossless=True), b"ABCD", b"data"), "ABCD"),
        "JP2": (jp2(j2k(RGB), 3, 16, size=(12, 16)) + box(b"xml ", b"<a/>"), "xml"),
        "PPM": (b"P6\n# by hand\n1 1 255\n\1\2\3", "a comment"),
    }[name]
    assert word in "; ".join(read(data, convert=True).dropped)


def with_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    grown = data[8:] + name + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(grown)) + grown


def j2k(array: Any) -> bytes:
    return bytes(ic.jpeg2k_encode(array, level=0, reversible=True, codecformat="j2k"))


def test_profile_exif_and_xmp_of_a_jp2_are_carried() -> None:
    profile = box(b"colr", b"\2\0\0an ICC profile")
    header = box(b"ihdr", struct.pack(">IIHBBBB", 12, 16, 3, 7, 7, 0, 0)) + profile
    data = b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"ftyp", b"jp2 \0\0\0\0jp2 ") + box(b"jp2h", header)
    data += box(b"uuid", b"JpgTiffExif->JP2" + camera()) + box(
        b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + b"<x:xmpmeta/>"
    )
    picture = read(data + box(b"jp2c", j2k(RGB)))
    assert (picture.icc, picture.exif, picture.xmp) == (CARRIED.icc, CARRIED.exif, CARRIED.xmp)
    assert (picture.pixels == RGB).all()


@pytest.mark.parametrize(
    "data",
    [
        saved(RGB, "PNG", dpi=(300, 150)),
        saved(RGB, "JPEG", dpi=(300, 150)),
        saved(RGB, "TIFF", dpi=(300, 150)),
        saved(RGB, "BMP", dpi=(300, 150)),
    ],
    ids=["PNG", "JPEG", "TIFF", "BMP"],
)
def test_a_resolution_is_carried_as_exif(data: bytes) -> None:
    picture = read(data)
    found = tags(picture.exif)[0]
    scale = 2.54 if found[ExifTags.Base.ResolutionUnit] == 3 else 1
    assert float(found[ExifTags.Base.XResolution]) * scale == pytest.approx(300, abs=0.02)
    assert float(found[ExifTags.Base.YResolution]) * scale == pytest.approx(150, abs=0.02)
    assert picture.dropped == ()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
@pytest.mark.parametrize("given", ["PNG", "JPEG", "TIFF", "BMP"])
def test_a_resolution_is_written_where_programs_look_for_it(name: str, given: str, tmp_path: Path) -> None:
    data = saved(RGB, given, dpi=(300, 150))
    write(read(data), tmp_path / name, lossy=True)
    with Image.open(tmp_path / name) as image:
        assert tuple(map(float, image.info["dpi"])) == pytest.approx((300, 150), abs=0.02)
    assert read(tmp_path / name).dropped == ()


def test_a_resolution_of_a_png_comes_back_to_the_last_digit(tmp_path: Path) -> None:
    write(read(png(2, 8, RGB, (b"pHYs", struct.pack(">IIB", 11811, 3779, 1)))), tmp_path / "a.png")
    assert b"pHYs" + struct.pack(">IIB", 11811, 3779, 1) in (tmp_path / "a.png").read_bytes()


def test_a_resolution_beside_exif_is_named_where_exif_does_not_say_it() -> None:
    exif = b"Exif\0\0" + camera()
    assert read(saved(RGB, "JPEG", dpi=(72, 72), exif=exif)).dropped == ()
    assert read(saved(RGB, "JPEG", dpi=(300, 300), exif=exif)).dropped == ("resolution (300 × 300 dpi)",)


def test_the_profile_of_a_bmp_is_carried() -> None:
    profile, rows = b"an ICC profile", bytes(4)
    header = bytearray(124)
    struct.pack_into("<IiiHHIIiiII", header, 0, 124, 1, 1, 1, 24, 0, len(rows), 0, 0, 0, 0)
    struct.pack_into(">I", header, 56, int.from_bytes(b"DEBM", "big"))
    struct.pack_into("<II", header, 112, 124 + len(rows), len(profile))
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 124) + bytes(header) + rows + profile
    assert read(data).icc == profile
    struct.pack_into("<I", header, 56, 0)
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 124) + bytes(header) + rows
    assert read(data).dropped == ("the colour space in the header",)


def test_the_profile_of_cmyk_is_not_taken_for_that_of_rgb() -> None:
    for data in (
        saved(Image.new("CMYK", (4, 4)), "JPEG", icc_profile=b"of CMYK"),
        tiff(np.zeros((4, 4, 4), np.uint8), photometric="separated", iccprofile=b"of CMYK"),
    ):
        picture = read(data, convert=True)
        assert picture.icc is None
        assert "CMYK" in "; ".join(picture.dropped)


def test_a_format_without_a_place_for_metadata_names_what_is_lost(tmp_path: Path) -> None:
    for name in ("a.bmp", "a.ppm", "a.jp2"):
        with pytest.warns(UserWarning, match="the ICC profile, EXIF, XMP"):
            write(CARRIED, tmp_path / name)
        assert (read(tmp_path / name).pixels == RGB).all()
    assert "UTF-8" in unheld(Picture(RGB, xmp=b"\xff\xfe"), "PNG")[0]
    assert unheld(Picture(GREY[:, :, None]), "WEBP")
    assert unheld(Picture(RGB, exif=b"broken"), "TIFF") == ("EXIF that is broken",)


def test_broken_exif_of_a_tiff_is_named_and_the_picture_read() -> None:
    data = bytearray(encode(CARRIED, "TIFF"))
    entry = ifd.read(bytes(data), ifd.header(bytes(data))[2], "<")[0][ifd.EXIF]
    data[entry.place : entry.place + 4] = b"\xff" * 4
    picture = read(bytes(data))
    assert picture.dropped == ("EXIF or GPS directories that are broken",)
    assert tags(picture.exif)[0][ExifTags.Base.Orientation] == 6


def test_a_directory_of_tags_comes_back_from_bytes() -> None:
    root = {
        271: ifd.Entry(ifd.ASCII, 6, b"maker\0"),
        34665: {33434: ifd.number(ifd.RATIONAL, 1, 250)},
        282: ifd.number(ifd.RATIONAL, 72, 1),
    }
    found, thumbnail = ifd.exif_tree(ifd.blob(root))
    assert not thumbnail
    assert {t: e.data for t, e in found.items() if isinstance(e, ifd.Entry)} == {
        271: b"maker\0",
        282: struct.pack("<II", 72, 1),
    }
    assert found[34665][33434].data == struct.pack("<II", 1, 250)  # type: ignore[index,union-attr]


# --- Pillow images


def test_a_pillow_image_is_read_from_its_file(tmp_path: Path) -> None:
    data = png(0, 4, noise(5, 5, 1, top=15), (b"tRNS", b"\0\7"))
    expected = to_array(read(data))
    assert (to_array(from_pillow(Image.open(io.BytesIO(data)))) == expected).all()
    (tmp_path / "a.png").write_bytes(data)
    with Image.open(tmp_path / "a.png") as image:
        image.load()
        assert (to_array(from_pillow(image)) == expected).all()
    deep = png(2, 16, noise(5, 5, 3, top=65535, kind=np.uint16))
    with pytest.raises(ImageError, match="16 bits"):  # which Pillow itself forgets
        from_pillow(Image.open(io.BytesIO(deep)))


def test_a_pillow_image_whose_file_is_gone_is_refused_and_its_copy_taken() -> None:
    image = Image.open(io.BytesIO(saved(RGB, "PNG")))
    image.load()
    with pytest.raises(ImageError, match=r"image\.copy\(\)"):
        from_pillow(image)
    assert (to_array(from_pillow(image.copy())) == RGB).all()


def test_what_a_pillow_image_does_not_carry_is_named_in_a_warning() -> None:
    with pytest.warns(UserWarning, match="gAMA"):
        from_pillow(Image.open(io.BytesIO(png(2, 8, RGB, (b"gAMA", struct.pack(">I", 45455))))))


def test_every_format_has_its_decoder() -> None:
    from uqdm.files.formats import FORMATS

    assert {one.name for one in FORMATS} == set(DECODERS)


def test_a_bmp_of_24_bits_by_hand_is_read() -> None:
    assert to_array(read(bmp(24, b"\3\2\1\0", (1, 1)))).tolist() == [[[1, 2, 3]]]


def test_a_directory_that_leads_to_itself_is_read_once() -> None:
    inner = {ifd.EXIF: ifd.number(ifd.LONG, 26), 33434: ifd.number(ifd.RATIONAL, 1, 250)}
    data = ifd.blob({ifd.EXIF: inner})
    order, _, at = ifd.header(data)
    place = ifd.read(data, at, order)[0][ifd.EXIF].numbers()[0]
    assert ifd.read(data, place, order)[0][ifd.EXIF].numbers() == [place]
    found, _ = ifd.exif_tree(data)
    assert set(found[ifd.EXIF]) == {33434}  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_what_comes_after_the_picture_is_named(format: str) -> None:
    data = saved(GREY if format == "GIF" else RGB, format)
    assert read(data, convert=True).dropped == ()
    assert read(data + bytes(7), convert=True).dropped == ()  # padding
    assert read(data + b"a film\xff\xd9", convert=True).dropped == ("8 bytes after the end of the picture",)


def test_the_end_of_a_progressive_jpeg_is_found() -> None:
    data = saved(noise(100, 120, 3), "JPEG", progressive=True, quality=100, restart_marker_rows=1)
    assert read(data + b"more").dropped == ("4 bytes after the end of the picture",)
