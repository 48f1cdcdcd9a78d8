"""The record of float models that tell themselves what their own code costs (`evaluate_coded`)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from uqdm.config import Config
from uqdm.families.floats import Floats, Size
from uqdm.families.torch.held_out import Evaluation, evaluate_coded


def _held_out(
    model: Any,
    held: Iterable[Tensor],
    loss: str = "full",
    *,
    seed: int = 0,
    batches: int | None = None,
    **simulated: object,
) -> Evaluation:
    """Files are what they are: there is no other T to simulate, and one kind of preview."""
    return evaluate_coded(model, held, seed=seed, batches=batches)


def coded(new: Callable[[Config], Any], **rest: Any) -> Floats:
    """See `Floats`. `new`: a model with `coded` and `multiply_adds` (a pixel of a whole file)."""

    def size(config: Config, side: int | None) -> Size:
        with torch.device("meta"):
            network = new(config)
        return Size(sum(p.numel() for p in network.parameters()), network.multiply_adds(), " and file")

    return Floats(new=new, held_out=_held_out, size=size, **rest)
