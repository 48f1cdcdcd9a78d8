"""Of every format that is read, the values in the file, as another reader finds them, are those
that are taken.
"""

import io
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs as ic
import numpy as np
import pytest
import tifffile
from PIL import Image

from uqdm.errors import ImageError
from uqdm.files import read
from uqdm.picture import to_array

from .making import bmp, box, jp2, noise, png, saved, tiff

G, GA, RGB, RGBA = noise(13, 17), noise(13, 17, 2), noise(13, 17, 3), noise(13, 17, 4)
SHAPES = {"grey": G, "grey and alpha": GA, "RGB": RGB, "RGBA": RGBA}


def page(data: bytes) -> Any:
    return tifffile.imread(io.BytesIO(data))


def planar(data: bytes) -> Any:
    return page(data).transpose(1, 2, 0)


def described(array: Any, **more: Any) -> dict[str, Any]:
    colours = {"photometric": "rgb" if array.shape[2:] in ((3,), (4,)) else "minisblack"}
    return colours | ({"extrasamples": ["unassalpha"]} if array.shape[2:] in ((2,), (4,)) else {}) | more


def j2k(array: Any, **options: Any) -> bytes:
    """A codestream without loss."""
    return bytes(ic.jpeg2k_encode(array, level=0, reversible=True, codecformat="j2k", **options))


def opacity(band: int, kind: int = 1) -> bytes:
    """JPEG 2000's box that says: the bands are colours, but for the last, which is alpha."""
    channels = [(i, 0, i + 1) for i in range(band)] + [(band, kind, 0)]
    return box(b"cdef", struct.pack(">H", band + 1) + b"".join(struct.pack(">HHH", *one) for one in channels))


TAKEN: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    **{f"PNG, {name}": (ic.png_encode(array), ic.png_decode) for name, array in SHAPES.items()},
    "PNG, interlaced": (png(2, 8, RGB, interlaced=True), ic.png_decode),
    "PNG, interlaced, grey of 4 bits": (png(0, 4, noise(9, 7, 1, top=15), interlaced=True), ic.png_decode),
    "PNG, 4 bits": (png(0, 4, noise(9, 7, 1, top=15)), ic.png_decode),
    "PNG, 2 bits": (png(0, 2, noise(9, 7, 1, top=3)), ic.png_decode),
    **{f"JPEG, {name}": (ic.jpeg8_encode(SHAPES[name], level=80), ic.jpeg8_decode) for name in ("grey", "RGB")},
    "JPEG, progressive, 4:2:0": (saved(RGB, "JPEG", progressive=True, subsampling=2), ic.jpeg8_decode),
    "JPEG, RGB without transform": (saved(RGB, "JPEG", keep_rgb=True), ic.jpeg8_decode),
    **{f"TIFF, {name}": (tiff(array, **described(array)), page) for name, array in SHAPES.items()},
    **{
        f"TIFF, {packing}, big-endian, {name}": (
            tiff(array, **described(array, byteorder=">", compression=packing)),
            page,
        )
        for packing in ("zlib", "lzw", "packbits", "lzma", "zstd")
        for name, array in SHAPES.items()
    },
    "TIFF, predictor": (tiff(RGB, photometric="rgb", compression="zlib", predictor=True), page),
    "TIFF, planes": (tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), planar),
    "TIFF, deflated planes": (
        tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib"),
        planar,
    ),
    "TIFF, tiles": (tiff(noise(40, 50, 3), photometric="rgb", tile=(16, 16)), page),
    "TIFF, strips": (tiff(noise(40, 50, 3), photometric="rgb", rowsperstrip=7), page),
    "TIFF, JPEG inside": (tiff(noise(32, 32, 3), photometric="ycbcr", compression="jpeg"), page),
    "BigTIFF": (tiff(RGB, photometric="rgb", bigtiff=True), page),
    "TIFF, turned by its tag": (tiff(RGB, photometric="rgb", extratags=[(274, "H", 1, 6, True)]), page),
    "WebP, RGB": (ic.webp_encode(RGB, lossless=True), ic.webp_decode),
    "WebP, RGBA": (ic.webp_encode(RGBA, lossless=True), ic.webp_decode),
    "WebP, lossy": (ic.webp_encode(RGB, level=60), ic.webp_decode),
    "WebP, lossy, RGBA": (ic.webp_encode(RGBA, level=60), ic.webp_decode),
    "BMP, grey": (ic.bmp_encode(G), ic.bmp_decode),
    "BMP, RGB": (ic.bmp_encode(RGB), ic.bmp_decode),
    "JPEG 2000, grey": (jp2(j2k(G), 1, 17, size=(13, 17)), ic.jpeg2k_decode),
    "JPEG 2000, RGB": (jp2(j2k(RGB), 3, 16, size=(13, 17)), ic.jpeg2k_decode),
    "JPEG 2000, grey and alpha": (jp2(j2k(GA), 2, 17, opacity(1), size=(13, 17)), ic.jpeg2k_decode),
    "JPEG 2000, RGBA": (jp2(j2k(RGBA), 4, 16, opacity(3), size=(13, 17)), ic.jpeg2k_decode),
    **{f"AVIF, {name}": (ic.avif_encode(SHAPES[name], level=100), ic.avif_decode) for name in ("grey", "RGB", "RGBA")},
    "AVIF, lossy": (ic.avif_encode(RGB, level=60), ic.avif_decode),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_is_what_another_reader_finds(name: str) -> None:
    data, other = TAKEN[name]
    expected, found = other(data), to_array(read(data))
    assert found.shape == expected.shape
    assert (found == expected).all()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"P5\n# a comment\n4 1\n255\n\x01\x02\xff\n", [[1, 2, 255, 10]]),
        (b"P6 1 1 255\n\x01\x02\x03", [[[1, 2, 3]]]),
        (b"P2 3 1 255 0 7 255", [[0, 7, 255]]),
        (b"P3 1 1 255 1 2 3\n", [[[1, 2, 3]]]),
    ],
)
def test_the_values_of_a_pnm_are_those_written_in_it(text: bytes, values: Any) -> None:
    assert to_array(read(text)).tolist() == values  # by the text: no second reader is needed


@pytest.mark.parametrize(
    ("masks", "order", "alpha"),
    [
        ((0xFF0000, 0xFF00, 0xFF, 0xFF000000), (2, 1, 0, 3), True),
        ((0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0, 1, 2, 3), True),
        ((0xFF0000, 0xFF00, 0xFF, 0), (2, 1, 0, 3), False),
    ],
)
def test_masks_of_a_bmp_say_where_the_channels_are(masks: tuple[int, ...], order: tuple[int, ...], alpha: bool) -> None:
    data = bmp(32, RGBA[::-1][:, :, list(order)].tobytes(), (13, 17), 3, struct.pack("<4I", *masks), header=56)
    assert (to_array(read(data)) == (RGBA if alpha else RGB_OF_RGBA)).all()


RGB_OF_RGBA = RGBA[:, :, :3]

DEEP = noise(13, 17, 3, top=65535, kind=np.uint16)
# file, why it is refused, what a conversion gives, how far it may be off
CONVERTED: dict[str, tuple[bytes, str, Any, int]] = {
    "16-bit JP2, grey": (jp2(j2k(DEEP[:, :, 0]), 1, 17, bits=16, size=(13, 17)), "16 bits", DEEP[:, :, 0] >> 8, 0),
    "12-bit JP2": (jp2(j2k(DEEP[:, :, 0] >> 4, bitspersample=12), 1, 17, bits=12, size=(13, 17)), "12 bits", DEEP[:,
    :, 0] >> 8, 0),
    "JP2 in four colours": (jp2(j2k(RGBA), 4, 16, size=(13, 17)), "none is said to be alpha", RGB_OF_RGBA, 0),
    "10-bit AVIF": (ic.avif_encode(DEEP >> 6, level=100, bitspersample=10), "10 bits", DEEP >> 8, 2),
    "12-bit AVIF": (ic.avif_encode(DEEP >> 4, level=100, bitspersample=12), "12 bits", DEEP >> 8, 2),
    "5-6-5 BMP": (bmp(16, b"\xff\xff\x00\xf8", (1, 2), 3, struct.pack("<3I", 0xF800, 0x7E0, 0x1F)),
    "5 or 6 bits a channel",
                  [[[255, 255, 255], [255, 0, 0]]], 0),
    "5-5-5 BMP": (bmp(16, b"\xff\x7f\x00\x7c", (1, 2)), "5 or 6 bits a channel", [[[255, 255, 255], [255, 0, 0]]], 0),
    "BMP with a fourth byte": (bmp(32, RGBA[::-1][:, :, [2, 1, 0, 3]].tobytes(), (13, 17)), "a fourth byte",
    RGB_OF_RGBA, 0),
    "TIFF with near infrared": (tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]), "4 bands", RGB_OF_RGBA, 0),
    "TIFF with five bands": (tiff(noise(9, 9, 5), photometric="rgb", extrasamples=["unassalpha", "unspecified"]),
    "5 bands",
                             noise(9, 9, 5)[:, :, :4], 0),
    "TIFF with grey and a band": (tiff(GA, photometric="minisblack", extrasamples=["unspecified"]), "2 bands", GA[:,
    :, 0], 0),
    "TIFF in which 0 is white": (tiff(G, photometric="miniswhite"), "0 is white", 255 - G, 0),
    "16-bit TIFF": (tiff(DEEP, photometric="rgb"), "16 bits", DEEP >> 8, 0),
    "16-bit TIFF, RGBA": (tiff(noise(9, 9, 4, top=65535, kind=np.uint16), photometric="rgb",
    extrasamples=["unassalpha"]), "16 bits",
                          noise(9, 9, 4, top=65535, kind=np.uint16) >> 8, 0),
    "TIFF with signs": (tiff(noise(5, 5, kind=np.int16), photometric="minisblack"), "with a sign", noise(5, 5), 0),
    "float TIFF": (tiff((G / 255).astype(np.float32)), "float values", G, 0),
    "TIFF of several pages": (tiff(np.stack([G, G]), photometric="minisblack"), "2 frames", G, 0),
    "APNG": (ic.apng_encode(np.stack([RGB, RGB])), "2 frames", RGB, 0),
    "animated WebP": (saved(RGB, "WEBP", save_all=True, append_images=[Image.fromarray(255 - RGB)], lossless=True),
    "2 frames", RGB, 0),
    "AVIF sequence": (
        saved(np.zeros_like(RGB), "AVIF", save_all=True, append_images=[Image.new("RGB", (17, 13), "white")]),
        "a sequence",
        np.zeros_like(RGB),
        2,
    ),
    "two PPM in a file": (b"P6 1 1 255\n\x01\x02\x03P6 1 1 255\n\x01\x02\x03", "2 frames", [[[1, 2, 3]]], 0),
    "PPM up to 100": (b"P6 1 1 100\n\x00\x32\x64", "a greatest value of 100", [[[0, 128, 255]]], 0),
    "PGM up to 4095": (b"P5 2 1 4095\n\x0f\xff\x00\x00", "greatest value 4095", [[255, 0]], 0),
    "PBM": (b"P4 8 1\n\xaa", "1 bit a pixel", [[0, 255] * 4], 0),
    "GIF": (ic.gif_encode(G), "a palette", G, 0),
    "BMP with a palette": (bmp(8, b"\1\0\0\0", (1, 1), 0, b"\0\0\0\0\3\2\1\0" + bytes(254 * 4)), "a palette", [[[1,
    2, 3]]], 0),
    "TIFF with a palette": (tiff(np.array([[0, 1]], np.uint8), photometric="palette", colormap=noise(3, 256,
    top=65535, kind=np.uint16)),
                            "a palette", (noise(3, 256, top=65535, kind=np.uint16).T[:2] >> 8)[None], 0),
    "CMYK JPEG": (saved(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"), "CMYK", np.full((8, 8, 3), 255), 0),
    "YCCK JPEG": (ic.jpeg8_encode(np.full((8, 8, 4), 255, np.uint8), colorspace="CMYK", outcolorspace="YCCK"), "CMYK",
                  np.full((8, 8, 3), 255), 0),
    "CMYK TIFF": (tiff(np.zeros((2, 2, 4), np.uint8), photometric="separated"), "CMYK", np.full((2, 2, 3), 255), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERTED)
def test_what_would_lose_something_is_refused_and_converted_on_request(name: str) -> None:
    data, why, expected, most = CONVERTED[name]
    with pytest.raises(ImageError, match=rf"{why}.*--convert"):
        read(data)
    found = to_array(read(data, convert=True)).astype(int)
    if found.shape != np.shape(expected) and name == "GIF":  # a grey palette
        found = found[:, :, 0]
    assert found.shape == np.shape(expected)
    assert np.abs(found - np.asarray(expected).astype(int)).max() <= most


IMPOSSIBLE: dict[str, tuple[bytes, str]] = {
    "12-bit JPEG": (ic.jpeg8_encode(DEEP[:, :, 0] >> 4, bitspersample=12), "12 bits a channel"),
    "lossless JPEG": (ic.jpeg8_encode(G, lossless=True), "SOF3"),
    "Lab TIFF": (tiff(RGB, photometric="cielab"), "Lab colours"),
    "raw TIFF": (tiff(G, photometric="cfa"), "raw values of a sensor"),
    "TIFF of 8-bit values with signs": (tiff(G.astype(np.int8), photometric="minisblack"), "with a sign"),
    "16-bit TIFF in which 0 is white": (tiff(DEEP[:, :, 0], photometric="miniswhite"), "0 is white"),
    "TIFF of floats in three bands": (
        tiff(RGB.astype(np.float32), photometric="rgb"),
        "float values of 32 bits in 3 bands",
    ),
    "TIFF of doubles": (tiff(G.astype(np.float64)), "float values of 64 bits"),
    "TIFF of seven bands": (tiff(noise(5, 5, 7), photometric="minisblack", planarconfig="contig"), "7 bands"),
    "TIFF with JPEG XL inside": (tiff(RGB, photometric="rgb", compression="jpegxl"), "a compression"),
    "16-bit JP2 in colours, with loss": (
        jp2(ic.jpeg2k_encode(DEEP, level=40, reversible=False, codecformat="j2k"), 3, 16, bits=16, size=(13, 17)),
        "16 bits a channel in 3 channels",
    ),
    "JP2 with signs": (jp2(j2k(noise(9, 9, top=127, kind=np.int8)), 1, 17, size=(9, 9)), "values with a sign"),
    "10-10-10 BMP": (bmp(32, bytes(4), (1, 1), 3, struct.pack("<3I", 0x3FF00000, 0xFFC00, 0x3FF)), "masks"),
    "JPEG XL": (ic.jpegxl_encode(RGB), "JPEG XL"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
    "codestream": (j2k(RGB), "codestream"),
    "PAM": (b"P7\nWIDTH 1\n", "PAM"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_has_no_defined_conversion_is_refused_with_what_was_found(name: str) -> None:
    data, why = IMPOSSIBLE[name]
    for convert in (False, True):
        with pytest.raises(ImageError, match=why) as error:
            read(data, convert)
        assert "use --convert" not in str(error.value)


# --- transparency


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_found_at_every_depth(bits: int) -> None:
    values = noise(12, 11, 1, top=(1 << bits) - 1, kind=np.uint16)
    key = int(values[3, 4, 0])
    data = png(0, bits, values, (b"tRNS", struct.pack(">H", key)))
    picture = read(data, convert=bits in (1, 16))
    assert picture.alpha is not None
    assert (picture.alpha == np.where(values[:, :, 0] == key, 0, 255)).all()
    expected = values[:, :, 0] >> 8 if bits == 16 else values[:, :, 0] * (255 // ((1 << bits) - 1))
    assert (picture.pixels[:, :, 0] == expected).all()
    # A value that only looks alike in its high byte is not transparent.
    if bits == 16:
        values[3, 4, 0] ^= 1
        assert (read(png(0, 16, values, (b"tRNS", struct.pack(">H", key))), convert=True).alpha)[3, 4] == 255  # type: ignore[index]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_of_a_png_is_found_by_all_its_bits(bits: int, interlaced: bool) -> None:
    values = noise(6, 7, 3, top=(1 << bits) - 1, kind=np.uint16)
    values[1, 1] = values[0, 0]
    values[2, 2] = values[0, 0] ^ np.array([0, 0, 1], np.uint16)
    picture = read(
        png(2, bits, values, (b"tRNS", struct.pack(">3H", *values[0, 0])), interlaced=interlaced), convert=bits == 16
    )
    assert picture.alpha is not None
    assert sorted(zip(*np.nonzero(picture.alpha == 0))) == [(0, 0), (1, 1)]
    assert (picture.pixels == (values >> (bits - 8))).all()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colour", [4, 6])
def test_alpha_of_a_png_is_scaled_like_its_colours(colour: int, bits: int) -> None:
    values = noise(6, 7, 2 if colour == 4 else 4, top=(1 << bits) - 1, kind=np.uint16)
    assert (to_array(read(png(colour, bits, values), convert=bits == 16)) == values >> (bits - 8)).all()


def test_colours_multiplied_by_alpha_are_divided_only_on_request() -> None:
    straight = np.array([[[200, 100, 50, 128], [7, 8, 9, 255], [1, 2, 3, 0]]], np.uint8)
    multiplied = straight.copy()
    multiplied[:, :, :3] = np.rint(straight[:, :, :3] * (straight[:, :, 3:] / 255))
    for data in (
        tiff(multiplied, photometric="rgb", extrasamples=["assocalpha"]),
        jp2(j2k(multiplied), 4, 16, opacity(3, 2), size=(1, 3)),
    ):
        with pytest.raises(ImageError, match=r"multiplied by alpha.*--convert"):
            read(data)
        found = to_array(read(data, convert=True)).astype(int)
        assert (found[:, :, 3] == straight[:, :, 3]).all()
        assert np.abs(found - straight)[:, :2].max() <= 1


def test_a_palette_keeps_its_transparency_on_request() -> None:
    colours = b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c"
    data = png(3, 2, np.array([[[0], [1], [2], [3]]]), (b"PLTE", colours), (b"tRNS", b"\0\x80"))
    assert to_array(read(data, convert=True)).tolist() == [
        [[1, 2, 3, 0], [4, 5, 6, 128], [7, 8, 9, 255], [10, 11, 12, 255]]
    ]


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("bands", [2, 3, 4])
def test_bright_values_of_a_deep_jp2_stay_bright(bits: int, bands: int) -> None:
    top = (1 << bits) - 1
    values = noise(40, 40, bands, top=top, kind=np.uint16)
    values[:4], values[4:8] = top - np.arange(160).reshape(4, 40, 1), np.arange(160).reshape(4, 40, 1)
    boxes = [opacity(bands - 1)] if bands != 3 else []
    data = jp2(j2k(values, bitspersample=bits), bands, 17 if bands == 2 else 16, *boxes, bits=bits, size=(40, 40))
    half = 1 << (bits - 9)
    assert (to_array(read(data, convert=True)) == np.minimum(values.astype(int) + half >> (bits - 8), 255)).all()
