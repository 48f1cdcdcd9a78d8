"""What a model's steps cost, and how good its pictures are: eq. 1 term by term, for a published
checkpoint or a run of `uqdm train`.

Pictures are every `--every`th of the pack, at most `--limit`, cut in the middle to `--crop`.
Printed are means over pictures and draws of the cumulative bits per pixel, and of the PSNR per
picture of what is asked for: the denoised prediction x_hat, ancestral samples, the flow; after the
last step the likeliest pixel values given z_0. Of families of cells (nested, pyramid): one draw,
and posterior means. Of a VDM the rate is hypothetical, an ideal simulation of the Gaussian channel:
its rows "ancestral" and "flow" are DiffC-A and DiffC-F. `--over` runs a VDM's weights as a UQDM of
fixed variance.

    python benchmarks/nelbo.py uqdm-tiny --data imagenet64-dev.zip --reading ema --draws 3
    python benchmarks/nelbo.py checkpoints/photo --data kodak --every 3 --crop 256
    python benchmarks/nelbo.py runs/tiny-vdm --data imagenet64-dev.zip --steps 20 --show ancestral flow --limit 20
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from uqdm import files
from uqdm.data.sources import load_pack
from uqdm.families import registry
from uqdm.families.torch.held_out import RECONSTRUCTIONS, Evaluation
from uqdm.families.uqdm.torch.held_out import evaluate
from uqdm.families.uqdm.torch.model import UQDM
from uqdm.training.runs import read_folder


def read(path: Path, every: int, limit: int | None, crop: int | None) -> NDArray[np.uint8]:
    """Pictures of one size, (n, h, w, 3)."""
    if path.is_dir():
        found = [files.read(file).pixels for file in sorted(path.glob("*.png"))[::every][:limit]]
    else:
        found = list(load_pack(path)[::every][:limit])
    if crop:
        found = [
            x[(y := (x.shape[0] - crop) // 2) : y + crop, (z := (x.shape[1] - crop) // 2) : z + crop] for x in found
        ]
    return np.stack(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder with config.json and checkpoint.pt, or of a run")
    parser.add_argument("--data", type=Path, required=True, help="pack of pictures, or a folder of PNG files")
    parser.add_argument("--reading", choices=("ema", "raw"), default="ema")
    parser.add_argument("--draws", type=int, default=1, help="of the noise, per picture; seeds 0, 1, ...")
    parser.add_argument("--every", type=int, default=5, help="take every so many-th picture of the pack")
    parser.add_argument("--limit", type=int, help="use at most so many pictures")
    parser.add_argument("--crop", type=int, help="pixels a side; whole pictures by default")
    parser.add_argument("--steps", type=int, help="T; the config's by default")
    parser.add_argument("--batch", type=int, default=4, help="pictures at once")
    parser.add_argument("--show", nargs="*", choices=RECONSTRUCTIONS, default=["denoise"])
    parser.add_argument("--points", type=int, default=21, help="latents to reconstruct from, at most")
    parser.add_argument("--over", action="store_true", help="run a VDM's weights as a UQDM")
    args = parser.parse_args()
    model = read_folder(args.checkpoint, args.reading)
    if args.over:
        model = UQDM.over(model)
    pack = read(args.data, args.every, args.limit, args.crop)
    pictures = torch.split(torch.from_numpy(pack.transpose(0, 3, 1, 2).copy()), args.batch)
    if not hasattr(model, "gammas"):  # no noise schedule: cells
        found = registry.floats(model.config.family).held_out(model, pictures)
        print(f"{args.checkpoint.name}, {args.reading}, {model.config.family}; {len(pack)} pictures, 1 draw")
        print(found.table())
        print(found.line())
        return
    count = len(model.gammas(args.steps)) - 1
    indices = sorted({round(i * count / (args.points - 1)) for i in range(args.points)})
    start = time.monotonic()
    draws = [
        evaluate(model, pictures, seed=seed, steps=args.steps, reconstructions=args.show, indices=indices)
        for seed in range(args.draws)
    ]
    mean = Evaluation(
        draws[0].pictures,
        draws[0].channels,
        np.mean([d.bits for d in draws], 0).tolist(),
        draws[0].error,
        indices,
        {name: np.mean([d.psnr[name] for d in draws], 0).tolist() for name in args.show},
    )
    kind = "UQDM on its weights" if args.over else model.config.family
    seconds = time.monotonic() - start
    print(
        f"{args.checkpoint.name}, {args.reading}, {kind}, T = {count}; {len(pack)} pictures, {args.draws} draws,"
        f" {seconds:.0f} s"
    )
    print(mean.table())
    print(f"of each draw: {' '.join(f'{d.bits[-1]:.3f}' for d in draws)}; {mean.bits_per_dimension():.4f} bits/dim")


if __name__ == "__main__":
    main()
