"""A trained convolutional model to an exact one (`uqdm.exact`): 12-bit weights, 10-bit activations, every sum below 2**24.

Scales are free where ReLU follows: the integer 1 of an activation may stand for any real number, one per channel, chosen so that
what the channel reaches on calibration pictures fills 0 .. 1023. Inside a layer rows of weights are as fine as 12 bits and the bound
allow, and the two scales meet in a shift. The residual stream keeps one scale per channel through all blocks, up to 2**4 (as the
bound allows) finer than activations.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from uqdm.entropy.tables import LEVELS_PER_OCTAVE, LOWEST_OCTAVE
from uqdm.errors import PackageError
from uqdm.exact import EXACT, LEVEL_BITS, LIMIT, LOCATION_BITS, Block, Convolution, Step
from uqdm.models.convnet import Residual, StepNet

STREAM_BITS = (4, 3, 2, 1, 0)  # the first that the bound allows
LARGEST_WEIGHT = 2047
LARGEST_FIRST = 4095  # of the first layer, whose features differ in what an integer of them is worth
MOST_SHIFT = 23
MOST_ROUNDS = 8
QUANTILE = 0.9999  # of what a channel reaches on calibration pictures; the rest is limited
Boxes = tuple[NDArray[np.int32], NDArray[np.int32]]  # low, high (N, C, H, W)


def quantise(net: StepNet, boxes: Sequence[Boxes]) -> Step:
    """One step's network as integers. `boxes`: what it is shown in use, of some dozens of pictures. Raises `PackageError`."""
    width, middle = net.width.flatten().double(), net.middle.flatten().double()
    offset = net.offset.detach().flatten().double() * width
    level = (net.stretch.detach().flatten().double() + torch.log(width)) / math.log(2) - LOWEST_OCTAVE
    one = 1 << LEVEL_BITS
    # 2047 of the high-pass's units are to be some hundred pixel values or more.
    detail = max(0, min(3, 5 + math.floor(math.log2(float(width.max()))) - 10))
    wide = np.max([(high - low).max((0, 2, 3)) + 1 for low, high in boxes], 0)
    skip = np.zeros(len(width), np.int64)
    if net.channels:
        skip = np.rint((32 * width / net.smooth.detach().flatten().double()).numpy()).astype(np.int64)
    bare = Step(
        middle=np.rint(2 * middle.numpy()).astype(np.int16),
        width=np.rint(width.numpy() * 2**16).astype(np.int64),
        offset=np.rint(offset.numpy() * 2**16).astype(np.int64),
        level=np.floor(level.numpy() * LEVELS_PER_OCTAVE * one + one / 2).astype(np.int32),  # half a level: the nearest, not the one below
        detail=np.array([detail], np.int8),
        wide=wide.astype(np.int16),
        skip=skip,
    )
    if not net.channels:
        return bare
    features = [torch.from_numpy(bare.features(*box)) for box in boxes]
    with torch.no_grad():
        quantiser = _Quantiser(net, bare, features)
        for bits in STREAM_BITS:
            found = quantiser.step(bits)
            try:
                found.check("quantised network")
                break
            except PackageError:
                if bits == STREAM_BITS[-1]:
                    raise
    return found


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

    def __init__(self, net: StepNet, bare: Step, features: list[Tensor]) -> None:
        self.net, self.bare, width = net, bare, net.width.flatten()
        # What one integer of each feature stands for in the network's own units.
        units = torch.cat([torch.full_like(width, 1 / 128), 2.0 ** (bare.detail.item() - 5) / width, 1 / width])
        self.units = units.repeat_interleave(4)
        self.largest = torch.from_numpy(bare.limits().astype(np.float32))
        self.blocks = [(b.first, b.second) for b in net.body if isinstance(b, Residual)]
        self.streams, self.inner = self._reached(features)
        # Channels inside a block that ReLU silences on every calibration picture are left out: training kills many.
        alive = [reached > 0 for reached in self.inner]
        self.blocks = [_pruned(first, second, a) for (first, second), a in zip(self.blocks, alive)]
        self.inner = [_floored(reached[a]) for reached, a in zip(self.inner, alive)]
        self.streams = [_floored(reached) for reached in self.streams]

    def step(self, stream_bits: int) -> Step:
        net, units, c = self.net, self.units, len(self.bare.width)
        stream = torch.stack(self.streams).amax(0) / (LIMIT << stream_bits)  # the residual stream's scale
        enter_finest = _row_scale(net.enter, units, self.largest, LARGEST_FIRST, signed=True)
        full = torch.full_like(stream, LIMIT)
        stream = torch.maximum(stream, enter_finest)
        inside = self._inside(stream)
        for _ in range(MOST_ROUNDS):  # the stream cannot be finer than what is added to it, which depends on it in turn, a little
            coarser = torch.stack([stream, *(block.finest for block in inside)]).amax(0)
            if torch.equal(coarser, stream):
                break
            stream = coarser
            inside = self._inside(stream)
        enter = _convolution(net.enter, units, enter_finest, stream)
        out = []
        for block in inside:
            first = _rounded(block.first, stream * 2.0**block.down, block.sums, block.shift)
            out.append(Block(block.down.numpy().astype(np.int8), first, _convolution(block.second, block.scale, block.finest, stream)))
        down = _shift(self.streams[-1] / stream)
        raw = torch.cat([torch.full((4 * c,), 2.0**-LOCATION_BITS), torch.full((4 * c,), math.log(2) / LEVELS_PER_OCTAVE / 2**LEVEL_BITS)])
        inputs = stream * 2.0**down
        head = _convolution(net.head, inputs, _row_scale(net.head, inputs, full), raw)
        return dataclasses.replace(self.bare, enter=enter, blocks=tuple(out), down=down.numpy().astype(np.int8), head=head)

    def _inside(self, stream: Tensor) -> list["_Inside"]:
        """The scales inside each block, for a residual stream of scales `stream`."""
        found = []
        for (first, second), reached, first_reached in zip(self.blocks, self.streams, self.inner):
            down = _shift(reached / stream)
            sums = _row_scale(first, stream * 2.0**down, torch.full_like(stream, LIMIT))
            shift = _shift(first_reached / sums)
            scale = sums * 2.0**shift
            found.append(_Inside(first, second, down, sums, shift, scale, _row_scale(second, scale, torch.full_like(scale, LIMIT))))
        return found

    def _reached(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What the residual stream reaches (after ReLU) before each block and the head, and each block inside; (channels,) each."""
        streams: list[list[Tensor]] = [[] for _ in range(len(self.blocks) + 1)]
        inner: list[list[Tensor]] = [[] for _ in self.blocks]
        for x in features:
            h = self.net.enter(x * self.units[:, None, None])
            for i, (first, second) in enumerate(self.blocks):
                streams[i].append(h)
                middle = first(F.relu(h))
                inner[i].append(middle)
                h = h + second(F.relu(middle))
            streams[-1].append(h)
        return [_high(s) for s in streams], [_high(s) for s in inner]


def _high(values: list[Tensor]) -> Tensor:
    """(channels,) what a channel reaches: the QUANTILE of it; 0 only where nothing is above 0."""
    flat = torch.cat([v.detach().transpose(0, 1).flatten(1) for v in values], 1)
    highest: Tensor = flat.topk(max(1, round(flat.shape[1] * (1 - QUANTILE))), 1).values
    return torch.where(highest[:, -1] > 0, highest[:, -1], highest[:, 0]).clamp(min=0)


def _floored(reached: Tensor) -> Tensor:
    """At least a hundredth of the largest channel's, so that scales stay finite."""
    return reached.clamp(min=float(reached.max()) / 100) if len(reached) else reached


def _pruned(first: nn.Conv2d, second: nn.Conv2d, alive: Tensor) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A block's two convolutions with only the inner channels that are `alive` (channels,), at least one."""
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
    """Weights in units of `sums` (O,) for inputs whose integer 1 stands for `inputs` (I,); half of what the shift drops is added."""
    assert conv.bias is not None
    weight = torch.round(conv.weight.double() * inputs.double()[:, None, None] / sums.double()[:, None, None, None])
    half = torch.where(shift > 0, 2.0 ** (shift.double() - 1), 0.0)
    bias = torch.floor(conv.bias.double() / sums.double() + half + 0.5)
    return Convolution(
        weight.numpy().astype(np.int8 if weight.abs().max() < 128 else np.int16),
        bias.numpy().astype(np.int32),
        shift.numpy().astype(np.int8),
    )


def _row_scale(conv: nn.Conv2d, inputs: Tensor, largest: Tensor, largest_weight: int = LARGEST_WEIGHT, signed: bool = False) -> Tensor:
    """(O,) the finest scale of a row's sums: weights within `largest_weight`, sums well below 2**24 for inputs up to `largest` (I,)."""
    weight = conv.weight * inputs[:, None, None]
    by_weight = weight.abs().amax((1, 2, 3)).clamp(min=1e-20) / largest_weight
    reach = (weight * largest[:, None, None]).double()
    above, below = reach.clamp(min=0).sum((1, 2, 3)), -reach.clamp(max=0).sum((1, 2, 3))
    assert conv.bias is not None
    sums = (above + below if signed else torch.maximum(above, below)) + conv.bias.abs()
    by_sum = sums / (0.9 * EXACT)
    return torch.maximum(by_weight, by_sum.float())


def _convolution(conv: nn.Conv2d, inputs: Tensor, finest: Tensor, outputs: Tensor) -> Convolution:
    """A convolution whose results have given scales `outputs` (O,), none below `finest`: the sums are finer by a power of two."""
    shift = torch.floor(torch.log2(outputs / finest) + 1e-6).clamp(0, MOST_SHIFT).to(torch.int32)
    return _rounded(conv, inputs, outputs / 2.0**shift, shift)
