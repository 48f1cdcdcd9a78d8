"""A toy family, written from outside the package: the worked example of docs/families.md.

A step tells some bits of every pixel's R, G and B, the highest first; all values of those bits are
as likely as any other. There is no network, so nothing can be trained; everything else (files,
cuts, previews, the command line, evaluation) comes with the codec.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.entropy.tables import PRECISION
from uqdm.families.base import Family, Integers, Opening, Walk
from uqdm.families.boxes import drawn
from uqdm.families.registry import register


@dataclasses.dataclass(frozen=True)
class PlanesConfig:
    """The section of a config.json: how many bits each step tells, 8 in all."""

    bits: tuple[int, ...] = (3, 2, 3)


@dataclasses.dataclass(frozen=True)
class State:
    """The bits of N pictures that are known, (N, 3, H, W), and how many each value has; in a step
    that was cut, some have more.
    """

    step: int
    value: NDArray[np.int16]
    known: NDArray[np.int16]
    grey: bool
    cut: bool = False


class Question:
    """What a step asks of one picture: the next bits of every value, in raster order."""

    def __init__(self, size: int, bits: int, below: int) -> None:
        self.size, self.bits, self.below = size, bits, below

    def symbols(self, values: NDArray[np.int16], part: slice) -> Integers:
        """values (C, H, W)."""
        found: Integers = (values.reshape(-1)[part].astype(np.int64) >> self.below) & ((1 << self.bits) - 1)
        return found

    def table(self, part: slice) -> Integers:
        """Rows of equal masses that add up to 2**PRECISION. The last column is no child."""
        count = 1 << self.bits
        row = np.full(count + 1, (1 << PRECISION) // (count + 1), np.int64)
        row[0] += (1 << PRECISION) - int(row.sum())
        return np.broadcast_to(row, (part.stop - part.start, count + 1))

    def children(self, part: slice) -> Integers:
        """All values of the bits."""
        return np.full(part.stop - part.start, 1 << self.bits, np.int64)

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """By chance."""
        return np.minimum(drawn(self.table(part), chances), (1 << self.bits) - 1)


class Planes:
    """The walk."""

    side_size = 0
    bounded = True
    measured = False

    def __init__(self, bits: Sequence[int]) -> None:
        self.bits = tuple(bits)

    @property
    def chunks(self) -> int:
        """Steps."""
        return len(self.bits)

    def reduced(self, halvings: int) -> None:
        """There are no smaller previews."""
        return None

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> State:
        """Nothing is known."""
        full = (len(seeds), 3, *shape)
        return State(0, np.zeros(full, np.int16), np.zeros(full, np.int16), grey)

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Pixels as they are."""
        return pixels.astype(np.int16)

    def side(self, state: State) -> list[bytes]:
        """Nothing is told besides symbols."""
        return [b""] * len(state.value)

    def parts(self, state: State) -> int:
        """A step is one question."""
        return 1

    def question(self, state: State, part: int, side: Sequence[bytes]) -> list[Question]:
        """Of a grey picture the first channel is asked for alone."""
        size = state.value[0].size // (3 if state.grey else 1)
        return [Question(size, self.bits[state.step], self._below(state.step)) for _ in state.value]

    def update(self, state: State, part: int, questions: Sequence[Question], answers: Sequence[Integers]) -> State:
        """The new bits behind those that are known."""
        value, known = state.value.copy(), state.known.copy()
        for i, symbols in enumerate(answers):
            flat, bits = value[i].reshape(-1), known[i].reshape(-1)
            flat[: len(symbols)] |= (symbols << self._below(state.step)).astype(np.int16)
            bits[: len(symbols)] = 8 - self._below(state.step)
            if state.grey:
                value[i, 1:], known[i, 1:] = value[i, :1], known[i, :1]
        short = any(len(a) < q.size for a, q in zip(answers, questions))
        return State(state.step + (not short), value, known, state.grey, short)

    def denoise(self, state: State) -> NDArray[np.uint8]:
        """The middle of what is still possible."""
        found: NDArray[np.uint8] = (state.value + ((1 << (8 - state.known)) - 1) // 2).astype(np.uint8)
        return found

    flow = denoise

    def bound(self, state: State) -> list[int]:
        """As far as the two ends of what is possible lie apart."""
        return [int((1 << (8 - known.min())) - 1) for known in state.known]

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """The same from the bits alone."""
        return [((1 << left) - 1,) * 3 for left in (8, *map(self._below, range(self.chunks)))]  # type: ignore[misc]

    def _below(self, step: int) -> int:
        """How many bits are left after a step."""
        return 8 - sum(self.bits[: step + 1])


class Networks:
    """There are none; files are the same on every machine."""

    exact = True


def _walk(package: Package, mode: str, networks: Any) -> Walk:
    return Planes(package.constants["bits"])


def _networks(package: Package, opening: Opening) -> Any:
    return Networks()


PLANES = Family(
    "planes", section="planes", config=PlanesConfig, floats="planes", modes=("tight",), walk=_walk, networks=_networks
)


def package(name: str = "planes", bits: tuple[int, ...] = (3, 2, 3)) -> Package:
    """A model of the family."""
    return Package(
        name, "planes", {}, {"bits": list(bits)}, {"none": np.zeros(1, np.int8)}, {"description": "bit planes"}
    )


register(PLANES)
