"""How many steps a UQDM should have: T compared at equal training, the question of section 5 (the
paper finds 4 best).

Every T and every seed is a run of the preset `half` (half resolution, under 0.1 M multiply-adds a
pixel and call), on random crops of 32 x 32 with the single-step estimate: one network call a
picture whatever T is, so equal epochs are equal work. Printed is the negative ELBO of the averages
over central crops of held-out pictures, mean and spread over seeds. The same command resumes.

    python benchmarks/timesteps.py POOL... --held DEV --out RUNS --epochs 4
"""

import argparse
import json
import statistics
from pathlib import Path

import torch

from uqdm.config import override
from uqdm.families.uqdm.torch.held_out import evaluate
from uqdm.training import runs
from uqdm.training.data import load_data
from uqdm.training.presets import preset
from uqdm.training.trainer import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="pictures to train on")
    parser.add_argument("--held", required=True, help="pictures to evaluate on, of which every fifth is taken")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 4, 8], help="values of T")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the preset")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    changes = dict(one.split("=", 1) for one in a.set)
    found: dict[int, list[float]] = {t: [] for t in a.steps}
    for seed in range(a.seeds):
        for t in a.steps:
            config = override(preset("half"), {"n_timesteps": t, "decay": "cosine", **changes})
            data, held = load_data(a.data, config.data, held=a.held, seed=seed)
            count = round(a.epochs * len(data))
            every = {
                "checkpoint_every_steps": 200,
                "log_metrics_every_steps": 100,
                "eval_every_steps": count,
                "n_steps": count,
            }
            out = a.out / f"T{t}-seed{seed}"
            begun = train(override(config, every), data, None, out, steps=count, seed=seed)
            result = evaluate(runs.read_run(out), (b for b in held_of(held)), seed=0)
            found[t].append(result.bits[-1])
            row = {
                "T": t,
                "seed": seed,
                "steps": count,
                "seconds": round(begun.seconds),
                "bits": result.bits,
                "pictures": result.pictures,
            }
            print(json.dumps(row), flush=True)
    network = runs.new_model(config).network
    work = sum(network.multiply_adds(config.data.crop, config.data.crop))
    print(
        f"{work / 1e3:.1f} k multiply-adds a pixel and call; {a.epochs:g} epochs of {len(data.pictures)} crops,"
        f" {a.seeds} seeds"
    )
    for t, values in found.items():
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        print(
            f"T = {t}: {statistics.mean(values):.3f} +- {spread:.3f} bits/pixel ({statistics.mean(values) / 3:.3f}"
            " bits/dim)"
        )


def held_of(held) -> list[torch.Tensor]:
    """Every fifth picture, in batches."""
    return list(torch.split(torch.cat(list(held))[::5], 25))


if __name__ == "__main__":
    main()
