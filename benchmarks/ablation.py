"""What each part of the nested model is worth: small networks, the same data, seed and training
time, one thing changed at a time.

Every row is a model of its own, trained from the beginning for `--minutes` of one core on crops of
32 x 32 and scored on held-out pictures: ideal code length in bits per pixel, no files. The base has
four steps of ratio 9 in YCoCg-R, nested dither, truncated densities, four passes, mixtures of 3, a
network for each step. The same command goes on after the last row that is in OUT.

    python benchmarks/ablation.py POOL... --held DEV --out ablation.json --minutes 3
"""

import argparse
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uqdm import atomic
from uqdm.config import override
from uqdm.families.nested.torch import model as nested
from uqdm.families.nested.torch.model import FloatPass, FloatStep, Nested
from uqdm.families.torch.cells import FloatCells, FloatMixture
from uqdm.training.data import load_data
from uqdm.training.presets import PRESETS

BATCH, CROP, RATE = 12, 32, 4e-3
LADDER = [[405, 1053, 891], [135, 351, 297], [45, 117, 99], [15, 39, 33], [5, 13, 11], [1, 1, 1]]


def shape(trunk: list[int], own: list[int], first: int = 24, steps: int = 4) -> dict[str, Any]:
    """Every step's channels and blocks, but for the first's."""
    return {"trunks": [[0, 0]] + [trunk] * (steps - 1), "passes": [[first, 0]] + [own] * (steps - 1)}


BASE = shape([32, 1], [32, 1])


# ---- variants: what is changed in a model, in a process of its own ----


def fresh(model: Nested) -> None:
    """A new offset for every step: boxes are intersections of intervals, as in a UQDM."""

    def levels(v: Tensor, generator: torch.Generator) -> list[FloatCells]:
        found = [nested.everything(v)]
        for widths in model.widths[:-1]:
            new = nested.cells(v, nested.offsets(tuple(v.shape), widths, generator), widths)
            found.append(FloatCells(torch.maximum(found[-1].low, new.low), torch.minimum(found[-1].high, new.high)))
        return [*found, FloatCells(v, v)]

    model.levels = levels  # type: ignore[method-assign]


def untruncated(model: Nested) -> None:
    """Densities keep the mass outside the parent, as the paper's do."""
    FloatMixture.truncated_bits = lambda self, parent, child: -self._log_mass(child) / math.log(2)  # type: ignore[method-assign]


def paper(model: Nested) -> None:
    """Both."""
    fresh(model)
    untruncated(model)


def rgb(model: Nested) -> None:
    """No colour transform."""
    nested.coordinates = lambda x: x.float()
    nested.RANGE, nested.MIDDLE = ((0, 255),) * 3, (127.5,) * 3
    for step in model.steps:
        step.middle.fill_(127.5)
    model.steps[0].width.fill_(255)


def shared(model: Nested) -> None:
    """One network for all steps but the first, told the widths by its features alone."""
    one = model.steps[1]
    for step in model.steps[2:]:
        step.passes, step.enter, step.body = one.passes, one.enter, one.body


def grouped(groups: tuple[tuple[int, ...], ...]) -> Callable[[Nested], None]:
    """Passes of several phases each, all of whose coordinates are told at once."""

    def gather(x: Tensor, group: tuple[int, ...]) -> Tensor:
        return torch.cat([nested.phase(x, k) for k in group], 1)

    def bits(step: FloatStep, trunk: Tensor | None, parent: FloatCells, child: FloatCells) -> tuple[Tensor, Tensor]:
        low, high = parent.low.clone(), parent.high.clone()
        total = low.new_zeros(len(low))
        for own, group in zip(step.passes, groups):
            centre, detail, features = step.features(FloatCells(low, high))
            seen = torch.nn.functional.pixel_unshuffle(detail if step.channels else features, 2)
            width = step.width.repeat(1, len(group), 1, 1)
            mixture = own(trunk, seen, gather(centre, group), gather(detail, group), width)
            ends = [FloatCells(gather(c.low, group), gather(c.high, group)) for c in (parent, child)]
            total = total + mixture.truncated_bits(*ends).sum((1, 2, 3))
            low, high = low.clone(), high.clone()
            for k in group:
                nested.phase(low, k).copy_(nested.phase(child.low, k))
                nested.phase(high, k).copy_(nested.phase(child.high, k))
        return total / low[0, 0].numel(), torch.zeros_like(low)

    def change(model: Nested) -> None:
        for step, own in zip(model.steps, model.config.model.passes):
            inputs = (4 if step.channels else 12) * 3
            passes = [
                FloatPass(step.channels, inputs, own, 3 * len(group), model.config.model.n_mixtures) for group in groups
            ]
            step.passes = torch.nn.ModuleList(passes)
        FloatStep.bits = bits  # type: ignore[method-assign]

    return change


ROWS: dict[str, tuple[dict[str, Any], Callable[[Nested], None] | None]] = {
    "base": ({}, None),
    "fresh dither": ({}, fresh),
    "untruncated": ({}, untruncated),
    "fresh and untruncated, as the paper": ({}, paper),
    "RGB": ({"widths": [[729] * 3, [81] * 3, [9] * 3, [1] * 3]}, rgb),
    "one pass": (shape([32, 1], [72, 1], 48), grouped(((0, 1, 2, 3),))),
    "two passes": (shape([32, 1], [48, 1], 34), grouped(((0, 1), (2, 3)))),
    "single logistics": ({"n_mixtures": 1}, None),
    "ratio 3, six steps": ({"widths": LADDER} | shape([24, 1], [24, 1], 24, 6), None),
    "shared network": ({}, shared),
    "shared network, twice as wide": (shape([48, 1], [48, 1]), shared),
    "narrow": (shape([20, 1], [20, 1]), None),
    "wide": (shape([48, 1], [64, 1]), None),
    "shallow": (shape([48, 0], [64, 0]), None),
    "deep": (shape([24, 2], [24, 2]), None),
}


def fresh_model(name: str, seed: int) -> Nested:
    """A row's, before training. For a process of its own, single-threaded from here on: variants
    change what a module does.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    changes, change = ROWS[name]
    model = Nested(override(PRESETS["nano"], BASE | changes | {"batch_size": BATCH, "crop": CROP}))
    if change is not None:
        change(model)
    return model


def all_bits(model: Nested, x: Tensor, generator: torch.Generator) -> Tensor:
    """(T, B) bits a pixel."""
    levels = model.levels(nested.coordinates(x), generator)
    return torch.stack([step.bits(step.trunk(a), a, b)[0] for step, (a, b) in zip(model.steps, pairwise(levels))])


def perform(name: str, data: list[str], held: str, minutes: float, seed: int) -> dict[str, Any]:
    """Trains and scores one row."""
    model = fresh_model(name, seed)
    config = model.config
    train, test = load_data(data, config.data, held=held, seed=seed)
    pictures = torch.cat(list(test))[::5]
    optimiser = torch.optim.Adam(model.parameters(), RATE, betas=(0.9, 0.98))
    average = {k: p.detach().clone() for k, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(seed)
    stream = train.ahead(0)
    count, spent, clock = 0, 0.0, time.thread_time()
    while spent < 60 * minutes:
        share = spent / (60 * minutes)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (count + 1) / 100) * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=share < 0.9):
            loss = all_bits(model, next(stream), generator).mean(1).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        count += 1
        with torch.no_grad():
            for k, p in model.named_parameters():
                average[k].lerp_(p, 1 - min(0.999, (1 + count) / (10 + count)))
        now = time.thread_time()
        spent, clock = spent + now - clock, now
    stream.close()
    with torch.no_grad():
        for k, p in model.named_parameters():
            p.copy_(average[k])
        bits = torch.cat([all_bits(model, x, generator) for x in pictures.split(10)], 1)
    return {"steps": bits.mean(1).tolist(), "multiply_adds": model.multiply_adds(), "iterations": count}


def clocked(name: str) -> float:
    """Median seconds of a row's code lengths over one picture of 64 x 64, one thread."""
    model, generator, x = (
        fresh_model(name, 0),
        torch.Generator().manual_seed(0),
        torch.randint(0, 256, (1, 3, 64, 64)).byte(),
    )
    found = []
    with torch.no_grad():
        for _ in range(21):
            begin = time.perf_counter()
            all_bits(model, x, generator)
            found.append(time.perf_counter() - begin)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="pictures to train on")
    parser.add_argument("--held", required=True, help="pictures to score on, of which every fifth is taken")
    parser.add_argument("--out", type=Path, required=True, help="results, JSON")
    parser.add_argument("--minutes", type=float, default=3, help="of a core, for each row")
    parser.add_argument("--rows", nargs="*", choices=[*ROWS], default=[*ROWS])
    parser.add_argument("--jobs", type=int, default=1, help="rows at once")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    about = {"minutes": a.minutes, "seed": a.seed, "batch": BATCH, "crop": CROP}
    found: dict[str, Any] = {}
    if a.out.exists():
        record = json.loads(a.out.read_text())
        if record["about"] != about:
            parser.error(f"{a.out} holds rows of {record['about']}, not {about}; give another file")
        found = record["rows"]
    todo = [name for name in a.rows if name not in found]
    with multiprocessing.get_context("spawn").Pool(a.jobs, maxtasksperchild=1) as pool:
        jobs = {name: pool.apply_async(perform, (name, a.data, a.held, a.minutes, a.seed)) for name in todo}
        for name, job in jobs.items():
            found[name] = job.get()
            atomic.write(a.out, json.dumps({"about": about, "rows": found}, indent=1))
            print(name, [round(b, 3) for b in found[name]["steps"]], flush=True)
        seconds = {name: pool.apply(clocked, (name,)) for name in found}  # one after the other: nothing else runs
    base = sum(found["base"]["steps"]) if "base" in found else float("nan")
    print("\n| row | bits/pixel by step | all | against base | k multiply-adds a pixel | iterations | ms, 64 x 64 |")
    print("|---|---|---|---|---|---|---|")
    for name in ROWS:
        if name in found:
            r, total = found[name], sum(found[name]["steps"])
            steps, work = ", ".join(f"{b:.3f}" for b in r["steps"]), r["multiply_adds"] / 1e3
            print(
                f"| {name} | {steps} | {total:.3f} | {total - base:+.3f} | {work:.0f} | {r['iterations']:,} |"
                f" {1e3 * seconds[name]:.0f} |"
            )


if __name__ == "__main__":
    main()
