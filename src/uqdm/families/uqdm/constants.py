"""The constants of a UQDM from its schedule, in the standard library's arithmetic; what a package stores, the codec only reads."""

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

from uqdm.bundle import hexadecimal

QUANTILES = 4096  # of the prior: z_T is drawn by table, in units of 2**-16


def prior_table() -> list[int]:
    """Middles of QUANTILES equally likely intervals of N(0, 1), in 2**-16."""
    normal = NormalDist()
    return [round(normal.inv_cdf((i + 0.5) / QUANTILES) * 2**16) for i in range(QUANTILES)]


def diffusion_constants(
    gamma: Sequence[float], space: str, offset: Sequence[float], scale: Sequence[float], priority: Sequence[int] | None = None
) -> dict[str, object]:
    """The constants of `families.uqdm.Constants` from gamma at t = 1 .. 0 (T + 1 values), eq. 4-5 and appendix A.

    With e = 1 - SNR(t) / SNR(s) = -expm1(gamma_s - gamma_t) the forward step is b = (1 - e) alpha_s / alpha_t, c = alpha_s e and
    Delta = sigma_s sqrt(12 e); on the pixel axis its width is scale * Delta / c. `priority`: added to a coordinate's scale level for
    its turn inside a step, one for each channel (0 unless given).
    """
    alpha = [math.sqrt(1 / (1 + math.exp(g))) for g in gamma]
    sigma = [math.sqrt(1 / (1 + math.exp(-g))) for g in gamma]
    e = [-math.expm1(s - t) for t, s in itertools.pairwise(gamma)]
    c = [alpha[i + 1] * e[i] for i in range(len(e))]
    delta = [sigma[i + 1] * math.sqrt(12 * e[i]) for i in range(len(e))]
    return {
        "space": space,
        "offset": hexadecimal(list(offset)),
        "scale": hexadecimal(list(scale)),
        "alpha": hexadecimal(alpha),
        "sigma": hexadecimal(sigma),
        "b": hexadecimal([(1 - e[i]) * alpha[i + 1] / alpha[i] for i in range(len(e))]),
        "c": hexadecimal(c),
        "widths": [[round(s * delta[i] / c[i] * 2**16) for s in scale] for i in range(len(e))],
        "pixel_spread": hexadecimal([s * math.exp(gamma[-1] / 2) for s in scale]),
        "prior": prior_table(),
        "priority": list(priority) if priority is not None else [0] * len(scale),
    }
