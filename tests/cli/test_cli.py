"""What the command line does, seen from outside: files, stdout, stderr, exit codes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from commands import EMBEDDED, Run, failed, picture, pixels, succeeded
from conftest import photograph
from PIL import Image

from uqdm import bundle as package
from uqdm import format, library
from uqdm.cli import main
from uqdm.exact import runtimes as backends


@pytest.fixture(scope="session")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model of the same constants in floats, as imported ones are."""
    pytest.importorskip("torch")
    from untrained import float_package

    return package.write(float_package(), tmp_path_factory.mktemp("others") / "floats")


# --- round trips


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["tight", "paper"])
def test_a_picture_comes_back_pixel_for_pixel(run: Run, channels: int, mode: str) -> None:
    array = picture(channels=channels)
    result = succeeded(run("compress", "a.png", "--mode", mode, "--seed", 5))
    size = Path("a.uqdm").stat().st_size
    share = size / Path("a.png").stat().st_size
    assert result.stdout == f"a.uqdm  {size} bytes  {8 * size / 120:.3f} bpp  {share:.1%} of the input\n"
    succeeded(run("decompress", "a.uqdm", "b.png"))
    assert (pixels("b.png") == array).all()


def test_a_file_reaches_what_it_is_asked_for(run: Run) -> None:
    array = picture()
    succeeded(run("compress", "a.png", "whole.uqdm"))
    whole = Path("whole.uqdm").read_bytes()
    for option, value, least in (("--bpp", 9.5, 0), ("--target-size", 140, 0), ("--step", 2, 0), ("--psnr", 31, 31)):
        said = succeeded(run("compress", "a.png", "cut.uqdm", option, value, "--force")).stdout
        cut = Path("cut.uqdm").read_bytes()
        assert cut == whole[: len(cut)]
        decoded = library.open_for(cut).decompress(cut)
        found = 10 * np.log10(255**2 / np.mean((decoded.astype(int) - array) ** 2))
        assert f"  {found:.2f} dB" in said
        assert found >= least
    failed(run("compress", "a.png", "b.uqdm", "--psnr", 31, "--bpp", 2), 2, "--bpp and --psnr cannot be used together")
    failed(run("compress", "a.png", "b.uqdm", "--target-size", 20), 1, "20 bytes were asked for, but header")


def test_outputs_stand_beside_their_inputs_by_default(run: Run) -> None:
    array = picture("x.png")
    succeeded(run("compress", "x.png"))
    Path("x.png").unlink()
    succeeded(run("decompress", "x.uqdm"))
    assert (pixels("x.png") == array).all()


def test_a_dash_is_stdin_and_stdout(run: Run) -> None:
    array = picture()
    packed = succeeded(run("compress", "-", "-", stdin=Path("a.png").read_bytes()))
    assert format.inspect(packed.stdout_bytes).complete
    assert packed.stderr.startswith("stdout  ")
    short = succeeded(run("truncate", "-", "-", "--step", 4, stdin=packed.stdout_bytes))
    back = succeeded(run("decompress", "-", stdin=short.stdout_bytes))
    assert (pixels(back.stdout_bytes) == array).all()
    assert json.loads(succeeded(run("info", "-", "--json", stdin=packed.stdout_bytes)).stdout)["complete"]


def test_folders_and_globs_go_to_folders(run: Run) -> None:
    arrays = {f"p{i}": picture(f"in/p{i}.png", 8 + i // 2, 8, seed=i) for i in range(5)}
    Path("in/notes.txt").write_text("not a picture")
    result = succeeded(run("compress", "in", "out/packed", "--batch", 2))
    assert len(result.stdout.splitlines()) == 5
    succeeded(run("decompress", "out/packed/*.uqdm", "back"))
    for name, array in arrays.items():
        assert (pixels(f"back/{name}.png") == array).all()
    succeeded(run("compress", "in/p0.png", "in/p1.png"))
    assert Path("in/p0.uqdm").read_bytes() == Path("out/packed/p0.uqdm").read_bytes()
    succeeded(run("compress", "in/p2.png", "out"))
    assert Path("out/p2.uqdm").exists()


def test_the_suffix_of_out_chooses_the_picture_format(run: Run) -> None:
    array = picture()
    succeeded(run("compress", "a.png"))
    succeeded(run("decompress", "a.uqdm", "a.tif"))
    with Image.open("a.tif") as image:
        assert image.format == "TIFF"
        assert (np.asarray(image) == array).all()
    failed(run("decompress", "a.uqdm", "a.xyz"), 1, ".xyz", "use .png")


def test_16_bits_are_taken_on_request_only(run: Run) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save("deep.png")
    failed(run("compress", "deep.png"), 1, "16 bits", "--convert")
    succeeded(run("compress", "deep.png", "--convert"))


# --- prefixes


def test_truncate_writes_exactly_the_first_bytes(run: Run) -> None:
    picture()
    succeeded(run("compress", "a.png"))
    whole = Path("a.uqdm").read_bytes()
    info = format.inspect(whole)
    for option, value, size in (
        ("--bytes", 70, 70),
        ("--bpp", 9.5, int(9.5 * 120 / 8)),
        ("--step", 2, int(info.bpp[1] * 120 / 8 + 0.5)),
    ):
        result = succeeded(run("truncate", "a.uqdm", "b.uqdm", option, value, "--force"))
        assert Path("b.uqdm").read_bytes() == whole[:size]
        assert result.stdout.startswith(f"b.uqdm  {size} bytes  ")


def test_the_first_step_that_keeps_every_pixel_within_an_error_is_taken(run: Run) -> None:
    true = picture(height=40, width=30)
    succeeded(run("compress", "a.png"))
    whole = Path("a.uqdm").read_bytes()
    errors = json.loads(succeeded(run("info", "a.uqdm", "--json")).stdout)["max_error"]
    for most in (0, 12, 40, 254, 255):
        step = next(k for k, one in enumerate(errors) if max(one) <= most)
        succeeded(run("truncate", "a.uqdm", "b.uqdm", "--max-error", most, "--force"))
        assert Path("b.uqdm").read_bytes() == library.truncate(whole, step=step)
        result = succeeded(run("decompress", "a.uqdm", "b.png", "--max-error", most, "--force"))
        assert f"step {step} of 4" in result.stdout
        assert result.stderr == ""
        assert np.abs(pixels("b.png").astype(int) - true).max() <= most
        succeeded(run("compress", "a.png", "c.uqdm", "--max-error", most, "--force"))
        assert Path("c.uqdm").read_bytes() == Path("b.uqdm").read_bytes()
    failed(
        run("truncate", "a.uqdm", "b.uqdm", "--max-error", 3, "--step", 2),
        2,
        "--step and --max-error cannot be used together",
    )


def test_a_near_lossless_file_of_the_default_model_keeps_its_error_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "SHIPPED", EMBEDDED)  # the embedded model, which promises nothing by itself
    true = photograph(40, 52)
    Image.fromarray(true).save("a.png")
    succeeded(run("compress", "a.png", "b.uqdm", "--max-error", 3))
    data = Path("b.uqdm").read_bytes()
    steps = len(format.parse(data).steps)
    assert 0 < steps < 7
    info = succeeded(run("info", "b.uqdm")).stdout
    assert f"{steps} of 7 steps and a correction: no value is more than 3 off" in info
    row = next(line.split() for line in info.splitlines() if line.startswith("correction"))
    assert row[3:] == [str(len(data)), f"{8 * len(data) / 2080:.3f}", "3,", "3,", "3"]
    fields = json.loads(succeeded(run("info", "b.uqdm", "--json")).stdout)
    assert (fields["version"], fields["corrected_to"]) == ("1.1", 3)
    for bounded in ([], ["--max-error", 3]):
        result = succeeded(run("decompress", "b.uqdm", "c.png", *bounded, "--force"))
        assert result.stdout.endswith(f"  step {steps} of 7 and its correction  error at most 3\n")
        assert result.stderr == ""
        assert 0 < np.abs(pixels("c.png").astype(int) - true).max() <= 3
    for most, kept in ((3, len(data)), (254, format.parse(data).steps[0].end)):  # what is corrected enough stays whole
        succeeded(run("truncate", "b.uqdm", "d.uqdm", "--max-error", most, "--force"))
        assert Path("d.uqdm").read_bytes() == data[:kept]


def test_a_header_of_a_mode_that_the_model_has_not_is_damage_to_every_command(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "SHIPPED", EMBEDDED)  # the embedded model
    picture()
    succeeded(run("compress", "a.png"))
    header = format.parse(Path("a.uqdm").read_bytes(), steps=0).header
    Path("a.uqdm").write_bytes(format.write_header(dataclasses.replace(header, extra=b"\1")))  # and no step
    bounded = "--max-error", 15
    for words in (
        ["info", "a.uqdm"],
        ["truncate", "a.uqdm", "b.uqdm", *bounded],
        ["decompress", "a.uqdm", "b.png", *bounded],
    ):
        failed(run(*words), 1, f"says mode paper; model '{library.DEFAULT}'")


def test_decompressing_a_part_is_decompressing_the_truncated_file(run: Run) -> None:
    picture()
    succeeded(run("compress", "a.png"))
    whole = Path("a.uqdm").read_bytes()
    for step in range(5):
        succeeded(run("truncate", "a.uqdm", "b.uqdm", "--step", step, "--force"))
        succeeded(run("decompress", "b.uqdm", "b.png", "--force"))
        result = succeeded(run("decompress", "a.uqdm", "c.png", "--step", step, "--force"))
        assert f"step {step} of 4" in result.stdout
        assert "part of" not in result.stdout
        assert result.stderr == ""
        assert (pixels("b.png") == pixels("c.png")).all()
    for option, value in (("--bytes", len(whole) - 30), ("--bpp", 12)):
        succeeded(run("truncate", "a.uqdm", "b.uqdm", option, value, "--force"))
        first = succeeded(run("decompress", "b.uqdm", "b.png", "--force"))
        second = succeeded(run("decompress", "a.uqdm", "c.png", option, value, "--force"))
        assert first.stdout.removeprefix("b.png") == second.stdout.removeprefix("c.png")
        assert first.stderr.removeprefix("uqdm: b.uqdm") == second.stderr.removeprefix("uqdm: a.uqdm")
        assert (pixels("b.png") == pixels("c.png")).all()


def test_a_cut_file_decodes_with_part_of_a_step_and_says_what_is_unverified(run: Run) -> None:
    array = picture()
    succeeded(run("compress", "a.png"))
    whole = Path("a.uqdm").read_bytes()
    contents = format.parse(whole)
    last = contents.chunks[3]
    n = (last.start + last.end) // 2
    tail = n - last.start - 5  # of this chunk's head
    assert last.size >= 128
    Path("cut.uqdm").write_bytes(whole[:n])
    result = succeeded(run("decompress", "cut.uqdm", "cut.png"))
    bound = int(np.abs(pixels("cut.png").astype(int) - array).max())
    line = result.stdout.strip().split("  ")
    assert line[:4] == ["cut.png", f"{n} bytes", f"{8 * n / 120:.3f} bpp", "step 3 of 4 and part of step 4"]
    assert line[4].startswith("error at most ")
    assert bound <= int(line[4].split()[-1]) < 100
    assert result.stderr == f"uqdm: cut.uqdm: last {tail} bytes unverified: no check covers them yet\n"
    succeeded(run("decompress", "a.uqdm", "short.png", "--bytes", n))
    assert (pixels("short.png") == pixels("cut.png")).all()
    succeeded(run("decompress", "a.uqdm", "step.png", "--step", 3))
    assert (pixels("short.png") != pixels("step.png")).any()
    info = succeeded(run("info", "cut.uqdm")).stdout
    assert f"cut: 3 of 4 steps are whole, and {tail} bytes of step 4; last {tail} bytes unverified" in info
    row = next(line.split() for line in info.splitlines() if line.startswith("part of step 4"))
    assert row[4] == str(tail + 5)
    assert row[6] == str(n)


def test_a_file_that_ends_between_steps_or_before_them_says_so_without_bytes_unverified(run: Run) -> None:
    picture()
    succeeded(run("compress", "a.png"))
    whole = Path("a.uqdm").read_bytes()
    contents = format.parse(whole)
    for step, end in enumerate([contents.header_size, *(chunk.end for chunk in contents.chunks[:3])]):
        Path("cut.uqdm").write_bytes(whole[:end])
        result = succeeded(run("decompress", "cut.uqdm", "cut.png", "--force"))
        assert result.stderr == f"uqdm: cut.uqdm: the file is cut; decoded to step {step} of 4\n"
        assert ("error at most" in result.stdout) == (step > 1)
        assert succeeded(run("decompress", "a.uqdm", "cut.png", "--bytes", end, "--force")).stderr == ""
    assert "error" not in succeeded(run("decompress", "a.uqdm", "whole.png")).stdout
    Path("cut.uqdm").write_bytes(whole[: contents.chunks[0].end + 2])
    assert ["unverified", "2"] in [line.split()[:2] for line in succeeded(run("info", "cut.uqdm")).stdout.splitlines()]
    assert "last 2 bytes unverified" in succeeded(run("decompress", "cut.uqdm", "cut.png", "--force")).stderr


def test_a_file_cut_after_any_byte_past_the_header_decodes(run: Run) -> None:
    picture(channels=4, height=3, width=2)
    succeeded(run("compress", "a.png"))
    whole = Path("a.uqdm").read_bytes()
    header = format.inspect(whole).header_bytes
    for n in (header, header + 1, *range(header + 3, len(whole), 9)):
        succeeded(run("decompress", "-", "b.png", "--force", stdin=whole[:n]))
    failed(run("decompress", "-", "b.png", "--force", stdin=whole[: header - 1]), 1, "stdin: cut inside the header")


@pytest.mark.parametrize("method", ["denoise", "ancestral", "flow"])
def test_previews_are_made_by_every_method(run: Run, method: str) -> None:
    picture()
    succeeded(run("compress", "a.png"))
    succeeded(run("decompress", "a.uqdm", "b.png", "--step", 2, "--method", method))
    assert pixels("b.png").shape == (12, 10, 3)


def test_what_comes_before_damage_decodes_on_request(run: Run) -> None:
    array = picture(height=60, width=50)
    succeeded(run("compress", "a.png"))
    data = bytearray(Path("a.uqdm").read_bytes())
    last = format.parse(bytes(data)).chunks[3]
    assert last.size > format.PIECE
    data[-1] ^= 1
    Path("bad.uqdm").write_bytes(data)
    failed(run("decompress", "bad.uqdm"), 1, "bad.uqdm: step 4 of 4", "checksum differs", "--step 3", "--salvage")
    assert not Path("bad.png").exists()
    assert "step 3 of 4" in succeeded(run("decompress", "bad.uqdm", "--step", 3)).stdout
    failed(run("info", "bad.uqdm"), 1, "checksum differs")

    result = failed(
        run("decompress", "bad.uqdm", "rest.png", "--salvage"),
        1,
        "bad.uqdm: decoded what comes before the damage: step 4 of 4",
    )
    used = last.start + 5 + format.PIECE + 4
    assert result.stdout.startswith(
        f"rest.png  {used} bytes  {8 * used / 3000:.3f} bpp  step 3 of 4 and part of step 4  error at most "
    )
    assert np.abs(pixels("rest.png").astype(int) - array).max() <= int(result.stdout.split()[-1])
    assert (pixels("rest.png") != pixels("bad.png")).any()
    assert succeeded(run("decompress", "bad.uqdm", "again.png", "--salvage", "--step", 3)).stderr == ""
    assert (pixels("again.png") == pixels("bad.png")).all()
    failed(run("decompress", "bad.uqdm", "again.png", "--salvage", "--step", 4, "--force"), 1, "before the damage")
    assert (pixels("again.png") == pixels("rest.png")).all()
    whole = succeeded(run("decompress", "a.uqdm", "whole.png", "--salvage"))
    assert whole.stderr == ""
    assert (pixels("whole.png") == array).all()


def test_salvage_needs_a_header_and_goes_on_with_the_other_files(run: Run) -> None:
    for i in range(3):
        picture(f"in/p{i}.png", seed=i)
    succeeded(run("compress", "in", "out"))
    for name, at in (("p0", 20), ("p1", -1)):
        data = bytearray(Path(f"out/{name}.uqdm").read_bytes())
        data[at] ^= 1
        Path(f"out/{name}.uqdm").write_bytes(data)
    result = run("decompress", "out", "back", "--salvage")
    assert result.exit_code == 1
    assert sorted(path.name for path in Path("back").iterdir()) == ["p1.png", "p2.png"]
    assert (pixels("back/p2.png") == pixels("in/p2.png")).all()
    complaints = result.stderr.splitlines()
    assert complaints.pop() == "uqdm: 1 done, 0 skipped, 2 failed"
    assert len(complaints) == 2
    assert complaints[0].startswith("uqdm: out/p0.uqdm: header")
    assert complaints[1].startswith("uqdm: out/p1.uqdm: decoded what comes before the damage")


# --- info, models, sample


def test_info_is_a_table_and_json(run: Run) -> None:
    picture(channels=4)
    succeeded(run("compress", "a.png", "--seed", 3))
    size = Path("a.uqdm").stat().st_size
    text = succeeded(run("info", "a.uqdm")).stdout
    for word in (
        "10 × 12, RGB and alpha",
        library.DEFAULT,
        ", available",
        "format version 1.0",
        "mode tight, exact arithmetic, seed 3",
        "whole, 4 steps",
        "alpha plane",
    ):
        assert word in text
    lines = [line for line in text.splitlines() if line.startswith("step ")]
    assert len(lines) == 4
    assert lines[-1].split()[-5:] == [str(size), f"{8 * size / 120:.3f}", "0,", "0,", "0"]
    assert "R, G, B off by at most" in text
    assert len({len(line) for line in lines}) == 1
    fields = json.loads(succeeded(run("info", "a.uqdm", "--json")).stdout)
    assert fields["total_bytes"] == size
    assert fields["model_available"] is True
    assert len(fields["step_bytes"]) == 4
    assert fields["max_error"][0] == [255, 255, 255]
    assert fields["max_error"][4] == [0, 0, 0]
    assert (fields["arithmetic"], fields["mode"], fields["version"], fields["partial_bytes"]) == (
        "exact",
        "tight",
        "1.0",
        0,
    )
    succeeded(run("compress", "a.png", "--mode", "paper", "--force"))
    paper = succeeded(run("info", "a.uqdm")).stdout
    assert "mode paper, exact arithmetic, seed 0" in paper
    assert "whole, 5 steps" in paper


def test_files_of_float_models_say_in_which_arithmetic_and_decode_in_it(run: Run, floats: Path) -> None:
    array = picture()
    for precision in ("float32", "float64"):
        succeeded(run("compress", "a.png", "--model", floats, "--precision", precision, "--force"))
        assert f"{precision} arithmetic" in succeeded(run("info", "a.uqdm")).stdout
        assert json.loads(succeeded(run("info", "a.uqdm", "--json")).stdout)["arithmetic"] == precision
        succeeded(run("decompress", "a.uqdm", "b.png", "--model", floats, "--force"))
        assert (pixels("b.png") == array).all()
    failed(run("compress", "a.png", "b.uqdm", "--model", floats, "--backend", "numpy"), 1, "numpy")
    failed(run("truncate", "a.uqdm", "b.uqdm", "--max-error", 100, "--force"), 1, "--model")
    succeeded(run("truncate", "a.uqdm", "c.uqdm", "--max-error", 100, "--model", floats))
    assert "off by at most" not in succeeded(run("info", "a.uqdm")).stdout
    assert "off by at most" in succeeded(run("info", "a.uqdm", "--model", floats)).stdout
    failed(run("info", "a.uqdm", "--model", library.DEFAULT), 1, f"this is '{library.DEFAULT}'")


def test_every_backend_and_precision_writes_the_same_file_of_an_exact_model(run: Run) -> None:
    array = picture()
    succeeded(run("compress", "a.png"))
    whole = Path("a.uqdm").read_bytes()
    for words in (
        ("--backend", "numpy"),
        ("--backend", "onnxruntime"),
        ("--backend", "torch", "--threads", 1),
        ("--precision", "float64"),
    ):
        if words[0] == "--backend" and words[1] not in backends.available():
            continue
        succeeded(run("compress", "a.png", "b.uqdm", *words, "--force"))
        assert Path("b.uqdm").read_bytes() == whole
        if words[0] == "--backend":
            succeeded(run("decompress", "a.uqdm", "b.png", *words, "--force"))
            assert (pixels("b.png") == array).all()
            succeeded(run("sample", "c.png", "--size", "4x4", *words, "--force"))
    failed(run("compress", "a.png", "b.uqdm", "--backend", "abacus"), 2, "abacus")


def test_info_reads_files_of_models_that_are_not_here(run: Run) -> None:
    for extra, coding in (
        (b"\0", "mode tight, float64 arithmetic, seed 7"),
        (b"\7\7", "sub-header '0707', float64 arithmetic, seed 7"),
    ):
        header = format.Header(3000, 2000, False, False, "float64", "elsewhere", bytes(8), 4, extra, 7)
        Path("a.uqdm").write_bytes(format.write_header(header))
        text = succeeded(run("info", "a.uqdm")).stdout
        assert "elsewhere (0000000000000000), not available here" in text
        assert "cut: 0 of 4 steps are whole" in text
        assert coding in text
    assert json.loads(succeeded(run("info", "a.uqdm", "--json")).stdout)["mode"] is None


def test_models_are_listed(run: Run, toy: Path) -> None:
    assert library.DEFAULT in succeeded(run("models")).stdout
    listed = json.loads(succeeded(run("models", "--json")).stdout)
    assert listed[0]["path"] == str(toy / library.DEFAULT)


def test_a_mode_that_the_model_has_not_is_bad_usage(run: Run, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture()
    monkeypatch.setattr(library, "SHIPPED", EMBEDDED)
    failed(run("compress", "a.png", "--mode", "paper"), 2, f"{library.DEFAULT} has tight only", "uqdm-light")
    assert not Path("a.uqdm").exists()


def test_temperatures_are_taken_by_what_draws(run: Run) -> None:
    picture()
    succeeded(run("compress", "a.png"))
    drawn = []
    for temperature in (1, 0.2):
        words = ("--method", "ancestral", "--temperature", temperature, "--force")
        succeeded(run("decompress", "a.uqdm", "b.png", "--step", 2, *words))
        succeeded(run("sample", "s.png", "--temperature", temperature, "--force"))
        drawn.append((pixels("b.png"), pixels("s.png")))
    assert all((a != b).any() for a, b in zip(*drawn))
    failed(run("sample", "t.png", "--temperature", 2), 2, "temperature")


def test_samples_are_drawn(run: Run) -> None:
    succeeded(run("sample"))
    assert pixels("sample.png").shape == (64, 64, 3)
    succeeded(run("sample", "s.png", "--count", 2, "--size", "8x6", "--seed", 1))
    assert pixels("s-1.png").shape == (6, 8, 3)
    assert (pixels("s-1.png") != pixels("s-2.png")).any()
    failed(run("sample", "t.png", "--size", "8"), 2, "WIDTHxHEIGHT")


def test_a_checkpoint_is_imported_by_the_reading_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from uqdm.training import importing

    asked: list[object] = []

    def record(*words: object, **options: object) -> Path:
        asked.extend((*words, options))
        return Path("out")

    monkeypatch.setattr(importing, "import_checkpoint", record)
    Path("published").mkdir()
    assert succeeded(run("import-checkpoint", "published", "out", "--reading", "raw")).stdout == "out\n"
    assert asked == ["published", "out", {"reading": "raw", "force": False}]
    failed(run("import-checkpoint", "missing", "out"), 2, "missing")


# --- what goes wrong


def test_bad_inputs_are_named_in_one_line(run: Run, toy: Path) -> None:
    picture()
    succeeded(run("compress", "a.png"))
    whole = Path("a.uqdm").read_bytes()
    other = format.Header(8, 8, False, False, "exact", "elsewhere", bytes(8), 4, b"\0")
    steps = format.Header(
        8, 8, False, False, "exact", library.DEFAULT, format.parse(whole).header.fingerprint, 7, b"\0"
    )
    bad = {
        "text.uqdm": (b"not a file of ours", "not a .uqdm file"),
        "empty.uqdm": (b"", "empty"),
        "header.uqdm": (whole[:20], "cut inside the header"),
        "version.uqdm": (whole[:8] + b"\x12" + whole[9:], "version 1.2"),
        "draft.uqdm": (whole[:8] + b"\x09" + whole[9:], "a draft of 1.0"),
        "steps.uqdm": (format.write_header(steps), "7 steps"),
        "arithmetic.uqdm": (
            format.write_header(format.Header(**{**vars(steps), "chunks": 4, "arithmetic": "float64"})),
            "float64",
        ),
        "unknown.uqdm": (format.write_header(other), "elsewhere"),
        "fingerprint.uqdm": (
            format.write_header(format.Header(**{**vars(other), "model": library.DEFAULT})),
            "fingerprint",
        ),
        "large.uqdm": (
            format.write_header(format.Header(**{**vars(other), "width": 1 << 20, "height": 1 << 20})),
            "limit",
        ),
    }
    for name, (data, word) in bad.items():
        Path(name).write_bytes(data)
        failed(run("decompress", name), 1, name, word)
        assert not Path(name).with_suffix(".png").exists()
    Path("note.png").write_text("not a picture")
    failed(run("compress", "note.png"), 1, "note.png", "not a picture")
    failed(run("compress", "missing.png"), 1, "missing.png", "No such file")
    failed(run("decompress", "missing.uqdm"), 1, "missing.uqdm", "No such file")
    failed(run("compress", "a.png", "b.uqdm", "--model", "nowhere"), 1, "nowhere")
    failed(run("compress", "none/*.png"), 1, "nothing fits")
    Path("hollow").mkdir()
    failed(run("compress", "hollow"), 1, "holds no files")
    failed(run("truncate", "a.uqdm", "b.uqdm", "--bytes", 5), 1, "header alone")
    failed(run("truncate", "a.uqdm", "b.uqdm", "--step", 9), 1, "steps 0 to 4")
    assert not Path("b.uqdm").exists()


def test_bad_usage_exits_2(run: Run) -> None:
    picture()
    picture("b.png")
    succeeded(run("compress", "a.png"))
    failed(run("decompress", "a.uqdm", "--step", 1, "--bpp", 2), 2, "--step and --bpp")
    failed(run("truncate", "a.uqdm", "b.uqdm"), 2, "is needed")
    failed(run("compress"), 2, "Missing argument")
    failed(run("compress", "a.png", "--mode", "loose"), 2, "loose")
    failed(run("compress", "a.png", "b.png", "c.uqdm"), 2, "OUT must be a folder")
    failed(run("compress", "a.png", "b.png", "-"), 2, "several inputs")
    failed(run("nonsense"), 2, "nonsense")


def test_an_existing_file_is_kept_without_force(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    picture()
    Path("a.uqdm").write_bytes(b"mine")
    with monkeypatch.context() as patch:
        patch.setattr("uqdm.load", lambda *a, **k: pytest.fail("the model was loaded before the output was checked"))
        failed(run("compress", "a.png"), 1, "a.uqdm exists already", "--force")
        failed(run("compress", "a.png", "no/such/a.uqdm"), 1, "does not exist")
        patch.setattr(os, "access", lambda path, mode: False)
        failed(run("compress", "a.png", "--force"), 1, "write-protected")
    assert Path("a.uqdm").read_bytes() == b"mine"
    succeeded(run("compress", "a.png", "--force"))
    failed(run("decompress", "a.uqdm"), 1, "a.png exists already")
    failed(run("truncate", "a.uqdm", "a.uqdm", "--step", 1), 1, "exists already")
    succeeded(run("truncate", "a.uqdm", "a.uqdm", "--step", 1, "--force"))


def test_one_bad_file_does_not_stop_the_others(run: Run) -> None:
    for i in range(3):
        picture(f"in/p{i}.png", seed=i)
    Path("in/p1.png").write_text("not a picture")
    Path("out").mkdir()
    Path("out/p2.uqdm").write_bytes(b"mine")
    result = run("compress", "in", "out")
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["out/p0.uqdm"]
    assert [line.split()[1] for line in result.stderr.splitlines()[:-1]] == ["out/p2.uqdm", "in/p1.png"]
    assert result.stderr.splitlines()[-1] == "uqdm: 1 done, 0 skipped, 2 failed"
    broken = bytearray(Path("out/p0.uqdm").read_bytes())
    step = format.inspect(bytes(broken))
    broken[step.header_bytes + 8] ^= 1
    Path("out/p1.uqdm").write_bytes(broken)
    Path("out/p2.uqdm").unlink()
    result = run("decompress", "out", "back")
    assert result.exit_code == 1
    assert Path("back/p0.png").exists()
    assert "out/p1.uqdm" in result.stderr


def test_debug_shows_the_traceback_wherever_it_stands(run: Run) -> None:
    for words in (("--debug", "info", "missing.uqdm"), ("info", "missing.uqdm", "--debug")):
        result = run(*words)
        assert result.exit_code == 1
        assert type(result.exception).__name__ == "UqdmError"  # passed on, so that Python prints it


def test_an_interrupt_exits_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(data: bytes) -> None:
        raise KeyboardInterrupt

    Path("a.uqdm").write_bytes(b"")
    monkeypatch.setattr(format, "inspect", interrupted)
    result = run("info", "a.uqdm")
    assert result.exit_code == 130
    assert "Traceback" not in result.output


# --- from outside


def python(code: str, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from uqdm.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert not end.code
heavy = ("numpy", "torch", "PIL", "tqdm", "safetensors", "constriction")
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""
    result = python(code)
    assert result.returncode == 0
    assert "compress photo.png" in result.stdout
    assert result.stderr.strip() == "[]"


def test_every_command_has_help_with_examples() -> None:
    for name, command in main.commands.items():
        text = CliRunner().invoke(main, [name, "--help"]).stdout
        assert "Examples:" in text, name
        assert f"uqdm {name}" in text, name
        assert command.short_help


def test_a_reader_that_leaves_is_not_an_error() -> None:
    code = """
import os, sys
from uqdm.cli import main
read, write = os.pipe()
os.close(read)
os.dup2(write, 1)
main(["--help"])
"""
    result = python(code)
    assert result.returncode == 1
    assert result.stderr == ""


def test_pictures_above_the_limit_are_refused_both_ways(run: Run) -> None:
    picture("a.png", 12, 10)
    assert run("compress", "a.png", "--max-pixels", 119).exit_code == 1
    assert run("compress", "a.png", "--max-pixels", 120).exit_code == 0
    refused = run("decompress", "a.uqdm", "b.png", "--max-pixels", 119)
    assert refused.exit_code == 1
    assert "120" in refused.stderr
    assert not Path("b.png").exists()
    assert run("sample", "c.png", "--size", "12x10", "--max-pixels", 119).exit_code == 1


# --- killed

needs_sigkill = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
# Runs a command that kills itself at one moment: when it has written half of the bytes of its file,
# has written them all, has renamed it.
SUICIDE = """
import os, signal, sys
from pathlib import Path
from uqdm.cli import main

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Half:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.file.close()
    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        die()

moment, opened, replace = sys.argv.pop(1), Path.open, Path.replace
if moment == "half":
    Path.open = lambda path, *words, **more: (
        Half(opened(path, "wb")) if words == ("wb",) else opened(path, *words, **more)
    )
elif moment == "written":
    Path.replace = die
elif moment == "renamed":
    Path.replace = lambda *words: (replace(*words), die())
main()
"""


@needs_sigkill
@pytest.mark.parametrize("moment", ["half", "written", "renamed"])
def test_a_run_killed_while_it_writes_leaves_no_half_file_and_does_not_disturb_the_next(
    run: Run, toy: Path, moment: str
) -> None:
    array = picture("in/a.png", 40, 30)
    succeeded(run("compress", "in/a.png", "a.uqdm"))
    whole = Path("a.uqdm").read_bytes()

    def killed(*words: str) -> list[Path]:
        """Temporary files that a killed run leaves."""
        result = subprocess.run([sys.executable, "-c", SUICIDE, moment, *words], capture_output=True, text=True)
        assert result.returncode == -signal.SIGKILL, result.stderr
        return list(Path().glob(".uqdm-*.tmp"))

    left = killed("compress", "in/a.png", "b.uqdm", "--model", str(toy / library.DEFAULT))
    assert len(left) == (moment != "renamed")
    assert Path("b.uqdm").exists() == (moment == "renamed")
    assert moment != "renamed" or Path("b.uqdm").read_bytes() == whole
    succeeded(run("compress", "in/a.png", "b.uqdm", "--force"))
    assert Path("b.uqdm").read_bytes() == whole
    # One that replaces a file: it is the old one, or the new one.
    Path("c.png").write_bytes(b"old")
    left = killed("decompress", "b.uqdm", "c.png", "--force")
    assert len(left) == 2 * (moment != "renamed")
    if moment == "renamed":
        assert (pixels("c.png") == array).all()
    else:
        assert Path("c.png").read_bytes() == b"old"
    # What is left is nobody's input.
    assert len(succeeded(run("decompress", ".", "back")).stdout.splitlines()) == 2
    assert (pixels("back/b.png") == array).all()


KILLED = """
import os, pathlib, signal, sys
from uqdm.cli import main
at, number, replaced, real = sys.argv.pop(1), int(sys.argv.pop(1)), [], pathlib.Path.replace
def replace(path, target):
    replaced.append(target)
    if at == "before" and len(replaced) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, target)
    if at == "behind" and len(replaced) == number:
        os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.replace = replace
main()
"""


@needs_sigkill
@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_run_killed_at_any_moment_leaves_only_whole_files(run: Run, toy: Path, command: str) -> None:
    for i in range(4):
        picture(f"in/p{i}.png", 24, 20, seed=i)
    if command == "decompress":
        succeeded(run("compress", "in", "packed"))
    source, suffix = ("in", ".uqdm") if command == "compress" else ("packed", ".png")
    succeeded(run(command, source, "expected"))
    expected = {path.name: path.read_bytes() for path in Path("expected").iterdir()}
    for at, number, whole in (("before", 1, 0), ("behind", 1, 1), ("before", 3, 2), ("behind", 3, 3)):
        where = ["--batch", "1", "--force", "--model", str(toy / library.DEFAULT)]
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, at, str(number), command, source, "out", *where], stdout=subprocess.DEVNULL
        )
        assert killed.returncode == -signal.SIGKILL
        found = {path.name: path.read_bytes() for path in Path("out").glob(f"*{suffix}")}
        assert found.items() <= expected.items()
        assert len(found) >= whole  # those that were there before count too
    succeeded(run(command, source, "out", "--force"))
    assert {path.name: path.read_bytes() for path in Path("out").glob(f"*{suffix}")} == expected
