"""UQDM (section 3): a diffusion model whose noise is uniform, so that each step can be sent by
universal quantization.

A box's position is drawn here, not coded, and bits are what `-log2 p` says; how the same densities
turn into integers and a file is the business of other parts. Shapes, indices and units are those of
`diffusion.py`.
"""

import dataclasses

import torch
from torch import Tensor

from uqdm.config import Config
from uqdm.families.torch.distributions import DENSITIES, log_mass_around, sample_convolved
from uqdm.families.uqdm.constants import StepConstants
from uqdm.families.uqdm.torch.diffusion import Diffusion, constants, per_pixel


class UQDM(Diffusion):
    """A network, a schedule and a config: `UQDM(PRESETS["tiny"])` is a fresh one."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.density = DENSITIES[config.model.prior_type]

    @classmethod
    def over(cls, other: Diffusion, density: str = "logistic") -> "UQDM":
        """A UQDM on another model's weights and schedule, as they are; of a VDM's, by moment
        matching (section 5.1).

        The reverse variance is then fixed, at sigma_Q^2, if the network predicts none. The weights
        are shared, not copied.
        """
        model = dataclasses.replace(other.config.model, prior_type=density, base_prior_scale="default")
        training = dataclasses.replace(
            other.config.training, loss="full" if other.config.family == "vdm" else other.config.training.loss
        )
        found = cls(dataclasses.replace(other.config, family="uqdm", model=model, training=training))
        found.network, found.schedule = other.network, other.schedule
        return found.train(other.training)

    def start(self, x: Tensor, generator: torch.Generator, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """z_T ~ p(z_T), line 1 of Algorithms 1 and 2: the same draw on both sides, whatever x is,
        so L_T = 0.
        """
        return self.prior(tuple(x.shape), generator), x.new_zeros(len(x))

    def forward_step(
        self, x: Tensor, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, generator: torch.Generator
    ) -> Tensor:
        """z_s ~ q(z_s | z_t, x) = b z_t + c x + U(-Delta/2, Delta/2), eq. 4."""
        k = constants(gamma_t, gamma_s)
        u = torch.rand(z.shape, generator=generator, device=z.device, dtype=z.dtype) - 0.5
        return (k.b * z + k.c * x + k.delta * u).to(z.dtype)

    def reverse(self, z: Tensor, x_hat: Tensor, factor: Tensor, k: StepConstants[Tensor]) -> tuple[Tensor, Tensor]:
        """Location and scale of g in p(z_s | z_t) = g * U(-Delta/2, Delta/2), eq. 5-7, both like z.

        The location is b z_t + c x_hat. The standard deviation is the network's factor times
        sigma_t sqrt(e), or with `base_prior_scale` "default" times sigma_s sqrt(e), the paper's
        sigma_Q; a logistic's scale is sqrt(3)/pi of it (eq. 7).
        """
        level = k.sigma_t if self.config.model.base_prior_scale == "forward_kernel" else k.sigma_s
        return (k.b * z + k.c * x_hat).to(z.dtype), (self.density.unit * level * torch.sqrt(k.e) * factor).to(z.dtype)

    def step_bits(self, x: Tensor, z_t: Tensor, z_s: Tensor, gamma_t: Tensor, gamma_s: Tensor) -> tuple[Tensor, Tensor]:
        """The term L of one step of eq. 1, one sample of it: bits per pixel (B,), and x_hat from
        z_t, like z_t. x is not looked at.

        log2 of q(z_s | z_t, x) / p(z_s | z_t); q is 1/Delta on its box and p is a mass over Delta,
        so Delta cancels (appendix B.2) and what remains is
        -log2(G(z_s + Delta/2) - G(z_s - Delta/2)).
        """
        k = constants(gamma_t, gamma_s)
        x_hat, factor = self.predict(z_t, gamma_t)
        location, scale = self.reverse(z_t, x_hat, factor, k)
        return per_pixel(-log_mass_around(self.density, z_s, k.delta, location, scale), z_t), x_hat

    def backward_step(self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, generator: torch.Generator) -> Tensor:
        """A draw from p(z_s | z_t) of eq. 5."""
        k = constants(gamma_t, gamma_s)
        x_hat, factor = self.predict(z, gamma_t)
        location, scale = self.reverse(z, x_hat, factor, k)
        return sample_convolved(self.density, k.delta, location, scale, generator).to(z.dtype)
