"""Model families: what a step asks, and what its answer makes known. Arrays and integers; no bytes, no files.

A family is a walk over states: `start`, then for every chunk and every part of it `question` and `update`. The codec knows
only the protocols below, so that another family (more passes a step, other densities) fits under it without change.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import PackageError
from uqdm.package import Package

Integers = NDArray[np.int64]


class Question(Protocol):
    """What one part of a chunk asks of one picture: `size` symbols, in coding order, each with an integer table."""

    @property
    def size(self) -> int:
        """Number of symbols."""

    def symbols(self, values: NDArray[np.int32]) -> Integers:
        """(size,) the answers that the coordinates (C, H, W) of a picture give."""

    def masses(self, part: slice) -> Integers:
        """(m, K) integer tables of the symbols in `part` (see `entropy.tables`)."""

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """(m,) symbols in `part` chosen by uniform 32-bit integers."""


class Family(Protocol):
    """A model in one entropy mode. `State` is the family's own; it has `step`, the number of chunks received."""

    @property
    def chunks(self) -> int:
        """Chunks of a whole stream."""

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> Any:
        """What is known of len(seeds) pictures of `shape` (H, W) before the first chunk."""

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""

    def parts(self, step: int) -> int:
        """How many parts chunk `step` (from 0) has; each is one network call."""

    def question(self, state: Any, part: int) -> Sequence[Question]:
        """What part `part` of the next chunk asks, for each picture."""

    def update(self, state: Any, part: int, questions: Sequence[Any], answers: Sequence[Integers]) -> Any:
        """What is known after the answers, which may fall short; after a chunk's last part, `step` has grown by one."""

    def denoise(self, state: Any) -> NDArray[np.uint8]:
        """Preview (N, 3, H, W): the posterior mean."""

    def flow(self, state: Any) -> NDArray[np.uint8]:
        """Preview (N, 3, H, W) by the probability flow."""


def build(model: Package, mode: str, denoiser: Any) -> Family:
    """The family of a package in an entropy mode, on a running network. Raises `PackageError`, `ValueError` for the mode."""
    from uqdm.families.uqdm import Constants, Paper, Tight

    if model.family != "uqdm":
        raise PackageError(f"{model.name}: family {model.family!r}; this version knows 'uqdm'")
    modes = {"tight": Tight, "paper": Paper}
    if mode not in modes:
        raise ValueError(f"mode {mode!r}; expected one of {', '.join(modes)}")
    return modes[mode](Constants.of(model), denoiser)
