"""The swirl of section 5.1: points of the plane, UQDM for several T against VDM; figures 2, 6 and 7
and a table.

    python -m uqdm.research.swirl OUT            # everything, about an hour on two cores
    python -m uqdm.research.swirl OUT --small    # a few minutes: fewer runs and steps

The same command goes on where it stopped. Every run is a run of the trainer, in OUT/runs. What is
measured of it goes into OUT/results.json, and the figures and OUT/table.md are made from that
alone. Points are pictures of two channels and one pixel, so bits per dimension are half of bits per
pixel. PSNR is of 8-bit values. The distance between sets of points is the sliced Wasserstein
distance of order 2, of x in [-1, 1], over fixed random directions.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uqdm import atomic
from uqdm.config import override
from uqdm.families.torch.held_out import psnr
from uqdm.families.uqdm.torch.diffusion import Diffusion
from uqdm.families.uqdm.torch.held_out import evaluate
from uqdm.families.uqdm.torch.model import UQDM
from uqdm.training import runs
from uqdm.training.presets import preset
from uqdm.training.trainer import train

POINTS = 1024
STEPS = (3, 4, 5, 10, 15, 20, 30)  # T of the paper's figure 2
DIRECTIONS = 200
VDM_STEPS = (5, 10, 20, 30, 50, 100, 200, 500, 1000)
DRAWS = 16  # of the noise, in a mean of eq. 1


def swirl(n: int = POINTS, seed: int = 0) -> Tensor:
    """n points on a spiral, uint8 (n, 2, 1, 1).

    The angle is 3 pi sqrt(u) and the radius 2 angle + pi. Each axis is scaled to 0 .. 255 and
    rounded.
    """
    angle = 3 * math.pi * np.sqrt(np.random.default_rng(seed).random(n))
    points = (2 * angle + math.pi)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    low, high = points.min(0), points.max(0)
    return torch.from_numpy(np.rint((points - low) / (high - low) * 255).astype(np.uint8)).view(n, 2, 1, 1)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = DIRECTIONS, seed: int = 0) -> float:
    """The distance of order 2 between equally many points (n, 2).

    It is the root of the mean, over directions, of the mean squared gap of sorted projections.
    """
    angle = torch.rand(directions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * math.pi
    onto = torch.stack([torch.cos(angle), torch.sin(angle)])
    gap = torch.sort(a.double() @ onto, 0).values - torch.sort(b.double() @ onto, 0).values
    return float((gap**2).mean().sqrt())


class Whole:
    """The same batch again and again, for gradient descent on all points."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.batch_size = x, len(x)

    def ahead(self, numbers: Iterable[int]) -> Iterator[Tensor]:
        """The points, once for each number."""
        for _ in numbers:
            yield self.x


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: a preset with changes, and where its weights come from."""

    name: str
    preset: str
    changes: dict[str, Any]
    start: str | None = None  # the run of a VDM whose weights this run begins with


FIXED = {
    "learned_prior_scale": False,
    "prior_type": "logistic",
    "base_prior_scale": "default",
    "noise_schedule": "learned_linear",
}


def plan(small: bool) -> list[Run]:
    """Every run. Those that others begin with come first."""
    steps = (3, 5, 10) if small else STEPS
    found = [Run("vdm", "swirl-vdm", {})]
    found += [Run(f"uqdm-{t}", "swirl", {"n_timesteps": t}) for t in steps]
    found += [Run(f"fixed-{t}", "swirl", {"n_timesteps": t, **FIXED}) for t in steps]
    found += [Run("gaussian-5", "swirl", {"n_timesteps": 5, "prior_type": "gaussian"})]
    found += [
        Run(f"{kind}-5", "swirl", {"n_timesteps": 5, "noise_schedule": kind})
        for kind in ("fixed_linear", "learned_monotone")
    ]
    return found + [
        Run(f"tuned-{t}", "swirl", {"n_timesteps": t, **FIXED}, start="vdm") for t in ((5,) if small else (5, 10, 20))
    ]


def perform(run: Run, out: Path, steps: int, seed: int) -> str:
    """Trains a run to its end, or goes on with it."""
    torch.set_num_threads(1)
    every = {
        "checkpoint_every_steps": 1000,
        "log_metrics_every_steps": 500,
        "eval_every_steps": 1 << 30,
        "n_steps": steps,
    }
    config = override(preset(run.preset), {**run.changes, **every, "decay": "cosine"})
    start = None
    if run.start is not None:
        start = UQDM.over(_trained(run.start, out))
        config = override(config, {"lr": config.optim.lr / 4})
    train(
        config,
        Whole(swirl()),
        None,
        out / "runs" / run.name,
        steps=steps if run.start is None else steps // 4,
        seed=seed,
        start=start,
    )
    return run.name


def measure(model: Diffusion, steps: int, indices: list[int] | None = None, draws: int = DRAWS) -> dict[str, Any]:
    """Bits per dimension after each step, and at each latent the quality of ancestral pictures; T =
    `steps`.
    """
    x = swirl()
    found = evaluate(model, [x] * draws, steps=steps)
    real, generator = model.to_real(x), torch.Generator().manual_seed(1)
    chosen = list(range(steps + 1)) if indices is None else indices
    quality, distance = [], []
    with torch.no_grad():
        for i, z in enumerate(model.walk(x, generator, steps)):
            if i in chosen:
                drawn = model.ancestral(z, i, generator, steps)
                quality.append(float(psnr(drawn, real).mean()))
                distance.append(sliced_wasserstein(drawn.flatten(1), real.flatten(1)))
        free = model.sample(len(x), 1, 1, generator, steps)
    bits = [b / 2 for b in found.bits]
    return {
        "T": steps,
        "bits_per_dimension": bits[-1],
        "rate": [bits[i] for i in chosen],
        "psnr": quality,
        "sliced_wasserstein": distance,
        "samples": free.flatten(1).tolist(),
        "samples_sliced_wasserstein": sliced_wasserstein(model.to_real(free).flatten(1), real.flatten(1)),
        "gamma": model.gammas(1).detach().flip(0).tolist(),
    }


def _trained(name: str, out: Path) -> Diffusion:
    model = runs.read_run(out / "runs" / name)
    assert isinstance(model, Diffusion)
    return model


def measured(name: str, out: Path, small: bool) -> dict[str, Any]:
    """All figures of one run, with a label for each thing that was measured."""
    torch.set_num_threads(1)
    model = _trained(name, out)
    if name != "vdm":
        return {name: measure(model, model.config.model.n_timesteps)}
    found = {}
    for steps in VDM_STEPS[:3] if small else VDM_STEPS:
        draws = max(1, min(DRAWS, 400 // steps))
        found[f"vdm-{steps}"] = measure(model, steps, sorted({round(i * steps / 20) for i in range(21)}), draws)
    over = UQDM.over(model)
    for steps in (5, 10) if small else STEPS:
        found[f"over-{steps}"] = measure(over, steps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m uqdm.research.swirl", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for runs, results, figures")
    parser.add_argument("--small", action="store_true", help="T of 3, 5, 10 and fewer steps")
    parser.add_argument("--steps", type=int, help="of training, for each run (12000; 1500 with --small)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, a process each")
    a = parser.parse_args()
    results = everything(a.out, a.small, a.steps, a.seed, a.jobs, functools.partial(print, flush=True))
    print(table(results))


def everything(
    out: Path,
    small: bool = False,
    steps: int | None = None,
    seed: int = 0,
    jobs: int = 2,
    say: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Trains and measures all runs, and writes results.json, table.md and figures 2, 6 and 7 into
    the folder `out`. Returns curves by run.

    What has been trained is not trained again. What was measured with the same settings is read.
    """
    steps = steps or (1500 if small else 12000)
    todo, path = plan(small), out / "results.json"
    about = {"steps": steps, "seed": seed, "points": POINTS, "draws": DRAWS, "runs": [r.name for r in todo]}
    out.mkdir(parents=True, exist_ok=True)
    if path.is_file() and (stored := json.loads(path.read_text()))["about"] == about:
        results: dict[str, Any] = stored["curves"]
        figures(results, out)
        return results
    results = {}
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for wave in ([r for r in todo if r.start is None], [r for r in todo if r.start is not None]):
            for done in concurrent.futures.as_completed([pool.submit(perform, r, out, steps, seed) for r in wave]):
                say(f"trained {done.result()}")
        for job in [pool.submit(measured, r.name, out, small) for r in todo]:
            results |= job.result()
            say(f"measured {len(results)} curves")
    atomic.write(path, json.dumps({"about": about, "curves": results}))
    atomic.write(out / "table.md", table(results))
    figures(results, out)
    return results


def table(curves: dict[str, Any]) -> str:
    """Bits per dimension, lossless, in one row for each model."""
    rows = ["| run | T | bits/dim | samples: sliced Wasserstein | gamma(0), gamma(1) |", "|---|---|---|---|---|"]
    for name, c in curves.items():
        ends = f"{c['gamma'][0]:.2f}, {c['gamma'][1]:.2f}"
        rows.append(
            f"| {name} | {c['T']} | {c['bits_per_dimension']:.3f} | {c['samples_sliced_wasserstein']:.4f} | {ends} |"
        )
    return "\n".join(rows) + "\n"


def figures(curves: dict[str, Any], out: Path) -> None:
    """Draws figure2.png, figure6.png and figure7.png, laid out as the paper's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    def line(axes: Any, kind: str, label: str, **how: Any) -> None:
        chosen = sorted((c for name, c in curves.items() if name.rpartition("-")[0] == kind), key=lambda c: c["T"])
        axes.plot([c["T"] for c in chosen], [c["bits_per_dimension"] for c in chosen], label=label, **how)

    best = min(c["bits_per_dimension"] for name, c in curves.items() if name.startswith("vdm-"))
    most = max(c["T"] for name, c in curves.items() if name.startswith("vdm-"))
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.4), constrained_layout=True)
    line(left, "fixed", "UQDM, fixed variance", marker="x", color="tab:blue")
    line(left, "uqdm", "UQDM", marker="x", color="tab:orange")
    line(left, "vdm", "VDM, hypothetical", marker=".", color="tab:green")
    left.axhline(best, ls="--", color="tab:green", label=f"VDM, T = {most}")
    left.set(xlabel="T", ylabel="bits per dimension, lossless", ylim=(4, 26), xlim=(2, 31))
    left.legend(fontsize=8)
    for name in ("vdm-100", "uqdm-5", "uqdm-10", "uqdm-20", "uqdm-30"):
        if name in curves:
            c = curves[name]
            label = f"{'VDM' if name[0] == 'v' else 'UQDM'}, T = {c['T']}"
            mark = "" if name[0] == "v" else "x"
            middle.plot(c["rate"], c["psnr"], marker=mark, ms=4, label=label)
            right.plot(c["rate"], c["sliced_wasserstein"], marker=mark, ms=4, label=label)
    middle.set(xlabel="rate, bits per dimension", ylabel="PSNR, dB, ancestral")
    right.set(xlabel="rate, bits per dimension", ylabel="sliced Wasserstein distance", ylim=(0, None))
    middle.legend(fontsize=8)
    figure.savefig(out / "figure2.png", dpi=110)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.6), constrained_layout=True)
    left.scatter(*swirl(1000, 1).flatten(1).T, s=3, color="black")
    left.set(title="1000 points of the source", aspect="equal")
    line(right, "uqdm", "UQDM, learned variance", marker="x", color="tab:orange")
    line(right, "fixed", "UQDM, fixed variance", marker="x", color="tab:blue")
    line(right, "over", "UQDM on a VDM's weights", marker="o", mfc="none", color="tab:red")
    line(right, "tuned", "the same, trained on", marker="s", mfc="none", color="tab:purple")
    right.set(xlabel="T", ylabel="bits per dimension, lossless", ylim=(4, 30))
    right.legend(fontsize=8)
    figure.savefig(out / "figure6.png", dpi=110)
    shown = [c for name, c in sorted(curves.items(), key=lambda item: item[1]["T"]) if name.startswith("uqdm-")]
    figure, axes = pyplot.subplots(
        1, len(shown), figsize=(2.3 * len(shown), 2.6), constrained_layout=True, squeeze=False
    )
    for one, c in zip(axes[0], shown):
        one.scatter(*np.array(c["samples"]).T, s=2, color="tab:orange")
        one.set(title=f"T = {c['T']}", xlim=(-5, 260), ylim=(-5, 260), aspect="equal", xticks=[], yticks=[])
    figure.suptitle("samples of UQDM from nothing")
    figure.savefig(out / "figure7.png", dpi=110)
    pyplot.close("all")


if __name__ == "__main__":
    main()
