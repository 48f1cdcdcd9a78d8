"""Pictures to .uqdm files and back, in memory, many at once: bytes in, bytes out. Knows nothing of
where they come from, where they go, and who shares out the work.

A bad input becomes an output with an error, and the others are done.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from uqdm import arguments, files, format, library, quality, rate
from uqdm.batches import FAILURES, Key, together, worked
from uqdm.codec import Codec
from uqdm.errors import LimitError, UqdmError
from uqdm.goals import EXPECTED, Goal
from uqdm.picture import Picture, to_array
from uqdm.previews import Way

BATCH = 8  # pictures of one size that share a network call
Named = tuple[str, bytes]  # a name for messages, and the bytes of a file


@dataclasses.dataclass(frozen=True)
class Made:
    """What became of an input: `data`, the bytes of a file, or an `error`.

    `bytes` are those of the .uqdm file, `width` and `height` are pixels of the whole picture; all
    are 0 where there is an error. `psnr`: see `Evaluator`.
    """

    path: str
    data: bytes | None = None
    bytes: int = 0
    width: int = 0
    height: int = 0
    error: str = ""
    psnr: tuple[float | None, ...] = ()

    @property
    def bpp(self) -> float:
        """Bits per pixel of the .uqdm file; 0 where there is an error."""
        return 8 * self.bytes / (self.width * self.height) if self.width else 0.0


def failure(path: str, error: Exception | str) -> Made:
    """An input that gave no output."""
    said = "out of memory" if isinstance(error, MemoryError) else str(error)
    return Made(path, error=" ".join(said.split()))


def described(path: str, data: bytes) -> Made:
    """What a .uqdm file that is there already would have been made as, but for its bytes."""
    try:
        header = format.parse(data, max_pixels=None).header
    except UqdmError as error:
        return failure(path, f"its output is there already, and is no .uqdm file: {error}")
    return Made(path, None, len(data), header.width, header.height)


class Encoder:
    """Picture files to .uqdm files.

    `mode`, `seed`, `goal`: see `Codec.compress`. `convert`: see `files.read`. `batch`: pictures of
    one size that share a network call. Raises `ValueError` or `TypeError` for arguments that are
    none of these.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        mode: str | None = None,
        seed: int = 0,
        convert: bool = False,
        batch: int = BATCH,
        **goal: Any,
    ) -> None:
        if mode is not None and mode not in codec.modes:
            raise ValueError(f"mode {mode!r}; the model {codec.name} has {', '.join(codec.modes)}")
        arguments.seed(seed)
        Goal(**goal)
        self._codec, self._convert, self._batch = codec, convert, batch
        self._how: dict[str, Any] = {"mode": mode, "seed": seed, **goal}

    def __call__(self, some: Iterable[Named]) -> Iterator[Made]:
        """What became of each, in the order in which they are done."""
        for path, picture, data in self.each(some, lambda _, files: files):
            if isinstance(data, Exception):
                yield failure(path, data)
            else:
                height, width = picture.pixels.shape[:2]
                yield Made(path, data, len(data), width, height)

    def each(
        self, some: Iterable[Named], work: Callable[[list[Picture], list[bytes]], Sequence[Any]]
    ) -> Iterator[tuple[str, Any, Any]]:
        """Name, picture, and what `work` makes of it and its .uqdm file, or an exception in its
        place. `work` gets pictures of one size together.
        """

        def read(data: bytes) -> tuple[Key, Picture]:
            picture = files.read(data, self._convert, max_pixels=self._codec.max_pixels)
            return picture.pixels.shape, picture

        return _each(some, read, lambda all: work(all, self._codec.compress(all, **self._how)), self._batch)


class Evaluator:
    """Picture files to the sizes of their .uqdm files without loss, and to the PSNR of beginnings.

    `rates`: bits per pixel of the whole file, each a beginning that is decoded. Its PSNR is in
    decibels over all values but alpha, infinite where nothing differs, None where the header alone
    is longer. A picture that does not come back from the whole file is an error. `seed`, `mode`,
    `convert`, `batch`: see `Encoder`. `data` is None.
    """

    def __init__(
        self,
        codec: Codec,
        rates: Sequence[float],
        *,
        mode: str | None = None,
        seed: int = 0,
        convert: bool = False,
        batch: int = BATCH,
    ) -> None:
        for one in rates:
            if not 0 < one < math.inf:
                raise ValueError(f"a rate of {one} bits per pixel; expected a number above 0")
        names = [f"{bpp:g}" for bpp in rates]
        if len(set(names)) < len(names):
            raise ValueError(f"the rates are {', '.join(names)}: one is there twice")
        self._encoder = Encoder(codec, mode=mode, seed=seed, convert=convert, batch=batch)
        self._codec, self._rates = codec, rates

    def __call__(self, some: Iterable[Named]) -> Iterator[Made]:
        """What became of each, in the order in which they are done."""
        for path, picture, found in self._encoder.each(some, self._measured):
            if isinstance(found, Exception):
                yield failure(path, found)
            else:
                size, psnr = found
                height, width = picture.pixels.shape[:2]
                yield Made(path, None, size, width, height, psnr=psnr)

    def _measured(self, pictures: list[Picture], files: list[bytes]) -> list[tuple[int, tuple[float | None, ...]]]:
        """Bytes and PSNR of pictures of one size."""
        for picture, whole in zip(pictures, self._codec.decode_many(files)):
            if not np.array_equal(to_array(whole.picture), to_array(picture)):
                raise UqdmError("it did not come back from its file value for value: please report this picture")
        psnr: list[list[float | None]] = [[None] * len(self._rates) for _ in files]
        for k, bpp in enumerate(self._rates):
            cuts = [(i, cut) for i, data in enumerate(files) if (cut := _beginning(data, bpp)) is not None]
            for (i, _), shown in zip(cuts, self._codec.decode_many([cut for _, cut in cuts])):
                psnr[i][k] = quality.psnr(quality.mse(shown.picture.pixels, pictures[i].pixels))
        return [(len(data), tuple(one)) for data, one in zip(files, psnr)]


def _beginning(data: bytes, bpp: float) -> bytes | None:
    """The first `bpp` bits per pixel of a file; None where that ends inside its header."""
    try:
        return library.truncate(data, bpp=bpp)
    except LimitError:
        return None


class Decoder:
    """.uqdm files to picture files of the format `suffix`.

    `codec`: of the files' model; by default the one that a file's header asks for, where this
    runs; `machine` are then options of `library.load`. `lossy`: allow formats that change values.
    `how`: see `Codec.decode_many`, also for `step`, `bpp`, `target_size`, `psnr` and `max_error`:
    the beginning to decode. Raises as `Encoder` does.
    """

    def __init__(
        self,
        codec: Codec | None = None,
        *,
        suffix: str = ".png",
        lossy: bool = False,
        batch: int = BATCH,
        machine: dict[str, Any] | None = None,
        **how: Any,
    ) -> None:
        self._format = files.format_of(f"picture{suffix}")
        self._goal = Goal(**{name: how.pop(name) for name in EXPECTED if name in how})
        self._codec, self._pool = codec, library.CodecPool(**(machine or {}))
        way = Way(**{"method": "denoise", **how})
        self._lossy = lossy or way.reduce > 0  # a smaller picture is not the whole one anyway
        self._batch, self._how = batch, how

    def __call__(self, some: Iterable[Named]) -> Iterator[Made]:
        """What became of each, in the order in which they are done."""

        def work(all: Sequence[tuple[Codec, bytes, Made]]) -> list[Any]:
            return all[0][0].decode_many([data for _, data, _ in all], **self._how)

        for path, file, decoded in _each(some, self._read, work, self._batch):
            if isinstance(decoded, Exception):
                yield failure(path, decoded)
                continue
            lossy = self._lossy or decoded.step < decoded.steps
            try:
                data = files.encode(decoded.picture, self._format, lossy=lossy)
            except FAILURES as error:
                yield failure(path, error)
            else:
                damage = "" if decoded.damage is None else str(decoded.damage)
                yield dataclasses.replace(file[2], path=path, data=data, error=damage)

    def _read(self, data: bytes) -> tuple[Key, tuple[Codec, bytes, Made]]:
        """A file's codec, the beginning of it that is wanted, and what is known of the whole."""
        codec = self._codec or self._pool.open_for(data)
        header = format.parse(data, steps=0, max_pixels=codec.max_pixels).header
        codec.match(header)
        alike = (header.grey, header.extra, header.arithmetic, header.compact, header.fingerprint)
        short = rate.beginning(data, self._goal, codec.package, bool(self._how.get("salvage")), codec.max_pixels)
        whole = Made("", None, len(data), header.width, header.height)
        return (header.height, header.width, *alike), (codec, short, whole)


def _each(
    some: Iterable[Named],
    read: Callable[[bytes], tuple[Key, Any]],
    work: Callable[[list[Any]], Sequence[Any]],
    batch: int,
) -> Iterator[tuple[str, Any, Any]]:
    """Name, item and result of each input, or an exception in the place of a result. Large pictures
    do not wait for others, so few are in memory.
    """
    unread: list[tuple[str, Exception]] = []

    def items() -> Iterator[tuple[Key, tuple[str, Any]]]:
        for path, data in some:
            try:
                key, item = read(data)
            except FAILURES as error:
                unread.append((path, error))
            else:
                yield key, (path, item)

    lists = together(items(), batch)
    for (path, item), result in worked(lists, lambda all: work([item for _, item in all])):
        yield path, item, result
    for path, error in unread:
        yield path, None, error
