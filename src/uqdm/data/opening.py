"""A path, a glob, a name or an array as sources of pictures: for training, and for evaluation if a
source sets some aside.
"""

import functools
import glob
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from uqdm.data.datasets import CIFAR, NAMED, NPZ, by_name, cifar, imagenet
from uqdm.data.sources import Cache, Data, Files, Joined, Several, Shards, Source, Stack, load_pack, npy_file, stack
from uqdm.errors import ImageError
from uqdm.files import READABLE

EVALUATION = {"eval", "val", "valid", "validation", "test", "dev"}
MAX_NAMES = 1 << 20  # that one {a..b} may stand for


def expand(pattern: str) -> list[str]:
    """`a{8..10}b` and `{c,d}` written out, as a shell does it. `{000..010}` keeps its zeros."""
    for found in re.finditer(r"\{([^{}]*)\}", pattern):
        ends = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", found[1])
        if ends:
            numbers = range(int(ends[1]), int(ends[2]) + 1)
            if len(numbers) > MAX_NAMES:
                raise ImageError(f"{pattern} stands for {len(numbers)} files; the limit is {MAX_NAMES}")
            options = [f"{i:0{len(ends[1])}}" for i in numbers]
        elif "," in found[1]:
            options = found[1].split(",")
        else:
            continue
        return [
            whole for option in options for whole in expand(pattern[: found.start()] + option + pattern[found.end() :])
        ]
    return [pattern]


def _walk(folder: str) -> list[str]:
    return sorted(os.path.join(where, file) for where, _, files in os.walk(folder, followlinks=True) for file in files)


def _listed(where: str) -> list[str]:
    """The files that a path, a glob or a pattern with braces stands for. Raises `ImageError` if a
    named one is missing.
    """
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
    """Training and evaluation, by folders below `base` named `train` and `val`, `test` ... or, for
    `stems`, words in file names.

    If one of the two is missing, all files are for training.
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
                return cifar(place)
    files = _listed(where)
    openers: dict[str, Callable[[list[str]], Source]] = {
        ".zip": lambda some: Joined([Stack(f, load_pack(f)) for f in some]),
        ".tar": lambda some: Shards(some, cache),
        ".npy": lambda some: Joined([npy_file(f) for f in some]),
    }
    kinds: dict[str, list[str]] = {".npz": [], "pictures": [], **{k: [] for k in openers}}
    for f in files:
        suffix = _suffix(f)
        if suffix in kinds and not (folder and suffix == ".npz" and not NPZ.fullmatch(os.path.basename(f).lower())):
            kinds[suffix].append(f)
        elif suffix in READABLE or not folder:  # a file that was asked for by name or glob counts as a picture
            kinds["pictures"].append(f)
    present = [k for k, some in kinds.items() if some]
    if not present:
        raise ImageError(
            f"{where}: no pictures there; expected a folder or glob of {', '.join(sorted(READABLE))}, zip packs, tar"
            f" shards, npy arrays, CIFAR-10 or ImageNet 64 × 64 as published, or a name ({', '.join(NAMED)})"
        )
    if not folder and len(present) > 1:
        raise ImageError(f"{where}: {' and '.join(present)} are together in one place; give each kind alone")
    kind = present[0]
    some = kinds[kind]
    if kind == ".npz":
        return imagenet(where, some)
    for f in some:
        if kind == "pictures" and _suffix(f) in (".gz", ".tgz", ".bz2", ".xz", ".zst"):
            raise ImageError(
                f"{f}: it is compressed, so no picture can be read without those before it; unpack it first"
            )
    base = where if folder else os.path.commonpath([os.path.dirname(os.path.abspath(f)) for f in some])
    open_: Callable[[list[str]], Source] = (lambda some: Files(some, cache)) if kind == "pictures" else openers[kind]
    train, held = _divided(some, base, stems=kind != "pictures")
    return open_(train), open_(held) if held else None


def open_source(source: Data, root: str | Path = "data", cache: Cache | None = None) -> tuple[Source, Source | None]:
    """Pictures for training, and for evaluation if the source itself sets some aside.

    `source` is a path, a glob, a pattern with braces, a name from `NAMED` (any case; looked for
    below `root`), an array, a list of arrays (H, W, 3), or any `Source`. Raises `ImageError` if
    there is nothing, or not what was expected.
    """
    cache = cache or Cache()
    named = NAMED.get(re.sub(r"[-_ ]", "", source.lower())) if isinstance(source, str) else None
    if isinstance(source, str) and named:
        folder = by_name(source, named, Path(root))
        train, held = _open_path(os.fspath(folder), cache)
        if not len(train) or held is None:
            lacking = "for evaluation" if held is None else "for training"
            raise ImageError(
                f"{folder}: nothing {lacking}; {source} is {named.files}; give the path itself to use what is there"
            )
        return train, held
    if isinstance(source, str | Path):
        return _open_path(os.fspath(source), cache)
    if isinstance(source, np.ndarray):
        return stack("the array", source), None
    if isinstance(source, list | tuple):
        return Several(source), None
    return source, None  # type: ignore[return-value]
