"""Weights of mixtures in integers. They turn logarithms from networks into shares that add up.
Knows nothing of what is mixed.
"""

import functools
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHT_BITS = 6


TOTAL = 256  # the sum of the weights


SMALLEST = 1 << (WEIGHT_BITS + 4)  # e**-16: logarithms further below the largest count as that


@functools.cache
def exponentials() -> NDArray[np.int64]:
    """exp(-k / 2**WEIGHT_BITS) in 2**-30 for k = 0 .. SMALLEST."""
    with localcontext() as context:
        context.prec = 50
        ratio = (Decimal(-1) / 2**WEIGHT_BITS).exp()
        return np.array([int((ratio**k * 2**30).to_integral_value()) for k in range(SMALLEST + 1)], np.int64)


def weights(logarithms: NDArray[Any]) -> NDArray[np.uint16]:
    """(..., J) logarithms in 2**-WEIGHT_BITS nats -> weights of at least 1 that add up to TOTAL
    over J.

    A weight is floor(e / sum of e * (TOTAL - J)) + 1, with e from `exponentials`. The first of the
    largest gets what is left.
    """
    raw, count = logarithms.astype(np.int64), logarithms.shape[-1]
    shares = exponentials()[np.minimum(raw.max(-1, keepdims=True) - raw, SMALLEST)]
    found = shares * (TOTAL - count) // shares.sum(-1, keepdims=True) + 1
    first = raw.argmax(-1)[..., None]
    np.put_along_axis(found, first, np.take_along_axis(found, first, -1) + TOTAL - found.sum(-1, keepdims=True), -1)
    weights: NDArray[np.uint16] = found.astype(np.uint16)
    return weights
