"""Exact networks with weights by chance, and boxes to show them."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.exact.network import Block, Convolution, Net
from uqdm.families import registry
from uqdm.families.base import Opening
from uqdm.families.uqdm.networks import UqdmStep, described, named

C = 3


def constant() -> UqdmStep:
    """The network of a first step."""
    return UqdmStep(**_constants())


def _constants() -> dict[str, Any]:
    return {
        "middle": np.array([255, 0, 0], np.int16),
        "width": np.array([341500, 836881, 683591], np.int64),
        "offset": np.array([-1234, 77, 4321], np.int64),
        "level": np.array([3000, 3200, 3100], np.int32),
        "detail": np.array(0, np.int8),
        "wide": np.array([7, 14, 12], np.int16),
        "skip": np.array([-331, 250, 0], np.int64),
    }


def random_step(seed: int = 0, channels: int = 16, blocks: int = 2) -> UqdmStep:
    """A small network whose activations fill their range and whose partial sums come near 2**24."""
    random = np.random.default_rng(seed)

    def convolution(o: int, i: int, k: int, largest: int, shifts: tuple[int, int]) -> Convolution:
        weight = random.integers(-largest, largest + 1, (o, i, k, k)).astype(np.int16)
        return Convolution(
            weight, random.integers(-(2**16), 2**16, o).astype(np.int32), random.integers(*shifts, o).astype(np.int8)
        )

    def down() -> NDArray[np.int8]:
        return random.integers(2, 5, channels).astype(np.int8)

    wide = 4000 // channels
    enter = convolution(channels, 12 * C, 3, 40, (5, 8))
    body = [
        Block(
            down(), convolution(channels, channels, 3, wide, (9, 11)), convolution(channels, channels, 3, wide, (7, 9))
        )
        for _ in range(blocks)
    ]
    return UqdmStep(**_constants(), net=Net(enter, tuple(body), down(), convolution(8 * C, channels, 1, 127, (8, 10))))


def edge_step() -> UqdmStep:
    """A network whose sums reach 2**24 - 1 itself: one more and it would be refused."""
    step = random_step(blocks=1)
    assert step.net is not None
    limits = step.limits()
    weight = np.zeros((16, 12 * C, 3, 3), np.int16)
    weight[:, :4] = 400  # of the luma's centre, which is at most 255
    reach = int((np.abs(weight.astype(np.int64)).sum((2, 3)) * limits).sum(1)[0])
    bias = np.full(16, 2**24 - 1 - reach, np.int32)
    enter = Convolution(weight, bias, np.full(16, 3, np.int8))
    return dataclasses.replace(step, net=dataclasses.replace(step.net, enter=enter, down=np.full(16, 11, np.int8)))


def boxes(shape: tuple[int, ...], seed: int = 0) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """low, high (N, C, H, W)"""
    random = np.random.default_rng(seed)
    low = random.integers(-255, 240, shape).astype(np.int16)
    low[:, 0] = np.abs(low[:, 0])
    return low, low + random.integers(0, 15, shape).astype(np.int16)


def package_of(*steps: UqdmStep, **network: Any) -> Package:
    """Steps as a package of kind "exact"."""
    weights: dict[str, Any] = {}
    steps_described = []
    for i, step in enumerate(steps):
        weights |= named(step, f"{i}.")
        steps_described.append(described(step))
    return Package("by-chance", "uqdm", {"kind": "exact", "steps": steps_described} | network, {}, weights, {})


def opened(package: Package, **how: Any) -> Any:
    """The package's networks, running."""
    return registry.networks(package, Opening(**how))
