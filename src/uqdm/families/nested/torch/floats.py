"""What the trainer, evaluation and the quantiser know of the family `nested`: its record
`FLOATS`.
"""

import torch
from torch import Tensor

from uqdm.families.nested.torch.model import MIXED, Nested
from uqdm.families.nested.torch.quantise import package_of
from uqdm.families.torch.coded import coded


def _loss(model: Nested, x: Tensor, generator: torch.Generator, loss: str) -> tuple[Tensor, Tensor, Tensor]:
    terms, mixed = model.bits_and_mixed(x, generator)
    sums, mixed = terms.steps.sum(1).detach(), MIXED * mixed
    # What only previews ask has a gradient, and no part in what is reported.
    return terms.total().mean() + mixed - mixed.detach(), sums, torch.full_like(sums, len(x))


FLOATS = coded(Nested, loss=_loss, quantise=package_of)
