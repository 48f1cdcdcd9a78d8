"""What a published model's steps cost, and how good its predictions are: eq. 1 term by term, on a pack of pictures.

Pictures are every
`--every`th of the pack, at most `--limit`. Printed are means over pictures and draws of the cumulative bits per pixel, and of
the PSNR per picture of the denoised prediction, before the first step and after each: x_hat, not rounded to pixel values, and
after the last step the likeliest pixel values given z_0.

    python benchmarks/nelbo.py --checkpoint uqdm-tiny --data imagenet64-dev.zip --reading ema --draws 3
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import torch

from uqdm.models.checkpoint import READINGS, read_published
from uqdm.models.uqdm import UQDM
from uqdm.training.data import load_pack


@torch.inference_mode()
def measure(model: UQDM, x: torch.Tensor, generator: torch.Generator, steps: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 (B, 3, H, W) -> cumulative bits per pixel (T + 2, B), PSNR in dB of x_hat at each latent (T + 1, B)."""
    gamma, real = model.gammas(steps), model.to_real(x)
    z = model.prior(tuple(real.shape), generator)
    bits, psnr = [torch.zeros(len(x))], []

    def quality(x_hat: torch.Tensor) -> torch.Tensor:
        return 10 * torch.log10(4 / ((x_hat - real) ** 2).mean((1, 2, 3)))  # the range of x is 2

    for gamma_t, gamma_s in pairwise(gamma):
        after = model.forward_step(real, z, gamma_t, gamma_s, generator)
        step, x_hat = model.step_bits(real, z, after, gamma_t, gamma_s)
        bits.append(step)
        psnr.append(quality(x_hat))
        z = after
    psnr.append(quality(model.denoise(z, len(gamma) - 1, steps)))
    bits.append(model.pixel_bits(x, z, gamma[-1]))
    return torch.stack(bits).cumsum(0), torch.stack(psnr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder with checkpoint.pt and config.json")
    parser.add_argument("--data", type=Path, required=True, help="pack of pictures")
    parser.add_argument("--reading", choices=READINGS, default="ema")
    parser.add_argument("--draws", type=int, default=1, help="of the noise, per picture; seeds 0, 1, ...")
    parser.add_argument("--every", type=int, default=5, help="take every so many-th picture of the pack")
    parser.add_argument("--limit", type=int, help="use at most so many pictures")
    parser.add_argument("--steps", type=int, help="T; the config's by default")
    parser.add_argument("--batch", type=int, default=4, help="pictures at once")
    args = parser.parse_args()
    model = read_published(args.checkpoint, args.reading)
    pack = load_pack(args.data)[:: args.every][: args.limit]
    pictures = torch.from_numpy(pack.transpose(0, 3, 1, 2).copy())
    bits, psnr, start = [], [], time.monotonic()
    for seed in range(args.draws):
        generator = torch.Generator().manual_seed(seed)
        parts = [measure(model, x, generator, args.steps) for x in torch.split(pictures, args.batch)]
        bits.append(torch.cat([b for b, _ in parts], 1).double().mean(1))
        psnr.append(torch.cat([p for _, p in parts], 1).double().mean(1))
    mean_bits, mean_psnr = torch.stack(bits).mean(0), torch.stack(psnr).mean(0)
    seconds = time.monotonic() - start
    print(f"{args.checkpoint.name}, {args.reading}; {len(pictures)} pictures, {args.draws} draws, {seconds:.0f} s")
    print("after      bits/pixel   PSNR/dB   bits/pixel of each draw")
    for i, value in enumerate(mean_bits):
        last = i == len(mean_bits) - 1
        name, quality = ("pixels", "lossless") if last else (f"step {i}", f"{mean_psnr[i]:.2f}")
        print(f"{name:9s}  {value:10.3f}  {quality:>8s}   {' '.join(f'{b[i]:.3f}' for b in bits)}")


if __name__ == "__main__":
    main()
