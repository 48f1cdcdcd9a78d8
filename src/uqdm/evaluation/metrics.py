"""How far a decoded picture is from the true one, and a set of them from the true set. Knows no
codec.

Pictures have mean squared error (PSNR is in `uqdm.quality`), SSIM (Wang et al. 2004) and MS-SSIM
(Wang et al. 2003) on RGB, with the values of torchmetrics in about a fiftieth of its time. They
have SSIMULACRA 2 too, and Butteraugli where its program is installed. Sets have the sliced
Wasserstein distance of patches (Karras et al. 2018, section 5), and the Fréchet distance of any
features that are supplied (Heusel et al. 2017; with Inception's features it is FID). Nothing is
ever downloaded.
"""

import functools
import io
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uqdm.errors import EvaluationError

Pixels = NDArray[np.uint8]  # (H, W, 3)
Floats = NDArray[np.float64]

WINDOW, DEVIATION = 11, 1.5  # of SSIM, in pixels: a side, and the standard deviation
ROWS = 16  # of a picture that are blurred at once
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, finest first: exponents
SMALLEST_SSIMULACRA = 8
SMALLEST_MS = 176  # the least side for MS-SSIM's five scales: 16 windows
# of the sliced Wasserstein distance: pixels a side; how many for each picture and level; slices
PATCH, PATCHES, DIRECTIONS, LEVELS = 7, 32, 32, 3


def ssim(a: Pixels, b: Pixels) -> float | None:
    """Mean SSIM over RGB; None if a side is below 11 pixels."""
    return Structure(a, multiscale=False).of(b)[0]


def ms_ssim(a: Pixels, b: Pixels) -> float | None:
    """MS-SSIM over RGB; None if a side is below 176 pixels."""
    return Structure(a).of(b)[1]


class Structure:
    """SSIM and MS-SSIM of pictures against one true picture.

    What follows from the true picture alone is computed once, and the finest scale serves both
    measures. Each channel is taken apart, so few arrays are in memory. `multiscale`: whether
    MS-SSIM is wanted too.
    """

    def __init__(self, true: Pixels, multiscale: bool = True) -> None:
        least = min(true.shape[:2])
        self._scales = 0 if least < WINDOW else len(SCALES) if multiscale and least >= SMALLEST_MS else 1
        self._channels = [self._known(channel) for channel in _channels(true)]

    def _known(self, channel: Floats) -> list[tuple[Floats, Floats, Floats]]:
        """At each scale a channel's values, their local means, and their local variances."""
        found = []
        for scale in range(self._scales):
            channel = halved(channel) if scale else channel
            mean = _blurred(channel)
            found.append((channel, mean, _variance(channel, mean)))
        return found

    def of(self, other: Pixels) -> tuple[float | None, float | None]:
        """SSIM and MS-SSIM of a picture of the same shape. None where a side is too small."""
        if not self._scales:
            return None, None
        found = np.zeros((self._scales, 2))  # luminance and contrast together, and contrast alone
        for x, known in zip(_channels(other), self._channels):
            for scale, level in enumerate(known):
                x = halved(x) if scale else x
                found[scale] += _similar(x, *level)
        found /= len(self._channels)
        if self._scales == 1:
            return float(found[0, 0]), None
        each = np.clip([*found[:-1, 1], found[-1, 0]], 0, None)
        return float(found[0, 0]), float(np.prod(each ** np.array(SCALES)))


def _channels(pixels: Pixels) -> list[Floats]:
    return [np.ascontiguousarray(pixels[:, :, c], np.float64) for c in range(pixels.shape[2])]


@functools.cache
def _window() -> tuple[Floats, Floats]:
    """The Gaussian window, and a matrix with it in each row, one place further on each time. Many
    rows of a picture at once are multiplied by that.
    """
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * DEVIATION**2))
    weights /= weights.sum()
    rows = np.zeros((ROWS, ROWS + WINDOW - 1))
    for i in range(ROWS):
        rows[i, i : i + WINDOW] = weights
    return weights, rows


def _blurred(values: Floats) -> Floats:
    """Means under a Gaussian window. At its edges a picture is mirrored."""
    from scipy.ndimage import correlate1d

    weights, rows = _window()
    found: Floats = np.empty_like(values)
    wider = np.pad(values, ((WINDOW // 2, WINDOW // 2), (0, 0)), mode="reflect")
    for i in range(0, len(values), ROWS):
        count = min(ROWS, len(values) - i)
        np.matmul(rows[:count, : count + WINDOW - 1], wider[i : i + count + WINDOW - 1], out=found[i : i + count])
    correlate1d(found, weights, 1, output=found, mode="mirror")
    return found


def _variance(values: Floats, mean: Floats) -> Floats:
    found = _blurred(values * values)
    found -= mean * mean
    return np.maximum(found, 0, out=found)


def _similar(x: Floats, y: Floats, mean: Floats, variance: Floats) -> tuple[float, float]:
    """Mean SSIM of one channel, and its mean contrast term without the edges. `mean`, `variance`:
    of y.
    """
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    own = _blurred(x)
    both = own * mean
    contrast = _blurred(x * y)
    contrast -= both
    contrast *= 2
    contrast += second
    spread = _variance(x, own)
    spread += variance
    spread += second
    contrast /= spread
    light = 2 * both + first
    own *= own
    own += mean * mean
    own += first
    light /= own
    edge = WINDOW // 2
    inner = contrast[edge:-edge, edge:-edge]
    return float(np.mean(light * contrast)), float(inner.mean()) if inner.size else 1.0


def batch(pixels: Pixels) -> Any:
    """(1, 3, H, W) float64."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).double()[None]


# --- sets: sliced Wasserstein


@functools.cache
def directions() -> Floats:
    """(3 PATCH**2, DIRECTIONS) unit vectors."""
    random = np.random.Generator(np.random.Philox(1))
    found = random.standard_normal((3 * PATCH**2, DIRECTIONS))
    unit: Floats = found / np.linalg.norm(found, axis=0)
    return unit


def halved(image: Floats) -> Floats:
    """Means of 2 x 2 pixels. An odd row or column at the end is left out."""
    h, w = (side // 2 * 2 for side in image.shape[:2])
    found: Floats = image[0:h:2, 0:w:2] + image[0:h:2, 1:w:2]
    found += image[1:h:2, 0:w:2]
    found += image[1:h:2, 1:w:2]
    found *= 0.25
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
        smaller = halved(image)
        last = level == LEVELS - 1 or min(smaller.shape[:2]) < PATCH
        band = image
        if not last:
            grown = smaller.repeat(2, 0).repeat(2, 1)
            band = image[: grown.shape[0], : grown.shape[1]] - grown
        ys, xs = (random.integers(0, side - PATCH + 1, PATCHES) for side in band.shape[:2])
        patches = np.stack([band[y : y + PATCH, x : x + PATCH].ravel() for y, x in zip(ys, xs)])
        found[level] = patches @ directions() / math.sqrt(3 * PATCH**2)
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
    one, other = (
        np.sort(s[:, there].transpose(1, 3, 0, 2).reshape(int(there.sum()), s.shape[3], -1), -1) for s in (a, b)
    )
    return float(np.mean(np.abs(one - other)))


# --- sets: features that are supplied


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


def ssimulacra2(true: Pixels, other: Pixels) -> float | None:
    """SSIMULACRA 2 (Sneyers 2023), by the package `ssimulacra2`. 100 is the same picture, about 90 is
    hard to tell from it, 70 is good, 50 is middling; it has no lower end. None if a side is below 8
    pixels.
    """
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(_bmp(true), _bmp(other))) if min(true.shape[:2]) >= SMALLEST_SSIMULACRA else None


def butteraugli(true: Pixels, other: Pixels) -> float | None:
    """Butteraugli's distance (largest over the picture) by the program of libjxl, `butteraugli_main`
    or `butteraugli`. About 1 is just visible. None where neither is on the PATH. Raises
    `EvaluationError` if the program gives no number.
    """
    program = shutil.which("butteraugli_main") or shutil.which("butteraugli")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("true.png", "other.png")]
        for path, pixels in zip(paths, (true, other)):
            Image.fromarray(pixels).save(path)
        run = subprocess.run([program, *paths], capture_output=True, text=True)
    found = re.match(r"\s*([0-9.]+(?:e[-+]?\d+)?)", run.stdout)
    if run.returncode or found is None:
        raise EvaluationError(f"{program} gave no distance: {(run.stderr or run.stdout).strip()[:200]!r}")
    return float(found[1])


def _bmp(pixels: Pixels) -> io.BytesIO:
    """As a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file


def lpips(module: Callable[..., Any], a: Pixels, b: Pixels) -> float:
    """LPIPS of one picture (Zhang et al. 2018), by a supplied module that takes two float (1, 3, H,
    W) in [-1, 1].
    """
    import torch

    with torch.no_grad():
        return float(module(*(batch(p).float() / 127.5 - 1 for p in (a, b))))
