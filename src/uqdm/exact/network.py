"""Exact networks: integers inside ordinary floating-point convolutions, the same bits on any machine; knows no runtime.

Weights are integers (of 8 bits but in the first layer), activations integers of 0 .. 1023; sums are rescaled by powers of two and
rounded down. As long as every partial sum stays below 2**24 a float32 holds it exactly, so the order of summation (threads, batches,
tiles, processors) cannot matter. `Step.check` computes that bound from the weights; a package that breaks it is refused.

One step's network is, in integers (docs/determinism.md):

    h = floor(enter(features) / 2**shift) + floor(join(others) / 2**shift)       the residual stream; few networks join others
    for each block:
        a = limit(floor(h / 2**down + 1/2))         limit: to 0 .. 1023, which is the ReLU; or leaky, floor(x / 8 + 1/2) below 0
        a = limit(floor(first(a) / 2**shift))
        h = h + floor(second(a) / 2**shift)
    raw = floor(head(limit(floor(h / 2**down + 1/2))) / 2**shift)                 or, without a head, what it would get

on half the resolution, with `features` before and `suggest` after it in NumPy integers. What runs convolutions is given
(`backends/`); `convolve` here is NumPy's own, the witness that others are tested against.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from uqdm.errors import PackageError

LIMIT = 1023  # of an activation
LEAK = 128  # and of one below zero, where a network's activations leak: there an eighth is passed on
EXACT = 1 << 24  # integers below it are exact in float32
DETAIL_LIMIT = 2047  # of the high-pass as a feature
LOCATION_BITS = 10  # a raw location counts in 2**-10 of the nominal width
LEVEL_BITS = 6  # a raw level in 2**-6 of a level
FARTHEST = 1 << 30  # |location| in 2**-16 pixel values
LEVELS = 128
PATCHES = 1 << 20  # values of the input that `convolve` lays side by side at once
CONVOLUTIONS = ("weight", "bias", "shift")
MOST_CHANNELS = 1024  # of a layer: more than any model has, so that a hostile one cannot ask for all memory
MOST_BLOCKS = 64  # residual blocks of a network: with them grows what a tile needs around it
MOST_SHIFT = 23
COORDINATES = 3  # of a pixel
MIDDLES = (0, 255)  # twice the middle of a coordinate's range; 255 only where it is 0 .. 255 (`families.uqdm` looks)
FAR = 1 << 40  # what is added to locations, and skips, so that sums stay far inside 64 bits
RANGES = {  # of the constants: the least and the largest value that a model may have
    "middle": (0, 255),
    "width": (1, (1 << 31) - 1),
    "offset": (-FAR, FAR),
    "level": (-EXACT, EXACT),
    "detail": (0, MOST_SHIFT),
    "wide": (1, 511),  # no box is wider
    "skip": (-FAR, FAR),
}
CONSTANTS = tuple(RANGES)

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Convolution:
    """floor((weight * x + bias) / 2**shift): weight (O, I, k, k), k = 1 or 3 (zeros around the field); bias, shift (O,). Integers."""

    weight: Array
    bias: Array
    shift: Array

    def scaled(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """Weight and bias times 2**-shift: binary floats hold their sums as exactly as the integers', and only floor is left to do."""
        scale = np.ldexp(np.ones(len(self.shift), dtype), -self.shift.astype(np.int32))
        return self.weight.astype(dtype) * scale[:, None, None, None], self.bias.astype(dtype) * scale

    def check(self, where: str) -> None:
        """Raises `PackageError` where it is no convolution, or a value is beyond what the bound can be computed for."""
        shape = self.weight.shape
        if len(shape) != 4 or shape[2:] not in ((1, 1), (3, 3)) or not (0 < shape[0] <= MOST_CHANNELS and 0 < shape[1] <= MOST_CHANNELS):
            raise PackageError(f"{where}: weights of shape {shape}; expected 1 to {MOST_CHANNELS} outputs and inputs, and 1 x 1 or 3 x 3")
        ranged(f"{where}, weight", self.weight, shape, -EXACT, EXACT)
        ranged(f"{where}, bias", self.bias, shape[:1], -EXACT, EXACT)
        ranged(f"{where}, shift", self.shift, shape[:1], 0, MOST_SHIFT)

    def largest(self, low: Array, high: Array) -> Array:
        """(O,) no partial sum of any order exceeds it in size, for inputs between low and high (I,), of what `check` lets pass."""
        w = self.weight.astype(np.int64).sum((2, 3), where=self.weight > 0), self.weight.astype(np.int64).sum((2, 3), where=self.weight < 0)
        above = np.maximum(w[0] * high, 0) + np.maximum(w[1] * low, 0)
        below = np.minimum(w[0] * low, 0) + np.minimum(w[1] * high, 0)
        found: Array = np.maximum(above.sum(1), -below.sum(1)) + np.abs(self.bias.astype(np.int64))
        return found


@dataclasses.dataclass(frozen=True)
class Block:
    """One residual block; `down` (channels,) shifts the residual stream to activations."""

    down: Array
    first: Convolution
    second: Convolution


@dataclasses.dataclass(frozen=True)
class Net:
    """A network: convolutions around a residual stream. Without `enter` there is none."""

    enter: Convolution | None = None
    blocks: tuple[Block, ...] = ()
    down: Array | None = None  # (channels,) as `Block.down`
    head: Convolution | None = None  # None: the activations themselves are the result
    join: Convolution | None = None  # added to what enters: of another network's activations
    leaky: bool = False  # whether an eighth of what is below zero is passed on, its own activations' and those that it joins

    @property
    def layers(self) -> tuple[Convolution, tuple[Block, ...], Array, Convolution | None]:
        """Enter, blocks, down, head; of what is a network."""
        assert self.enter is not None
        assert self.down is not None
        return self.enter, self.blocks, self.down, self.head

    @property
    def least(self) -> int:
        """The least activation."""
        return -LEAK if self.leaky else 0

    @property
    def sees(self) -> int:
        """How far around a pixel the outputs depend on the boxes, in pixels, rounded up to even: kernels at half resolution, high-pass."""
        wide = self.head is not None and self.head.weight.shape[2] == 3
        return 2 * (1 + 2 * len(self.blocks) + wide) + 2

    def _check(self, name: str) -> None:
        enter, blocks, down, head = self.layers
        if len(blocks) > MOST_BLOCKS:
            raise PackageError(f"{name}: {len(blocks)} blocks; expected at most {MOST_BLOCKS}")
        parts = {"enter": enter, "head": head, "join": self.join}
        downs = {"down": down}
        for i, block in enumerate(blocks):
            parts |= {f"block {i}, first": block.first, f"block {i}, second": block.second}
            downs[f"block {i}, down"] = block.down
        for part, convolution in parts.items():
            if convolution is not None:
                convolution.check(f"{name}: {part}")
        for part, shift in downs.items():
            ranged(f"{name}: {part}", shift, enter.bias.shape, 0, MOST_SHIFT)

    def largest(self, name: str, edge: Array) -> int:
        """The largest partial sum there can be, for features up to `edge` (I,) in size and activations to join.

        Raises `PackageError` from 2**24 on, where the layers' sizes do not fit together, or where a value is out of its range.
        """
        enter, blocks, _, head = self.layers
        self._check(name)
        width = len(enter.bias)
        adding = [enter, *(b.second for b in blocks)] + ([self.join] if self.join else [])
        if {len(c.bias) for c in adding} != {width}:
            raise PackageError(f"{name}: the layers' sizes do not fit together")
        parts = [(f"block {i}, first", width, b.first) for i, b in enumerate(blocks)]
        parts += [(f"block {i}, second", len(b.first.bias), b.second) for i, b in enumerate(blocks)]
        parts += [("head", width, head)] if head else []
        parts += [("join", self.join.weight.shape[1], self.join)] if self.join else []
        largest = _fits(f"{name}: enter", enter, -edge, edge)
        stream = (enter.largest(-edge, edge) >> enter.shift.astype(np.int64)) + 1
        for part, inputs, convolution in parts:
            none, full = np.full(inputs, self.least, np.int64), np.full(inputs, LIMIT, np.int64)
            largest = max(largest, _fits(f"{name}: {part}", convolution, none, full))
            if any(convolution is one for one in adding):
                stream = stream + (convolution.largest(none, full) >> convolution.shift.astype(np.int64)) + 1
        largest = max(largest, int(stream.max()))
        if largest >= EXACT:
            raise PackageError(f"{name}: the residual stream can reach {largest}; exact networks stay below 2**24")
        return largest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step(Net):
    """One step's network as integers. C coordinates a pixel."""

    middle: Array  # (C,) twice the middle of the range
    width: Array  # (C,) nominal box width, 2**-16 pixel values
    offset: Array  # (C,) added to locations, 2**-16 pixel values
    level: Array  # (C,) added to raw levels
    detail: Array  # (1,) as a feature the high-pass, in 2**-5 pixel values, is shifted right by so much
    wide: Array  # (C,) box widths are limited to it as a feature
    skip: Array  # (C,) s: the location gets width * d / (|s| + |d|) with the sign of s, d the high-pass in 2**-5; 0: nothing

    @property
    def reach(self) -> int:
        """How far around a pixel the outputs depend on the input, in pixels, rounded up to even."""
        return self.sees if self.enter is not None else 0

    def limits(self) -> Array:
        """(12 C,) what the features cannot exceed in size."""
        return limits(self.middle, self.wide)

    def check(self, name: str) -> float:
        """log2 of the largest partial sum there can be. Raises `PackageError` from 2**24 on, or where the description is no network."""
        for field in CONSTANTS:
            ranged(f"{name}: {field}", getattr(self, field), () if field == "detail" else (COORDINATES,), *RANGES[field])
        if set(self.middle.tolist()) - set(MIDDLES):
            raise PackageError(f"{name}: middle is {self.middle.tolist()}; expected 0 or 255 each")
        if self.enter is None:
            farthest = int(np.abs((self.middle.astype(np.int64) << 15) + self.offset).max())
            if farthest > FARTHEST:
                raise PackageError(f"{name}: a location of {farthest}; expected at most 2**30")
            return 0.0
        if self.join is not None:
            raise PackageError(f"{name}: joins another network's activations, and there is none")
        if self.head is None or len(self.head.bias) != 8 * len(self.middle):
            raise PackageError(f"{name}: the layers' sizes do not fit together")
        return float(np.log2(max(1, self.largest(name, self.limits()))))

    def features(self, low: Array, high: Array) -> NDArray[np.float32]:
        """Boxes (N, C, H, W), H and W even, to what the network sees: (N, 12 C, H/2, W/2) integers as float32."""
        twice = low.astype(np.int32) + high
        # From below too: only damaged or sampled streams make empty boxes, but `check` must hold for them.
        wide = np.clip(high.astype(np.int32) - low + 1, 0, self.wide[:, None, None].astype(np.int32))
        detail = np.clip((high_pass(twice) + (1 << self.detail.item() >> 1)) >> self.detail.item(), -DETAIL_LIMIT, DETAIL_LIMIT)
        stack = np.concatenate([twice - self.middle[:, None, None].astype(np.int32), detail, wide], 1)
        n, c, h, w = stack.shape
        halves = stack.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4)
        return np.ascontiguousarray(halves.reshape(n, 4 * c, h // 2, w // 2), np.float32)

    def suggest(self, raw: Array | None, low: Array, high: Array) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Raw outputs (N, 8 C, H/2, W/2) and boxes (N, C, H, W) to locations (2**-16 pixel values) and scale levels, (N, C, H, W)."""
        shape = (-1, 1, 1)
        width, offset, level, skip = (a.astype(np.int64).reshape(shape) for a in (self.width, self.offset, self.level, self.skip))
        if raw is None:
            location = np.broadcast_to((self.middle.astype(np.int64).reshape(shape) << 15) + offset, low.shape).astype(np.int32)
            return location, np.broadcast_to(np.clip(level >> LEVEL_BITS, 0, LEVELS - 1), low.shape).astype(np.uint8)
        twice = low.astype(np.int32) + high
        n, c, h, w = twice.shape
        raw = raw.reshape(n, 2 * c, 2, 2, h // 2, w // 2).transpose(0, 1, 4, 2, 5, 3).reshape(n, 2 * c, h, w)
        location = raw[:, :c].astype(np.int64)
        location *= width
        location >>= LOCATION_BITS
        detail = high_pass(twice).astype(np.int64)
        detail_width = np.where(skip < 0, -width, width) * detail
        np.abs(detail, out=detail)
        detail += np.maximum(np.abs(skip), 1)
        detail_width //= detail
        detail_width *= skip != 0
        location += detail_width
        location += offset
        location += twice.astype(np.int64) << 15
        levels = np.clip((raw[:, c:].astype(np.int32) + level.astype(np.int32)) >> LEVEL_BITS, 0, LEVELS - 1).astype(np.uint8)
        return np.clip(location, -FARTHEST, FARTHEST).astype(np.int32), levels


def limits(middle: Array, wide: Array) -> Array:
    """(12 C,) what features of 2 x 2 pixels cannot exceed in size: centres, high-pass, widths. middle, wide (C,) as in `Step`."""
    centre = np.where(middle == 255, 255, 510)  # coordinates are 0 .. 255 or -255 .. 255
    return np.repeat(np.concatenate([centre, [DETAIL_LIMIT] * len(middle), wide]).astype(np.int64), 4)


def ranged(where: str, array: Array, shape: tuple[int, ...], least: int, most: int) -> None:
    """Raises `PackageError` unless it is an array of integers of that shape, or () for a single one, and every value in the range."""
    if array.dtype.kind != "i":
        raise PackageError(f"{where} holds {array.dtype}; expected integers")
    if array.shape != shape and (shape or array.size != 1):
        raise PackageError(f"{where} has the shape {array.shape}; expected {shape}")
    if array.size and not (least <= int(array.min()) and int(array.max()) <= most):
        raise PackageError(f"{where} holds {int(array.min())} to {int(array.max())}; expected {least} to {most}")


def _fits(where: str, convolution: Convolution, low: Array, high: Array) -> int:
    if convolution.weight.shape[1] != len(low):
        raise PackageError(f"{where}: {convolution.weight.shape[1]} inputs, expected {len(low)}")
    largest = int(convolution.largest(low, high).max())
    if largest >= EXACT:
        raise PackageError(
            f"{where}: a partial sum can reach {largest}, 2**24 or more: not exact in float32. Quantise with smaller weights"
        )
    return largest


def high_pass(twice: NDArray[np.int32]) -> NDArray[np.int32]:
    """16 x less its 3 x 3 binomial sum (1 2 1; 2 4 2; 1 2 1), edges replicated; of twice the centre: the high-pass in 2**-5."""
    n, c, h, w = twice.shape
    rows = np.empty((n, c, h, w + 2), np.int32)  # np.pad would take most of the time at 64 x 64
    inner = rows[..., 1:-1]
    np.multiply(twice, 2, out=inner)
    inner[:, :, 1:] += twice[:, :, :-1]
    inner[:, :, :1] += twice[:, :, :1]
    inner[:, :, :-1] += twice[:, :, 1:]
    inner[:, :, -1:] += twice[:, :, -1:]
    rows[..., 0], rows[..., -1] = rows[..., 1], rows[..., -2]
    found: NDArray[np.int32] = 16 * twice
    found -= rows[..., :-2]
    found -= rows[..., 2:]
    inner *= 2
    found -= inner
    return found


def convolve(x: Array, convolution: Convolution) -> Array:
    """(weight * x + bias) / 2**shift by NumPy, in the precision of x (N, I, H, W), integers as floats; not rounded down yet."""
    weight, bias = convolution.scaled(x.dtype)
    out_channels, _, k, _ = weight.shape
    n, _, h, w = x.shape
    flat, p = weight.reshape(out_channels, -1), k // 2
    taps = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))) if p else x
    windows = np.lib.stride_tricks.sliding_window_view(taps, (k, k), (2, 3)).transpose(0, 1, 4, 5, 2, 3)  # (N, I, k, k, H, W), no copy
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
    """floor(x + half), or where it leaks floor(x / 8 + half) below zero; within the limits of activations."""
    if net.leaky:
        x = np.maximum(x, x / 8)
    x = x + half
    return np.clip(np.floor(x, out=x), net.least, LIMIT, out=x)


def run(net: Net, features: Array, context: Array | None = None) -> Array:
    """What a network gives, by NumPy alone, in the features' precision: (N, I, H, W), (N, J, H, W) -> (N, O, H, W). The witness."""
    enter, blocks, down, head = net.layers
    h = np.floor(convolve(features, enter))
    if net.join is not None and context is not None:
        h += np.floor(convolve(context, net.join))
    for block in blocks:
        a = convolve(_limited(h * unit(block.down, h.dtype), net, 0.5), block.first)
        h += np.floor(convolve(_limited(a, net, 0), block.second))
    out = _limited(h * unit(down, h.dtype), net, 0.5)
    return out if head is None else np.floor(convolve(out, head))


Runner = Callable[..., NDArray[Any]]  # features, and the context of a network that joins one


def parse(name: str, network: Mapping[str, Any], weights: Mapping[str, Array]) -> tuple[Step, ...]:
    """The steps of a package whose network is of kind "exact". Raises `PackageError` where they are none, or break the bound."""
    steps = []
    try:
        known(network, "kind", "steps", "mixed")
        if type(network.get("mixed", False)) is not bool:
            raise ValueError(f"mixed is {network['mixed']!r}; expected true or false")
        for i, described in enumerate(network["steps"]):
            known(described, "channels", "blocks")
            channels, blocks = count(described, "channels", MOST_CHANNELS), count(described, "blocks", MOST_BLOCKS)
            own = functools.partial(take, weights, f"{i}.")
            layers: dict[str, Any] = vars(net(own, "", blocks)) if channels else {}
            constants: dict[str, Any] = {field: own(field) for field in CONSTANTS}
            step = Step(**constants, **layers)
            step.check(f"{name}, step {i + 1}")
            if step.enter is not None and len(step.enter.bias) != channels:
                raise ValueError(f"step {i + 1} has {len(step.enter.bias)} channels, not {channels}")
            steps.append(dataclasses.replace(step, detail=step.detail.reshape(())))  # files hold no scalars
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PackageError(f"{name}: not an exact network: {type(error).__name__}: {error}") from None
    nothing_else(name, weights, *(named(step, f"{i}.") for i, step in enumerate(steps)))
    return tuple(steps)


def known(record: Mapping[str, Any], *keys: str) -> None:
    """Raises `ValueError` where a description says more than this version understands."""
    if odd := sorted(record.keys() - set(keys)):
        raise ValueError(f"unknown key {odd[0]!r}; a newer uqdm may know it")


def count(record: Mapping[str, Any], key: str, most: int) -> int:
    """A count of 0 .. most in a description. Raises `KeyError`, `ValueError`."""
    found = record[key]
    if type(found) is not int or not 0 <= found <= most:
        raise ValueError(f"{key} is {found!r}; expected an integer of 0 to {most}")
    return found


def nothing_else(name: str, weights: Mapping[str, Array], *used: Mapping[str, Array]) -> None:
    """Raises `PackageError` where there are arrays that no step has."""
    if odd := sorted(weights.keys() - set().union(*used)):
        raise PackageError(f"{name}: {len(odd)} arrays belong to no step, such as {odd[0]!r}")


Take = Callable[[str], Array]


def take(weights: Mapping[str, Array], prefix: str, field: str) -> Array:
    """An array of integers. Raises `KeyError`, `ValueError`."""
    found = weights[prefix + field]
    if found.dtype.kind != "i":
        raise ValueError(f"{prefix + field} holds {found.dtype}, expected integers")
    return found


def net(take: Take, prefix: str, blocks: int, leaky: bool = False) -> Net:
    """A network with that many blocks. `head` and `join` are there if their arrays are. Raises `KeyError`, `ValueError`."""

    def perhaps(part: str) -> Convolution | None:
        try:
            take(f"{prefix}{part}.weight")
        except KeyError:
            return None
        return _convolution(take, prefix + part)

    inside = []
    for k in range(blocks):
        body = f"{prefix}body.{k}."
        inside.append(Block(take(f"{body}down"), _convolution(take, f"{body}first"), _convolution(take, f"{body}second")))
    enter, down = _convolution(take, f"{prefix}enter"), take(f"{prefix}down")
    return Net(enter, tuple(inside), down, perhaps("head"), perhaps("join"), leaky)


def _convolution(take: Take, prefix: str) -> Convolution:
    return Convolution(take(f"{prefix}.weight"), take(f"{prefix}.bias"), take(f"{prefix}.shift"))


def named(step: Step, prefix: str) -> dict[str, Array]:
    """A step's arrays by the names that `parse` reads."""
    out = {prefix + field: getattr(step, field) for field in CONSTANTS}
    return out | named_net(step, prefix) if step.enter is not None else out


def named_net(net: Net, prefix: str) -> dict[str, Array]:
    """A network's."""
    enter, blocks, down, head = net.layers
    parts = {"enter": enter, "head": head, "join": net.join}
    out = {prefix + "down": down}
    for k, block in enumerate(blocks):
        parts |= {f"body.{k}.first": block.first, f"body.{k}.second": block.second}
        out[f"{prefix}body.{k}.down"] = block.down
    for place, convolution in parts.items():
        if convolution is not None:
            out |= {f"{prefix}{place}.{field}": getattr(convolution, field) for field in CONVOLUTIONS}
    return out
