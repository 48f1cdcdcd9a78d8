"""The family `pyramid`: nested dithered cells of an integer wavelet, for photographs
(docs/pyramid.md).
"""

from typing import Any

from uqdm.bundle import Package
from uqdm.errors import PackageError
from uqdm.families.base import Family, Opening, Walk
from uqdm.families.pyramid.config import PyramidConfig
from uqdm.families.registry import register


def _walk(package: Package, mode: str, networks: Any) -> Walk:
    from uqdm.families.pyramid import chunk, walk

    return walk.PyramidWalk(chunk.Constants.of(package), networks)


def _networks(package: Package, opening: Opening) -> Any:
    from uqdm.exact import runtimes
    from uqdm.families.pyramid import running

    found = runtimes.opened(opening)
    if (kind := package.network.get("kind")) != "pyramid":
        raise PackageError(
            f"{package.name}: network kind {kind!r} in a model of the family 'pyramid'; they do not belong together"
        )
    return running.PyramidNetworks(package, found.runtime, found.name, workers=found.workers)


PYRAMID = Family(
    "pyramid",
    section="pyramid",
    config=PyramidConfig,
    floats="uqdm.families.pyramid.torch.floats",
    modes=("tight",),
    walk=_walk,
    networks=_networks,
    compiles=True,
    minor=1,
    optional=("learning",),
)
register(PYRAMID)
