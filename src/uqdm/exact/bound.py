"""The bound of exact networks: the largest partial sum that there can be, computed from the
weights. Refuses what exceeds it.

A network that passes computes the same integers everywhere (`network.py`). Every value is first
held to its range, so that the bound itself is computed without overflow.
"""

from typing import NamedTuple

import numpy as np

from uqdm.errors import PackageError
from uqdm.exact.network import EXACT, LIMIT, Array, Convolution, Net

MOST_CHANNELS = 1024  # of a layer: more than any model has, so that a hostile one cannot ask for all memory
MOST_BLOCKS = 64  # residual blocks of a network: with them grows what a tile needs around it
MOST_SHIFT = 23


class _Part(NamedTuple):
    """One of a network's convolutions."""

    name: str  # in errors
    convolution: Convolution
    inputs: int  # how many channels it gets
    adds: bool  # whether it is added to the residual stream


def largest(net: Net, name: str, edge: Array) -> int:
    """The largest partial sum there can be, for features up to `edge` (I,) in size and activations
    to join.

    Raises `PackageError` from 2**24 on, where the layers' sizes do not fit together, or where a
    value is out of its range.
    """
    parts = _parts(net, len(edge))
    _check(net, name, parts)
    width = len(net.enter.bias)
    if any(len(part.convolution.bias) != width for part in parts if part.adds):
        raise PackageError(f"{name}: the layers' sizes do not fit together")
    found, stream = 0, np.zeros(width, np.int64)
    for part, convolution, inputs, adds in parts:
        if convolution.weight.shape[1] != inputs:
            raise PackageError(f"{name}: {part}: {convolution.weight.shape[1]} inputs, expected {inputs}")
        low, high = (-edge, edge) if part == "enter" else (np.full(inputs, one, np.int64) for one in (net.least, LIMIT))
        sums = partial_sums(convolution, low, high)
        if (most := int(sums.max())) >= EXACT:
            raise PackageError(
                f"{name}: {part}: a partial sum can reach {most}, 2**24 or more: not exact in float32. Quantise with"
                " smaller weights"
            )
        found = max(found, most)
        if adds:
            stream += (sums >> convolution.shift.astype(np.int64)) + 1
    found = max(found, int(stream.max()))
    if found >= EXACT:
        raise PackageError(f"{name}: the residual stream can reach {found}; exact networks stay below 2**24")
    return found


def partial_sums(convolution: Convolution, low: Array, high: Array) -> Array:
    """(O,) no partial sum of any order exceeds it in size, for inputs between low and high (I,), of
    a convolution in its ranges.
    """
    weight = convolution.weight.astype(np.int64)
    positive, negative = weight.sum((2, 3), where=weight > 0), weight.sum((2, 3), where=weight < 0)
    above = np.maximum(positive * high, 0) + np.maximum(negative * low, 0)
    below = np.minimum(positive * low, 0) + np.minimum(negative * high, 0)
    found: Array = np.maximum(above.sum(1), -below.sum(1)) + np.abs(convolution.bias.astype(np.int64))
    return found


def _parts(net: Net, features: int) -> list[_Part]:
    width = len(net.enter.bias)
    found = [_Part("enter", net.enter, features, True)]
    for i, block in enumerate(net.blocks):
        found.append(_Part(f"block {i}, first", block.first, width, False))
        found.append(_Part(f"block {i}, second", block.second, len(block.first.bias), True))
    if net.head is not None:
        found.append(_Part("head", net.head, width, False))
    if net.join is not None:
        found.append(_Part("join", net.join, net.join.weight.shape[1] if net.join.weight.ndim > 1 else 0, True))
    return found


def _check(net: Net, name: str, parts: list[_Part]) -> None:
    if len(net.blocks) > MOST_BLOCKS:
        raise PackageError(f"{name}: {len(net.blocks)} blocks; expected at most {MOST_BLOCKS}")
    for part in parts:
        _check_convolution(f"{name}: {part.name}", part.convolution)
    for where, down in {
        "down": net.down,
        **{f"block {i}, down": block.down for i, block in enumerate(net.blocks)},
    }.items():
        ranged(f"{name}: {where}", down, net.enter.bias.shape, 0, MOST_SHIFT)


def _check_convolution(where: str, convolution: Convolution) -> None:
    """Raises `PackageError` where it is no convolution, or a value is beyond what the bound can be
    computed for.
    """
    shape = convolution.weight.shape
    if (
        len(shape) != 4
        or shape[2:] not in ((1, 1), (3, 3))
        or not (0 < shape[0] <= MOST_CHANNELS and 0 < shape[1] <= MOST_CHANNELS)
    ):
        raise PackageError(
            f"{where}: weights of shape {shape}; expected 1 to {MOST_CHANNELS} outputs and inputs, and 1 x 1 or 3 x 3"
        )
    ranged(f"{where}, weight", convolution.weight, shape, -EXACT, EXACT)
    ranged(f"{where}, bias", convolution.bias, shape[:1], -EXACT, EXACT)
    ranged(f"{where}, shift", convolution.shift, shape[:1], 0, MOST_SHIFT)


def ranged(where: str, array: Array, shape: tuple[int, ...], least: int, most: int) -> None:
    """Raises `PackageError` unless it is an array of integers of that shape, or () for a single
    one, and every value in the range.
    """
    if array.dtype.kind != "i":
        raise PackageError(f"{where} holds {array.dtype}; expected integers")
    if array.shape != shape and (shape or array.size != 1):
        raise PackageError(f"{where} has the shape {array.shape}; expected {shape}")
    if array.size and not (least <= int(array.min()) and int(array.max()) <= most):
        raise PackageError(f"{where} holds {int(array.min())} to {int(array.max())}; expected {least} to {most}")
