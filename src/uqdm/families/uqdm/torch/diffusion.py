"""What diffusion models over pixels share: network, schedule, likelihood of pixels, eq. 1 as a sum,
pictures from any step.

Abstract; `uqdm.UQDM` and `vdm.VDM` say what noise is added and what it costs. Everything is
real-valued and simulated: no bytes.

Indices: a model with T steps has T + 1 latents. Index i counts the steps that have been received,
so it is the paper's T - t: z at index 0 is z_T, pure noise; z at index T is z_0. `gammas(T)[i]` is
gamma of that latent. Any T may be asked for with `steps`; None is the T that the config names.

Dtypes: pictures are uint8 (B, C, H, W), latents and predictions floating, of the network's dtype;
pixel values v become x = 2 (v + 1/2) / vocab_size - 1 in [-1, 1]. Points of the plane are pictures
(B, 2, 1, 1). Randomness comes in as a `torch.Generator` on the network's device. Bits are per
pixel, a pixel being all its channels.
"""

import abc
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from uqdm.config import Config
from uqdm.families.torch.held_out import Terms
from uqdm.families.uqdm.constants import StepConstants
from uqdm.families.uqdm.torch.schedule import alpha, new_schedule, sigma, step_constants
from uqdm.families.uqdm.torch.unet import new_network

LIKELIHOOD_VALUES = 1 << 24  # logits of p(x | z_0) held at once: 64 MB in float32


class Sampled(NamedTuple):
    """An unbiased estimate of eq. 1 from one step a picture (section 5), bits per pixel."""

    latent: Tensor  # (B,)
    which: Tensor  # (B,) int64: the step that was looked at, 0 .. T - 1
    step: Tensor  # (B,): what that step costs
    pixels: Tensor  # (B,)
    steps: int  # T

    def total(self) -> Tensor:
        """(B,): its mean over indices and noise is that of `Terms.total`."""
        return self.latent + self.steps * self.step + self.pixels


def stratified(n: int, generator: torch.Generator) -> Tensor:
    """n numbers in [0, 1), one in each of n equal parts, in some rotation: each alone is uniform
    (as in VDM). -> (n,) float64.
    """
    u = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
    return (u + torch.arange(n, device=generator.device, dtype=torch.float64) / n) % 1


def wide(gamma: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1) float64, one value a picture; () stays."""
    return gamma.double()[..., None, None, None] if gamma.ndim else gamma.double()


class Diffusion(nn.Module, abc.ABC):
    """A network, a schedule and a config. Subclasses give the noise of a step and its bits."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        model = config.model
        self.network = new_network(model)
        self.schedule = new_schedule(model.noise_schedule, model.gamma_min, model.gamma_max, model.fix_gamma_max)

    # ---- what a kind of model says ----

    @abc.abstractmethod
    def start(self, x: Tensor, generator: torch.Generator, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """z_T for x real (B, C, H, W) in [-1, 1], gamma () of t = 1 -> z_T like x, and the bits L_T
        that it costs, (B,).
        """

    @abc.abstractmethod
    def forward_step(
        self, x: Tensor, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, generator: torch.Generator
    ) -> Tensor:
        """z_s ~ q(z_s | z_t, x). x in [-1, 1], z: (B, C, H, W), gammas () or (B,) -> z_s, like
        z.
        """

    @abc.abstractmethod
    def step_bits(self, x: Tensor, z_t: Tensor, z_s: Tensor, gamma_t: Tensor, gamma_s: Tensor) -> tuple[Tensor, Tensor]:
        """The term L of one step of eq. 1: bits per pixel (B,), and x_hat from z_t, like z_t.
        Gammas () or (B,).
        """

    @abc.abstractmethod
    def backward_step(self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, generator: torch.Generator) -> Tensor:
        """z_s ~ p(z_s | z_t), a draw of the reverse process. z (B, C, H, W), gammas () -> like
        z.
        """

    # ---- shared ----

    def gammas(self, steps: int | None = None) -> Tensor:
        """gamma at T + 1 equally spaced times from t = 1 to 0. -> (T + 1,) float64, decreasing,
        differentiable.
        """
        count = self.config.model.n_timesteps if steps is None else steps
        if count < 1:
            raise ValueError(f"steps is {count}; expected at least 1")
        # In float64 also where weights are float32: alpha and sigma of neighbouring steps are
        # subtracted from each other.
        return self.schedule(torch.linspace(1, 0, count + 1, dtype=torch.float64, device=self.device))  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def to_real(self, x: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> x = 2 (v + 1/2) / vocab_size - 1, in the network's dtype."""
        dtype = next(self.network.parameters()).dtype
        size: int = self.config.model.vocab_size
        return (2 * x.to(dtype) + 1) / size - 1

    def to_values(self, x: Tensor) -> Tensor:
        """The nearest pixel values; inverse of `to_real` for those. Floating, any shape -> int64 in
        0 .. vocab_size - 1.
        """
        return (
            torch.round(((x + 1) * self.config.model.vocab_size - 1) / 2)
            .clamp(0, self.config.model.vocab_size - 1)
            .long()
        )

    def prior(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """z_T ~ p(z_T) = N(0, 1), of the network's dtype."""
        weight = next(self.network.parameters())
        return torch.randn(shape, generator=generator, device=weight.device, dtype=weight.dtype)

    def predict(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """One call of the network. z (B, C, H, W), gamma () or (B,) -> x_hat = clip((z - sigma
        eps_hat) / alpha, -1, 1), factor > 0.
        """
        eps, factor = self.network(z, gamma)
        gamma = wide(gamma)
        return torch.clamp((z - sigma(gamma) * eps) / alpha(gamma), -1, 1).to(z.dtype), factor

    def pixel_bits(self, x: Tensor, z_0: Tensor, gamma_0: Tensor) -> Tensor:
        """-log2 p(x | z_0), bits per pixel (B,): the categorical likelihood of section 3.2, as in
        VDM. x uint8, z_0 like x.

        A softmax over the values v with logits -exp(-gamma_0) (z_0 / alpha_0 - x_v)^2 / 2: the
        Gaussian likelihood of z_0. Values so far from z_0 that all of them together have less than
        e^-24 of the sum, below a float32, are left out of it.
        """
        weight, centre = torch.exp(-gamma_0.double()), z_0 / alpha(gamma_0.double())
        size = self.config.model.vocab_size
        reach = math.ceil(math.sqrt(2 * (24 + math.log(size)) / weight.detach().item()) * size / 2) + 1
        # A few pictures at a time: vocab_size logits per coordinate would otherwise be the largest
        # tensor of all.
        count = max(1, LIKELIHOOD_VALUES // (z_0[0].numel() * min(size, 2 * reach + 1)))
        parts = [
            self._pixel_nats(v, c, weight, reach) for v, c in zip(torch.split(x, count), torch.split(centre, count))
        ]
        return per_pixel(torch.cat(parts), z_0)

    def _pixel_nats(self, x: Tensor, centre: Tensor, weight: Tensor, reach: int) -> Tensor:
        """Nats per picture; of all values those are summed over that are at most `reach` from the
        one nearest to `centre`.
        """
        size = self.config.model.vocab_size
        if 2 * reach + 1 >= size:
            logits = self._logits(centre, weight)
        else:
            # Anchored so that the window lies within the values: further in than `reach` on one
            # side does no harm.
            first = (self.to_values(centre.detach()) - reach).clamp(0, size - 2 * reach - 1)
            near = first[..., None] + torch.arange(2 * reach + 1, device=centre.device)
            logits = -weight / 2 * (centre[..., None] - self.to_real(near)) ** 2
        own = -weight / 2 * (centre - self.to_real(x)) ** 2
        return (torch.logsumexp(logits, -1) - own).sum((1, 2, 3))

    def _logits(self, centre: Tensor, weight: Tensor) -> Tensor:
        values = self.to_real(torch.arange(self.config.model.vocab_size, device=centre.device))
        return -weight / 2 * (centre[..., None] - values) ** 2

    # ---- the negative ELBO, eq. 1 ----

    def walk(self, x: Tensor, generator: torch.Generator, steps: int | None = None) -> Iterator[Tensor]:
        """One draw of the forward process for pictures uint8 (B, C, H, W), one latent after the
        other: z_T, ..., z_0.
        """
        gamma, real = self.gammas(steps), self.to_real(x)
        z, _ = self.start(real, generator, gamma[0])
        yield z
        for gamma_t, gamma_s in pairwise(gamma):
            z = self.forward_step(real, z, gamma_t, gamma_s, generator)
            yield z

    def trajectory(self, x: Tensor, generator: torch.Generator, steps: int | None = None) -> list[Tensor]:
        """`walk` as a list: T + 1 latents of pictures uint8 (B, C, H, W)."""
        return list(self.walk(x, generator, steps))

    def nelbo(self, x: Tensor, generator: torch.Generator, steps: int | None = None) -> Terms:
        """Eq. 1 with one draw of the forward process. x uint8 (B, C, H, W) -> `Terms`, bits per
        pixel, differentiable.
        """
        gamma, real = self.gammas(steps), self.to_real(x)
        z, latent = self.start(real, generator, gamma[0])
        bits = []
        for gamma_t, gamma_s in pairwise(gamma):
            after = self.forward_step(real, z, gamma_t, gamma_s, generator)
            bits.append(self.step_bits(real, z, after, gamma_t, gamma_s)[0])
            z = after
        return Terms(latent, torch.stack(bits), self.pixel_bits(x, z, gamma[-1]))

    def sampled_nelbo(self, x: Tensor, generator: torch.Generator, steps: int | None = None) -> Sampled:
        """Eq. 1 from one network call a picture (section 5): the chain is simulated, one of its
        steps is scored.

        The step is drawn uniformly, spread evenly over the batch. x uint8 (B, C, H, W) ->
        `Sampled`, differentiable.
        """
        gamma, real = self.gammas(steps), self.to_real(x)
        count = len(gamma) - 1
        index = torch.floor(stratified(len(x), generator) * count).long().clamp_max(count - 1)
        here = index.view(-1, 1, 1, 1)
        z, latent = self.start(real, generator, gamma[0])
        z_t = z_s = z
        for i, (gamma_t, gamma_s) in enumerate(pairwise(gamma)):
            after = self.forward_step(real, z, gamma_t, gamma_s, generator)
            z_t, z_s, z = torch.where(here == i, z, z_t), torch.where(here == i, after, z_s), after
        step, _ = self.step_bits(real, z_t, z_s, gamma[index], gamma[index + 1])
        return Sampled(latent, index, step, self.pixel_bits(x, z, gamma[-1]), count)

    # ---- pictures from any step (section 5) ----

    @torch.no_grad()
    def denoise(self, z: Tensor, index: int, steps: int | None = None) -> Tensor:
        """The denoised prediction x_hat from z at `index` (0 .. T): smallest error, blurred while
        little is known.

        At z_0 the likeliest x under p(x | z_0): no step ever asked the network there, and its
        answer is up to 15 dB worse. (B, C, H, W) -> the same in [-1, 1].
        """
        gamma = self.gammas(steps)
        if _checked(index, gamma) == len(gamma) - 1:
            return self._likeliest(z, gamma[-1])
        return self.predict(z, gamma[index])[0]

    @torch.no_grad()
    def ancestral(self, z: Tensor, index: int, generator: torch.Generator, steps: int | None = None) -> Tensor:
        """A draw from p(x | z) for z at `index` (0 .. T): z_s ~ p(z_s | z_t) of eq. 5 down to z_0,
        then x ~ p(x | z_0).

        (B, C, H, W) -> the same in [-1, 1], values that pixels have.
        """
        gamma = self.gammas(steps)
        for gamma_t, gamma_s in pairwise(gamma[_checked(index, gamma) :]):
            z = self.backward_step(z, gamma_t, gamma_s, generator)
        weight, centre = torch.exp(-gamma[-1]), z / alpha(gamma[-1])
        drawn = []
        # Some pictures at a time, for memory's sake; as many as the likelihood takes.
        for some in torch.split(centre, max(1, LIKELIHOOD_VALUES // (z[0].numel() * self.config.model.vocab_size))):
            p = torch.softmax(self._logits(some, weight), -1)
            drawn.append(torch.multinomial(p.flatten(0, -2), 1, generator=generator).view(some.shape))
        return self.to_real(torch.cat(drawn))

    @torch.no_grad()
    def flow(self, z: Tensor, index: int, steps: int | None = None) -> Tensor:
        """The flow-based reconstruction from z at `index` (0 .. T), eq. 17: deterministic, sharper
        than `denoise`.

        z_s = alpha_s x_hat + (sigma_s / sigma_t) (z_t - alpha_t x_hat) down to z_0, then the
        likeliest x under p(x | z_0). (B, C, H, W) -> the same in [-1, 1], values that pixels have.
        """
        gamma = self.gammas(steps)
        for gamma_t, gamma_s in pairwise(gamma[_checked(index, gamma) :]):
            k = step_constants(gamma_t, gamma_s)
            x_hat, _ = self.predict(z, gamma_t)
            z = (k.alpha_s * x_hat + k.sigma_s / k.sigma_t * (z - k.alpha_t * x_hat)).to(z.dtype)
        return self._likeliest(z, gamma[-1])

    def _likeliest(self, z_0: Tensor, gamma_0: Tensor) -> Tensor:
        """The x of greatest p(x | z_0): the pixel value nearest to z_0 / alpha_0, in [-1, 1]."""
        return self.to_real(self.to_values(z_0 / alpha(gamma_0)))

    def sample(self, n: int, height: int, width: int, generator: torch.Generator, steps: int | None = None) -> Tensor:
        """n pictures from nothing: z_T ~ p(z_T), then `ancestral`. -> int64 pixel values
        (n, C, height, width).
        """
        z = self.prior((n, self.config.model.n_channels, height, width), generator)
        return self.to_values(self.ancestral(z, 0, generator, steps))


def per_pixel(nats: Tensor, like: Tensor) -> Tensor:
    """Nats per picture (B,) or per coordinate (B, C, H, W) -> bits per pixel (B,); `like` is
    (B, C, H, W).
    """
    return (nats.sum((1, 2, 3)) if nats.ndim == 4 else nats) / (math.log(2) * like[0, 0].numel())


def constants(gamma_t: Tensor, gamma_s: Tensor) -> StepConstants[Tensor]:
    """`step_constants` that broadcast against pictures, for gammas () or (B,)."""
    return step_constants(wide(gamma_t), wide(gamma_s))


def _checked(index: int, gamma: Tensor) -> int:
    if not 0 <= index < len(gamma):
        raise ValueError(f"index is {index}; with {len(gamma) - 1} steps expected 0 to {len(gamma) - 1}")
    return index
