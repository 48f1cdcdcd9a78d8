"""What the steps of a UQDM or a VDM cost, and section 5's three reconstructions, over held-out
batches.
"""

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from uqdm.families.torch.held_out import RECONSTRUCTIONS, Evaluation, psnr, summary
from uqdm.families.uqdm.torch.diffusion import Diffusion
from uqdm.families.uqdm.torch.vdm import VDM


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
    """Rates by step, and the PSNR of `reconstructions` from the latents `indices` (all of them by
    default).

    `held`: batches uint8 (B, C, H, W), at most `batches` of them; `steps`: T, the config's by
    default. One draw of the noise from `seed`. Network calls a picture: T, and for each latent i
    one for "denoise", T - i for "ancestral" and for "flow". Raises `ValueError` for a
    reconstruction that is not known, an index outside 0 .. T, or nothing to look at.
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

        def show(
            i: int, z: Tensor, x_hat: Tensor | None, real: Tensor = real, shown: dict[str, list[Tensor]] = shown
        ) -> None:
            if i not in chosen:
                return
            for name in reconstructions:
                if name == "denoise":
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
    return summary(model, bits, chosen, means)


@torch.no_grad()
def evaluate_limit(model: VDM, held: Iterable[Tensor], *, seed: int = 0, batches: int | None = None) -> Evaluation:
    """A VDM's bits for T -> infinity (`VDM.continuous_nelbo`), from one network call a batch, where
    `evaluate` takes T.

    `held`, `batches` and `seed` as there. Raises `ValueError` for nothing to look at.
    """
    training = model.training
    model.eval()
    generator = torch.Generator(model.device).manual_seed(seed)
    bits = [
        model.continuous_nelbo(x.to(model.device), generator)[None].double().cpu()
        for x in itertools.islice(held, batches)
    ]
    model.train(training)
    return summary(model, bits, [], {})
