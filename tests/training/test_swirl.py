"""The swirl's points and distances are what they are said to be, and its one command trains,
measures, draws and goes on where it was.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

import torch
from PIL import Image

from uqdm.research import swirl


def test_points_lie_on_a_spiral_of_8_bit_values() -> None:
    x = swirl.swirl(1000, 3)
    assert x.shape == (1000, 2, 1, 1)
    assert x.dtype == torch.uint8
    assert (x.flatten(1).min(0).values == 0).all()
    assert (x.flatten(1).max(0).values == 255).all()
    assert torch.equal(x, swirl.swirl(1000, 3))
    assert not torch.equal(x, swirl.swirl(1000, 4))
    # Some affine map per axis takes every point to angle a, radius 2 a + pi, with a of density
    # proportional to a on 0 .. 3 pi.
    angle = 3 * math.pi * np.sqrt(np.random.default_rng(3).random(1000))
    curve = (2 * angle + math.pi)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    for axis in range(2):
        fitted = np.polyval(np.polyfit(curve[:, axis], x[:, axis, 0, 0].numpy(), 1), curve[:, axis])
        assert np.abs(fitted - x[:, axis, 0, 0].numpy()).max() < 0.6


def test_the_sliced_wasserstein_distance_of_a_shift_is_its_length_over_root_two() -> None:
    a = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    assert swirl.sliced_wasserstein(a, a[torch.randperm(500)]) == pytest.approx(0, abs=1e-6)
    moved = a + torch.tensor([3.0, 4.0])
    assert swirl.sliced_wasserstein(a, moved, directions=4000) == pytest.approx(5 / math.sqrt(2), rel=0.03)
    assert swirl.sliced_wasserstein(a, moved) == swirl.sliced_wasserstein(moved, a)


def test_one_command_trains_measures_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [run for run in swirl.plan(True) if run.name in ("vdm", "uqdm-5", "fixed-5", "tuned-5")]
    assert len(chosen) == 4
    monkeypatch.setattr(swirl, "plan", lambda small: chosen)
    monkeypatch.setattr(sys, "argv", ["swirl", str(tmp_path), "--small", "--steps", "20", "--jobs", "1"])
    swirl.main()
    found = json.loads((tmp_path / "results.json").read_text())
    names = {"vdm-5", "vdm-10", "vdm-20", "over-5", "over-10", "uqdm-5", "fixed-5", "tuned-5"}
    assert found["curves"].keys() == names
    for name, curve in found["curves"].items():
        assert curve["T"] == int(name.split("-")[1])
        assert curve["rate"] == sorted(curve["rate"])
        assert curve["bits_per_dimension"] >= curve["rate"][-1]
        assert curve["psnr"][-1] > curve["psnr"][0]
        assert len(curve["samples"]) == 1024
        assert f"| {name} |" in (tmp_path / "table.md").read_text()
    assert found["curves"]["vdm-20"]["bits_per_dimension"] < found["curves"]["vdm-5"]["bits_per_dimension"]
    for figure in (2, 6, 7):
        with Image.open(tmp_path / f"figure{figure}.png") as picture:
            assert min(picture.size) > 250
            assert len(set(np.asarray(picture.convert("L")).ravel().tolist())) > 20
    before = (tmp_path / "runs/uqdm-5/checkpoint.safetensors").stat().st_mtime_ns
    assert (
        swirl.perform(next(run for run in chosen if run.name == "uqdm-5"), tmp_path, 20, 0) == "uqdm-5"
    )  # nothing is trained again
    assert (tmp_path / "runs/uqdm-5/checkpoint.safetensors").stat().st_mtime_ns == before
