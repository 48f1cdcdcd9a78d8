"""Noise schedules gamma(t) = -log SNR(t), and the constants of a step that follow from them; knows no network and no data.

Time runs over [0, 1]: t = 1 is pure noise (z_T), t = 0 the latent that the pixels are read from (z_0). gamma increases with t,
and alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma), so alpha^2 + sigma^2 = 1 (variance preserving, section 2).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

HIDDEN = 1024  # units of the monotone network's inner layer, as in VDM


def alpha(gamma: Tensor) -> Tensor:
    """Signal level sqrt(sigmoid(-gamma)) in (0, 1), section 2. Any shape and floating dtype -> the same."""
    return torch.sqrt(torch.sigmoid(-gamma))


def sigma(gamma: Tensor) -> Tensor:
    """Noise level sqrt(sigmoid(gamma)) in (0, 1), section 2. Any shape and floating dtype -> the same."""
    return torch.sqrt(torch.sigmoid(gamma))


class StepConstants(NamedTuple):
    """What the step from z_t to z_s (s < t) needs; every field float64, of gamma's shape.

    q(z_s | z_t, x) is uniform on a box of width `delta` around b z_t + c x (eq. 4, appendix A.2).
    """

    b: Tensor
    c: Tensor
    delta: Tensor
    alpha_t: Tensor
    sigma_t: Tensor
    alpha_s: Tensor
    sigma_s: Tensor
    e: Tensor  # 1 - SNR(t) / SNR(s), in (0, 1)


def step_constants(gamma_t: Tensor, gamma_s: Tensor) -> StepConstants:
    """b(t), c(t), Delta(t) of eq. 4, with the values given below it (section 3.1, appendix A.1-A.2). gamma_s < gamma_t; any shape.

    With e = 1 - SNR(t)/SNR(s): sigma_{t|s}^2 = e sigma_t^2, so the paper's b = alpha_{t|s} sigma_s^2 / sigma_t^2 is
    (1 - e) alpha_s / alpha_t, its c is alpha_s e, and Delta = sqrt(12) sigma_Q with sigma_Q^2 = e sigma_s^2. Written with
    e these lose no digits where SNR(s) and SNR(t) are close. In float64, since both ends of a codec rely on them.
    """
    gamma_t, gamma_s = gamma_t.double(), gamma_s.double()
    e = -torch.expm1(gamma_s - gamma_t)
    alpha_t, alpha_s, sigma_t, sigma_s = alpha(gamma_t), alpha(gamma_s), sigma(gamma_t), sigma(gamma_s)
    b = (1 - e) * alpha_s / alpha_t
    return StepConstants(b, alpha_s * e, torch.sqrt(12 * e) * sigma_s, alpha_t, sigma_t, alpha_s, sigma_s, e)


class FixedLinear(nn.Module):
    """gamma(t) = gamma_min + (gamma_max - gamma_min) t; nothing is learned."""

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        self.gamma_min, self.gamma_max = gamma_min, gamma_max

    def forward(self, t: Tensor) -> Tensor:
        """t in [0, 1], any shape -> gamma, same shape and dtype."""
        return self.gamma_min + (self.gamma_max - self.gamma_min) * t


class LearnedLinear(nn.Module):
    """A line with learned ends: |w| (t - 1) + gamma_max with `fix_gamma_max`, else b + |w| t. Starts as `FixedLinear`."""

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
    """A monotone network of t (section 3.1, as in VDM), normalised so that its ends are learned apart from its shape.

    f(t) = l1(t) + l3(sigmoid(l2(l1(t)))), linear layers with weights made positive by their absolute value, l2 of `HIDDEN`
    units; gamma(t) = b + |w| (f(t) - f(0)) / (f(1) - f(0)), so gamma(0) = b and gamma(1) = b + |w|, at first gamma_min
    and gamma_max. With `fix_gamma_max`, gamma(1) stays gamma_max and b follows from w.
    """

    def __init__(self, gamma_min: float, gamma_max: float, fix_gamma_max: bool) -> None:
        super().__init__()
        self.ends = LearnedLinear(gamma_min, gamma_max, fix_gamma_max)
        # l1 starts as t -> 8 t - 4, so that the sigmoids see their whole range; l3 small, so that gamma starts close to a line.
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
    """A fresh schedule. `kind`: "fixed_linear", "learned_linear" or "learned_monotone". Raises `ValueError` for any other."""
    if kind == "fixed_linear":
        return FixedLinear(gamma_min, gamma_max)
    if kind == "learned_linear":
        return LearnedLinear(gamma_min, gamma_max, fix_gamma_max)
    if kind == "learned_monotone":
        return LearnedMonotone(gamma_min, gamma_max, fix_gamma_max)
    raise ValueError(f"noise_schedule is {kind!r}; expected fixed_linear, learned_linear or learned_monotone")
