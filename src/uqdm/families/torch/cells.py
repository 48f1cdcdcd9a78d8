"""Cells of integers, mixtures of logistics truncated to them, and the integers that a picture is.
Knows no network.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from uqdm.families.torch.distributions import DENSITIES, log_interval

SCALES = (-3.4, 7.5)  # log of the least and the greatest scale: what tables hold


class FloatCells(NamedTuple):
    """Intervals of integers, ends included: (B, C, H, W) each, floating."""

    low: Tensor
    high: Tensor


class FloatMixture(NamedTuple):
    """A mixture of J logistics for every coordinate, pixel units: (B, C, J, H, W) each."""

    location: Tensor
    log_scale: Tensor
    log_weight: Tensor  # normalised

    def truncated_bits(self, parent: FloatCells, child: FloatCells) -> Tensor:
        """-log2 of the mass that the mixture, truncated to the parent, gives to the child: (B, C,
        H, W).
        """
        return (self._log_mass(parent) - self._log_mass(child)) / math.log(2)

    def mean(self, cells: FloatCells) -> Tensor:
        """Of the mixture truncated to cells, within them: (B, C, H, W)."""
        low, high = (end[:, :, None].double() for end in cells)
        scale = torch.exp(self.log_scale.double())
        a, b = (low - 0.5 - self.location) / scale, (high + 0.5 - self.location) / scale
        mirrored = a + b > 0  # so that the box leans to the left, where the distribution function is small and exact
        a, b = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
        fa, fb = torch.sigmoid(a), torch.sigmoid(b)
        # The integral of t dF by parts.
        within = b - (F.softplus(b) - F.softplus(a) - (b - a) * fa) / (fb - fa).clamp_min(1e-300)
        within = torch.where(b - a < 1e-3, (a + b) / 2, within.clamp(a, b))
        means = self.location + scale * torch.where(mirrored, -within, within)
        mass = log_interval(DENSITIES["logistic"], low - 0.5, high + 0.5, self.location, scale)
        mean = (torch.softmax(mass + self.log_weight, 2) * means).sum(2).float()
        return torch.minimum(torch.maximum(mean, cells.low), cells.high)

    def _log_mass(self, cells: FloatCells) -> Tensor:
        low, high = (end[:, :, None] for end in cells)
        mass = log_interval(DENSITIES["logistic"], low - 0.5, high + 0.5, self.location, torch.exp(self.log_scale))
        return torch.logsumexp(mass + self.log_weight, 2)


def coordinates(x: Tensor) -> Tensor:
    """uint8 RGB (B, 3, H, W) -> YCoCg-R (Malvar and Sullivan 2003), float32 integers (see
    `families.colour`).
    """
    r, g, b = x.short().unbind(1)
    co = r - b
    t = b + (co >> 1)
    cg = g - t
    return torch.stack([t + (cg >> 1), co, cg], 1).float()


def pixels(v: Tensor) -> Tensor:
    """Real coordinates (B, 3, H, W) to RGB, 0 .. 255, without the transform's rounding down."""
    y, co, cg = v.unbind(1)
    t = y - cg / 2 + 0.25
    b = t - co / 2 + 0.25
    return torch.stack([b + co, cg + t, b], 1).clamp(0, 255)
