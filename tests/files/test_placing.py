"""Files come to their places whole or not at all."""

import os
from pathlib import Path

import pytest

from uqdm.errors import OutputError
from uqdm.files import check_target, write_atomic


def test_an_existing_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    target = tmp_path / "out"
    write_atomic(target, b"first")
    target.chmod(0o640)
    with pytest.raises(OutputError, match="exists already; use --force"):
        write_atomic(target, b"second")
    assert target.read_bytes() == b"first"
    write_atomic(target, b"second", force=True)
    assert target.read_bytes() == b"second"
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_places_that_cannot_be_written_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for target, why in ((tmp_path / "no" / "out", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(OutputError, match=why):
            write_atomic(target, b"", force=True)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match=r"cannot be written"):
        write_atomic(tmp_path / "file" / "out", b"")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser may write anywhere, so it is asked for
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError, match="out is write-protected"):
        write_atomic(tmp_path / "out", b"", force=True)
    with pytest.raises(OutputError, match=r"folder .* is write-protected"):
        check_target(tmp_path / "new", force=False)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomic(tmp_path / "out", b"data")
    assert list(tmp_path.iterdir()) == []


def test_devices_are_written_to_without_renaming() -> None:
    write_atomic("/dev/null", b"data")
    assert Path("/dev/null").is_char_device()
