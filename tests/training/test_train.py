"""A run follows from its seed and its step alone: killed and gone on with, or shared out to two
processes, it is the same run.
"""

import dataclasses
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import hashlib

import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

import uqdm
from uqdm import quality
from uqdm.cli import main
from uqdm.config import Config, override, read_config, to_json
from uqdm.errors import CheckpointError, TrainingError
from uqdm.families.nested.torch.model import Nested
from uqdm.families.torch.held_out import evaluate_coded
from uqdm.families.uqdm.torch.held_out import evaluate, evaluate_limit
from uqdm.training import importing, runs, trainer
from uqdm.training.presets import PRESETS, preset
from uqdm.training.state import Objective, TrainingState
from uqdm.training.trainer import train

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "embedding_dim": 8,
    "norm_groups": 4,
    "n_timesteps": 2,
    "lr": 2e-3,
    "warmup": 4,
    "ema_rate": 0.9,
    "dropout_prob": 0.1,
}
NESTED = {
    "widths": ((9, 9, 9), (1, 1, 1)), "trunks": ((0, 0), (8, 1)), "passes": ((6, 0), (8, 1)), "lr": 8e-3,
    "warmup": 4, "ema_rate": 0.9,
    "decay": "constant", "precision": "float32",
}  # fmt: skip
OFTEN = {"log_metrics_every_steps": 2, "checkpoint_every_steps": 3, "eval_every_steps": 5, "batch_size": 4, "crop": 8}


def small(name: str = "tiny", **more: Any) -> Config:
    own = NESTED if name == "nano" else SMALL
    return override(preset(name), {**own, **OFTEN, **more})


class Pictures:
    """Smooth pictures of 8 x 8, batch n from seed n."""

    batch_size = 4

    def batch(self, n: int) -> Tensor:
        corner = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(n))
        wide = torch.nn.functional.interpolate(corner, size=8, mode="bilinear", align_corners=True)
        return (wide * 255).to(torch.uint8)

    def ahead(self, numbers: Iterable[int]) -> Iterator[Tensor]:
        for n in numbers:
            yield self.batch(n)

    def held(self) -> list[Tensor]:
        return [self.batch(1000), self.batch(1001)]


def same(a: TrainingState, b: TrainingState) -> bool:
    weights = all(torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True))
    return weights and all(torch.equal(a.average[k], b.average[k]) for k in a.average) and a.step == b.step


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "loss"),
    [("tiny", "full"), ("tiny", "single"), ("tiny-vdm", "continuous"), ("tiny-vdm", "full"), ("nano", "full")],
)
def test_a_run_that_stops_and_goes_on_is_the_run_that_did_not(name: str, loss: str, tmp_path: Path) -> None:
    config = small(name, loss=loss)
    train(config, Pictures(), None, tmp_path / "a", steps=4)
    a = train(config, Pictures(), None, tmp_path / "a", steps=9)
    b = train(config, Pictures(), None, tmp_path / "b", steps=9)
    assert same(a, b)
    losses = [[row["loss"] for row in rows(tmp_path / run) if "loss" in row and row["step"] in (6, 8)] for run in "ab"]
    assert losses[0] == losses[1]
    assert not same(b, train(config, Pictures(), None, tmp_path / "c", steps=9, seed=1))


def test_a_nested_model_gets_better_and_says_what_its_steps_cost(tmp_path: Path) -> None:
    data = Pictures()
    lines: list[str] = []
    train(small("nano"), data, data.held(), tmp_path, steps=60, say=lines.append)
    found = [row for row in rows(tmp_path) if "held/bits_per_pixel" in row]
    assert found[-1]["held/bits_per_pixel"] < 0.9 * found[0]["held/bits_per_pixel"]
    model = runs.read_run(tmp_path)
    assert isinstance(model, Nested)
    again = evaluate_coded(model, data.held())
    assert again.bits[-1] == pytest.approx(found[-1]["held/bits_per_pixel"])
    assert again.psnr["denoise"][-1] == pytest.approx(quality.CAP)
    assert again.psnr["denoise"] == sorted(again.psnr["denoise"])
    row = next(row for row in rows(tmp_path) if "terms" in row)
    assert len(row["terms"]) == 2
    assert sum(row["terms"]) == pytest.approx(row["loss"], rel=1e-5)


def test_training_makes_pictures_cheaper_and_the_averages_are_what_is_read(tmp_path: Path) -> None:
    config, data = small(), Pictures()
    lines: list[str] = []
    train(config, data, data.held(), tmp_path, steps=60, say=lines.append)
    first, last = (
        row["held/bits_per_dimension"]
        for row in (r for r in (rows(tmp_path)[i] for i in (2, -1)))
        if "held/cumulative" in row
    )
    assert last < 0.97 * first
    model = runs.read_run(tmp_path)
    found = evaluate(model, data.held())
    assert found.bits_per_dimension() == pytest.approx(last)
    assert model.schedule.w.item() != pytest.approx(18.3, abs=1e-6)  # learned, averaged and read with the weights
    raw = runs.read_run(tmp_path, "raw")
    assert not torch.equal(raw.schedule.w, model.schedule.w)
    terms = next(row["terms"] for row in rows(tmp_path) if "terms" in row)
    assert sum(terms) == pytest.approx(next(row["loss"] for row in rows(tmp_path) if "terms" in row), rel=1e-5)
    assert any("images/s" in line for line in lines)
    assert any("held out" in line for line in lines)


def test_a_run_on_the_limit_is_evaluated_on_the_limit(tmp_path: Path) -> None:
    data = Pictures()
    train(small("tiny-vdm", n_timesteps=1000), data, data.held(), tmp_path, steps=5)
    model = runs.read_run(tmp_path)
    calls: list[int] = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    found = evaluate_limit(model, data.held())
    assert len(calls) == 2  # one a batch, not a thousand
    row = next(row for row in rows(tmp_path) if "held/bits_per_dimension" in row)
    assert row["held/bits_per_dimension"] == pytest.approx(found.bits_per_dimension())
    assert found.line().endswith("over 8 pictures")


def test_a_trained_model_is_a_codec(tmp_path: Path) -> None:
    train(small(dropout_prob=0.0), Pictures(), None, tmp_path / "run", steps=3)
    folder = importing.import_checkpoint(tmp_path / "run", tmp_path / "mine")
    picture = Pictures().batch(7)[0].permute(1, 2, 0).numpy()
    codec = uqdm.load(folder)
    assert json.loads((folder / "model.json").read_text())["network"]["tile"] == 8  # the size it was trained at
    assert (codec.decompress(codec.compress(picture)) == picture).all()
    train(small("tiny-vdm"), Pictures(), None, tmp_path / "vdm", steps=1)
    with pytest.raises(CheckpointError, match="universal quantization"):
        importing.import_checkpoint(tmp_path / "vdm", tmp_path / "other")
    train(small("nano"), Pictures(), None, tmp_path / "nested", steps=1)
    with pytest.raises(CheckpointError, match="uqdm quantise"):
        importing.import_checkpoint(tmp_path / "nested", tmp_path / "other")


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Objective.forward, []

    def forward(self: Objective, x: Tensor, generator: torch.Generator) -> Any:
        calls.append(x)
        loss, *rest = real(self, x, generator)
        return loss * (float("nan") if len(calls) == 6 else 1), *rest

    monkeypatch.setattr(Objective, "forward", forward)
    with pytest.raises(TrainingError, match=r"step 6: the loss is nan.*last good state"):
        train(small(), Pictures(), None, tmp_path, steps=9)
    assert runs.read(tmp_path / runs.CHECKPOINT)[1]["step"] == 3
    assert all(torch.isfinite(p).all() for p in runs.read_run(tmp_path).parameters())
    assert train(small(), Pictures(), None, tmp_path, steps=9).step == 9


def test_a_loss_that_explodes_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"times what it was|is nan|is inf"):
        train(small(lr=1e4, grad_clip_norm=1e9, warmup=30), Pictures(), None, tmp_path, steps=200)


def test_a_folder_of_another_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    train(small(), Pictures(), None, tmp_path, steps=3)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(TrainingError, match=r"optim\.lr 0\.002"):
        train(small(lr=1e-3), Pictures(), None, tmp_path, steps=4)
    with pytest.raises(TrainingError, match="seed 0, not 5"):
        train(small(), Pictures(), None, tmp_path, steps=4, seed=5)
    with pytest.raises(TrainingError, match="family"):
        train(small("tiny-vdm"), Pictures(), None, tmp_path, steps=4)
    assert (tmp_path / "config.json").read_text() == before
    assert train(small(log_metrics_every_steps=1), Pictures(), None, tmp_path, steps=4).step == 4


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(small(), Pictures(), None, tmp_path, steps=3)
    path = tmp_path / runs.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(small(), Pictures(), None, tmp_path, steps=4)
    path.write_bytes(b"no checkpoint at all")
    with pytest.raises(CheckpointError, match=str(path)):
        runs.read_run(tmp_path)


def test_a_run_can_begin_with_another_models_weights(tmp_path: Path) -> None:
    train(small(), Pictures(), None, tmp_path / "a", steps=9)
    start = runs.read_run(tmp_path / "a")
    model = TrainingState.new(small(), 3, torch.device("cpu"), start).model
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="missing"):
        TrainingState.new(small(n_blocks=2), 3, torch.device("cpu"), start)


def test_bfloat16_trains_as_float32_does(tmp_path: Path) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        train(small(precision=precision), Pictures(), None, tmp_path / precision, steps=40)
        found.append(rows(tmp_path / precision)[-1]["loss"])
    assert found[1] == pytest.approx(found[0], rel=0.03)
    assert found[1] != found[0]


def test_the_learning_rate_warms_up_and_decays_as_asked(tmp_path: Path) -> None:
    train(small(decay="cosine", log_metrics_every_steps=1), Pictures(), None, tmp_path, steps=20)
    rates = [row["lr"] for row in rows(tmp_path) if "lr" in row]
    assert rates[0] == pytest.approx(2e-3 / 4, rel=0.01)
    assert max(rates) == pytest.approx(2e-3, rel=0.1)
    assert rates[-1] < 1e-4
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_minutes_end_a_run_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uqdm.training import trainer

    clock = iter(range(10**6))
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: next(clock) / 16)
    state = train(small(), Pictures(), None, tmp_path, minutes=0.01)
    assert 0.6 <= state.seconds < 0.8
    assert state.step > 2
    assert runs.read(tmp_path / runs.CHECKPOINT)[1]["step"] == state.step


# ---- configurations ----


def test_help_names_every_preset_for_pictures() -> None:
    text = CliRunner().invoke(main, ["train", "--help"]).stdout
    named = text.split("What to train: ", 1)[1].split(".", 1)[0].replace(",", " ").split()
    assert set(named) == {name for name in PRESETS if not name.startswith("swirl")}


def test_every_preset_is_written_and_read_again(tmp_path: Path) -> None:
    for name, config in PRESETS.items():
        (tmp_path / f"{name}.json").write_text(to_json(config))
        assert read_config(tmp_path / f"{name}.json") == config


def test_settings_are_read_as_their_key_wants_and_unknown_ones_are_refused() -> None:
    found = override(preset("tiny"), {"lr": "1e-3", "model.n_timesteps": "8", "shuffle": "false", "loss": "single"})
    assert (found.optim.lr, found.model.n_timesteps, found.data.shuffle, found.training.loss) == (
        1e-3,
        8,
        False,
        "single",
    )
    with pytest.raises(ValueError, match=r"unknown key 'n_timestep'; did you mean .*n_timesteps"):
        override(preset("tiny"), {"n_timestep": "8"})
    with pytest.raises(ValueError, match="expected int"):
        override(preset("tiny"), {"n_timesteps": "many"})
    with pytest.raises(ValueError, match="expected one of full, single"):
        override(preset("tiny"), {"loss": "none"})
    with pytest.raises(ValueError, match="family 'uqdm' is trained on full or single"):
        override(preset("tiny"), {"loss": "continuous"})
    with pytest.raises(ValueError, match="no preset 'huge'; known are tiny"):
        preset("huge")


def test_multiply_adds_of_the_presets_are_the_papers_and_what_a_counter_counts() -> None:
    """Appendix C.3 gives 389 K, 2.3 M, 105 M and 204 M a pixel; the counter is torch's own."""
    from torch.utils.flop_counter import FlopCounterMode

    from uqdm.families.uqdm.torch.unet import new_network

    stated = {
        "tiny": (64, 389e3),
        "small": (64, 2.3e6),
        "medium": (64, 105e6),
        "big": (64, 204e6),
        "cifar10": (32, 7.6e6),
        "half": (32, 60e3),
    }
    for name, (size, expected) in stated.items():
        model = dataclasses.replace(PRESETS[name].model, dropout_prob=0.0)
        with torch.device("meta"):
            network = new_network(model)
            ours = sum(network.multiply_adds(size, size))
            assert ours == pytest.approx(expected, rel=0.03), name
            with FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, 3, size, size), torch.zeros(()))
        assert counter.get_total_flops() / 2 / size**2 == pytest.approx(ours, rel=0.01), name


# ---- processes ----


def pack(path: Path, n: int = 24, size: int = 16) -> Path:
    random = np.random.default_rng(0)
    corners = random.integers(0, 256, (n, 2, 2, 3), dtype=np.uint8)
    pictures = np.stack(
        [np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BILINEAR)) for c in corners]
    )
    stream = io.BytesIO()
    Image.fromarray(pictures.reshape(n * size, size, 3)).save(stream, "WEBP", lossless=True)
    meta = {"h": size, "w": size, "n": n, "sha256_of_uint8_NHWC": hashlib.sha256(pictures.tobytes()).hexdigest()}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps(meta))
        archive.writestr("000.webp", stream.getvalue())
    return path


def command(tmp_path: Path, out: str, steps: int, *more: str, launch: tuple[str, ...] = ()) -> list[str]:
    settings = [f"{k}={v}" for k, v in {**SMALL, **OFTEN}.items()]
    words = [
        *(launch or (sys.executable,)),
        "-m",
        "uqdm",
        "train",
        "--preset",
        "tiny",
        "--data",
        str(pack(tmp_path / "a.zip")),
    ]
    return [
        *words,
        "--out",
        str(tmp_path / out),
        "--steps",
        str(steps),
        "--threads",
        "1",
        "--device",
        "cpu",
        "--set",
        *settings,
        *more,
    ]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(uqdm.__file__).parent.parent)}


@pytest.fixture
def here() -> Iterator[Callable[[list[str]], Result]]:
    """The command in this process, which takes a second where a process of its own takes six."""
    yield lambda words: CliRunner().invoke(main, words[words.index("train") :])
    torch.set_flush_denormal(False)  # as it was before the command


@pytest.fixture
def alone(here: Callable[[list[str]], Result]) -> Callable[[list[str]], str]:
    """The command in this process, which has to end well: what it prints."""

    def called(words: list[str]) -> str:
        done = here(words)
        assert done.exit_code == 0, done.output
        return done.stdout

    return called


def tensors(folder: Path) -> dict[str, Tensor]:
    return runs.read(folder / runs.CHECKPOINT)[0]


def test_a_run_killed_at_any_moment_goes_on_as_if_it_had_not_been(
    alone: Callable[[list[str]], str], tmp_path: Path
) -> None:
    """kill -9 in the middle of steps and of a checkpoint that is being written; then the same
    command again.
    """
    alone(command(tmp_path, "whole", 12))
    half = (
        "import os, signal; from uqdm.training import runs; real = runs.save_file; count = [0]\n"
        "def save_file(tensors, path, about):\n"
        "    count[0] += 1\n"
        "    real(tensors, path, about)\n"
        "    if count[0] == 3:\n"
        "        size = os.path.getsize(path); os.truncate(path, size // 2); os.kill(os.getpid(), signal.SIGKILL)\n"
        "runs.save_file = save_file\n"
        "from uqdm.cli import main; main()"
    )
    words = command(tmp_path, "killed", 12)
    half_written = [sys.executable, "-c", half, *words[words.index("train") :]]
    assert subprocess.run(half_written, capture_output=True, env=ENVIRONMENT, timeout=300).returncode == -signal.SIGKILL
    assert runs.read(tmp_path / "killed" / runs.CHECKPOINT)[1]["step"] == 6
    process = subprocess.Popen(words, stdout=subprocess.PIPE, env=ENVIRONMENT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 8/"):
            process.kill()
            break
    process.wait()
    assert "going on from step" in alone(words)
    a, b = tensors(tmp_path / "whole"), tensors(tmp_path / "killed")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    steps = [row["step"] for row in rows(tmp_path / "killed") if "loss" in row]
    assert steps == sorted(set(steps))
    alone(command(tmp_path, "killed", 14))
    assert runs.read(tmp_path / "killed" / runs.CHECKPOINT)[1]["step"] == 14


def steps_of(text: str) -> list[int]:
    """Of lines that say how it goes."""
    return [
        int(line.split("/")[0].removeprefix("step "))
        for line in text.splitlines()
        if line.startswith("step ") and "/" in line
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_saves_it_and_says_so(
    number: signal.Signals, code: int, alone: Callable[[list[str]], str], tmp_path: Path
) -> None:
    rarely = ["log_metrics_every_steps=10000", "checkpoint_every_steps=10000", "eval_every_steps=10000"]
    words = command(tmp_path, "run", 100_000, *rarely)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True) as process:
        assert process.stdout is not None
        assert any(line.startswith("step 1/100000: ") for line in process.stdout)  # it speaks of its first step
        process.send_signal(number)
        _, complaint = process.communicate(timeout=100)
    step = runs.step_of(tmp_path / "run")
    assert process.returncode == code, complaint
    assert step >= 1
    assert (
        complaint.splitlines()[-1]
        == f"uqdm: stopped after step {step}, which {tmp_path / 'run'} holds: the same command goes on from there"
    )
    assert not list((tmp_path / "run").glob(".uqdm-*"))
    more = command(tmp_path, "run", step + 2, *rarely)
    assert f"going on from step {step}" in alone(more)
    alone(command(tmp_path, "whole", step + 2, *rarely))
    a, b = tensors(tmp_path / "whole"), tensors(tmp_path / "run")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_time_too_makes_checkpoints_and_no_bit_depends_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uqdm.training import trainer

    rarely = {"log_metrics_every_steps": 100, "checkpoint_every_steps": 100, "eval_every_steps": 100}
    plain = train(small(**rarely), Pictures(), None, tmp_path / "plain", steps=6)
    saved: list[int] = []
    real = TrainingState.save

    def save(self: TrainingState, path: Path, seed: int) -> None:
        saved.append(self.step)
        real(self, path, seed)

    monkeypatch.setattr(TrainingState, "save", save)
    monkeypatch.setattr(trainer, "SAVED", 0.0)
    often = train(small(**rarely), Pictures(), None, tmp_path / "often", steps=6)
    assert saved == [1, 2, 3, 4, 5, 6]
    assert same(plain, often)
    assert [row["step"] for row in rows(tmp_path / "often")] == [6]  # what is said by time alone is in no file


def test_it_says_how_it_goes_from_the_first_step_on_and_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uqdm.training import trainer

    clock = iter(range(10**6))
    monkeypatch.setattr(trainer.time, "monotonic", lambda: next(clock) / 3)  # asked some three times a step
    lines: list[str] = []
    rarely = {"log_metrics_every_steps": 60, "checkpoint_every_steps": 100, "eval_every_steps": 100}
    train(small(**rarely), Pictures(), None, tmp_path, steps=60, say=lines.append)
    found = steps_of("\n".join(lines))
    assert found[0] == 1
    assert found[-1] == 60
    assert 4 <= len(found) <= 8
    pauses = np.diff(found[:-1])
    assert (pauses[1:] > pauses[:-1]).all()


def test_a_second_ctrl_c_does_not_wait_and_the_message_is_true(tmp_path: Path) -> None:
    from uqdm.training.trainer import _Listening

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt), _Listening() as listening:  # noqa: PT012
            os.kill(os.getpid(), signal.SIGINT)
            assert listening.number == signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert runs.step_of(tmp_path) == 0


def test_an_evaluation_does_not_hold_a_signal_up(tmp_path: Path) -> None:
    from uqdm.training.trainer import Stopped

    seen: list[int] = []

    class Held:
        def __iter__(self) -> Iterator[Tensor]:
            for n in range(50):
                seen.append(n)
                if n == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield Pictures().batch(n)

    rarely = {"checkpoint_every_steps": 100, "eval_every_steps": 5}
    with pytest.raises(Stopped, match=r"stopped after step 5, which .* holds") as stopped:
        train(small(**rarely), Pictures(), Held(), tmp_path, steps=20)
    assert stopped.value.number == signal.SIGTERM
    assert len(seen) < 5
    assert runs.step_of(tmp_path) == 5


def test_checkpoints_have_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        train(small(), Pictures(), None, tmp_path, steps=3)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()} == {0o640}


def test_a_run_that_cannot_be_written_is_refused_before_the_data_is_read(
    here: Callable[[list[str]], Result], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    failed = here(command(tmp_path, "file", 5))
    assert failed.exit_code == 1
    assert "is a file; a run needs a folder" in failed.stderr
    assert "parameters" not in failed.stdout


def test_broken_pictures_are_left_out_counted_and_named(here: Callable[[list[str]], Result], tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for i in range(12):
        Image.fromarray(np.full((16, 16, 3), i, np.uint8)).save(tmp_path / "p" / f"{i:02}.png")
    for i in (1, 3, 10):
        (tmp_path / "p" / f"{i:02}.png").write_bytes(b"no picture")
    words = command(tmp_path, "run", 6)
    words[words.index("--data") + 1] = str(tmp_path / "p")
    done = here(words)
    assert done.exit_code == 1, done.stderr
    assert "2 of 10 pictures were left out, 2 of them broken" in done.stderr
    assert "1 of 2 pictures were left out, 1 of them broken" in done.stderr  # and of those to evaluate on
    assert all(f"{name}.png" in done.stderr for name in ("01", "03", "10"))


def two_nodes(words: list[str]) -> str:
    """The command on two machines, as far as one has them: two launchers of a process each that find
    one another by an address. Returns what both print; raises if one fails.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    launch = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    line = [words[0], *launch, "--rdzv-endpoint", address, "--rdzv-id", "test", *words[1:]]
    how: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    nodes = [subprocess.Popen(line, **how) for _ in range(2)]
    said = [node.communicate(timeout=300) for node in nodes]
    if any(node.returncode for node in nodes):
        raise RuntimeError("".join(errors for _, errors in said))
    return "".join(out for out, _ in said)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in rows(folder) if "loss" in row]


def assert_alike(folder: Path, other: Path) -> None:
    """Two runs are one up to the order of sums: losses, weights, averages, moments."""
    assert len(losses(folder)) == 3
    np.testing.assert_allclose(losses(folder), losses(other), rtol=1e-5)
    one, two = tensors(folder), tensors(other)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        np.testing.assert_allclose(tensor, two[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_two_machines_see_what_one_with_twice_the_batches_sees_and_one_goes_on_for_both(
    alone: Callable[[list[str]], str], tmp_path: Path
) -> None:
    said = two_nodes(command(tmp_path, "two", 4))
    assert said.count("step 4/4") == 1  # one process speaks
    assert "going on from step 4; 1 process, 2 batches each" in alone(command(tmp_path, "two", 6))
    alone(command(tmp_path, "one", 6, "accumulate=2"))
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_machines_go_on_for_one_if_they_can_share_its_batches_out(
    alone: Callable[[list[str]], str], tmp_path: Path
) -> None:
    for name, steps in (("both", 4), ("one", 6)):
        alone(command(tmp_path, name, steps, "accumulate=2"))
    two_nodes(command(tmp_path, "both", 6, "accumulate=2"))
    assert_alike(tmp_path / "one", tmp_path / "both")
    alone(command(tmp_path, "odd", 4))
    before = (tmp_path / "odd" / runs.CHECKPOINT).read_bytes()
    with pytest.raises(RuntimeError, match="takes 1 batch, and 2 processes cannot share them out"):
        two_nodes(command(tmp_path, "odd", 6))
    assert (tmp_path / "odd" / runs.CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_step_takes_the_same_batches_however_many_processes_share_them(world: int) -> None:
    share = trainer.share_of(Path("run"), 4, world)
    taken = [list(itertools.islice(trainer.batch_numbers(5, share, rank, world), 2 * share)) for rank in range(world)]
    assert sorted(n for some in taken for n in some) == list(range(20, 28))
    # The seed of a slice follows from its place among those of its step.
    assert all(numbers[i] % 4 == rank * share + i for rank, numbers in enumerate(taken) for i in range(share))
    with pytest.raises(TrainingError, match="3 processes"):
        trainer.share_of(Path("run"), 4, 3)


def test_the_command_says_what_it_does_and_what_is_wrong(here: Callable[[list[str]], Result], tmp_path: Path) -> None:
    done = here(command(tmp_path, "run", 5))
    assert done.exit_code == 0, done.stderr
    assert '"n_timesteps": 2' in done.stdout
    assert "multiply-adds a pixel" in done.stdout
    assert "min left" in done.stdout
    for words, code, what in [
        (["--set", "lr"], 2, "expected KEY=VALUE"),
        (["--set", "learning_rate=1"], 2, "unknown key"),
        (["--preset", "swirl"], 1, "holds pictures"),
        (["--data", str(tmp_path / "nowhere")], 1, "nowhere"),
    ]:
        failed = here([*command(tmp_path, "other", 5), *words])
        assert failed.exit_code == code, words
        assert what in failed.stderr, failed.stderr
        assert "Traceback" not in failed.stderr
