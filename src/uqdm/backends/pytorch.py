"""Packaged networks on PyTorch; knows nothing of tables, bytes or files.

In float64 a network's outputs drift by about 1e-13 between thread counts, batches, devices and versions, which moves a
rounding once in about 1e8 values; in float32 it is a million times as much: faster, for files that stay on one machine.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uqdm.backends import tiling
from uqdm.errors import BackendError, PackageError
from uqdm.families.uqdm import Denoiser, Floats
from uqdm.models.convnet import StepNet
from uqdm.models.network import UNet
from uqdm.models.presets import ModelConfig
from uqdm.package import Package, floats

TILE = 384  # pixels a side of what a fully convolutional network sees at once: some 600 MB in float64
UNET_TILE = 64  # what the published networks attend over
UNET_BATCH = 4  # tiles at once: more is no faster on a CPU, and a tile's attention takes 130 MB in float64


class TorchDenoiser:
    """A package's network on one device, in one precision. Implements `families.uqdm.Denoiser`."""

    def __init__(self, package: Package, device: str = "cpu", threads: int | None = None, precision: str = "float64") -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._dtype = {"float64": torch.float64, "float32": torch.float32}[precision]
        try:
            self._device = torch.device(device)
            torch.zeros(1, device=self._device)
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # 10-bit products would decode to noise
        kinds: dict[Any, Any] = {"unet": _UNetSteps, "convnet": _ConvNetSteps}
        kind = str(package.network.get("kind"))
        if kind not in kinds:
            raise PackageError(f"{package.name}: network kind {kind!r}; this version runs {', '.join(kinds)}")
        try:
            self._steps: Denoiser = kinds[kind](package, self._device, self._dtype)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise PackageError(f"{package.name}: the network's description is broken: {type(error).__name__}: {error}") from None

    def __call__(self, step: int, z: Floats, low: NDArray[np.int32], high: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """See `families.uqdm.Denoiser`."""
        with torch.inference_mode():
            return self._steps(step, z, low, high)


def _to(array: NDArray[Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)


def _back(*tensors: Tensor) -> tuple[Floats, ...]:
    return tuple(t.to(device="cpu", dtype=torch.float64).numpy() for t in tensors)


class _UNetSteps:
    """A published network: one for all steps, told gamma; sees z alone, 64 x 64 at a time."""

    def __init__(self, package: Package, device: torch.device, dtype: torch.dtype) -> None:
        network, c = package.network, package.constants
        self._net = UNet(ModelConfig(**network["config"]))
        _load(self._net, package)
        self._net.to(device=device, dtype=dtype).eval()
        self._gamma = floats(network["gamma"])
        self._base = floats(network["log2_scale"])  # per step: log2 of the logistic scale in pixel values where the factor is 1
        self._alpha, self._sigma = floats(c["alpha"]), floats(c["sigma"])
        self._offset, self._scale = (np.array(floats(c[k]))[:, None, None] for k in ("offset", "scale"))
        self._device, self._dtype = device, dtype

    def __call__(self, step: int, z: Floats, low: NDArray[np.int32], high: NDArray[np.int32]) -> tuple[Floats, Floats]:
        def call(part: Floats) -> tuple[Floats, ...]:
            gamma = torch.full((len(part),), self._gamma[step], device=self._device, dtype=self._dtype)
            return _back(*self._net(_to(part, self._device, self._dtype), gamma))

        eps, factor = tiling.fixed(call, (z,), UNET_TILE, UNET_BATCH)
        x_hat = np.clip((z - self._sigma[step] * eps) / self._alpha[step], -1.0, 1.0)
        return x_hat * self._scale + self._offset, np.log2(factor) + self._base[step]


class _ConvNetSteps:
    """Our own networks: one for each step; see the box alone, any size."""

    def __init__(self, package: Package, device: torch.device, dtype: torch.dtype) -> None:
        self._nets = [
            StepNet(list(floats(s["width"])), list(floats(s["middle"])), s["channels"], s["blocks"]) for s in package.network["steps"]
        ]
        whole = torch.nn.ModuleList(self._nets)
        _load(whole, package)
        whole.to(device=device, dtype=dtype).eval()
        self._device, self._dtype = device, dtype

    def __call__(self, step: int, z: Floats, low: NDArray[np.int32], high: NDArray[np.int32]) -> tuple[Floats, Floats]:
        net = self._nets[step]

        def call(a: NDArray[Any], b: NDArray[Any]) -> tuple[Floats, ...]:
            return _back(*net(_to(a, self._device, self._dtype), _to(b, self._device, self._dtype)))

        h, w = low.shape[2:]
        even = ((0, 0), (0, 0), (0, h % 2), (0, w % 2))
        boxes = np.pad(low, even, mode="edge"), np.pad(high, even, mode="edge")
        location, log_scale = tiling.overlapping(call, boxes, TILE, net.reach())
        return location[:, :, :h, :w], log_scale[:, :, :h, :w] / np.log(2)


def _load(net: torch.nn.Module, package: Package) -> None:
    state = {name: torch.from_numpy(array.astype(np.float64)) for name, array in package.weights.items()}
    try:
        net.double().load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise PackageError(f"{package.name}: weights do not fit the network: {str(error).splitlines()[-1].strip()}") from None
