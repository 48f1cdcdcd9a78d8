"""A UQDM's networks, running: exact ones on any runtime, floats on PyTorch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package
from uqdm.errors import BackendError, PackageError
from uqdm.exact import runtimes, tiling
from uqdm.exact.features import Boxes
from uqdm.exact.running import TILE, Runners, Runtime
from uqdm.exact.workers import Workers
from uqdm.families.base import Opening
from uqdm.families.uqdm import networks
from uqdm.families.uqdm.walk import Denoiser


class ExactDenoiser:
    """A package's exact network. Implements `walk.Denoiser`; networks are made when a step first
    asks for one.
    """

    exact = True
    sees_z = False

    def __init__(
        self, package: Package, runtime: Runtime, name: str, tile: int = TILE, workers: Workers | None = None
    ) -> None:
        self.name, self.tile, self.workers = name, tile, workers
        self.mixed = bool(package.network.get("mixed"))
        self.steps = networks.parse(package.name, package.network, package.weights)
        self.runner = Runners(runtime, name)

    def __call__(self, step: int, z: Any, low: Boxes, high: Boxes) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """See `walk.Denoiser`."""
        own = self.steps[step]
        if own.net is None:
            return own.constant(low.shape)
        run = self.runner(own.net, own.limits())

        def call(low: Boxes, high: Boxes) -> tuple[NDArray[Any], ...]:
            return own.suggest(run(own.features(low, high)), low, high)

        location, level = tiling.overlapping(
            tiling.evened(call), (low, high), self.tile, own.reach, workers=self.workers
        )
        return location, level


def denoiser(package: Package, opening: Opening) -> Denoiser:
    """A package's network, ready to be called. Exact networks run on any runtime, float ones on
    PyTorch, in float64 by default.

    ONNX Runtime has no float64 convolution on the CPU, and in float32 files would not decode
    elsewhere. Raises `BackendError` where nothing here can run it, `PackageError` where it is
    broken.
    """
    kind = package.network.get("kind")
    if kind == "exact":
        found = runtimes.opened(opening)
        return ExactDenoiser(package, found.runtime, found.name, workers=found.workers)
    if kind != "unet":
        raise PackageError(
            f"{package.name}: network kind {kind!r} in a model of the family 'uqdm', of which this version runs exact"
            " and unet networks; they do not belong together"
        )
    why = f"{package.name} is a network of floats, which only PyTorch runs in float64"
    runtimes.checked(opening.backend)
    if opening.backend not in (None, "torch"):
        raise BackendError(f"{why}, not {opening.backend}: leave the backend out")
    try:
        from uqdm.families.uqdm.torch.denoiser import FloatDenoiser
    except ImportError as error:
        raise runtimes.missing("torch", error, f"{why}; torch") from None
    return FloatDenoiser(package, opening.device, opening.threads, opening.precision or "float64")
