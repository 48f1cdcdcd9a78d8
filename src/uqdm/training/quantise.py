"""A trained convolutional model to an exact one: walks calibration pictures to see what its networks see, quantises, measures the cost."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uqdm import bundle as package
from uqdm import library
from uqdm.bundle import Package, floats
from uqdm.codec import Codec
from uqdm.errors import PackageError
from uqdm.exact import network as exact
from uqdm.families.nested import networks as passes
from uqdm.families.nested.torch import model as nested
from uqdm.families.nested.torch.model import Nested
from uqdm.families.uqdm.torch.convnet import StepNet
from uqdm.families.uqdm.torch.quantise import QUANTILES, Boxes, State, quantise, quantise_nested
from uqdm.training import runs

SIDE = 128  # of larger pictures a piece of so many pixels a side is looked at, so that memory and time stay bounded
CUTS = (0.2, 0.6)  # where calibration files are cut inside each step, for networks that see such states


Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What quantising cost, in bits per pixel of each step over pictures that were not used for it; log2 of the largest partial sum."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    largest: tuple[float, ...]
    path: Path


class _Recorder:
    """A denoiser that keeps the boxes it is shown, by step."""

    def __init__(self, inner: Any, steps: int) -> None:
        self.exact, self.sees_z, self.mixed = inner.exact, inner.sees_z, inner.mixed
        self._inner = inner
        self.boxes: list[list[Boxes]] = [[] for _ in range(steps)]

    def __call__(self, step: int, z: Any, low: NDArray[Any], high: NDArray[Any]) -> Any:
        h, w = (side // 2 * 2 for side in low.shape[2:])
        self.boxes[step].append((low[:, :, :h, :w].astype(np.int32), high[:, :, :h, :w].astype(np.int32)))
        return self._inner(step, z, low, high)


def quantise_run(
    folder: str | Path,
    out: Path,
    pictures: Sequence[NDArray[np.uint8]],
    held: Sequence[NDArray[np.uint8]],
    force: bool = False,
    say: Say = lambda line: None,
) -> Cost:
    """A nested model's run, its averages, to the model folder `out`, in integers. Arguments as in `quantise_model`.

    Raises `PackageError` where the run is of another family, or no scales keep the bound; `OutputError` where `out` stands already.
    """
    package.check_target(out, force)
    model = runs.read_run(folder)
    if not isinstance(model, Nested):
        raise PackageError(f"{folder}: family {model.config.family!r}; only nested models are quantised from their runs")
    say("reading pictures")
    pictures, held = pieces(pictures, 0), pieces(held, 1)
    made, largest = package_of_nested(model, out.resolve().name, pictures, say)
    path = package.write(made, out, force)
    say(f"measuring what it costs on {len(held)} pictures")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = torch.cat([model.nelbo(x, generator).steps for x in _tensors(held)], 1).mean(1)
    return Cost(tuple(before.tolist()), _rates(Codec(package.read(path)), held), tuple(largest), path)


def pieces(pictures: Iterable[NDArray[np.uint8]], seed: int) -> list[NDArray[np.uint8]]:
    """Of each picture (H, W, 3) at most SIDE x SIDE, at a place that follows from the seed and its number; small ones are whole."""
    found = []
    for number, picture in enumerate(pictures):
        room = [max(0, side - SIDE) + 1 for side in picture.shape[:2]]
        y, x = np.random.default_rng((seed, number)).integers(room).tolist()
        found.append(picture[y : y + SIDE, x : x + SIDE].copy())  # a copy: the rest of the picture is not kept
    return found


def package_of_nested(
    model: Nested, name: str, pictures: Sequence[NDArray[np.uint8]], say: Say = lambda line: None
) -> tuple[Package, list[float]]:
    """A nested model in integers, calibrated on `pictures` (H, W, 3); and log2 of each step's largest partial sum.

    How much of what a channel reaches has to fit is tried step by step: too much is coarse, too little is cut off. What a step costs
    depends on its own networks alone, since every level's cells follow from the offsets.
    """
    generator = torch.Generator().manual_seed(0)
    say(f"walking through {len(pictures)} pictures")
    states: list[list[State]] = [[] for _ in model.steps]
    with torch.no_grad():
        for x in _tensors(pictures):
            levels = model.levels(nested.coordinates(x), generator)
            for k, (step, (parent, child)) in enumerate(zip(model.steps, pairwise(levels))):
                states[k].append(State(_boxes(parent), _boxes(child)))
                _, turns = step.bits(step.trunk(parent), parent, child)
                if k + 1 < len(model.steps):  # and what previews of cut files ask the next step
                    state = nested.partly(parent, child, turns, generator)
                    states[k + 1].append(State(_boxes(state), _boxes(levels[k + 2])))
    tried: list[list[passes.Step]] = []
    costs = []
    for quantile in QUANTILES:
        say(f"scales, choice {len(tried) + 1} of {len(QUANTILES)}")
        tried.append([quantise_nested(step, own, quantile) for step, own in zip(model.steps, states)])
        costs.append(_rates(Codec(_package(model, name, tried[-1])), pictures))
    best = [tried[min(range(len(tried)), key=lambda k: costs[k][i])][i] for i in range(len(model.steps))]
    return _package(model, name, best), [made.check(f"{name}, step {i + 1}") for i, made in enumerate(best)]


def _package(model: Nested, name: str, steps: Sequence[passes.Step]) -> Package:
    """Steps in integers as a model."""
    weights: dict[str, NDArray[Any]] = {}
    for i, step in enumerate(steps):
        weights |= passes.named(step, f"{i}.")
    network = {"kind": "nested", "steps": [passes.described(step) for step in steps]}
    constants = {"widths": [list(w) for w in model.widths], "priority": list(nested.PRIORITY)}
    about = {"description": f"nested universal quantization, T = {len(steps)}", "multiply_adds_per_pixel": model.multiply_adds()}
    return Package(name, "nested", network, constants, weights, about)


def _tensors(pictures: Sequence[NDArray[np.uint8]]) -> list[torch.Tensor]:
    """(1, 3, H, W) each, of even sides."""
    even = [p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2] for p in pictures]
    return [torch.from_numpy(np.ascontiguousarray(p.transpose(2, 0, 1)))[None] for p in even]


def _boxes(cells: nested.Cells) -> Boxes:
    return cells.low.numpy().astype(np.int32), cells.high.numpy().astype(np.int32)


def quantise_model(
    model: str | Path,
    out: Path,
    pictures: Sequence[NDArray[np.uint8]],
    held: Sequence[NDArray[np.uint8]],
    force: bool = False,
    say: Say = lambda line: None,
) -> Cost:
    """The model folder `out`: `model` in integers, its scales calibrated on `pictures`, its cost measured on `held`, (H, W, 3) each.

    Of pictures with a side above SIDE a piece is looked at (see `pieces`); each is asked for once. `say` hears what is done. Raises
    `PackageError` where the model's networks are not convolutional ones of floats, or no scales keep the bound; `OutputError` where
    `out` stands already.
    """
    package.check_target(out, force)
    source = package.read(library.find(model))
    if source.network.get("kind") != "convnet":
        raise PackageError(f"{source.name}: network kind {source.network.get('kind')!r}; only 'convnet' can become exact")
    say("reading pictures")
    pictures, held = pieces(pictures, 0), pieces(held, 1)
    codec = Codec(source)
    family = codec.family("tight")
    family.denoiser = recorder = _Recorder(family.denoiser, family.chunks)  # type: ignore[attr-defined]
    say(f"walking through {len(pictures)} pictures")
    files = codec.compress(list(pictures))
    if recorder.mixed:
        for data in files:
            codec.decode_many(list(_cut(codec, data)))
    weights: dict[str, NDArray[Any]] = {}
    steps, largest = [], []
    for i, described in enumerate(source.network["steps"]):
        say(f"step {i + 1} of {len(recorder.boxes)}")
        net = StepNet(list(floats(described["width"])), list(floats(described["middle"])), described["channels"], described["blocks"])
        prefix = f"{i}."
        own = {k.removeprefix(prefix): torch.from_numpy(v.astype(np.float32)) for k, v in source.weights.items() if k.startswith(prefix)}
        net.load_state_dict(own)
        step = quantise(net, recorder.boxes[i])
        largest.append(step.check(f"{source.name}, step {i + 1}"))
        weights |= exact.named(step, prefix)
        steps.append({"channels": described["channels"], "blocks": described["blocks"]})
    network = {"kind": "exact", "mixed": recorder.mixed, "steps": steps}
    about = dict(source.about) | {"quantised_from": source.fingerprint}
    made = Package(out.resolve().name, source.family, network, source.constants, weights, about)
    path = package.write(made, out, force)
    say(f"measuring what it costs on {len(held)} pictures")
    before, after = (_rates(Codec(one), held) for one in (source, package.read(path)))
    return Cost(before, after, tuple(largest), path)


def _cut(codec: Codec, data: bytes) -> list[bytes]:
    """A file's beginnings that end inside its steps."""
    from uqdm.format import container

    chunks = container.parse(data).chunks
    return [data[: int(c.start + share * (c.end - c.start))] for c in chunks if c.kind == container.STEP for share in CUTS]


def _rates(codec: Codec, pictures: Sequence[NDArray[np.uint8]]) -> tuple[float, ...]:
    """Mean ideal code length of each step, bits per pixel."""
    rates = [codec.estimate(p) / (p.shape[0] * p.shape[1]) for p in pictures]
    return tuple(float(r) for r in np.mean(rates, 0))
