"""What the trainer, evaluation and the quantiser know of the family `pyramid`: its record
`FLOATS`.
"""

import torch
from torch import Tensor

from uqdm.families.pyramid.torch.model import Pyramid
from uqdm.families.pyramid.torch.quantise import package_of
from uqdm.families.torch.coded import coded


def _loss(model: Pyramid, x: Tensor, generator: torch.Generator, loss: str) -> tuple[Tensor, Tensor, Tensor]:
    terms, bits = model.bits_of_all(x, generator)
    sums = terms.steps.sum(1).detach()
    return bits.sum(0).mean(), sums, torch.full_like(sums, len(x))


FLOATS = coded(Pyramid, loss=_loss, quantise=package_of, network=lambda model: model, recordable=True)
