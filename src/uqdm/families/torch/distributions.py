"""Logistic and normal densities, alone, convolved with uniform noise and truncated; knows nothing
of images or networks.

Every function works coordinate by coordinate on tensors that broadcast together; `location` and
`scale` are the density's own (the standard deviation of a logistic is pi/sqrt(3) times its scale).
All logarithms are natural: nats per coordinate. Divide by log 2 for bits.

A probability between two edges is never formed by subtracting two numbers close to 1: far out in
either tail the logarithm stays finite, and so does its gradient, at 1e4 scales from the centre and
beyond.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

LOGISTIC_SCALE = math.sqrt(3) / math.pi  # the scale of a logistic whose standard deviation is 1


class Density(Protocol):
    """A standard density on the line: location 0, scale 1, symmetric about 0."""

    unit: float  # the scale at which the standard deviation is 1

    def cdf(self, x: Tensor) -> Tensor:
        """G(x), in [0, 1]."""

    def log_density(self, x: Tensor) -> Tensor:
        """log g(x), nats."""

    def log_mass(self, centre: Tensor, width: Tensor) -> Tensor:
        """log(G(centre + width/2) - G(centre - width/2)), nats; width > 0, both finite."""

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Independent draws, of `like`'s shape, dtype and device."""


class Logistic:
    """G(x) = 1 / (1 + e^-x); the standard deviation of g is pi/sqrt(3)."""

    unit = LOGISTIC_SCALE

    def cdf(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def log_density(self, x: Tensor) -> Tensor:
        return F.logsigmoid(x) + F.logsigmoid(-x)

    def log_mass(self, centre: Tensor, width: Tensor) -> Tensor:
        """Exactly log s(b) + log s(-a) + log(1 - e^(a - b)) with s the sigmoid and a, b the edges:
        no term cancels another.
        """
        # A width that has rounded to 0 stands for a very small one; log 0 would make the gradient
        # of a whole batch infinite.
        width = torch.clamp_min(width, torch.finfo(width.dtype).tiny)
        return F.logsigmoid(centre + width / 2) + F.logsigmoid(width / 2 - centre) + torch.log(-torch.expm1(-width))

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        u = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        return torch.logit(u, eps=torch.finfo(like.dtype).eps / 2)  # u = 0 occurs and would give -inf


class Normal:
    """The standard normal: scale is standard deviation."""

    unit = 1.0

    def cdf(self, x: Tensor) -> Tensor:
        return torch.special.ndtr(x)  # type: ignore[no-any-return]

    def log_density(self, x: Tensor) -> Tensor:
        return -x * x / 2 - math.log(2 * math.pi) / 2

    def log_mass(self, centre: Tensor, width: Tensor) -> Tensor:
        """Three ways, each where it is exact; by symmetry the centre is taken as non-negative.

        Narrow: the density at the centre times the width, and the next term of the series. Both
        edges on one side: phi(a) times a difference of erfcx, which is erfc without its tail. Edges
        on either side of 0: a sum of two erf.
        """
        tiny = torch.finfo(width.dtype).tiny
        c = centre.abs() + torch.zeros_like(width)
        width = torch.clamp_min(width, tiny) + torch.zeros_like(c)
        h, root = width / 2, math.sqrt(0.5)
        narrow = width * torch.clamp_min(c, 1.0) < 0.1
        beside = c >= h
        # Every branch is evaluated everywhere, so arguments are first moved where the branch is
        # finite: a gradient of inf or nan from a branch that `where` throws away would still poison
        # the sum (0 * inf).
        a = torch.where(beside & ~narrow, c - h, torch.zeros_like(c))
        wide = torch.where(narrow, torch.ones_like(width), width)
        near = torch.where(narrow, c, torch.zeros_like(c))
        thin = torch.where(narrow, h, torch.full_like(h, 0.01))
        by_series = self.log_density(near) + torch.log(2 * thin) + (near * near - 1) * thin * thin / 6
        gap = torch.special.erfcx(a * root) - torch.exp(-wide * (a + wide / 2)) * torch.special.erfcx((a + wide) * root)
        by_tail = -a * a / 2 + torch.log(torch.clamp_min(gap, tiny) / 2)
        both = torch.erf((c + h) * root) + torch.erf((h - c) * root)
        by_sum = torch.log(torch.clamp_min(both, tiny) / 2)
        return torch.where(narrow, by_series, torch.where(beside, by_tail, by_sum))

    def sample(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


DENSITIES: dict[str, Density] = {"logistic": Logistic(), "gaussian": Normal()}


def log_mass_around(g: Density, y: Tensor, delta: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """log(G(y + delta/2) - G(y - delta/2)), nats: of the mass in the box of width delta around y.
    Like y.

    It is log(delta p(y)) for the density p = g * U(-delta/2, delta/2) of eq. 3, and of eq. 5 with
    the g of eq. 6 (normal) or 7 (logistic); the integral is appendix B.2's.
    """
    return g.log_mass((y - location) / scale, (delta / scale).to(y.dtype))


def log_interval(g: Density, low: Tensor, high: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """log(G(high) - G(low)), nats; low < high, finite."""
    return log_mass_around(g, (low + high) / 2, high - low, location, scale)


def sample_convolved(g: Density, delta: Tensor, location: Tensor, scale: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from g * U(-delta/2, delta/2) (eq. 5), of `location`'s shape, dtype and device."""
    u = torch.rand(location.shape, generator=generator, device=location.device, dtype=location.dtype) - 0.5
    return location + scale * g.sample(location, generator) + delta * u
