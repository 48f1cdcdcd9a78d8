"""Fields of integers, as exact networks of both families see and make them."""

from typing import Any

import numpy as np


def convolved(x: Any, weights: dict[str, Any], name: str) -> Any:
    weight, bias, shift = (weights[f"{name}.{field}"].astype(np.int64) for field in ("weight", "bias", "shift"))
    k, (h, w) = weight.shape[2], x.shape[1:]
    x = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = sum(np.tensordot(weight[:, :, i, j], x[:, i : i + h, j : j + w], 1) for i in range(k) for j in range(k))
    return out + bias[:, None, None] >> shift[:, None, None]


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
    return np.stack([planes[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1).reshape(-1, planes.shape[1] // 2, planes.shape[2] // 2)


def pull(skip: Any, width: Any, d: Any) -> Any:
    skip, width = (np.array(a, np.int64).reshape(-1, 1, 1) for a in (skip, width))
    return np.where(skip == 0, 0, np.sign(skip) * width * d // np.where(skip == 0, 1, abs(skip) + abs(d)))
