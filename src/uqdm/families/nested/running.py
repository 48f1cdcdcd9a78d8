"""A nested model's networks on any runtime: features and mixtures in NumPy's integers, convolutions
by what is given; knows no runtime.

Pictures of any size are one field: large ones go in tiles with as much around them as the networks
see, so memory is bounded and no bit depends on where tiles lie. A trunk's activations are kept for
the step's four passes, as int16.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.exact import tiling
from uqdm.exact.features import Boxes
from uqdm.exact.running import TILE, Runners, Runtime
from uqdm.exact.workers import Workers
from uqdm.families.nested import networks
from uqdm.families.nested.networks import NestedMixture

Field = NDArray[Any]


class NestedNetworks:
    """A package's networks. Implements `walk.Networks`; they are made when a step first asks for
    them.
    """

    exact = True

    def __init__(
        self, package: Package, runtime: Runtime, name: str, tile: int = TILE, workers: Workers | None = None
    ) -> None:
        self.name, self.tile, self.workers = name, tile, workers
        self._steps = networks.parse(package.name, package.network, package.weights)
        self.runner = Runners(runtime, name)
        self._mixture = _fastest()

    def trunk(self, step: int, low: Boxes, high: Boxes) -> Field | None:
        """Activations (N, K, H/2, W/2), int16; None where the step has no trunk."""
        net = self._steps[step]
        if net.trunk is None:
            return None
        run = self.runner(net.trunk, net.limits())

        def call(low: Boxes, high: Boxes) -> tuple[Field, ...]:
            return (run(net.features(low, high)).astype(np.int16),)

        return tiling.overlapping(call, tiling.even(low, high), self.tile, net.reach, scale=2, workers=self.workers)[0]

    def mixture(self, step: int, number: int, trunk: Field | None, low: Boxes, high: Boxes) -> NestedMixture:
        """See `walk.Networks`."""
        net, (h, w) = self._steps[step], low.shape[2:]
        run = self.runner(net.passes[number].net, net.pass_limits())

        def call(low: Boxes, high: Boxes, *context: Field) -> tuple[Field, ...]:
            features, high_passed = net.pass_features(low, high)
            raw = run(features, *(c.astype(np.float32) for c in context))
            return self._mixture(net, number, raw, low, high, high_passed)

        context = () if trunk is None else (trunk,)
        fields = (*tiling.even(low, high), *context)
        found = tiling.overlapping(call, fields, self.tile, net.passes[number].reach, scale=2, workers=self.workers)
        row, column = networks.PHASES[number]
        height, width = (h + 1 - row) // 2, (w + 1 - column) // 2
        return NestedMixture(*(a[:, :, :height, :width] for a in found))


def _fastest() -> Callable[..., NestedMixture]:
    """How raw outputs become mixtures: compiled where Numba works."""
    try:
        from uqdm.families.nested import kernels as compiled
    except Exception:  # a broken installation may raise anything, and NumPy does the same work
        return networks.NestedStep.mixture
    return compiled.mixture
