"""One step of a nested model in integers: trunk and four passes (`models/nested.py` is the same in floats); knows no runtime.

Boxes are int16 (N, C, H, W), ends included, H and W even. Everything that networks see or say goes through here, in NumPy's integers:

    features    centre, high-pass and width of every box, four pixels of 2 x 2 as channels; a pass of a step with a trunk sees the high-pass
    mixture     a pass's raw outputs to locations, scale levels and weights of the logistics of its phase

Raw outputs of a pass are (N, C * 3 * J, h, w): for each coordinate J offsets in 2**-LOCATION_BITS of the parents' width, J levels in
2**-LEVEL_BITS, J logarithms of weights in 2**-WEIGHT_BITS nats.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.mixtures import TOTAL, weights
from uqdm.errors import PackageError
from uqdm.exact import network as exact
from uqdm.exact.network import COORDINATES, DETAIL_LIMIT, FARTHEST, LEVEL_BITS, LEVELS, LOCATION_BITS, MOST_BLOCKS, RANGES, Net, high_pass

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # of 2 x 2 pixels (y, x), in the order of the passes

Array = NDArray[Any]
Boxes = NDArray[np.int16]
STEP = ("middle", "width", "detail", "wide")
PASS = ("offset", "level", "skip")
MIDDLE = (255, 0, 0)  # twice the middles of luma and chroma, which this family codes
MOST_LOGISTICS = 16  # J


class Mixture(NamedTuple):
    """Mixtures of J logistics for every coordinate of a phase."""

    location: NDArray[np.int32]  # (N, C, h, w, J) 2**-16 pixel values
    level: NDArray[np.uint8]  # the same shape, of scales (`entropy.tables`)
    weight: NDArray[np.uint16]  # the same shape, adding up to TOTAL
    mean: NDArray[np.uint8]  # (N, C, h, w) the weighted mean of the levels, rounded down


def phase(field: Any, number: int) -> Any:
    """The pixels of a phase, a view of an array or a tensor: (..., H, W) -> (..., h, w)."""
    row, column = PHASES[number]
    return field[..., row::2, column::2]


def _gathered(field: Array) -> Array:
    """(N, C, H, W) -> (N, 4 C, H/2, W/2): the four pixels of 2 x 2 as channels."""
    n, c, h, w = field.shape
    return field.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass: its network, and what is added to what that says. C coordinates, J logistics each."""

    net: Net
    offset: Array  # (C, J) to locations, 2**-16 pixel values
    level: Array  # (C, J) to raw levels
    skip: Array  # (C,) as `exact.Step.skip`


@dataclasses.dataclass(frozen=True)
class Step:
    """One step. `trunk` is None where the passes see all features."""

    middle: Array  # (C,) twice the middle of the range
    width: Array  # (C,) of the parents, 2**-16 pixel values
    detail: Array  # () as a feature the high-pass, in 2**-5 pixel values, is shifted right by so much
    wide: Array  # (C,) box widths are limited to it as a feature
    trunk: Net | None
    passes: tuple[Pass, ...]

    @property
    def reach(self) -> int:
        """How far around a pixel the trunk's activations depend on the boxes, in pixels, rounded up to even."""
        return self.trunk.sees if self.trunk is not None else 0

    def pass_reach(self, number: int) -> int:
        """The same of a pass, given the trunk's activations."""
        return self.passes[number].net.sees

    def limits(self) -> Array:
        """(12 C,) what the features cannot exceed in size."""
        return exact.limits(self.middle, self.wide)

    def pass_limits(self) -> Array:
        """What those of a pass cannot."""
        return self.limits() if self.trunk is None else np.full(4 * len(self.middle), DETAIL_LIMIT, np.int64)

    def check(self, name: str) -> float:
        """log2 of the largest partial sum there can be. Raises `PackageError` from 2**24 on, or where it is no such step."""
        for field in STEP:
            exact.ranged(f"{name}: {field}", getattr(self, field), () if field == "detail" else (COORDINATES,), *RANGES[field])
        if tuple(self.middle.tolist()) != MIDDLE:
            raise PackageError(f"{name}: middle is {self.middle.tolist()}; expected {MIDDLE}")
        if len(self.passes) != len(PHASES):
            raise PackageError(f"{name}: {len(self.passes)} passes, expected {len(PHASES)}")
        largest = [1]
        width = 0
        if self.trunk is not None:
            if self.trunk.head is not None or self.trunk.join is not None:
                raise PackageError(f"{name}: its trunk has a head or joins another; expected neither")
            largest.append(self.trunk.largest(f"{name}, trunk", self.limits()))
            width = len(self.trunk.layers[2])
        largest += [self._check_pass(f"{name}, pass {number + 1}", one, width) for number, one in enumerate(self.passes)]
        return float(np.log2(max(largest)))

    def _check_pass(self, name: str, one: "Pass", width: int) -> int:
        """The largest partial sum of a pass that joins `width` activations."""
        logistics = one.offset.shape[1] if one.offset.ndim == 2 else 0
        if not 1 <= logistics <= MOST_LOGISTICS:
            raise PackageError(f"{name}: offsets of shape {one.offset.shape}; expected 3 rows of 1 to {MOST_LOGISTICS} logistics")
        for field in PASS:
            shape = (COORDINATES,) if field == "skip" else (COORDINATES, logistics)
            exact.ranged(f"{name}: {field}", getattr(one, field), shape, *RANGES[field])
        largest = one.net.largest(name, self.pass_limits())
        joined = one.net.join.weight.shape[1] if one.net.join is not None else 0
        if joined != width or one.net.head is None or len(one.net.head.bias) != 3 * one.offset.size:
            raise PackageError(f"{name}: the layers' sizes do not fit together")
        return largest

    def features(self, low: Boxes, high: Boxes) -> NDArray[np.float32]:
        """All of them: (N, 12 C, H/2, W/2), integers as float32."""
        return self._features(low, high, high_pass(low.astype(np.int32) + high))

    def _features(self, low: Boxes, high: Boxes, high_passed: NDArray[np.int32]) -> NDArray[np.float32]:
        twice = low.astype(np.int32) + high
        # From below too: only damaged or sampled streams make empty boxes, but `check` must hold for them.
        wide = np.clip(high.astype(np.int32) - low + 1, 0, self.wide[:, None, None].astype(np.int32))
        stack = np.concatenate([twice - self.middle[:, None, None].astype(np.int32), self._detail(high_passed), wide], 1)
        return np.ascontiguousarray(_gathered(stack), np.float32)

    def pass_features(self, low: Boxes, high: Boxes) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """What a pass sees, (N, 4 C, H/2, W/2), or without a trunk all features; and the high-pass (N, C, H, W), for `mixture`."""
        high_passed = high_pass(low.astype(np.int32) + high)
        if self.trunk is None:
            return self._features(low, high, high_passed), high_passed
        return np.ascontiguousarray(_gathered(self._detail(high_passed)), np.float32), high_passed

    def _detail(self, high_passed: NDArray[np.int32]) -> NDArray[np.int32]:
        shift = self.detail.item()
        found: NDArray[np.int32] = np.clip((high_passed + (1 << shift >> 1)) >> shift, -DETAIL_LIMIT, DETAIL_LIMIT)
        return found

    def mixture(self, number: int, raw: Array, low: Boxes, high: Boxes, high_passed: NDArray[np.int32]) -> Mixture:
        """Raw outputs (N, 3 C J, h, w) of a pass and the boxes (N, C, H, W) that it saw, with their high-pass, to logistics."""
        one = self.passes[number]
        (c, j), (n, _, h, w) = one.offset.shape, raw.shape
        offset, level, logarithm = raw.reshape(n, c, 3, j, h, w).astype(np.int32).transpose(2, 0, 1, 4, 5, 3)
        twice = phase(low, number).astype(np.int32) + phase(high, number)
        base = self._base(twice, phase(high_passed, number), one.skip)
        location = (offset.astype(np.int64) * self.width[:, None, None, None]) >> LOCATION_BITS
        location += one.offset[:, None, None]
        location += base[..., None]
        levels = np.clip((level + one.level[:, None, None].astype(np.int32)) >> LEVEL_BITS, 0, LEVELS - 1).astype(np.uint8)
        weight = weights(logarithm)
        mean = ((levels.astype(np.int32) * weight).sum(-1) // TOTAL).astype(np.uint8)
        return Mixture(np.clip(location, -FARTHEST, FARTHEST).astype(np.int32), levels, weight, mean)

    def _base(self, twice: NDArray[np.int32], high_passed: NDArray[np.int32], skip: Array) -> NDArray[np.int64]:
        """Of each box the centre and width * d / (|s| + |d|) with the sign of s, the skip; d: the high-pass in 2**-5."""
        shape = (-1, 1, 1)
        width, s = self.width.astype(np.int64).reshape(shape), skip.astype(np.int64).reshape(shape)
        detail = high_passed.astype(np.int64)
        found: NDArray[np.int64] = np.where(s < 0, -width, width) * detail // (np.abs(detail) + np.maximum(np.abs(s), 1))
        found *= s != 0
        found += twice.astype(np.int64) << 15
        return found


def parse(name: str, network: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[Step, ...]:
    """The steps of a package whose network is of kind "nested". Raises `PackageError` where they are none, or break the bound."""
    found = []
    try:
        exact.known(network, "kind", "steps")
        for i, described in enumerate(network["steps"]):
            exact.known(described, "trunk", "passes")
            take = functools.partial(exact.take, arrays, f"{i}.")
            trunk = None
            if described["trunk"] is not None:
                trunk = exact.net(take, "trunk.", exact.count(described, "trunk", MOST_BLOCKS), True)
            blocks = exact.count(described, "passes", MOST_BLOCKS)
            passes = []
            for k in range(len(PHASES)):
                fields = {field: take(f"pass{k}.{field}") for field in PASS}
                passes.append(Pass(exact.net(take, f"pass{k}.", blocks, True), **fields))
            step = Step(**{field: take(field) for field in STEP}, trunk=trunk, passes=tuple(passes))
            step.check(f"{name}, step {i + 1}")
            found.append(dataclasses.replace(step, detail=step.detail.reshape(())))  # files hold no scalars
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PackageError(f"{name}: not a nested network: {type(error).__name__}: {error}") from None
    exact.nothing_else(name, arrays, *(named(step, f"{i}.") for i, step in enumerate(found)))
    return tuple(found)


def described(step: Step) -> dict[str, Any]:
    """A step as a package's network has it: how many residual blocks there are; None: no trunk."""
    return {"trunk": None if step.trunk is None else len(step.trunk.blocks), "passes": len(step.passes[0].net.blocks)}


def named(step: Step, prefix: str) -> dict[str, Array]:
    """A step's arrays by the names that `parse` reads."""
    out = {prefix + field: np.atleast_1d(getattr(step, field)) for field in STEP}
    if step.trunk is not None:
        out |= exact.named_net(step.trunk, prefix + "trunk.")
    for k, one in enumerate(step.passes):
        out |= {f"{prefix}pass{k}.{field}": getattr(one, field) for field in PASS}
        out |= exact.named_net(one.net, f"{prefix}pass{k}.")
    return out
