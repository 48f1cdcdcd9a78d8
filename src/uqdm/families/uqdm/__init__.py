"""The paper's families: `uqdm`, universally quantized diffusion (section 3), and `vdm`, the
Gaussian diffusion beside it.
"""

from typing import Any

from uqdm.bundle import Package
from uqdm.families.base import Family, Opening, Walk
from uqdm.families.registry import register
from uqdm.families.uqdm.config import OURS, ModelConfig


def _walk(package: Package, mode: str, networks: Any) -> Walk:
    from uqdm.families.uqdm.constants import UqdmConstants
    from uqdm.families.uqdm.paper import Paper
    from uqdm.families.uqdm.tight import Tight

    return {"tight": Tight, "paper": Paper}[mode](UqdmConstants.of(package), networks)


def _networks(package: Package, opening: Opening) -> Any:
    from uqdm.families.uqdm import running

    return running.denoiser(package, opening)


UQDM = Family(
    "uqdm",
    section="model",
    config=ModelConfig,
    floats="uqdm.families.uqdm.torch.floats",
    losses=("full", "single"),
    compiles=True,
    optional=OURS,
    modes=("tight", "paper"),
    walk=_walk,
    networks=_networks,
)
VDM = Family(
    "vdm",
    section="model",
    config=ModelConfig,
    floats="uqdm.families.uqdm.torch.gaussian",
    losses=("full", "single", "continuous"),
    compiles=True,
    optional=OURS,
)
register(UQDM)
register(VDM)
