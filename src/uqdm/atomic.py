"""Files and folders that are there whole or not at all: written beside their place, then renamed.
Knows nothing of what is in them.

1. Until the end nothing changes at the place. If the writing fails, even by Ctrl-C, nothing stays
   beside it.
2. A new file gets the mode that the umask gives, whoever wrote it. A file that was there hands its
   mode on.
3. Symbolic links are followed: what they point to is replaced, and they stay.
4. What is neither a file nor a folder, such as a device or a pipe, is written to directly.

A process that is killed can leave a file beside the place. `sweep` removes such files.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MARK = ".uqdm-"  # The names of files beside begin like this: it is short, and no longer for a long name.
STREAMS = ("/dev/std", "/dev/fd/", "/proc/")  # files that are open already and must not be replaced


@contextlib.contextmanager
def beside(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[Path]:
    """The name of an empty file to write in the place of `path`. It replaces `path` at the end of
    the `with`.

    With `sync` it is on the disk before it replaces anything. Raises `OSError`.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if mode is not None and (not stat.S_ISREG(mode) or os.fspath(path).startswith(STREAMS)):
        yield Path(path)  # the path as it was given, because what /dev/stdout points to may have no name
        return
    target = _followed(path)
    name = _name(target)
    try:
        with name.open("xb") as file:
            wanted = stat.S_IMODE(os.fstat(file.fileno()).st_mode if mode is None else mode)
        yield name
        if stat.S_IMODE(name.stat().st_mode) != wanted:  # some writers make the file anew, with a mode of their own
            name.chmod(wanted)
        if sync:
            with name.open("rb+") as file:
                os.fsync(file.fileno())
        name.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            name.unlink()
        raise


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[BinaryIO]:
    """An open binary file that replaces `path` at the end of the `with`; see `beside`. Raises
    `OSError`.
    """
    with beside(path, sync=sync) as name, name.open("wb") as file:
        yield file


def write(path: str | os.PathLike[str], data: bytes | str, *, sync: bool = False) -> None:
    """Writes `data` as the file `path`, text as UTF-8; see `beside`. Raises `OSError`."""
    with opened(path, sync=sync) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder to fill, which replaces the folder `path` at the end of the `with`. Missing
    parents are made. Raises `OSError`.
    """
    target = _followed(path)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
    name, old = _name(target), _name(target)
    try:
        name.mkdir(parents=True)
        yield name
        if target.exists():
            name.chmod(stat.S_IMODE(target.stat().st_mode))
            target.rename(old)
        name.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        shutil.rmtree(name, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(place: str | os.PathLike[str]) -> None:
    """Removes what killed processes have left in a folder into which nobody else writes. Never
    raises `OSError`.
    """
    with contextlib.suppress(OSError):
        for name in Path(place).glob(f"{MARK}*.tmp"):
            with contextlib.suppress(OSError):
                name.unlink()


def _followed(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).resolve()
    except RuntimeError:  # Python 3.11 and 3.12 raise it for links in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def _name(target: Path) -> Path:
    return target.with_name(f"{MARK}{secrets.token_hex(8)}.tmp")
