"""Exact networks from a package's description and arrays, and back; knows no family.

A description is what a `model.json` says. Whatever it holds that this version does not know is
refused, so that nothing is guessed.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from uqdm.errors import PackageError
from uqdm.exact.network import Array, Block, Convolution, Net

CONVOLUTION = ("weight", "bias", "shift")
Take = Callable[[str], Array]


@contextlib.contextmanager
def described(name: str, what: str) -> Iterator[None]:
    """An error inside means that a description is not that of `what`, and becomes
    `PackageError`.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PackageError(f"{name}: not {what}: {type(error).__name__}: {error}") from None


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


def take(weights: Mapping[str, Array], prefix: str, field: str) -> Array:
    """An array of integers. Raises `KeyError`, `ValueError`."""
    found = weights[prefix + field]
    if found.dtype.kind != "i":
        raise ValueError(f"{prefix + field} holds {found.dtype}, expected integers")
    return found


def net(take: Take, prefix: str, blocks: int, leaky: bool = False) -> Net:
    """A network with that many blocks. `head` and `join` are there if their arrays are. Raises
    `KeyError`, `ValueError`.
    """

    def convolution(part: str) -> Convolution:
        return Convolution(*(take(f"{prefix}{part}.{field}") for field in CONVOLUTION))

    def perhaps(part: str) -> Convolution | None:
        try:
            take(f"{prefix}{part}.weight")
        except KeyError:
            return None
        return convolution(part)

    inside = [
        Block(take(f"{prefix}body.{k}.down"), convolution(f"body.{k}.first"), convolution(f"body.{k}.second"))
        for k in range(blocks)
    ]
    return Net(convolution("enter"), tuple(inside), take(f"{prefix}down"), perhaps("head"), perhaps("join"), leaky)


def named(net: Net, prefix: str) -> dict[str, Array]:
    """A network's arrays by the names that `net` reads."""
    parts = {"enter": net.enter, "head": net.head, "join": net.join}
    out = {prefix + "down": net.down}
    for k, block in enumerate(net.blocks):
        parts |= {f"body.{k}.first": block.first, f"body.{k}.second": block.second}
        out[f"{prefix}body.{k}.down"] = block.down
    for place, convolution in parts.items():
        if convolution is not None:
            out |= {f"{prefix}{place}.{field}": getattr(convolution, field) for field in CONVOLUTION}
    return out
