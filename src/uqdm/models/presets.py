"""What a model is made of, as frozen records; the published sizes as one table, their config.json as a reader. Knows no torch."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from uqdm.errors import CheckpointError

MAX_CONFIG_BYTES = 1 << 20


def _check_types(record: Any) -> None:
    """`ValueError` where a field has not its declared type; an int will do for a float, but True is no number."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        accepted = (int, float) if field.type is float else field.type
        if not isinstance(value, accepted) or (isinstance(value, bool) and field.type is not bool):  # type: ignore[arg-type]
            raise ValueError(f"{field.name} is {value!r}; expected {getattr(field.type, '__name__', field.type)}")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The `model` section of a published config.json: everything that the weights' names and shapes follow from.

    Raises `ValueError` for values that no network can be built from.
    """

    n_timesteps: int = 4  # T, that the model was trained with
    prior_type: str = "logistic"  # g of eq. 6 ("gaussian") or eq. 7 ("logistic")
    learned_prior_scale: bool = True  # section 3.2: a factor s_theta(z_t) on the scale of g, per coordinate
    base_prior_scale: str = "forward_kernel"  # sigma_t sqrt(e), or "default": sigma_Q = sigma_s sqrt(e)
    noise_schedule: str = "learned_linear"  # see schedule.py
    fix_gamma_max: bool = True
    gamma_min: float = -12.3  # -log SNR at t = 0, nats
    gamma_max: float = 6.0  # and at t = 1
    attention_everywhere: bool = False
    use_fourier_features: bool = True
    ema_rate: float = 0.9999
    n_attention_heads: int = 1
    n_channels: int = 3  # of the picture
    vocab_size: int = 256  # values that a pixel's channel can have
    embedding_dim: int = 32  # D: channels of every block
    n_blocks: int = 1  # residual blocks on the way down; one more on the way up
    norm_groups: int = 8
    dropout_prob: float = 0.0

    def __post_init__(self) -> None:
        _check_types(self)
        one_of = {
            "prior_type": ("logistic", "gaussian"),
            "base_prior_scale": ("forward_kernel", "default"),
            "noise_schedule": ("fixed_linear", "learned_linear", "learned_monotone"),
        }
        for name, allowed in one_of.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        # Far above every model there is, and low enough that a hostile file cannot keep the machine busy building one.
        most = {"n_timesteps": 10_000, "n_attention_heads": 1024, "n_channels": 16, "vocab_size": 65536}
        for name, limit in {**most, "embedding_dim": 4096, "n_blocks": 1024, "norm_groups": 4096}.items():
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 to {limit}")
        for name in ("norm_groups", "n_attention_heads"):
            if self.embedding_dim % getattr(self, name):
                raise ValueError(f"embedding_dim is {self.embedding_dim}, not a multiple of {name}, {getattr(self, name)}")
        if self.embedding_dim < 4 or self.embedding_dim % 2:
            raise ValueError(f"embedding_dim is {self.embedding_dim}; expected an even number from 4")
        if not -100 < self.gamma_min < self.gamma_max < 100:
            raise ValueError(f"gamma_min is {self.gamma_min}, gamma_max {self.gamma_max}; expected an increase within -100 .. 100")
        if not 0 <= self.dropout_prob < 1 or not 0 <= self.ema_rate < 1:
            raise ValueError(f"dropout_prob is {self.dropout_prob}, ema_rate {self.ema_rate}; expected 0 <= both < 1")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The `training` section: how long, and what is written how often. Counts of optimiser steps."""

    n_steps: int = 500_000
    log_metrics_every_steps: int = 1000
    checkpoint_every_steps: int = 10_000
    eval_every_steps: int = 10_000
    eval_steps_to_run: int = 50

    def __post_init__(self) -> None:
        _check_types(self)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The `optim` section, of Adam; `warmup` in steps."""

    weight_decay: float = 0.0
    beta1: float = 0.9
    eps: float = 1e-8
    warmup: int = 1000
    lr: float = 2e-4
    grad_clip_norm: float = 1.0

    def __post_init__(self) -> None:
        _check_types(self)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The `data` section."""

    shuffle: bool = False
    pin_memory: bool = True
    batch_size: int = 2
    num_workers: int = 1
    data_spec: str = "imagenet"

    def __post_init__(self) -> None:
        _check_types(self)


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole config.json. Only `model` bears on what a stream of bits means."""

    model: ModelConfig
    training: TrainingConfig = TrainingConfig()
    optim: OptimConfig = OptimConfig()
    data: DataConfig = DataConfig()
    restore_ckpt: str | None = None  # a file name, as published; nothing is read from where it points


# The published sizes, ImageNet 64x64, T = 4. All that differs is the three columns; appendix C.3 gives 128 channels for medium,
# but the published file has 256, and only these give the size that is stated there.
#   name:  embedding_dim, n_blocks, norm_groups   parameters of the network
_SIZES = {
    "tiny": (32, 1, 8),  #      167,494
    "small": (64, 8, 16),  #    2,238,150
    "medium": (256, 32, 32),  # 122,143,494
    "big": (256, 64, 32),  #    237,609,734
}
SIZES: dict[str, ModelConfig] = {name: ModelConfig(embedding_dim=d, n_blocks=n, norm_groups=g) for name, (d, n, g) in _SIZES.items()}


def read_config(path: str | Path) -> Config:
    """A published config.json. The `model` section must be there and complete; others fall back to their defaults.

    Raises `CheckpointError`, naming the file and the key, where it is missing, not JSON, holds a key that is not known (it
    might change what the weights mean), lacks one, or has a value that cannot be.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); expected a published config.json") from None
    if len(raw) > MAX_CONFIG_BYTES:
        raise CheckpointError(f"{path}: over {MAX_CONFIG_BYTES} bytes; a published config.json has about 1000")
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    sections: dict[str, Any] = {"model": ModelConfig, "training": TrainingConfig, "optim": OptimConfig, "data": DataConfig}
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise CheckpointError(f"{path}: no section 'model'; expected a published config.json")
    _refuse_unknown(path, "", tree, {*sections, "restore_ckpt"})
    parts: dict[str, Any] = {}
    for name, record in sections.items():
        if name not in tree:
            continue
        section, fields = tree[name], {f.name for f in dataclasses.fields(record)}
        if not isinstance(section, dict):
            raise CheckpointError(f"{path}: '{name}' is not a section but {type(section).__name__}")
        _refuse_unknown(path, f"{name}.", section, fields)
        if name == "model" and fields - section.keys():
            raise CheckpointError(f"{path}: no key 'model.{min(fields - section.keys())}'")
        try:
            parts[name] = record(**section)
        except ValueError as error:
            raise CheckpointError(f"{path}: {name}.{error}") from None
    restore = tree.get("restore_ckpt")
    if restore is not None and not isinstance(restore, str):
        raise CheckpointError(f"{path}: restore_ckpt is {restore!r}; expected a file name")
    return Config(**parts, restore_ckpt=restore)


def _refuse_unknown(path: Path, prefix: str, found: dict[str, Any], known: set[str]) -> None:
    for key in sorted(found.keys() - known):
        raise CheckpointError(f"{path}: unknown key '{prefix}{key}'; known are {', '.join(sorted(known))}")
