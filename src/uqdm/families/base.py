"""Model families: what a step asks, and what its answer makes known. Arrays and integers; no bytes, no files.

A family is a walk over states: `start`, then for every chunk and every part of it `question` and `update`. The codec knows
only the protocols below, so that another family (more passes a step, other densities) fits under it without change.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.entropy.tables import Cells
from uqdm.errors import DamagedError, PackageError

Integers = NDArray[np.int64]
Table = Cells | Integers  # logistics cut into cells, or rows (m, K) of masses


class Question(Protocol):
    """What one part of a chunk asks of one picture: `size` symbols, in coding order, each with an integer table."""

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


class Family(Protocol):
    """A model in one entropy mode. `State` is the family's own; it has `step`, the number of whole chunks received, and `cut`,
    whether a part of the next one has been received too."""

    @property
    def chunks(self) -> int:
        """Chunks of a whole stream."""

    @property
    def side_size(self) -> int:
        """Bytes that a chunk carries besides symbols."""

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> Any:
        """What is known of len(seeds) pictures of `shape` (H, W) before the first chunk."""

    def values(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Pixels (N, 3, H, W) as the integer coordinates that are coded."""

    def side(self, state: Any) -> list[bytes]:
        """What an encoder tells of the next chunk besides symbols, `side_size` bytes for each picture."""

    def parts(self, state: Any) -> int:
        """How many parts the next chunk has."""

    def question(self, state: Any, part: int, side: Sequence[bytes]) -> Sequence[Question]:
        """What part `part` of the next chunk asks, for each picture."""

    def update(self, state: Any, part: int, questions: Sequence[Any], answers: Sequence[Integers]) -> Any:
        """What is known after the answers, which may fall short; after a chunk's last part, `step` has grown by one."""

    def denoise(self, state: Any) -> NDArray[np.uint8]:
        """Preview (N, 3, H, W): the posterior mean."""

    def flow(self, state: Any) -> NDArray[np.uint8]:
        """Preview (N, 3, H, W) by the probability flow."""

    def bound(self, state: Any) -> list[int]:
        """For each picture, how far a preview's pixels can be from the true ones."""

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """How far R, G and B of any preview can be from the true ones before the first chunk, after it, ..., after the last."""


MODES = ("tight", "paper")


def extra(mode: str) -> bytes:
    """A header's sub-header: the entropy mode. Raises `ValueError`."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}; expected one of {', '.join(MODES)}")
    return bytes([MODES.index(mode)])


def mode(extra: bytes) -> str:
    """Inverse of `extra`. Raises `DamagedError`."""
    if len(extra) != 1 or extra[0] >= len(MODES):
        raise DamagedError(f"header: its sub-header is {extra.hex(' ') or 'empty'}; expected one byte below {len(MODES)}, the entropy mode")
    return MODES[extra[0]]


def modes(model: Package) -> tuple[str, ...]:
    """The entropy modes of a package's family. Raises `PackageError`."""
    known = {"nested": ("tight",), "pyramid": ("tight",), "uqdm": MODES}
    if model.family not in known:
        raise PackageError(f"{model.name}: family {model.family!r}; this version knows {', '.join(sorted(known))}")
    kind = model.network.get("kind")
    if any((model.family == own) != (kind == own) for own in ("nested", "pyramid")):
        raise PackageError(f"{model.name}: network kind {kind!r} in a model of the family {model.family!r}; they do not belong together")
    return known[model.family]


def mode_of(model: Package, extra: bytes) -> str:
    """What a header says of the mode, of a file of that package. Raises `DamagedError` for none, or one that the family has not."""
    found = mode(extra)
    if found not in modes(model):
        known = ", ".join(modes(model))
        raise DamagedError(f"header: its sub-header says mode {found}; model {model.name!r}, which it names, has {known} only")
    return found


def build(model: Package, mode: str, denoiser: Any) -> Family:
    """The family of a package in an entropy mode, on a running network. Raises `PackageError`, `ValueError` for the mode."""
    from uqdm.families.nested import walk as nested
    from uqdm.families.uqdm import walk as uqdm

    extra(mode)
    if mode not in modes(model):
        raise ValueError(f"mode {mode!r}; {model.name} is of the family {model.family!r}, which has {', '.join(modes(model))} only")
    if model.family == "pyramid":
        from uqdm.families.pyramid import walk

        return walk.Pyramid(walk.Constants.of(model), denoiser)
    if model.family == "nested":
        return nested.Nested(nested.Constants.of(model), denoiser)
    return {"tight": uqdm.Tight, "paper": uqdm.Paper}[mode](uqdm.Constants.of(model), denoiser)


def step_within(guarantees: Sequence[tuple[int, int, int]], most: int) -> int:
    """The first step whose guarantee (see `Family.guarantees`) is at most `most`."""
    return next(step for step, errors in enumerate(guarantees) if max(errors) <= most)


def guarantees(model: Package, mode: str, grey: bool) -> list[tuple[int, int, int]]:
    """`Family.guarantees` of a package, without its network."""
    return build(model, mode, None).guarantees(grey)
