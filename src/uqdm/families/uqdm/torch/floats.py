"""What the trainer, evaluation and the codec know of the families `uqdm` and `vdm`: their
records.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from uqdm.bundle import Package
from uqdm.config import Config
from uqdm.families.floats import Floats, Size
from uqdm.families.torch.held_out import Evaluation
from uqdm.families.uqdm.torch.diffusion import Diffusion, Sampled
from uqdm.families.uqdm.torch.held_out import evaluate, evaluate_limit
from uqdm.families.uqdm.torch.model import UQDM
from uqdm.families.uqdm.torch.unet import new_network
from uqdm.families.uqdm.torch.vdm import VDM


def _loss(model: Diffusion, x: Tensor, generator: torch.Generator, loss: str) -> tuple[Tensor, Tensor, Tensor]:
    """ "full": eq. 1. "single": one step a picture (section 5). "continuous": a VDM's limit T ->
    infinity, which has no terms.
    """
    if loss == "continuous":
        assert isinstance(model, VDM)
        bits = model.continuous_nelbo(x, generator)
        return bits.mean(), bits.new_zeros(0), bits.new_zeros(0)
    if loss == "single":
        found: Sampled = model.sampled_nelbo(x, generator)
        where = nn.functional.one_hot(found.which, found.steps).to(found.step)
        sums = torch.cat([found.latent.sum()[None], found.step.detach() @ where, found.pixels.sum()[None]])
        counts = torch.cat([where.new_full((1,), len(x)), where.sum(0), where.new_full((1,), len(x))])
        return found.total().mean(), sums.detach(), counts
    terms = model.nelbo(x, generator)
    sums = torch.cat([terms.latent.sum()[None], terms.steps.sum(1), terms.pixels.sum()[None]]).detach()
    return terms.total().mean(), sums, torch.full_like(sums, len(x))


def _held_out(
    model: Diffusion,
    held: Iterable[Tensor],
    loss: str = "full",
    *,
    seed: int = 0,
    batches: int | None = None,
    steps: int | None = None,
    reconstructions: Sequence[str] = (),
) -> Evaluation:
    """A VDM trained on the limit is evaluated on it: its T steps are many."""
    if loss == "continuous":
        assert isinstance(model, VDM)
        return evaluate_limit(model, held, seed=seed, batches=batches)
    return evaluate(model, held, seed=seed, batches=batches, steps=steps, reconstructions=reconstructions)


def _size(config: Config, side: int | None) -> Size:
    with torch.device("meta"):
        network = new_network(config.model)
    side = 1 if config.model.network == "points" else side or config.data.crop or 64
    parameters = sum(p.numel() for p in network.parameters())
    return Size(parameters, sum(network.multiply_adds(side, side)), f" and call at {side} x {side}")


def _package(model: Diffusion, name: str, reading: str, source: str) -> Package:
    from uqdm.families.uqdm.torch.export import package_of

    return package_of(model, name, reading, source)


FLOATS = Floats(
    new=UQDM, loss=_loss, held_out=_held_out, size=_size, package=_package, network=lambda model: model.network
)
