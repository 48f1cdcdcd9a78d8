"""What tests of torch models share: random generators, pictures by chance, and a network that knows
the answer.
"""

from typing import Any

import torch
from torch import Tensor

from uqdm.bundle import Package
from uqdm.config import Config, DataConfig, override
from uqdm.families.nested.torch.model import Nested
from uqdm.families.uqdm.config import ModelConfig
from uqdm.families.uqdm.torch.export import package_of
from uqdm.families.uqdm.torch.model import UQDM
from uqdm.training.presets import PRESETS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 2, size: int = 8) -> Tensor:
    """uint8 (n, 3, size, size), every value by chance."""
    return torch.randint(0, 256, (n, 3, size, size), generator=seeded(7), dtype=torch.uint8)


def knowing(model: Any, x: Tensor, factor: float = 1.0) -> Any:
    """`model`, its network one that knows the picture: the noise it names is exactly what z holds,
    and `factor` is its scale's.
    """
    real = model.to_real(x)

    def network(z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        gamma = gamma.double()
        eps = (z - torch.sqrt(torch.sigmoid(-gamma)) * real.to(z)) / torch.sqrt(torch.sigmoid(gamma))
        return eps, torch.full_like(z, factor)

    model.network.forward = network
    return model


def small_nested() -> Nested:
    """Small, every weight by chance; it says something about most coordinates."""
    torch.manual_seed(0)
    config = {
        "widths": ((45, 117, 90), (5, 13, 10), (1, 1, 1)), "trunks": ((0, 0), (8, 1), (8, 1)), "passes": ((6, 0), (8,
        1), (8, 1)),
        "n_mixtures": 2,
    }  # fmt: skip
    found = Nested(override(PRESETS["nano"], config))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5)
    return found


def float_package(name: str = "floats") -> Package:
    """A model of floats as imported ones are: a small U-Net that nobody trained, in tiles of 8 x
    8.
    """
    config = Config(ModelConfig(embedding_dim=8, norm_groups=4), data=DataConfig(crop=8))
    torch.manual_seed(3)
    return package_of(UQDM(config).eval(), name, "ema", "uqdm train")
