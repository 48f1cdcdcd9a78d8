"""In a notebook: previews show themselves, `uqdm.show` has a slider over bytes, and the tour runs."""

import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph
from PIL import Image

import uqdm
from uqdm import codec, format, goals

TOUR = Path(__file__).parent.parent / "examples" / "tour.ipynb"


def seen(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def shown(nano: codec.Codec) -> tuple[np.ndarray, bytes]:
    pytest.importorskip("ipywidgets")
    picture = photograph(40, 56)
    return picture, nano.compress(picture)


def test_a_preview_is_the_result_of_a_cell(nano: codec.Codec) -> None:
    rgba, grey = np.dstack([photograph(12, 10), photograph(12, 10, 1)[:, :, :1]]), photograph(12, 10)[:, :, 0]
    for picture in (rgba, rgba[:, :, :3].copy(), grey, rgba[:, :, 2:].copy()):
        data = nano.compress(picture)
        assert (seen(nano.decode(data)._repr_png_()) == picture).all()
        rough = nano.decode(data, step=1)
        assert (seen(rough._repr_png_()) == rough.image).all()


def test_a_slider_says_how_many_bytes_are_shown(shown: tuple[np.ndarray, bytes], nano: codec.Codec) -> None:
    picture, data = shown
    image, slider, line = uqdm.show(data, original=picture).children
    assert (seen(image.value) == picture).all()
    assert (
        line.value == f"{len(data):,} of {len(data):,} bytes · {8 * len(data) / 2240:.3f} bpp · step 4 of 4 · lossless"
    )
    sizes = [size for _, size in slider.options]
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (goals.least(data), len(data))
    assert set(format.ends(format.parse(data))[1:]) <= set(sizes)
    for size in (sizes[20], format.ends(format.parse(data))[2], sizes[0]):  # also back to fewer
        slider.value = size
        expected = nano.decode(data[:size])
        assert (seen(image.value) == expected.image).all()
        error = np.mean((expected.image.astype(int) - picture) ** 2)
        assert f"{10 * math.log10(255**2 / error):.2f} dB" in line.value
        assert line.value.startswith(
            f"{size:,} of {len(data):,} bytes · {8 * size / 2240:.3f} bpp · step {expected.step} "
        )
        assert ("part of step" in line.value) == expected.partial
        assert (f"no value is more than {expected.bound} off" in line.value) == (expected.bound < 255)


def test_without_an_original_the_index_tells_the_psnr() -> None:
    pytest.importorskip("ipywidgets")
    model, picture = uqdm.load(), photograph(132, 140)
    data = model.compress(picture)
    told = uqdm.inspect(data).index
    assert told
    _, slider, line = uqdm.show(data, size=told[2].bytes).children
    assert slider.value == told[2].bytes
    assert f"{told[2].psnr:.2f} dB" in line.value
    slider.value = next(size for _, size in slider.options if told[2].bytes < size < told[3].bytes)
    assert f"about {told[2].psnr:.1f} to {told[3].psnr:.1f} dB" in line.value


def test_a_short_file_without_an_original_has_no_psnr(shown: tuple[np.ndarray, bytes]) -> None:
    _, slider, line = uqdm.show(shown[1][:600], size=100).children
    assert slider.value <= 100 < slider.options[-1][1] == 600
    assert not re.search(r"\d dB", line.value)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"original": photograph(5, 4)}, uqdm.ImageError, "the original is 4 × 5; expected one picture of 56 × 40"),
        ({"original": [photograph(40, 56)] * 2}, uqdm.ImageError, "the original is several pictures"),
        ({"model": "nobody"}, uqdm.UnknownModelError, "no model of that name"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    shown: tuple[np.ndarray, bytes], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        uqdm.show(shown[1], **options)
    with pytest.raises(uqdm.LimitError, match="before its picture begins"):
        uqdm.show(shown[1][: format.ends(format.parse(shown[1]))[0]])


def test_without_ipywidgets_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ModuleNotFoundError, match=r"uqdm\.show needs ipywidgets.*pip install '\.\[notebook\]'"):
        uqdm.show(b"")


# --- the tour


def printed(cell: Any) -> str:
    return "".join(one["text"] for one in cell["outputs"] if one["output_type"] == "stream")


def pictures(cell: Any) -> int:
    return sum(any("image/" in kind for kind in one.get("data", {})) for one in cell["outputs"])


def test_the_tour_runs_from_top_to_bottom_and_prints_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("nbclient", "ipykernel", "ipywidgets", "matplotlib", "torch", "imagecodecs"):
        pytest.importorskip(module)
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    kept, found = nbformat.read(TOUR, 4), nbformat.read(TOUR, 4)
    NotebookClient(found, timeout=300, kernel_name="python3", resources={"metadata": {"path": TOUR.parent}}).execute()
    for before, cell in zip(kept.cells, found.cells):
        if cell.cell_type == "code":
            assert pictures(cell) == pictures(before), cell.source
            if "varies" not in cell.metadata.get("tags", ()):  # what is trained, and other codecs
                assert printed(cell) == printed(before), cell.source


def test_the_tour_is_small_and_has_its_results() -> None:
    cells = [cell for cell in json.loads(TOUR.read_text())["cells"] if cell["cell_type"] == "code"]
    assert TOUR.stat().st_size < 300_000
    assert all(cell["execution_count"] for cell in cells)
    assert sum("image/jpeg" in one.get("data", {}) for cell in cells for one in cell["outputs"]) >= 5
    assert not any(one["output_type"] == "error" for cell in cells for one in cell["outputs"])
