"""What a model's steps cost and how good its pictures are, over held-out batches: eq. 1 and section 5's three reconstructions."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from uqdm import quality
from uqdm.families.nested.torch.model import Nested
from uqdm.families.pyramid.torch.model import Pyramid
from uqdm.families.uqdm.torch.diffusion import Diffusion
from uqdm.families.uqdm.torch.vdm import VDM
from uqdm.training.runs import Model

RECONSTRUCTIONS = ("denoised", "ancestral", "flow")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Means over pictures. Bits are the model's, an ideal coder's: no file is written."""

    pictures: int
    channels: int
    bits: list[float]  # (T + 2): bits per pixel received before the first step, after each, and with the pixels; or the last alone
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
    """dB of each picture (B,); both (B, C, H, W) in [-1, 1]. At most `quality.CAP`, so that means stay finite."""
    error = ((x_hat - real).double() ** 2).mean((1, 2, 3)) * 127.5**2
    return torch.tensor([quality.capped(e) for e in error.tolist()], dtype=torch.float64)


def held_out(model: Model, held: Iterable[Tensor], loss: str = "full", *, seed: int = 0, batches: int | None = None) -> Evaluation:
    """What a run reports of its averages: `evaluate`, or what stands for it in a model of that kind trained on that loss."""
    if isinstance(model, Nested | Pyramid):
        return evaluate_nested(model, held, seed=seed, batches=batches)
    if isinstance(model, VDM) and loss == "continuous":  # its T steps are many
        return evaluate_limit(model, held, seed=seed, batches=batches)
    return evaluate(model, held, seed=seed, batches=batches)


@torch.no_grad()
def evaluate(
    model: Diffusion,
    held: Iterable[Tensor],
    *,
    seed: int = 0,
    batches: int | None = None,
    steps: int | None = None,
    reconstructions: Sequence[str] = (),
    indices: Sequence[int] | None = None,
) -> Evaluation:
    """Rates by step, and the PSNR of `reconstructions` from the latents `indices` (all of them by default).

    `held`: batches uint8 (B, C, H, W), at most `batches` of them; `steps`: T, the config's by default. One draw of the noise from
    `seed`. Network calls a picture: T, and for each latent i one for "denoised", T - i for "ancestral" and for "flow".
    Raises `ValueError` for a reconstruction that is not known, an index outside 0 .. T, or nothing to look at.
    """
    for name in reconstructions:
        if name not in RECONSTRUCTIONS:
            raise ValueError(f"reconstruction is {name!r}; expected {', '.join(RECONSTRUCTIONS)}")
    gamma = model.gammas(steps)
    last = len(gamma) - 1
    chosen = list(range(last + 1)) if indices is None else sorted(set(indices))
    if chosen and not 0 <= chosen[0] <= chosen[-1] <= last:
        raise ValueError(f"indices are {chosen}; with {last} steps expected 0 to {last}")
    training = model.training
    model.eval()
    generator = torch.Generator(model.device).manual_seed(seed)
    bits: list[Tensor] = []
    quality: dict[str, list[Tensor]] = {name: [] for name in reconstructions}
    for x in itertools.islice(held, batches):
        x = x.to(model.device)
        real = model.to_real(x)
        z, latent = model.start(real, generator, gamma[0])
        spent, shown = [latent], {name: [] for name in reconstructions}  # type: ignore[var-annotated]

        def show(i: int, z: Tensor, x_hat: Tensor | None, real: Tensor = real, shown: dict[str, list[Tensor]] = shown) -> None:
            if i not in chosen:
                return
            for name in reconstructions:
                if name == "denoised":
                    picture = model.denoise(z, i, steps) if x_hat is None else x_hat
                elif name == "ancestral":
                    picture = model.ancestral(z, i, generator, steps)
                else:
                    picture = model.flow(z, i, steps)
                shown[name].append(psnr(picture, real))

        for i in range(last):
            after = model.forward_step(real, z, gamma[i], gamma[i + 1], generator)
            cost, x_hat = model.step_bits(real, z, after, gamma[i], gamma[i + 1])
            show(i, z, x_hat)
            spent.append(cost)
            z = after
        show(last, z, None)
        spent.append(model.pixel_bits(x, z, gamma[-1]))
        bits.append(torch.stack(spent).double().cumsum(0).cpu())
        for name, parts in shown.items():
            quality[name].append(torch.stack(parts).cpu() if parts else torch.zeros(0, len(x)))
    model.train(training)
    means = {name: torch.cat(parts, 1).mean(1).tolist() for name, parts in quality.items()}
    return _evaluation(model, bits, chosen, means)


@torch.no_grad()
def evaluate_limit(model: VDM, held: Iterable[Tensor], *, seed: int = 0, batches: int | None = None) -> Evaluation:
    """A VDM's bits for T -> infinity (`VDM.continuous_nelbo`), from one network call a batch, where `evaluate` takes T.

    `held`, `batches` and `seed` as there. Raises `ValueError` for nothing to look at.
    """
    training = model.training
    model.eval()
    generator = torch.Generator(model.device).manual_seed(seed)
    bits = [model.continuous_nelbo(x.to(model.device), generator)[None].double().cpu() for x in itertools.islice(held, batches)]
    model.train(training)
    return _evaluation(model, bits, [], {})


@torch.no_grad()
def evaluate_nested(model: Nested | Pyramid, held: Iterable[Tensor], *, seed: int = 0, batches: int | None = None) -> Evaluation:
    """A nested model's bits by step, and the PSNR of its previews, rounded to pixels; one network call a step.

    `held`, `batches` and `seed` as in `evaluate`. Pictures of odd sizes lose a row or column.
    """
    training = model.training
    model.eval()
    generator = torch.Generator(model.device).manual_seed(seed)
    bits, quality = [], []
    for x in itertools.islice(held, batches):
        x = x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2].to(model.device)
        terms, shown = model.coded(x, generator)
        bits.append(terms.cumulative().double().cpu())
        quality.append(torch.stack([psnr(picture.round() / 127.5, x / 127.5) for picture in shown]).cpu())
    model.train(training)
    means = {"denoised": torch.cat(quality, 1).mean(1).tolist()} if quality else {}
    return _evaluation(model, bits, list(range(len(quality[0])) if quality else []), means)


def _evaluation(model: Model, bits: list[Tensor], indices: list[int], psnr: dict[str, list[float]]) -> Evaluation:
    """From bits per pixel, (rows, B) each."""
    if not bits:
        raise ValueError("no batches to evaluate on")
    found = torch.cat(bits, 1)
    error = float(found[-1].std() / found.shape[1] ** 0.5) if found.shape[1] > 1 else float("nan")
    return Evaluation(found.shape[1], model.config.model.n_channels, found.mean(1).tolist(), error, indices, psnr)
