"""Streams that are closed, full or left; outputs that are no files; names that are not UTF-8. All
from outside, as a shell does it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Run, picture, pixels, succeeded
from PIL import Image

from uqdm import library

Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
needs_fd = pytest.mark.skipif(not os.path.exists("/dev/fd/1"), reason="no /dev/fd here")


@pytest.fixture
def shell(run: Run, toy: Path) -> Shell:
    """Runs a line of bash in a folder that holds a.png and a.uqdm; in it `uqdm` is the command, and
    TOY the folder of the toy model.
    """

    def shell(line: str, **options: object) -> "subprocess.CompletedProcess[bytes]":
        whole = f'TOY="{toy / library.DEFAULT}"; uqdm() {{ "{sys.executable}" -m uqdm "$@"; }}; {line}'
        done = subprocess.run(["bash", "-c", whole], capture_output=True, timeout=120, check=False, **options)  # type: ignore[call-overload]
        assert b"Traceback" not in done.stderr, done.stderr
        assert b"mistake in uqdm" not in done.stderr, done.stderr
        assert b"Exception ignored" not in done.stderr, done.stderr
        return done  # type: ignore[no-any-return]

    picture("a.png")
    succeeded(run("compress", "a.png"))
    return shell


@needs_full
@pytest.mark.parametrize(
    "line", ["info a.uqdm", "info a.uqdm --json", "models", "--help", "compress a.png -", "compress a.png b.uqdm"]
)
def test_a_full_disk_behind_stdout_is_named(shell: Shell, line: str) -> None:
    done = shell(f"uqdm {line} >/dev/full")
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_stdout_that_is_closed_is_named_where_it_is_needed(shell: Shell) -> None:
    for line in ("info a.uqdm", "compress a.png -", "decompress a.uqdm -", "truncate a.uqdm - --step 1", "models"):
        done = shell(f"uqdm {line} >&-")
        assert done.returncode == 1
        assert done.stderr.endswith(b"stdout is closed: there is nowhere to write the result\n"), line
        assert done.stderr.count(b"\n") == 1


def test_a_closed_stdout_that_only_takes_notes_is_silence_and_gets_into_no_file(shell: Shell) -> None:
    done = shell('uqdm compress a.png b.uqdm --model "$TOY" >&- 2>&- <&-')
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert Path("b.uqdm").read_bytes() == Path("a.uqdm").read_bytes()
    assert shell("uqdm info missing.uqdm 2>&-").returncode == 1
    assert shell("uqdm nonsense 2>&-").returncode == 2


def test_a_stdin_that_is_closed_or_empty_is_named(shell: Shell) -> None:
    done = shell("uqdm compress - b.uqdm <&-")
    assert (done.returncode, done.stderr) == (1, b"uqdm: stdin is closed: there is nothing to read\n")
    done = shell("uqdm compress - b.uqdm </dev/null")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert not Path("b.uqdm").exists()


def test_a_reader_that_leaves_ends_a_command_in_silence(shell: Shell) -> None:
    for line in ("info a.uqdm", "compress a.png -", "models --json"):
        done = shell(f"{{ uqdm {line}; echo $? >code; }} | true; sleep 0.1; while ! [ -s code ]; do sleep 0.05; done")
        assert done.stderr == b"" or done.stderr.startswith(b"stdout  "), line
        assert Path("code").read_text() in ("0\n", "1\n")  # 0 if all fitted into the pipe before its end was closed
        Path("code").unlink()


@needs_fd
@pytest.mark.parametrize("out", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"])
def test_stdout_by_any_name_takes_the_data_and_nothing_else(shell: Shell, out: str) -> None:
    whole = Path("a.uqdm").read_bytes()
    piped = shell(f"uqdm truncate a.uqdm {out} --step 4 | cat")
    assert piped.stdout == whole
    assert piped.stderr.startswith(b"stdout  ")
    assert shell(f"echo before >log; uqdm truncate a.uqdm {out} --step 4 >>log").returncode == 0
    assert Path("log").read_bytes() == b"before\n" + whole


@needs_fd
def test_descriptors_and_named_pipes_are_written_to_directly_and_read(shell: Shell) -> None:
    whole = Path("a.uqdm").read_bytes()
    assert shell("uqdm truncate a.uqdm /dev/fd/3 --step 4 3>file").returncode == 0
    assert Path("file").read_bytes() == whole
    done = shell("mkfifo pipe; uqdm truncate a.uqdm pipe --step 4 & cat pipe; wait")
    assert whole in done.stdout
    assert Path("pipe").is_fifo()
    assert shell('uqdm compress <(cat a.png) b.uqdm --model "$TOY"').returncode == 0
    assert Path("b.uqdm").read_bytes() == whole
    done = shell("uqdm compress <(cat a.png)")
    assert done.returncode == 2
    assert b"give OUT" in done.stderr
    assert shell("uqdm info /dev/stdin <a.uqdm").returncode == 0
    done = shell("uqdm truncate a.uqdm /dev/fd/9 --step 1")
    assert (done.returncode, b"Bad file descriptor" in done.stderr) == (1, True)
    assert shell("uqdm truncate a.uqdm /dev/null --step 1").returncode == 0


def test_names_that_are_not_utf8_are_taken_and_said(shell: Shell) -> None:
    name = b"in/b\xff.png"
    Path("in").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("in/c.png")
    Path(os.fsdecode(name)).write_bytes(Path("a.png").read_bytes())
    Path(os.fsdecode(b"in/bad\xfe.png")).write_bytes(b"no picture")
    done = shell("uqdm compress in out")
    assert done.returncode == 1
    assert b"out/b\xff.uqdm  " in done.stdout  # as the file is called, for scripts
    assert b"in/bad\\xfe.png" in done.stderr
    assert done.stderr.splitlines()[-1] == b"uqdm: 2 done, 0 skipped, 1 failed"
    assert shell("uqdm decompress out/b*.uqdm back.png").returncode == 0
    assert (pixels("back.png") == pixels("a.png")).all()
    assert shell("uqdm info out/b*.uqdm").returncode == 0
    assert shell("uqdm compress in out").returncode == 1  # they exist already
    done = shell("uqdm compress out/b*.uqdm in/c.png")
    assert (done.returncode, b"\\xff" in done.stderr or b"\\udcff" in done.stderr) == (2, True)  # what is said of usage


def test_a_terminal_that_knows_few_letters_gets_what_it_can_show(shell: Shell) -> None:
    done = shell("PYTHONIOENCODING=ascii uqdm info a.uqdm")
    assert done.returncode == 0
    assert b"10 \\xd7 12" in done.stdout
    assert shell("PYTHONIOENCODING=ascii uqdm sample s.png --size 4x4").returncode == 0


def test_a_model_in_a_folder_that_is_not_utf8_is_listed(shell: Shell, toy: Path) -> None:
    os.symlink(toy, os.fsdecode(b"m\xff"))
    done = shell("UQDM_MODELS=$(echo m*) uqdm models --json")
    assert done.returncode == 0
    assert json.loads(done.stdout)
