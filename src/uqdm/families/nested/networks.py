"""One step of a nested model in integers: trunk and four passes (`torch/model.py` is the same in
floats); knows no runtime.

The trunk sees the features of `exact/features.py`. A pass of a step with a trunk sees the high-pass
of the boxes as they are by then; without a trunk, a pass sees all features.

Raw outputs of a pass are (N, C * 3 * J, h, w): for each coordinate J offsets in 2**-LOCATION_BITS
of the parents' width, J levels in 2**-LEVEL_BITS, J logarithms of weights in 2**-WEIGHT_BITS nats.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.mixtures import TOTAL, weights
from uqdm.errors import PackageError
from uqdm.exact import parsing
from uqdm.exact.bound import MOST_BLOCKS, largest, ranged
from uqdm.exact.features import (
    COORDINATES,
    DETAIL_LIMIT,
    FARTHEST,
    LEVEL_BITS,
    LEVELS,
    LOCATION_BITS,
    RANGES,
    Boxes,
    BoxFeatures,
    gathered,
    high_pass,
)
from uqdm.exact.network import Array, Net

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # of 2 x 2 pixels (y, x), in the order of the passes
STEP = ("middle", "width", "detail", "wide")
PASS = ("offset", "level", "skip")
MIDDLE = (255, 0, 0)  # twice the middles of luma and chroma, which this family codes
MOST_LOGISTICS = 16  # J


class NestedMixture(NamedTuple):
    """Mixtures of J logistics for every coordinate of a phase."""

    location: NDArray[np.int32]  # (N, C, h, w, J) 2**-16 pixel values
    level: NDArray[np.uint8]  # the same shape, of scales (`entropy.tables`)
    weight: NDArray[np.uint16]  # the same shape, adding up to TOTAL
    mean: NDArray[np.uint8]  # (N, C, h, w) the weighted mean of the levels, rounded down


def phase(field: Any, number: int) -> Any:
    """The pixels of a phase, a view of an array or a tensor: (..., H, W) -> (..., h, w)."""
    row, column = PHASES[number]
    return field[..., row::2, column::2]


@dataclasses.dataclass(frozen=True)
class NestedPass:
    """One pass: its network, and what is added to what that says. C coordinates, J logistics
    each.
    """

    net: Net
    offset: Array  # (C, J) to locations, 2**-16 pixel values
    level: Array  # (C, J) to raw levels
    skip: Array  # (C,) see `BoxFeatures.base`

    @property
    def reach(self) -> int:
        """How far around a pixel the outputs depend on the boxes, given the trunk's activations:
        pixels, even.
        """
        return 2 * self.net.reach + 2

    def check(self, name: str, edge: Array, width: int) -> int:
        """The largest partial sum, for features up to `edge` in size and a trunk of `width`
        channels. Raises `PackageError`.
        """
        logistics = self.offset.shape[1] if self.offset.ndim == 2 else 0
        if not 1 <= logistics <= MOST_LOGISTICS:
            raise PackageError(
                f"{name}: offsets of shape {self.offset.shape}; expected 3 rows of 1 to {MOST_LOGISTICS} logistics"
            )
        for field in PASS:
            shape = (COORDINATES,) if field == "skip" else (COORDINATES, logistics)
            ranged(f"{name}: {field}", getattr(self, field), shape, *RANGES[field])
        found = largest(self.net, name, edge)
        joined = self.net.join.weight.shape[1] if self.net.join is not None else 0
        if joined != width or self.net.head is None or len(self.net.head.bias) != 3 * self.offset.size:
            raise PackageError(f"{name}: the layers' sizes do not fit together")
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class NestedStep(BoxFeatures):
    """One step; `width` is that of the parents. `trunk` is None where the passes see all
    features.
    """

    trunk: Net | None
    passes: tuple[NestedPass, ...]

    @property
    def reach(self) -> int:
        """How far around a pixel the trunk's activations depend on the boxes: pixels, even."""
        return 2 * self.trunk.reach + 2 if self.trunk is not None else 0

    def pass_limits(self) -> Array:
        """What the features of a pass cannot exceed in size."""
        return self.limits() if self.trunk is None else np.full(4 * len(self.middle), DETAIL_LIMIT, np.int64)

    def check(self, name: str) -> float:
        """log2 of the largest partial sum there can be. Raises `PackageError` from 2**24 on, or
        where it is no such step.
        """
        self.check_constants(name)
        if tuple(self.middle.tolist()) != MIDDLE:
            raise PackageError(f"{name}: middle is {self.middle.tolist()}; expected {MIDDLE}")
        if len(self.passes) != len(PHASES):
            raise PackageError(f"{name}: {len(self.passes)} passes, expected {len(PHASES)}")
        found, width = [1], 0
        if self.trunk is not None:
            if self.trunk.head is not None or self.trunk.join is not None:
                raise PackageError(f"{name}: its trunk has a head or joins another; expected neither")
            found.append(largest(self.trunk, f"{name}, trunk", self.limits()))
            width = self.trunk.channels
        edge = self.pass_limits()
        found += [one.check(f"{name}, pass {number + 1}", edge, width) for number, one in enumerate(self.passes)]
        return float(np.log2(max(found)))

    def pass_features(self, low: Boxes, high: Boxes) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """What a pass sees, (N, 4 C, H/2, W/2), or without a trunk all features; and the high-pass
        (N, C, H, W), for `mixture`.
        """
        high_passed = high_pass(low.astype(np.int32) + high)
        if self.trunk is None:
            return self.features_given(low, high, high_passed), high_passed
        return gathered(self.details(high_passed)), high_passed

    def mixture(
        self, number: int, raw: Array, low: Boxes, high: Boxes, high_passed: NDArray[np.int32]
    ) -> NestedMixture:
        """Raw outputs (N, 3 C J, h, w) of a pass and the boxes (N, C, H, W) that it saw, with their
        high-pass, to logistics.
        """
        one = self.passes[number]
        (c, j), (n, _, h, w) = one.offset.shape, raw.shape
        offset, level, logarithm = raw.reshape(n, c, 3, j, h, w).astype(np.int32).transpose(2, 0, 1, 4, 5, 3)
        twice = phase(low, number).astype(np.int32) + phase(high, number)
        location = (offset.astype(np.int64) * self.width[:, None, None, None]) >> LOCATION_BITS
        location += one.offset[:, None, None]
        location += self.base(twice, phase(high_passed, number), one.skip)[..., None]
        levels = np.clip((level + one.level[:, None, None].astype(np.int32)) >> LEVEL_BITS, 0, LEVELS - 1).astype(
            np.uint8
        )
        weight = weights(logarithm)
        mean = ((levels.astype(np.int32) * weight).sum(-1) // TOTAL).astype(np.uint8)
        return NestedMixture(np.clip(location, -FARTHEST, FARTHEST).astype(np.int32), levels, weight, mean)


def parse(name: str, network: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[NestedStep, ...]:
    """The steps of a package whose network is of kind "nested". Raises `PackageError` where they
    are none, or break the bound.
    """
    found = []
    with parsing.described(name, "a nested network"):
        parsing.known(network, "kind", "steps")
        for i, described in enumerate(network["steps"]):
            parsing.known(described, "trunk", "passes")
            take = functools.partial(parsing.take, arrays, f"{i}.")
            trunk = None
            if described["trunk"] is not None:
                trunk = parsing.net(take, "trunk.", parsing.count(described, "trunk", MOST_BLOCKS), True)
            blocks = parsing.count(described, "passes", MOST_BLOCKS)
            passes = []
            for k in range(len(PHASES)):
                fields = {field: take(f"pass{k}.{field}") for field in PASS}
                passes.append(NestedPass(parsing.net(take, f"pass{k}.", blocks, True), **fields))
            step = NestedStep(**{field: take(field) for field in STEP}, trunk=trunk, passes=tuple(passes))
            step.check(f"{name}, step {i + 1}")
            found.append(dataclasses.replace(step, detail=step.detail.reshape(())))  # files hold no scalars
    parsing.nothing_else(name, arrays, *(named(step, f"{i}.") for i, step in enumerate(found)))
    return tuple(found)


def described(step: NestedStep) -> dict[str, Any]:
    """A step as a package's network has it: how many residual blocks there are; None: no trunk."""
    return {"trunk": None if step.trunk is None else len(step.trunk.blocks), "passes": len(step.passes[0].net.blocks)}


def named(step: NestedStep, prefix: str) -> dict[str, Array]:
    """A step's arrays by the names that `parse` reads."""
    out = {prefix + field: np.atleast_1d(getattr(step, field)) for field in STEP}
    if step.trunk is not None:
        out |= parsing.named(step.trunk, prefix + "trunk.")
    for k, one in enumerate(step.passes):
        out |= {f"{prefix}pass{k}.{field}": getattr(one, field) for field in PASS}
        out |= parsing.named(one.net, f"{prefix}pass{k}.")
    return out
