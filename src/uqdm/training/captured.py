"""A batch's loss and its gradients as one CUDA graph. Knows no optimiser and no data.

A step of a model of many small networks is tens of thousands of small operations, and a GPU waits
for the CPU between them. A graph records them once and plays them again without the CPU. This asks
three things of the objective: it never waits for the GPU, it makes no tensors from numbers of the
CPU, and all that it draws comes from the generator that it is given.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

WARM_UP = 3  # runs before recording: libraries choose their algorithms in the first ones

Found = tuple[Tensor, ...]


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    x: Tensor
    found: Found
    gradients: list[Tensor | None]


class Captured:
    """`objective(x, generator)` -> loss and more, with the loss's gradients left in the parameters.

    There is one graph for each shape of `x`. They share their memory.
    """

    def __init__(
        self, objective: nn.Module, run: Callable[[Tensor, torch.Generator], Found], device: torch.device
    ) -> None:
        """`run` calls the objective and goes backward."""
        self._parameters = list(objective.parameters())
        self._run, self._device = run, device
        index = device.index if device.index is not None else torch.cuda.current_device()
        self._generator = torch.cuda.default_generators[index]  # graphs know this one
        self._recorded: dict[torch.Size, _Recorded] = {}

    def __call__(self, x: Tensor, seed: int) -> Found:
        """x: uint8 (B, C, H, W), anywhere."""
        if x.shape not in self._recorded:
            self._recorded[x.shape] = self._record(x)
        recorded = self._recorded[x.shape]
        recorded.x.copy_(x, non_blocking=True)
        self._generator.manual_seed(seed)
        recorded.graph.replay()
        for parameter, gradient in zip(self._parameters, recorded.gradients):
            parameter.grad = gradient
        return tuple(part.clone() for part in recorded.found)

    def _record(self, x: Tensor) -> _Recorded:
        x = x.to(self._device, copy=True)
        beside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self._forget()
                self._run(x, self._generator)
        torch.cuda.current_stream(self._device).wait_stream(beside)
        self._forget()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=next(iter(self._recorded.values())).graph.pool() if self._recorded else None):
            found = tuple(part.detach() for part in self._run(x, self._generator))
        return _Recorded(graph, x, found, [p.grad for p in self._parameters])

    def _forget(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
