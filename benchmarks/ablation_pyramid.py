"""What the parts of the family `pyramid` are worth: small models, each without one part, after
equally many steps of training.

    python benchmarks/ablation_pyramid.py VARIANT --data PACK ... --held PACK --crops FOLDER --out DIR
        [--steps 900] [--seed 0]

Printed are bits per pixel and PSNR after each step, on the held pack and on the middle 256 x 256 of
every third picture of a folder. Variants:

    base          four steps of base widths 64, 16, 4, 1, everything as in the family
    no-turns      channels do not see the errors of those before them
    no-planes     bands do not see where and how much the bands before them were wrong
    haar          the reversible Haar wavelet in the place of the 5/3
    longer        the reversible 13/7-T, which predicts from four neighbours and updates by four
    ask-all       threshold 0: every detail is asked for in every step;    ask-less: threshold 0.3
    once          one step, lossless at once;    ratio-2: seven steps of 64, 32, ..., 1
    odd           base widths 63, 21, 7, 1 and odd ratios, so that cells can be centred on 0
    aligned       the same, and they are centred there, without dither
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uqdm import files
from uqdm.config import Config, override
from uqdm.data.sources import load_pack
from uqdm.families.pyramid import lattice
from uqdm.families.pyramid.torch import model as pyramid
from uqdm.training import presets, trainer
from uqdm.training.data import load_data

NONE, COARSE, LARGE = (0, 0, 0, 0), (32, 1, 40, 1), (40, 1, 56, 1)
FIRST, MIDDLE, LAST = (NONE, (24, 1, 32, 1), COARSE), ((20, 1, 28, 1), COARSE, COARSE), (LARGE, COARSE, COARSE)
ROWS = {1: (LAST,), 4: (FIRST, MIDDLE, LAST, LAST), 7: (FIRST, FIRST, MIDDLE, MIDDLE, LAST, LAST, LAST)}


def config(bases: tuple[int, ...], threshold: float = 0.15) -> Config:
    """Of a small model."""
    base = presets.preset("photo")
    model = dataclasses.replace(base.model, bases=bases, networks=ROWS[len(bases)], threshold=threshold, ema_rate=0.99)  # type: ignore[type-var]
    return override(
        dataclasses.replace(base, model=model), {"optim.lr": 3e-3, "optim.warmup": 100, "data.batch_size": 8}
    )


def replaced(change: Callable[[pyramid.BandAnswer], pyramid.BandAnswer], cut: bool = False) -> None:
    """`answer`, changed. `cut`: without couplings."""
    whole = pyramid.answer

    def answer(offset: Tensor, stretch: Tensor, raw: Tensor, *rest: Any) -> pyramid.BandAnswer:
        if cut:
            raw = torch.cat([raw[:, : -pyramid.COUPLINGS], torch.zeros_like(raw[:, -pyramid.COUPLINGS :])], 1)
        return change(whole(offset, stretch, raw, *rest))

    pyramid.answer = answer  # type: ignore[assignment]


def haar() -> None:
    """In the place of the 5/3 wavelet."""

    def split(a: Tensor) -> tuple[Tensor, Tensor]:
        even, odd = a[..., ::2], a[..., 1::2]
        high = odd - even[..., : odd.shape[-1]]
        low = even.clone()
        low[..., : odd.shape[-1]] += torch.floor(high / 2)
        return low, high

    def join(low: Tensor, high: Tensor, exact: bool) -> Tensor:
        found = low.new_empty(*low.shape[:-1], low.shape[-1] + high.shape[-1])
        even = low.clone()
        even[..., : high.shape[-1]] -= torch.floor(high / 2) if exact else high / 2 - 0.25
        found[..., ::2], found[..., 1::2] = even, high + even[..., : high.shape[-1]]
        return found

    pyramid.split, pyramid.join = split, join
    lattice.NORMS = tuple((2.0**level, 2.0 ** (level - 1)) for level in range(lattice.MOST_LEVELS))  # type: ignore[assignment]


def _at(half: Tensor, first: int, count: int, size: int) -> Tensor:
    """Of a row of `size` values the ones at first, first + 2, ..., mirrored at both ends. `half` has
    those of their parity.
    """
    where = torch.arange(first, first + 2 * count, 2).abs()
    where = torch.where(where > size - 1, 2 * (size - 1) - where, where)
    return half[..., where.abs() // 2]


def _weighted(half: Tensor, first: int, count: int, size: int) -> Tensor:
    """9 times the inner two of four neighbours less the outer two. `first`: where the first of all
    is.
    """
    a, b, c, d = (_at(half, first + 2 * k, count, size) for k in range(4))
    return 9 * (b + c) - (a + d)


def longer() -> None:
    """The 13/7-T in the place of the 5/3 wavelet (Calderbank and others 1998). Rows of at most three
    values keep the 5/3.
    """
    short_split, short_join = pyramid.split, pyramid.join

    def split(a: Tensor) -> tuple[Tensor, Tensor]:
        size = a.shape[-1]
        if size <= 3:
            return short_split(a)
        even, odd = a[..., ::2], a[..., 1::2]
        high = odd - torch.floor((_weighted(even, -2, odd.shape[-1], size) + 8) / 16)
        return even + torch.floor((_weighted(high, -3, even.shape[-1], size) + 16) / 32), high

    def join(low: Tensor, high: Tensor, exact: bool) -> Tensor:
        size = low.shape[-1] + high.shape[-1]
        if size <= 3:
            return short_join(low, high, exact)
        sums = _weighted(high, -3, low.shape[-1], size)
        even = low - (torch.floor((sums + 16) / 32) if exact else sums / 32)
        sums = _weighted(even, -2, high.shape[-1], size)
        found = low.new_empty(*low.shape[:-1], size)
        found[..., ::2], found[..., 1::2] = even, high + (torch.floor((sums + 8) / 16) if exact else sums / 16)
        return found

    pyramid.split, pyramid.join = split, join
    lattice.NORMS = tuple(_norms(level) for level in range(1, lattice.MOST_LEVELS + 1))  # type: ignore[assignment]


def _norms(level: int) -> tuple[float, float]:
    """What an error of 1 in a coefficient of HL and of HH does to the picture (see `lattice.NORMS`)."""
    side, found = 16, []
    for band in (0, 6):
        low, details = torch.zeros(2, 3, side, side), torch.zeros(2, 9, side, side)
        details[1, band, side // 2, side // 2] = 1
        for _ in range(level):
            low = pyramid.level_up(low, details, (2 * low.shape[-1],) * 2, False)
            details = torch.zeros(2, 9, *low.shape[2:])
        found.append(float((low[1] - low[0]).square().sum().sqrt()))
    return found[0], found[1]


def odd() -> None:
    """Every width an odd multiple of the next, so that nested cells share their middles."""

    def nearest(unit: int, target: float) -> int:
        return unit * (2 * max(0, round((target / unit - 1) / 2)) + 1)

    lattice.nearest = nearest


def aligned() -> None:
    """All offsets such that a cell of every step has its middle at 0."""
    rand = torch.rand

    def middle(shape: Any, *, generator: torch.Generator, device: torch.device) -> Tensor:
        rand(1, generator=generator, device=device)
        return torch.full(shape, 0.5, device=device)

    fake = type("torch", (), {"__getattr__": lambda self, name: middle if name == "rand" else getattr(torch, name)})()
    pyramid.torch = fake  # type: ignore[attr-defined]


def prepared(variant: str) -> Config:
    """The configuration of a variant; what it replaces is replaced in this process."""
    if variant == "no-turns":
        replaced(lambda found: found, cut=True)
    elif variant == "no-planes":
        replaced(lambda found: found._replace(error=torch.zeros_like(found.error), loud=torch.zeros_like(found.loud)))
    elif variant == "haar":
        haar()
    elif variant == "longer":
        longer()
    elif variant in ("odd", "aligned"):
        odd()
        if variant == "aligned":
            aligned()
        return config((63, 21, 7, 1))
    elif variant == "once":
        return config((1,))
    elif variant == "ratio-2":
        return config((64, 32, 16, 8, 4, 2, 1))
    return config((64, 16, 4, 1), {"ask-all": 0.0, "ask-less": 0.3}.get(variant, 0.15))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--held", type=Path, required=True)
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    chosen = prepared(args.variant)
    chosen = override(
        chosen,
        {"training.eval_every_steps": 10**8, "training.checkpoint_every_steps": 300, "training.n_steps": args.steps},
    )
    data, _ = load_data(args.data, chosen.data, held=args.data[:1], seed=args.seed)
    state = trainer.train(
        chosen, data, None, args.out / f"{args.variant}-{args.seed}", steps=args.steps, seed=args.seed
    )
    model = state.averaged()
    paths = sorted(args.crops.glob("*.png"))[::3]
    crops = [
        p[(p.shape[0] - 256) // 2 :, (p.shape[1] - 256) // 2 :][:256, :256]
        for p in (files.read(path).pixels for path in paths)
    ]
    for name, pictures in (("held", list(load_pack(args.held)[::10])), ("crops", crops)):
        steps, quality = [], []
        for picture in pictures:
            x = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
            with torch.no_grad():
                terms, previews = model.coded(x, torch.Generator().manual_seed(0))
            steps.append(terms.steps[:, 0].cumsum(0).numpy())
            errors = [float((p - x.float()).square().mean()) for p in previews[1:-1]]
            quality.append([10 * np.log10(255**2 / max(e, 1e-9)) for e in errors])
        row = {
            "bits": [round(float(v), 3) for v in np.mean(steps, 0)],
            "psnr": np.mean(quality, 0).round(2).tolist() if quality[0] else [],
        }
        print(
            json.dumps(
                {"variant": args.variant, "seed": args.seed, "on": name, "seconds": round(state.seconds), **row}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
