"""A pyramid's networks on any runtime: features in NumPy's integers, convolutions by what is given; knows no runtime.

Levels of any size are one field: large ones go in tiles with as much around them as the networks see, so memory is bounded and no bit
depends on where tiles lie.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.exact import tiling
from uqdm.exact.running import Runners, Runtime
from uqdm.exact.workers import Workers
from uqdm.families.pyramid import networks
from uqdm.families.pyramid.networks import LevelNet, Mixture

TILE = 192  # positions a side

Field = NDArray[Any]
Integers = NDArray[np.int64]


class PyramidNetworks:
    """A package's networks. Implements `walk.Networks`; they are made when a step first asks for them."""

    exact = True

    def __init__(self, package: Package, runtime: Runtime, name: str, tile: int = TILE, workers: Workers | None = None) -> None:
        self.name, self.tile, self.workers = name, tile, workers
        self._steps = networks.parse(package.name, package.network, package.weights)
        self._runner = Runners(runtime, name)
        self._kernels = _fastest()

    def visited(self, step: int, level: int) -> bool:
        """Whether a step asks about a level (from 1)."""
        return self._steps[step][min(level, 3) - 1] is not None

    def net(self, step: int, level: int) -> LevelNet:
        """The constants of a level's network in a step."""
        found = self._steps[step][min(level, 3) - 1]
        assert found is not None
        return found

    def trunk(self, step: int, level: int, image: Field, value: Field, width: Field, above: Field, unit: Integers) -> Field:
        """Activations (N, K, h, w), int16 (see `LevelNet.features`)."""
        net = self.net(step, level)
        run = self._runner(net.trunk, net.limits())

        def call(image: Field, value: Field, width: Field, above: Field) -> tuple[Field, ...]:
            return (run(networks.features(image, value, width, above, unit)).astype(np.int16),)

        return tiling.overlapping(call, (image, value, width, above), self.tile, net.reach + 1, workers=self.workers)[0]

    def outputs(
        self,
        step: int,
        level: int,
        band: int,
        trunk: Field,
        image: Field,
        before: Field,
        told: Field,
        errors: Field | None,
        louds: Field | None,
        unit: Integers,
    ) -> tuple[Field, Field]:
        """A pass's raw outputs (N, 9 J + 6, h, w), int16, and the linear part of its locations (N, 3, h, w), int64."""
        net = self.net(step, level)
        run = self._runner(net.passes[band].net, net.pass_limits(band))

        def call(trunk: Field, image: Field, before: Field, told: Field, *seen: Field) -> tuple[Field, ...]:
            given = [trunk.astype(np.float32)]
            if seen:
                given.insert(0, networks.seen(band, told, seen[0], seen[1], unit))
            raw = np.clip(run(*given), -32768, 32767).astype(np.int16)
            return raw, net.linear(band, image, before, told, self._kernels.summed)

        planes = () if errors is None or louds is None else (errors, louds)
        halo = max(net.pass_reach(band), 2)
        raw, base = tiling.overlapping(call, (trunk, image, before, told, *planes), self.tile, halo, workers=self.workers)
        return raw, base

    def moved(self, image: Field, before: Field, told: Field, weights: Integers) -> Field:
        """What more weights (C, I, 3, 3) of the linear part add to locations: (N, C, h, w), int64 (see `networks.planes`)."""

        def call(image: Field, before: Field, told: Field) -> tuple[Field, ...]:
            return (self._kernels.summed(networks.planes(image, before, told), weights) << networks.LINEAR_SHIFT,)

        return tiling.overlapping(call, (image, before, told), self.tile, 2, workers=self.workers)[0]

    def mixture(
        self,
        step: int,
        level: int,
        band: int,
        channel: int,
        raw: Field,
        base: Field,
        unit: Integers,
        errors: list[Field],
        louds: list[Field],
    ) -> Mixture:
        """Of one channel of a band (see `LevelNet.mixture`)."""
        found: Mixture = self._kernels.mixture(self.net(step, level), band, channel, raw, base, unit, errors, louds)
        return found


def _fastest() -> Any:
    """Where the arithmetic around the networks is done: compiled where Numba works."""
    try:
        from uqdm.families.pyramid import kernels
    except Exception:  # a broken installation may raise anything, and NumPy does the same work
        return Plain
    return kernels


class Plain:
    """The same by NumPy."""

    summed = staticmethod(networks.summed)
    mixture = staticmethod(LevelNet.mixture)
