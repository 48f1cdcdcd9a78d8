"""Pictures for training and evaluation: folders of pictures and zip packs to batches; knows no model.

A pack is a zip of `meta.json` (h, w, n, sha256_of_uint8_NHWC) and `*.webp` strips, each some pictures one above the other.
"""

import dataclasses
import glob
import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from uqdm import images
from uqdm.errors import ImageError, LimitError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}
EVALUATION = {"eval", "val", "valid", "validation", "test", "dev"}


def load_pack(path: str | Path) -> NDArray[np.uint8]:
    """All pictures of a pack, (n, h, w, 3) uint8. Raises `ImageError` where it is damaged or no pack."""
    try:
        with zipfile.ZipFile(path) as pack:
            meta = json.loads(pack.read("meta.json"))
            h, w = meta["h"], meta["w"]
            names = sorted(name for name in pack.namelist() if name.endswith(".webp"))
            strips = [np.asarray(Image.open(io.BytesIO(pack.read(name))).convert("RGB")).reshape(-1, h, w, 3) for name in names]
        pictures = np.concatenate(strips)
        right = len(pictures) == meta["n"] and hashlib.sha256(pictures.tobytes()).hexdigest() == meta["sha256_of_uint8_NHWC"]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ImageError(f"{path}: not a pack of pictures (a zip of meta.json and strips): {error}") from None
    if not right:
        raise ImageError(f"{path}: the pictures are not those that meta.json describes ({meta['n']} of {h} x {w}); get the pack again")
    return pictures


@dataclasses.dataclass
class Batches:
    """Batches of pictures, uint8 tensors (B, 3, H, W); iterating again starts again.

    With `crop`, a training set gives random crops and flips from one seed, an evaluation set central crops.
    """

    pictures: Sequence[NDArray[np.uint8]]  # (H, W, 3) each
    batch_size: int
    shuffle: bool = False
    crop: int | None = None
    seed: int = 0

    def __len__(self) -> int:
        return -(-len(self.pictures) // self.batch_size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        random = np.random.default_rng(self.seed)
        order = random.permutation(len(self.pictures)) if self.shuffle else np.arange(len(self.pictures))
        for begin in range(0, len(order), self.batch_size):
            some = [self._one(self.pictures[i], random) for i in order[begin : begin + self.batch_size]]
            yield torch.from_numpy(np.stack(some).transpose(0, 3, 1, 2).copy())

    def _one(self, picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
        if self.crop is None:
            return picture
        spare = picture.shape[0] - self.crop, picture.shape[1] - self.crop
        y, x = (int(random.integers(s + 1)) if self.shuffle else s // 2 for s in spare)
        cut = picture[y : y + self.crop, x : x + self.crop]
        return cut[:, ::-1] if self.shuffle and random.random() < 0.5 else cut


def _files(where: str | Path) -> list[Path]:
    path = Path(where)
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    return sorted(Path(p) for p in glob.glob(str(where), recursive=True))


def _read(files: Sequence[Path], crop: int | None) -> list[NDArray[np.uint8]]:
    """Pictures as RGB; those that are broken or smaller than `crop` are left out, counted and named in a warning."""
    found, left = [], []
    for path in files:
        try:
            pixels = images.read(path, convert=True).pixels
        except (ImageError, LimitError) as error:
            left.append(str(error))
            continue
        if crop is not None and min(pixels.shape[:2]) < crop:
            left.append(f"{path}: {pixels.shape[1]} x {pixels.shape[0]} is smaller than the crop of {crop}")
            continue
        found.append(np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels)
    if left:
        warnings.warn(f"{len(left)} of {len(files)} pictures left out; the first: {left[0]}", stacklevel=3)
    return found


def load_data(
    source: str | Path | Sequence[str | Path], config: object = None, *, crop: int | None = None, seed: int = 0
) -> tuple[Batches, Batches]:
    """Training and evaluation batches: `train_iter, eval_iter = load_data(source, model.config.data)`.

    `source`: a zip pack or several, a folder of pictures (with folders `train` and `val`, `test` or `eval` in it if it has them),
    or a glob. Without such a division every tenth picture is kept for evaluation. `config`: anything with `batch_size` and `shuffle`.
    `crop`: pixels a side; 64 by default for folders, whole pictures for packs. Raises `ImageError` where there is nothing.
    """
    batch_size, shuffle = int(getattr(config, "batch_size", 16)), bool(getattr(config, "shuffle", True))
    sources = [source] if isinstance(source, str | Path) else list(source)
    train: list[NDArray[np.uint8]] = []
    held: list[NDArray[np.uint8]] = []
    for one in sources:
        if Path(one).suffix == ".zip":
            pictures: list[NDArray[np.uint8]] = list(load_pack(one))
            if crop is None and train and train[0].shape != pictures[0].shape:
                raise ImageError(
                    f"{one}: pictures of {pictures[0].shape[:2]} after others of {train[0].shape[:2]}; give crop= to cut both to one size"
                )
            divided = None
        else:
            crop = crop or 64
            files = _files(one)
            if not files:
                raise ImageError(f"{one}: no pictures there; expected a folder or glob of {', '.join(sorted(SUFFIXES))}, or a zip pack")
            root = Path(one) if Path(one).is_dir() else Path(one).parent
            parts = [{p.lower() for p in (f.relative_to(root) if f.is_relative_to(root) else f).parts[:-1]} for f in files]
            evaluation = [bool(p & EVALUATION) for p in parts]
            if any(evaluation) and any("train" in p for p in parts):
                divided = (
                    _read([f for f, e in zip(files, evaluation) if not e], crop),
                    _read([f for f, e in zip(files, evaluation) if e], crop),
                )
            else:
                divided, pictures = None, _read(files, crop)
        if divided is None:
            divided = ([p for i, p in enumerate(pictures) if i % 10], pictures[::10])
        train += divided[0]
        held += divided[1]
    if not held:
        raise ImageError(f"{source}: no usable pictures")
    return Batches(train, batch_size, shuffle, crop, seed), Batches(held, batch_size, False, crop, seed)
