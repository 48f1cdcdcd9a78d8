"""A published checkpoint loads as it was trained or as it was scored, runs nothing, and says what
is wrong with it.
"""

import collections
import dataclasses
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from uqdm.config import Config, to_json
from uqdm.errors import CheckpointError
from uqdm.families.uqdm.config import ModelConfig
from uqdm.families.uqdm.torch.checkpoint import read_published
from uqdm.families.uqdm.torch.model import UQDM

SMALL = ModelConfig(embedding_dim=8, norm_groups=4)


def made(folder: Path, config: ModelConfig = SMALL) -> dict[str, Any]:
    """A checkpoint of the published form, random weights; averages are the weights plus 1, w is
    17.
    """
    torch.manual_seed(0)
    (folder / "config.json").write_text(to_json(Config(config)))
    model = UQDM(Config(config))
    weights = {k: torch.randn_like(v) for k, v in model.network.state_dict().items()}
    shadow = [w + 1 for w in weights.values()] + [torch.tensor(17.0) for _ in model.schedule.parameters()]
    return {
        "model": collections.OrderedDict(weights),
        "ema": {"decay": 0.9999, "num_updates": 3, "shadow_params": shadow},
        "step": 3,
    }


def saved(folder: Path, record: Any) -> Path:
    torch.save(record, folder / "checkpoint.pt")
    return folder


def test_raw_takes_the_weights_and_the_config_s_schedule(tmp_path: Path) -> None:
    record = made(tmp_path)
    model = read_published(saved(tmp_path, record), "raw")
    for name, value in model.network.state_dict().items():
        assert value.equal(record["model"][name])
        assert value.device.type == "cpu"
    assert model.gammas()[-1].item() == pytest.approx(-12.3, abs=1e-5)
    assert not model.training
    assert all(p.requires_grad for p in model.parameters())
    assert model.config.model == SMALL


def test_ema_takes_the_averages_in_parameter_order_and_the_learned_width(tmp_path: Path) -> None:
    record = made(tmp_path)
    model = read_published(saved(tmp_path, record))
    for name, value in model.network.named_parameters():
        assert value.equal(record["model"][name] + 1)
    assert model.gammas()[-1].item() == pytest.approx(6.0 - 17.0)


def test_a_fixed_schedule_has_no_tensor_behind_the_averages(tmp_path: Path) -> None:
    record = made(tmp_path, dataclasses.replace(SMALL, noise_schedule="fixed_linear"))
    assert read_published(saved(tmp_path, record)).gammas()[-1].item() == pytest.approx(-12.3)


def test_the_learning_rate_of_the_published_files_is_a_numpy_scalar_and_allowed(tmp_path: Path) -> None:
    record = made(tmp_path)
    record["optimizer"] = {"state": {}, "param_groups": [{"lr": np.float64(2e-4), "params": [0]}]}
    read_published(renamed_for_old_numpy(saved(tmp_path, record)))


def renamed_for_old_numpy(folder: Path) -> Path:
    """The same file, its pickle naming NumPy's modules as NumPy 1 did, as the published ones do."""
    path = folder / "checkpoint.pt"
    with zipfile.ZipFile(path) as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(
                name,
                data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray") if name.endswith(".pkl") else data,
            )
    return folder


def test_the_published_model_loads_both_ways(shared: Path) -> None:
    folder = shared / "official" / "uqdm-tiny"
    if not (folder / "checkpoint.pt").is_file():
        pytest.skip(f"{folder} is not here")
    raw, ema = read_published(folder, "raw"), read_published(folder)
    assert raw.gammas()[-1].item() == pytest.approx(-12.3, abs=1e-5)
    assert ema.gammas()[-1].item() == pytest.approx(6 - 17.96582, abs=1e-5)
    assert sum(p.numel() for p in ema.network.parameters()) == 167_494


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_program_hidden_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path) -> None:
    record = made(tmp_path)
    record["optimizer"] = Evil(tmp_path / "ran")
    with pytest.raises(CheckpointError, match="refused"):
        read_published(saved(tmp_path, record))
    assert not (tmp_path / "ran").exists()


def test_objects_beyond_tensors_and_plain_values_are_refused(tmp_path: Path) -> None:
    record = made(tmp_path)
    record["optimizer"] = np.arange(3)
    with pytest.raises(CheckpointError, match="refused"):
        read_published(saved(tmp_path, record))


def without(record: dict[str, Any], name: str) -> None:
    del record["model"][name]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r.pop("model"), "no dict 'model'"),
        (lambda r: r.pop("ema"), r"no list 'ema\.shadow_params'"),
        (lambda r: r["model"].pop("conv_in.bias"), r"has no weight 'conv_in\.bias'"),
        (lambda r: r["model"].update(extra=torch.zeros(1)), "has a weight 'extra'"),
        (lambda r: r["model"].update({"conv_in.bias": torch.zeros(9)}), r"shape \(9,\); config\.json makes it \(8,\)"),
        (lambda r: r["model"].update({"conv_in.bias": torch.zeros(8, dtype=torch.int64)}), "no dense tensor"),
        (lambda r: r["model"].update({"conv_in.bias": [0.0] * 8}), "no dense tensor"),
        (lambda r: r["model"].update({"conv_in.bias": torch.full((8,), torch.nan)}), "not finite"),
        (lambda r: r["ema"]["shadow_params"].pop(), "65 averaged tensors; this config.json needs 65 and 1"),
        (lambda r: r["ema"]["shadow_params"].reverse(), r"ema\[0\]"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    record = made(tmp_path)
    spoil(record)
    with pytest.raises(CheckpointError, match=message):
        read_published(saved(tmp_path, record))


def test_a_config_of_another_size_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, made(tmp_path))
    (tmp_path / "config.json").write_text(to_json(Config(dataclasses.replace(SMALL, embedding_dim=16))))
    with pytest.raises(CheckpointError, match="shape"):
        read_published(tmp_path)


def test_a_schedule_whose_order_nobody_knows_is_read_only_raw(tmp_path: Path) -> None:
    saved(tmp_path, made(tmp_path, dataclasses.replace(SMALL, fix_gamma_max=False)))
    with pytest.raises(CheckpointError, match="'raw' any"):
        read_published(tmp_path)
    read_published(tmp_path, "raw")


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_published(tmp_path)
    record = made(tmp_path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: no such file"):
        read_published(tmp_path)
    path = tmp_path / "checkpoint.pt"
    for data in (b"", b"not a checkpoint", pickle.dumps({"model": {}})):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="not a file written by torch"):
            read_published(tmp_path)
    whole = saved(tmp_path, record) / "checkpoint.pt"
    data = whole.read_bytes()
    for cut in (10, len(data) // 2, len(data) - 1):
        whole.write_bytes(data[:cut])
        with pytest.raises(CheckpointError):
            read_published(tmp_path)
    saved(tmp_path, [1, 2])
    with pytest.raises(CheckpointError, match="holds list"):
        read_published(tmp_path)


def test_another_reading_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ema or raw"):
        read_published(tmp_path, "best")
