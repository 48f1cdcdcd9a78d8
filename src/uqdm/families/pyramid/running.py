"""A pyramid's networks on any runtime: features in NumPy's integers, convolutions by what is given;
knows no runtime.

Levels of any size are one field: large ones go in tiles with as much around them as the networks
see, so memory is bounded and no bit depends on where tiles lie.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.exact import tiling
from uqdm.exact.running import Runners, Runtime
from uqdm.exact.tiling import Field, room
from uqdm.exact.workers import Workers
from uqdm.families.pyramid import networks
from uqdm.families.pyramid.fields import strips
from uqdm.families.pyramid.networks import LevelNet, PyramidMixture

TILE = 192  # positions a side

Array = NDArray[Any]
Integers = NDArray[np.int64]


class PyramidNetworks:
    """A package's networks. Implements `chunk.Networks`; they are made when a step first asks for
    them.
    """

    exact = True

    def __init__(
        self, package: Package, runtime: Runtime, name: str, tile: int = TILE, workers: Workers | None = None
    ) -> None:
        self.name, self.tile, self.workers = name, tile, workers
        self._steps = networks.parse(package.name, package.network, package.weights)
        self.runner = Runners(runtime, name)
        self._kernels = _fastest()

    def visited(self, step: int, level: int) -> bool:
        """Whether a step asks about a level (from 1)."""
        return self._steps[step][min(level, 3) - 1] is not None

    def net(self, step: int, level: int) -> LevelNet:
        """The constants of a level's network in a step."""
        found = self._steps[step][min(level, 3) - 1]
        assert found is not None
        return found

    def trunk(
        self, step: int, level: int, image: Field, value: Field, width: Field, above: Field, unit: Integers
    ) -> Array:
        """Activations (N, K, h, w), int16 (see `LevelNet.features`)."""
        net = self.net(step, level)
        run = self.runner(net.trunk, net.limits())

        def call(image: Array, value: Array, width: Array, above: Array) -> tuple[Array, ...]:
            return (run(self._kernels.features(image, value, width, above, unit)).astype(np.int16),)

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
        errors: Field,
        louds: Field,
        unit: Integers,
    ) -> tuple[Array, list[Array]]:
        """A pass's raw outputs (N, 9 J + 6, h, w), int16, and the linear part of its locations:
        three channels (N, h, w).

        These are int32 where all of them fit in it, else int64.
        """
        net = self.net(step, level)
        run = self.runner(net.passes[band].net, net.pass_limits(band))
        dtype = np.int32 if net.narrow(band) else np.int64

        def call(trunk: Array, image: Array, before: Array, told: Array, *seen: Array) -> tuple[Array, ...]:
            given = [trunk.astype(np.float32)]
            if seen:
                given.insert(0, self._kernels.seen(band, told, seen[0], seen[1], unit))
            raw = np.clip(run(*given), -32768, 32767).astype(np.int16)
            base = net.linear(band, image, before, told, self._kernels.moved).astype(dtype)
            return raw, *(base[:, c : c + 1] for c in range(networks.CHANNELS))

        fields = (trunk, image, before, told, *((errors, louds) if band else ()))
        raw, *base = tiling.overlapping(call, fields, self.tile, max(net.pass_reach(band), 2), workers=self.workers)
        return raw, [one[:, 0] for one in base]

    def moved(self, image: Field, before: Field, told: Field, weights: Integers) -> Array:
        """What more weights (C, I, 3, 3) of the linear part add to locations: (N, C, h, w), int64
        (see `networks.planes`).
        """

        def call(image: Array, before: Array, told: Array) -> tuple[Array, ...]:
            return (self._kernels.moved(image, before, told, weights),)

        return tiling.overlapping(call, (image, before, told), self.tile, 2, workers=self.workers)[0]

    def mixture(
        self,
        step: int,
        level: int,
        band: int,
        channel: int,
        raw: Array,
        base: Array,
        unit: Integers,
        errors: Sequence[Array],
        louds: Sequence[Array],
    ) -> PyramidMixture:
        """Of one channel of a band (see `LevelNet.mixture`): base (N, h, w) is the channel's;
        errors are values.
        """
        net = self.net(step, level)
        n, (h, w), j = len(base), base.shape[1:], net.passes[band].offset.shape[1]
        each, one = (n, h, w, j), (n, h, w)
        found = PyramidMixture(
            location=room(each, np.int32),
            level=room(each, np.uint8),
            weight=room(each, np.uint16),
            turn=room(one, np.uint16),
            guess=room(one, np.int16),
        )

        def fill(rows: slice) -> None:
            self._kernels.mixture(net, band, channel, raw, base, unit, errors, louds, rows, found)

        self.each(fill, list(strips(base.shape)))
        return found

    def each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Work on every item, in the threads that there are."""
        if self.workers is not None:
            return self.workers.each(work, items)
        for item in items:
            work(item)
        return None


def _fastest() -> Any:
    """Where the arithmetic around the networks is done: compiled where Numba works."""
    try:
        from uqdm.families.pyramid import kernels
    except Exception:  # a broken installation may raise anything, and NumPy does the same work
        return Plain
    return kernels


class Plain:
    """The same by NumPy."""

    features = staticmethod(networks.features)
    seen = staticmethod(networks.seen)
    moved = staticmethod(networks.moved)
    mixture = staticmethod(networks.mixture_of)
