"""A run's config.json: frozen records of model, training, optimiser and data. They are read,
checked, changed and written here. Knows no torch.

The model's section belongs to its family (`families/*/config.py`). Everything else is the same for
all.
"""

import dataclasses
import difflib
import json
import re
import typing
from pathlib import Path
from typing import Any

from uqdm.errors import CheckpointError
from uqdm.families import registry
from uqdm.records import check_types, one_of

MAX_CONFIG_BYTES = 1 << 20
UNUSED = {"data": ("pin_memory", "num_workers")}  # keys of a published config.json that have no meaning here


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The `training` section: how long, on which loss, and what is written how often. Counts are of
    optimiser steps.
    """

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
        check_types(self)
        one_of(self, "loss", ("full", "single", "continuous"))
        one_of(self, "precision", ("float32", "bfloat16"))
        counts = (
            "n_steps",
            "log_metrics_every_steps",
            "checkpoint_every_steps",
            "eval_every_steps",
            "eval_steps_to_run",
            "accumulate",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The `optim` section, of Adam. `warmup` is in steps."""

    weight_decay: float = 0.0  # decoupled, as in AdamW
    beta1: float = 0.9
    eps: float = 1e-8
    warmup: int = 1000
    lr: float = 2e-4
    grad_clip_norm: float = 1.0
    beta2: float = 0.999
    decay: str = "constant"  # of the learning rate behind the warm-up; "cosine": to a hundredth at the run's end

    def __post_init__(self) -> None:
        check_types(self)
        one_of(self, "decay", ("constant", "cosine"))
        if self.lr <= 0 or self.eps <= 0 or self.grad_clip_norm <= 0 or self.warmup < 0 or self.weight_decay < 0:
            found = f"lr is {self.lr}, eps {self.eps}, grad_clip_norm {self.grad_clip_norm}, warmup {self.warmup}"
            raise ValueError(f"{found}, weight_decay {self.weight_decay}: one is too small")
        if not 0 <= self.beta1 < 1 or not 0 <= self.beta2 < 1:
            raise ValueError(f"beta1 is {self.beta1}, beta2 {self.beta2}; expected 0 <= both < 1")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The `data` section."""

    shuffle: bool = False
    batch_size: int = 2
    data_spec: str = "imagenet"
    crop: int = 0  # pixels a side of random crops; 0 takes whole pictures
    flip: bool = False  # half of the pictures are turned from left to right
    scale_min: float = 1.0  # pictures are first made smaller by a factor between these, boxes of pixels becoming one
    scale_max: float = 1.0
    # pixels a side of the crops of every second batch, with the same area in all; with 0 all
    # batches are alike
    large: int = 0
    even: bool = False  # every source is as likely as any other, however many pictures it has

    def __post_init__(self) -> None:
        check_types(self)
        if self.large and not (self.shuffle and 0 < self.crop <= self.large):
            raise ValueError(
                f"large is {self.large}, crop {self.crop}, shuffle {self.shuffle}; expected a crop no larger, and"
                " shuffle"
            )
        if self.batch_size < 1 or self.crop < 0:
            raise ValueError(f"batch_size is {self.batch_size}, crop {self.crop}: one is too small")
        if not 0 < self.scale_min <= self.scale_max <= 1:
            raise ValueError(
                f"scale_min is {self.scale_min}, scale_max {self.scale_max}; expected 0 < scale_min <= scale_max <= 1"
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole config.json. Only `family` and `model` decide what a stream of bits means."""

    model: Any  # the family's own section, such as `families.uqdm.config.ModelConfig`
    training: TrainingConfig = TrainingConfig()
    optim: OptimConfig = OptimConfig()
    data: DataConfig = DataConfig()
    restore_ckpt: str | None = None  # a file name, as published; nothing is read from where it points
    family: str = "uqdm"

    def __post_init__(self) -> None:
        family = registry.family(self.family)
        if not isinstance(self.model, family.config):
            raise ValueError(
                f"family is {self.family!r}, its section {type(self.model).__name__}; expected {family.config.__name__}"
            )
        if self.training.loss not in family.losses:
            raise ValueError(
                f"training.loss is {self.training.loss!r}; family {self.family!r} is trained on"
                f" {' or '.join(family.losses)}"
            )
        if self.training.compile and not family.compiles:
            raise ValueError(f"training.compile is true; the networks of family {self.family!r} cannot be compiled")

    @property
    def ema_rate(self) -> float:
        """The rate of the moving average of weights, for each step."""
        return float(self.model.ema_rate)


COMMON: dict[str, Any] = {"training": TrainingConfig, "optim": OptimConfig, "data": DataConfig}


def _sections(family: str) -> dict[str, Any]:
    """The sections of a config.json of that family, the model's first: name in the file, record."""
    own = registry.family(family)
    return {own.section: own.config, **COMMON}


def override(config: Config, settings: dict[str, Any]) -> Config:
    """`config` with values put in their place: {"optim.lr": 1e-3}, or the bare name of a key,
    {"lr": 1e-3}.

    A text is read as the type of its key. Raises `ValueError` for a key that is not known, with
    similar ones, and for values that cannot be.
    """
    sections = _sections(config.family)
    known = {f"{section}.{f.name}": f for section, record in sections.items() for f in dataclasses.fields(record)}
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
            raise ValueError(
                f"unknown key {key!r};"
                f" {'did you mean ' + ' or '.join(near) if near else 'known are ' + ', '.join(known)}"
            )
        section, field = name.split(".")
        changes.setdefault(section, {})[field] = _value(key, value, known[name].type)
    for section, fields in changes.items():
        name = section if section in COMMON else "model"
        top[name] = dataclasses.replace(getattr(config, name), **fields)
    return dataclasses.replace(config, **top)


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
    """`config` as the text of a config.json, with every key."""
    section = registry.family(config.family).section
    tree = {section if name == "model" else name: value for name, value in dataclasses.asdict(config).items()}
    return _short(json.dumps(tree, indent=2)) + "\n"


def _short(text: str) -> str:
    """Puts every row of numbers on one line."""
    return re.sub(r"\[([-\d,\s]*)\]", lambda found: f"[{', '.join(found[1].replace(',', ' ').split())}]", text)


def read_config(path: str | Path) -> Config:
    """Reads a published config.json. The `model` section must be there and complete; others fall
    back to their defaults.

    Raises `CheckpointError`, naming the file and the key, if the file is missing or not JSON, has a
    key that is not known (it might change what the weights mean), lacks one, or has a value that
    cannot be.
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
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: holds {type(tree).__name__}; expected a published config.json")
    family = tree.get("family", "uqdm")
    if not isinstance(family, str) or family not in registry.names():
        raise CheckpointError(f"{path}: family is {family!r}; expected one of {', '.join(registry.names())}")
    sections = _sections(family)
    own = next(iter(sections))
    if not isinstance(tree.get(own), dict):
        raise CheckpointError(f"{path}: no section {own!r}; expected a published config.json")
    _refuse_unknown(path, "", tree, {*sections, "restore_ckpt", "family"})
    parts: dict[str, Any] = {}
    for name, record in sections.items():
        if name not in tree:
            continue
        section, fields = tree[name], {f.name for f in dataclasses.fields(record)}
        if not isinstance(section, dict):
            raise CheckpointError(f"{path}: '{name}' is not a section but {type(section).__name__}")
        section = {key: value for key, value in section.items() if key not in UNUSED.get(name, ())}
        _refuse_unknown(path, f"{name}.", section, fields)
        optional = registry.family(family).optional
        if name == own and fields - section.keys() - {*optional}:
            raise CheckpointError(f"{path}: no key '{own}.{min(fields - section.keys() - {*optional})}'")
        try:
            parts["model" if name == own else name] = record(**section)
        except ValueError as error:
            raise CheckpointError(f"{path}: {name}.{error}") from None
    restore = tree.get("restore_ckpt")
    if restore is not None and not isinstance(restore, str):
        raise CheckpointError(f"{path}: restore_ckpt is {restore!r}; expected a file name")
    try:
        return Config(**parts, restore_ckpt=restore, family=family)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _refuse_unknown(path: Path, prefix: str, found: dict[str, Any], known: set[str]) -> None:
    for key in sorted(found.keys() - known):
        raise CheckpointError(f"{path}: unknown key '{prefix}{key}'; known are {', '.join(sorted(known))}")
