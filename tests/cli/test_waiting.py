"""Who waits sees how far it is: one picture too, from a second on, on a terminal only."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from commands import Run, picture, succeeded
from conftest import photograph

from uqdm.codec import Codec

AT_ONCE = (
    "from uqdm.cli import main, waiting; waiting.SECOND = 0.0; main()"  # not after a second, which would be to wait
)


def on_a_terminal(*words: str) -> tuple[int, str, bytes]:
    """Runs a command whose stderr is a terminal: exit code, what the terminal got, stdout."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    process = subprocess.Popen([sys.executable, "-c", AT_ONCE, *words], stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so at the end
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    out = process.communicate()[0]
    return process.returncode, seen.decode(), out


@pytest.mark.parametrize(
    "line",
    ["compress a.png b.uqdm --model nano", "decompress a.uqdm b.png", "sample b.png --size 160x160 --model nano"],
)
def test_one_picture_shows_its_steps_and_parts_on_a_terminal(run: Run, line: str) -> None:
    picture("a.png", 160, 160)
    succeeded(run("compress", "a.png"))
    code, seen, out = on_a_terminal(*line.split())
    assert code == 0
    assert "step 4 of 4, part " in seen
    assert "%|" in seen
    assert out.decode().startswith("b.")
    assert seen.endswith("\r")  # the bar is gone


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_several_pictures_show_how_many_are_done_and_lines_do_not_run_into_the_bar(run: Run, jobs: str) -> None:
    for i in range(3):
        picture(f"in/p{i}.png", 100 + i, 130)
    Path("in/p1.png").write_text("not a picture")
    code, seen, _ = on_a_terminal("compress", "in", "out", "--jobs", jobs)
    assert code == 1
    assert "3.0/3 files" in seen
    assert "pictures/s" in seen
    complaint = seen[seen.index("uqdm: in/p1.png") - 1 :]
    assert complaint[0] in "\r\n"
    assert "uqdm: 2 done, 0 skipped, 1 failed" in seen


def test_nobody_who_does_not_look_gets_a_bar(run: Run) -> None:
    picture("a.png", 200, 200)
    done = subprocess.run([sys.executable, "-c", AT_ONCE, "compress", "a.png"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_is_known_whether_an_earlier_run_has_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    asked = (
        "import numpy as np; from uqdm.entropy import choice, fast; print(choice.compiles());"
        "fast.mean(*np.array([[0], [40], [0], [9]]))"
    )
    for found in ("True\n", "False\n"):
        assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True).stdout == found


@pytest.mark.slow
def test_a_first_run_says_that_it_compiles(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    picture("a.png", 16, 16)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    code, seen, _ = on_a_terminal("compress", "a.png", "--model", "nano")
    assert code == 0
    assert "compiling, this once" in seen


def test_progress_is_told_after_every_part_and_changes_no_bit(default: Codec) -> None:
    image, told = photograph(40, 52), []
    data = default.compress(image, progress=lambda *where: told.append(where))
    assert data == default.compress(image)
    assert told == sorted(told)
    assert [where for where in told if where[1] == where[2]] == [
        (k, n, n) for k, n in {w[0]: w[2] for w in told}.items()
    ]
    assert told[-1][0] == default.steps
    again: list[tuple[int, ...]] = []
    decoded = default.decode_many([data], progress=lambda *where: again.append(where))[0]
    assert np.array_equal(decoded.image, image)
    assert again == told
