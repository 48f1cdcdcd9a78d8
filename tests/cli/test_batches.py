"""Many files in one command: what fails alone, what is skipped, what is counted, and where the
outputs stand.
"""

import os
from pathlib import Path

import pytest
from commands import Run, failed, picture, pixels, succeeded


def last(result: object) -> str:
    """The last line on stderr, without the name of the program."""
    return str(result.stderr).splitlines()[-1].removeprefix("uqdm: ")  # type: ignore[attr-defined]


def test_of_two_inputs_with_one_output_only_these_fail(run: Run) -> None:
    for name in ("a.bmp", "a.png", "b.png"):
        picture(f"in/{name}")
    result = run("compress", "in", "out")
    assert result.exit_code == 1
    assert "in/a.bmp and in/a.png would both become out/a.uqdm" in result.stderr
    assert [path.name for path in Path("out").iterdir()] == ["b.uqdm"]
    assert last(result) == "1 done, 0 skipped, 2 failed"


def test_an_input_that_is_named_twice_is_taken_once(run: Run) -> None:
    picture("a.png")
    picture("b.png")
    result = succeeded(run("compress", "a.png", "./a.png", "*.png", Path.cwd() / "b.png"))
    assert last(result) == "2 done, 0 skipped, 0 failed"


def test_what_has_an_output_already_is_skipped_on_request_and_named(run: Run) -> None:
    picture("in/a.png")
    picture("in/b.png", seed=1)
    Path("out").mkdir()
    Path("out/a.uqdm").write_bytes(b"mine")
    assert run("compress", "in", "out").exit_code == 1
    result = succeeded(run("compress", "in", "out", "--skip-existing"))
    assert "in/a.png: skipped, because out/a.uqdm exists already" in result.stderr
    assert last(result) == "0 done, 2 skipped, 0 failed"
    assert Path("out/a.uqdm").read_bytes() == b"mine"
    Path("out/b.uqdm").unlink()
    result = succeeded(run("compress", "in", "out", "--skip-existing"))
    assert last(result) == "1 done, 1 skipped, 0 failed"
    assert Path("out/b.uqdm").stat().st_size > 100
    one = succeeded(run("compress", "in/a.png", "out/a.uqdm", "--skip-existing"))
    assert one.stdout == ""
    failed(run("compress", "in", "out", "--skip-existing", "--force"), 2, "cannot be used together")


def test_sub_folders_are_taken_on_request_and_kept(run: Run) -> None:
    arrays = {name: picture(f"in/{name}.png", seed=i) for i, name in enumerate(("a", "x/a", "x/y/b"))}
    os.symlink("..", "in/x/loop")  # each folder is entered once
    result = succeeded(run("compress", "in", "out"))
    assert "1 folder, which --recursive takes" in last(result)
    assert [path.name for path in Path("out").iterdir()] == ["a.uqdm"]
    result = succeeded(run("compress", "in", "out", "--recursive", "--skip-existing"))
    assert last(result) == "2 done, 1 skipped, 0 failed"
    succeeded(run("decompress", "out", "back", "--recursive"))
    found = {str(path.relative_to("back").with_suffix("")) for path in Path("back").rglob("*.png")}
    assert found == set(arrays)
    for name, array in arrays.items():
        assert (pixels(f"back/{name}.png") == array).all()
    succeeded(run("compress", "in", "--recursive"))
    assert Path("in/x/y/b.uqdm").exists()


def test_a_folder_with_pictures_only_further_down_says_how_to_take_them(run: Run) -> None:
    picture("in/x/a.png")
    failed(run("compress", "in", "out"), 1, "holds no files", "--recursive")


def test_files_of_other_kinds_are_left_alone_and_counted(run: Run) -> None:
    picture("in/a.png")
    Path("in/notes.txt").write_text("")
    Path("in/a.xmp").write_text("")
    assert "left alone: 2 other files (.txt, .xmp)" in last(succeeded(run("compress", "in", "out")))
    succeeded(run("compress", "in"))
    assert "left alone: 2 other files (.uqdm, .xmp)" in last(succeeded(run("compress", "in/a*", "twice")))
    failed(run("compress", "in/*.uqdm", "out"), 1, "nothing fits but 1 file that compress does not read")


def test_a_folder_that_cannot_be_read_is_a_failure_and_not_the_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    picture("in/a.png")
    picture("in/shut/b.png")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    result = run("compress", "in", "out", "--recursive")
    assert result.exit_code == 1
    assert "in/shut cannot be read: Permission denied" in result.stderr
    assert last(result) == "1 done, 0 skipped, 1 failed"
    failed(run("compress", "in/shut", "more"), 1, "in/shut cannot be read")


def test_a_link_that_leads_nowhere_fails_alone(run: Run) -> None:
    picture("in/a.png")
    os.symlink("nowhere.png", "in/b.png")
    result = run("compress", "in", "out")
    assert result.exit_code == 1
    assert "in/b.png" in result.stderr
    assert last(result) == "1 done, 0 skipped, 1 failed"


def test_a_broken_picture_is_left_out_of_an_evaluation_named_and_counted(run: Run) -> None:
    pytest.importorskip("torchmetrics")
    for i in range(2):
        picture(f"in/p{i}.png", 16, 16, seed=i)
    Path("in/p2.png").write_text("not a picture")
    result = run("evaluate", "in", "--codec", "png", "--out", "report", "--jobs", 1)
    assert result.exit_code == 1
    assert "left out: in/p2.png is not a picture" in result.stderr
    assert "1 of 3 pictures were left out" in last(result)
    assert "2 pictures" in Path("report/report.html").read_text()
    assert Path("report/results.json").exists()
    for i in range(2):
        Path(f"in/p{i}.png").unlink()
    failed_line = run("evaluate", "in", "--codec", "png", "--out", "report")
    assert failed_line.exit_code == 1
    assert last(failed_line).startswith("none of 1 pictures can be read; the first: in/p2.png")


@pytest.mark.parametrize(("name", "text", "code"), [("x-broken", "not a picture", 1), ("x-small", None, 0)])
def test_a_picture_that_cannot_be_used_is_left_out_of_training_named_and_counted(
    run: Run, name: str, text: str | None, code: int
) -> None:
    pytest.importorskip("torch")
    for i in range(3):
        picture(f"in/p{i}.png", 32, 32, seed=i)
    picture(f"in/{name}.png", 8, 8)
    if text is not None:
        Path(f"in/{name}.png").write_text(text)
    small = "batch_size=4 crop=16 embedding_dim=8 n_blocks=1 norm_groups=4"
    with pytest.warns(UserWarning, match="left out"):
        result = run("train", "--preset", "half", "--data", "in", "--out", "run", "--steps", 1, "--set", *small.split())
    assert result.exit_code == code, result.stderr
    assert f"left out: in/{name}.png" in result.stderr
    assert f"pictures were left out, {code} of them broken" in last(result)
    assert Path("run/checkpoint.safetensors").exists()


def test_every_command_has_the_same_list_of_suffixes() -> None:
    from uqdm.cli.files import pictures
    from uqdm.files import READABLE

    assert pictures() == frozenset(READABLE)
    assert {".png", ".jpg", ".gif", ".avif", ".tif", ".pgm"} <= pictures()
