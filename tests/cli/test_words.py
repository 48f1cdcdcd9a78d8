"""What the words of a command line stand for: lists, patterns, OUT, files of the wrong kind."""

from pathlib import Path

import pytest
from commands import Run, failed, picture, succeeded

from uqdm.cli.words import spread


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("compare --codec uqdm jpeg photo.png", "compare --codec uqdm --codec jpeg photo.png"),
        ("compare --codec uqdm,jpeg photo.png --bpp 2", "compare --codec uqdm --codec jpeg photo.png --bpp 2"),
        ("compare photo.png --codec=uqdm,jpeg sheet.png", "compare photo.png --codec uqdm --codec jpeg sheet.png"),
        (
            "compare a.png --codec uqdm:models/a vdm-a:runs/b@9 c.png",
            "compare a.png --codec uqdm:models/a --codec vdm-a:runs/b@9 c.png",
        ),
        ("evaluate --codec jxl jpg CIFAR10 --out r", "evaluate --codec jxl --codec jpg CIFAR10 --out r"),
        ("evaluate --codec jxl photos/ --out r", "evaluate --codec jxl photos/ --out r"),
        ("evaluate --codec jxl photos --out r", "evaluate --codec jxl photos --out r"),  # a folder that is there
        (
            "evaluate --published a.yml b.yml dev.zip --out r",
            "evaluate --published a.yml --published b.yml dev.zip --out r",
        ),
        ("reproduce --data a b fig4 --codec jxl fig5", "reproduce --data a --data b fig4 --codec jxl fig5"),
        ("reproduce fig5 --models nano,uqdm-light", "reproduce fig5 --models nano --models uqdm-light"),
        ("train --data a {b,c}.zip --set x=1 y=2", "train --data a --data {b,c}.zip --set x=1 --set y=2"),
        ("bulk evaluate --bpp 0.5 1 in out", "bulk evaluate --bpp 0.5 --bpp 1 in out"),
        ("bulk evaluate in out --bpp 0.5,1 --force", "bulk evaluate in out --bpp 0.5 --bpp 1 --force"),
        ("bulk decompress in out --bpp 1", "bulk decompress in out --bpp 1"),
        ("train --data", "train --data"),
        ("evaluate a --codec --out r", "evaluate a --codec --out r"),
        ("compare a.png -- --codec png", "compare a.png -- --codec png"),
        ("compress --data a b", "compress --data a b"),
    ],
)
def test_lists_end_where_another_argument_begins(
    line: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    assert spread(line.split()) == expected.split()


def test_a_file_whose_name_has_a_comma_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b.yml").write_text("")
    assert spread(["evaluate", "--published", "a,b.yml"]) == ["evaluate", "--published", "a,b.yml"]


@pytest.mark.parametrize("line", ["--codec png jpeg p/a.png", "--codec png,jpeg p/a.png", "p/a.png --codec=png,jpeg"])
def test_compare_takes_its_picture_on_either_side_of_a_list(run: Run, line: str) -> None:
    pytest.importorskip("scipy")
    picture("p/a.png", 24, 32)
    result = succeeded(run("compare", *line.split(), "--bpp", 30))
    assert [line.split("  ")[0] for line in result.stdout.splitlines()[:3]] == ["codec", "PNG", "JPEG 4:4:4"]
    assert Path("a-compare.png").exists()


def test_names_that_exist_are_never_patterns(run: Run) -> None:
    picture("in[1]/a[b].png", seed=1)
    picture("in1/a[b].png", seed=2)
    picture("in1/ab.png", seed=3)
    succeeded(run("compress", "in1/a[b].png", "one.uqdm"))
    succeeded(run("compress", "in[1]/*.png", "out"))  # the folder of that name, not in1
    assert [path.name for path in Path("out").iterdir()] == ["a[b].uqdm"]
    assert Path("out/a[b].uqdm").read_bytes() != Path("one.uqdm").read_bytes()


@pytest.mark.parametrize("out", ["b[1].uqdm", "b[1]"])
def test_an_out_with_brackets_is_a_name(run: Run, out: str) -> None:
    picture("a.png")
    succeeded(run("compress", "a.png", out))
    assert Path(out).is_file()
    succeeded(run("decompress", out, "c[2].png"))
    assert Path("c[2].png").is_file()


def test_a_folder_with_brackets_takes_outputs(run: Run) -> None:
    picture("in/a.png")
    succeeded(run("compress", "in", "out[1]"))
    assert Path("out[1]/a.uqdm").is_file()
    succeeded(run("compress", "in/[ab].png", "more"))  # and brackets that fit are a pattern
    assert Path("more/a.uqdm").is_file()


def test_arguments_in_the_wrong_order_write_nothing(run: Run) -> None:
    picture("in.png")
    failed(run("compress", "out.uqdm", "in.png"), 2, "out.uqdm is a .uqdm file", "uqdm compress in.png out.uqdm")
    failed(run("compress", "in.png", "out.png"), 2, "out.png is not there to be read", ".uqdm")
    assert [path.name for path in Path().iterdir()] == ["in.png"]
    succeeded(run("compress", "in.png"))
    failed(run("decompress", "out.png", "in.uqdm"), 2, "out.png is a picture", "uqdm decompress in.uqdm out.png")
    failed(run("decompress", "in.uqdm", "out.uqdm"), 2, "out.uqdm is not there to be read", ".png")
    assert sorted(path.name for path in Path().iterdir()) == ["in.png", "in.uqdm"]


def test_a_file_of_the_wrong_kind_is_named_as_that(run: Run) -> None:
    picture("a.png")
    succeeded(run("compress", "a.png"))
    for words in (["compress", "a.uqdm"], ["compress", "a.uqdm", "b.uqdm"]):
        assert "--force" not in failed(run(*words), 2, "a.uqdm is a .uqdm file", "compress reads pictures").stderr
    for words in (["decompress", "a.png"], ["decompress", "a.png", "b.png"]):
        assert "--force" not in failed(run(*words), 2, "a.png is a picture", "decompress reads .uqdm files").stderr
    Path("a.uqdm").rename("b.png")
    failed(run("compress", "b.png"), 1, "b.png is a .uqdm file whatever its suffix")
    failed(run("info", "a.png"), 1, "a.png", "not a .uqdm file")


def test_an_empty_name_is_not_the_current_folder(run: Run) -> None:
    picture("a.png")
    for words in (
        ["compress", ""],
        ["compress", "a.png", ""],
        ["decompress", ""],
        ["truncate", "", "b", "--step", 1],
        ["sample", ""],
    ):
        failed(run(*words), 2, "empty")
    assert [path.name for path in Path().iterdir()] == ["a.png"]


def test_a_name_that_is_too_long_is_said_to_be(run: Run) -> None:
    picture("a.png")
    failed(run("compress", "a.png", "x" * 300 + ".uqdm"), 1, "File name too long")
    failed(run("compress", "x" * 300 + ".png", "b.uqdm"), 1, "File name too long")
    failed(run("decompress", "x" * 300 + ".uqdm"), 1, "File name too long")


def test_an_out_with_a_slash_at_its_end_is_a_folder(run: Run) -> None:
    picture("a.png")
    succeeded(run("compress", "a.png", "new/folder/"))
    assert Path("new/folder/a.uqdm").is_file()


def test_an_input_that_is_missing_is_said_to_be_and_not_its_output(run: Run) -> None:
    picture("a.png")
    succeeded(run("compress", "a.png"))
    Path("a.png").unlink()
    failed(run("compress", "a.png"), 1, "a.png cannot be read: No such file")
    failed(run("truncate", "b.uqdm", "a.uqdm", "--step", 1), 1, "b.uqdm cannot be read: No such file")
    Path("a.uqdm").rename("c.uqdm")
    Path("d.png").write_bytes(b"")
    failed(run("decompress", "d.uqdm"), 1, "d.uqdm cannot be read: No such file")


def test_a_contact_sheet_does_not_go_where_its_table_goes(run: Run) -> None:
    picture("a.png")
    failed(run("compare", "a.png", "-", "--codec", "png"), 2, "the name of a file")
    failed(run("compare", "a.png", "/dev/stdout", "--codec", "png"), 2, "the name of a file")
