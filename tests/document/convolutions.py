"""Fields of integers, as exact networks see and make them, and a model's arrays."""

from typing import Any

import numpy as np


def convolved(x: Any, weights: dict[str, Any], name: str) -> Any:
    """No sum reaches 2^24, so they are exact in float32, and fast."""
    weight, bias, shift = (weights[f"{name}.{field}"].astype(np.int64) for field in ("weight", "bias", "shift"))
    return summed(x, weight, np.float32) + bias[:, None, None] >> shift[:, None, None]


def summed(x: Any, weight: Any, kind: Any = np.float64) -> Any:
    """A convolution's sums, with zeros around the field. Integers below 2^53 are exact in
    float64.
    """
    k, (h, w) = weight.shape[2], x.shape[1:]
    x = np.pad(x.astype(kind), ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    weight = weight.astype(kind)
    out = sum(np.tensordot(weight[:, :, i, j], x[:, i : i + h, j : j + w], 1) for i in range(k) for j in range(k))
    return np.asarray(out).astype(np.int64)


def evened(low: Any, high: Any) -> tuple[Any, Any]:
    h, w = low.shape[1:]
    low, high = (np.pad(a, ((0, 0), (0, h % 2), (0, w % 2)), "edge") for a in (low, high))
    return low, high


def high_passed(m: Any) -> Any:
    h, w = m.shape[1:]
    around, d = np.pad(m, ((0, 0), (1, 1), (1, 1)), "edge"), 16 * m
    for (i, a), (j, b) in ((p, q) for p in enumerate((1, 2, 1)) for q in enumerate((1, 2, 1))):
        d = d - a * b * around[:, i : i + h, j : j + w]
    return d


def quartered(planes: Any) -> Any:
    return np.stack([planes[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1).reshape(
        -1, planes.shape[1] // 2, planes.shape[2] // 2
    )


def pull(skip: Any, width: Any, d: Any) -> Any:
    skip, width = (np.array(a, np.int64).reshape(-1, 1, 1) for a in (skip, width))
    return np.where(skip == 0, 0, np.sign(skip) * width * d // np.where(skip == 0, 1, abs(skip) + abs(d)))


def whole(stored: dict[str, Any]) -> dict[str, Any]:
    """The arrays of weights.safetensors, halves put together."""
    found = {}
    for name, a in stored.items():
        if (stem := name.removesuffix(".high")) != name and f"{stem}.low" in stored:
            found[stem] = (256 * a.astype(np.int64) + stored[f"{stem}.low"]).astype(np.int16)
        elif not (name.endswith(".low") and f"{name.removesuffix('.low')}.high" in stored):
            found[name] = a
    return found
