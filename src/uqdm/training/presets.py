"""What a model and its training are made of, as frozen records; every preset in one table; config.json. Knows no torch."""

import dataclasses
import difflib
import itertools
import json
import re
import typing
from pathlib import Path
from typing import Any

from uqdm.errors import CheckpointError

MAX_CONFIG_BYTES = 1 << 20


def _check_types(record: Any) -> None:
    """`ValueError` where a field has not its declared type; an int will do for a float, but True is no number."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if typing.get_origin(field.type) is tuple:  # of tuples of counts
            if not (isinstance(value, tuple) and all(isinstance(row, tuple) and all(type(n) is int for n in row) for row in value)):
                raise ValueError(f"{field.name} is {value!r}; expected rows of integers, [[3, 5], ...]")
            continue
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
    # Ours; a published config.json has none of these.
    network: str = "unet"  # or "points": two hidden layers, for data of one pixel (appendix C.1)
    downsample: int = 1  # pixels a side that are one position of the network

    def __post_init__(self) -> None:
        _check_types(self)
        one_of = {
            "network": ("unet", "points"),
            "prior_type": ("logistic", "gaussian"),
            "base_prior_scale": ("forward_kernel", "default"),
            "noise_schedule": ("fixed_linear", "learned_linear", "learned_monotone"),
        }
        for name, allowed in one_of.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        # Far above every model there is, and low enough that a hostile file cannot keep the machine busy building one.
        most = {"n_timesteps": 10_000, "n_attention_heads": 1024, "n_channels": 16, "vocab_size": 65536}
        for name, limit in {**most, "embedding_dim": 4096, "n_blocks": 1024, "norm_groups": 4096, "downsample": 8}.items():
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
class NestedConfig:
    """The `nested` section: a model of the family "nested" (`models/nested.py`). One row a step, T of them.

    Raises `ValueError` for what cannot be.
    """

    widths: tuple[tuple[int, ...], ...] = ((405, 1053, 810), (45, 117, 90), (5, 13, 10), (1, 1, 1))  # of cells after it: Y, Co, Cg
    trunks: tuple[tuple[int, ...], ...] = ((0, 0), (48, 1), (48, 1), (48, 1))  # channels and residual blocks; 0: none
    passes: tuple[tuple[int, ...], ...] = ((32, 0), (56, 1), (64, 1), (64, 1))  # of each of the four passes
    n_mixtures: int = 3  # logistics of a coordinate
    ema_rate: float = 0.9995

    def __post_init__(self) -> None:
        for name in ("widths", "trunks", "passes"):  # as JSON has them
            rows = getattr(self, name)
            if isinstance(rows, list):
                object.__setattr__(self, name, tuple(tuple(row) if isinstance(row, list) else row for row in rows))
        _check_types(self)
        for name, count in (("widths", 3), ("trunks", 2), ("passes", 2)):
            rows = getattr(self, name)
            if len(rows) != len(self.widths) or not 1 <= len(rows) <= 64 or any(len(row) != count for row in rows):
                raise ValueError(f"{name} are {rows}; expected {count} numbers for each of 1 to 64 steps, {len(self.widths)} by the widths")
        if self.widths[-1] != (1, 1, 1) or any(not 1 <= w <= 4096 for row in self.widths for w in row):
            raise ValueError(f"widths are {self.widths}; expected 1 to 4096, and 1, 1, 1 in the end")
        if any(a % b for wide, fine in itertools.pairwise(self.widths) for a, b in zip(wide, fine)):
            raise ValueError(f"widths are {self.widths}; expected each to be a multiple of the one below it")
        shapes = [*self.trunks, *self.passes]
        if any(not 0 <= c <= 1024 or not 0 <= blocks <= 64 for c, blocks in shapes) or any(c < 1 for c, _ in self.passes):
            raise ValueError(
                f"trunks are {self.trunks}, passes {self.passes}; expected 1 to 1024 channels (a trunk may have 0), 0 to 64 blocks"
            )
        if not 1 <= self.n_mixtures <= 8 or not 0 <= self.ema_rate < 1:
            raise ValueError(f"n_mixtures is {self.n_mixtures}, ema_rate {self.ema_rate}; expected 1 to 8, and 0 <= ema_rate < 1")


@dataclasses.dataclass(frozen=True)
class PyramidConfig:
    """The `pyramid` section: a model of the family "pyramid" (`families/pyramid`). T steps.

    `networks`: a row a step of three, for level 1, level 2 and all coarser ones: channels and blocks of the trunk, channels and blocks of
    each pass; all 0 where the step does not visit that level. Raises `ValueError` for what cannot be.
    """

    bases: tuple[int, ...] = (64, 32, 16, 4, 1)  # widths of cells after each step, of Y and a synthesis norm of 1
    networks: tuple[tuple[tuple[int, ...], ...], ...] = (
        ((0, 0, 0, 0), (40, 1, 40, 1), (64, 1, 80, 1)),
        ((24, 1, 32, 1), (48, 1, 48, 1), (64, 1, 80, 1)),
        ((32, 1, 40, 1), (48, 1, 56, 1), (64, 1, 80, 1)),
        ((56, 1, 72, 1), (64, 1, 80, 1), (64, 1, 80, 1)),
        ((72, 1, 100, 1), (64, 1, 80, 1), (64, 1, 80, 1)),
    )
    kernel: int = 1  # of the second convolution of a block, a side
    n_mixtures: int = 3  # logistics of a coefficient
    threshold: float = 0.15  # a coefficient whose scale is below this many widths is not asked for
    ema_rate: float = 0.999

    def __post_init__(self) -> None:
        object.__setattr__(self, "bases", _frozen(self.bases))
        object.__setattr__(self, "networks", _frozen(self.networks))
        steps = len(self.bases)
        if not 1 <= steps <= 16 or self.bases[-1] != 1 or any(a <= b for a, b in itertools.pairwise(self.bases)) or self.bases[0] > 256:
            raise ValueError(f"bases are {self.bases}; expected 1 to 16 that decrease from at most 256 to 1")
        rows = [net for row in self.networks for net in row]
        if len(self.networks) != steps or any(len(row) != 3 for row in self.networks) or any(len(net) != 4 for net in rows):
            raise ValueError(f"networks are {self.networks}; expected for each of {steps} steps three times four numbers")
        for row in self.networks:
            visited = [net != (0, 0, 0, 0) for net in row]
            if visited != sorted(visited) or not visited[-1]:
                raise ValueError(f"networks are {self.networks}; expected all coarser levels to be visited where a finer one is")
        if any(not (0 <= c <= 1024 and 0 <= b <= 64) for net in rows for c, b in (net[:2], net[2:])):
            raise ValueError(f"networks are {self.networks}; expected up to 1024 channels and 64 blocks")
        if not (self.kernel in (1, 3) and 1 <= self.n_mixtures <= 8 and 0 <= self.threshold < 1 and 0 <= self.ema_rate < 1):
            raise ValueError(
                f"kernel is {self.kernel}, n_mixtures {self.n_mixtures}, threshold {self.threshold}, ema_rate {self.ema_rate}; "
                "expected 1 or 3, 1 to 8, and 0 <= both < 1"
            )


def _frozen(value: Any) -> Any:
    """Lists, as JSON has them, to tuples."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


OURS = ("network", "downsample")  # keys of the model section that a published config.json lacks


def _one_of(record: Any, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(record, name) not in allowed:
        raise ValueError(f"{name} is {getattr(record, name)!r}; expected one of {', '.join(allowed)}")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The `training` section: how long, on which loss, and what is written how often. Counts of optimiser steps."""

    n_steps: int = 500_000
    log_metrics_every_steps: int = 1000
    checkpoint_every_steps: int = 10_000
    eval_every_steps: int = 10_000
    eval_steps_to_run: int = 50  # batches of an evaluation
    loss: str = "full"  # eq. 1 over all steps; "single": one step a picture; "continuous": a VDM's limit T -> infinity
    precision: str = "float32"  # of convolutions and products; "bfloat16": these alone, under autocast
    accumulate: int = 1  # batches whose gradients make one optimiser step
    compile: bool = False  # the network by torch.compile

    def __post_init__(self) -> None:
        _check_types(self)
        _one_of(self, "loss", ("full", "single", "continuous"))
        _one_of(self, "precision", ("float32", "bfloat16"))
        counts = ("n_steps", "log_metrics_every_steps", "checkpoint_every_steps", "eval_every_steps", "eval_steps_to_run", "accumulate")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The `optim` section, of Adam; `warmup` in steps."""

    weight_decay: float = 0.0  # decoupled, as in AdamW
    beta1: float = 0.9
    eps: float = 1e-8
    warmup: int = 1000
    lr: float = 2e-4
    grad_clip_norm: float = 1.0
    beta2: float = 0.999
    decay: str = "constant"  # of the learning rate behind the warm-up; "cosine": to a hundredth at the run's end

    def __post_init__(self) -> None:
        _check_types(self)
        _one_of(self, "decay", ("constant", "cosine"))
        if self.lr <= 0 or self.eps <= 0 or self.grad_clip_norm <= 0 or self.warmup < 0 or self.weight_decay < 0:
            found = f"lr is {self.lr}, eps {self.eps}, grad_clip_norm {self.grad_clip_norm}, warmup {self.warmup}"
            raise ValueError(f"{found}, weight_decay {self.weight_decay}: one is too small")
        if not 0 <= self.beta1 < 1 or not 0 <= self.beta2 < 1:
            raise ValueError(f"beta1 is {self.beta1}, beta2 {self.beta2}; expected 0 <= both < 1")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The `data` section."""

    shuffle: bool = False
    pin_memory: bool = True
    batch_size: int = 2
    num_workers: int = 1
    data_spec: str = "imagenet"
    crop: int = 0  # pixels a side of random crops; 0: whole pictures
    flip: bool = False  # half of the pictures left to right
    scale_min: float = 1.0  # pictures are first made smaller by a factor between these, boxes of pixels becoming one
    scale_max: float = 1.0
    large: int = 0  # pixels a side of the crops of every second batch, of the same area; 0: all batches are alike
    even: bool = False  # every source is as likely as any other, however many pictures it has

    def __post_init__(self) -> None:
        _check_types(self)
        if self.large and not (self.shuffle and 0 < self.crop <= self.large):
            raise ValueError(f"large is {self.large}, crop {self.crop}, shuffle {self.shuffle}; expected a crop no larger, and shuffle")
        if self.batch_size < 1 or self.crop < 0 or self.num_workers < 0:
            raise ValueError(f"batch_size is {self.batch_size}, crop {self.crop}, num_workers {self.num_workers}: one is too small")
        if not 0 < self.scale_min <= self.scale_max <= 1:
            raise ValueError(f"scale_min is {self.scale_min}, scale_max {self.scale_max}; expected 0 < scale_min <= scale_max <= 1")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole config.json. Only `family` and `model` bear on what a stream of bits means."""

    model: ModelConfig
    training: TrainingConfig = TrainingConfig()
    optim: OptimConfig = OptimConfig()
    data: DataConfig = DataConfig()
    restore_ckpt: str | None = None  # a file name, as published; nothing is read from where it points
    family: str = "uqdm"  # or "vdm", or "nested", whose section `nested` then stands for `model`
    nested: NestedConfig = NestedConfig()
    pyramid: PyramidConfig = PyramidConfig()

    @property
    def ema_rate(self) -> float:
        """Of the moving average of weights, a step."""
        own: Any = getattr(self, _own(self.family))
        return float(own.ema_rate)

    def __post_init__(self) -> None:
        _one_of(self, "family", ("uqdm", "vdm", "nested", "pyramid"))
        if self.family in OWN and self.training.loss != "full":
            raise ValueError(f"training.loss is {self.training.loss!r}; a {self.family} model is trained on all its steps: full")
        if self.family in OWN and self.training.compile:
            raise ValueError("training.compile is true; only the networks of uqdm and vdm can be compiled")
        if self.family != "vdm" and self.training.loss == "continuous":
            raise ValueError("training.loss is 'continuous', which only a VDM has; expected full or single")


OWN = ("nested", "pyramid")  # families with a section of their own name in place of `model`


def _own(family: str) -> str:
    return family if family in OWN else "model"


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

_GAUSSIAN = {"learned_prior_scale": False, "base_prior_scale": "default", "prior_type": "gaussian"}  # sigma_Q, as a VDM has it
_CIFAR = ModelConfig(embedding_dim=128, n_blocks=8, norm_groups=32, dropout_prob=0.1)  # appendix C.2
_SWIRL = ModelConfig(  # appendix C.1; the ends of gamma are those of VDM's example
    network="points", n_channels=2, embedding_dim=512, gamma_min=-13.3, gamma_max=5.0, fix_gamma_max=False, base_prior_scale="default",
    ema_rate=0.999, n_timesteps=5,
)  # fmt: skip
_HALF = ModelConfig(embedding_dim=40, downsample=2, ema_rate=0.999)  # ours, for two cores


def _preset(family: str, model: ModelConfig, loss: str, batch: int, lr: float, warmup: int, steps: int, crop: int, flip: bool) -> Config:
    every = max(1, steps // 50)
    training = TrainingConfig(steps, max(1, every // 5), every, every, max(1, 500 // batch), loss)
    return Config(
        model, training, OptimConfig(lr=lr, warmup=warmup), DataConfig(True, batch_size=batch, crop=crop, flip=flip), family=family
    )


def _vdm(model: ModelConfig, steps: int = 1000) -> ModelConfig:
    return dataclasses.replace(model, n_timesteps=steps, **_GAUSSIAN)  # type: ignore[arg-type]


def _nested(model: NestedConfig, batch: int, lr: float, warmup: int, steps: int, crop: int) -> Config:
    every = max(1, steps // 50)
    training = TrainingConfig(steps, max(1, every // 5), every, every, max(1, 500 // batch), precision="bfloat16")
    optim = OptimConfig(lr=lr, warmup=warmup, beta2=0.98, decay="cosine")
    return Config(ModelConfig(), training, optim, DataConfig(True, batch_size=batch, crop=crop, flip=True), family="nested", nested=model)


def _pyramid(model: PyramidConfig, batch: int, lr: float, warmup: int, steps: int, crop: int) -> Config:
    every = max(1, steps // 50)
    training = TrainingConfig(steps, max(1, every // 5), every, every, max(1, 500 // batch), precision="bfloat16")
    optim = OptimConfig(lr=lr, warmup=warmup, beta2=0.98, decay="cosine")
    data = DataConfig(True, batch_size=batch, crop=crop, flip=True, large=2 * crop, even=True)
    return Config(ModelConfig(), training, optim, data, family="pyramid", pyramid=model)


_BASE = NestedConfig(  # ratios of 3, so twice the steps, and wide networks
    widths=((405, 1053, 810), (135, 351, 270), (45, 117, 90), (15, 39, 30), (5, 13, 10), (1, 1, 1)),
    trunks=((0, 0), (64, 2), (96, 2), (96, 2), (108, 2), (106, 2)),
    passes=((48, 0), (64, 1), (96, 1), (96, 2), (108, 2), (106, 2)),
)

# Everything that `uqdm train --preset` knows, to be read down a column.
PRESETS: dict[str, Config] = {
    #                     family  model             loss          batch   lr    warm-up  steps   crop  flip
    "tiny":        _preset("uqdm", SIZES["tiny"],   "full",          16, 2e-4,  1000,  500_000,  64, True),
    "small":       _preset("uqdm", SIZES["small"],  "full",          64, 2e-4,  1000,  500_000,  64, True),
    "medium":      _preset("uqdm", SIZES["medium"], "full",         128, 2e-4,  1000,  500_000,  64, True),
    "big":         _preset("uqdm", SIZES["big"],    "full",         128, 2e-4,  1000,  500_000,  64, True),
    "cifar10":     _preset("uqdm", _CIFAR,          "full",         128, 2e-4,  1000,  500_000,  32, True),
    "half":        _preset("uqdm", _HALF,           "single",        32, 2e-3,   300,   30_000,  32, True),
    "swirl":       _preset("uqdm", _SWIRL,          "single",      1024, 1e-3,   200,   12_000,   0, False),
    "tiny-vdm":    _preset("vdm",  _vdm(SIZES["tiny"]), "continuous", 16, 2e-4, 1000,  500_000,  64, True),
    "cifar10-vdm": _preset("vdm",  _vdm(_CIFAR),    "continuous",   128, 2e-4,  1000,  500_000,  32, True),
    "nano":        _nested(NestedConfig(),                           16, 4e-3,   300,   60_000,  32),
    "base":        _nested(_BASE,                                    64, 2e-3,   500,  100_000,  64),
    "photo":       _pyramid(PyramidConfig(),                          8, 3e-3,   300,   60_000,  64),
    "swirl-vdm":   _preset("vdm",  _vdm(_SWIRL),    "continuous",  1024, 1e-3,   200,   12_000,   0, False),
}  # fmt: skip


def preset(name: str) -> Config:
    """The configuration of that name. Raises `ValueError`, naming the presets, where there is none."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]


SECTIONS: dict[str, Any] = {
    "model": ModelConfig,
    "nested": NestedConfig,
    "pyramid": PyramidConfig,
    "training": TrainingConfig,
    "optim": OptimConfig,
    "data": DataConfig,
}


def override(config: Config, settings: dict[str, Any]) -> Config:
    """`config` with values put in their place: {"optim.lr": 1e-3}, or the bare name of a key, {"lr": 1e-3}.

    A text is read as the key's type wants it. Raises `ValueError` for a key that is not known, with those most alike, and for
    values that cannot be.
    """
    known = {f"{section}.{f.name}": f for section in _sections(config.family) for f in dataclasses.fields(SECTIONS[section])}
    bare = {name.split(".")[1]: name for name in known}
    changes: dict[str, dict[str, Any]] = {}
    top: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "family":
            top[key] = value
            continue
        name = key if key in known else bare.get(key)
        if name is None:
            near = difflib.get_close_matches(key, [*known, *bare], 3)
            raise ValueError(f"unknown key {key!r}; {'did you mean ' + ' or '.join(near) if near else 'known are ' + ', '.join(known)}")
        section, field = name.split(".")
        changes.setdefault(section, {})[field] = _value(key, value, known[name].type)
    for section, fields in changes.items():
        top[section] = dataclasses.replace(getattr(config, section), **fields)
    return dataclasses.replace(config, **top)


def _sections(family: str) -> tuple[str, ...]:
    """Of a config.json of that family."""
    return (_own(family), "training", "optim", "data")


def _value(key: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, str) or kind is str:
        return value
    try:
        if typing.get_origin(kind) is tuple:
            return json.loads(value)
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
        return kind(value)
    except (KeyError, ValueError):
        raise ValueError(f"{key} is {value!r}; expected {getattr(kind, '__name__', kind)}") from None


def to_json(config: Config) -> str:
    """`config` as the text of a config.json, every key written."""
    tree = dataclasses.asdict(config)
    for other in {"model", *OWN} - {_own(config.family)}:
        del tree[other]
    return _short(json.dumps(tree, indent=2)) + "\n"


def _short(text: str) -> str:
    """Rows of numbers in a line each."""
    return re.sub(r"\[([-\d,\s]*)\]", lambda found: f"[{', '.join(found[1].replace(',', ' ').split())}]", text)


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
    family = tree.get("family", "uqdm") if isinstance(tree, dict) else None
    own, *others = _sections(family) if isinstance(family, str) else ("model",)
    if not isinstance(tree, dict) or not isinstance(tree.get(own), dict):
        raise CheckpointError(f"{path}: no section {own!r}; expected a published config.json")
    _refuse_unknown(path, "", tree, {own, *others, "restore_ckpt", "family"})
    parts: dict[str, Any] = {"model": ModelConfig()}
    for name in (own, *others):
        if name not in tree:
            continue
        section, fields = tree[name], {f.name for f in dataclasses.fields(SECTIONS[name])}
        if not isinstance(section, dict):
            raise CheckpointError(f"{path}: '{name}' is not a section but {type(section).__name__}")
        _refuse_unknown(path, f"{name}.", section, fields)
        if name == own and fields - section.keys() - {*OURS}:
            raise CheckpointError(f"{path}: no key '{own}.{min(fields - section.keys() - {*OURS})}'")
        try:
            parts[name] = SECTIONS[name](**section)
        except ValueError as error:
            raise CheckpointError(f"{path}: {name}.{error}") from None
    restore = tree.get("restore_ckpt")
    if restore is not None and not isinstance(restore, str):
        raise CheckpointError(f"{path}: restore_ckpt is {restore!r}; expected a file name")
    try:
        return Config(**parts, restore_ckpt=restore, family=family)  # type: ignore[arg-type]
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _refuse_unknown(path: Path, prefix: str, found: dict[str, Any], known: set[str]) -> None:
    for key in sorted(found.keys() - known):
        raise CheckpointError(f"{path}: unknown key '{prefix}{key}'; known are {', '.join(sorted(known))}")
