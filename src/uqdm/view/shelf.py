"""Which files are on view, by name. Knows nothing of what is in them.

A name is one of a list that is made here. What a request asks for is looked up in that list, so no
request can name another file. A link that leads out of the folder is not followed.
"""

import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uqdm import files
from uqdm.errors import FormatError, ImageError, UqdmError
from uqdm.view.arriving import SCHEMES, Arriving, Local, Remote

SUFFIX = ".uqdm"
MOST = 2000  # files of a folder


class UnknownNameError(UqdmError):
    """A name that is not on view."""


@dataclass(frozen=True)
class Shelf:
    """What is on view: `what` is a file, a folder, or an http address.

    `original`: a picture file that the one file is compared with. Without it, a picture of the same
    stem beside a file is. Raises `UqdmError` where there is nothing to show.
    """

    what: str
    original: str | None = None

    def __post_init__(self) -> None:
        if self.remote:
            return
        path = Path(self.what)
        if not path.exists():
            raise UqdmError(
                f"{self.what}: no such file or folder; expected a {SUFFIX} file, a folder of them, or a URL"
            )
        if path.is_dir() and self.original is not None:
            raise UqdmError(f"{self.what} is a folder, and an original belongs to one file: give the file itself")
        if path.is_dir() and not self.names():
            raise UqdmError(f"{self.what}: the folder holds no files with the suffix {SUFFIX}")

    @property
    def remote(self) -> bool:
        """Whether it is an address."""
        return urllib.parse.urlsplit(self.what).scheme.lower() in SCHEMES

    @property
    def _folder(self) -> Path | None:
        path = Path(self.what)
        return path if not self.remote and path.is_dir() else None

    def names(self) -> list[str]:
        """The names on view, in order: paths below the folder, with `/`. At most MOST."""
        folder = self._folder
        if folder is not None:
            return sorted(name for name, _ in zip(_below(folder), range(MOST)))
        if self.remote:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.what).path)
            return [path.rstrip("/").rpartition("/")[2] or self.what]
        return [Path(self.what).name]

    def open(self, name: str) -> Arriving:
        """The bytes of a file. Raises `UnknownNameError`, and what `Local` and `Remote` raise."""
        self._check(name)
        return Remote(self.what) if self.remote else Local(self._path(name))

    def stamp(self, name: str) -> tuple[int, ...]:
        """What changes when the file does; nothing for an address."""
        self._check(name)
        if self.remote:
            return ()
        try:
            found = self._path(name).stat()
        except OSError as error:
            raise FormatError(f"{name} cannot be read: {error.strerror}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def original_of(self, name: str) -> Path | None:
        """The picture that a file is compared with, if there is one."""
        self._check(name)
        if self.original is not None:
            if not Path(self.original).is_file():
                raise ImageError(f"{self.original} is no file; expected the picture that {name} was made from")
            return Path(self.original)
        if self.remote:
            return None
        path, root = self._path(name), self._folder
        for suffix in sorted(files.READABLE):
            beside = path.with_suffix(suffix)
            if beside.is_file() and (root is None or _inside(beside, root)):
                return beside
        return None

    def _check(self, name: str) -> None:
        if name not in self.names():
            raise UnknownNameError(f"{name!r} is not on view; expected one of the names that /files lists")

    def _path(self, name: str) -> Path:
        folder = self._folder
        return Path(self.what) if folder is None else folder / name


def _below(folder: Path) -> Iterator[str]:
    """The files of ours below a folder that are really in it; hidden ones are left alone."""
    for where, folders, found in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for one in sorted(found):
            path = Path(where, one)
            if path.suffix.lower() == SUFFIX and not one.startswith(".") and path.is_file() and _inside(path, folder):
                yield path.relative_to(folder).as_posix()


def _inside(path: Path, folder: Path) -> bool:
    """Whether a path is below a folder, wherever links lead."""
    return path.resolve().is_relative_to(folder.resolve())
