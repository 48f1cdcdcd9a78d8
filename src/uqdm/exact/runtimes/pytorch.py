"""Packaged networks on PyTorch; knows nothing of tables, bytes or files.

Exact networks need float32 convolutions that only multiply and add: on the CPU without NNPACK, whose Winograd transform does more, on other
devices as matrix products, in full float32. Float networks run in float64, where outputs drift by about 1e-13 between thread counts,
batches, devices and versions, which moves a rounding once in about 1e8 values; in float32 it is a million times as much: faster, for files
that stay on one machine.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uqdm.bundle import Package, floats
from uqdm.errors import BackendError, PackageError
from uqdm.exact import tiling
from uqdm.exact.network import LIMIT, MOST_BLOCKS, MOST_CHANNELS, Convolution, Net, count, unit
from uqdm.exact.workers import forks
from uqdm.families.uqdm.running import TILE
from uqdm.families.uqdm.torch.convnet import StepNet
from uqdm.families.uqdm.torch.unet import UNet
from uqdm.families.uqdm.walk import Floats
from uqdm.training.presets import ModelConfig

UNET_TILE = 64  # what the published networks attend over, and any whose package names no tile
UNET_BATCH = 4  # tiles at once: more is no faster on a CPU, and a tile's attention takes 130 MB in float64
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def device(name: str) -> torch.device:
    """A device that works. Raises `BackendError`."""
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise BackendError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return found


class _Settings:
    """What PyTorch has for the whole process and an exact network needs otherwise: ours during a call, and then as it was.

    NNPACK and TF32 are off as long as any call lasts, whichever thread makes it. The number of threads is the calling thread's own, but a
    thread that PyTorch has not seen yet starts with the last that was set: calls that need another number take turns.
    """

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}  # by type of device: how many last
        self._before: dict[str, Any] = {}
        self._begin()

    def _begin(self) -> None:
        self._forks, self._lock, self._turn = forks(), threading.Lock(), threading.Lock()

    @contextlib.contextmanager
    def ours(self, kind: str | None, threads: int | None) -> Iterator[None]:
        """On devices of that kind (None: nothing is switched off); `threads`: None is the process's own number.

        In a forked child it is one: PyTorch's threads do not survive a fork, and it would wait for them.
        """
        if forks() != self._forks:
            self._begin()
            for one, before in self._before.items():  # of threads of the parent's, which are not here
                _switch(one, before)
            self._calls, self._before = {}, {}
        with self._threads(1 if forks() else threads):
            if kind is None:
                yield
                return
            with self._lock:
                if not self._calls.get(kind):
                    self._before[kind] = _switch(kind)
                self._calls[kind] = self._calls.get(kind, 0) + 1
            try:
                yield
            finally:
                with self._lock:
                    self._calls[kind] -= 1
                    if not self._calls[kind]:
                        _switch(kind, self._before.pop(kind))

    @contextlib.contextmanager
    def _threads(self, wanted: int | None) -> Iterator[None]:
        if wanted is None or wanted == torch.get_num_threads():
            yield
            return
        with self._turn:
            before = torch.get_num_threads()
            torch.set_num_threads(wanted)
            try:
                yield
            finally:
                torch.set_num_threads(before)


def _switch(kind: str, values: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
    """What is inexact on a kind of device: switched off, or to `values`; returns what it was. TF32's 10-bit products decode to noise."""
    if kind == "cpu":
        before: tuple[Any, ...] = torch.backends.nnpack.set_flags(False if values is None else values[0])  # type: ignore[no-untyped-call]
        return before
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    found = tuple(one.allow_tf32 for one in flags)
    for one, value in zip(flags, values or (False, False)):
        one.allow_tf32 = value
    return found


_SETTINGS = _Settings()


class Runner:
    """An exact network: features (N, I, H, W), and what it joins (N, J, H, W), to its outputs (N, O, H, W).

    `unfolded`: convolutions as matrix products, as on any device but the CPU. `channels_last`: the layout of activations; a little faster
    on CPUs. `threads`: of the CPU, for its own calls only; None: as many as PyTorch is set to. No bit depends on any.
    """

    def __init__(
        self,
        net: Net,
        device: torch.device,
        precision: str = "float32",
        unfolded: bool | None = None,
        channels_last: bool = True,
        threads: int | None = None,
    ) -> None:
        self._device, self._precision = device, precision
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._unfolded = device.type != "cpu" if unfolded is None else unfolded
        self._net, self._threads = net, threads
        enter, blocks, down, head = net.layers
        with _SETTINGS.ours(device.type, threads):  # even a copy takes PyTorch's threads
            self._enter, self._down = self._convolution(enter), self._unit(down)
            self._head, self._join = (None if c is None else self._convolution(c) for c in (head, net.join))
            self._blocks = [(self._unit(b.down), self._convolution(b.first), self._convolution(b.second)) for b in blocks]

    def __call__(self, features: NDArray[np.float32], context: NDArray[np.float32] | None = None) -> NDArray[Any]:
        # A caller's autocast would round to 16 bits, and not where the runtime proves itself if that was before.
        full = torch.autocast(self._device.type, enabled=False)
        with _SETTINGS.ours(self._device.type, self._threads), torch.inference_mode(), full:
            h = self._enter(self._field(features)).floor_()
            if self._join is not None and context is not None:
                h.add_(self._join(self._field(context)).floor_())
            for down, first, second in self._blocks:
                a = self._limited(first(self._activation(h, down)), 0)
                h.add_(second(a).floor_())
            out = self._activation(h, self._down)
            found: NDArray[Any] = (out if self._head is None else self._head(out).floor_()).cpu().numpy()
        return found

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return _to(array, self._device, DTYPES[self._precision])

    def _activation(self, h: Tensor, down: Tensor) -> Tensor:
        return self._limited(torch.mul(h, down), 0.5)

    def _limited(self, x: Tensor, half: float) -> Tensor:
        """`exact.run`'s, in place."""
        if self._net.leaky:
            F.leaky_relu_(x, 0.125)
        return x.add_(half).floor_().clamp_(self._net.least, LIMIT)

    def _field(self, array: NDArray[Any]) -> Tensor:
        return self._tensor(array).contiguous(memory_format=self._layout)

    def _unit(self, down: NDArray[Any]) -> Tensor:
        return self._tensor(unit(down, self._precision))

    def _convolution(self, convolution: Convolution) -> Callable[[Tensor], Tensor]:
        weight, bias = (self._tensor(a) for a in convolution.scaled(self._precision))
        k = weight.shape[2]
        if not self._unfolded:
            weight = weight.contiguous(memory_format=self._layout)
            return lambda x: F.conv2d(x, weight, bias, padding=k // 2)
        rows, column = weight.flatten(1), bias[:, None]

        def multiply(x: Tensor) -> Tensor:
            columns = F.unfold(x, k, padding=k // 2) if k > 1 else x.flatten(2)
            return (rows @ columns).add_(column).view(len(x), -1, *x.shape[2:])

        return multiply


class FloatDenoiser:
    """A package's network of floats on one device, in one precision. Implements `families.uqdm.Denoiser`."""

    exact = False

    def __init__(self, package: Package, device_name: str = "cpu", threads: int | None = None, precision: str = "float64") -> None:
        kinds: dict[Any, Any] = {"unet": _UNetSteps, "convnet": _ConvNetSteps}
        kind = package.network.get("kind")
        self.sees_z = kind == "unet"
        self.mixed = kind == "convnet" and bool(package.network.get("mixed"))
        self._device, self._threads = device(device_name), threads
        try:
            self._steps: Callable[..., tuple[Floats, Floats]] = kinds[kind](package, self._device, DTYPES[precision])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise PackageError(f"{package.name}: the network's description is broken: {type(error).__name__}: {error}") from None

    def __call__(self, step: int, z: Floats | None, low: NDArray[np.int16], high: NDArray[np.int16]) -> tuple[Floats, Floats]:
        """See `families.uqdm.Denoiser`."""
        ours = _SETTINGS.ours(None if self._device.type == "cpu" else self._device.type, self._threads)
        with ours, torch.inference_mode(), torch.autocast(self._device.type, enabled=False):
            return self._steps(step, z, low, high)


def _to(array: NDArray[Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)


def _back(*tensors: Tensor) -> tuple[Floats, ...]:
    return tuple(t.to(device="cpu", dtype=torch.float64).numpy() for t in tensors)


class _UNetSteps:
    """A published network, or one like it: one for all steps, told gamma; sees z alone, in tiles of the size it was trained at."""

    def __init__(self, package: Package, device: torch.device, dtype: torch.dtype) -> None:
        network, c = package.network, package.constants
        config = ModelConfig(**network["config"])
        self._tile = network.get("tile", UNET_TILE)
        if type(self._tile) is not int or not 8 <= self._tile <= 1024 or self._tile % config.downsample:
            raise PackageError(f"{package.name}: tile is {self._tile!r}; expected 8 to 1024, a multiple of {config.downsample}")
        self._gamma = floats(network["gamma"])
        self._base = floats(network["log2_scale"])  # per step: log2 of the logistic scale in pixel values where the factor is 1
        self._alpha, self._sigma = floats(c["alpha"]), floats(c["sigma"])
        steps = len(self._alpha) - 1
        if len(self._gamma) != steps + 1 or len(self._base) != steps or not np.isfinite([*self._gamma, *self._base]).all():
            raise PackageError(f"{package.name}: gamma and log2_scale are not {steps + 1} and {steps} finite numbers, as there are steps")
        if config.network != "unet" or config.n_channels != 3:
            raise PackageError(f"{package.name}: network {config.network!r} of {config.n_channels} channels; expected 'unet' of 3")
        self._net = _filled(lambda: UNet(config), package)
        self._net.to(device=device, dtype=dtype).eval()
        self._offset, self._scale = (np.array(floats(c[k]))[:, None, None] for k in ("offset", "scale"))
        self._device, self._dtype = device, dtype

    def __call__(self, step: int, z: Floats, low: NDArray[np.int16], high: NDArray[np.int16]) -> tuple[Floats, Floats]:
        def call(part: Floats) -> tuple[Floats, ...]:
            gamma = torch.full((len(part),), self._gamma[step], device=self._device, dtype=self._dtype)
            return _back(*self._net(_to(part, self._device, self._dtype), gamma))

        eps, factor = tiling.fixed(call, (z,), self._tile, UNET_BATCH)
        x_hat = np.clip((z - self._sigma[step] * eps) / self._alpha[step], -1.0, 1.0)
        return x_hat * self._scale + self._offset, np.log2(factor) + self._base[step]


class _ConvNetSteps:
    """Our own networks before they are integers: one for each step; see the box alone, any size."""

    def __init__(self, package: Package, device: torch.device, dtype: torch.dtype) -> None:
        shapes = []
        for s in package.network["steps"]:
            width, middle = floats(s["width"]), floats(s["middle"])
            if len(width) != 3 or len(middle) != 3 or not np.isfinite([*width, *middle]).all() or min(width) <= 0:
                raise PackageError(
                    f"{package.name}: width {s['width']}, middle {s['middle']}; expected 3 finite numbers each, widths above 0"
                )
            shapes.append((list(width), list(middle), count(s, "channels", MOST_CHANNELS), count(s, "blocks", MOST_BLOCKS)))
        self._nets = _filled(lambda: torch.nn.ModuleList(StepNet(*shape) for shape in shapes), package)
        self._nets.to(device=device, dtype=dtype).eval()
        self._device, self._dtype = device, dtype

    def __call__(self, step: int, z: Floats | None, low: NDArray[np.int16], high: NDArray[np.int16]) -> tuple[Floats, Floats]:
        net = self._nets[step]

        def call(low: NDArray[Any], high: NDArray[Any]) -> tuple[Floats, ...]:
            return _back(*net(_to(low, self._device, self._dtype), _to(high, self._device, self._dtype)))

        location, log_scale = tiling.overlapping(tiling.evened(call), (low, high), TILE, net.reach())
        return location, log_scale / np.log(2)


def _filled(make: Callable[[], Any], package: Package) -> Any:
    """A network with the package's weights. Raises `PackageError` where they do not fit it, before it takes any memory."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    if odd := sorted(shapes.keys() ^ package.weights.keys()):
        raise PackageError(f"{package.name}: {odd[0]!r} is {'missing' if odd[0] in shapes else 'no part of the network'}")
    for name, array in package.weights.items():
        if array.shape != shapes[name]:
            raise PackageError(f"{package.name}: {name} has the shape {array.shape}, expected {shapes[name]}")
    net = make().double()
    net.load_state_dict({name: torch.from_numpy(array.astype(np.float64)) for name, array in package.weights.items()})
    return net
