"""The page in a headless Chromium: what it shows is what the codec decodes, and keys, slider, handle
and small screens work.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph
from serving import made, serving

from uqdm import codec, format
from uqdm.view import Server

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
PICTURE = photograph(40, 48)
PIXELS = """one => {
  const c = new OffscreenCanvas(one.naturalWidth || one.width, one.naturalHeight || one.height).getContext("2d");
  c.drawImage(one, 0, 0); return [...c.getImageData(0, 0, c.canvas.width, c.canvas.height).data] }"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium of the system, or Playwright's own."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    with api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium is here: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def folder(small: codec.Codec, tmp_path: Path) -> Path:
    made(tmp_path / "shown", PICTURE)
    return tmp_path / "shown"


@pytest.fixture
def shown(folder: Path) -> Iterator[Server]:
    with serving(folder) as found:
        yield found


@pytest.fixture
def page(browser: Any, shown: Server) -> Iterator[Any]:
    """The page, with nothing to complain about."""
    found = browser.new_page(viewport={"width": 1100, "height": 800})
    complaints: list[str] = []
    asked: list[str] = []
    found.on("console", lambda message: complaints.append(message.text))
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on("request", lambda request: asked.append(request.url))
    found.goto(shown.url)
    found.wait_for_selector("#left img:not([hidden])")
    yield found
    found.close()
    assert complaints == []
    assert all(url.startswith((shown.url, "blob:", "data:")) for url in asked)


def still(page: Any) -> None:
    """Waits until the page shows exactly the bytes that are asked for, in full size."""
    page.wait_for_function("() => shown && !job && !moving && shown.bytes === want && !shown.halvings")


def picture(page: Any, selector: str) -> np.ndarray:
    values = np.array(page.eval_on_selector(selector, PIXELS), np.uint8)
    return values.reshape(*PICTURE.shape[:2], 4)[:, :, :3]


def test_the_page_shows_what_the_codec_decodes(page: Any, folder: Path, small: codec.Codec) -> None:
    data = (folder / "a.uqdm").read_bytes()
    still(page)
    for key in ("Home", "]", "]", "ArrowRight", "End", "ArrowLeft", "["):
        page.keyboard.press(key)
        still(page)
        size = int(page.evaluate("want"))
        assert (picture(page, "#left img") == small.decompress(data[:size])).all(), key
        assert page.inner_text("#bytes") == f"{size:,}"
        assert page.inner_text("#bpp") == f"{8 * size / (40 * 48):.3f}"


def test_keys_go_to_the_ends_of_steps_and_figures_follow(page: Any, folder: Path, small: codec.Codec) -> None:
    data = (folder / "a.uqdm").read_bytes()
    ends = format.ends(format.parse(data))
    page.keyboard.press("End")
    still(page)
    assert (page.inner_text("#bytes"), page.inner_text("#share")) == (f"{len(data):,}", "100.0 %")
    assert page.inner_text("#step") == "step 4 of 4, lossless"
    assert page.inner_text("#psnr") == "∞"
    for step in (3, 2, 1):
        page.keyboard.press("[")
        still(page)
        assert page.evaluate("want") == ends[step]
        assert page.inner_text("#step") == f"step {step} of 4"
        error = np.mean((small.decompress(data[: ends[step]]).astype(float) - PICTURE) ** 2)
        assert page.inner_text("#psnr") == f"{10 * np.log10(255**2 / error):.2f}"
    assert page.inner_text("#against") == "PSNR against a.png"


def test_the_slider_is_dragged_and_the_newest_place_is_shown(page: Any, folder: Path, small: codec.Codec) -> None:
    data = (folder / "a.uqdm").read_bytes()
    box = page.locator("#slider").bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in np.linspace(0.05, 0.77, 60):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    page.mouse.up()
    still(page)
    size = int(page.evaluate("want"))
    assert 0 < size < len(data)
    assert abs(page.evaluate("place(want)") - 0.77) < 0.03
    assert (picture(page, "#left img") == small.decompress(data[:size])).all()


def test_comparison_shows_the_original_and_the_error(page: Any) -> None:
    page.keyboard.press("c")
    page.wait_for_selector("#right img:not([hidden])")
    assert (picture(page, "#right img") == PICTURE).all()
    assert page.get_attribute("#stage", "class") == "split"
    before = page.evaluate("$('handle').getBoundingClientRect().left")
    box = page.locator("#handle").bounding_box()
    page.mouse.move(box["x"] + 16, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 216, box["y"] + 200)
    page.mouse.up()
    assert page.evaluate("$('handle').getBoundingClientRect().left") == pytest.approx(before + 200, abs=2)
    page.keyboard.press("s")
    assert page.get_attribute("#stage", "class") == "beside"
    page.keyboard.press("c")
    page.wait_for_selector("#right canvas:not([hidden])")
    still(page)
    apart = np.abs(picture(page, "#left img").astype(int) - PICTURE)
    assert (picture(page, "#right canvas") == np.minimum(8 * apart, 255)).all()
    page.keyboard.press("End")
    still(page)
    page.wait_for_function("() => $('tag-right').textContent.includes(comma(want))")
    assert not picture(page, "#right canvas").any()


def test_the_same_bytes_as_jpeg_stand_beside(page: Any) -> None:
    from uqdm.view import aside

    if "jpeg" not in aside.offered():
        pytest.skip("other codecs need the extra eval")
    still(page)
    page.click("#compare button:text-is('JPEG')")
    page.wait_for_function("() => other && other.asked === want")
    assert "JPEG" in page.inner_text("#tag-right")
    assert page.evaluate("other.bytes <= want || $('tag-right').textContent.includes('no smaller')")


def test_pixels_stay_sharp_when_they_are_large(page: Any) -> None:
    still(page)
    page.keyboard.press("1")
    assert page.inner_text("#zoom") == "100 %"
    for _ in range(6):
        page.keyboard.press("+")
    style = "one => [getComputedStyle(one).imageRendering, one.getBoundingClientRect().width]"
    rendering, width = page.eval_on_selector("#left img", style)
    assert rendering == "pixelated"
    assert width == pytest.approx(48 * 1.5**6, rel=1e-3)
    left = page.locator("#left img").bounding_box()["x"]
    page.mouse.move(500, 300)
    page.mouse.down()
    page.mouse.move(450, 300)
    page.mouse.up()
    assert page.eval_on_selector("#left img", "one => one.getBoundingClientRect().left") == pytest.approx(
        left - 50, abs=1
    )
    page.keyboard.press("0")
    assert page.evaluate("view.fit")


def test_it_can_be_watched_arriving(page: Any, folder: Path) -> None:
    size = (folder / "a.uqdm").stat().st_size
    page.evaluate("$('speed').value = 0, $('speed').oninput()")
    assert page.inner_text("#rate") == "10 kB/s"
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    assert page.get_attribute("#play", "aria-pressed") == "true"
    page.wait_for_function(f"() => want > 0.3 * {size}")
    page.wait_for_function("() => !playing")
    still(page)
    assert page.evaluate("want") == size
    assert page.inner_text("#psnr") == "∞"


def test_it_fits_a_phone(browser: Any, shown: Server) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 640}, device_scale_factor=3, has_touch=True)
    page.goto(shown.url)
    still(page)
    page.keyboard.press("c")
    for layout in ("split", "beside"):
        assert page.get_attribute("#stage", "class") == layout
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for selector in ("#slider", "#play", "#save", "#compare", "#stage"):
            box = page.locator(selector).bounding_box()
            assert box["x"] >= 0, selector
            assert box["x"] + box["width"] <= 361, selector
            assert box["y"] + box["height"] <= 641, selector
        page.keyboard.press("s")
    assert page.locator("#stage").bounding_box()["height"] > 200
    page.close()


def test_light_and_dark_follow_the_system_and_a_key(browser: Any, shown: Server) -> None:
    bright = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(shown.url)
        still(page)
        first = page.evaluate(bright)
        assert (first > 600) == (scheme == "light")
        page.keyboard.press("t")
        assert (page.evaluate(bright) > 600) != (first > 600)
        page.close()


def test_files_of_a_folder_are_chosen(page: Any, folder: Path, shown: Server, small: codec.Codec) -> None:
    for k in range(3):
        made(folder, photograph(*PICTURE.shape[:2], seed=k + 1), f"b{k}")
    page.reload()
    for k in (0, 2, 1):  # in a hurry: what the file before asked for must not be shown
        page.select_option("#names", f"b{k}.uqdm")
        page.keyboard.press("End")
    page.wait_for_function("() => F && F.name === 'b1.uqdm'")
    page.keyboard.press("End")
    still(page)
    assert (picture(page, "#left img") == photograph(*PICTURE.shape[:2], seed=2)).all()
    page.goto(shown.url + "#b2.uqdm")
    page.reload()
    page.wait_for_function("() => F && F.name === 'b2.uqdm'")


def test_an_address_is_fetched_as_far_as_the_slider_goes(browser: Any, folder: Path, small: codec.Codec) -> None:
    data = small.compress(photograph(56, 64))
    (folder / "a.uqdm").write_bytes(data)
    with serving(folder) as first, serving(first.url + "file?name=a.uqdm") as second:
        page = browser.new_page()
        page.goto(second.url)
        still(page)
        assert page.evaluate("[want, F.there, F.bytes]") == [4096, 4096, len(data)]
        assert "as soon as it is here" in page.inner_text("#against")
        page.keyboard.press("End")
        still(page)
        assert page.inner_text("#psnr") == "∞"
        assert "which is lossless" in page.inner_text("#against")
        page.close()


def test_what_is_wrong_is_said_on_the_page(browser: Any, folder: Path) -> None:
    whole = (folder / "a.uqdm").read_bytes()
    (folder / "a.uqdm").write_bytes(whole[:-40] + bytes(40))
    with serving(folder) as found:
        page = browser.new_page()
        page.goto(found.url)
        page.wait_for_function("() => $('note').textContent.includes('checksum')")
        page.close()
    (folder / "a.uqdm").write_bytes(b"nothing")
    with serving(folder) as found:
        page = browser.new_page()
        page.goto(found.url)
        page.wait_for_function("() => $('note').textContent.includes('not a .uqdm file')")
        page.close()


def test_a_server_that_has_ended_is_noticed(browser: Any, folder: Path) -> None:
    with serving(folder) as found:
        page = browser.new_page()
        page.goto(found.url)
        still(page)
    page.keyboard.press("End")
    page.wait_for_function("() => $('note').textContent !== ''")
    page.close()
