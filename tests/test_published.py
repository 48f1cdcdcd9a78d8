"""The published README's usage, and the published tiny model's figures, where its files are beside
the project.
"""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from conftest import photograph

import uqdm
from uqdm import bundle as package
from uqdm import errors
from uqdm.training.importing import import_checkpoint


@pytest.fixture(scope="module")
def tiny(shared: Path) -> Path:
    return shared / "official" / "uqdm-tiny"


@pytest.fixture(scope="module")
def imported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_checkpoint(tiny, tmp_path_factory.mktemp("models") / "uqdm-tiny")


def test_the_published_usage_works_as_written(tiny: Path, shared: Path) -> None:
    from uqdm import load_checkpoint, load_data

    model = load_checkpoint(tiny)
    _train_iter, eval_iter = load_data(shared / "data" / "imagenet64-dev.zip", model.config.data)
    image = next(iter(eval_iter))
    compressed = model.compress(image)
    reconstructions = model.decompress(compressed)
    assert image.shape == (2, 3, 64, 64)  # the config's batch size
    assert len(reconstructions) == model.config.model.n_timesteps
    assert torch.equal(reconstructions[-1], image)
    errors_ = [float(((r.float() - image.float()) ** 2).mean()) for r in reconstructions]
    assert errors_ == sorted(errors_, reverse=True)
    with pytest.raises(errors.ImageError):
        model.compress(image.float())


def test_tight_mode_of_the_tiny_model_costs_about_14_9_bits_a_pixel_and_paper_mode_about_16_2(
    imported: Path, dev: np.ndarray
) -> None:
    codec = uqdm.load(imported, precision="float32")
    pictures = list(dev[::100])
    tight = codec.estimate(pictures).sum(1).mean() / 4096
    paper = codec.estimate(pictures, mode="paper").sum(1).mean() / 4096
    assert 1.0 < paper - tight < 1.6  # design: 16.19 - 14.9 over 100 pictures
    assert 12 < tight < 16


def test_paper_mode_is_the_torch_models_own_negative_elbo(imported: Path, tiny: Path, dev: np.ndarray) -> None:
    from uqdm.families.uqdm.torch.checkpoint import read_published

    pictures = dev[:100:20]
    found = uqdm.load(imported, precision="float32").estimate(list(pictures), mode="paper").mean(0) / 4096
    model = read_published(tiny)
    with torch.inference_mode():
        terms = model.nelbo(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()), torch.Generator().manual_seed(0))
    expected = np.append(terms.steps.mean(1).numpy(), terms.pixels.mean())
    assert found[0] == pytest.approx(
        expected[0], rel=0.2
    )  # one dither each, five pictures: the first step is all chance
    assert found[1:] == pytest.approx(expected[1:], rel=0.05)
    assert found.sum() == pytest.approx(expected.sum(), rel=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 3), (70, 33, 3), (5, 129)])
def test_pictures_of_any_size_go_through_its_64_x_64_tiles(imported: Path, shape: tuple[int, ...]) -> None:
    codec = uqdm.load(imported, precision="float32")
    picture = photograph(*shape[:2]) if len(shape) == 3 else photograph(*shape)[..., 0]
    assert (codec.decompress(codec.compress(picture)) == picture).all()


def test_the_imported_package_is_complete(imported: Path) -> None:
    found = package.read(imported)
    assert found.parameters == 167_494
    assert found.about["reading"] == "ema"
    gamma = package.floats(found.network["gamma"])
    assert gamma[-1] == pytest.approx(6 - 17.96582, abs=1e-4)


def test_the_raw_reading_has_the_published_scripts_schedule(tiny: Path, tmp_path: Path) -> None:
    found = package.read(import_checkpoint(tiny, tmp_path / "raw", "raw"))
    assert package.floats(found.network["gamma"])[-1] == pytest.approx(-12.3, abs=1e-6)
    assert found.fingerprint != package.read(import_checkpoint(tiny, tmp_path / "ema", "ema")).fingerprint


def small_checkpoint(folder: Path) -> Path:
    """A published checkpoint of a very small network, written as the authors' script writes
    them.
    """
    from uqdm.config import override, to_json
    from uqdm.families.uqdm.torch.model import UQDM
    from uqdm.training.presets import preset

    config = override(
        preset("tiny"), {"embedding_dim": 8, "norm_groups": 4, "n_steps": 3, "batch_size": 2, "warmup": 2, "crop": 0}
    )
    folder.mkdir(parents=True)
    tree = json.loads(to_json(config))
    for key in ("network", "downsample"):
        del tree["model"][key]
    (folder / "config.json").write_text(json.dumps({**tree, "restore_ckpt": "checkpoint.pt"}))
    torch.manual_seed(0)
    model = UQDM(config)
    averages = [p.detach() for p in [*model.network.parameters(), *model.schedule.parameters()]]
    ema = {"decay": 0.9999, "num_updates": 1, "shadow_params": averages}
    torch.save({"model": model.network.state_dict(), "ema": ema, "step": 1}, folder / "checkpoint.pt")
    return folder


def test_the_snippet_of_the_published_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line; the data set where that README puts it, as the official files have it, but
    small.
    """
    random = np.random.default_rng(0)
    folder = tmp_path / "data" / "imagenet64"
    folder.mkdir(parents=True)
    for name, n in [(f"train_data_batch_{i}", 2) for i in range(1, 11)] + [("val_data", 5)]:
        np.savez(folder / name, data=random.integers(0, 256, (n, 12288), dtype=np.uint8), labels=np.ones(n, np.int64))
    np.save(folder / "removed.npy", np.array([1]))
    small_checkpoint(tmp_path / "checkpoints" / "uqdm-tiny")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    from uqdm import load_checkpoint, load_data

    model = load_checkpoint("checkpoints/uqdm-tiny")
    train_iter, eval_iter = load_data("ImageNet64", model.config.data)
    before = model.model
    model.trainer(train_iter, eval_iter)
    report = model.evaluate(eval_iter, reconstructions=("denoise", "ancestral", "flow"))
    image = next(iter(eval_iter))
    compressed = model.compress(image)
    reconstructions = model.decompress(compressed)

    assert len(train_iter.pictures) == 20
    assert report.model.pictures == 4  # five, less the duplicate
    assert model.model is not before
    assert (tmp_path / "runs" / "uqdm-tiny" / "checkpoint.safetensors").is_file()
    assert torch.equal(reconstructions[-1], image)
    assert "held out" in capsys.readouterr().err
    shown = str(report)
    assert "lossless, bits/pixel: files, payload, entropy estimate" in shown
    assert all(name in shown for name in ("denoise, dB", "ancestral, dB", "flow, dB", "paper: ", "tight: "))
    for mode, cost in report.coded.items():
        assert cost.estimate < cost.payload < cost.files, mode
        assert cost.payload < 1.01 * cost.estimate + 0.05
    assert report.coded["tight"].estimate < report.coded["paper"].estimate
    assert report.coded["paper"].estimate == pytest.approx(
        report.model.bits[-1], rel=0.01
    )  # other draws of the same noise
