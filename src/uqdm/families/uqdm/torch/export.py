"""A trained model to a package that the codec runs; the door from torch to stored integers and bits."""

import dataclasses
import itertools
import math
from typing import Any

from uqdm.bundle import Package, hexadecimal
from uqdm.errors import CheckpointError, PackageError
from uqdm.families.uqdm.config import OURS
from uqdm.families.uqdm.constants import diffusion_constants
from uqdm.families.uqdm.torch.model import UQDM
from uqdm.families.uqdm.walk import Constants

TRAINED = "uqdm train"  # a model's source, where we trained it


def package_of(model: Any, name: str, reading: str, source: str) -> Package:
    """A model, published or trained, as the codec uses it. Raises `CheckpointError` where it cannot."""
    config = model.config.model
    if not isinstance(model, UQDM):
        raise CheckpointError(f"{name}: family is {model.config.family!r}; only a UQDM's steps can be sent by universal quantization")
    if config.prior_type != "logistic":
        raise CheckpointError(f"{name}: prior_type is {config.prior_type!r}; the codec's tables are of the logistic (eq. 7)")
    if config.vocab_size != 256 or config.n_channels != 3:
        raise CheckpointError(f"{name}: {config.n_channels} channels of {config.vocab_size} values; the codec's pictures have 3 of 256")
    gamma = model.gammas(config.n_timesteps).detach().tolist()
    half = config.vocab_size / 2
    constants = diffusion_constants(gamma, "rgb", [half - 0.5] * 3, [half] * 3)
    log2_scale = []  # of the logistic in pixel values, where the network's factor is 1
    for t, s in itertools.pairwise(gamma):
        e = -math.expm1(s - t)
        wide = t if config.base_prior_scale == "forward_kernel" else s
        deviation = math.sqrt(e / (1 + math.exp(-wide)))  # of g, in units of z
        c = e / math.sqrt(1 + math.exp(s))
        log2_scale.append(math.log2(half * math.sqrt(3) / math.pi * deviation / c))
    # Keys of ours at their defaults are left out, so that an imported model's fingerprint does not depend on what else there is.
    plain = {f.name for f in dataclasses.fields(config) if f.name in OURS and getattr(config, f.name) == f.default}
    parts = {name: value for name, value in dataclasses.asdict(config).items() if name not in plain}
    network = {"kind": "unet", "config": parts, "gamma": hexadecimal(gamma), "log2_scale": hexadecimal(log2_scale)}
    if model.config.data.crop:
        network["tile"] = model.config.data.crop  # attention and norms see what they saw in training
    weights = {k: v.detach().cpu().numpy() for k, v in model.network.state_dict().items()}
    about = {
        "description": f"{'trained' if source == TRAINED else 'published'} UQDM checkpoint, {reading} reading",
        "source": source,
        "reading": reading,
    }
    found = Package(name, "uqdm", network, constants, weights, about)
    try:
        Constants.of(found)
    except PackageError as error:
        raise CheckpointError(f"{name}: the codec cannot use this model: {error}") from None
    return found
