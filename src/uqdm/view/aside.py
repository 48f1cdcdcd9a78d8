"""The same number of bytes, spent by other codecs: those of the extra `eval`, where they are here.
Knows no file of ours.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uqdm.walk import Progress

if TYPE_CHECKING:
    from uqdm.evaluation.codecs import Coded, Ladder

NAMES = ("jpeg", "jxl", "avif")
MEMORY = 64 << 20  # bytes of coded files that are kept of one picture and codec


@functools.cache
def offered() -> Mapping[str, "Ladder"]:
    """The codecs that are here, by name."""
    try:
        from uqdm.errors import EvaluationError
        from uqdm.evaluation import classical
        from uqdm.evaluation.codecs import Ladder
    except ImportError:  # the extra is not installed
        return {}
    found = {}
    for name in NAMES:
        try:
            made = classical.CLASSICAL[name](False)
        except EvaluationError:
            continue
        assert isinstance(made, Ladder)
        found[name] = made
    return found


class Beside:
    """One picture in one other codec. Settings that were tried are remembered, for a slider asks
    again and again.

    `pixels`: uint8 (H, W, 3).
    """

    def __init__(self, name: str, pixels: NDArray[np.uint8]) -> None:
        self._pixels, self._memory, self._taken = pixels, dict[str, bytes](), 0
        self._progress: Progress = lambda step, part, parts: None
        ladder = offered()[name]
        self._encode = ladder.encode
        self._ladder = dataclasses.replace(ladder, encode=self._remembered)

    def at(self, size: int, progress: Progress) -> "Coded":
        """The best setting that costs at most `size` bytes; if all cost more, the cheapest.

        Before each file that is made `progress` is called, and may raise.
        """
        self._progress = progress
        return self._ladder.within(self._pixels, 8 * size)

    def _remembered(self, pixels: NDArray[np.uint8], **setting: Any) -> bytes:
        key = repr(sorted(setting.items()))
        if key not in self._memory:
            self._progress(1, 1, 1)
            data = self._encode(pixels, **setting)
            self._taken += len(data)
            if self._taken > MEMORY:
                self._memory, self._taken = {}, len(data)
            self._memory[key] = data
        return self._memory[key]
