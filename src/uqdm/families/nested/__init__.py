"""The family `nested`: cells of the integer lattice, dithered once and nested (docs/nested.md)."""

from typing import Any

from uqdm.bundle import Package
from uqdm.errors import PackageError
from uqdm.families.base import Family, Opening, Walk
from uqdm.families.nested.config import NestedConfig
from uqdm.families.registry import register


def _walk(package: Package, mode: str, networks: Any) -> Walk:
    from uqdm.families.nested import walk

    return walk.NestedWalk(walk.NestedConstants.of(package), networks)


def _networks(package: Package, opening: Opening) -> Any:
    from uqdm.exact import runtimes
    from uqdm.families.nested import running

    found = runtimes.opened(opening)
    if (kind := package.network.get("kind")) != "nested":
        raise PackageError(
            f"{package.name}: network kind {kind!r} in a model of the family 'nested'; they do not belong together"
        )
    return running.NestedNetworks(package, found.runtime, found.name, workers=found.workers)


NESTED = Family(
    "nested",
    section="nested",
    config=NestedConfig,
    floats="uqdm.families.nested.torch.floats",
    modes=("tight",),
    walk=_walk,
    networks=_networks,
)
register(NESTED)
