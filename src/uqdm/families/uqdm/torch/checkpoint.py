"""The published checkpoint.pt and config.json -> a model; runs no code from the file, and knows
nothing of our own formats.

A checkpoint.pt is a pickle, and a pickle may hold any program. It is read by torch's restricted
reader, which builds tensors and plain containers, and besides those the three NumPy names that the
optimiser's learning rate was saved with; anything else is refused. Names, shapes and finiteness of
the weights are checked against the config before a network holds them.

The file has two readings. `model` are the weights as the optimiser left them, without the noise
schedule's learned width; the published script runs them with the width of the config ("raw"). `ema`
are the averaged weights, and behind them the width they were trained with ("ema"): 5 % fewer bits
for the tiny model.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uqdm.config import read_config
from uqdm.errors import CheckpointError
from uqdm.families.uqdm.torch.model import UQDM
from uqdm.families.uqdm.torch.schedule import new_schedule

READINGS = ("ema", "raw")


def read_published(folder: str | Path, reading: str = "ema") -> UQDM:
    """The model of `folder`/checkpoint.pt and `folder`/config.json, float32, on the CPU, in eval
    mode.

    `reading`: "ema" or "raw", see above. Raises `CheckpointError` where a file is missing, is not
    what it should be, holds anything but tensors and plain values, or does not fit the config;
    `ValueError` for another reading.
    """
    if reading not in READINGS:
        raise ValueError(f"reading is {reading!r}; expected {' or '.join(READINGS)}")
    folder = Path(folder)
    config = read_config(folder / "config.json")
    path = folder / "checkpoint.pt"
    record = _load(path)
    with torch.device("meta"):  # shapes only: no memory and no random numbers for weights about to be replaced
        model = UQDM(config)
    c = config.model
    model.schedule = new_schedule(c.noise_schedule, c.gamma_min, c.gamma_max, c.fix_gamma_max)
    weights = _weights(path, record, model)
    if reading == "ema":
        weights, schedule = _averages(path, record, model)
        model.schedule.load_state_dict(schedule, strict=True, assign=True)
    model.network.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def _load(path: Path) -> dict[str, Any]:
    """The dict in the file. Tensors stay on disk until they are used: three quarters of them are
    the optimiser's.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a published checkpoint.pt beside config.json")
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path}: not a file written by torch.save (no zip archive), or cut short")
    # What builds a NumPy scalar has no public name and moved in NumPy 2; files hold the old one, so
    # it is allowed by that name.
    build: Callable[..., Any] = np.float64(0).__reduce__()[0]  # type: ignore[assignment]
    allowed: list[Any] = [(build, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]
    try:
        with torch.serialization.safe_globals(allowed):
            record = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged archives and pickles fail in every way there is
        reason = str(error).split("\n\t")[0].splitlines()
        why = next(
            (line.strip() for line in reason if "Unsupported" in line or "GLOBAL" in line), reason[0] if reason else ""
        )
        raise CheckpointError(
            f"{path}: refused, since it is damaged or holds more than tensors and plain values: {why}"
        ) from None
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: holds {type(record).__name__}; expected a dict with 'model' and 'ema'")
    return record


def _weights(path: Path, record: dict[str, Any], model: UQDM) -> dict[str, Tensor]:
    """`model`: tensors by name, fitting the network."""
    found = record.get("model")
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: no dict 'model' of weights; found {', '.join(map(str, record)) or 'nothing'}")
    expected = model.network.state_dict()
    for name in found.keys() - expected.keys():
        raise CheckpointError(f"{path}: 'model' has a weight {name!r} that a network of this config.json has not")
    for name in expected:
        if name not in found:
            raise CheckpointError(f"{path}: 'model' has no weight {name!r}, which a network of this config.json needs")
    return {name: _fitting(path, f"model[{name!r}]", found[name], expected[name]) for name in expected}


def _averages(path: Path, record: dict[str, Any], model: UQDM) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`ema`: a list in parameter order, the network's and then the schedule's -> tensors by name of
    each.
    """
    ema = record.get("ema")
    found = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(found, list):
        raise CheckpointError(f"{path}: no list 'ema.shadow_params' of averaged weights; 'raw' reads a file without it")
    network, schedule = dict(model.network.named_parameters()), dict(model.schedule.named_parameters())
    if len(schedule) > 1:  # no such model was published, and nothing says in which order these would stand
        raise CheckpointError(
            f"{path}: config.json has a schedule of {len(schedule)} parameters; 'ema' reads at most one, 'raw' any"
        )
    if len(found) != len(network) + len(schedule):
        raise CheckpointError(
            f"{path}: {len(found)} averaged tensors; this config.json needs {len(network)} and {len(schedule)} of the"
            " schedule"
        )
    names = [f"ema[{i}], being {name!r}," for i, name in enumerate([*network, *schedule])]
    fitting = [_fitting(path, n, f, e) for n, f, e in zip(names, found, [*network.values(), *schedule.values()])]
    return dict(zip(network, fitting)), dict(zip(schedule, fitting[len(network) :]))


def _fitting(path: Path, name: str, found: Any, expected: Tensor) -> Tensor:
    """A copy of `found` in float32, that no longer depends on the file, where it is a finite tensor
    of the shape expected.
    """
    if not isinstance(found, Tensor) or not found.dtype.is_floating_point or found.layout != torch.strided:
        raise CheckpointError(f"{path}: {name} is no dense tensor of floating-point numbers")
    if found.shape != expected.shape:
        raise CheckpointError(
            f"{path}: {name} has shape {tuple(found.shape)}; config.json makes it {tuple(expected.shape)}"
        )
    copy = found.detach().to(torch.float32, copy=True).contiguous()
    if not bool(torch.isfinite(copy).all()):
        raise CheckpointError(f"{path}: {name} holds values that are not finite; the file is damaged")
    return copy
