"""Where pictures come from: picture files, packs, arrays and shards. Each is a sequence of RGB
arrays. Knows no batches.

A source is opened once. This finds every fault of its files that can be seen without decoding. A
picture is decoded when it is asked for. The official data sets are in datasets.py. opening.py knows
what a path or a name stands for.

A pack is a zip of `meta.json` (h, w, n, sha256_of_uint8_NHWC) and `*.webp` strips. Each strip has
some pictures, one above the other.
"""

import hashlib
import json
import math
import tarfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm import files
from uqdm.errors import ImageError, LimitError
from uqdm.files import READABLE
from uqdm.picture import Picture, from_array

CACHE_BYTES = 2 << 30  # of decoded pictures

Pixels = NDArray[np.uint8]  # (H, W, 3), or (n, H, W, 3)


class Source(Protocol):
    """Pictures by number: uint8 (H, W, 3). `source[i]` raises `ImageError` if that picture is
    broken. Any thread may ask.

    A source may also have `sizes`, the set of all (H, W) if it is known without decoding, and
    `name(i)`, the name of picture i in messages.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Pixels: ...


Data = str | Path | Pixels | Source | Sequence[Any]


def sizes(source: Source) -> set[tuple[int, int]] | None:
    """Every (H, W) that occurs, or None if only decoding would tell."""
    found: set[tuple[int, int]] | None = getattr(source, "sizes", None)
    return found


def name(source: Source, i: int) -> str:
    """The name of picture i in messages."""
    own = getattr(source, "name", None)
    return str(own(i)) if callable(own) else f"picture {i}"


# --- sources made of others


class Joined:
    """Sources one after the other; source s begins at `starts[s]`."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self.starts = np.cumsum([0, *map(len, self._sources)])
        known = [sizes(s) for s in self._sources if len(s)]
        self.sizes = None if None in known else {one for some in known for one in some or ()}

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, i: int) -> Pixels:
        source, j = self._find(i)
        return source[j]

    def name(self, i: int) -> str:
        return name(*self._find(i))

    def _find(self, i: int) -> tuple[Source, int]:
        if not 0 <= i < len(self):
            raise IndexError(i)
        s = int(np.searchsorted(self.starts, i, "right")) - 1
        return self._sources[s], i - int(self.starts[s])


class Subset:
    """Some pictures of a source, by their numbers in it."""

    def __init__(self, source: Source, numbers: NDArray[np.int64]) -> None:
        self._source, self._numbers = source, numbers
        self.sizes = sizes(source)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, i: int) -> Pixels:
        return self._source[int(self._numbers[i])]

    def name(self, i: int) -> str:
        return name(self._source, int(self._numbers[i]))


def every_tenth(source: Source) -> tuple[Source, Source]:
    """Training and evaluation if nothing divides them: pictures 0, 10, 20 ... are for
    evaluation.
    """
    numbers = np.arange(len(source))
    return Subset(source, numbers[numbers % 10 != 0]), Subset(source, numbers[::10])


# --- arrays


class Stack:
    """Pictures of one size, (n, H, W, 3) uint8, in memory or mapped from a file."""

    def __init__(self, where: str, array: Pixels) -> None:
        self._where, self._array = where, array
        self.sizes = {(int(array.shape[1]), int(array.shape[2]))}

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, i: int) -> Pixels:
        return np.ascontiguousarray(self._array[i])

    def name(self, i: int) -> str:
        return f"{self._where}, picture {i}"


class Several:
    """Arrays of any sizes: (H, W, 3), or whatever else `from_array` takes."""

    def __init__(self, arrays: Iterable[NDArray[Any]]) -> None:
        self._arrays = [_rgb(from_array(a)) for a in arrays]
        self.sizes = {(int(a.shape[0]), int(a.shape[1])) for a in self._arrays}

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, i: int) -> Pixels:
        return self._arrays[i]


def stack(where: str, array: NDArray[Any]) -> Stack:
    """An array (n, H, W, 3) or (n, 3, H, W)."""
    if array.dtype != np.uint8 or array.ndim != 4 or 3 not in (array.shape[1], array.shape[3]) or 0 in array.shape[1:]:
        raise ImageError(f"{where}: {array.dtype} of shape {array.shape}; expected uint8 (n, H, W, 3) or (n, 3, H, W)")
    return Stack(where, array if array.shape[3] == 3 else array.transpose(0, 2, 3, 1))


def side_of(where: str, shape: Sequence[int]) -> int:
    """An array of square pictures that are rows (n, 3 · side · side): all red values, then green,
    then blue.
    """
    side = math.isqrt(shape[1] // 3) if len(shape) == 2 else 0
    if side == 0 or 3 * side * side != shape[1]:
        raise ImageError(
            f"{where}: an array of shape {tuple(shape)}; expected (n, 3 · side · side), such as (n, 12288) for 64 × 64"
        )
    return side


def rows(array: Pixels, side: int) -> Pixels:
    return array.reshape(len(array), 3, side, side).transpose(0, 2, 3, 1)


def npy_file(path: str) -> Source:
    try:
        return stack(path, np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: not a NumPy array that can be read: {error}") from None


# --- packs


def load_pack(path: str | Path) -> Pixels:
    """All pictures of a pack, (n, h, w, 3) uint8. Raises `ImageError` if it is damaged or no
    pack.
    """
    try:
        with zipfile.ZipFile(path) as pack:
            meta = json.loads(pack.read("meta.json"))
            h, w = meta["h"], meta["w"]
            names = sorted(name for name in pack.namelist() if name.endswith(".webp"))
            strips = [files.read(pack.read(name)).pixels.reshape(-1, h, w, 3) for name in names]
        pictures = np.concatenate(strips)
        right = (
            len(pictures) == meta["n"]
            and hashlib.sha256(pictures.tobytes()).hexdigest() == meta["sha256_of_uint8_NHWC"]
        )
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
        ImageError,
        LimitError,
    ) as error:
        raise ImageError(f"{path}: not a pack of pictures (a zip of meta.json and strips): {error}") from None
    if not right:
        raise ImageError(
            f"{path}: the pictures are not those that meta.json describes ({meta['n']} of {h} x {w}); get the pack"
            " again"
        )
    return pictures


# --- picture files and shards


class Cache:
    """The pictures decoded last, up to `limit` bytes together. Any thread may ask."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit, self.size = limit, 0
        self._kept: OrderedDict[Hashable, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], Pixels]) -> Pixels:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pixels = decode()  # not under the lock, so that threads can decode side by side
        pixels.setflags(write=False)
        with self._lock:
            if key not in self._kept and pixels.nbytes <= self.limit:
                self._kept[key] = pixels
                self.size += pixels.nbytes
                while self.size > self.limit:
                    self.size -= self._kept.popitem(last=False)[1].nbytes
        return pixels


def _rgb(picture: Picture) -> Pixels:
    """Grey as RGB; alpha is dropped."""
    return np.repeat(picture.pixels, 3, 2) if picture.pixels.shape[2] == 1 else picture.pixels


def _decode(what: str, source: str | bytes) -> Pixels:
    try:
        return _rgb(files.read(source, convert=True))
    except (ImageError, LimitError) as error:
        raise ImageError(str(error) if isinstance(source, str) else f"{what}: {error}") from None


class Files:
    """Picture files."""

    def __init__(self, paths: list[str], cache: Cache) -> None:
        self._paths, self._cache = paths, cache

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i: int) -> Pixels:
        path = self._paths[i]
        return self._cache.get(path, lambda: _decode(path, path))

    def name(self, i: int) -> str:
        return self._paths[i]


class Shards:
    """Picture files inside tar files that are not compressed (WebDataset). They are found when it
    is opened, then read from their place.

    A shard is opened anew for each picture. This costs little beside decoding, and thousands of
    shards need no open files.
    """

    def __init__(self, paths: Sequence[str], cache: Cache) -> None:
        self._paths, self._cache = list(paths), cache
        self._names: list[str] = []
        found: list[tuple[int, int, int]] = []  # shard, offset, size
        for s, path in enumerate(self._paths):
            for member in _members(path):
                if Path(member.name).suffix.lower() in READABLE:
                    self._names.append(member.name)
                    found.append((s, member.offset_data, member.size))
        if not found:
            raise ImageError(
                f"{self._paths[0]}: no pictures in the shards; expected members that end in"
                f" {', '.join(sorted(READABLE))}"
            )
        self._found = np.array(found, np.int64)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, i: int) -> Pixels:
        shard, offset, size = self._found[i].tolist()

        def decode() -> Pixels:
            try:
                with open(self._paths[shard], "rb") as file:
                    file.seek(offset)
                    data = file.read(size)
            except OSError as error:
                raise ImageError(f"{self.name(i)}: cannot be read: {error.strerror}") from None
            return _decode(self.name(i), data)

        return self._cache.get((self._paths[shard], offset), decode)

    def name(self, i: int) -> str:
        return f"{self._paths[int(self._found[i, 0])]}/{self._names[i]}"


def _members(path: str) -> list[tarfile.TarInfo]:
    """The plain files of a tar. Raises `ImageError` if it is cut: tarfile itself takes a broken
    header for the end.
    """
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [m for m in tar if m.isreg() and not m.issparse()]
            file.seek(tar.offset)
            whole = file.read(512) == bytes(512)
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        raise ImageError(
            f"{path}: not a tar file that can be read, or a compressed one, which has to be unpacked: {error}"
        ) from None
    if not whole:
        raise ImageError(
            f"{path}: cut or damaged after {len(members)} files: the end mark of a tar is missing; get the shard again"
        )
    return members
