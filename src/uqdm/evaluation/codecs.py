"""Codecs under evaluation behind one small protocol: a picture in, operating points out. Knows no
metric, table or plot.

A point is what can be decoded at some rate. A codec with a quality setting has one file for each
point; a progressive one has the beginnings of one file. The cost of a point is always counted
twice: for the whole file with every header, and for the payload, the entropy-coded data of the
picture alone. Each format's parser in `classical.py` says which bytes those are, and `ours.py` says
it for our files.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import UqdmError
from uqdm.quality import mse

Pixels = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True, eq=False)
class Coded:
    """One operating point of one picture. `bits` are those of the whole file, or of the beginning
    that was decoded; 8 for each byte.
    """

    setting: str
    bits: float
    payload: float | None  # how many of them are entropy-coded data; None if not known
    pixels: Pixels
    encode: float | None = None  # seconds
    decode: float | None = None


class Contender(Protocol):
    """A codec under evaluation."""

    @property
    def name(self) -> str:
        """The name that `--codec` takes."""

    @property
    def label(self) -> str:
        """The name in tables and plots: what it is, and how it is set."""

    @property
    def progressive(self) -> bool:
        """Whether the points of a picture are beginnings of one file."""

    @property
    def hypothetical(self) -> bool:
        """Whether its bits are a model's, and no file was written."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that its results depend on besides the picture, as plain JSON values."""

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """A picture's points, by ascending rate if the settings have one."""

    def within(self, pixels: Pixels, bits: float) -> Coded:
        """The best point that costs at most `bits`. Settings between those of `code` are tried too.
        If all cost more, it is the cheapest.
        """


def best_within(points: Sequence[Coded], pixels: Pixels, bits: float) -> Coded:
    """The point with the least error that costs at most `bits`; if all cost more, the cheapest."""
    some = [one for one in points if one.bits <= bits]
    return (
        min(some, key=lambda one: (mse(pixels, one.pixels), one.bits))
        if some
        else min(points, key=lambda one: one.bits)
    )


@dataclass(frozen=True)
class Ladder:
    """A codec with settings. Each setting makes one file."""

    name: str
    label: str
    settings: Mapping[str, Mapping[str, Any]]  # name -> what `encode` is told
    encode: Callable[..., bytes] = field(repr=False)  # (pixels, **setting)
    decode: Callable[[bytes], Pixels] = field(repr=False)
    payload: Callable[[bytes], int | None] = field(repr=False)  # bytes
    versions: Mapping[str, str] = field(default_factory=dict)  # of the libraries or programs that do the work
    # settings by cost, for `within`; a lossless one comes last
    dial: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    progressive: bool = False
    hypothetical: bool = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Contender`."""
        return {"name": self.name, "label": self.label, "settings": self.settings, "versions": self.versions}

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Contender`."""
        for name, options in self.settings.items():
            yield self._coded(name, options, pixels)

    def within(self, pixels: Pixels, bits: float) -> Coded:
        """See `Contender`. The setting is found by bisection along the dial."""
        if not self.dial:
            return best_within(list(self.code(pixels)), pixels, bits)

        def fits(k: int) -> bool:
            return 8 * len(self.encode(pixels, **self.dial[k])) <= bits

        low = last = len(self.dial) - 1
        if not fits(last):  # the last may be lossless, and then it may be cheaper than some before it
            low, high = 0, last - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if fits(middle) else (low, middle - 1)
        turned = {k: v for k, v in self.dial[low].items() if v != self.dial[low - 1].get(k)}
        return self._coded(", ".join(map(_setting, turned, turned.values())), self.dial[low], pixels)

    def _coded(self, name: str, options: Mapping[str, Any], pixels: Pixels) -> Coded:
        data, encoding = timed(self.encode, pixels, **options)
        back, decoding = timed(self.decode, data)
        payload = self.payload(data)
        return Coded(
            name, 8 * len(data), None if payload is None else 8 * payload, rgb(back, pixels.shape), encoding, decoding
        )


def _setting(name: str, value: Any) -> str:
    """A library's options as captions show them, such as "quality 72"."""
    if value is True:
        return name
    numbers = value if isinstance(value, Sequence) else [value]
    return f"{name.replace('_', ' ')} {', '.join(f'{v:g}' for v in numbers)}"


def said(error: Exception) -> str:
    """An error in one line. Errors of other packages get their type."""
    return str(error) if isinstance(error, UqdmError) else f"{type(error).__name__}: {error}"


def timed(function: Callable[..., Any], *given: Any, **options: Any) -> tuple[Any, float]:
    """A result, and the seconds of the processor that this process spent on it, in all its threads.

    Other processes on a busy machine take none of these, so pictures may be timed side by side.
    """
    begin = time.process_time()
    found = function(*given, **options)
    return found, time.process_time() - begin


def clocked(function: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    """A result, and the seconds by the clock: for other programs."""
    begin = time.perf_counter()
    found = function(*given)
    return found, time.perf_counter() - begin


def rgb(pixels: NDArray[Any], shape: Sequence[int]) -> Pixels:
    """What a decoder gave, as uint8 (H, W, 3). Raises `ValueError` if it is not such a picture of
    that shape.
    """
    found = np.asarray(pixels)
    if found.ndim == 2:
        found = np.repeat(found[:, :, None], 3, 2)
    if found.dtype != np.uint8 or found.shape != tuple(shape):
        raise ValueError(f"the decoder gave {found.dtype} {found.shape}; expected uint8 {tuple(shape)}")
    return found
