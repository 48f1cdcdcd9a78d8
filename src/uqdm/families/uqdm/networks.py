"""One step of an exact UQDM in integers: features, network, what its outputs suggest; knows no
runtime.

Raw outputs are (N, 8 C, H/2, W/2): for each coordinate of 2 x 2 pixels a location in
2**-LOCATION_BITS of the nominal width, and then as many levels in 2**-LEVEL_BITS of a level.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import PackageError
from uqdm.exact import parsing
from uqdm.exact.bound import MOST_BLOCKS, MOST_CHANNELS, largest
from uqdm.exact.features import FARTHEST, LEVEL_BITS, LEVELS, LOCATION_BITS, Boxes, BoxFeatures, high_pass
from uqdm.exact.network import Array, Net

MIDDLES = (0, 255)  # twice the middle of a coordinate's range; 255 only where it is 0 .. 255 (`constants.py` looks)
CONSTANTS = ("middle", "width", "offset", "level", "detail", "wide", "skip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class UqdmStep(BoxFeatures):
    """One step. C coordinates a pixel."""

    offset: Array  # (C,) added to locations, 2**-16 pixel values
    level: Array  # (C,) added to raw levels
    skip: Array  # (C,) see `BoxFeatures.base`
    net: Net | None = None  # None: the step suggests the same for every coordinate of a channel

    @property
    def reach(self) -> int:
        """How far around a pixel the outputs depend on the boxes: pixels, even. The network is at
        half resolution; the high-pass is not.
        """
        return 2 * self.net.reach + 2 if self.net is not None else 0

    def check(self, name: str) -> float:
        """log2 of the largest partial sum there can be. Raises `PackageError` from 2**24 on, or
        where it is no such step.
        """
        self.check_constants(name, "offset", "level", "skip")
        if set(self.middle.tolist()) - set(MIDDLES):
            raise PackageError(f"{name}: middle is {self.middle.tolist()}; expected 0 or 255 each")
        if self.net is None:
            farthest = int(np.abs((self.middle.astype(np.int64) << 15) + self.offset).max())
            if farthest > FARTHEST:
                raise PackageError(f"{name}: a location of {farthest}; expected at most 2**30")
            return 0.0
        if self.net.join is not None:
            raise PackageError(f"{name}: joins another network's activations, and there is none")
        if self.net.head is None or len(self.net.head.bias) != 8 * len(self.middle):
            raise PackageError(f"{name}: the layers' sizes do not fit together")
        return float(np.log2(max(1, largest(self.net, name, self.limits()))))

    def constant(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """What a step without a network suggests for every coordinate: locations and scale levels
        of that shape (N, C, H, W).
        """
        location = (self.middle.astype(np.int64) << 15) + self.offset
        level = np.clip(self.level.astype(np.int64) >> LEVEL_BITS, 0, LEVELS - 1)
        whole = (np.broadcast_to(a.reshape(-1, 1, 1), shape) for a in (location, level))
        return next(whole).astype(np.int32), next(whole).astype(np.uint8)

    def suggest(self, raw: Array, low: Boxes, high: Boxes) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Raw outputs (N, 8 C, H/2, W/2) and boxes (N, C, H, W) to locations (2**-16 pixel values)
        and scale levels, (N, C, H, W).
        """
        width, offset = (a.astype(np.int64).reshape(-1, 1, 1) for a in (self.width, self.offset))
        twice = low.astype(np.int32) + high
        n, c, h, w = twice.shape
        raw = raw.reshape(n, 2 * c, 2, 2, h // 2, w // 2).transpose(0, 1, 4, 2, 5, 3).reshape(n, 2 * c, h, w)
        location = raw[:, :c].astype(np.int64)
        location *= width
        location >>= LOCATION_BITS
        location += self.base(twice, high_pass(twice), self.skip)
        location += offset
        level = raw[:, c:].astype(np.int32) + self.level.astype(np.int32).reshape(-1, 1, 1)
        levels = np.clip(level >> LEVEL_BITS, 0, LEVELS - 1).astype(np.uint8)
        return np.clip(location, -FARTHEST, FARTHEST).astype(np.int32), levels


def parse(name: str, network: Mapping[str, Any], weights: Mapping[str, Array]) -> tuple[UqdmStep, ...]:
    """The steps of a package whose network is of kind "exact". Raises `PackageError` where they are
    none, or break the bound.
    """
    steps = []
    with parsing.described(name, "an exact network"):
        parsing.known(network, "kind", "steps", "mixed")
        if type(network.get("mixed", False)) is not bool:
            raise ValueError(f"mixed is {network['mixed']!r}; expected true or false")
        for i, described in enumerate(network["steps"]):
            parsing.known(described, "channels", "blocks")
            channels = parsing.count(described, "channels", MOST_CHANNELS)
            blocks = parsing.count(described, "blocks", MOST_BLOCKS)
            take = functools.partial(parsing.take, weights, f"{i}.")
            net = parsing.net(take, "", blocks) if channels else None
            step = UqdmStep(**{field: take(field) for field in CONSTANTS}, net=net)
            step.check(f"{name}, step {i + 1}")
            if net is not None and len(net.enter.bias) != channels:
                raise ValueError(f"step {i + 1} has {len(net.enter.bias)} channels, not {channels}")
            steps.append(dataclasses.replace(step, detail=step.detail.reshape(())))  # files hold no scalars
    parsing.nothing_else(name, weights, *(named(step, f"{i}.") for i, step in enumerate(steps)))
    return tuple(steps)


def described(step: UqdmStep) -> dict[str, int]:
    """A step as a package's network has it: channels and residual blocks; 0 channels: no
    network.
    """
    return (
        {"channels": 0, "blocks": 0}
        if step.net is None
        else {"channels": step.net.channels, "blocks": len(step.net.blocks)}
    )


def named(step: UqdmStep, prefix: str) -> dict[str, Array]:
    """A step's arrays by the names that `parse` reads."""
    out = {prefix + field: np.atleast_1d(getattr(step, field)) for field in CONSTANTS}
    return out | parsing.named(step.net, prefix) if step.net is not None else out
