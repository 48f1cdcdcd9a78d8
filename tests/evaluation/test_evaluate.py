"""A small evaluation end to end: cached, resumed, failures named, its files read back and its page
opened.
"""

import csv
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import pack, photograph
from PIL import Image

import uqdm
from uqdm import files
from uqdm.cli import main
from uqdm.errors import EvaluationError, ImageError
from uqdm.evaluation import compare, evaluate, figures, plots, processes, registry, report
from uqdm.evaluation.curves import Curve, Point
from uqdm.evaluation.evaluate import Measures, PictureResult

pytest.importorskip("jinja2")

CONDITIONS = report.Conditions("drawn", 3, "32 × 32", 0, False, {"uqdm": "0"}, "here")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [photograph(32, 32, i) for i in range(3)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(pictures: list[np.ndarray], names: list[str], cache: Path, **options: object) -> evaluate.Results:
    chosen, _ = registry.specs(names)
    return evaluate.evaluate(pictures, chosen, cache, Measures(kept=2), jobs=1, memory=False, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def results(pictures: list[np.ndarray], cache: Path) -> evaluate.Results:
    return run(pictures, ["uqdm", "jpeg", "jpeg2000", "png"], cache)


def test_curves_are_means_of_what_was_measured(results: evaluate.Results, pictures: list[np.ndarray]) -> None:
    assert [c.name for c in results.curves] == ["uqdm", "jpeg", "jpeg2000", "png"]
    assert not results.failed
    jpeg = results.curves[1]
    for quality in (10, 90):
        found = next(p for p in jpeg.points if p.setting == f"q {quality}")
        files = []
        for p in pictures:
            out = io.BytesIO()
            Image.fromarray(p).save(out, "JPEG", quality=quality, subsampling=0, optimize=True)
            files.append(out.getvalue())
        assert found.n == 3
        assert found.bpp == pytest.approx(np.mean([8 * len(f) / 1024 for f in files]))
        errors = [
            ((np.asarray(Image.open(io.BytesIO(f))).astype(float) - p) ** 2).mean() for f, p in zip(files, pictures)
        ]
        assert found.pooled_psnr == pytest.approx(10 * np.log10(255**2 / np.mean(errors)))
        assert found.ssim is not None
        assert found.swd is not None
    ends = {c.name: c.lossless() for c in results.curves}
    assert ends["jpeg"] is None
    assert all(ends[name] is not None and ends[name].exact == 3 for name in ("uqdm", "jpeg2000", "png"))  # type: ignore[union-attr]
    assert all(p.n == 3 for c in results.curves for p in c.points)


def test_ssimulacra2_is_measured_on_request_and_kept_apart(pictures: list[np.ndarray], tmp_path: Path) -> None:
    pytest.importorskip("ssimulacra2")
    chosen, _ = registry.specs(["jpeg"])
    plain, more = (
        evaluate.evaluate(pictures[:1], chosen, tmp_path, Measures(psychovisual=asked), jobs=1, memory=False)
        for asked in (False, True)
    )
    assert all(p.ssimulacra2 is None for p in plain.curves[0].points)
    found = [p.ssimulacra2 for p in more.curves[0].points]
    jpeg = {p.setting: p.ssimulacra2 for p in more.curves[0].points}
    assert None not in found
    assert jpeg["q 90"] > jpeg["q 10"]  # type: ignore[operator]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_measured_is_not_measured_again_and_a_broken_file_is(
    results: evaluate.Results, pictures: list[np.ndarray], cache: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")}
    assert len(before) == 4 * 3
    again = run(pictures, ["uqdm", "jpeg", "jpeg2000", "png"], cache)
    assert [c.to_json() for c in again.curves] == [c.to_json() for c in results.curves]
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npz")} == before
    broken = next(path for path in before if "jpeg-" in str(path))
    whole = broken.read_bytes()
    for at in range(
        0, len(whole), max(1, len(whole) // 60)
    ):  # a byte that was flipped: noticed, or of no consequence, and never raised
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        broken.write_bytes(bytes(flipped))
        PictureResult.read(broken)
    broken.write_bytes(whole[:100])
    assert PictureResult.read(broken) is None
    ticks: list[str] = []
    third = run(pictures, ["jpeg"], cache, tick=ticks.append)
    assert ticks == ["jpeg"] * 3
    assert [p.bpp for p in third.curves[0].points] == [p.bpp for p in results.curves[1].points]
    assert PictureResult.read(broken) is not None
    other = dataclasses.replace(Measures(kept=2), seed=1)
    assert evaluate.cache_folder(registry.Spec("jpeg"), cache, other) != evaluate.cache_folder(
        registry.Spec("jpeg"), cache, Measures(kept=2)
    )
    assert evaluate.cache_folder(registry.Spec("jpeg", True), cache, other) != evaluate.cache_folder(
        registry.Spec("jpeg"), cache, other
    )


SCRIPT = """
import os, signal, sys
what, source, target = sys.argv[1:]
if what == "fail":
    sys.exit(3)
if what == "endless":
    with open(os.environ["TOLD"], "w") as pipe:
        pipe.write(str(os.getpid()))
    signal.pause()
"""


def described(folder: Path, **ways: str) -> str:
    """Codecs that do what they should not."""
    script = folder / "bad codec.py"
    script.write_text(SCRIPT)
    lines = [
        f"[{name}]\nencode = \"{sys.executable} '{script}' {way} {{input}} {{output}}\"\ndecode = 'true'\nsettings ="
        " ['']\n"
        for name, way in ways.items()
    ]
    (folder / "c.toml").write_text("\n".join(lines))
    return str(folder / "c.toml")


def test_a_codec_that_fails_is_named_and_the_others_go_on(pictures: list[np.ndarray], tmp_path: Path) -> None:
    chosen, _ = registry.specs(["bad", "png"], described=[described(tmp_path, bad="fail")])
    found = evaluate.evaluate(
        pictures, chosen, tmp_path / "cache", names=["first", "second", "third"], jobs=1, memory=False
    )
    assert [c.name for c in found.curves] == ["png"]
    assert "bad: " in found.failed["bad"]
    assert "exit status 3" in found.failed["bad"]
    assert found.failed["bad"].partition(":")[0] in ("first", "second", "third")
    with pytest.raises(EvaluationError, match="nothing to evaluate"):
        evaluate.evaluate([], chosen, tmp_path / "cache")


def killing(spec: object, pixels: object, keep: bool, measures: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_costs_its_codec_alone(
    pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = processes.Workers.submit

    def submit(self: object, function: object, spec: registry.Spec, *rest: object) -> object:
        return real(self, killing if spec.name == "jpeg" else function, spec, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(processes.Workers, "submit", submit)
    found = run(pictures, ["png", "jpeg", "webp"], tmp_path)
    assert [c.name for c in found.curves] == ["png", "webp"]
    assert "died" in found.failed["jpeg"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_an_interrupt_ends_at_once_and_keeps_what_was_measured(
    pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codec that never ends says when it has begun. The interrupt comes then, and nobody waits
    for that codec.
    """
    os.mkfifo(tmp_path / "told")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    chosen, _ = registry.specs(["png", "endless"], described=[described(tmp_path, endless="endless")])
    begun: list[int] = []

    def listen() -> None:
        begun.append(int((tmp_path / "told").read_text()))
        os.kill(os.getpid(), signal.SIGUSR1)

    def interrupt(*ignored: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Thread(target=listen, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            evaluate.evaluate(pictures, chosen, tmp_path / "cache", jobs=1, memory=False)
        os.kill(begun[0], signal.SIGKILL)  # it was still there: `evaluate` did not wait for it
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 3


def test_settings_that_not_every_picture_has_are_no_points_and_are_named(tmp_path: Path) -> None:
    def measured(settings: list[str]) -> PictureResult:
        rows = [
            {"setting": s, "bits": 10.0 * k, "payload": None, "pixels": 4, "mse": 1.0, "encode": None, "decode": None}
            for k, s in enumerate(settings, 1)
        ]
        return PictureResult(
            rows,
            np.zeros((len(rows) + 1, 3, 2, 2), np.float32),
            np.zeros((len(rows) + 1, 0)),
            np.zeros((0, 1, 1, 3), np.uint8),
        )

    found = evaluate.curve(registry.Spec("png"), [measured(["a", "b"]), measured(["b", "c"])])
    assert [p.setting for p in found.points] == ["b"]
    assert found.points[0].bpp == (20 / 4 + 10 / 4) / 2
    assert found.dropped == ("a", "c")
    assert any("a, c, which not every picture has" in line for line in CONDITIONS.counting([found]))


def test_pictures_of_different_sizes_have_one_curve(cache: Path) -> None:
    mixed = [photograph(32, 32), photograph(20, 48), np.full((8, 8, 3), 255, np.uint8)]
    found = run(mixed, ["uqdm", "jpeg2000"], cache)
    assert not found.failed
    ours, other = found.curves
    assert {"8 bpp", "whole"} <= {p.setting for p in ours.points}  # though the last is a file of less than that
    assert ours.aside == tuple(f"step {k}" for k in range(1, uqdm.load().steps))
    assert ours.points[-1].lossless
    assert other.lossless() is not None


def test_memory_is_that_of_the_picture_and_not_of_the_parent(pictures: list[np.ndarray], tmp_path: Path) -> None:
    held = np.ones(40 << 20)  # 320 MB of ours are none of the worker's
    large = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    found = evaluate.footprint(registry.Spec("png"), large)
    assert found is not None
    assert 3 <= found < 200
    with_model = evaluate.footprint(registry.Spec("uqdm"), pictures[0])
    assert with_model is not None
    assert 10 < with_model < 1000
    assert held[0] == 1
    chosen, _ = registry.specs(["bad"], described=[described(tmp_path, bad="fail")])
    assert evaluate.footprint(chosen[0], pictures[0]) is None


def test_the_results_are_written_and_read_back(results: evaluate.Results, tmp_path: Path) -> None:
    published = [Curve("published:x", "x, published", results.curves[1].points, published=True)]
    written = report.write(results, CONDITIONS, tmp_path, published, {"flif": "not on the PATH"})
    assert [p.name for p in written] == ["results.json", "results.csv", "table.md", "report.html"]
    record = json.loads(written[0].read_text())
    assert [Curve.from_json(c) for c in record["curves"]] == [*results.curves, *published]
    assert record["missing"] == {"flif": "not on the PATH"}
    assert any("header" in line for line in record["counting"])
    rows = list(csv.DictReader(written[1].open()))
    assert len(rows) == sum(len(c.points) for c in [*results.curves, *published])
    assert float(rows[0]["bpp"]) == pytest.approx(results.curves[0].points[0].bpp)
    assert "| uqdm, photo |" in written[2].read_text()
    page = written[3].read_text()
    for word in (
        "uqdm, photo",
        "JPEG 4:4:4",
        "x, published",
        "flif (not on the PATH)",
        "Picture 2",
        "data:image/png;base64,",
        "<svg",
    ):
        assert word in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_the_page_opens_in_a_browser(results: evaluate.Results, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    report.write(results, CONDITIONS, tmp_path)
    shot = tmp_path / "page.png"
    subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1300,2400",
            f"--screenshot={shot}",
            str(tmp_path / "report.html"),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    seen = files.read(shot).pixels
    assert seen.shape[:2] == (2400, 1300)
    assert seen.std() > 10
    ours = np.abs(seen.astype(int) - [0xB3, 0x12, 0x3A]).max(2) < 8
    assert ours.sum() > 300  # our row and our line


def test_the_main_table_says_what_the_curves_do(results: evaluate.Results) -> None:
    table = report.main_table(results.curves)
    assert [row[0] for row in table.rows] == [c.label for c in results.curves]
    png = table.rows[3]
    assert png[1] == f"{results.curves[3].points[0].bpp:.2f}"
    assert set(png[3:13]) == {"–"}
    assert table.kinds == ["ours", "other", "other", "other"]
    assert table.markdown().startswith(table.caption)
    assert table.markdown().count("\n| ") == 6
    deltas = report.delta_table(results.curves)
    assert deltas is not None
    assert deltas.head[1:] == [row[0] for row in deltas.rows]
    assert set(deltas.head[1:]) == {"uqdm, photo", "JPEG2000, 5/3, progressive", "JPEG 4:4:4"}
    assert [deltas.rows[i][i + 1] for i in range(3)] == ["–"] * 3
    there, back = (1 + float(deltas.rows[i][k + 1].split()[0]) / 100 for i, k in ((1, 2), (2, 1)))
    assert there * back == pytest.approx(1, abs=0.02)
    assert report.delta_table(results.curves[3:]) is None
    elsewhere = dataclasses.replace(results.curves[0], elsewhere=True)
    assert report.main_table([elsewhere]).kinds == ["published"]
    counted = dataclasses.replace(results.curves[0], hypothetical=True)
    assert report.main_table([counted]).rows[0][1] == "–"  # no file
    assert [t.caption for t in report.tables(results.curves, results.curves)].count("") == 0


def test_lossless_times_are_apart_from_lossy_ones(results: evaluate.Results) -> None:
    ours, _, jpeg, png = results.curves
    assert report.spent(ours, "encode") == f"{1e3 * ours.points[-1].encode:.1f}"  # type: ignore[operator]
    assert report.spent(ours, "decode").count(" / ") == 1
    assert report.spent(jpeg, "encode").count(" / ") == 0
    assert report.spent(png, "encode") == f"{1e3 * png.points[0].encode:.1f}"  # type: ignore[operator]


def test_ours_against_each_other_at_equal_rates() -> None:
    def line(name: str, label: str, decibels: float, lossless: float, header: float | None) -> Curve:
        def at(rate: float, exact: int, quality: float | None) -> Point:
            return Point(f"{rate}", 1, rate, None if header is None else rate - header, exact, quality, None)

        lossy = [at(r, 0, decibels + 6 * np.log2(r)) for r in (1.0, 2.0, 4.0, 8.0)]
        return Curve(name, label, (*lossy, at(lossless, 1, None)))

    ours, other = line("uqdm", "uqdm, ours", 20.0, 12.0, 0.5), line("jxl", "theirs", 18.0, 12.5, None)
    assert report.versus([ours]) == []
    (table,) = report.versus([ours, other, line("png", "no headers", 20.0, 11.0, 0.0)])
    assert table.kinds == ["other", "other"]
    theirs, plain = ([*zip(table.head, row)] for row in table.rows)
    assert theirs == [
        ("against", "theirs"), ("lossless, bits", "+0.50 / –"), ("dB at 0.25", "–"), ("dB at 0.5", "–"), ("dB at 1",
        "+2.0 / –"),
        ("dB at 2", "+2.0 / –"), ("dB at 3", "+2.0 / –"), ("dB at 5", "+2.0 / –"), ("dB at 8", "+2.0 / –"),
    ]  # fmt: skip
    assert plain[1] == ("lossless, bits", "-1.00 / -0.50")
    assert plain[5][1].startswith("+0.0 / +")


@pytest.mark.parametrize("metric", ["psnr", "ssim", "swd"])
def test_plots_are_drawn_with_and_without_points(results: evaluate.Results, metric: str) -> None:
    for curves in (results.curves, results.curves[3:], []):
        data = plots.png(plots.rate_figure(curves, metric, payload=True, most=8.0), 40)
        assert files.read(data).pixels.std() > 5


# --- one picture, and the paper's figures


def test_a_sheet_shows_each_codec_at_no_more_than_the_rate() -> None:
    pixels = photograph(64, 64)
    chosen, _ = registry.specs(["uqdm", "jpeg", "webp", "png"])
    shown, failed = compare.panels([s.make() for s in chosen], pixels, 3.0)
    assert not failed
    assert [p.label for p in shown] == ["uqdm, photo", "JPEG 4:4:4", "WebP", "PNG"]
    assert shown[0].bpp == pytest.approx(3.0, abs=8 / 4096)
    assert all(2.7 < p.bpp <= 3.0 for p in shown[1:3])
    assert shown[3].bpp > 3  # the cheapest there is
    sheet = np.asarray(compare.sheet(pixels, shown, "title"))
    assert (np.abs(sheet.astype(int) - [0xB3, 0x12, 0x3A]).max(2) < 8).sum() > 20  # our name
    times = 3
    enlarged = np.repeat(np.repeat(pixels, times, 0), times, 1)
    top = compare.GAP + 34
    assert (sheet[top : top + 192, compare.GAP : compare.GAP + 192] == enlarged).all()
    assert np.asarray(compare.sheet(pixels, shown, errors=False)).shape[0] < sheet.shape[0]
    with pytest.raises(EvaluationError, match="nothing to compare"):
        compare.panels([], pixels, 1)


def test_on_a_sheet_too_a_codec_that_fails_is_named(tmp_path: Path) -> None:
    chosen, _ = registry.specs(["bad", "png"], described=[described(tmp_path, bad="fail")])
    shown, failed = compare.panels([s.make() for s in chosen], photograph(8, 8), 3.0)
    assert [p.label for p in shown] == ["PNG"]
    assert "exit status 3" in failed["bad"]


def test_error_maps_are_four_times_the_error() -> None:
    a = np.full((2, 2, 3), 100, np.uint8)
    b = np.array([[[100, 101, 99], [110, 90, 100]], [[164, 36, 255], [0, 0, 0]]], np.uint8)
    assert compare.error_map(a, b).tolist() == [[[0, 4, 4], [40, 40, 0]], [[255, 255, 255], [255, 255, 255]]]


def test_figures_hold_the_numbers_behind_them(results: evaluate.Results, pictures: list[np.ndarray]) -> None:
    figure, record = figures.progressive(["nano"], pictures[:1], (figures.DENOISED, figures.FLOW), "t")
    assert files.read(plots.png(figure, 50)).pixels.std() > 10
    assert [row["step"] for row in record["rows"]] == [1, 2, 3, 1, 2, 3]
    rates = [row["bpp"] for row in record["rows"][:3]]
    assert rates == sorted(rates)
    chosen, _ = registry.specs(["uqdm", "jpeg"])
    figure, record = figures.beside(9, [s.make() for s in chosen], pictures[:1], ["flif"])
    assert record["bpp"] == 4.0
    assert "flif" in record["missing"]
    assert any("CTC" in one for one in record["missing"])
    figure, record = figures.rates(results.curves, [], "t")
    assert len(record["curves"]) == 4
    name, size = figures.size_of("nano", pictures[:1])
    figure, record = figures.sizes({name: size}, "here")
    assert record["measured"]["nano"] == size
    assert size[1] == pytest.approx(8 * len(uqdm.load("nano").compress(pictures[0])) / 1024)
    assert files.read(plots.png(figure, 50)).pixels.std() > 5


# --- pictures that are read when their turn comes


class Reading:
    """Pictures that note when they are read; those in `broken` cannot be."""

    def __init__(self, pictures: list[np.ndarray], broken: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.pictures, self.broken = pictures, broken
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> np.ndarray:
        self.read.append(i)
        if i in self.broken:
            raise ImageError(f"picture {i} is broken")
        return self.pictures[i]


def test_measuring_begins_before_all_pictures_are_read(pictures: list[np.ndarray], tmp_path: Path) -> None:
    many = Reading([np.roll(pictures[0], i, 0) for i in range(12)])
    read_by: list[int] = []
    found = run(many, ["png"], tmp_path, tick=lambda what: read_by.append(len(many.read)))  # type: ignore[arg-type]
    assert found.curves[0].points
    assert read_by[0] <= 1 + 3  # one to look at, and what waits for one process
    assert len(read_by) == 12


def test_a_broken_picture_is_left_out_of_every_codec_and_named(pictures: list[np.ndarray], tmp_path: Path) -> None:
    three = Reading(pictures[:3], {0})
    ticks: list[str] = []
    found = run(three, ["png", "jpeg"], tmp_path, tick=ticks.append)  # type: ignore[arg-type]
    assert found.left_out == {0: "picture 0 is broken"}
    assert len(ticks) == 6
    plain = run(pictures[1:3], ["png", "jpeg"], tmp_path)
    assert [[p.bpp for p in c.points] for c in found.curves] == [[p.bpp for p in c.points] for c in plain.curves]
    assert all(np.array_equal(a, b) for a, b in zip(found.pictures, plain.pictures, strict=True))
    with pytest.raises(EvaluationError, match="none of 3 pictures can be read; the first: picture 0 is broken"):
        run(Reading(pictures[:3], {0, 1, 2}), ["png"], tmp_path)  # type: ignore[arg-type]


def test_the_command_goes_on_without_broken_pictures_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: list[np.ndarray]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    for i, one in enumerate(pictures[:2]):
        Image.fromarray(one).save(f"p/{i}.png")
    Path("p/broken.png").write_bytes(b"no picture")
    done = CliRunner().invoke(main, ["evaluate", "p", "--codec", "png", "--out", "report", "--jobs", "1"])
    assert done.exit_code == 1
    assert "1 of 3 pictures were left out" in done.output
    assert "broken.png" in done.output
    record = json.loads(Path("report/results.json").read_text())
    assert record["conditions"]["pictures"] == 2
    assert record["conditions"]["data"] == "p, without 1 that cannot be read"


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for words in (["evaluate"], ["reproduce", "fig5", "--data"]):
        done = CliRunner().invoke(main, [*words, str(tmp_path / "no.zip"), "--out", str(tmp_path / "file" / "report")])
        assert done.exit_code == 1
        assert "cannot be made" in done.output


# --- the commands


def test_the_commands_write_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: list[np.ndarray]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = pack(tmp_path / "drawn.zip", np.stack(pictures))
    (tmp_path / "p.yml").write_text("jpeg:\n  bpp: [1.0, 2.0]\n  psnr: [30, 31]\n")
    words = [
        "evaluate",
        str(data),
        "--codec",
        "png",
        "jpeg",
        "--out",
        "report",
        "--limit",
        "2",
        "--published",
        "p.yml",
        "--jobs",
        "1",
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "JPEG 4:4:4" in done.output
    assert "report/report.html" in done.output
    record = json.loads((tmp_path / "report" / "results.json").read_text())
    assert record["conditions"]["pictures"] == 2
    assert record["conditions"]["data"] == "drawn.zip, the first 2"
    assert (tmp_path / "report" / "report.html").read_text().count("<img") > 2
    beside = ["--beside", "report/results.json", "--show", "0"]
    done = CliRunner().invoke(main, [*words[:5], "--as-paper", "--out", "paper", *beside, "--jobs", "1"])
    assert done.exit_code == 0, done.output
    assert "<img" not in (tmp_path / "paper" / "report.html").read_text()
    record = json.loads((tmp_path / "paper" / "results.json").read_text())
    assert [c["label"] for c in record["curves"]][-1] == "JPEG 4:4:4 (drawn.zip, the first 2; n = 2)"
    assert any("without its colour transform" in line for line in record["counting"])
    Image.fromarray(pictures[0]).save("a.png")
    done = CliRunner().invoke(main, ["compare", "a.png", "--codec", "uqdm", "jpeg", "--bpp", "4", "--crop", "16x16"])
    assert done.exit_code == 0, done.output
    assert files.read("a-compare.png").pixels.shape[0] > 100
    assert CliRunner().invoke(main, ["compare", "a.png", "--codec", "jpeg"]).exit_code == 1  # a-compare.png is there
    assert CliRunner().invoke(main, ["compare", "a.png", "b.png", "--codec", "jpeg", "--crop", "99x1"]).exit_code == 2
    done = CliRunner().invoke(
        main, ["reproduce", "fig5", "fig10", "--data", str(data), "--limit", "1", "--out", "figures"]
    )
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
        "fig10.json",
        "fig10.png",
        "fig5.json",
        "fig5.png",
    ]
    assert CliRunner().invoke(main, ["reproduce", "fig3"]).exit_code == 2
    assert CliRunner().invoke(main, ["evaluate", str(data), "--codec", "nothing", "--out", "x"]).exit_code == 1
