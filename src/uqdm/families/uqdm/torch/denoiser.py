"""Published networks, and ones like them, on PyTorch; knows nothing of tables, bytes or files.

They run in float64, where outputs drift by about 1e-13 between thread counts, batches, devices and
versions, which moves a rounding once in about 1e8 values; in float32 it is a million times as much:
faster, for files that stay on one machine.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uqdm.bundle import Package, floats
from uqdm.errors import PackageError
from uqdm.exact import tiling
from uqdm.exact.runtimes import pytorch
from uqdm.exact.runtimes.pytorch import to_tensor
from uqdm.families.uqdm.config import ModelConfig
from uqdm.families.uqdm.rounding import Floats
from uqdm.families.uqdm.torch.unet import UNet

UNET_TILE = 64  # what the published networks attend over, and any whose package names no tile


UNET_BATCH = 4  # tiles at once: more is no faster on a CPU, and a tile's attention takes 130 MB in float64


class FloatDenoiser:
    """A package's network of floats on one device, in one precision. Implements `walk.Denoiser`."""

    exact = False
    sees_z = True
    mixed = False

    def __init__(
        self, package: Package, device_name: str = "cpu", threads: int | None = None, precision: str = "float64"
    ) -> None:
        self._device, self._threads = pytorch.device(device_name), threads
        try:
            self.steps: Callable[..., tuple[Floats, Floats]] = _UNetSteps(
                package, self._device, pytorch.DTYPES[precision]
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise PackageError(
                f"{package.name}: the network's description is broken: {type(error).__name__}: {error}"
            ) from None

    def __call__(
        self, step: int, z: Floats | None, low: NDArray[np.int16], high: NDArray[np.int16]
    ) -> tuple[Floats, Floats]:
        """See `walk.Denoiser`."""
        ours = pytorch.SETTINGS.ours(None if self._device.type == "cpu" else self._device.type, self._threads)
        with ours, torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            return self.steps(step, z, low, high)


def _back(*tensors: Tensor) -> tuple[Floats, ...]:
    return tuple(t.to(device="cpu", dtype=torch.float64).numpy() for t in tensors)


class _UNetSteps:
    """A published network, or one like it: one for all steps, told gamma; sees z alone, in tiles of
    the size it was trained at.
    """

    def __init__(self, package: Package, device: torch.device, dtype: torch.dtype) -> None:
        network, c = package.network, package.constants
        config = ModelConfig(**network["config"])
        self._tile = network.get("tile", UNET_TILE)
        if type(self._tile) is not int or not 8 <= self._tile <= 1024 or self._tile % config.downsample:
            raise PackageError(
                f"{package.name}: tile is {self._tile!r}; expected 8 to 1024, a multiple of {config.downsample}"
            )
        self._gamma = floats(network["gamma"])
        # Per step: log2 of the logistic scale in pixel values where the factor is 1.
        self._base = floats(network["log2_scale"])
        self._alpha, self._sigma = floats(c["alpha"]), floats(c["sigma"])
        steps = len(self._alpha) - 1
        if (
            len(self._gamma) != steps + 1
            or len(self._base) != steps
            or not np.isfinite([*self._gamma, *self._base]).all()
        ):
            raise PackageError(
                f"{package.name}: gamma and log2_scale are not {steps + 1} and {steps} finite numbers, as there are"
                " steps"
            )
        if config.network != "unet" or config.n_channels != 3:
            raise PackageError(
                f"{package.name}: network {config.network!r} of {config.n_channels} channels; expected 'unet' of 3"
            )
        self.net = _filled(lambda: UNet(config), package)
        self.net.to(device=device, dtype=dtype).eval()
        self._offset, self._scale = (np.array(floats(c[k]))[:, None, None] for k in ("offset", "scale"))
        self._device, self._dtype = device, dtype

    def __call__(self, step: int, z: Floats, low: NDArray[np.int16], high: NDArray[np.int16]) -> tuple[Floats, Floats]:
        def call(part: Floats) -> tuple[Floats, ...]:
            gamma = torch.full((len(part),), self._gamma[step], device=self._device, dtype=self._dtype)
            return _back(*self.net(to_tensor(part, self._device, self._dtype), gamma))

        eps, factor = tiling.fixed(call, (z,), self._tile, UNET_BATCH)
        x_hat = np.clip((z - self._sigma[step] * eps) / self._alpha[step], -1.0, 1.0)
        return x_hat * self._scale + self._offset, np.log2(factor) + self._base[step]


def _filled(make: Callable[[], Any], package: Package) -> Any:
    """A network with the package's weights. Raises `PackageError` where they do not fit it, before
    it takes any memory.
    """
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    if odd := sorted(shapes.keys() ^ package.weights.keys()):
        raise PackageError(
            f"{package.name}: {odd[0]!r} is {'missing' if odd[0] in shapes else 'no part of the network'}"
        )
    for name, array in package.weights.items():
        if array.shape != shapes[name]:
            raise PackageError(f"{package.name}: {name} has the shape {array.shape}, expected {shapes[name]}")
    net = make().double()
    net.load_state_dict({name: torch.from_numpy(array.astype(np.float64)) for name, array in package.weights.items()})
    return net
