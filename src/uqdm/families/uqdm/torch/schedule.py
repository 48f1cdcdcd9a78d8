"""Noise schedules gamma(t) = -log SNR(t), learned or not; `constants.py` has what follows from
them. Knows no network and no data.

Time runs over [0, 1]: t = 1 is pure noise (z_T), t = 0 the latent that the pixels are read from
(z_0). gamma increases with t, and alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma), so alpha^2 +
sigma^2 = 1 (variance preserving, section 2).
"""

import torch
from torch import Tensor, nn

from uqdm.families.uqdm import constants
from uqdm.families.uqdm.constants import StepConstants

HIDDEN = 1024  # units of the monotone network's inner layer, as in VDM


def alpha(gamma: Tensor) -> Tensor:
    """Signal level (`constants.alpha`). Any shape and floating dtype -> the same."""
    return constants.alpha(gamma, torch)  # type: ignore[no-any-return]


def sigma(gamma: Tensor) -> Tensor:
    """Noise level (`constants.sigma`). Any shape and floating dtype -> the same."""
    return constants.sigma(gamma, torch)  # type: ignore[no-any-return]


def step_constants(gamma_t: Tensor, gamma_s: Tensor) -> StepConstants[Tensor]:
    """Eq. 4 (`constants.step_constants`). gamma_s < gamma_t, any shape; in float64, since both ends
    of a codec rely on it.
    """
    return constants.step_constants(gamma_t.double(), gamma_s.double(), torch)


class FixedLinear(nn.Module):
    """gamma(t) = gamma_min + (gamma_max - gamma_min) t; nothing is learned."""

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        self.gamma_min, self.gamma_max = gamma_min, gamma_max

    def forward(self, t: Tensor) -> Tensor:
        """t in [0, 1], any shape -> gamma, same shape and dtype."""
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t


class LearnedLinear(nn.Module):
    """A line with learned ends: |w| (t - 1) + gamma_max with `fix_gamma_max`, else b + |w| t.
    Starts as `FixedLinear`.
    """

    def __init__(self, gamma_min: float, gamma_max: float, fix_gamma_max: bool) -> None:
        super().__init__()
        self.gamma_max, self.fix_gamma_max = gamma_max, fix_gamma_max
        if not fix_gamma_max:
            self.b = nn.Parameter(torch.tensor(float(gamma_min)))
        self.w = nn.Parameter(torch.tensor(float(gamma_max - gamma_min)))

    def forward(self, t: Tensor) -> Tensor:
        """t in [0, 1], any shape -> gamma, same shape and dtype."""
        w = self.w.to(t.dtype).abs()
        if self.fix_gamma_max:
            return w * (t - 1) + self.gamma_max
        return self.b.to(t.dtype) + w * t


class LearnedMonotone(nn.Module):
    """A monotone network of t (section 3.1, as in VDM), normalised so that its ends are learned
    apart from its shape.

    f(t) = l1(t) + l3(sigmoid(l2(l1(t)))), linear layers with weights made positive by their
    absolute value, l2 of `HIDDEN` units; gamma(t) = b + |w| (f(t) - f(0)) / (f(1) - f(0)), so
    gamma(0) = b and gamma(1) = b + |w|, at first gamma_min and gamma_max. With `fix_gamma_max`,
    gamma(1) stays gamma_max and b follows from w.
    """

    def __init__(self, gamma_min: float, gamma_max: float, fix_gamma_max: bool) -> None:
        super().__init__()
        self.ends = LearnedLinear(gamma_min, gamma_max, fix_gamma_max)
        # l1 starts as t -> 8 t - 4, so that the sigmoids see their whole range; l3 small, so that
        # gamma starts close to a line.
        self.weight1, self.bias1 = nn.Parameter(torch.tensor(8.0)), nn.Parameter(torch.tensor(-4.0))
        self.weight2, self.bias2 = nn.Parameter(torch.randn(HIDDEN)), nn.Parameter(torch.randn(HIDDEN))
        self.weight3 = nn.Parameter(torch.rand(HIDDEN) / HIDDEN)

    def forward(self, t: Tensor) -> Tensor:
        """t in [0, 1], any shape -> gamma, same shape and dtype."""
        ends = torch.tensor([0.0, 1.0], dtype=t.dtype, device=t.device)
        low, high = self._shape(ends)
        return self.ends((self._shape(t) - low) / (high - low))  # type: ignore[no-any-return]

    def _shape(self, t: Tensor) -> Tensor:
        first = self.weight1.to(t.dtype).abs() * t + self.bias1.to(t.dtype)
        inner = torch.sigmoid(self.weight2.to(t.dtype).abs() * first[..., None] + self.bias2.to(t.dtype))
        return first + inner @ self.weight3.to(t.dtype).abs()


Schedule = FixedLinear | LearnedLinear | LearnedMonotone


def new_schedule(kind: str, gamma_min: float, gamma_max: float, fix_gamma_max: bool) -> Schedule:
    """A fresh schedule. `kind`: "fixed_linear", "learned_linear" or "learned_monotone". Raises
    `ValueError` for any other.
    """
    if kind == "fixed_linear":
        return FixedLinear(gamma_min, gamma_max)
    if kind == "learned_linear":
        return LearnedLinear(gamma_min, gamma_max, fix_gamma_max)
    if kind == "learned_monotone":
        return LearnedMonotone(gamma_min, gamma_max, fix_gamma_max)
    raise ValueError(f"noise_schedule is {kind!r}; expected fixed_linear, learned_linear or learned_monotone")
