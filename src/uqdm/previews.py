"""How a state becomes a picture, and how far that can be from the true one. Knows no files."""

import collections
import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uqdm import arguments
from uqdm.families.base import State, Walk
from uqdm.walk import Guesser, Progress, walk

Method = Literal["denoise", "ancestral", "flow"]
METHODS = ("denoise", "ancestral", "flow")


@dataclasses.dataclass(frozen=True)
class Way:
    """How files are decoded: see `Codec.decode_many`."""

    method: Method
    seed: int = 0
    temperature: float = 1.0
    salvage: bool = False
    reduce: int = 0

    def __post_init__(self) -> None:
        arguments.whole("reduce", self.reduce, 0)
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}; expected {', '.join(METHODS[:-1])} or {METHODS[-1]}")
        arguments.share("temperature", self.temperature)
        arguments.seed(self.seed)


def shown(family: Walk, state: State, way: Way, progress: Progress | None = None) -> NDArray[np.uint8]:
    """Previews (N, 3, H, W) in the way that is asked for."""
    if way.method == "denoise":
        return family.denoise(state)
    if way.method == "flow":
        return family.flow(state)
    return drawn(family, state, Guesser(way.seed, way.temperature), progress)


def drawn(family: Walk, state: State, answers: Guesser, progress: Progress | None = None) -> NDArray[np.uint8]:
    """Pictures (N, 3, H, W) at the end of a walk that is answered by chance."""
    last = collections.deque(walk(family, state, answers, progress=progress), maxlen=1)
    return family.denoise(last[0] if last else state)


def bounds(family: Walk, state: State, method: Method, count: int) -> list[int]:
    """How far previews of `count` pictures can be off. A walk may promise it of `denoise` alone."""
    if method == "denoise" or family.bounded or state.step >= family.chunks:
        return family.bound(state)
    return [255] * count
