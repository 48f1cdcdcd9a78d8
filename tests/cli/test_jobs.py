"""Several pictures in several processes: the same files, lines and exit codes, and nothing broken
after an end in the middle.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from commands import Run, failed, picture, succeeded

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc here")
MANY = 240  # pictures, which take a few seconds after the first of them


def made(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def told(result: Result, folder: str) -> tuple[list[str], list[str], int]:
    """Lines of stdout and stderr, in any order, and the exit code."""
    return (
        *(sorted(text.replace(f"{folder}/", "").splitlines()) for text in (result.stdout, result.stderr)),
        result.exit_code,
    )


def test_files_lines_and_exit_codes_are_those_of_one_process(run: Run, toy: Path) -> None:
    for i in range(7):
        picture(f"in/p{i}.png", 20, 20 + i % 2, channels=1 + 2 * (i % 3 > 0), seed=i)
    Path("in/broken.png").write_text("not a picture")
    picture("in/rgba.png", channels=4)
    model = ("--model", toy / "photo")
    one = run("compress", "in", "one", "--jobs", 1, "--max-error", 9, *model)
    two = run("compress", "in", "two", "--jobs", 2, "--max-error", 9, *model)
    assert told(one, "one") == told(two, "two")
    assert two.exit_code == 1
    assert "in/broken.png" in two.stderr
    assert len(made("one")) == 8
    assert made("one") == made("two")
    succeeded(run("compress", "in/p*", "one", "--force", *model))
    data = bytearray(Path("one/p0.uqdm").read_bytes())
    data[-3] ^= 1
    Path("one/p0.uqdm").write_bytes(data)
    for extra in ((), ("--salvage",)):
        here, there = f"here{len(extra)}", f"there{len(extra)}"
        one = run("decompress", "one", here, "--jobs", 1, *extra)
        two = run("decompress", "one", there, "--jobs", 2, *extra)
        assert told(one, here) == told(two, there)
        assert two.exit_code == 1
        assert len(made(there)) == 7 + len(extra)
        assert made(here) == made(there)


def test_what_stands_in_the_way_fails_alone(run: Run, toy: Path) -> None:
    for i in range(4):
        picture(f"in/p{i}.png", seed=i)
    Path("out").mkdir()
    Path("out/p2.uqdm").write_bytes(b"mine")
    result = run("compress", "in", "out", "--jobs", 3, "--model", toy / "photo")
    assert result.exit_code == 1
    assert "3 done, 0 skipped, 1 failed" in result.stderr
    assert Path("out/p2.uqdm").read_bytes() == b"mine"


def test_bad_usage_is_told_once_by_whatever_process(run: Run, toy: Path) -> None:
    for i in range(3):
        picture(f"in/p{i}.png", seed=i)
    failed(run("compress", "in", "out", "--jobs", 2, "--model", "nobody"), 1, "nobody")
    failed(run("compress", "in", "out", "--jobs", 2, "--model", "nano", "--mode", "paper"), 2, "--mode paper")
    failed(run("compress", "in", "out", "--jobs", 0), 2, "--jobs")


def many(folder: str) -> list[str]:
    for i in range(MANY):
        picture(f"{folder}/p{i:03}.png", 96, 96, seed=i)
    return [sys.executable, "-m", "uqdm", "compress", folder, "out", "--jobs", "2"]


def workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@needs_proc
def test_a_worker_that_is_killed_takes_no_picture_with_it(run: Run, toy: Path) -> None:
    words = [*many("in"), "--model", str(toy / "photo")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    _, complaints = process.communicate(timeout=120)
    assert (process.returncode, complaints) == (0, f"uqdm: {MANY} done, 0 skipped, 0 failed\n")
    succeeded(run("compress", "in", "one", "--jobs", 1, "--model", toy / "photo"))
    assert made("out") == made("one")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_in_the_middle_leaves_whole_files_only_and_no_process(run: Run, toy: Path, number: int) -> None:
    words = [*many("in"), "--model", str(toy / "photo")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    own = workers(process.pid)
    assert len(own) == 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does it
    else:
        os.kill(process.pid, number)
    _, complaints = process.communicate(timeout=60)  # it returns when the last process has closed its output
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert not complaints.strip()
    there = {name: data for name, data in made("out").items() if not name.startswith(".uqdm-")}
    assert 1 <= len(there) < MANY
    if number == signal.SIGINT:
        assert there == made("out")
    succeeded(run("compress", "in", "one", "--jobs", 1, "--model", toy / "photo"))
    whole = made("one")
    assert all(whole[name] == data for name, data in there.items())
