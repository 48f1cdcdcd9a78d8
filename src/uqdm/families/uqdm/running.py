"""A UQDM's networks, running: exact ones on any runtime, floats on PyTorch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.errors import BackendError, PackageError
from uqdm.exact import network as exact
from uqdm.exact import runtimes, tiling
from uqdm.exact.running import TILE, Runners, Runtime
from uqdm.exact.workers import Workers
from uqdm.families.base import Opening
from uqdm.families.uqdm.walk import Denoiser

Boxes = NDArray[np.int16]


class ExactDenoiser:
    """A package's exact network. Implements `families.uqdm.Denoiser`; networks are made when a step first asks for one."""

    exact = True
    sees_z = False

    def __init__(self, package: Package, runtime: Runtime, name: str, tile: int = TILE, workers: Workers | None = None) -> None:
        self.name, self.tile, self.workers = name, tile, workers
        self.mixed = bool(package.network.get("mixed"))
        self._steps = exact.parse(package.name, package.network, package.weights)
        self._runner = Runners(runtime, name)

    def __call__(self, step: int, z: Any, low: Boxes, high: Boxes) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """See `families.uqdm.Denoiser`."""
        net = self._steps[step]
        if net.enter is None:
            return net.suggest(None, low, high)
        run = self._runner(net, net.limits())

        def call(low: Boxes, high: Boxes) -> tuple[NDArray[Any], ...]:
            return net.suggest(run(net.features(low, high)), low, high)

        location, level = tiling.overlapping(tiling.evened(call), (low, high), self.tile, net.reach, workers=self.workers)
        return location, level


def denoiser(package: Package, opening: Opening) -> Denoiser:
    """A package's network, ready to be called. Exact networks run on any runtime, float ones on PyTorch, in float64 by default.

    ONNX Runtime has no float64 convolution on the CPU, and in float32 files would not decode elsewhere. Raises `BackendError` where
    nothing here can run it, `PackageError` where it is broken.
    """
    kind = package.network.get("kind")
    if kind == "exact":
        found = runtimes.opened(opening)
        return ExactDenoiser(package, found.runtime, found.name, workers=found.workers)
    if kind != "unet":
        raise PackageError(f"{package.name}: network kind {kind!r}; of the family 'uqdm' this version runs exact and unet networks")
    why = f"{package.name} is a network of floats, which only PyTorch runs in float64"
    runtimes.checked(opening.backend)
    if opening.backend not in (None, "torch"):
        raise BackendError(f"{why}, not {opening.backend}: leave the backend out")
    try:
        from uqdm.families.uqdm.torch.denoiser import FloatDenoiser
    except ImportError as error:
        raise runtimes.missing("torch", error, f"{why}; torch") from None
    return FloatDenoiser(package, opening.device, opening.threads, opening.precision or "float64")
