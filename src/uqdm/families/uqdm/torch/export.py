"""A trained model to a package that the codec runs; the door from torch to stored integers and
bits.
"""

import dataclasses
import itertools
from typing import Any

from uqdm.bundle import Package, hexadecimal
from uqdm.errors import CheckpointError, PackageError
from uqdm.families.uqdm.config import OURS
from uqdm.families.uqdm.constants import UqdmConstants, diffusion_constants, log2_scale
from uqdm.families.uqdm.torch.model import UQDM

TRAINED = "uqdm train"  # a model's source, where we trained it


def package_of(model: Any, name: str, reading: str, source: str) -> Package:
    """A model, published or trained, as the codec uses it. Raises `CheckpointError` where it
    cannot.
    """
    config = model.config.model
    if not isinstance(model, UQDM):
        raise CheckpointError(
            f"{name}: family is {model.config.family!r}; only a UQDM's steps can be sent by universal quantization"
        )
    if config.prior_type != "logistic":
        raise CheckpointError(
            f"{name}: prior_type is {config.prior_type!r}; the codec's tables are of the logistic (eq. 7)"
        )
    if config.vocab_size != 256 or config.n_channels != 3:
        raise CheckpointError(
            f"{name}: {config.n_channels} channels of {config.vocab_size} values; the codec's pictures have 3 of 256"
        )
    gamma = model.gammas(config.n_timesteps).detach().tolist()
    half = config.vocab_size / 2
    constants = diffusion_constants(gamma, "rgb", [half - 0.5] * 3, [half] * 3)
    kernel = config.base_prior_scale == "forward_kernel"
    scales = [log2_scale(t, s, half, kernel) for t, s in itertools.pairwise(gamma)]
    # Keys of ours at their defaults are left out, so that an imported model's fingerprint does not
    # depend on what else there is.
    plain = {f.name for f in dataclasses.fields(config) if f.name in OURS and getattr(config, f.name) == f.default}
    parts = {name: value for name, value in dataclasses.asdict(config).items() if name not in plain}
    network = {"kind": "unet", "config": parts, "gamma": hexadecimal(gamma), "log2_scale": hexadecimal(scales)}
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
        UqdmConstants.of(found)
    except PackageError as error:
        raise CheckpointError(f"{name}: the codec cannot use this model: {error}") from None
    return found
