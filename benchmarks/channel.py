"""What a VDM's Gaussian steps cost when they are really sent: coded against ideal bits, seconds,
and a UQDM's beside them.

    python benchmarks/channel.py --model RUN --data PACK [--count 10] [--size 32] [--steps 20] [--until 30 …]
        [--limits 4 6 8 10 12]
                                 [--limit 12] [--uqdm nano] [--work 4194304] [--narrow] [--threads 1] [--out FILE]

Pictures are every so many-th of the pack, cut in the middle. Each is sent
(`uqdm.research.gaussian_channel`) until the denoised prediction has `--until` dB, decoded, and
compared latent by latent. Draws are tested against q(z_s | z_t, x) (Kolmogorov and Smirnov): all
coordinates together, and each block in the one direction where a simulation that is not exact would
show. The first table is that of `--limit`, step by step; pictures that are done drop out. Then a
line for every limit, 0 being layered quantizers alone: blocks a picture, the share of them that is
not raced, bits of divergence a raced block and bits beyond, random numbers a picture.

Bits per pixel are those of the VDM (ideal), of q from what candidates are drawn from, and of the
bytes. Seconds are the process's, medians over pictures, network included. `--narrow` draws
candidates from the VDM's own p(z_s | z_t). The UQDM's files are cut where their pictures have as
many dB. All that is for the first `--until`; with `--out`, files are made for the others too, a
point each.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import uqdm
from uqdm.data.sources import load_pack
from uqdm.evaluation.curves import Curve, Point
from uqdm.evaluation.ours import trained
from uqdm.families.torch.held_out import psnr
from uqdm.families.uqdm.torch.vdm import VDM
from uqdm.research.gaussian_channel import RACE, Channel, Sent, decode, encode, kolmogorov, noise
from uqdm.training.runs import read_run


class Result:
    """All pictures under one channel."""

    def __init__(self, model: VDM, pictures: torch.Tensor, channel: Channel, until: float) -> None:
        self.model, self.channel, self.pixels = model, channel, pictures[0, 0].numel()
        self.sent: list[Sent] = []
        self.encoding, self.decoding, self.wrong, noises = [], [], 0, []
        for i, x in enumerate(pictures):
            own = replace(channel, seed=channel.seed + i)
            begin = time.process_time()
            one = encode(model, x[None], own, until)
            middle = time.process_time()
            arrived = decode(model, one.data, tuple(x.shape), own)
            self.encoding.append(middle - begin)
            self.decoding.append(time.process_time() - middle)
            self.wrong += len(arrived) != len(one.latents) or not all(map(torch.equal, arrived, one.latents))
            self.sent.append(one)
            if one.steps:
                noises.append(noise(model, x[None], one.latents, channel.steps).reshape(-1))
        self.blocks = [b for one in self.sent for b in one.blocks]
        self.coordinates = kolmogorov(np.concatenate(noises))
        self.directions = kolmogorov(np.array([b.score for b in self.blocks]))

    def bpp(self, name: str, steps: int | None = None) -> float:
        return float(np.mean([sum(getattr(s, name) for s in one.steps[:steps]) for one in self.sent])) / self.pixels

    def bytes_bpp(self) -> float:
        return float(np.mean([8 * len(one.data) for one in self.sent])) / self.pixels

    def point(self, until: float) -> Point:
        """All pictures, in files."""
        quality = float(np.mean([one.quality[-1] for one in self.sent]))
        seconds = [statistics.median(times) for times in (self.encoding, self.decoding)]
        return Point(
            f"until {until:g} dB",
            len(self.sent),
            self.bytes_bpp(),
            None,
            0,
            quality,
            None,
            encode=seconds[0],
            decode=seconds[1],
        )

    def line(self) -> str:
        ideal, real, raced = self.bpp("ideal"), self.bytes_bpp(), [b for b in self.blocks if b.kind == RACE]
        over = np.mean([b.coded - b.divergence for b in raced]) if raced else float("nan")
        per = np.mean([b.divergence for b in raced]) if raced else float("nan")
        share = 1 - len(raced) / len(self.blocks)
        return (
            f"{self.channel.limit:5g} {ideal:8.3f} {self.bpp('divergence'):8.3f} {real:8.3f} {real / ideal:7.3f}"
            f" {np.mean([one.quality[-1] for one in self.sent]):6.2f} {len(self.blocks) / len(self.sent):7.1f}"
            f" {share:8.2%} {per:7.2f} {over:7.2f} {sum(b.numbers for b in self.blocks) / len(self.sent):10.2e}"
            f" {statistics.median(self.encoding):8.2f} {statistics.median(self.decoding):8.2f}  "
            f" {self.coordinates[1]:6.3f} {self.directions[1]:6.3f} {self.wrong:4d}"
        )

    def table(self, pictures: torch.Tensor) -> str:
        rows = [
            (
                "after   pictures    ideal  diverg.    coded   ratio   denoised    flow      numbers   seconds (without"
                " network)"
            ),
        ]
        for index in range(max(len(one.steps) for one in self.sent) + 1):
            here = [(one, x) for one, x in zip(self.sent, pictures) if len(one.steps) >= index]
            ideal, divergence, coded = (
                float(np.mean([sum(getattr(s, name) for s in one.steps[:index]) for one, _ in here])) / self.pixels
                for name in ("ideal", "divergence", "coded")
            )
            flow = [
                float(psnr(self.model.flow(one.latents[index], index, self.channel.steps), self.model.to_real(x[None])))
                for one, x in here
            ]
            looked = np.mean([sum(b.numbers for b in one.blocks if b.step == index - 1) for one, _ in here])
            seconds = np.mean([one.steps[index - 1].seconds if index else 0.0 for one, _ in here])
            rows.append(
                f"step {index:2d} {len(here):9d} {ideal:8.3f} {divergence:8.3f} {coded:8.3f}"
                f" {coded / ideal if index else 1:7.3f} {np.mean([one.quality[index] for one, _ in here]):10.2f}"
                f" {np.mean(flow):7.2f} {looked:12.3g} {seconds:9.2f}"
            )
        return "\n".join(rows)


def beside(name: str, pictures: torch.Tensor, decibels: float, threads: int) -> str:
    """A UQDM's bits and seconds for the same pictures, its files cut where they have `decibels` on
    average.
    """
    codec = uqdm.load(name, threads=threads)
    pixels = [p.numpy() for p in pictures.permute(0, 2, 3, 1)]
    codec.decompress(codec.compress(pixels[0]))  # warms up
    files, encoding, decoding = [], [], []
    for p in pixels:
        begin = time.process_time()
        files.append(codec.compress(p))
        encoding.append(time.process_time() - begin)

    def quality(share: float) -> tuple[float, float]:
        cut = [data[: max(64, round(share * len(data)))] for data in files]
        found = [d.image for d in codec.decode_many(cut)]
        each = [10 * np.log10(255**2 / max(((f.astype(float) - p) ** 2).mean(), 1e-5)) for f, p in zip(found, pixels)]
        return float(np.mean(each)), float(np.mean([8 * len(c) for c in cut])) / pixels[0][..., 0].size

    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if quality(middle)[0] >= decibels else (middle, high)
    reached, bpp = quality(high)
    for data in files:
        begin = time.process_time()
        codec.decode_many([data[: max(64, round(high * len(data)))]])
        decoding.append(time.process_time() - begin)
    return (
        f"{codec.name}, {codec.arithmetic}: {bpp:.3f} bits per pixel in files cut at {high:.1%}, {reached:.2f} dB;"
        f" seconds a picture {statistics.median(encoding):.3f} to encode (all of it), {statistics.median(decoding):.3f}"
        " to decode"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a training run of a VDM")
    parser.add_argument("--data", type=Path, required=True, help="pack of pictures")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--limit", type=float, default=12.0, help="bits of divergence of a block, at most")
    parser.add_argument("--limits", type=float, nargs="*", default=[], help="others to compare")
    parser.add_argument("--until", type=float, nargs="+", default=[30.0], help="dB of the denoised prediction")
    parser.add_argument("--work", type=int, default=Channel.work, help="random numbers that a block is worth")
    parser.add_argument("--narrow", action="store_true", help="candidates of the VDM's own variance")
    parser.add_argument("--uqdm", help="name or folder of a model to compare with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="points as a results.json, for `uqdm evaluate --beside`")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    model = read_run(a.model)
    if not isinstance(model, VDM):
        parser.error(f"--model {a.model} is a {model.config.family}; expected a vdm")
    pack = load_pack(a.data)
    pack = pack[:: max(1, len(pack) // a.count)][: a.count]
    top, left = (pack.shape[1] - a.size) // 2, (pack.shape[2] - a.size) // 2
    pictures = torch.from_numpy(pack[:, top : top + a.size, left : left + a.size].transpose(0, 3, 1, 2).copy())
    channel = Channel(a.steps, a.limit, not a.narrow, a.work)
    until, *others = a.until
    print(
        f"{a.model.name} ({a.data.name}, {len(pictures)} pictures of {a.size} x {a.size}), T = {a.steps}, until"
        f" {until:g} dB, candidates {'narrow' if a.narrow else 'widened'}, work {a.work}, {a.threads} threads",
        flush=True,
    )
    main_result = Result(model, pictures, channel, until)
    print(main_result.table(pictures))
    print(
        "\nlimit    ideal  diverg.    bytes   ratio     dB  blocks not raced a block    over    numbers   encode  "
        " decode   KS, p: coordinates, directions; wrong"
    )
    print(main_result.line(), flush=True)
    results = [main_result]
    if a.out:
        points = [main_result.point(until)]
        for other in others:
            results.append(Result(model, pictures, channel, other))
            points.append(results[-1].point(other))
            print(results[-1].line(), flush=True)
        label = f"VDM, T = {a.steps}, channels simulated, crops of {a.size} x {a.size}{trained(str(a.model))}"
        curve = Curve("vdm-channel", label, tuple(sorted(points, key=lambda p: p.bpp)), progressive=True)
        a.out.write_text(
            json.dumps({"conditions": {"data": str(a.data.name)}, "curves": [curve.to_json()]}, indent=1) + "\n"
        )
    for limit in a.limits:
        if limit != a.limit:
            results.append(Result(model, pictures, replace(channel, limit=limit), until))
            print(results[-1].line(), flush=True)
    if a.uqdm:
        print("\n" + beside(a.uqdm, pictures, float(np.mean([one.quality[-1] for one in main_result.sent])), a.threads))
    sys.exit(any(r.wrong for r in results))


if __name__ == "__main__":
    main()
