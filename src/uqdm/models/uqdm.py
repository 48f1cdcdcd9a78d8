"""UQDM (section 3): forward process, reverse densities, the bits they cost, and pictures from any step; writes no bytes.

Here everything is real-valued and simulated: a box's position is drawn, not coded, and bits are what `-log2 p` says. How the
same densities turn into integers and a file is the business of other parts.

Indices: a model with T steps has T + 1 latents. Index i counts the steps that have been received, so it is the paper's T - t:
z at index 0 is z_T, pure noise; z at index T is z_0. `gammas(T)[i]` is gamma of that latent. Any T may be asked for with
`steps`; None is the T that the config names.

Dtypes: pictures are uint8 (B, C, H, W), latents and predictions floating, of the network's dtype; pixel values v become
x = 2 (v + 1/2) / vocab_size - 1 in [-1, 1]. Randomness comes in as a `torch.Generator` on the network's device.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from uqdm.models.distributions import DENSITIES, sample_convolved
from uqdm.models.network import UNet
from uqdm.models.presets import Config
from uqdm.models.schedule import StepConstants, alpha, new_schedule, sigma, step_constants

LIKELIHOOD_VALUES = 1 << 24  # logits of p(x | z_0) held at once: 64 MB in float32


class Terms(NamedTuple):
    """The negative ELBO of eq. 1, term by term, in bits per pixel (a pixel being all its channels), one sample of each.

    L_T is 0 and has no field: z_T is drawn from p(z_T) on both sides (section 3.3), so nothing is sent.
    """

    steps: Tensor  # (T, B): L_{T-1} .. L_0, in the order of sending
    pixels: Tensor  # (B,): -log2 p(x | z_0), what is left to send once all steps are

    def cumulative(self) -> Tensor:
        """(T + 2, B): bits per pixel received before the first step, after each, and with the pixels, which is the total."""
        parts = torch.cat([self.steps, self.pixels[None]])
        return torch.cat([torch.zeros_like(parts[:1]), parts.cumsum(0)])

    def total(self) -> Tensor:
        """(B,): bits per pixel to send the picture losslessly; the loss to train on."""
        return self.steps.sum(0) + self.pixels


class UQDM(nn.Module):
    """A network, a schedule and a config: `UQDM(Config(SIZES["tiny"]))` is a fresh one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        model = config.model
        self.network = UNet(model)
        self.schedule = new_schedule(model.noise_schedule, model.gamma_min, model.gamma_max, model.fix_gamma_max)
        self.density = DENSITIES[model.prior_type]

    def gammas(self, steps: int | None = None) -> Tensor:
        """gamma at T + 1 equally spaced times from t = 1 to 0. -> (T + 1,) float64, decreasing, differentiable."""
        count = self.config.model.n_timesteps if steps is None else steps
        if count < 1:
            raise ValueError(f"steps is {count}; expected at least 1")
        device = next(self.network.parameters()).device
        # In float64 also where weights are float32: alpha and sigma of neighbouring steps are subtracted from each other.
        return self.schedule(torch.linspace(1, 0, count + 1, dtype=torch.float64, device=device))  # type: ignore[no-any-return]

    # ---- the forward process: what the sender knows ----

    def to_real(self, x: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> x = 2 (v + 1/2) / vocab_size - 1, in the network's dtype."""
        dtype = next(self.network.parameters()).dtype
        return (2 * x.to(dtype) + 1) / self.config.model.vocab_size - 1

    def to_values(self, x: Tensor) -> Tensor:
        """The nearest pixel values; inverse of `to_real` for those. Floating, any shape -> int64 in 0 .. vocab_size - 1."""
        return torch.round(((x + 1) * self.config.model.vocab_size - 1) / 2).clamp(0, self.config.model.vocab_size - 1).long()

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """z_T ~ p(z_T) = N(0, 1), line 1 of Algorithms 1 and 2: the same draw on both sides, whatever x is, so L_T = 0."""
        weight = next(self.network.parameters())
        return torch.randn(shape, generator=generator, device=weight.device, dtype=weight.dtype)

    def forward_step(self, x: Tensor, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, generator: torch.Generator) -> Tensor:
        """z_s ~ q(z_s | z_t, x) = b z_t + c x + U(-Delta/2, Delta/2), eq. 4. x in [-1, 1], z: (B, C, H, W) -> z_s, like z."""
        k = step_constants(gamma_t, gamma_s)
        u = torch.rand(z.shape, generator=generator, device=z.device, dtype=z.dtype) - 0.5
        return k.b * z + k.c * x + k.delta * u

    def trajectory(self, x: Tensor, generator: torch.Generator, steps: int | None = None) -> list[Tensor]:
        """The whole forward process of eq. 4 for pictures uint8 (B, C, H, W) -> z_T, ..., z_0: T + 1 tensors.

        As in Algorithm 1 z_T is drawn from p(z_T), not from q(z_T | x) of eq. 4: the latents are those that a decoder will see.
        """
        gamma, real = self.gammas(steps), self.to_real(x)
        z = [self.prior(tuple(real.shape), generator)]
        for gamma_t, gamma_s in pairwise(gamma):
            z.append(self.forward_step(real, z[-1], gamma_t, gamma_s, generator))
        return z

    # ---- the reverse process: what the receiver knows ----

    def predict(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """One call of the network. z (B, C, H, W), gamma () -> x_hat = clip((z - sigma eps_hat) / alpha, -1, 1), factor > 0."""
        eps, factor = self.network(z, gamma)
        gamma = gamma.double()
        return torch.clamp((z - sigma(gamma) * eps) / alpha(gamma), -1, 1), factor

    def reverse(self, z: Tensor, x_hat: Tensor, factor: Tensor, k: StepConstants) -> tuple[Tensor, Tensor]:
        """Location and scale of g in p(z_s | z_t) = g * U(-Delta/2, Delta/2), eq. 5-7, both like z.

        The location is b z_t + c x_hat. The standard deviation is the network's factor times sigma_t sqrt(e), or with
        `base_prior_scale` "default" times sigma_s sqrt(e), the paper's sigma_Q; a logistic's scale is sqrt(3)/pi of it (eq. 7).
        """
        level = k.sigma_t if self.config.model.base_prior_scale == "forward_kernel" else k.sigma_s
        return k.b * z + k.c * x_hat, self.density.unit * level * torch.sqrt(k.e) * factor

    def step_bits(self, z_t: Tensor, z_s: Tensor, gamma_t: Tensor, gamma_s: Tensor) -> tuple[Tensor, Tensor]:
        """The term L of one step of eq. 1, one sample of it: bits per pixel (B,), and x_hat from z_t, like z_t.

        log2 of q(z_s | z_t, x) / p(z_s | z_t); q is 1/Delta on its box and p is a mass over Delta, so Delta cancels
        (appendix B.2) and what remains is -log2(G(z_s + Delta/2) - G(z_s - Delta/2)).
        """
        k = step_constants(gamma_t, gamma_s)
        x_hat, factor = self.predict(z_t, gamma_t)
        location, scale = self.reverse(z_t, x_hat, factor, k)
        nats = -self.density.log_mass((z_s - location) / scale, k.delta / scale)
        return nats.sum((1, 2, 3)) / (math.log(2) * nats[0, 0].numel()), x_hat

    def pixel_bits(self, x: Tensor, z_0: Tensor, gamma_0: Tensor) -> Tensor:
        """-log2 p(x | z_0), bits per pixel (B,): the categorical likelihood of section 3.2, as in VDM. x uint8, z_0 like x.

        A softmax over the values v with logits -exp(-gamma_0) (z_0 / alpha_0 - x_v)^2 / 2: the Gaussian likelihood of z_0.
        """
        weight, centre = torch.exp(-gamma_0.double()), z_0 / alpha(gamma_0.double())
        # A few pictures at a time: vocab_size logits per coordinate would otherwise be the largest tensor of all.
        count = max(1, LIKELIHOOD_VALUES // (z_0[0].numel() * self.config.model.vocab_size))
        parts = [self._pixel_nats(v, c, weight) for v, c in zip(torch.split(x, count), torch.split(centre, count))]
        return torch.cat(parts) / (math.log(2) * z_0[0, 0].numel())

    def _pixel_nats(self, x: Tensor, centre: Tensor, weight: Tensor) -> Tensor:
        log_p = torch.log_softmax(self._logits(centre, weight), -1)
        return -log_p.gather(-1, x.long()[..., None]).sum((1, 2, 3, 4))

    def _logits(self, centre: Tensor, weight: Tensor) -> Tensor:
        values = self.to_real(torch.arange(self.config.model.vocab_size, device=centre.device))
        return -weight / 2 * (centre[..., None] - values) ** 2

    def nelbo(self, x: Tensor, generator: torch.Generator, steps: int | None = None) -> Terms:
        """Eq. 1 with one draw of the forward process. x uint8 (B, C, H, W) -> `Terms`, bits per pixel, differentiable."""
        gamma, z = self.gammas(steps), self.trajectory(x, generator, steps)
        bits = [self.step_bits(z[i], z[i + 1], gamma[i], gamma[i + 1])[0] for i in range(len(gamma) - 1)]
        return Terms(torch.stack(bits), self.pixel_bits(x, z[-1], gamma[-1]))

    # ---- pictures from any step (section 5) ----

    @torch.no_grad()
    def denoise(self, z: Tensor, index: int, steps: int | None = None) -> Tensor:
        """The denoised prediction x_hat from z at `index` (0 .. T): smallest error, blurred while little is known.

        At z_0 the likeliest x under p(x | z_0): no step ever asked the network there, and its answer is up to 15 dB worse.
        (B, C, H, W) -> the same in [-1, 1].
        """
        gamma = self.gammas(steps)
        if _checked(index, gamma) == len(gamma) - 1:
            return self._likeliest(z, gamma[-1])
        return self.predict(z, gamma[index])[0]

    @torch.no_grad()
    def ancestral(self, z: Tensor, index: int, generator: torch.Generator, steps: int | None = None) -> Tensor:
        """A draw from p(x | z) for z at `index` (0 .. T): z_s ~ p(z_s | z_t) of eq. 5 down to z_0, then x ~ p(x | z_0).

        (B, C, H, W) -> the same in [-1, 1], values that pixels have.
        """
        gamma = self.gammas(steps)
        for gamma_t, gamma_s in pairwise(gamma[_checked(index, gamma) :]):
            k = step_constants(gamma_t, gamma_s)
            x_hat, factor = self.predict(z, gamma_t)
            location, scale = self.reverse(z, x_hat, factor, k)
            z = sample_convolved(self.density, k.delta, location, scale, generator)
        weight, centre = torch.exp(-gamma[-1]), z / alpha(gamma[-1])
        drawn = []
        for picture in centre:  # one at a time, for memory's sake
            p = torch.softmax(self._logits(picture, weight), -1)
            drawn.append(torch.multinomial(p.flatten(0, -2), 1, generator=generator).view(picture.shape))
        return self.to_real(torch.stack(drawn))

    @torch.no_grad()
    def flow(self, z: Tensor, index: int, steps: int | None = None) -> Tensor:
        """The flow-based reconstruction from z at `index` (0 .. T), eq. 17: deterministic, sharper than `denoise`.

        z_s = alpha_s x_hat + (sigma_s / sigma_t) (z_t - alpha_t x_hat) down to z_0, then the likeliest x under p(x | z_0).
        (B, C, H, W) -> the same in [-1, 1], values that pixels have.
        """
        gamma = self.gammas(steps)
        for gamma_t, gamma_s in pairwise(gamma[_checked(index, gamma) :]):
            k = step_constants(gamma_t, gamma_s)
            x_hat, _ = self.predict(z, gamma_t)
            z = k.alpha_s * x_hat + k.sigma_s / k.sigma_t * (z - k.alpha_t * x_hat)
        return self._likeliest(z, gamma[-1])

    def _likeliest(self, z_0: Tensor, gamma_0: Tensor) -> Tensor:
        """The x of greatest p(x | z_0): the pixel value nearest to z_0 / alpha_0, in [-1, 1]."""
        return self.to_real(self.to_values(z_0 / alpha(gamma_0)))

    def sample(self, n: int, height: int, width: int, generator: torch.Generator, steps: int | None = None) -> Tensor:
        """n pictures from nothing: z_T ~ p(z_T), then `ancestral`. -> int64 pixel values (n, C, height, width)."""
        z = self.prior((n, self.config.model.n_channels, height, width), generator)
        return self.to_values(self.ancestral(z, 0, generator, steps))


def _checked(index: int, gamma: Tensor) -> int:
    if not 0 <= index < len(gamma):
        raise ValueError(f"index is {index}; with {len(gamma) - 1} steps expected 0 to {len(gamma) - 1}")
    return index
