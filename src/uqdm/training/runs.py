"""A training run's folder: config.json, and checkpoint.safetensors with weights, averages,
optimiser and counters by name.

Tensors are `model/NAME`, `average/NAME` (the moving average, of weights and schedule alike) and
`optimiser/SLOT/NAME`. Counters are in the file's metadata. A checkpoint is written beside its
place, synced and renamed, so that a process killed at any moment leaves the last one whole. No
pickle is ever read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from uqdm import atomic
from uqdm.config import Config, read_config, to_json
from uqdm.errors import CheckpointError
from uqdm.families import registry
from uqdm.families.uqdm.torch.checkpoint import read_published

CHECKPOINT = "checkpoint.safetensors"
KIND = "uqdm training state 1"
Model = Any  # a float model of any family: an `nn.Module` with `config`


def new_model(config: Config) -> Model:
    """A fresh model of the family that the config names, in float32, from torch's default
    generator.
    """
    return registry.floats(config.family).new(config)


def write(path: Path, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
    """Writes tensors and counters (anything that JSON holds) as a checkpoint, beside its place,
    then renamed.
    """
    with atomic.beside(path, sync=True) as beside:
        save_file(
            {k: t.detach().contiguous() for k, t in tensors.items()},
            beside,
            {"kind": KIND, "counters": json.dumps(counters)},
        )


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `write` wrote. Raises `CheckpointError` if the file is missing, damaged or of
    another kind.
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if about.get("kind") != KIND:
                raise CheckpointError(
                    f"{path}: not a checkpoint of `uqdm train`: kind is {about.get('kind')!r}; expected {KIND!r}"
                )
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(about["counters"])  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: cannot be read as a checkpoint of `uqdm train` ({error})") from None


def write_start(folder: Path, config: Config, weights: Mapping[str, Tensor]) -> None:
    """A folder that runs begin with, and that `uqdm quantise` reads: weights by name, as averages of
    step 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / "config.json", to_json(config))
    averages = {f"average/{name}": weight for name, weight in weights.items()}
    write(folder / CHECKPOINT, averages, {"step": 0, "seconds": 0.0, "seed": 0})


def step_of(folder: str | Path) -> int:
    """The step that a run's checkpoint holds, or 0 if there is none that can be read."""
    try:
        with safe_open(Path(folder) / CHECKPOINT, "pt") as file:
            return int(json.loads((file.metadata() or {})["counters"])["step"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return 0


def fill(model: torch.nn.Module, tensors: dict[str, Tensor], prefix: str, path: Path) -> None:
    """Puts the tensors of that prefix into the model's parameters, by name.

    Raises `CheckpointError` if names or shapes differ.
    """
    own = dict(model.named_parameters())
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if own.keys() != found.keys():
        odd = min(own.keys() ^ found.keys())
        raise CheckpointError(
            f"{path}: {prefix}{odd} is {'missing' if odd in own else 'not in the model of config.json'}"
        )
    for name, parameter in own.items():
        if parameter.shape != found[name].shape or not torch.isfinite(found[name]).all():
            where = f"{path}: {prefix}{name}, of shape {tuple(found[name].shape)}"
            raise CheckpointError(f"{where}; expected finite numbers of shape {tuple(parameter.shape)}")
        with torch.no_grad():
            parameter.copy_(found[name])


def read_run(folder: str | Path, reading: str = "ema") -> Model:
    """The model that a run has made so far, on the CPU, in eval mode.

    `reading` is "ema", the averages, or "raw", the last weights. Raises `CheckpointError` for a
    folder that no run has left.
    """
    if reading not in ("ema", "raw"):
        raise ValueError(f"reading is {reading!r}; expected ema or raw")
    path = Path(folder) / CHECKPOINT
    model = new_model(read_config(Path(folder) / "config.json"))
    fill(model, read(path)[0], "average/" if reading == "ema" else "model/", path)
    return model.eval()


def read_folder(folder: str | Path, reading: str = "ema") -> Model:
    """The model of a run, or of a published checkpoint. Raises `CheckpointError` if the folder
    holds neither.
    """
    if (Path(folder) / CHECKPOINT).is_file():
        return read_run(folder, reading)
    return read_published(folder, reading)
