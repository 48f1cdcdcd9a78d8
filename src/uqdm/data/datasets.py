"""CIFAR-10 and ImageNet 64 × 64 as published, and data sets by name: their files as sources of
pictures.

Nothing that a file holds is executed. Pickles are read by a reader that knows only arrays, texts,
lists and dicts.
"""

import dataclasses
import math
import os
import pickle
import re
import struct
import threading
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from uqdm.data.sources import Joined, Pixels, Source, Stack, Subset, rows, side_of
from uqdm.errors import ImageError, SourceError

CIFAR = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
MAX_PICKLE_BYTES = 1 << 28  # an official CIFAR-10 file has 31 MB

# --- CIFAR-10 as published


class _Array:
    """Stands for an array or its type while a pickle is read. It keeps arguments and state; only
    `_pickled` makes something of them.
    """

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _latin(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _frombuffer(buffer: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.state = (1, shape, kind, order == "F", bytes(buffer))
    return array


_KNOWN: dict[tuple[str, str], Any] = {  # what a pickle asks for -> what it gets
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Array,
    ("_codecs", "encode"): _latin,  # Python 3 writes bytes for Python 2 like this
}


class _Reader(pickle._Unpickler):
    """Reads arrays, texts, numbers, lists and dicts. Every other name that the pickle asks for is
    refused.

    This is the reader in Python. The one in C makes room for as many memos as a file says, up to 64
    GB.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is no part of CIFAR-10; it was refused, and nothing of it was run"
            )
        return _KNOWN[module, name]


def pickled(path: Path) -> Source:
    """One official batch: a pickled dict whose b'data' is a uint8 array (n, 3072), with rows of
    red, green, blue.
    """
    try:
        if path.stat().st_size > MAX_PICKLE_BYTES:
            raise ImageError(f"{path} is larger than {MAX_PICKLE_BYTES} bytes; an official file has 31 MB")
        with path.open("rb") as file:
            found = _Reader(file, encoding="bytes").load()
        data = found[b"data"] if b"data" in found else found["data"]
        _, shape, kind, fortran, values = data.state
        code = kind.arguments[0]
        if (
            (code.decode() if isinstance(code, bytes) else code) not in ("u1", "|u1", "B")
            or fortran
            or not isinstance(values, bytes)
        ):
            raise ValueError("its array is not uint8 in rows")
        values = np.frombuffer(values, np.uint8).reshape([int(s) for s in shape])
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    except ImageError:
        raise
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise ImageError(
            f"{path}: not an official CIFAR-10 file (a pickled dict with `data`): {error}; get it again"
        ) from None
    if len(values.shape) != 2 or values.shape[1] != 3072:
        raise ImageError(f"{path}: an array of shape {values.shape}; expected (n, 3072)")
    return Stack(str(path), rows(values, 32))


def cifar(folder: Path) -> tuple[Source, Source]:
    missing = [f for f in CIFAR if not (folder / f).is_file()]
    if missing:
        raise ImageError(
            f"{folder}: {', '.join(missing)} missing; CIFAR-10 has {CIFAR[0]} to {CIFAR[4]} and {CIFAR[5]}: unpack it"
            " again"
        )
    parts = [pickled(folder / f) for f in CIFAR]
    return Joined(parts[:5]), parts[5]


# --- ImageNet 64 × 64 as published

NPZ = re.compile(r"(train|val)_data(?:_batch_(\d+))?\.npz")


class Unpacked:
    """Pictures of one compressed npz batch. All are read into memory when the first is asked for:
    1.6 GB for an official one.
    """

    def __init__(self, where: str, n: int, side: int) -> None:
        self._where, self._n, self._side = where, n, side
        self.sizes = {(side, side)}
        self._stack: Stack | None = None
        self._error: SourceError | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> Pixels:
        with self._lock:
            if self._error:
                raise self._error
            if self._stack is None:
                try:
                    with np.load(self._where, allow_pickle=False) as file:
                        self._stack = Stack(self._where, rows(file["data"], self._side))
                except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
                    self._error = SourceError(
                        f"{self._where}: damaged, its pictures cannot be unpacked: {error}; get it again"
                    )
                    raise self._error from None
        return self._stack[i]

    def name(self, i: int) -> str:
        return f"{self._where}, picture {i}"


def _npz(path: str) -> Source:
    """One official batch: `data`, uint8 (n, 12288), with rows of red, green, blue. An uncompressed
    file is mapped, not read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("data.npy")
            with archive.open(info) as member:
                shape, fortran, kind = _header(member)
                begin = member.tell()
    except KeyError:
        raise ImageError(
            f"{path}: no array `data` in it; expected an official batch of ImageNet 64 × 64 (npz)"
        ) from None
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError(f"{path}: not an npz file that can be read: {error}; get it again") from None
    if kind != np.uint8 or fortran:
        raise ImageError(f"{path}: `data` is {kind}; expected uint8 in rows")
    side = side_of(path, shape)
    if info.file_size != begin + math.prod(shape):
        raise ImageError(
            f"{path}: `data` has {info.file_size - begin} values; its shape {shape} asks for {math.prod(shape)}"
        )
    if info.compress_type != zipfile.ZIP_STORED:
        return Unpacked(path, shape[0], side)
    with open(path, "rb") as file:
        # the lengths of the name and of the extra field end the local header of 30 bytes
        file.seek(info.header_offset + 26)
        begin += info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    if not shape[0]:
        return Stack(path, np.empty((0, side, side, 3), np.uint8))
    return Stack(path, rows(np.memmap(path, np.uint8, "r", begin, shape), side))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(file)
    return tuple(shape), bool(fortran), kind


def imagenet(where: str, files: Sequence[str]) -> tuple[Source, Source | None]:
    """Official batches. `val` is for evaluation, without the duplicates listed in `removed.npy`
    beside it, or in the folder.
    """
    parts: dict[str, dict[int, str]] = {"train": {}, "val": {}}
    for path in files:
        found = NPZ.fullmatch(os.path.basename(path).lower())
        if not found:
            raise ImageError(
                f"{path}: expected the official names, train_data_batch_1.npz to train_data_batch_10.npz and"
                " val_data.npz"
            )
        part, number = parts[found[1]], int(found[2] or 1)
        if number in part:
            raise ImageError(f"{where}: both {part[number]} and {path}; only one can be used")
        part[number] = path
    if os.path.isdir(where):  # a glob may choose
        for part in parts.values():
            missing = sorted(set(range(1, max(part, default=0) + 1)) - set(part))
            if missing:
                raise ImageError(
                    f"{where}: batch {', '.join(map(str, missing))} missing, while {part[max(part)]} is there"
                )
        if 0 < len(parts["train"]) < 10:
            warnings.warn(
                f"{where}: {len(parts['train'])} of ImageNet's 10 training batches are there; the others are missing",
                stacklevel=2,
            )
    train = Joined([_npz(path) for _, path in sorted(parts["train"].items())])
    if not parts["val"]:
        return train, None
    val: Source = Joined([_npz(path) for _, path in sorted(parts["val"].items())])
    places = {os.path.dirname(path) for path in parts["val"].values()} | ({where} if os.path.isdir(where) else set())
    lists = [path for place in sorted(places) if os.path.exists(path := os.path.join(place, "removed.npy"))]
    if lists:
        val = Subset(
            val, np.setdiff1d(np.arange(len(val)), np.concatenate([_removed(path, len(val)) for path in lists]))
        )
    return train, val


def _removed(path: str, n: int) -> NDArray[np.int64]:
    """Numbers of the pictures of val that are also in the training data."""
    try:
        numbers: NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: not a list of duplicates that can be read: {error}") from None
    if (
        numbers.ndim != 1
        or numbers.dtype.kind not in "iu"
        or (numbers.size and not 0 <= numbers.min() <= numbers.max() < n)
    ):
        raise ImageError(
            f"{path}: {numbers.dtype} of shape {numbers.shape}; expected numbers of pictures, 0 to {n - 1}"
        )
    return numbers.astype(np.int64)


# --- data sets by name


@dataclasses.dataclass(frozen=True)
class Named:
    """A data set that has a name: the folders where it is looked for, what must be there, and where
    one gets it.
    """

    folders: tuple[str, ...]
    files: str
    get: str


NAMED = {
    "cifar10": Named(
        ("cifar10", "cifar-10-batches-py"),
        "data_batch_1 to data_batch_5 and test_batch, alone or in cifar-10-batches-py, or packs (cifar10_train.zip,"
        " cifar10_test.zip)",
        "unpack cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html there",
    ),
    "imagenet64": Named(
        ("imagenet64",),
        "train_data_batch_1.npz to train_data_batch_10.npz, val_data.npz and, if you have it, removed.npy (duplicates"
        " in val)",
        "unpack Train(64x64) part1, part2 and Val(64x64), npz format, from image-net.org (download-images, after login)"
        " there",
    ),
}


def by_name(word: str, named: Named, root: Path) -> Path:
    """The folder of a named data set: in `root`, or one with just that name."""
    below = {p.name.lower(): p for p in sorted(root.iterdir(), reverse=True) if p.is_dir()} if root.is_dir() else {}
    for folder in named.folders:
        if folder in below:
            return below[folder]
    if Path(word).exists():
        return Path(word)
    raise ImageError(
        f"{word}: not found; expected in the folder {root / named.folders[0]}: {named.files}. "
        f"To get it, {named.get}; or give the path of a folder in place of the name, or another root="
    )
