"""The constants of a UQDM: eq. 4 of the paper, written once, and what a package stores of it. Knows
no network and no torch.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from uqdm.bundle import Package, floats, hexadecimal, tuples
from uqdm.errors import PackageError
from uqdm.families import colour
from uqdm.families.boxes import MOST_PRIORITY

MAX_STEPS = 239  # what a file can hold
FAR = 2.0**24  # no real number of the constants is larger, nor its reciprocal where it has one
MOST_SPREAD = 64.0  # pixel values of p(x | z_0)
MOST_QUANTILES = 1 << 16
Number = TypeVar("Number")  # a float, or a tensor
QUANTILES = 4096  # of the prior that we write: z_T is drawn by table, in units of 2**-16


class Reals:
    """Real numbers in the standard library's arithmetic, for `step_constants`; PyTorch has the same
    names for tensors.
    """

    sqrt, expm1 = math.sqrt, math.expm1

    @staticmethod
    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))


def alpha(gamma: Any, arithmetic: Any = Reals) -> Any:
    """Signal level sqrt(sigmoid(-gamma)) in (0, 1), section 2."""
    return arithmetic.sqrt(arithmetic.sigmoid(-gamma))


def sigma(gamma: Any, arithmetic: Any = Reals) -> Any:
    """Noise level sqrt(sigmoid(gamma)) in (0, 1), section 2."""
    return arithmetic.sqrt(arithmetic.sigmoid(gamma))


class StepConstants(NamedTuple, Generic[Number]):
    """What the step from z_t to z_s (s < t) needs: numbers, or tensors of gamma's shape in float64.

    q(z_s | z_t, x) is uniform on a box of width `delta` around b z_t + c x (eq. 4, appendix A.2).
    """

    b: Number
    c: Number
    delta: Number
    alpha_t: Number
    sigma_t: Number
    alpha_s: Number
    sigma_s: Number
    e: Number  # 1 - SNR(t) / SNR(s), in (0, 1)


def step_constants(gamma_t: Any, gamma_s: Any, arithmetic: Any = Reals) -> StepConstants[Any]:
    """b(t), c(t), Delta(t) of eq. 4, with the values given below it (section 3.1, appendix
    A.1-A.2). gamma_s < gamma_t.

    With e = 1 - SNR(t)/SNR(s): sigma_{t|s}^2 = e sigma_t^2, so the paper's b = alpha_{t|s}
    sigma_s^2 / sigma_t^2 is (1 - e) alpha_s / alpha_t, its c is alpha_s e, and Delta = sqrt(12)
    sigma_Q with sigma_Q^2 = e sigma_s^2. Written with e these lose no digits where SNR(s) and
    SNR(t) are close.

    `arithmetic` has sqrt, expm1 and sigmoid: `Reals` for floats, `torch` for tensors. Packages
    store these numbers to the last bit, so the order of operations stays as it is.
    """
    e = -arithmetic.expm1(gamma_s - gamma_t)
    alpha_t, alpha_s = alpha(gamma_t, arithmetic), alpha(gamma_s, arithmetic)
    sigma_t, sigma_s = sigma(gamma_t, arithmetic), sigma(gamma_s, arithmetic)
    b = (1 - e) * alpha_s / alpha_t
    return StepConstants(b, alpha_s * e, arithmetic.sqrt(12 * e) * sigma_s, alpha_t, sigma_t, alpha_s, sigma_s, e)


def prior_table() -> list[int]:
    """Middles of QUANTILES equally likely intervals of N(0, 1), in 2**-16."""
    normal = NormalDist()
    return [round(normal.inv_cdf((i + 0.5) / QUANTILES) * 2**16) for i in range(QUANTILES)]


def diffusion_constants(
    gamma: Sequence[float],
    space: str,
    offset: Sequence[float],
    scale: Sequence[float],
    priority: Sequence[int] | None = None,
) -> dict[str, object]:
    """`UqdmConstants` as a package stores them, from gamma at t = 1 .. 0 (T + 1 values).

    On the pixel axis a box is scale * Delta / c wide. `priority`: added to a coordinate's scale
    level for its turn inside a step, one for each channel (0 unless given).
    """
    steps = [step_constants(t, s) for t, s in itertools.pairwise(gamma)]
    return {
        "space": space,
        "offset": hexadecimal(list(offset)),
        "scale": hexadecimal(list(scale)),
        "alpha": hexadecimal([alpha(g) for g in gamma]),
        "sigma": hexadecimal([sigma(g) for g in gamma]),
        "b": hexadecimal([k.b for k in steps]),
        "c": hexadecimal([k.c for k in steps]),
        "widths": [[round(s * k.delta / k.c * 2**16) for s in scale] for k in steps],
        "pixel_spread": hexadecimal([s * math.exp(gamma[-1] / 2) for s in scale]),
        "prior": prior_table(),
        "priority": list(priority) if priority is not None else [0] * len(scale),
    }


def log2_scale(gamma_t: float, gamma_s: float, scale: float, forward_kernel: bool) -> float:
    """log2 of the scale of a step's logistic (eq. 7) in pixel values, where the network's factor is
    1: of `UQDM.reverse`'s over c.

    Packages store it to the last bit, and that depends on the order of operations. So sigma and c
    are written out here.
    """
    e = -math.expm1(gamma_s - gamma_t)
    deviation = math.sqrt(e / (1 + math.exp(-(gamma_t if forward_kernel else gamma_s))))  # of g, in units of z
    c = e / math.sqrt(1 + math.exp(gamma_s))
    return math.log2(scale * math.sqrt(3) / math.pi * deviation / c)


@dataclasses.dataclass(frozen=True)
class UqdmConstants:
    """What a UQDM's arithmetic needs besides its network, exactly as its package stores it. T
    steps, C channels.
    """

    space: str  # colour space of the coordinates
    offset: tuple[float, ...]  # (C,) x = (v - offset) / scale
    scale: tuple[float, ...]
    alpha: tuple[float, ...]  # (T + 1,) at t = 1 .. 0
    sigma: tuple[float, ...]
    b: tuple[float, ...]  # (T,) eq. 4-5, first step first
    c: tuple[float, ...]
    widths: tuple[tuple[int, ...], ...]  # (T, C) interval widths in 2**-16 pixel values
    pixel_spread: tuple[float, ...]  # (C,) standard deviation of p(x | z_0) in pixel values (`Paper`)
    prior: tuple[int, ...]  # quantiles of N(0, 1) in 2**-16, a power of two of them: z_T
    priority: tuple[int, ...]  # (C,) added to a coordinate's scale level for its turn inside a step

    @property
    def steps(self) -> int:
        """T."""
        return len(self.b)

    def __post_init__(self) -> None:
        t, channels = len(self.b), 3
        sizes = {"alpha": t + 1, "sigma": t + 1, "c": t, "widths": t, "offset": channels, "scale": channels}
        sizes |= {"pixel_spread": channels, "priority": channels}
        for name, size in sizes.items():
            if len(getattr(self, name)) != size:
                raise PackageError(
                    f"constant {name!r} has {len(getattr(self, name))} entries, expected {size} for T = {t}"
                )
        if not isinstance(self.space, str) or self.space not in colour.LOWEST:
            raise PackageError(f"colour space {self.space!r}; expected one of {', '.join(colour.LOWEST)}")
        if (
            not 1 <= t <= MAX_STEPS
            or not 2 <= len(self.prior) <= MOST_QUANTILES
            or len(self.prior) & (len(self.prior) - 1)
        ):
            raise PackageError(
                f"T = {t}, {len(self.prior)} quantiles; expected T of 1 .. {MAX_STEPS} and a power of two of quantiles"
            )
        positive = [*self.alpha, *self.sigma, *self.scale, *self.pixel_spread]
        reals = [*positive, *self.b, *self.c, *self.offset]
        if not all(abs(v) <= FAR for v in reals) or min(positive) < 1 / FAR:  # not so of what is no number, either
            raise PackageError(
                "the constants hold a value that is not finite or beyond 2**24, or a scale that is not positive"
            )
        if any(a > b for a, b in itertools.pairwise(self.alpha)) or any(
            a < b for a, b in itertools.pairwise(self.sigma)
        ):
            raise PackageError("alpha falls or sigma rises on the way to the picture; expected ever less noise")
        if max(self.pixel_spread) > MOST_SPREAD:
            raise PackageError(f"pixel_spread is {self.pixel_spread}; expected at most {MOST_SPREAD:g} pixel values")
        if any(len(row) != channels or not all(type(w) is int and 16 <= w < 2**31 for w in row) for row in self.widths):
            raise PackageError(
                "a box width is not one of 16 .. 2**31 - 1 (in 2**-16 pixel values) for each channel: gamma reaches"
                " too far"
            )
        if any(type(q) is not int or abs(q) >= 2**31 for q in self.prior):
            raise PackageError("a quantile of the prior is no integer below 2**31 in size")
        if any(type(p) is not int or abs(p) > MOST_PRIORITY for p in self.priority):
            raise PackageError(f"priorities {self.priority}: expected integers of at most {MOST_PRIORITY} in size")

    @classmethod
    def of(cls, model: Package) -> "UqdmConstants":
        """A package's stored constants. Raises `PackageError` where they are not those of this
        family.
        """
        stored = model.constants
        exact = {"alpha", "sigma", "b", "c", "offset", "scale", "pixel_spread"}
        try:
            found = cls(**{k: floats(v) if k in exact else v if k == "space" else tuples(v) for k, v in stored.items()})
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise PackageError(f"{model.name}: the constants are not those of the family 'uqdm': {error}") from None
        found._agree(model)
        return found

    def _agree(self, model: Package) -> None:
        """Raises `PackageError` where the network is one of other steps or coordinates: its bound
        would be another's.
        """
        steps = model.network.get("steps")
        if isinstance(steps, list) and len(steps) != self.steps:
            raise PackageError(f"{model.name}: constants for {self.steps} steps, networks for {len(steps)}")
        if model.network.get("kind") != "exact":
            return
        for i in range(self.steps):
            middle = model.weights.get(f"{i}.middle", np.zeros(0, np.int16)).tolist()
            if len(middle) != 3 or any(m and low < 0 for m, low in zip(middle, colour.LOWEST[self.space])):
                raise PackageError(
                    f"{model.name}, step {i + 1}: middle is {middle}; expected 0 where {self.space} goes below 0"
                )
