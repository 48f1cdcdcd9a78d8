"""What a file is to reach, and the shortest beginning of a stream that does. Knows no model.

One vocabulary serves the command line, Python and Pillow, for files that are written and for files
that are there: a step, bits per pixel, bytes, decibels, or the largest error. There is one embedded
stream. So all of them are cuts of it, and none is a search for settings.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from uqdm import format
from uqdm.errors import LimitError
from uqdm.format import Contents

CHECK = 4  # bytes of the check at a step's end, at most
EXACT = 99.0  # decibels that an exact picture counts as
EXPECTED = {
    "step": "a whole number of 0 or more",
    "bpp": "a number of bits per pixel above 0",
    "target_size": "a whole number of bytes above 0",
    "psnr": "a number of decibels above 0",
    "max_error": "a whole number of 0 or more",
}


class Reached(TypedDict, total=False):
    """A goal as keyword arguments: at most one (see `Goal`)."""

    step: int | None
    bpp: float | None
    target_size: int | None
    psnr: float | None
    max_error: int | None


@dataclasses.dataclass(frozen=True)
class Goal:
    """At most one of five; with none a file is whole. Raises `TypeError` and `ValueError`.

    `step`: up to the end of that step. `bpp`: at most so many bits per pixel of the whole file.
    `target_size`: at most so many bytes. `psnr`: as few bytes as give at least so many decibels,
    over all values of all channels but alpha. `max_error`: no value of a pixel is further off.
    `rate.beginning` says how far a file that is there can tell the last two.
    """

    step: int | None = None
    bpp: float | None = None
    target_size: int | None = None
    psnr: float | None = None
    max_error: int | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        if len(given) > 1:
            found = " and ".join(f"{name}={value!r}" for name, value in given.items())
            raise ValueError(f"{found} cannot be used together: give at most one of {', '.join(EXPECTED)}")
        for name, value in given.items():
            object.__setattr__(self, name, _checked(name, value))

    def size(self, pixels: int) -> int | None:
        """Bytes that a file may have, if that is the goal."""
        return self.target_size if self.bpp is None else format.bytes_at(self.bpp, pixels)


def _checked(name: str, value: Any) -> int | float:
    whole = name in ("step", "target_size", "max_error")
    if isinstance(value, bool) or not hasattr(value, "__index__" if whole else "__float__"):
        raise TypeError(f"{name} {value!r}; expected {EXPECTED[name]}")
    if not (value >= 0 if name in ("step", "max_error") else value > 0) or (name == "bpp" and not math.isfinite(value)):
        raise ValueError(f"{name} {value!r}; expected {EXPECTED[name]}")
    return int(value) if whole else float(value)


def shows(contents: Contents) -> bool:
    """Whether a file holds any of its picture."""
    part = contents.partial
    return bool(contents.steps) or (part is not None and len(part.payload) > contents.header.symbol_check(part.index))


def least(data: bytes) -> int:
    """Bytes of the shortest beginning that holds any of the picture, or all bytes."""
    begin = format.ends(format.parse(data, max_pixels=None))[0]
    return next(
        (size for size in range(begin, len(data)) if shows(format.parse(data[:size], max_pixels=None))), len(data)
    )


def within(data: bytes, goal: Goal, pixels: int) -> bytes:
    """The beginning of a stream that has at most the goal's bytes. Raises `LimitError` where none
    of the picture would be in it.
    """
    size = goal.size(pixels)
    if size is None or size >= len(data):
        return data
    if size < (needed := least(data)):
        raise LimitError(
            f"{size} bytes were asked for, but header, metadata and the first of the picture take {needed} "
            f"({math.ceil(8e4 * needed / pixels) / 1e4:.4f} bits per pixel): ask for that, or leave out metadata"
        )
    return data[:size]


def reaching(data: bytes, wanted: float, at: Callable[[int], float], steps: Sequence[float]) -> bytes:
    """The beginning of a stream that reaches `wanted` decibels, while with one byte less it does
    not.

    `at` gives the PSNR of a beginning of so many bytes. `steps`: the PSNR before the first step,
    after it, ..., after the last one that `data` holds, of which none but the last may reach what
    is wanted. PSNR mostly grows with every byte, but not always: a still shorter beginning may
    reach it by chance. Where nothing but the last check would be missing, all is given back.
    """
    if steps[-1] < wanted or math.isinf(wanted):
        return data
    first, ends = least(data), format.ends(format.parse(data, max_pixels=None))
    low, below = ends[len(steps) - 2], steps[-2]
    if low < first:
        low, below = first, at(first)
        if below >= wanted:
            return data[:low]
    size = crossing(at, wanted, low, below, ends[len(steps) - 1], steps[-1])
    return data[:size] if len(data) - size > CHECK else data


def crossing(at: Callable[[int], float], wanted: float, low: int, below: float, high: int, above: float) -> int:
    """A size at which `at` reaches `wanted` while at one less it does not. At `low` it has the
    value `below` and does not; at `high` it has `above` and does.

    Inside a step the PSNR grows almost evenly with bytes. So a line through the ends says where to
    look next, but no nearer to an end than an eighth. Where that has twice not halved what is left,
    the middle is next.
    """
    failures = 0
    while (width := high - low) > 1:
        share = 0.5 if failures == 2 else (wanted - below) / max(min(above, EXACT) - below, 1e-9)
        size = low + min(max(round(width * min(max(share, 1 / 8), 7 / 8)), 1), width - 1)
        found = at(size)
        if found >= wanted:
            high, above = size, found
        else:
            low, below = size, found
        failures = failures % 2 + 1 if 2 * (high - low) > width else 0
    return high
