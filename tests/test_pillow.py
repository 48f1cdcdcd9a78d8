"""The Pillow plugin: registering, opening, loading and saving, as Pillow's users do it. In the
manner of Pillow's own tests of formats.
"""

import gc
import io
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph
from golden import make
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

import uqdm.pillow
from uqdm import format, library, quality
from uqdm.codec import Codec
from uqdm.picture import to_array

CASES = make.cases()
SLOW_IMPORTS = {"numpy", "numba", "onnx", "onnxruntime", "torch", "constriction", "uqdm.codec", "uqdm.library"}


@pytest.fixture(autouse=True)
def options_as_they_were() -> Iterator[None]:
    yield
    uqdm.pillow.register(strict=False, model=None)
    ImageFile.LOAD_TRUNCATED_IMAGES = False


def path(name: str) -> Path:
    return make.HERE / f"{name}.uqdm"


def golden(name: str) -> bytes:
    return path(name).read_bytes()


def opened(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


def loaded(data: bytes) -> Any:
    image = opened(data)
    image.load()
    return image


def saved(image: Image.Image, model: str = "nano", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "UQDM", model=model, **options)
    return out.getvalue()


def picture(height: int = 20, width: int = 28, seed: int = 0) -> Image.Image:
    return Image.fromarray(photograph(height, width, seed))


def difference(one: Any, other: Any) -> int:
    one, other = np.asarray(one).astype(int), np.asarray(other).astype(int)
    assert one.shape == other.shape
    return int(abs(one - other).max())


@pytest.fixture(scope="module")
def large() -> tuple[Image.Image, bytes]:
    """A picture and its file of nano."""
    image = picture(40, 56)
    return image, saved(image)


@pytest.fixture(scope="module")
def photo() -> tuple[Image.Image, bytes]:
    """A smooth picture and its file of the default model, which has reduced sizes."""
    image = picture(4, 6).resize((96, 64), Image.Resampling.BICUBIC)
    return image, saved(image, library.DEFAULT)


def fresh(code: str, *words: str, stdin: bytes = b"") -> str:
    """What a program prints that is run in a process of its own, where every warning is an
    error.
    """
    run = subprocess.run([sys.executable, "-W", "error", "-c", code, *words], input=stdin, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode().strip()


# --- registering


def test_pillow_knows_the_format_beside_all_others() -> None:
    code = (
        "import sys, uqdm.pillow; from PIL import Image; found = Image.registered_extensions(); print(*map(found.get,"
        " sys.argv[1:]))"
    )
    suffixes = (".uqdm", ".png", ".webp", ".tif")
    assert fresh(code, *suffixes) == "UQDM PNG WEBP TIFF"
    assert fresh("from PIL import Image; Image.init(); " + code, *suffixes) == "UQDM PNG WEBP TIFF"
    assert Image.MIME["UQDM"] == "image/x-uqdm"
    assert opened(golden("nano-row")).get_format_mimetype() == "image/x-uqdm"


def test_other_files_open_after_the_import(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.webp")
    code = "import sys, uqdm.pillow; from PIL import Image; print(*(Image.open(one).format for one in sys.argv[1:]))"
    assert fresh(code, str(tmp_path / "a.webp"), str(path("nano-row"))) == "WEBP UQDM"


def test_without_the_import_the_format_is_unknown() -> None:
    code = (
        "import sys; from PIL import Image\ntry: Image.open(sys.argv[1])\nexcept OSError as error:"
        " print(type(error).__name__)"
    )
    assert fresh(code, str(path("nano-row"))) == "UnidentifiedImageError"


def test_registering_again_changes_only_the_options_that_are_given() -> None:
    for _ in range(3):
        uqdm.pillow.register(model="nano")
    uqdm.pillow.register()
    assert Image.ID.count("UQDM") == 1
    out = io.BytesIO()
    picture(5, 4).save(out, "UQDM")
    assert opened(out.getvalue()).info["model"] == "nano"
    with pytest.raises(TypeError, match=r"register got modle; expected model, strict"):
        uqdm.pillow.register(modle="nano")  # type: ignore[call-arg]


def test_neither_the_import_nor_opening_brings_in_what_decodes() -> None:
    code = "import sys, uqdm.pillow; from PIL import Image; im = Image.open(sys.argv[1]); "
    code += f"print(im.size, {SLOW_IMPORTS} & set(sys.modules))"
    assert fresh(code, str(path("photo-carried"))) == "(14, 9) set()"


# --- opening


class Counted(io.BytesIO):
    """A file that counts the bytes that are read from it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found


def test_opening_reads_the_head_and_the_metadata_only() -> None:
    data = golden("nano-long-steps")
    file = Counted(data)
    image = uqdm.pillow.UqdmImageFile(file)  # other plugins, asked first, may read more
    assert (image.format, image.mode, image.size, image.info) == (
        "UQDM",
        "RGB",
        (72, 80),
        {"model": "nano", "steps": 4},
    )
    assert file.count < 100 < len(data)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 4), dtype=np.uint8))
    data = saved(noise, xmp=b"x" * 5000, max_error=254)
    file = Counted(data)
    assert uqdm.pillow.UqdmImageFile(file).info["xmp"] == b"x" * 5000
    assert file.count < 5200 < 6600 < len(data)  # the plane of alpha is not read


def test_a_file_comes_through_a_pipe() -> None:
    code = (
        "import sys, uqdm.pillow; from PIL import Image; im = Image.open(sys.stdin.buffer); print(im.size,"
        " im.tobytes().hex())"
    )
    expected = CASES["nano-rgb"][1].pixels
    assert fresh(code, stdin=golden("nano-rgb")) == f"(33, 24) {expected.tobytes().hex()}"


@pytest.mark.parametrize(
    "name", ["nano-rgb", "nano-grey", "nano-carried", "nano-one-pixel", "light-grey", "light-paper", "photo-carried"]
)
def test_a_whole_file_loads_as_what_was_compressed(name: str) -> None:
    with Image.open(path(name)) as image:
        assert image.size == CASES[name][1].pixels.shape[1::-1]
        assert difference(image, to_array(CASES[name][1])) == 0
        assert image.info["step"] == image.info["steps"]
        assert (image.info["partial"], image.info["max_error"], image.info["unverified"]) == (False, 0, 0)


def test_metadata_stands_in_info_before_the_pixels_are_decoded() -> None:
    image = Image.open(path("nano-carried"))
    assert {name: image.info[name] for name in ("icc_profile", "exif", "xmp")} == {
        "icc_profile": b"a colour profile", "exif": b"Exif\0\0II*\0exif", "xmp": b"<xmp/>",
    }  # fmt: skip
    assert image.mode == "RGBA"


def test_files_are_closed_as_pillow_closes_them() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = Image.open(path("nano-row"))
        image.load()
        assert image.fp is None
        with Image.open(path("nano-row")):
            pass
        own = io.BytesIO(golden("nano-row"))
        loaded = Image.open(own)
        loaded.load()
        loaded.close()
        assert not own.closed
        del image, loaded
        gc.collect()


def test_images_are_copied_and_pickled(large: tuple[Image.Image, bytes]) -> None:
    assert difference(pickle.loads(pickle.dumps(opened(large[1]))), large[0]) == 0
    assert difference(opened(large[1]).copy(), large[0]) == 0


def test_what_is_no_file_of_ours_is_left_to_other_plugins() -> None:
    with pytest.raises(SyntaxError, match=r"not a \.uqdm file"):
        uqdm.pillow.UqdmImageFile(io.BytesIO(b"\x89PNG and more bytes"))
    data = golden("nano-row")
    with pytest.warns(UserWarning, match="line ends were changed"), pytest.raises(UnidentifiedImageError):
        opened(data.replace(b"\r\n", b"\n"))


def test_a_head_that_cannot_be_read_says_why() -> None:
    data = golden("nano-row")
    with pytest.raises(UnidentifiedImageError, match="cut inside the header"):
        opened(data[:20])
    with pytest.raises(UnidentifiedImageError, match=r"version 2\.0; this reader knows versions 1\.0 to"):
        opened(data[:8] + b"\x20" + data[9:])
    with pytest.raises(UnidentifiedImageError, match="checksum"):
        opened(data[:14] + b"\x00" + data[15:])


def test_a_file_of_a_model_that_is_not_here_opens_and_load_says_which_it_needs() -> None:
    image = Image.open(path("nested-rgb"))
    assert image.size == (12, 9)
    assert image.draft(None, (3, 3)) is None
    with pytest.raises(OSError, match=r"nested-rgb\.uqdm: the file needs model 'nested-by-chance'"):
        image.load()


# --- cut and damaged files


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_file_loads_as_the_preview_that_it_is(
    large: tuple[Image.Image, bytes], nano: Codec, share: float
) -> None:
    data = large[1][: int(share * len(large[1]))]
    image, expected = loaded(data), nano.decode(data)
    assert difference(image, expected.image) == 0
    assert [image.info[name] for name in ("step", "partial", "max_error", "unverified")] == [
        expected.step, expected.partial, expected.bound, expected.tail,
    ]  # fmt: skip


def test_a_cut_file_is_an_error_if_that_was_asked_for(large: tuple[Image.Image, bytes]) -> None:
    uqdm.pillow.register(strict=True)
    data = large[1][:-5]
    image = opened(data)
    with pytest.raises(OSError, match=rf"not whole: it ends at byte {len(data)}, after step 3 of 4"):
        image.load()
    with pytest.raises(OSError, match="not whole"):
        opened(data).verify()
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    image.load()
    assert difference(image, large[0]) < 20
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    loaded(large[1])
    loaded(saved(large[0], library.DEFAULT, max_error=4))  # near-lossless, and whole


def test_a_file_that_ends_before_its_picture_is_truncated() -> None:
    data = golden("nano-carried")
    first = format.ends(format.parse(data))[0]
    for size in (format.parse(data, steps=0).header_size, 60, first - 1, first, first + 7):
        image = opened(data[:size])
        assert (image.size, image.mode) == ((14, 9), "RGBA")
        with pytest.raises(OSError, match=f"truncated: it ends at byte {size}, before the picture begins"):
            image.load()
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        image.load()
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        alpha = np.asarray(image)[..., 3]
        assert (alpha == (255 if size < first else CASES["nano-carried"][1].alpha)).all()


def test_damage_is_an_error_and_what_comes_before_it_can_be_had(large: tuple[Image.Image, bytes], nano: Codec) -> None:
    data = bytearray(large[1])
    third = format.ends(format.parse(large[1]))[3]
    data[third - 40] ^= 1
    image = opened(bytes(data))
    with pytest.raises(OSError, match="is damaged: step 3 of 4"):
        image.load()
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    image.load()
    assert image.info["step"] == 2
    assert difference(image, nano.decode(large[1], step=2).image) == 0


def test_verify_finds_any_changed_byte_and_decodes_nothing(
    large: tuple[Image.Image, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Codec, "decode_many", None)
    image = opened(large[1])
    image.verify()
    with pytest.raises(OSError, match="closed; open it again"):
        image.load()
    for place in (60, len(large[1]) // 2, len(large[1]) - 1):
        data = bytearray(large[1])
        data[place] ^= 4
        with pytest.raises(OSError, match="damaged"):
            opened(bytes(data)).verify()


# --- less than all


def test_step_says_how_many_steps_are_decoded(large: tuple[Image.Image, bytes], nano: Codec) -> None:
    image = opened(large[1])
    image.step = 2
    image.load()
    assert image.info["step"] == 2
    assert difference(image, nano.decode(large[1], step=2).image) == 0
    cut = opened(large[1][:-5])
    cut.step = 4
    with pytest.raises(OSError, match="the file was cut and holds 3 of 4 whole steps"):
        cut.load()


@pytest.mark.parametrize("goal", [{"bpp": 2.5}, {"target_size": 700}, {"max_error": 60}])
def test_other_goals_say_how_much_is_decoded(
    goal: dict[str, Any], large: tuple[Image.Image, bytes], nano: Codec
) -> None:
    image = opened(large[1])
    for name, value in goal.items():
        setattr(image, name, value)
    image.load()
    expected = nano.decode(large[1], **goal)
    assert (image.info["step"], image.info["partial"]) == (expected.step, expected.partial)
    assert difference(image, expected.image) == 0 < difference(image, large[0])
    image = opened(large[1])
    image.psnr = 30  # the file is too short for an index
    with pytest.raises(OSError, match="30 dB were asked for; the file has no index"):
        image.load()
    image.step = 1
    with pytest.raises(ValueError, match="step=1 and psnr=30 cannot be used together"):
        image.load()


def test_an_open_image_is_compressed_again_as_it_was_loaded(
    large: tuple[Image.Image, bytes], photo: tuple[Image.Image, bytes], nano: Codec
) -> None:
    assert nano.compress(opened(large[1])) == large[1]  # without load
    image = opened(large[1])
    image.step = 2
    image.load()
    assert (nano.decompress(nano.compress(image)) == nano.decompress(large[1], step=2)).all()
    carried = saved(large[0], exif=b"II*\0exif", xmp=b"<x/>")
    assert nano.compress(opened(carried)) == carried
    damaged = bytearray(large[1])
    damaged[-9] ^= 1
    with pytest.raises(uqdm.ImageError, match=r"cannot be loaded: .* is damaged: step 4 of 4"):
        nano.compress(opened(bytes(damaged)))


def test_thumbnails_decode_reduced_sizes_where_the_model_has_them(
    photo: tuple[Image.Image, bytes], default: Codec
) -> None:
    image = opened(photo[1])
    mode, box = image.draft("RGB", (20, 16))
    assert (mode, image.size) == ("RGB", (24, 16))
    assert box == (0.375, 0.375, 24, 16)
    image.load()
    assert difference(image, default.decode(photo[1], reduce=2).image) == 0
    for size in (40, 20, 9):
        small, expected = opened(photo[1]), photo[0].copy()
        small.thumbnail((size, size))
        expected.thumbnail((size, size))
        assert small.size == expected.size
        assert np.square(np.asarray(small).astype(float) - np.asarray(expected)).mean() ** 0.5 < 4
    whole = opened(photo[1])
    assert whole.draft(None, (49, 10)) is None
    assert difference(whole, photo[0]) == 0


def test_a_draft_of_odd_sides_has_the_size_that_is_loaded() -> None:
    data = saved(picture(13, 27), library.DEFAULT)
    for size in ((13, 7), (5, 2), (1, 1)):
        image = opened(data)
        image.draft(None, size)
        told = image.size
        assert told[0] >= size[0]
        image.load()
        assert image.size == told == image.im.size


def test_thumbnails_leave_out_the_last_two_steps_elsewhere(large: tuple[Image.Image, bytes]) -> None:
    image = opened(large[1])
    assert image.draft(None, (20, 15)) is None
    assert image.draft(None, (14, 10)) == ("RGB", (0, 0, 56, 40))
    image.load()
    assert (image.info["step"], image.size) == (2, (56, 40))
    small = opened(large[1][: format.ends(format.parse(large[1]))[1]])
    small.thumbnail((7, 5))
    assert (small.info["step"], small.size) == (1, (7, 5))


# --- saving


def transparent(image: Image.Image, mode: str) -> Image.Image:
    image = image.convert(mode)
    image.info["transparency"] = 3 if mode in ("P", "L") else image.getpixel((0, 0))
    return image


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (picture().convert("1"), "L"),
        (picture().convert("L"), "L"),
        (picture().convert("LA"), "LA"),
        (picture().convert("P"), "RGB"),
        (picture().convert("P").convert("PA"), "RGBA"),
        (picture(), "RGB"),
        (Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 14, 4), dtype=np.uint8)), "RGBA"),
        (Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 14, 2), dtype=np.uint8)), "LA"),
        (transparent(picture(), "P"), "RGBA"),
        (transparent(picture(), "L"), "LA"),
        (transparent(picture(), "RGB"), "RGBA"),
    ],
)
def test_saving_loses_nothing_that_an_image_shows(image: Image.Image, mode: str) -> None:
    back = loaded(saved(image))
    assert back.mode == mode
    assert difference(back, image.convert(mode)) == 0


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "CMYK", "YCbCr", "HSV", "LAB", "RGBa", "La", "RGBX"])
def test_modes_that_8_bit_grey_or_rgb_do_not_hold_are_refused(mode: str, tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match=f"cannot write mode {mode} as UQDM; expected 1, L, LA, P, PA, RGB, RGBA: convert the image first"
    ):
        Image.new(mode, (3, 3)).save(tmp_path / "a.uqdm")
    assert not list(tmp_path.iterdir())


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(OSError, match="0 × 4 as UQDM; expected at least one pixel"):
        saved(Image.new("RGB", (0, 4)))


def test_an_image_is_saved_as_it_is_now_and_not_as_its_file(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    image = Image.open(tmp_path / "a.png")
    image.putpixel((3, 4), (1, 2, 3))
    image.save(tmp_path / "a.uqdm", model="nano")
    with Image.open(tmp_path / "a.uqdm") as back:
        assert difference(back, image) == 0
        assert back.getpixel((3, 4)) == (1, 2, 3)


def test_metadata_is_carried_unless_it_is_given_or_left_out() -> None:
    image = picture(4, 5)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    image.info |= {"icc_profile": b"profile", "exif": exif.tobytes(), "xmp": b"<xmp/>"}
    back = opened(saved(image))
    assert (back.info["icc_profile"], back.info["exif"], back.info["xmp"]) == (b"profile", exif.tobytes(), b"<xmp/>")
    assert dict(back.getexif()) == dict(exif)
    exif[0x0112] = 1
    back = opened(saved(image, icc_profile=b"another", exif=exif, xmp="<other/>"))
    assert (back.info["icc_profile"], back.getexif()[0x0112], back.info["xmp"]) == (b"another", 1, b"<other/>")
    back = opened(saved(image, icc_profile=None, exif=b"", xmp=None))
    assert set(back.info) == {"model", "steps"}
    with pytest.raises(TypeError, match="save got icc_profile of type int"):
        saved(image, icc_profile=7)


def test_metadata_goes_on_to_other_formats() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = opened(saved(picture(4, 5), exif=exif, icc_profile=profile))
    for name in ("PNG", "JPEG", "WEBP", "AVIF"):
        out = io.BytesIO()
        image.save(out, name, exif=image.info["exif"], icc_profile=image.info["icc_profile"])
        back = opened(out.getvalue())
        assert (back.getexif()[0x0112], back.info["icc_profile"]) == (6, profile)


def test_several_pictures_are_refused(tmp_path: Path) -> None:
    for options in ({"save_all": True}, {"append_images": [picture()]}):
        with pytest.raises(ValueError, match="holds one picture"):
            picture().save(tmp_path / "a.uqdm", **options)
    assert not list(tmp_path.iterdir())


# --- rates


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"bpp": 1, "target_size": 400},
            ValueError,
            "bpp=1 and target_size=400 cannot be used together: give at most one of step, bpp, target_size",
        ),
        ({"psnr": 30, "max_error": 0}, ValueError, "psnr=30 and max_error=0 cannot"),
        ({"bpp": 0}, ValueError, "bpp 0; expected a number of bits per pixel above 0"),
        ({"bpp": float("inf")}, ValueError, "bpp inf; expected"),
        ({"psnr": float("nan")}, ValueError, "psnr nan; expected a number of decibels"),
        ({"psnr": "30"}, TypeError, "psnr '30'; expected a number of decibels"),
        ({"target_size": 2e4}, TypeError, "target_size 20000.0; expected a whole number of bytes"),
        ({"target_size": True}, TypeError, "target_size True"),
        ({"max_error": -1}, ValueError, "max_error -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words.replace(".", r"\.")):
        picture().save(tmp_path / "a.uqdm", **options)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(OSError, match="cannot write UQDM: nobody: no model of that name"):
        saved(picture(), "nobody")


def test_a_rate_or_a_size_is_a_beginning_of_the_whole_file(large: tuple[Image.Image, bytes], tmp_path: Path) -> None:
    image, data = large
    assert saved(image, target_size=777) == data[:777]
    assert saved(image, bpp=2.5) == data[:700]
    assert saved(image, step=2) == data[: format.ends(format.parse(data))[2]]
    assert saved(image, bpp=100) == saved(image, target_size=10**9) == saved(image, bpp=None) == data
    image.save(tmp_path / "a.uqdm", target_size=1000, model="nano")
    assert os.path.getsize(tmp_path / "a.uqdm") == 1000
    with Image.open(tmp_path / "a.uqdm") as back:
        assert difference(back, image) < 150


def test_a_size_without_room_for_a_picture_is_refused_with_the_least_that_has() -> None:
    image = picture(9, 14)
    for size in (10, 500, 550):
        words = f"{size} bytes were asked for, but header, metadata and the first of the picture take 551 "
        with pytest.raises(OSError, match=words):
            saved(image, target_size=size, xmp=b"x" * 500)
    with pytest.raises(OSError, match="535 bytes were asked for, but"):
        saved(image, bpp=34, xmp=b"x" * 500)
    data = saved(image, target_size=551, xmp=b"x" * 500)
    assert len(data) == 551
    loaded(data)


@pytest.mark.parametrize("model", ["nano", library.DEFAULT])
def test_no_value_is_further_off_than_max_error(model: str) -> None:
    image = picture(16, 24)
    sizes = []
    for most in (0, 3, 20):
        data = saved(image, model, max_error=most)
        back = loaded(data)
        assert difference(back, image) <= back.info["max_error"] <= most
        sizes.append(len(data))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[0]


def psnr(one: Any, other: Any) -> float:
    return quality.psnr(float(np.square(np.asarray(one).astype(float) - np.asarray(other)).mean()))


@pytest.mark.parametrize("wanted", [20, 27.5, 41, 60])
def test_a_psnr_is_reached_and_not_with_a_byte_less(large: tuple[Image.Image, bytes], wanted: float) -> None:
    image, whole = large
    data = saved(image, psnr=wanted)
    assert data == whole[: len(data)]
    assert psnr(loaded(data), image) >= wanted
    assert psnr(loaded(data[:-1]), image) < wanted
    assert len(data) < len(whole)


def test_a_psnr_that_anything_has_takes_the_shortest_file_that_shows_anything(large: tuple[Image.Image, bytes]) -> None:
    data = saved(large[0], psnr=1)
    loaded(data)
    with pytest.raises(OSError, match="before the picture begins"):
        loaded(data[:-1])


def test_a_psnr_that_only_the_whole_file_has_takes_it(
    photo: tuple[Image.Image, bytes], large: tuple[Image.Image, bytes]
) -> None:
    assert saved(photo[0], library.DEFAULT, psnr=90) == photo[1]
    assert saved(large[0], psnr=float("inf")) == large[1]
