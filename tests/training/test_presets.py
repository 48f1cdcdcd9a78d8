"""The table of sizes is what was published, and a config that says anything else is refused by
name.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from uqdm.config import Config, override, read_config, to_json
from uqdm.errors import CheckpointError
from uqdm.families.nested.config import NestedConfig
from uqdm.families.uqdm.config import ModelConfig
from uqdm.training.presets import PRESETS, SIZES


def written(folder: Path, tree: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(tree))
    return path


def tiny() -> dict[str, Any]:
    return json.loads(to_json(Config(SIZES["tiny"])))


@pytest.mark.parametrize("size", sorted(SIZES))
def test_each_size_is_its_published_config(size: str, shared: Path) -> None:
    path = shared / "official" / f"uqdm-{size}" / "config.json"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    config = read_config(path)
    assert config.model == SIZES[size]
    assert config.data.data_spec == "imagenet"
    assert config.model.n_timesteps == 4


def test_a_config_comes_back_from_its_json(tmp_path: Path) -> None:
    config = Config(dataclasses.replace(SIZES["small"], prior_type="gaussian", gamma_max=5), restore_ckpt="x.pt")
    assert read_config(written(tmp_path, json.loads(to_json(config)))) == config


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_comes_back_from_its_json(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(to_json(PRESETS[name]))
    assert read_config(path) == PRESETS[name]


def test_rows_of_a_nested_model_are_given_as_json_and_checked() -> None:
    found = override(
        PRESETS["nano"], {"widths": "[[9, 9, 9], [1, 1, 1]]", "trunks": "[[0, 0], [8, 1]]", "passes": [[4, 0], [8, 1]]}
    )
    assert found.model.widths == ((9, 9, 9), (1, 1, 1))
    assert '"widths": [\n      [9, 9, 9],' in to_json(found)
    for wrong, message in (
        ({"widths": ((9, 9, 9), (9, 9, 9), (9, 9, 9), (2, 1, 1))}, "1, 1, 1 in the end"),
        ({"widths": ((9, 9, 9), (4, 3, 3), (1, 1, 1), (1, 1, 1))}, "a multiple of the one below"),
        ({"trunks": ((0, 0),)}, "for each of"),
        ({"passes": ((0, 0),) * 4}, "1 to 1024 channels"),
        ({"widths": ((9.5, 9, 9),) * 4}, "integers in rows"),
        ({"n_mixtures": 0}, "expected 1 to 8"),
    ):
        with pytest.raises(ValueError, match=message):
            NestedConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown key 'n_timesteps'"):
        override(PRESETS["nano"], {"n_timesteps": 4})
    with pytest.raises(ValueError, match="family 'nested' is trained on full"):
        override(PRESETS["nano"], {"loss": "single"})


def test_records_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SIZES["tiny"].n_blocks = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("model", "n_levels", 3, "unknown key 'model.n_levels'"),
        ("optim", "momentum", 0.9, "unknown key 'optim.momentum'"),
        ("model", "n_blocks", "8", "n_blocks is '8'; expected int"),
        ("model", "n_blocks", True, "n_blocks is True"),
        ("model", "n_blocks", 10**9, "expected 1 to 1024"),
        ("model", "norm_groups", 7, "not a multiple of norm_groups"),
        ("model", "prior_type", "cauchy", "expected one of logistic, gaussian"),
        ("model", "gamma_min", float("nan"), "gamma_min is nan"),
        ("model", "dropout_prob", 1.0, "dropout_prob is 1.0"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, section: str, key: str, value: Any, message: str) -> None:
    tree = tiny()
    tree[section][key] = value
    with pytest.raises(CheckpointError, match=message):
        read_config(written(tmp_path, tree))


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    tree = tiny()
    del tree["model"]["embedding_dim"]
    with pytest.raises(CheckpointError, match=r"no key 'model\.embedding_dim'"):
        read_config(written(tmp_path, tree))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"model": 3}', '{"model": {}, "data": 3}', '{"model": {}, "extra": 3}', "[" * 100_000],
)
def test_what_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_config(tmp_path / "config.json")


def test_defaults_make_the_smallest_published_model() -> None:
    assert ModelConfig() == SIZES["tiny"]
