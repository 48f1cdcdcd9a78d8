"""A trained run as a model in integers, for every family that can, and what that costs."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from uqdm import bundle
from uqdm.bundle import Package
from uqdm.codec import Codec
from uqdm.errors import PackageError
from uqdm.families import registry
from uqdm.training import runs

SIDE = 128  # of a larger picture a piece of so many pixels a side is used, so that memory and time are limited

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What quantising cost: bits per pixel of each step over pictures that were not used for it;
    log2 of the largest partial sum.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    largest: tuple[float, ...]
    path: Path


def quantise_run(
    folder: str | Path,
    out: Path,
    pictures: Iterable[NDArray[np.uint8]],
    held: Iterable[NDArray[np.uint8]],
    force: bool = False,
    say: Say = lambda line: None,
) -> Cost:
    """Writes a run's averages as the model folder `out`, in integers.

    Scales come from `pictures`, and the cost is measured on `held`, (H, W, 3) each. Of a picture
    with a side above SIDE only a piece is used (see `pieces`). Each picture is asked for once.
    `say` hears what is done. Raises `PackageError` if models of the run's family have no integers,
    or no scales keep the bound, and `OutputError` if `out` exists already.
    """
    bundle.check_target(out, force)
    model = runs.read_run(folder)
    say("reading pictures")
    some, others = pieces(pictures, 0), pieces(held, 1)
    made, largest = in_integers(model, out.resolve().name, some, say)
    path = bundle.write(made, out, force)
    say(f"measuring what it costs on {len(others)} pictures")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = torch.cat([model.nelbo(tensor(p), generator).steps for p in others], 1).mean(1)
    return Cost(tuple(before.tolist()), rates(Codec(bundle.read(path)), others), tuple(largest), path)


def pieces(pictures: Iterable[NDArray[np.uint8]], seed: int) -> list[NDArray[np.uint8]]:
    """Of each picture (H, W, 3) at most SIDE x SIDE, at a place that follows from the seed and its
    number. Small ones stay whole.
    """
    found = []
    for number, picture in enumerate(pictures):
        room = [max(0, side - SIDE) + 1 for side in picture.shape[:2]]
        y, x = np.random.default_rng((seed, number)).integers(room).tolist()
        found.append(picture[y : y + SIDE, x : x + SIDE].copy())  # a copy, so that the rest of the picture is not kept
    return found


def tensor(picture: NDArray[np.uint8]) -> torch.Tensor:
    """(H, W, 3) -> (1, 3, H, W), with even sides."""
    even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
    return torch.from_numpy(np.ascontiguousarray(even.transpose(2, 0, 1)))[None]


def in_integers(
    model: runs.Model, name: str, pictures: Sequence[NDArray[np.uint8]], say: Say = lambda line: None
) -> tuple[Package, list[float]]:
    """A float model as a package of integers, and log2 of each step's largest partial sum. Raises
    `PackageError`.
    """
    floats = registry.floats(model.config.family)
    if floats.quantise is None:
        raise PackageError(f"{name}: family {model.config.family!r}; its models cannot be turned into integers")
    found: tuple[Package, list[float]] = floats.quantise(
        model, name, pictures, lambda made: rates(Codec(made), pictures), say
    )
    return found


def rates(codec: Codec, pictures: Sequence[NDArray[np.uint8]]) -> tuple[float, ...]:
    """Mean ideal code length of each step over pictures (H, W, 3), bits per pixel."""
    found = [codec.estimate(p) / (p.shape[0] * p.shape[1]) for p in pictures]
    return tuple(float(r) for r in np.mean(found, 0))
