"""Turns a trained convolutional network into an exact one (`uqdm.exact`): 12-bit weights, 10-bit
activations, every sum below 2**24.

Scales are free where ReLU follows. The integer 1 of an activation may stand for any real number,
one per channel. It is chosen so that what the channel reaches on calibration pictures fills
0 .. 1023. Inside a layer, rows of weights are as fine as 12 bits and the bound allow, and the two
scales meet in a shift. The residual stream keeps one scale per channel through all blocks. It is up
to 2**4 finer than activations, as far as the bound allows.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from uqdm.entropy.tables import LEVELS_PER_OCTAVE
from uqdm.errors import PackageError
from uqdm.exact import bound
from uqdm.exact.bound import MOST_SHIFT
from uqdm.exact.features import LEVEL_BITS
from uqdm.exact.network import EXACT, LEAK, LIMIT, Block, Convolution, Net
from uqdm.families.torch.blocks import Residual

STREAM_BITS = (4, 3, 2, 1, 0)  # the first that the bound allows
LARGEST_WEIGHT = 2047
LARGEST_FIRST = 4095  # of the first layer, whose features differ in what an integer of them is worth
MOST_ROUNDS = 8
RAW_LEVEL = math.log(2) / LEVELS_PER_OCTAVE / 2**LEVEL_BITS  # what one raw level adds to the logarithm of a scale
QUANTILE = 0.9999  # of what a channel reaches on calibration pictures; the rest is limited
QUANTILES = (0.99, 0.999, 0.9999, 1.0)  # that are tried where it can be measured which is best


@dataclasses.dataclass(frozen=True)
class Layers:
    """A network's convolutions: enter, residual blocks, head (None: its activations are the
    result), join.
    """

    enter: nn.Conv2d
    body: nn.Sequential
    head: nn.Conv2d | None = None
    join: nn.Conv2d | None = None
    leaky: bool = False


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a network is shown: integer features, and in its own units what it joins."""

    features: Tensor
    context: Tensor | None = None


def quantised(
    layers: Layers,
    units: Tensor,
    edge: NDArray[Any],
    samples: Sequence[Sample],
    raw: Tensor | None,
    joined: Tensor | None = None,
    quantile: float = QUANTILE,
) -> tuple[Net, Tensor]:
    """A network as integers, and what an integer of its activations stands for (channels,).

    `units` (I,): what an integer of each feature stands for; `edge` (I,): the largest; `raw` (O,):
    what one of each output is to stand for; `joined` (J,): what one of each activation that is
    joined does. Raises `PackageError` where no scales keep the bound.
    """
    quantiser = _Quantiser(layers, units, edge, samples, raw, joined, quantile)
    for bits in STREAM_BITS:
        found, scale = quantiser.net(bits)
        try:
            bound.largest(found, "quantised network", edge)
            break
        except PackageError:
            if bits == STREAM_BITS[-1]:
                raise
    return found, scale


@dataclasses.dataclass(frozen=True)
class _Inside:
    """A block's convolutions and the scales of what lies between them; (channels,) each."""

    first: nn.Conv2d
    second: nn.Conv2d
    down: Tensor  # shift from the stream to activations
    sums: Tensor  # of the first convolution
    shift: Tensor  # and from there to the activations between
    scale: Tensor  # of those
    finest: Tensor  # that the second convolution's sums can have


class _Quantiser:
    """Walks through a network layer by layer with the scales of its channels in hand."""

    def __init__(
        self,
        layers: Layers,
        units: Tensor,
        edge: NDArray[Any],
        samples: Sequence[Sample],
        raw: Tensor | None,
        joined: Tensor | None,
        quantile: float,
    ) -> None:
        self.layers, self.units, self.raw, self.joined, self.quantile = layers, units, raw, joined, quantile
        self.leak = LEAK / LIMIT if layers.leaky else 0.0
        self.largest = torch.from_numpy(edge.astype(np.float32))
        self.blocks = [(b.first, b.second) for b in layers.body if isinstance(b, Residual)]
        self.streams, self.inner = self._reached(samples)
        # Channels inside a block that ReLU silences on every calibration picture are left out:
        # training kills many.
        alive = [reached > 0 for reached in self.inner]
        self.blocks = [_pruned(first, second, a) for (first, second), a in zip(self.blocks, alive)]
        self.inner = [_floored(reached[a]) for reached, a in zip(self.inner, alive)]
        self.streams = [_floored(reached) for reached in self.streams]

    def net(self, stream_bits: int) -> tuple[Net, Tensor]:
        layers, units = self.layers, self.units
        stream = torch.stack(self.streams).amax(0) / (LIMIT << stream_bits)  # the residual stream's scale
        full = torch.full_like(stream, LIMIT)
        enter_finest = _row_scale(layers.enter, units, self.largest, LARGEST_FIRST, leak=1.0)
        fixed = [enter_finest]
        if layers.join is not None and self.joined is not None:
            fixed.append(_row_scale(layers.join, self.joined, torch.full_like(self.joined, LIMIT), leak=self.leak))
        stream = torch.stack([stream, *fixed]).amax(0)
        inside = self._inside(stream)
        # The stream cannot be finer than what is added to it, which depends on it in turn, a
        # little.
        for _ in range(MOST_ROUNDS):
            coarser = torch.stack([stream, *(block.finest for block in inside)]).amax(0)
            if torch.equal(coarser, stream):
                break
            stream = coarser
            inside = self._inside(stream)
        enter = _convolution(layers.enter, units, enter_finest, stream)
        out = []
        for block in inside:
            first = _rounded(block.first, stream * 2.0**block.down, block.sums, block.shift)
            out.append(
                Block(
                    block.down.numpy().astype(np.int8),
                    first,
                    _convolution(block.second, block.scale, block.finest, stream),
                )
            )
        down = _shift(self.streams[-1] / stream)
        scale = stream * 2.0**down
        head = join = None
        if layers.head is not None and self.raw is not None:
            head = _convolution(layers.head, scale, _row_scale(layers.head, scale, full, leak=self.leak), self.raw)
        if layers.join is not None and self.joined is not None:
            join = _convolution(layers.join, self.joined, fixed[1], stream)
        return Net(enter, tuple(out), down.numpy().astype(np.int8), head, join, layers.leaky), scale

    def _inside(self, stream: Tensor) -> list["_Inside"]:
        """The scales inside each block, for a residual stream of scales `stream`."""
        found = []
        for (first, second), reached, first_reached in zip(self.blocks, self.streams, self.inner):
            down = _shift(reached / stream)
            sums = _row_scale(first, stream * 2.0**down, torch.full_like(stream, LIMIT), leak=self.leak)
            shift = _shift(first_reached / sums)
            scale = sums * 2.0**shift
            finest = _row_scale(second, scale, torch.full_like(scale, LIMIT), leak=self.leak)
            found.append(_Inside(first, second, down, sums, shift, scale, finest))
        return found

    def _activation(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 1 / 8 if self.layers.leaky else 0.0)

    def _size(self, x: Tensor) -> Tensor:
        """What has to fit: where nothing leaks, what is above zero."""
        return x.abs() if self.layers.leaky else x

    def _reached(self, samples: Sequence[Sample]) -> tuple[list[Tensor], list[Tensor]]:
        """What the residual stream reaches before each block and the head, and each block inside;
        (channels,) each.
        """
        streams: list[list[Tensor]] = [[] for _ in range(len(self.blocks) + 1)]
        inner: list[list[Tensor]] = [[] for _ in self.blocks]
        for x in samples:
            h = self.layers.enter(x.features * self.units[:, None, None])
            if self.layers.join is not None:
                h = h + self.layers.join(x.context)
            for i, (first, second) in enumerate(self.blocks):
                streams[i].append(self._size(h))
                middle = first(self._activation(h))
                inner[i].append(self._size(middle))
                h = h + second(self._activation(middle))
            streams[-1].append(self._size(h))
        return [_high(s, self.quantile) for s in streams], [_high(s, self.quantile) for s in inner]


def _high(values: list[Tensor], quantile: float) -> Tensor:
    """(channels,) what a channel reaches: a quantile of it; 0 only where nothing is above 0."""
    flat = torch.cat([v.detach().transpose(0, 1).flatten(1) for v in values], 1)
    highest: Tensor = flat.topk(max(1, round(flat.shape[1] * (1 - quantile))), 1).values
    return torch.where(highest[:, -1] > 0, highest[:, -1], highest[:, 0]).clamp(min=0)


def _floored(reached: Tensor) -> Tensor:
    """At least a hundredth of the largest channel's, so that scales stay finite."""
    return reached.clamp(min=float(reached.max()) / 100) if len(reached) else reached


def _pruned(first: nn.Conv2d, second: nn.Conv2d, alive: Tensor) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A block's two convolutions with only the inner channels that are `alive` (channels,), at
    least one.
    """
    alive[0] |= not alive.any()
    count = int(alive.sum())
    a = nn.Conv2d(first.in_channels, count, first.kernel_size, padding=first.padding)  # type: ignore[arg-type]
    b = nn.Conv2d(count, second.out_channels, second.kernel_size, padding=second.padding)  # type: ignore[arg-type]
    assert first.bias is not None
    assert second.bias is not None
    assert a.bias is not None
    assert b.bias is not None
    for new, old in (
        (a.weight, first.weight[alive]),
        (a.bias, first.bias[alive]),
        (b.weight, second.weight[:, alive]),
        (b.bias, second.bias),
    ):
        new.data.copy_(old)
    return a, b


def _shift(ratio: Tensor) -> Tensor:
    """The smallest shifts s >= 0 with ratio / 2**s within LIMIT."""
    return torch.ceil(torch.log2(ratio / LIMIT) - 1e-6).clamp(0, MOST_SHIFT).to(torch.int32)


def _rounded(conv: nn.Conv2d, inputs: Tensor, sums: Tensor, shift: Tensor) -> Convolution:
    """Weights in units of `sums` (O,) for inputs whose integer 1 stands for `inputs` (I,); half of
    what the shift drops is added.
    """
    bias = _bias(conv)
    weight = torch.round(conv.weight.double() * inputs.double()[:, None, None] / sums.double()[:, None, None, None])
    half = torch.where(shift > 0, 2.0 ** (shift.double() - 1), 0.0)
    bias = torch.floor(bias.double() / sums.double() + half + 0.5)
    return Convolution(
        weight.numpy().astype(np.int8 if weight.abs().max() < 128 else np.int16),
        bias.numpy().astype(np.int32),
        shift.numpy().astype(np.int8),
    )


def _bias(conv: nn.Conv2d) -> Tensor:
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()


def _row_scale(
    conv: nn.Conv2d, inputs: Tensor, largest: Tensor, largest_weight: int = LARGEST_WEIGHT, leak: float = 0.0
) -> Tensor:
    """(O,) the finest scale of a row's sums: weights within `largest_weight`, sums well below
    2**24.

    `largest` (I,): of the inputs; below zero they reach `leak` times that.
    """
    weight = conv.weight * inputs[:, None, None]
    by_weight = weight.abs().amax((1, 2, 3)).clamp(min=1e-20) / largest_weight
    reach = (weight * largest[:, None, None]).double()
    above, below = reach.clamp(min=0).sum((1, 2, 3)), -reach.clamp(max=0).sum((1, 2, 3))
    sums = torch.maximum(above + leak * below, below + leak * above) + _bias(conv).abs()
    by_sum = sums / (0.9 * EXACT)
    return torch.maximum(by_weight, by_sum.float())


def _convolution(conv: nn.Conv2d, inputs: Tensor, finest: Tensor, outputs: Tensor) -> Convolution:
    """A convolution whose results have given scales `outputs` (O,), none below `finest`: the sums
    are finer by a power of two.
    """
    shift = torch.floor(torch.log2(outputs / finest) + 1e-6).clamp(0, MOST_SHIFT).to(torch.int32)
    return _rounded(conv, inputs, outputs / 2.0**shift, shift)
