"""VDM, the Gaussian diffusion model that UQDM is measured against (section 2, appendices A.1, B.1;
Kingma et al. 2021).

Same network, schedule and likelihood; the forward process adds Gaussian noise, so a step's term of
eq. 1 is a divergence between two normals of one variance, in closed form. The rate is hypothetical:
what an ideal simulation of the Gaussian channel would cost. With `ancestral` and `flow` pictures
these are DiffC-A and DiffC-F (Theis et al. 2022).
"""

import torch
from torch import Tensor

from uqdm.config import Config
from uqdm.families.uqdm.torch.diffusion import Diffusion, constants, per_pixel, stratified, wide
from uqdm.families.uqdm.torch.schedule import alpha, sigma


class VDM(Diffusion):
    """A network, a schedule and a config: `VDM(PRESETS["tiny-vdm"])` is a fresh one.

    Raises `ValueError` for a config with a learned reverse variance: here it is that of q (appendix
    B.1).
    """

    def __init__(self, config: Config) -> None:
        if config.model.learned_prior_scale:
            raise ValueError(
                "learned_prior_scale is true; a VDM's reverse variance is that of its forward process (appendix B.1)"
            )
        super().__init__(config)

    def marginal(self, x: Tensor, gamma: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """z_t ~ q(z_t | x) = N(alpha_t x, sigma_t^2), section 2; gamma () or (B,) -> z_t and its
        noise epsilon, both like x.
        """
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        gamma = wide(gamma)
        return (alpha(gamma) * x + sigma(gamma) * noise).to(x.dtype), noise

    def start(self, x: Tensor, generator: torch.Generator, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """z_T ~ q(z_T | x), at KL(q(z_T | x) || N(0, 1)) bits."""
        z, _ = self.marginal(x, gamma, generator)
        variance = torch.sigmoid(gamma)
        nats = (variance - 1 - torch.log(variance) + (1 - variance) * x.double() ** 2) / 2
        return z, per_pixel(nats, x).to(x.dtype)

    def forward_step(
        self, x: Tensor, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, generator: torch.Generator
    ) -> Tensor:
        """z_s ~ q(z_s | z_t, x) = N(b z_t + c x, sigma_Q^2), appendix A.1; sigma_Q = sigma_s
        sqrt(e).
        """
        k = constants(gamma_t, gamma_s)
        noise = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        return (k.b * z + k.c * x + k.sigma_s * torch.sqrt(k.e) * noise).to(z.dtype)

    def step_bits(self, x: Tensor, z_t: Tensor, z_s: Tensor, gamma_t: Tensor, gamma_s: Tensor) -> tuple[Tensor, Tensor]:
        """L = (SNR(s) - SNR(t)) |x - x_hat|^2 / 2 (appendix B.1): bits per pixel (B,), and x_hat.
        z_s is not looked at.
        """
        x_hat, _ = self.predict(z_t, gamma_t)
        gain = torch.exp(-wide(gamma_s)) - torch.exp(-wide(gamma_t))
        return per_pixel(gain / 2 * (x - x_hat).double() ** 2, z_t).to(z_t.dtype), x_hat

    def backward_step(self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, generator: torch.Generator) -> Tensor:
        """A draw from p(z_s | z_t) = q(z_s | z_t, x = x_hat)."""
        return self.forward_step(self.predict(z, gamma_t)[0], z, gamma_t, gamma_s, generator)

    def continuous_nelbo(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The limit of eq. 1 for T -> infinity, one time t a picture (Kingma et al. 2021, eq. 18):
        bits per pixel (B,), differentiable.

        E_t gamma'(t) |epsilon - eps_hat|^2 / 2, with L_T and L_0. Here x_hat is not clipped, so
        that every prediction has a gradient.
        """
        real = self.to_real(x)
        ends = self.gammas(1)
        t = stratified(len(x), generator)
        gamma, slope = torch.func.jvp(self.schedule, (t,), (torch.ones_like(t),))  # type: ignore[misc]
        z_t, noise = self.marginal(real, gamma, generator)
        eps, _ = self.network(z_t, gamma)
        between = per_pixel(wide(slope) / 2 * (noise - eps).double() ** 2, real)
        _, latent = self.start(real, generator, ends[0])
        z_0, _ = self.marginal(real, ends[1], generator)
        return (latent + between + self.pixel_bits(x, z_0, ends[1])).to(real.dtype)
