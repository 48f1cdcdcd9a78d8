"""A trained nested model to a model in integers: walks calibration pictures to see what its
networks see, and gives channels scales.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uqdm.bundle import Package
from uqdm.entropy.mixtures import WEIGHT_BITS
from uqdm.entropy.tables import LEVELS_PER_OCTAVE, LOWEST_OCTAVE
from uqdm.exact.features import LEVEL_BITS, LOCATION_BITS
from uqdm.families.floats import Pictures
from uqdm.families.nested import networks
from uqdm.families.nested.networks import NestedPass, NestedStep
from uqdm.families.nested.torch import model as nested
from uqdm.families.nested.torch.model import Nested
from uqdm.families.torch.calibrate import QUANTILE, QUANTILES, RAW_LEVEL, Layers, Sample, quantised
from uqdm.families.torch.cells import FloatCells, coordinates

Ends = tuple[NDArray[np.int32], NDArray[np.int32]]  # low, high (N, C, H, W)


def package_of(
    model: Nested,
    name: str,
    pictures: Pictures,
    measure: Callable[[Package], Sequence[float]],
    say: Callable[[str], None],
) -> tuple[Package, list[float]]:
    """A nested model in integers, calibrated on `pictures` (H, W, 3); and log2 of each step's
    largest partial sum.

    How much of what a channel reaches has to fit is tried step by step: too much is coarse, too
    little is cut off. `measure` says what each step of a model costs. What a step costs depends on
    its own networks alone, since every level's cells follow from the offsets.
    """
    generator = torch.Generator().manual_seed(0)
    say(f"walking through {len(pictures)} pictures")
    states: list[list[Shown]] = [[] for _ in model.steps]
    with torch.no_grad():
        for x in _tensors(pictures):
            levels = model.levels(coordinates(x), generator)
            for k, (step, (parent, child)) in enumerate(zip(model.steps, pairwise(levels))):
                states[k].append(Shown(_boxes(parent), _boxes(child)))
                _, turns = step.bits(step.trunk(parent), parent, child)
                if k + 1 < len(model.steps):  # and what previews of cut files ask the next step
                    state = nested.partly(parent, child, turns, generator)
                    states[k + 1].append(Shown(_boxes(state), _boxes(levels[k + 2])))
    tried: list[list[NestedStep]] = []
    costs = []
    for quantile in QUANTILES:
        say(f"scales, choice {len(tried) + 1} of {len(QUANTILES)}")
        tried.append([quantise_nested(step, own, quantile) for step, own in zip(model.steps, states)])
        costs.append(measure(_package(model, name, tried[-1])))
    best = [tried[min(range(len(tried)), key=lambda k: costs[k][i])][i] for i in range(len(model.steps))]
    return _package(model, name, best), [made.check(f"{name}, step {i + 1}") for i, made in enumerate(best)]


def _package(model: Nested, name: str, steps: Sequence[NestedStep]) -> Package:
    """Steps in integers as a model."""
    weights: dict[str, NDArray[Any]] = {}
    for i, step in enumerate(steps):
        weights |= networks.named(step, f"{i}.")
    network = {"kind": "nested", "steps": [networks.described(step) for step in steps]}
    constants = {"widths": [list(w) for w in model.widths], "priority": list(nested.PRIORITY)}
    about = {
        "description": f"nested universal quantization, T = {len(steps)}",
        "multiply_adds_per_pixel": model.multiply_adds(),
    }
    return Package(name, "nested", network, constants, weights, about)


def _tensors(pictures: Sequence[NDArray[np.uint8]]) -> list[torch.Tensor]:
    """(1, 3, H, W) each, of even sides."""
    even = [p[: p.shape[0] // 2 * 2, : p.shape[1] // 2 * 2] for p in pictures]
    return [torch.from_numpy(np.ascontiguousarray(p.transpose(2, 0, 1)))[None] for p in even]


def _boxes(cells: FloatCells) -> Ends:
    return cells.low.numpy().astype(np.int32), cells.high.numpy().astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Shown:
    """What one step of a nested model is shown in use: the boxes before it and after it, int
    (N, C, H, W), H and W even.
    """

    parent: Ends
    child: Ends


def quantise_nested(step: nested.FloatStep, states: Sequence[Shown], quantile: float = QUANTILE) -> NestedStep:
    """One step of a nested model as integers. `quantile` of what a channel reaches fits. Raises
    `PackageError`.
    """
    width, middle = step.width.flatten().double(), step.middle.flatten().double()
    detail = detail_shift(width)
    wide = np.max([(high - low).max((0, 2, 3)) + 1 for low, high in (s.parent for s in states)], 0)
    bare = NestedStep(
        middle=np.rint(2 * middle.numpy()).astype(np.int16),
        width=np.rint(width.numpy() * 2**16).astype(np.int64),
        detail=np.array(detail, np.int8),
        wide=wide.astype(np.int16),
        trunk=None,
        passes=(),
    )
    with torch.no_grad():
        units = feature_units(width, detail)
        c, scale = len(width), None
        if step.channels:
            samples = [Sample(torch.from_numpy(bare.features(*_short(state.parent)))) for state in states]
            trunk, scale = quantised(
                Layers(step.enter, step.body, leaky=True), units, bare.limits(), samples, None, None, quantile
            )
            bare = dataclasses.replace(bare, trunk=trunk)
            units = units[4 * c : 8 * c]
        made = tuple(
            _pass(step, bare, number, units, scale, states, quantile) for number in range(len(networks.PHASES))
        )
    return dataclasses.replace(bare, passes=made)


def _pass(
    step: nested.FloatStep,
    bare: NestedStep,
    number: int,
    units: Tensor,
    scale: Tensor | None,
    states: Sequence[Shown],
    quantile: float,
) -> NestedPass:
    """One pass, calibrated on the states that it sees: the phases before it are children
    already.
    """
    one = step.passes[number]
    assert isinstance(one, nested.FloatPass)
    samples = []
    for state in states:
        low, high = (end.copy() for end in state.parent)
        for k in range(number):
            for end, told in zip((low, high), state.child):
                networks.phase(end, k)[...] = networks.phase(told, k)
        trunk = step.trunk(FloatCells(*(torch.from_numpy(end.astype(np.float32)) for end in state.parent)))
        samples.append(Sample(torch.from_numpy(bare.pass_features(*_short((low, high)))[0]), trunk))
    coordinates, _, mixtures = one.shape
    each = torch.tensor([2.0**-LOCATION_BITS, RAW_LEVEL, 2.0**-WEIGHT_BITS])
    raw = each.repeat_interleave(mixtures).repeat(coordinates)
    layers = Layers(one.enter, one.body, one.head, one.join, leaky=True)
    net, _ = quantised(layers, units, bare.pass_limits(), samples, raw, scale, quantile)
    width = step.width.flatten().double()
    return NestedPass(
        net=net,
        offset=np.rint((one.offset.double() * width[:, None]).numpy() * 2**16).astype(np.int64),
        level=raw_levels(one.stretch, width[:, None]),
        skip=skips(one.skip.flatten(), width),
    )


def _short(box: Ends) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    return box[0].astype(np.int16), box[1].astype(np.int16)


def detail_shift(width: Tensor) -> int:
    """By how much the high-pass, in 2**-5 pixel values, is shifted as a feature: 2047 are to be
    some hundred pixel values or more.
    """
    return max(0, min(3, 5 + math.floor(math.log2(float(width.max()))) - 10))


def feature_units(width: Tensor, detail: int) -> Tensor:
    """(12 C,) what one integer of each feature stands for in a network's own units."""
    w = width.float()
    return torch.cat([torch.full_like(w, 1 / 128), 2.0 ** (detail - 5) / w, 1 / w]).repeat_interleave(4)


def skips(smooth: Tensor, width: Tensor) -> NDArray[np.int64]:
    """`BoxFeatures.base`'s skip from a network's own, which multiplies the high-pass in widths."""
    found: NDArray[np.int64] = np.rint((32 * width.double() / smooth.double()).numpy()).astype(np.int64)
    return found


def raw_levels(stretch: Tensor, width: Tensor) -> NDArray[np.int32]:
    """What is added to raw levels, for logarithms of scales in widths; half a level more: the
    nearest, not the one below.
    """
    level = (stretch.double() + torch.log(width.double())) / math.log(2) - LOWEST_OCTAVE
    one = 1 << LEVEL_BITS
    found: NDArray[np.int32] = np.floor(level.numpy() * LEVELS_PER_OCTAVE * one + one / 2).astype(np.int32)
    return found
