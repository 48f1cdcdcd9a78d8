"""What the trainer, evaluation and the quantiser know of the family `nested`: its record
`FLOATS`.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from uqdm.bundle import Package
from uqdm.config import Config
from uqdm.families.floats import Floats, Pictures, Size
from uqdm.families.nested.torch.model import MIXED, Nested
from uqdm.families.torch.held_out import Evaluation, evaluate_coded


def _loss(model: Nested, x: Tensor, generator: torch.Generator, loss: str) -> tuple[Tensor, Tensor, Tensor]:
    terms, mixed = model.bits_and_mixed(x, generator)
    sums, mixed = terms.steps.sum(1).detach(), MIXED * mixed
    # What only previews ask has a gradient, and no part in what is reported.
    return terms.total().mean() + mixed - mixed.detach(), sums, torch.full_like(sums, len(x))


def _held_out(
    model: Nested,
    held: Iterable[Tensor],
    loss: str = "full",
    *,
    seed: int = 0,
    batches: int | None = None,
    **simulated: object,
) -> Evaluation:
    """Files are what they are: there is no other T to simulate, and one kind of preview."""
    return evaluate_coded(model, held, seed=seed, batches=batches)


def _size(config: Config, side: int | None) -> Size:
    with torch.device("meta"):
        network = Nested(config)
    return Size(sum(p.numel() for p in network.parameters()), network.multiply_adds(), " and file")


def _quantise(
    model: Nested,
    name: str,
    pictures: Pictures,
    measure: Callable[[Package], Sequence[float]],
    say: Callable[[str], None],
) -> tuple[Package, list[float]]:
    from uqdm.families.nested.torch.quantise import package_of

    return package_of(model, name, pictures, measure, say)


FLOATS = Floats(new=Nested, loss=_loss, held_out=_held_out, size=_size, quantise=_quantise)
