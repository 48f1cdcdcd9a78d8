"""Exact networks on PyTorch; knows nothing of tables, bytes or files.

They need float32 convolutions that only multiply and add. So on the CPU they run without NNPACK,
whose Winograd transform does more. On other devices they are matrix products in full float32.
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

from uqdm.errors import BackendError
from uqdm.exact.network import LIMIT, Convolution, Net, unit
from uqdm.exact.workers import forks

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
    """What PyTorch has for the whole process and an exact network needs otherwise: ours during a
    call, and then as it was.

    NNPACK and TF32 are off as long as any call lasts, whichever thread makes it. The number of
    threads is the calling thread's own, but a thread that PyTorch has not seen yet starts with the
    last that was set: calls that need another number take turns.
    """

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}  # by type of device: how many last
        self._before: dict[str, Any] = {}
        self._begin()

    def _begin(self) -> None:
        self._forks, self._lock, self._turn = forks(), threading.Lock(), threading.Lock()

    @contextlib.contextmanager
    def ours(self, kind: str | None, threads: int | None) -> Iterator[None]:
        """On devices of that kind (None: nothing is switched off); `threads`: None is the process's
        own number.

        In a forked child it is one: PyTorch's threads do not survive a fork, and it would wait for
        them.
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
    """What is inexact on a kind of device: switched off, or to `values`; returns what it was.
    TF32's 10-bit products decode to noise.
    """
    if kind == "cpu":
        before: tuple[Any, ...] = torch.backends.nnpack.set_flags(False if values is None else values[0])  # type: ignore[no-untyped-call]
        return before
    if values is None:
        cudnn = torch.backends.cudnn
        return _full(torch.backends.cuda.matmul, torch.backends.cuda.matmul), _full(cudnn, getattr(cudnn, "conv", None))
    for place, name, value in values:
        setattr(place, name, value)
    return ()


def _full(place: Any, newer: Any) -> tuple[Any, str, Any]:
    """Switches TF32 off at a place of PyTorch's settings: what stood where. `newer`: the place of
    its newer name, "fp32_precision". In a program that uses that one PyTorch refuses to read the
    older one.
    """
    try:
        before = place, "allow_tf32", place.allow_tf32
        place.allow_tf32 = False
        if hasattr(newer, "fp32_precision"):  # else that of all of CUDA could still say so
            newer.fp32_precision = "ieee"
    except RuntimeError:
        before = newer, "fp32_precision", newer.fp32_precision
        newer.fp32_precision = "ieee"
    return before


SETTINGS = _Settings()


class Runner:
    """An exact network: features (N, I, H, W), and what it joins (N, J, H, W), to its outputs
    (N, O, H, W).

    `unfolded`: convolutions as matrix products, as on any device but the CPU. `channels_last`: the
    layout of activations; a little faster on CPUs. `threads`: of the CPU, for its own calls only;
    None: as many as PyTorch is set to. No bit depends on any.
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
        with SETTINGS.ours(device.type, threads):  # even a copy takes PyTorch's threads
            self._enter, self._down = self._convolution(net.enter), self._unit(net.down)
            self._head, self._join = (None if c is None else self._convolution(c) for c in (net.head, net.join))
            self._blocks = [
                (self._unit(b.down), self._convolution(b.first), self._convolution(b.second)) for b in net.blocks
            ]

    def __call__(self, features: NDArray[np.float32], context: NDArray[np.float32] | None = None) -> NDArray[Any]:
        # A caller's autocast would round to 16 bits, and not where the runtime proves itself if
        # that was before.
        full = torch.autocast(self._device.type, enabled=False)
        with SETTINGS.ours(self._device.type, self._threads), torch.inference_mode(), full:
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
        return to_tensor(array, self._device, DTYPES[self._precision])

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


def to_tensor(array: NDArray[Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """An array on a device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)
