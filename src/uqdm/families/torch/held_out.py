"""What a model's steps cost and how good its pictures are, over held-out batches. Knows no
family.
"""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from uqdm import quality


class Terms(NamedTuple):
    """The negative ELBO of eq. 1, term by term, in bits per pixel, one sample of each."""

    latent: Tensor  # (B,): L_T, what z_T costs; 0 for a UQDM, where it is drawn from p(z_T) on both sides (section 3.3)
    steps: Tensor  # (T, B): L_{T-1} .. L_0, in the order of sending
    pixels: Tensor  # (B,): -log2 p(x | z_0), what is left to send once all steps are

    def cumulative(self) -> Tensor:
        """(T + 2, B): bits per pixel received before the first step, after each, and with the
        pixels, which is the total.
        """
        return torch.cat([self.latent[None], self.steps, self.pixels[None]]).cumsum(0)

    def total(self) -> Tensor:
        """(B,): bits per pixel to send the picture losslessly; the loss to train on."""
        return self.latent + self.steps.sum(0) + self.pixels


RECONSTRUCTIONS = ("denoise", "ancestral", "flow")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Means over pictures. Bits are the model's, an ideal coder's: no file is written."""

    pictures: int
    channels: int
    # (T + 2): bits per pixel received before the first step, after each, and with the pixels; or
    # the last alone.
    bits: list[float]
    error: float  # standard error of the last, over pictures
    indices: list[int]  # of the latents that were reconstructed from, 0 .. T
    psnr: dict[str, list[float]]  # dB by reconstruction, one a latent: means of the pictures' own

    def bits_per_dimension(self) -> float:
        """Of the whole, lossless: the loss."""
        return self.bits[-1] / self.channels

    def line(self) -> str:
        """In a line."""
        shown = ", ".join(f"{b:.3f}" for b in self.bits[1:-1][:8]) + (", ..." if len(self.bits) > 10 else "")
        shown = f" (after steps: {shown})" if shown else ""
        each = f"{self.bits_per_dimension():.4f} bits/dim, {self.bits[-1]:.3f} +- {self.error:.3f} bits/pixel"
        return f"{each} over {self.pictures} pictures{shown}"

    def table(self) -> str:
        """One row a latent: bits per pixel, and the PSNR of what can be made of it."""
        names = [n for n in RECONSTRUCTIONS if n in self.psnr]
        rows = [["after", "bits/pixel", *(f"{n}, dB" for n in names)]]
        for i, index in enumerate(self.indices):
            rows.append([f"step {index}", f"{self.bits[index]:.3f}", *(f"{self.psnr[n][i]:.2f}" for n in names)])
        rows.append(["pixels", f"{self.bits[-1]:.3f}", *("lossless" for _ in names)])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths)) for row in rows)


def psnr(x_hat: Tensor, real: Tensor) -> Tensor:
    """dB of each picture (B,); both (B, C, H, W) in [-1, 1]. At most `quality.CAP`, so that means
    stay finite.
    """
    error = ((x_hat - real).double() ** 2).mean((1, 2, 3)) * 127.5**2
    return torch.tensor([quality.capped(e) for e in error.tolist()], dtype=torch.float64)


@torch.no_grad()
def evaluate_coded(model: Any, held: Iterable[Tensor], *, seed: int = 0, batches: int | None = None) -> Evaluation:
    """Bits by step of a model that has `coded`, and the PSNR of its previews, rounded to pixels.

    `held`, `batches` and `seed` as in `evaluate`. Pictures of odd sizes lose a row or column.
    """
    training = model.training
    model.eval()
    generator = torch.Generator(model.device).manual_seed(seed)
    bits, found = [], []
    for x in itertools.islice(held, batches):
        x = x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2].to(model.device)
        terms, shown = model.coded(x, generator)
        bits.append(terms.cumulative().double().cpu())
        found.append(torch.stack([psnr(picture.round() / 127.5, x / 127.5) for picture in shown]).cpu())
    model.train(training)
    means = {"denoise": torch.cat(found, 1).mean(1).tolist()} if found else {}
    return summary(model, bits, list(range(len(found[0]))) if found else [], means)


def summary(model: Any, bits: list[Tensor], indices: list[int], psnr: dict[str, list[float]]) -> Evaluation:
    """From bits per pixel, (rows, B) each."""
    if not bits:
        raise ValueError("no batches to evaluate on")
    found = torch.cat(bits, 1)
    error = float(found[-1].std() / found.shape[1] ** 0.5) if found.shape[1] > 1 else float("nan")
    return Evaluation(found.shape[1], model.config.model.n_channels, found.mean(1).tolist(), error, indices, psnr)
