"""Exact networks: integers inside ordinary floating-point convolutions, the same bits on any
machine; knows no runtime.

Weights are integers of at most 12 bits, 13 in the first layer. Activations are integers of 0 ..
1023. Sums are rescaled by powers of two and rounded down. As long as every partial sum stays below
2**24, a float32 holds it exactly, so the order of summation (threads, batches, tiles, processors)
cannot matter. `bound.py` computes that bound from the weights, and a package that breaks it is
refused.

In integers a network is (docs/determinism.md):

    h = floor(enter(features) / 2**shift) + floor(join(others) / 2**shift)   the residual stream; few join others
    for each block:
        a = limit(floor(h / 2**down + 1/2))     limit: to 0 .. 1023, the ReLU; or leaky, floor(x / 8 + 1/2) below 0
        a = limit(floor(first(a) / 2**shift))
        h = h + floor(second(a) / 2**shift)
    raw = floor(head(limit(floor(h / 2**down + 1/2))) / 2**shift)                 or, without a head, what it would get

`features.py` makes the features of boxes, and a family's `networks.py` says what the outputs mean.
What runs convolutions is given (`runtimes/`). `convolve` here is NumPy's own, the witness that
others are tested against.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LIMIT = 1023  # of an activation
LEAK = 128  # and of one below zero, where a network's activations leak: there an eighth is passed on
EXACT = 1 << 24  # integers below it are exact in float32
PATCHES = 1 << 20  # values of the input that `convolve` lays side by side at once

Array = NDArray[Any]
Runner = Callable[..., NDArray[Any]]  # features, and the context of a network that joins one


@dataclasses.dataclass(frozen=True)
class Convolution:
    """floor((weight * x + bias) / 2**shift): weight (O, I, k, k), k = 1 or 3 (zeros around the
    field); bias, shift (O,). Integers.
    """

    weight: Array
    bias: Array
    shift: Array

    @property
    def reach(self) -> int:
        """How many positions it sees on each side of its own: 0 or 1."""
        return int(self.weight.shape[2]) // 2

    def scaled(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """Weight and bias times 2**-shift: binary floats hold their sums as exactly as the
        integers', and only floor is left to do.
        """
        scale = np.ldexp(np.ones(len(self.shift), dtype), -self.shift.astype(np.int32))
        return self.weight.astype(dtype) * scale[:, None, None, None], self.bias.astype(dtype) * scale


@dataclasses.dataclass(frozen=True)
class Block:
    """One residual block; `down` (channels,) shifts the residual stream to activations."""

    down: Array
    first: Convolution
    second: Convolution


@dataclasses.dataclass(frozen=True)
class Net:
    """A network: convolutions around a residual stream."""

    enter: Convolution
    blocks: tuple[Block, ...]
    down: Array  # (channels,) as `Block.down`
    head: Convolution | None = None  # None: the activations themselves are the result
    join: Convolution | None = None  # added to what enters: of another network's activations
    # Whether an eighth of what is below zero is passed on, its own activations' and those that it
    # joins.
    leaky: bool = False

    @property
    def channels(self) -> int:
        """Of the residual stream, and of the activations."""
        return len(self.down)

    @property
    def least(self) -> int:
        """The least activation."""
        return -LEAK if self.leaky else 0

    @property
    def reach(self) -> int:
        """How many positions on each side of its own an output depends on."""
        around = max(c.reach for c in (self.enter, self.join) if c is not None)
        around += sum(block.first.reach + block.second.reach for block in self.blocks)
        return around + (self.head.reach if self.head is not None else 0)


def convolve(x: Array, convolution: Convolution) -> Array:
    """(weight * x + bias) / 2**shift by NumPy, in the precision of x (N, I, H, W), integers as
    floats; not rounded down yet.
    """
    weight, bias = convolution.scaled(x.dtype)
    out_channels, _, k, _ = weight.shape
    n, _, h, w = x.shape
    flat, p = weight.reshape(out_channels, -1), k // 2
    taps = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))) if p else x
    # (N, I, k, k, H, W), not a copy.
    windows = np.lib.stride_tricks.sliding_window_view(taps, (k, k), (2, 3)).transpose(0, 1, 4, 5, 2, 3)
    rows = max(1, PATCHES // max(1, flat.shape[1] * w))
    out = np.empty((n, out_channels, h, w), x.dtype)
    for i in range(n):
        for y in range(0, h, rows):
            part = flat @ windows[i, :, :, :, y : y + rows].reshape(flat.shape[1], -1)
            part += bias[:, None]
            out[i, :, y : y + rows] = part.reshape(out_channels, -1, w)
    return out


def unit(down: Array, dtype: DTypeLike) -> Array:
    """2**-down as it multiplies (N, channels, H, W)."""
    found: Array = np.ldexp(np.ones(len(down), dtype), -down.astype(np.int32))[:, None, None]
    return found


def _limited(x: Array, net: Net, half: float) -> Array:
    """floor(x + half), or where it leaks floor(x / 8 + half) below zero; within the limits of
    activations.
    """
    if net.leaky:
        x = np.maximum(x, x / 8)
    x = x + half
    return np.clip(np.floor(x, out=x), net.least, LIMIT, out=x)


def run(net: Net, features: Array, context: Array | None = None) -> Array:
    """What a network gives, by NumPy alone, in the features' precision. The witness.

    (N, I, H, W), (N, J, H, W) -> (N, O, H, W).
    """
    h = np.floor(convolve(features, net.enter))
    if net.join is not None and context is not None:
        h += np.floor(convolve(context, net.join))
    for block in net.blocks:
        a = convolve(_limited(h * unit(block.down, h.dtype), net, 0.5), block.first)
        h += np.floor(convolve(_limited(a, net, 0), block.second))
    out = _limited(h * unit(net.down, h.dtype), net, 0.5)
    return out if net.head is None else np.floor(convolve(out, net.head))
