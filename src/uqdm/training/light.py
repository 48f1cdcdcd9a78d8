"""Trains `uqdm-light`, the embedded default model, on the loss of the mode it ships in (`tight`).

Any state of the walk is a closed-form function of the picture and the dither: the box known before step i is the
intersection of i - 1 dithered intervals. So each step has its own network and its own loss, one network call per sample
is an unbiased estimate of that step's bits, and steps train side by side, one process and one thread each:

    python -m uqdm.training.light train --data PACKS... --dev PACK --out RUN --step 4 --minutes 97
    python -m uqdm.training.light package --run RUN --out uqdm-light

With `--mixed 0.25` a quarter of the samples are states in the middle of the step before: the coordinates that a file sends first
(largest predicted scale, `PRIORITY`) know that step's interval, the others do not yet; each is asked for what it learns next. So
a network also makes previews of files cut inside a step. `--start MODEL` begins with a packaged model's weights.

Progress is counted in core-minutes of the process itself; the same command resumes. A checkpoint holds weights, their
moving average, the optimiser and the clock, and is written beside and renamed.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uqdm import atomic, library
from uqdm import bundle as package
from uqdm.bundle import Package, hexadecimal
from uqdm.data.sources import load_pack
from uqdm.families import colour, order
from uqdm.families.uqdm.constants import diffusion_constants
from uqdm.families.uqdm.torch.convnet import StepNet, truncated_bits

GAMMA_MAX, GAMMA_MIN, STEPS = 5.4, -12.2, 4
SCALE = (0.577 * 128, 1.414 * 128, 1.155 * 128)  # YCoCg-R channels, equal error in RGB
MIDDLE = (127.5, 0.0, 0.0)
RANGE = tuple(zip(colour.LOWEST["ycocg-r"], colour.HIGHEST["ycocg-r"]))
NETWORKS = {1: (0, 0), 2: (64, 3), 3: (96, 3), 4: (96, 3)}  # step -> (channels, blocks)
# Added to log2 of a coordinate's scale for its turn inside a step, in eighths: what an error of one in Y, Co, Cg does to RGB.
PRIORITY = (6, -4, -2)
Box = tuple[Tensor, Tensor]


def widths() -> list[list[float]]:
    """Box widths in pixel units, [step][channel], steps 1 .. T - 1: 128-scaled sqrt(12 / e) sigma_s / alpha_s."""
    gap = (GAMMA_MAX - GAMMA_MIN) / STEPS
    e = -math.expm1(-gap)
    return [[g * math.sqrt(12 / e) * math.exp((GAMMA_MAX - gap * s) / 2) for g in SCALE] for s in range(1, STEPS)]


def coordinates(rgb: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 pictures -> (N, 3, H, W) float32 integer values of YCoCg-R."""
    return colour.forward(rgb.transpose(0, 3, 1, 2), "ycocg-r").astype(np.float32)


class Crops:
    """Random crops with flips, all from one seed: three of four from the 64-pixel packs where there are others."""

    def __init__(self, packs: list[np.ndarray], size: int, seed: int) -> None:
        self.packs = packs
        self.size = size
        self.random = np.random.default_rng(seed)

    def batch(self, n: int) -> Tensor:
        """(n, 3, size, size) float32, integer values."""
        out = np.empty((n, self.size, self.size, 3), np.uint8)
        small = [p for p in self.packs if p.shape[1] == 64]
        large = [p for p in self.packs if p.shape[1] != 64] or small
        for i in range(n):
            group = small if self.random.random() < 0.75 and small else large
            counts = np.array([len(p) for p in group], float)
            pack = group[self.random.choice(len(group), p=counts / counts.sum())]
            y, x = (int(self.random.integers(0, d - self.size + 1)) for d in pack.shape[1:3])
            crop = pack[self.random.integers(len(pack)), y : y + self.size, x : x + self.size]
            out[i] = crop[:, ::-1] if self.random.random() < 0.5 else crop
        return torch.from_numpy(coordinates(out))


def boxes(v: Tensor, before: list[list[float]], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Universal quantization's intervals around v, one fresh dither each, intersected: integers (low, high)."""
    low = torch.tensor([r[0] for r in RANGE], dtype=v.dtype).view(1, 3, 1, 1).expand_as(v)
    high = torch.tensor([r[1] for r in RANGE], dtype=v.dtype).view(1, 3, 1, 1).expand_as(v)
    for width in before:
        w = torch.tensor(width, dtype=v.dtype).view(1, 3, 1, 1)
        start = v - w * torch.rand(v.shape, generator=generator, dtype=v.dtype)
        low, high = torch.maximum(low, torch.ceil(start)), torch.minimum(high, torch.ceil(start + w) - 1)
    return torch.minimum(low, v), torch.maximum(high, v)  # a guard against rounding at an interval's very edge


def turns(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """(B, 1, H, W) places of the pixels in `families.order.lattice`, as shares 0 .. 1; the lattice is shifted by chance."""
    h, w = shape[-2:]
    turn = np.empty(h * w, np.float32)
    turn[order.lattice(h, w)] = np.arange(h * w) / (h * w)
    shifts = torch.randint(h * w, (shape[0],), generator=generator).tolist()
    return torch.stack([torch.roll(torch.from_numpy(turn.reshape(h, w)), divmod(s, w), (0, 1)) for s in shifts])[:, None]


def mixed_boxes(before: Box, after: Box, previous: StepNet, generator: torch.Generator, bf16: bool) -> Tensor:
    """Which coordinates (B, 3, H, W) know `after` where a file is cut inside the step that takes `before` to it, at a random share."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        scale = previous(*before)[1].float() / math.log(2) * 8 + torch.tensor(PRIORITY).view(1, 3, 1, 1)
    certain = before[0] == before[1]
    turn = scale - 1e-3 * turns(scale.shape, generator)
    turn = turn.masked_fill(certain, math.inf)
    cut = torch.rand(len(turn), generator=generator)
    return torch.stack([t >= torch.quantile(t.flatten(), q) for t, q in zip(turn, cut)])


def step_bits(
    net: StepNet, v: Tensor, step: int, generator: torch.Generator, bf16: bool = False, previous: StepNet | None = None, mixed: int = 0
) -> Tensor:
    """Bits of step `step` (1 .. T) for every coordinate of v (B, 3, H, W); the first `mixed` are in the middle of the step before."""
    table = widths()

    def narrow(box: Box, step: int) -> Box:
        child = boxes(v, table[step - 1 : step], generator) if step < STEPS else (v, v)
        return torch.maximum(child[0], box[0]), torch.minimum(child[1], box[1])

    if previous is not None and mixed:
        before = boxes(v, table[: step - 2], generator)
        box = narrow(before, step - 1)
        there = mixed_boxes((before[0][:mixed], before[1][:mixed]), (box[0][:mixed], box[1][:mixed]), previous, generator, bf16)
        there = torch.cat([there, torch.ones_like(v[mixed:], dtype=torch.bool)])
        child = narrow(box, step)
        child = torch.where(there, child[0], box[0]), torch.where(there, child[1], box[1])
        box = torch.where(there, box[0], before[0]), torch.where(there, box[1], before[1])
    else:
        box = boxes(v, table[: step - 1], generator)
        child = narrow(box, step)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        location, log_scale = net(*box)
    return truncated_bits(location.float(), log_scale.float().clamp(-3.5, 6.5), *box, *child)


def evaluate(net: StepNet, step: int, dev: Tensor, seed: int = 7) -> float:
    """Mean bits per pixel of the step over dev pictures."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return float(np.mean([float(step_bits(net, v[None], step, generator).sum()) / v[0].numel() for v in dev]))


def new_net(step: int) -> StepNet:
    width = widths()[step - 2] if step > 1 else [255.0, 510.0, 510.0]
    return StepNet(width, list(MIDDLE), *NETWORKS[step])


def _weights(model: Path, step: int) -> dict[str, Tensor]:
    """A packaged model's weights of one step."""
    prefix = f"{step - 1}."
    weights = package.read(library.find(model)).weights
    return {name.removeprefix(prefix): torch.from_numpy(array).float() for name, array in weights.items() if name.startswith(prefix)}


def train(
    step: int,
    data: list[Path],
    dev_path: Path,
    out: Path,
    minutes: float,
    seed: int,
    batch: int = 16,
    size: int = 32,
    rate: float = 2e-3,
    start: Path | None = None,
    mixed: float = 0.0,
) -> None:
    torch.set_flush_denormal(True)  # denormals make an evaluation thirty times slower
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    packs = [load_pack(path) for path in data]
    dev = torch.from_numpy(coordinates(load_pack(dev_path)[::5]))
    net = new_net(step)
    previous = new_net(step - 1) if step > 1 and mixed else None
    if start is not None:
        for number, one in ((step, net), (step - 1, previous)):
            if one is not None:
                one.load_state_dict(_weights(start, number))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(net.parameters(), rate, betas=(0.9, 0.98))
    average = {k: p.detach().clone() for k, p in net.named_parameters()}
    done, count = 0.0, 0
    window: list[float] = []
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"step{step}.pt"
    if path.exists():
        record = torch.load(path, weights_only=True)
        net.load_state_dict(record["net"])
        optimiser.load_state_dict(record["optimiser"])
        average, done, count = record["average"], record["minutes"], record["iterations"]
    crops = Crops(packs, size, seed + 1000 * step + count)
    generator = torch.Generator().manual_seed(seed + 1000 * step + count)

    def save() -> None:
        record = {"net": net.state_dict(), "average": average, "optimiser": optimiser.state_dict(), "minutes": done, "iterations": count}
        with atomic.opened(path) as file:
            torch.save(record, file)

    def report() -> None:
        kept = {k: p.detach().clone() for k, p in net.named_parameters()}
        net.load_state_dict(average, strict=False)
        bpp = evaluate(net, step, dev)
        net.load_state_dict(kept, strict=False)
        row = {
            "step": step,
            "minutes": round(done, 2),
            "iterations": count,
            "train_bpp": round(float(np.mean(window)), 4),
            "dev_bpp": round(bpp, 4),
        }
        print(json.dumps(row), flush=True)
        with open(out / f"step{step}.jsonl", "a") as log:
            log.write(json.dumps(row) + "\n")
        window.clear()

    clock, next_report = time.process_time(), done + 1
    while done < minutes:
        fraction = done / minutes
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (count + 1) / 300) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))
        loss = (
            step_bits(
                net,
                crops.batch(batch).contiguous(memory_format=torch.channels_last),
                step,
                generator,
                bf16=fraction < 0.9,
                previous=previous,
                mixed=round(mixed * batch),
            )
            .sum(1)
            .mean()
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        count += 1
        window.append(float(loss.detach()))
        if not math.isfinite(window[-1]):
            raise SystemExit(f"step {step}: the loss is {window[-1]} at iteration {count}; {path} holds the last good state")
        decay = min(0.9995, (1 + count) / (10 + count))
        with torch.no_grad():
            for k, p in net.named_parameters():
                average[k].lerp_(p, 1 - decay)
        now = time.process_time()
        done, clock = done + (now - clock) / 60, now
        if done >= next_report:
            save()
            report()
            clock, next_report = time.process_time(), done + max(2.0, minutes / 25)
    save()
    if window:
        report()


def to_package(run: Path, out: Path, force: bool = False, start: Path | None = None, mixed: bool = False) -> Path:
    """A run's averaged weights, as 16-bit floats, and the schedule's constants to the model folder `out`.

    Steps that the run has not come from the model `start`. `mixed`: whether all but the first were trained on mixed states.
    """
    weights, steps, trained = {}, [], {}
    for step, (channels, blocks) in sorted(NETWORKS.items()):
        net = new_net(step)
        if start is not None and not (run / f"step{step}.pt").exists():
            record: dict[str, Any] = {"average": _weights(start, step), "minutes": 0.0, "iterations": 0}
        else:
            record = torch.load(run / f"step{step}.pt", weights_only=True)
        for name, tensor in record["average"].items():
            weights[f"{step - 1}.{name}"] = tensor.float().contiguous().numpy().astype(np.float16)
        width, middle = net.width.flatten().double().tolist(), net.middle.flatten().double().tolist()
        steps.append({"channels": channels, "blocks": blocks, "width": hexadecimal(width), "middle": hexadecimal(middle)})
        trained[str(step)] = {
            "core_minutes": round(record["minutes"], 1),
            "iterations": record["iterations"],
            "multiply_adds_per_pixel": net.multiply_adds(),
        }
    gap = (GAMMA_MAX - GAMMA_MIN) / STEPS
    gamma = [GAMMA_MAX - gap * i for i in range(STEPS + 1)]
    constants = diffusion_constants(gamma, "ycocg-r", list(MIDDLE), list(SCALE), list(PRIORITY))
    about = {"description": "UQDM, T = 4, YCoCg-R, convolutions at half resolution; the embedded default", "training": trained}
    network = {"kind": "convnet", "mixed": mixed, "steps": steps}
    return package.write(Package(out.name, "uqdm", network, constants, weights, about), out, force)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m uqdm.training.light", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    trainer = commands.add_parser("train", help="train one step's network; the same command resumes")
    trainer.add_argument("--data", type=Path, nargs="+", required=True, help="packs of pictures")
    trainer.add_argument("--dev", type=Path, required=True, help="a pack that is never trained on; every fifth picture is scored")
    trainer.add_argument("--out", type=Path, required=True, help="folder of the run")
    trainer.add_argument("--step", type=int, required=True, choices=sorted(NETWORKS))
    trainer.add_argument("--minutes", type=float, required=True, help="core-minutes of this process, from the run's beginning")
    trainer.add_argument("--seed", type=int, default=0)
    trainer.add_argument("--rate", type=float, default=2e-3, help="learning rate at its highest")
    trainer.add_argument("--start", type=Path, help="a packaged model whose weights to begin with")
    trainer.add_argument("--mixed", type=float, default=0.0, help="share of samples in the middle of the step before")
    trainer.set_defaults(run=lambda a: train(a.step, a.data, a.dev, a.out, a.minutes, a.seed, rate=a.rate, start=a.start, mixed=a.mixed))
    packer = commands.add_parser("package", help="a run's four checkpoints to a model folder")
    packer.add_argument("--run", dest="folder", type=Path, required=True)
    packer.add_argument("--out", type=Path, required=True)
    packer.add_argument("--start", type=Path, help="a packaged model for the steps that the run has not")
    packer.add_argument("--mixed", action="store_true", help="the networks were trained with --mixed")
    packer.add_argument("--force", action="store_true")
    packer.set_defaults(run=lambda a: print(to_package(a.folder, a.out, a.force, a.start, a.mixed)))
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
