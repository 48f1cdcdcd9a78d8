"""Files to their places, whole or not at all. Knows bytes and paths, no pictures."""

import os
import re
import stat
from pathlib import Path

from uqdm import atomic
from uqdm.errors import OutputError


def check_target(path: str | os.PathLike[str], force: bool) -> None:
    """Raises the `OutputError` that `write_atomic` would raise, if it can be known before the work
    is done.
    """
    target = Path(path)
    try:
        descriptor = _descriptor(path)
        mode = target.stat().st_mode if descriptor is None else os.fstat(descriptor).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}") from error
    if descriptor is not None:
        return
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError(f"{target} is a folder; expected the name of a file to write")
    if mode is not None and stat.S_ISREG(mode) and not force:
        raise OutputError(f"{target} exists already; use --force to replace it")
    if mode is not None and not os.access(target, os.W_OK):
        raise OutputError(f"{target} is write-protected")
    folder = target.resolve().parent
    if mode is None or stat.S_ISREG(mode):
        if not folder.is_dir():
            raise OutputError(f"{target} cannot be written: the folder {folder} does not exist")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{target} cannot be written: the folder {folder} is write-protected")


def _descriptor(path: str | os.PathLike[str]) -> int | None:
    """The open descriptor that a path stands for, or None. No file can be made there, and it may
    have no other path.
    """
    found = re.fullmatch(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/(\d{1,9})", os.path.normpath(os.fspath(path)))
    return None if found is None else ("stdout", "stderr").index(found[1]) + 1 if found[1] else int(found[2])


def write_atomic(path: str | os.PathLike[str], data: bytes, force: bool = False) -> None:
    """Writes a file beside its place and then renames it, so that it is there whole or not at all.

    Raises `OutputError` if something is there already and `force` is not set, if it or its folder
    is write-protected, if the folder is missing, or if the disk is full. Devices, pipes and open
    descriptors (/dev/stdout, /dev/fd/3) are written to directly.
    """
    check_target(path, force)
    descriptor = _descriptor(path)
    try:
        if descriptor is None:
            atomic.write(path, data)
        else:
            with open(os.dup(descriptor), "wb") as stream:
                stream.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{os.fspath(path)} cannot be written: {error.strerror}") from error
