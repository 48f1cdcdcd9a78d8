"""Where pictures come from: folders, packs, arrays, shards and the official data sets, each a sequence of RGB arrays; knows no batches.

A source is opened once, which finds every fault of its files that can be seen without decoding; a picture is decoded when it is asked
for. Nothing that a file holds is executed: pickles are read by a reader that knows arrays, texts, lists and dicts only.

A pack is a zip of `meta.json` (h, w, n, sha256_of_uint8_NHWC) and `*.webp` strips, each some pictures one above the other.
"""

import dataclasses
import functools
import glob
import hashlib
import io
import json
import math
import os
import pickle
import re
import struct
import tarfile
import threading
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uqdm import images
from uqdm.errors import ImageError, LimitError, SourceError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}
EVALUATION = {"eval", "val", "valid", "validation", "test", "dev"}
CIFAR = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
CACHE_BYTES = 2 << 30  # of decoded pictures
MAX_PICKLE_BYTES = 1 << 28  # an official CIFAR-10 file has 31 MB
MAX_NAMES = 1 << 20  # that one {a..b} may stand for

Pixels = NDArray[np.uint8]  # (H, W, 3), or (n, H, W, 3)


class Source(Protocol):
    """Pictures by number: uint8 (H, W, 3). `source[i]` raises `ImageError` where that picture is broken; any thread may ask.

    May also have `sizes`, the set of all (H, W) if known without decoding, and `name(i)`, what to call picture i in a message.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Pixels: ...


Data = str | Path | Pixels | Source | Sequence[Any]


def sizes(source: Source) -> set[tuple[int, int]] | None:
    """Every (H, W) that occurs, or None where only decoding would tell."""
    found: set[tuple[int, int]] | None = getattr(source, "sizes", None)
    return found


def name(source: Source, i: int) -> str:
    """What to call picture i in a message."""
    own = getattr(source, "name", None)
    return str(own(i)) if callable(own) else f"picture {i}"


# --- sources made of others ------------------------------------------------------------------------------------------------------


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


class Part:
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
    """Training and evaluation where nothing divides them: pictures 0, 10, 20 ... are for evaluation."""
    numbers = np.arange(len(source))
    return Part(source, numbers[numbers % 10 != 0]), Part(source, numbers[::10])


# --- arrays ----------------------------------------------------------------------------------------------------------------------


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
    """Arrays of any sizes: (H, W, 3), or what else `images.from_array` takes."""

    def __init__(self, arrays: Iterable[NDArray[Any]]) -> None:
        self._arrays = [_rgb(images.from_array(a)) for a in arrays]
        self.sizes = {(int(a.shape[0]), int(a.shape[1])) for a in self._arrays}

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, i: int) -> Pixels:
        return self._arrays[i]


def _stack(where: str, array: NDArray[Any]) -> Stack:
    """An array (n, H, W, 3) or (n, 3, H, W)."""
    if array.dtype != np.uint8 or array.ndim != 4 or 3 not in (array.shape[1], array.shape[3]) or 0 in array.shape[1:]:
        raise ImageError(f"{where}: {array.dtype} of shape {array.shape}; expected uint8 (n, H, W, 3) or (n, 3, H, W)")
    return Stack(where, array if array.shape[3] == 3 else array.transpose(0, 2, 3, 1))


def _side(where: str, shape: Sequence[int]) -> int:
    """Of the square pictures that are rows (n, 3 · side · side): all red values, then green, then blue."""
    side = math.isqrt(shape[1] // 3) if len(shape) == 2 else 0
    if side == 0 or 3 * side * side != shape[1]:
        raise ImageError(f"{where}: an array of shape {tuple(shape)}; expected (n, 3 · side · side), such as (n, 12288) for 64 × 64")
    return side


def _rows(array: Pixels, side: int) -> Pixels:
    return array.reshape(len(array), 3, side, side).transpose(0, 2, 3, 1)


def _npy(path: str) -> Source:
    try:
        return _stack(path, np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: not a NumPy array that can be read: {error}") from None


# --- packs -----------------------------------------------------------------------------------------------------------------------


def load_pack(path: str | Path) -> Pixels:
    """All pictures of a pack, (n, h, w, 3) uint8. Raises `ImageError` where it is damaged or no pack."""
    try:
        with zipfile.ZipFile(path) as pack:
            meta = json.loads(pack.read("meta.json"))
            h, w = meta["h"], meta["w"]
            names = sorted(name for name in pack.namelist() if name.endswith(".webp"))
            strips = [np.asarray(Image.open(io.BytesIO(pack.read(name))).convert("RGB")).reshape(-1, h, w, 3) for name in names]
        pictures = np.concatenate(strips)
        right = len(pictures) == meta["n"] and hashlib.sha256(pictures.tobytes()).hexdigest() == meta["sha256_of_uint8_NHWC"]
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError(f"{path}: not a pack of pictures (a zip of meta.json and strips): {error}") from None
    if not right:
        raise ImageError(f"{path}: the pictures are not those that meta.json describes ({meta['n']} of {h} x {w}); get the pack again")
    return pictures


# --- picture files and shards ----------------------------------------------------------------------------------------------------


class Cache:
    """The pictures decoded last, up to `limit` bytes together; any thread may ask."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit, self.size = limit, 0
        self._kept: OrderedDict[Hashable, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], Pixels]) -> Pixels:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pixels = decode()  # not under the lock: decoding is what the threads are for
        pixels.setflags(write=False)
        with self._lock:
            if key not in self._kept and pixels.nbytes <= self.limit:
                self._kept[key] = pixels
                self.size += pixels.nbytes
                while self.size > self.limit:
                    self.size -= self._kept.popitem(last=False)[1].nbytes
        return pixels


def _rgb(picture: images.Picture) -> Pixels:
    """Grey as RGB; alpha is dropped."""
    return np.repeat(picture.pixels, 3, 2) if picture.pixels.shape[2] == 1 else picture.pixels


def _decode(what: str, source: str | bytes) -> Pixels:
    try:
        return _rgb(images.read(source, convert=True))
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
    """Picture files inside tar files that are not compressed (WebDataset): found when opened, then read from where they lie.

    A shard is opened anew for each picture: it costs little beside decoding, and thousands of shards need no open files.
    """

    def __init__(self, paths: Sequence[str], cache: Cache) -> None:
        self._paths, self._cache = list(paths), cache
        self._names: list[str] = []
        found: list[tuple[int, int, int]] = []  # shard, offset, size
        for s, path in enumerate(self._paths):
            for member in _members(path):
                if Path(member.name).suffix.lower() in SUFFIXES:
                    self._names.append(member.name)
                    found.append((s, member.offset_data, member.size))
        if not found:
            raise ImageError(f"{self._paths[0]}: no pictures in the shards; expected members that end in {', '.join(sorted(SUFFIXES))}")
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
    """The plain files of a tar. Raises `ImageError` where it is cut: tarfile itself takes a broken header for the end."""
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [m for m in tar if m.isreg() and not m.issparse()]
            file.seek(tar.offset)
            whole = file.read(512) == bytes(512)
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        raise ImageError(f"{path}: not a tar file that can be read, or a compressed one, which has to be unpacked: {error}") from None
    if not whole:
        raise ImageError(f"{path}: cut or damaged after {len(members)} files: the end mark of a tar is missing; get the shard again")
    return members


# --- CIFAR-10 as published -------------------------------------------------------------------------------------------------------


class _Array:
    """What stands for an array or its type while a pickle is read: arguments and state, of which nothing is made but by `_pickled`."""

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
    ("_codecs", "encode"): _latin,  # how Python 3 writes bytes for Python 2
}


class _Reader(pickle._Unpickler):
    """Arrays, texts, numbers, lists and dicts; every other name that the pickle asks for is refused.

    The reader in Python: that in C makes room for as many memos as a file says, up to 64 GB.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of CIFAR-10; refused, nothing of it was run")
        return _KNOWN[module, name]


def _pickled(path: Path) -> Source:
    """One official batch: a pickled dict whose b'data' is a uint8 array (n, 3072), rows red, green, blue."""
    try:
        if path.stat().st_size > MAX_PICKLE_BYTES:
            raise ImageError(f"{path}: larger than {MAX_PICKLE_BYTES} bytes; an official file has 31 MB")
        with path.open("rb") as file:
            found = _Reader(file, encoding="bytes").load()
        data = found[b"data"] if b"data" in found else found["data"]
        _, shape, kind, fortran, values = data.state
        code = kind.arguments[0]
        if (code.decode() if isinstance(code, bytes) else code) not in ("u1", "|u1", "B") or fortran or not isinstance(values, bytes):
            raise ValueError("its array is not of uint8 in rows")
        rows = np.frombuffer(values, np.uint8).reshape([int(s) for s in shape])
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from None
    except ImageError:
        raise
    except Exception as error:  # a broken or hostile pickle can raise anything
        raise ImageError(f"{path}: not an official CIFAR-10 file (a pickled dict with `data`): {error}; get it again") from None
    if len(rows.shape) != 2 or rows.shape[1] != 3072:
        raise ImageError(f"{path}: an array of shape {rows.shape}; expected (n, 3072)")
    return Stack(str(path), _rows(rows, 32))


def _cifar(folder: Path) -> tuple[Source, Source]:
    missing = [f for f in CIFAR if not (folder / f).is_file()]
    if missing:
        raise ImageError(f"{folder}: {', '.join(missing)} missing; CIFAR-10 has {CIFAR[0]} to {CIFAR[4]} and {CIFAR[5]}: unpack it again")
    parts = [_pickled(folder / f) for f in CIFAR]
    return Joined(parts[:5]), parts[5]


# --- ImageNet 64 × 64 as published -----------------------------------------------------------------------------------------------

_NPZ = re.compile(r"(train|val)_data(?:_batch_(\d+))?\.npz")


class Unpacked:
    """Pictures of one compressed npz batch, all taken into memory when the first is asked for: 1.6 GB for an official one."""

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
                        self._stack = Stack(self._where, _rows(file["data"], self._side))
                except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
                    self._error = SourceError(f"{self._where}: damaged, its pictures cannot be unpacked: {error}; get it again")
                    raise self._error from None
        return self._stack[i]

    def name(self, i: int) -> str:
        return f"{self._where}, picture {i}"


def _npz(path: str) -> Source:
    """One official batch: `data`, uint8 (n, 12288), rows red, green, blue. Mapped, not read, where the file is not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("data.npy")
            with archive.open(info) as member:
                shape, fortran, kind = _header(member)
                begin = member.tell()
    except KeyError:
        raise ImageError(f"{path}: no array `data` in it; expected an official batch of ImageNet 64 × 64 (npz)") from None
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError(f"{path}: not an npz file that can be read: {error}; get it again") from None
    if kind != np.uint8 or fortran:
        raise ImageError(f"{path}: `data` is {kind}; expected uint8 in rows")
    side = _side(path, shape)
    if info.file_size != begin + math.prod(shape):
        raise ImageError(f"{path}: `data` has {info.file_size - begin} values; its shape {shape} asks for {math.prod(shape)}")
    if info.compress_type != zipfile.ZIP_STORED:
        return Unpacked(path, shape[0], side)
    with open(path, "rb") as file:
        file.seek(info.header_offset + 26)  # lengths of the name and of the extra field, which end the local header of 30 bytes
        begin += info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    if not shape[0]:
        return Stack(path, np.empty((0, side, side, 3), np.uint8))
    return Stack(path, _rows(np.memmap(path, np.uint8, "r", begin, shape), side))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"array format {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(file)
    return tuple(shape), bool(fortran), kind


def _imagenet(where: str, files: Sequence[str]) -> tuple[Source, Source | None]:
    """Official batches. `val` is for evaluation, without the duplicates that a `removed.npy` beside it, or in the folder, numbers."""
    parts: dict[str, dict[int, str]] = {"train": {}, "val": {}}
    for path in files:
        found = _NPZ.fullmatch(os.path.basename(path).lower())
        if not found:
            raise ImageError(f"{path}: expected the official names, train_data_batch_1.npz to train_data_batch_10.npz and val_data.npz")
        part, number = parts[found[1]], int(found[2] or 1)
        if number in part:
            raise ImageError(f"{where}: both {part[number]} and {path}; one of them is too many")
        part[number] = path
    if os.path.isdir(where):  # a glob may choose
        for part in parts.values():
            missing = sorted(set(range(1, max(part, default=0) + 1)) - set(part))
            if missing:
                raise ImageError(f"{where}: batch {', '.join(map(str, missing))} missing, while {part[max(part)]} is there")
        if 0 < len(parts["train"]) < 10:
            warnings.warn(f"{where}: {len(parts['train'])} of ImageNet's 10 training batches; the others are not there", stacklevel=2)
    train = Joined([_npz(path) for _, path in sorted(parts["train"].items())])
    if not parts["val"]:
        return train, None
    val: Source = Joined([_npz(path) for _, path in sorted(parts["val"].items())])
    places = {os.path.dirname(path) for path in parts["val"].values()} | ({where} if os.path.isdir(where) else set())
    lists = [path for place in sorted(places) if os.path.exists(path := os.path.join(place, "removed.npy"))]
    if lists:
        val = Part(val, np.setdiff1d(np.arange(len(val)), np.concatenate([_removed(path, len(val)) for path in lists])))
    return train, val


def _removed(path: str, n: int) -> NDArray[np.int64]:
    """Numbers of the pictures of val that are in the training data, too."""
    try:
        numbers: NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(f"{path}: not a list of duplicates that can be read: {error}") from None
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or (numbers.size and not 0 <= numbers.min() <= numbers.max() < n):
        raise ImageError(f"{path}: {numbers.dtype} of shape {numbers.shape}; expected numbers of pictures, 0 to {n - 1}")
    return numbers.astype(np.int64)


# --- data sets by name -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Named:
    """A data set that has a name: folders it is looked for in, what has to be there, where it is to be had."""

    folders: tuple[str, ...]
    files: str
    get: str


NAMED = {
    "cifar10": Named(
        ("cifar10", "cifar-10-batches-py"),
        "data_batch_1 to data_batch_5 and test_batch, alone or in cifar-10-batches-py, or packs (cifar10_train.zip, cifar10_test.zip)",
        "unpack cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html there",
    ),
    "imagenet64": Named(
        ("imagenet64",),
        "train_data_batch_1.npz to train_data_batch_10.npz, val_data.npz and, if you have it, removed.npy (duplicates in val)",
        "unpack Train(64x64) part1, part2 and Val(64x64), npz format, from image-net.org (download-images, after login) there",
    ),
}


def _by_name(word: str, named: Named, root: Path) -> Path:
    """The folder of a named data set: in `root`, or one of just that name."""
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


# --- opening ---------------------------------------------------------------------------------------------------------------------


def expand(pattern: str) -> list[str]:
    """`a{8..10}b` and `{c,d}` written out, as a shell would; `{000..010}` keeps its zeros."""
    for found in re.finditer(r"\{([^{}]*)\}", pattern):
        ends = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", found[1])
        if ends:
            numbers = range(int(ends[1]), int(ends[2]) + 1)
            if len(numbers) > MAX_NAMES:
                raise ImageError(f"{pattern}: stands for {len(numbers)} files; the limit is {MAX_NAMES}")
            options = [f"{i:0{len(ends[1])}}" for i in numbers]
        elif "," in found[1]:
            options = found[1].split(",")
        else:
            continue
        return [whole for option in options for whole in expand(pattern[: found.start()] + option + pattern[found.end() :])]
    return [pattern]


def _walk(folder: str) -> list[str]:
    return sorted(os.path.join(where, file) for where, _, files in os.walk(folder, followlinks=True) for file in files)


def _listed(where: str) -> list[str]:
    """The files that a path, a glob or a pattern with braces stands for. Raises `ImageError` where one that is named is not there."""
    names = [where] if os.path.exists(where) else expand(where)
    files, missing = [], []
    for one in names:
        if os.path.isdir(one):
            files += _walk(one)
        elif os.path.exists(one):
            files.append(one)
        elif any(c in one for c in "*?["):
            files += sorted(f for f in glob.glob(one, recursive=True) if not os.path.isdir(f))
        else:
            missing.append(one)
    if missing and len(names) > 1:
        raise ImageError(f"{where}: {len(missing)} of {len(names)} are not there; the first: {missing[0]}")
    return files


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _divided(files: list[str], base: str, stems: bool) -> tuple[list[str], list[str]]:
    """Training and evaluation, by folders below `base` named `train` and `val`, `test` ..., or, for `stems`, words in file names.

    Where not both are there, all files and none.
    """

    @functools.cache
    def folders(folder: str) -> set[str]:
        return set(os.path.relpath(folder or ".", base).lower().split(os.sep))

    parts = [os.path.split(f) for f in files]
    found = [folders(folder) | set(re.findall(r"[a-z]+", file.lower()) if stems else ()) for folder, file in parts]
    evaluation = [bool(w & EVALUATION) for w in found]
    if not any(evaluation) or not any("train" in w for w in found):
        return files, []
    return [f for f, e in zip(files, evaluation) if not e], [f for f, e in zip(files, evaluation) if e]


def _open_path(where: str, cache: Cache) -> tuple[Source, Source | None]:
    folder = os.path.isdir(where)
    if folder:
        for place in (Path(where), Path(where) / "cifar-10-batches-py"):
            if any((place / f).is_file() for f in CIFAR):
                return _cifar(place)
    files = _listed(where)
    openers: dict[str, Callable[[list[str]], Source]] = {
        ".zip": lambda some: Joined([Stack(f, load_pack(f)) for f in some]),
        ".tar": lambda some: Shards(some, cache),
        ".npy": lambda some: Joined([_npy(f) for f in some]),
    }
    kinds: dict[str, list[str]] = {".npz": [], "pictures": [], **{k: [] for k in openers}}
    for f in files:
        suffix = _suffix(f)
        if suffix in kinds and not (folder and suffix == ".npz" and not _NPZ.fullmatch(os.path.basename(f).lower())):
            kinds[suffix].append(f)
        elif suffix in SUFFIXES or not folder:  # a file that was asked for by name or glob is taken for a picture
            kinds["pictures"].append(f)
    present = [k for k, some in kinds.items() if some]
    if not present:
        raise ImageError(
            f"{where}: no pictures there; expected a folder or glob of {', '.join(sorted(SUFFIXES))}, zip packs, tar shards, npy arrays, "
            f"CIFAR-10 or ImageNet 64 × 64 as published, or a name ({', '.join(NAMED)})"
        )
    if not folder and len(present) > 1:
        raise ImageError(f"{where}: {' and '.join(present)} together; give each kind of its own")
    kind = present[0]
    some = kinds[kind]
    if kind == ".npz":
        return _imagenet(where, some)
    for f in some:
        if kind == "pictures" and _suffix(f) in (".gz", ".tgz", ".bz2", ".xz", ".zst"):
            raise ImageError(f"{f}: compressed, so that no picture could be read without those before it; unpack it first")
    base = where if folder else os.path.commonpath([os.path.dirname(os.path.abspath(f)) for f in some])
    open_: Callable[[list[str]], Source] = (lambda some: Files(some, cache)) if kind == "pictures" else openers[kind]
    train, held = _divided(some, base, stems=kind != "pictures")
    return open_(train), open_(held) if held else None


def open_source(source: Data, root: str | Path = "data", cache: Cache | None = None) -> tuple[Source, Source | None]:
    """Pictures for training, and for evaluation where the source itself sets some aside.

    `source`: a path, a glob, a pattern with braces, a name from `NAMED` (any case; looked for below `root`), an array, a list of
    arrays (H, W, 3), or any `Source`. Raises `ImageError` where there is nothing, or not what was expected.
    """
    cache = cache or Cache()
    named = NAMED.get(re.sub(r"[-_ ]", "", source.lower())) if isinstance(source, str) else None
    if isinstance(source, str) and named:
        folder = _by_name(source, named, Path(root))
        train, held = _open_path(os.fspath(folder), cache)
        if not len(train) or held is None:
            lacking = "for evaluation" if held is None else "for training"
            raise ImageError(f"{folder}: nothing {lacking}; {source} is {named.files}; give the path itself to use what is there")
        return train, held
    if isinstance(source, str | Path):
        return _open_path(os.fspath(source), cache)
    if isinstance(source, np.ndarray):
        return _stack("the array", source), None
    if isinstance(source, list | tuple):
        return Several(source), None
    return source, None  # type: ignore[return-value]
