"""The recipe of the embedded model, in small: it learns, it resumes, and what it packages codes pictures."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from conftest import pack, photograph

import uqdm
from uqdm import bundle as package
from uqdm.training import light


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(light, "NETWORKS", {1: (0, 0), 2: (8, 1), 3: (8, 1), 4: (8, 1)})


def rows(run: Path, step: int) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / f"step{step}.jsonl").read_text().splitlines()]


def test_every_step_learns_resumes_and_packages_into_a_codec(small: None, tmp_path: Path) -> None:
    data = [pack(tmp_path / "train.zip", np.stack([photograph(64, 64, i) for i in range(12)]))]
    dev = pack(tmp_path / "dev.zip", np.stack([photograph(64, 64, 100 + i) for i in range(10)]))
    run = tmp_path / "run"
    for step in light.NETWORKS:
        untrained = light.evaluate(light.new_net(step), step, torch.from_numpy(light.coordinates(light.load_pack(dev)[::5])))
        light.train(step, data, dev, run, minutes=0.02, seed=0)
        first = rows(run, step)[-1]
        light.train(step, data, dev, run, minutes=0.03, seed=0)
        last = rows(run, step)[-1]
        assert last["iterations"] > first["iterations"]
        assert last["minutes"] >= 0.03
        assert last["dev_bpp"] < untrained
        light.train(step, data, dev, run, minutes=0.03, seed=0)
        assert rows(run, step)[-1] == last  # nothing left to do
    assert not list(run.glob("*.tmp"))
    codec = uqdm.load(light.to_package(run, tmp_path / "mine"))
    picture = photograph(40, 30)
    assert (codec.decompress(codec.compress(picture)) == picture).all()


def test_boxes_hold_their_values_and_have_the_dithers_width() -> None:
    v = torch.from_numpy(light.coordinates(photograph(64, 64)[None]))
    low, high = light.boxes(v, light.widths()[2:3], torch.Generator().manual_seed(0))
    assert (low <= v).all()
    assert (v <= high).all()
    inside = (low > 0) & (high < 255)
    width = (high - low + 1)[inside]
    nominal = torch.tensor(light.widths()[2]).view(1, 3, 1, 1).expand_as(v)[inside]
    assert (width - nominal).abs().max() <= 1
    assert abs(float((width - nominal).mean())) < 0.05


def test_states_in_the_middle_of_a_step_let_the_most_uncertain_know_first(small: None) -> None:
    v = torch.from_numpy(light.coordinates(np.stack([photograph(32, 32, i) for i in range(12)])))
    generator = torch.Generator().manual_seed(0)
    before, net = light.boxes(v, [], generator), light.new_net(1)
    net.stretch.data = -torch.log(net.width)  # the same scale for all channels
    there = light.mixed_boxes(before, light.boxes(v, light.widths()[:1], generator), net, generator, bf16=False)
    share = there.float().mean((2, 3))  # (B, C)
    assert share.mean(1).min() < 0.3
    assert share.mean(1).max() > 0.7
    assert ((share[:, 0] == 1) | (share[:, 1:].sum(1) == 0)).all()  # luma first, chroma once all of it is there
    half = there[(share[:, 0] > 0.3) & (share[:, 0] < 0.9), 0]
    assert all(0.2 < quarter.float().mean() < 1 for one in half for quarter in (one[:16, :16], one[16:, 16:]))  # spread evenly


def test_training_goes_on_from_a_package_with_mixed_states(small: None, tmp_path: Path) -> None:
    data = [pack(tmp_path / "train.zip", np.stack([photograph(64, 64, i) for i in range(12)]))]
    dev = pack(tmp_path / "dev.zip", np.stack([photograph(64, 64, 100 + i) for i in range(10)]))
    for step in light.NETWORKS:
        light.train(step, data, dev, tmp_path / "run", minutes=0.01, seed=0)
    start = light.to_package(tmp_path / "run", tmp_path / "start")
    assert not uqdm.load(start).family("tight").denoiser.mixed  # type: ignore[attr-defined]
    light.train(3, data, dev, tmp_path / "more", minutes=0.01, seed=0, start=start, mixed=0.5)
    again = light.to_package(tmp_path / "more", tmp_path / "again", start=start, mixed=True)
    codec = uqdm.load(again)
    assert codec.family("tight").denoiser.mixed  # type: ignore[attr-defined]
    a, b = (package.read(path).weights for path in (start, again))
    assert all((a[name] == b[name]).all() != name.startswith("2.") for name in a if "enter.weight" in name)
