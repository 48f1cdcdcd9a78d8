"""How far a decoded picture is from the true one, and a set of them from the true set. Knows no
codec.

Pictures have mean squared error (PSNR is in `uqdm.quality`), SSIM (Wang et al. 2004) and MS-SSIM
(Wang et al. 2003) as torchmetrics computes them, on RGB. Sets have the sliced Wasserstein distance
of patches (Karras et al. 2018, section 5), and the Fréchet distance of any features that are
supplied (Heusel et al. 2017; with Inception's features it is FID). Nothing is ever downloaded.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import EvaluationError

Pixels = NDArray[np.uint8]  # (H, W, 3)
Floats = NDArray[np.float64]

WINDOW = 11  # of SSIM, in pixels a side
SMALLEST_MS = 176  # the least side for MS-SSIM's five scales: 16 windows
# of the sliced Wasserstein distance: pixels a side; how many for each picture and level; slices
PATCH, PATCHES, DIRECTIONS, LEVELS = 7, 32, 32, 3


def mse(a: Pixels, b: Pixels) -> float:
    """Mean squared error over all values."""
    return float(np.mean((a.astype(np.float64) - b) ** 2))


def ssim(a: Pixels, b: Pixels) -> float | None:
    """Mean SSIM over RGB; None if a side is below 11 pixels."""
    if min(a.shape[:2]) < WINDOW:
        return None
    from torchmetrics.functional.image import structural_similarity_index_measure as measure

    return float(measure(_batch(a), _batch(b), data_range=255.0))  # type: ignore[arg-type]


def ms_ssim(a: Pixels, b: Pixels) -> float | None:
    """MS-SSIM over RGB; None if a side is below 176 pixels."""
    if min(a.shape[:2]) < SMALLEST_MS:
        return None
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure

    return float(measure(_batch(a), _batch(b), data_range=255.0))


def _batch(pixels: Pixels) -> Any:
    """(1, 3, H, W) float64."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).double()[None]


# --- sets: sliced Wasserstein ----------------------------------------------------------------------------------------------------


@functools.cache
def _directions() -> Floats:
    """(3 PATCH**2, DIRECTIONS) unit vectors."""
    random = np.random.Generator(np.random.Philox(1))
    found = random.standard_normal((3 * PATCH**2, DIRECTIONS))
    unit: Floats = found / np.linalg.norm(found, axis=0)
    return unit


def _halved(image: Floats) -> Floats:
    """Means of 2 x 2 pixels. An odd row or column at the end is left out."""
    h, w = (side // 2 * 2 for side in image.shape[:2])
    found: Floats = image[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean((1, 3))
    return found


def slices(pixels: Pixels, seed: int) -> NDArray[np.float32]:
    """What `sliced_wasserstein` compares of one picture: (LEVELS, PATCHES, DIRECTIONS). Levels too
    small for a patch are NaN.

    Patches come from a Laplacian pyramid (finest level first), at places that follow from `seed`,
    and are projected on fixed directions. Values are in pixel values.
    """
    found = np.full((LEVELS, PATCHES, DIRECTIONS), np.nan, np.float32)
    random = np.random.Generator(np.random.Philox(seed))
    image: Floats = pixels.astype(np.float64)
    for level in range(LEVELS):
        h, w = image.shape[:2]
        if min(h, w) < PATCH:
            break
        smaller = _halved(image)
        last = level == LEVELS - 1 or min(smaller.shape[:2]) < PATCH
        band = image
        if not last:
            grown = smaller.repeat(2, 0).repeat(2, 1)
            band = image[: grown.shape[0], : grown.shape[1]] - grown
        ys, xs = (random.integers(0, side - PATCH + 1, PATCHES) for side in band.shape[:2])
        patches = np.stack([band[y : y + PATCH, x : x + PATCH].ravel() for y, x in zip(ys, xs)])
        found[level] = patches @ _directions() / math.sqrt(3 * PATCH**2)
        if last:
            break
        image = smaller
    return found


def sliced_wasserstein(a: NDArray[np.float32], b: NDArray[np.float32]) -> float | None:
    """Mean over levels and directions of the Wasserstein-1 distance between two sets' `slices` (n,
    LEVELS, PATCHES, DIRECTIONS).

    It is in pixel values, for sets of equal size, and 0 for equal sets. With few pictures it is
    biased upward, so compare it only at equal n. Levels that are too small in any picture are left
    out; None if all are.
    """
    if a.shape != b.shape:
        raise EvaluationError(f"sets of {a.shape} and {b.shape}: the sets must be of one size")
    there = ~np.isnan(a).any((0, 2, 3))
    if not there.any():
        return None
    one, other = (np.sort(s[:, there].transpose(1, 3, 0, 2).reshape(int(there.sum()), s.shape[3], -1), -1) for s in (a, b))
    return float(np.mean(np.abs(one - other)))


# --- sets: features that are supplied --------------------------------------------------------------------------------------------


def frechet(a: Floats, b: Floats) -> float:
    """Fréchet distance between normal distributions fitted to features (n, d) and (m, d). With
    Inception's features it is FID.
    """
    means, covariances = zip(*((x.mean(0), np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])) for x in (a, b)))
    spectrum = np.linalg.eigvals(covariances[0] @ covariances[1])
    cross = np.sqrt(np.clip(spectrum.real, 0, None)).sum()
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * cross)


def read_module(path: str | Path) -> Callable[..., Any]:
    """A TorchScript file, ready to be called. Raises `EvaluationError`."""
    import torch

    try:
        return torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-any-return, no-untyped-call]
    except (OSError, RuntimeError, ValueError) as error:
        raise EvaluationError(f"{path}: not a TorchScript module: {str(error).splitlines()[0]}") from None


def features(module: Callable[..., Any], pixels: Pixels) -> Floats:
    """The features (d,) of one picture, by a module that takes uint8 (1, 3, H, W).

    It is called with `return_features=True` if it knows that, as the TorchScript files of Inception
    in circulation do. Raises `EvaluationError` if it does not give such features.
    """
    import torch

    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    known = {argument.name for argument in module.forward.schema.arguments}  # type: ignore[attr-defined]
    with torch.no_grad():
        found = module(x, return_features=True) if "return_features" in known else module(x)
    if not isinstance(found, torch.Tensor) or found.shape[0] != 1:
        raise EvaluationError("the feature extractor gave no tensor (1, ...) for a picture uint8 (1, 3, H, W)")
    return found.double().flatten().numpy()


def lpips(module: Callable[..., Any], a: Pixels, b: Pixels) -> float:
    """LPIPS of one picture (Zhang et al. 2018), by a supplied module that takes two float (1, 3, H, W) in [-1, 1]."""
    import torch

    with torch.no_grad():
        return float(module(*(_batch(p).float() / 127.5 - 1 for p in (a, b))))
