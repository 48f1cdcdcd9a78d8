"""Files and folders are there whole or not at all."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from uqdm import atomic


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_mode_that_the_umask_gives_whatever_the_writer_did(tmp_path: Path, umask: int) -> None:
    atomic.write(tmp_path / "bytes", b"data")
    with atomic.beside(tmp_path / "anew") as name:
        name.unlink()
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
    assert {mode(tmp_path / one) for one in ("bytes", "anew")} == {0o666 & ~umask}


def test_a_file_that_is_replaced_hands_its_mode_on(tmp_path: Path) -> None:
    path = tmp_path / "a"
    atomic.write(path, "first")
    path.chmod(0o640)
    atomic.write(path, "second é", sync=True)
    assert path.read_text("utf-8") == "second é"
    assert mode(path) == 0o640


def test_until_the_end_the_old_file_stands(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with atomic.opened(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError(28, "No space left on device"), ValueError])
@pytest.mark.parametrize("writing", [atomic.opened, atomic.beside, atomic.folder])
def test_a_failure_changes_nothing_and_leaves_nothing(tmp_path: Path, writing: Any, error: Any) -> None:
    for there in (False, True):
        path = tmp_path / str(there)
        if there and writing is atomic.folder:
            path.mkdir()
            (path / "kept").write_bytes(b"old")
        elif there:
            path.write_bytes(b"old")
        before = sorted(tmp_path.rglob("*"))
        opening: AbstractContextManager[Any] = writing(path)
        with pytest.raises(BaseException) as found, opening as place:  # noqa: PT011, PT012
            if writing is atomic.folder:
                (place / "half").write_bytes(b"ha")
            raise error
        assert isinstance(found.value, type(error) if isinstance(error, OSError) else error)
        assert sorted(tmp_path.rglob("*")) == before


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other/real")
    for content in (b"through a link to nothing", b"through a link to a file"):
        atomic.write(tmp_path / "link", content)
        assert (tmp_path / "other" / "real").read_bytes() == content
    (tmp_path / "folder").symlink_to("other")
    with atomic.folder(tmp_path / "folder") as place:
        (place / "new").write_bytes(b"")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder").is_symlink()
    assert os.listdir(tmp_path / "other") == ["new"]
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links"):
        atomic.write(tmp_path / "circle", b"")


def test_devices_pipes_and_open_files_are_written_to(tmp_path: Path) -> None:
    atomic.write("/dev/null", b"data")
    assert Path("/dev/null").is_char_device()
    words = [sys.executable, "-c", "from uqdm import atomic; atomic.write('/dev/stdout', 'data')"]
    assert subprocess.run(words, capture_output=True, check=True).stdout == b"data"
    with (tmp_path / "out").open("wb") as file:
        before = os.fstat(file.fileno()).st_ino
        subprocess.run(words, stdout=file, check=True)
    assert (tmp_path / "out").read_bytes() == b"data"
    assert (tmp_path / "out").stat().st_ino == before


def test_what_cannot_be_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IsADirectoryError):
        atomic.write(tmp_path, b"")
    with pytest.raises(FileNotFoundError):
        atomic.write(tmp_path / "none" / "a", b"")
    with pytest.raises(NotADirectoryError):
        atomic.write(tmp_path / "file" / "a", b"")
    with pytest.raises(NotADirectoryError), atomic.folder(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_of_full_length_can_be_written(tmp_path: Path) -> None:
    atomic.write(tmp_path / ("a" * 255), b"data")
    assert (tmp_path / ("a" * 255)).read_bytes() == b"data"


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    code = f"""
import os, signal
from uqdm import atomic
with atomic.opened({str(tmp_path / "a")!r}) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    (tmp_path / "kept.tmp").write_bytes(b"")
    assert len(os.listdir(tmp_path)) == 2
    atomic.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["kept.tmp"]
