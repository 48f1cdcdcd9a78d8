"""Pictures for training and evaluation: sources to batches, and any batch by its number. Knows no
model.

1. A batch is a function of the seed and its number, whatever was read before, in any order, in any
   thread.
2. The stream of pictures is one epoch after the other, each a permutation of all. With weights, it
   is drawn with replacement.
3. What is done to a picture (scale, crop, flip) is a function of the seed and its place in the
   stream.

The exception is a file that becomes unreadable, or readable, while it is in use.
"""

import dataclasses
import functools
import itertools
import math
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from uqdm.data.opening import open_source
from uqdm.data.sources import Cache, Data, Joined, Pixels, Source, every_tenth, name, sizes
from uqdm.errors import ImageError, SourceError

__all__ = ["Augment", "Batches", "Pictures", "Source", "load_data"]

NAMED = 20  # so many pictures are named in a report
_ORDER, _DRAW, _AUGMENT = range(3)  # what a random generator is for, so that no two share their numbers


@dataclasses.dataclass(frozen=True)
class Augment:
    """What happens to a picture on its way into a batch.

    `crop` is pixels a side; None takes whole pictures. `flip` turns half of the pictures from left
    to right. `scales` are the least and the greatest factor by which a picture is reduced before
    the crop, 0 < least <= greatest <= 1. One is drawn for each picture, evenly in its logarithm,
    among those that leave room for the crop. Evaluation takes central crops. It does not flip or
    reduce.
    """

    crop: int | None = None
    flip: bool = True
    scales: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.crop is not None and self.crop < 1:
            raise ValueError(f"crop is {self.crop}; expected at least 1 pixel")
        if self.scales is not None and not 0 < self.scales[0] <= self.scales[1] <= 1:
            raise ValueError(f"scales are {self.scales}; expected 0 < least <= greatest <= 1")
        if self.scales is not None and self.crop is None:
            raise ValueError("scales without a crop would give pictures of many sizes; give crop=")

    def central(self, picture: Pixels) -> Pixels:
        """For evaluation."""
        if self.crop is None:
            return picture
        y, x = ((side - self.crop) // 2 for side in picture.shape[:2])
        return picture[y : y + self.crop, x : x + self.crop]

    def drawn(self, picture: Pixels, numbers: NDArray[np.float64]) -> Pixels:
        """A picture for training. `numbers` are four in [0, 1), for scale, y, x and flip."""
        scale, down, right, side = numbers.tolist()
        if self.crop is not None:
            step = self.step(min(picture.shape[:2]), scale)
            room = (max(self.crop, int(d / step + 1e-9)) - self.crop + 1 for d in picture.shape[:2])
            y, x = (int(u * r) for u, r in zip((down, right), room))
            picture = reduced(picture, y, x, self.crop, step)
        return picture[:, ::-1] if self.flip and side < 0.5 else picture

    def step(self, shorter: int, u: float) -> float:
        """How many pixels of the picture make one of the crop, along a side."""
        if self.scales is None or self.crop is None:
            return 1.0
        least, greatest = (max(s, self.crop / shorter) for s in self.scales)
        return max(1.0, 1 / (least * float((greatest / least) ** u)))


def reduced(picture: Pixels, y: int, x: int, size: int, step: float) -> Pixels:
    """The square of `size` at (y, x) of the picture, reduced by `step` with a box filter. Only what
    it covers is read.
    """
    if step == 1:
        return picture[y : y + size, x : x + size]
    if step == int(step):
        k = int(step)
        piece = np.ascontiguousarray(picture[y * k : (y + size) * k, x * k : (x + size) * k])
        return np.asarray(Image.fromarray(piece).reduce(k))  # rounds once: the means of k × k blocks
    top, left = int(y * step), int(x * step)
    piece = np.ascontiguousarray(picture[top : math.ceil((y + size) * step), left : math.ceil((x + size) * step)])
    h, w = piece.shape[:2]
    box = (x * step - left, y * step - top, min(w, (x + size) * step - left), min(h, (y + size) * step - top))
    return np.asarray(Image.fromarray(piece).resize((size, size), Image.Resampling.BOX, box=box))


@functools.lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(n)


class Pictures(Sequence[Pixels]):
    """Whole pictures (H, W, 3) uint8, decoded when they are asked for. A slice decodes nothing. A
    broken picture is replaced by the next usable one.
    """

    def __init__(self, get: Callable[[int], Pixels], numbers: range) -> None:
        self._get, self._numbers = get, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, i: int) -> Pixels: ...
    @overload
    def __getitem__(self, i: slice) -> "Pictures": ...
    def __getitem__(self, i: int | slice) -> "Pixels | Pictures":
        return Pictures(self._get, self._numbers[i]) if isinstance(i, slice) else self._get(self._numbers[i])


class _Small(ImageError):
    """A picture that is not broken, but smaller than the crop."""


@dataclasses.dataclass(eq=False)
class Batches:
    """Batches of pictures, uint8 tensors (B, 3, H, W): `batch(step)` for any step, or an iteration
    over the first epoch.

    `shuffle` is for training: random order, scales, crops and flips, all from `seed`. Without it
    pictures come in order and are cut in the middle. `weights` are shares of the sources, in their
    order, instead of their sizes. Pictures are then drawn with replacement, and an epoch is only a
    number of batches. `every_second` gives the second, fourth, ... batch of `batch` and `ahead`
    instead, whole: for example larger crops, and fewer of them.

    A picture that is broken, or smaller than the crop, is left out. The next usable one stands in
    for it, and `left_out` says why, by number in `pictures`. The first is a warning; `report()`
    sums up. Raises `ImageError` if no picture is usable, if a whole file of pictures is broken, and
    if a batch would hold several sizes.
    """

    sources: Sequence[Source]
    batch_size: int
    shuffle: bool = False
    augment: Augment = Augment()
    seed: int = 0
    weights: Sequence[float] | None = None
    every_second: "Batches | None" = None
    left_out: dict[int, str] = dataclasses.field(default_factory=dict, init=False)
    broken: set[int] = dataclasses.field(default_factory=set, init=False)  # those that are not only small

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.seed < 0:
            raise ValueError(f"batch_size is {self.batch_size}, seed {self.seed}; expected at least 1 and at least 0")
        self._all = Joined(self.sources)
        self._lock = threading.Lock()
        self._shares: NDArray[np.float64] | None = None
        if self.weights is not None:
            weights = np.array(self.weights, np.float64)
            lengths = np.array([len(s) for s in self.sources])
            if (
                weights.shape != lengths.shape
                or not np.isfinite(weights).all()
                or (weights < 0).any()
                or not weights.any()
            ):
                raise ValueError(
                    f"weights are {self.weights}; expected one for each of {len(lengths)} sources, none negative, not"
                    " all 0"
                )
            if not self.shuffle:
                raise ValueError("weights draw pictures at random, which needs shuffle")
            if (lengths[weights > 0] == 0).any():
                raise ImageError("a source with a weight has no pictures")
            shares = np.cumsum(weights)
            self._shares = shares / shares[-1]

    @property
    def pictures(self) -> Pictures:
        """All pictures, whole, one source after the other."""
        return Pictures(self._usable, range(len(self._all)))

    def __len__(self) -> int:
        """Batches in an epoch. The last may be smaller."""
        return -(-len(self._all) // self.batch_size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        n = len(self._all)
        for begin in range(0, n, self.batch_size):
            yield self._stream(begin, min(n, begin + self.batch_size))

    def batch(self, step: int) -> torch.Tensor:
        """Batch `step` of the endless stream, always full: at the end of an epoch it goes on with
        the beginning of the next.
        """
        return self.rows(step, 0, self.batch_size)

    def rows(self, step: int, begin: int, end: int) -> torch.Tensor:
        """Rows `begin` to `end` of `batch(step)`. No others are decoded."""
        if step < 0 or not 0 <= begin < end <= self.batch_size:
            raise ValueError(
                f"step {step}, rows {begin} to {end}; expected a step from 0 and rows of a batch of {self.batch_size}"
            )
        if self.every_second is not None:
            if step % 2:
                return self.every_second.batch(step // 2)
            step //= 2
        return self._stream(step * self.batch_size + begin, step * self.batch_size + end)

    def ahead(
        self, numbers: int | Iterable[int], depth: int = 4, workers: int = 2, rows: slice | None = None
    ) -> Generator[torch.Tensor, None, None]:
        """`batch(n)` for these numbers in their order, or from a first one on without end.

        `workers` threads prepare `depth` batches ahead. `rows` takes only these of each batch. It
        begins with the first `next`; closing it ends the threads. Raises what `batch` raises.
        """
        begin, end, stride = (rows or slice(None)).indices(self.batch_size)
        if stride != 1 or depth < 1 or workers < 1:
            raise ValueError(
                f"rows {rows}, depth {depth}, workers {workers}; expected neighbouring rows and at least 1 of the"
                " others"
            )
        steps = iter(numbers) if isinstance(numbers, Iterable) else itertools.count(numbers)
        return self._ahead(steps, depth, workers, begin, end)

    def _ahead(
        self, steps: Iterator[int], depth: int, workers: int, begin: int, end: int
    ) -> Generator[torch.Tensor, None, None]:
        pool = ThreadPoolExecutor(workers, "uqdm-batches")
        try:
            waiting = deque(pool.submit(self.rows, step, begin, end) for step in itertools.islice(steps, depth))
            while waiting:
                ready = waiting.popleft().result()
                waiting.extend(pool.submit(self.rows, step, begin, end) for step in itertools.islice(steps, 1))
                yield ready
        finally:
            pool.shutdown(cancel_futures=True)

    def report(self) -> str | None:
        """How many pictures were left out so far, and why, in a line for each of the first NAMED.
        None if there was none.
        """
        with self._lock:
            if not self.left_out:
                return None
            first = self.left_out[min(self.left_out)]
            named = [self.left_out[i] for i in sorted(self.left_out)[1:NAMED]]
            more = [f"and {len(self.left_out) - NAMED} more"] if len(self.left_out) > NAMED else []
            return "\n  ".join(
                [
                    f"{len(self.left_out)} of {len(self._all)} pictures left out so far; the first: {first}",
                    *named,
                    *more,
                ]
            )

    def _number(self, k: int) -> int:
        """Which picture is the k-th of the stream."""
        if self._shares is not None:
            random = np.random.default_rng((self.seed, _DRAW, k))
            s = int(np.searchsorted(self._shares, random.random(), "right"))
            return int(random.integers(self._all.starts[s], self._all.starts[s + 1]))
        epoch, place = divmod(k, len(self._all))
        return int(_permutation(len(self._all), self.seed, epoch)[place]) if self.shuffle else place

    def _stream(self, begin: int, end: int) -> torch.Tensor:
        """Pictures `begin` to `end` of the stream."""
        if not len(self._all):
            raise ImageError(
                "there are no pictures for this part of the data: all of them are in the other; give more, or held="
            )
        out: torch.Tensor | None = None
        for k in range(begin, end):
            picture = self._usable(self._number(k))
            if self.shuffle:
                picture = self.augment.drawn(picture, np.random.default_rng((self.seed, _AUGMENT, k)).random(4))
            else:
                picture = self.augment.central(picture)
            h, w = picture.shape[:2]
            if out is None:
                out = torch.empty((end - begin, 3, h, w), dtype=torch.uint8)
            if out.shape[2:] != (h, w):
                raise ImageError(
                    f"pictures of {w} x {h} and of {out.shape[3]} x {out.shape[2]} in one batch; give crop= to cut to"
                    " one size"
                )
            out.numpy()[k - begin] = picture.transpose(2, 0, 1)
        assert out is not None
        return out

    def _usable(self, first: int) -> Pixels:
        """Picture `first`, or if it cannot be used, the next that can."""
        n = len(self._all)
        for i in itertools.chain(range(first, n), range(first)):
            if i in self.left_out:
                continue
            try:
                return self._checked(i)
            except SourceError:
                raise
            except ImageError as error:
                with self._lock:
                    warn, self.left_out[i] = not self.left_out, str(error)
                    if not isinstance(error, _Small):
                        self.broken.add(i)
                if warn:
                    warnings.warn(
                        f"left out: {error}; the next usable picture takes its place, here and for all others like it",
                        stacklevel=2,
                    )
        raise ImageError(f"none of {n} pictures is usable; the first: {self.left_out[0]}")

    def _checked(self, i: int) -> Pixels:
        picture = self._all[i]
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ImageError(f"{self._all.name(i)}: {picture.dtype} of shape {picture.shape}; expected uint8 (H, W, 3)")
        crop = self.augment.crop
        if crop is not None and min(picture.shape[:2]) < crop:
            raise _Small(
                f"{self._all.name(i)}: {picture.shape[1]} x {picture.shape[0]} is smaller than the crop of {crop}"
            )
        return picture


def load_data(
    source: Data,
    config: Any = None,
    *,
    crop: int | None = None,
    seed: int = 0,
    held: Data | None = None,
    scales: tuple[float, float] | None = None,
    weights: Sequence[float] | None = None,
    root: str | Path = "data",
) -> tuple[Batches, Batches]:
    """Training and evaluation batches: `train_iter, eval_iter = load_data(source,
    model.config.data)`.

    `source` is one of these, or a list of them:

    - a folder of pictures, with folders `train` and `val`, `test` or `eval` in it if it has them; a
      glob; a picture
    - CIFAR-10 as published: the folder cifar-10-batches-py, or the one that holds it
    - ImageNet 64 × 64 as published: a folder of train_data_batch_*.npz and val_data.npz, with
      removed.npy to leave duplicates out. It is mapped if the npz files are not compressed.
      Otherwise each file is read into memory when it is used, 15.7 GB for all
    - zip packs, .npy files, and WebDataset shards (.tar), by path, folder, glob or braces:
      `shards/{000..010}.tar`
    - an array, uint8 (n, H, W, 3) or (n, 3, H, W); a list of arrays (H, W, 3); any `Source`
    - "CIFAR10" or "ImageNet64", in any case: the folder of that name in `root`

    What a source itself sets aside (test, val) is for evaluation; otherwise every tenth picture is.
    With `held`, all of `held` evaluates, and all of `source` trains except what it sets aside
    itself.

    `config` is anything with `batch_size` and `shuffle`, and perhaps with `crop` (0: none), `flip`,
    `scale_min` and `scale_max`. Without shuffle, training pictures come in order and are cut in the
    middle. `crop` is in pixels a side and replaces that of `config`. Its default is 64 for picture
    files and shards, and whole pictures for the others. `Augment` explains `scales`, and `Batches`
    explains `weights`. Raises `ImageError` if there is nothing, or something broken.
    """
    batch_size, shuffle = int(getattr(config, "batch_size", 16)), bool(getattr(config, "shuffle", True))
    cache = Cache()
    train: list[Source] = []
    kept: list[Source] = []
    for one in _several(source):
        own, aside = open_source(one, root, cache)
        if held is not None:
            train.append(own)
            continue
        if aside is None:
            own, aside = every_tenth(own)
        train.append(own)
        kept.append(aside)
    for one in _several(held) if held is not None else ():
        kept += [part for part in open_source(one, root, cache) if part is not None]
    if not any(map(len, kept)):
        raise ImageError(f"{_short(source if held is None else held)}: no usable pictures for evaluation")
    crop = _crop(crop or getattr(config, "crop", 0) or None, train, kept)
    if scales is None and getattr(config, "scale_min", 1) < 1:
        scales = config.scale_min, config.scale_max
    if weights is None and getattr(config, "even", False):
        weights = [float(len(source) > 0) for source in train]
    flip = bool(getattr(config, "flip", True))
    return (
        Batches(
            train,
            batch_size,
            shuffle,
            Augment(crop, flip, scales),
            seed,
            weights,
            _larger(train, config, crop, flip, seed, weights),
        ),
        Batches(kept, batch_size, False, Augment(crop, flip=False), seed),
    )


def _larger(
    sources: Sequence[Source], config: Any, crop: int | None, flip: bool, seed: int, weights: Sequence[float] | None
) -> Batches | None:
    """Every second batch: crops of `config.large` pixels a side, as many as cover what a batch of
    `crop` covers.
    """
    large = int(getattr(config, "large", 0))
    if not large or crop is None:
        return None
    chosen = [
        (s, w)
        for s, w in zip(sources, weights or [1.0] * len(sources))
        if min(max(sizes(s) or {(large, large)}, key=min)) >= large
    ]
    if not chosen:
        raise ImageError(f"no source has pictures of {large} x {large}, which every second batch needs; give large=0")
    count = max(1, config.batch_size * crop**2 // large**2)
    return Batches(
        [s for s, _ in chosen], count, True, Augment(large, flip), seed, [w for _, w in chosen] if weights else None
    )


def _several(source: Data) -> list[Data]:
    """A list of sources. A list of pictures is one source."""
    if not isinstance(source, list | tuple):
        return [source]
    if source and all(isinstance(one, np.ndarray) and one.ndim in (2, 3) for one in source):
        return [source]
    return list(source)


def _short(source: Data) -> str:
    return str(source) if isinstance(source, str | Path) else "the data"


def _crop(crop: int | None, train: Sequence[Source], kept: Sequence[Source]) -> int | None:
    """`crop`, or its default. Raises `ImageError` if pictures of known sizes do not fit it, or one
    another.
    """
    known = [sizes(s) for s in [*train, *kept] if len(s)]
    if crop is None and None in known:
        crop = 64
    for part in (train, kept):
        if crop is None and len(found := sorted(Joined(part).sizes or ())) > 1:
            raise ImageError(
                f"pictures of {found[0]} and of {found[1]} (height, width); give crop= to cut them to one size"
            )
        for source in part:
            h, w = max(sizes(source) or {(0, 0)}, key=min)
            if crop is not None and 0 < min(h, w) < crop and len(source):
                raise ImageError(
                    f"{name(source, 0)}: {w} x {h} is smaller than the crop of {crop}; give a smaller crop="
                )
    return crop
