"""What a model family is: the protocols that the codec and the trainer know, and the record that
registers one. No bytes, no files.

A family's models are walks over states: `start`, then for every chunk and every part of it
`question` and `update`. The codec knows only the protocols below, so that another family (more
passes a step, other densities) fits under it without change. `docs/families.md` says how one is
written.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.entropy.tables import Cells
from uqdm.errors import DamagedError

Integers = NDArray[np.int64]
Table = Cells | Integers  # logistics cut into cells, or rows (m, K) of masses


class Question(Protocol):
    """What one part of a chunk asks of one picture: `size` symbols, in coding order, each with an
    integer table.
    """

    @property
    def size(self) -> int:
        """Number of symbols."""

    def symbols(self, values: NDArray[np.int16], part: slice) -> Integers:
        """(m,) the answers in `part` that the coordinates (C, H, W) of a picture give."""

    def table(self, part: slice) -> Table:
        """The tables of the symbols in `part` (see `entropy.tables`)."""

    def children(self, part: slice) -> Integers:
        """(m,) how many symbols each in `part` has."""

    def draw(self, part: slice, chances: NDArray[np.uint32]) -> Integers:
        """(m,) symbols in `part` chosen by uniform 32-bit integers."""


class State(Protocol):
    """What is known of a batch of pictures; what else it holds is the family's own."""

    @property
    def step(self) -> int:
        """Number of whole chunks received."""

    @property
    def cut(self) -> bool:
        """Whether a part of the next one has been received too."""


class Walk(Protocol):
    """A model in one entropy mode. Its states are a family's own `State`."""

    @property
    def chunks(self) -> int:
        """Chunks of a whole stream."""

    @property
    def side_size(self) -> int:
        """Bytes that a chunk carries besides symbols."""

    @property
    def bounded(self) -> bool:
        """Whether previews of every kind keep `bound`, and not those of `denoise` alone."""

    @property
    def measured(self) -> bool:
        """Whether an encoder measures how far previews are off, because `bound` tells little. Then
        `denoise` is the same everywhere. And the walk has `glimpse`, with the arguments of `update`:
        what `denoise` shows if no more answers come, while the chunk goes on.
        """

    def reduced(self, halvings: int) -> "Walk | None":
        """The walk that asks only what previews need whose sides are halved so often, rounded up.
        None: the family has no such previews.
        """

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> Any:
        """What is known of len(seeds) pictures of `shape` (H, W) before the first chunk."""

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""

    def side(self, state: Any) -> list[bytes]:
        """What an encoder tells of the next chunk besides symbols, `side_size` bytes for each
        picture.
        """

    def parts(self, state: Any) -> int:
        """How many parts the next chunk has."""

    def question(self, state: Any, part: int, side: Sequence[bytes]) -> Sequence[Question]:
        """What part `part` of the next chunk asks, for each picture."""

    def update(self, state: Any, part: int, questions: Sequence[Any], answers: Sequence[Integers]) -> Any:
        """What is known after the answers, which may fall short; after a chunk's last part, `step`
        has grown by one.
        """

    def denoise(self, state: Any) -> NDArray[np.uint8]:
        """Preview (N, 3, H, W): the posterior mean."""

    def flow(self, state: Any) -> NDArray[np.uint8]:
        """Preview (N, 3, H, W) by the probability flow."""

    def bound(self, state: Any) -> list[int]:
        """For each picture, how far a preview's pixels can be from the true ones."""

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """How far R, G and B of any preview can be from the true ones before the first chunk, after
        it, ..., after the last.
        """


class Networks(Protocol):
    """A package's networks, running; what else they do is the family's own."""

    @property
    def exact(self) -> bool:
        """Whether they compute in integers, so that every machine gives the same bits."""


@dataclasses.dataclass(frozen=True)
class Opening:
    """How the user wants networks to run (see `uqdm.load`)."""

    device: str = "cpu"
    threads: int | None = None
    precision: str | None = None
    backend: str | None = None


@dataclasses.dataclass(frozen=True)
class Family:
    """All that is known of one family from outside its folder.

    Types that stand on PyTorch are in the module `floats`, whose `FLOATS` (see `families.floats`)
    is asked for only where float models are.
    """

    name: str  # as model.json and config.json have it
    section: str  # of a config.json, that describes a model
    config: type  # the record of that section
    floats: str  # the module of float models
    losses: tuple[str, ...] = ("full",)  # that its models can be trained on
    compiles: bool = False  # whether torch.compile takes its networks
    optional: tuple[str, ...] = ()  # keys of the section that may be missing
    minor: int = 0  # of the format's version 1: the first that has the family
    modes: tuple[str, ...] = ()  # entropy modes of its streams, the usual one first; none: its models have no streams
    walk: Callable[[Package, str, Any], Walk] | None = (
        None  # a package in a mode, on opened networks (None: only for what needs none)
    )
    networks: Callable[[Package, Opening], Networks] | None = None  # a package's networks, running

    def extra(self, mode: str) -> bytes:
        """The sub-header of a stream in that mode: one byte, the mode's place among those of the
        format.
        """
        return bytes([MODES.index(mode)])

    def mode(self, extra: bytes) -> str:
        """Inverse of `extra`. Raises `DamagedError`."""
        return mode_named(extra)


MODES = ("tight", "paper")  # by their byte in a sub-header


def mode_named(extra: bytes) -> str:
    """The mode that a sub-header of one byte names, as those of our families are. Raises
    `DamagedError`.
    """
    if len(extra) != 1 or extra[0] >= len(MODES):
        found = extra.hex(" ") or "empty"
        raise DamagedError(f"header: its sub-header is {found}; expected one byte below {len(MODES)}, the entropy mode")
    return MODES[extra[0]]
