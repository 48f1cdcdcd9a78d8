"""Metric values against closed forms and against scikit-image and torchmetrics."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph

from uqdm import quality
from uqdm.errors import EvaluationError
from uqdm.evaluation import metrics


def noisy(pixels: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, deviation, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def test_psnr_of_a_known_error() -> None:
    a = np.full((4, 5, 3), 100, np.uint8)
    b = a.copy()
    b[0, 0, 0] = 110
    assert quality.mse(a, b) == pytest.approx(100 / 60)
    assert quality.psnr(quality.mse(a, b)) == pytest.approx(10 * math.log10(255**2 * 60 / 100))
    assert quality.psnr(quality.mse(a, a)) == math.inf
    for side in (1, 300):  # the sum of the larger one's squares has 35 bits
        assert quality.mse(np.zeros((side, side, 3), np.uint8), np.full((side, side, 3), 255, np.uint8)) == 255**2


def test_ssim_is_scikit_images() -> None:
    from skimage.metrics import structural_similarity

    pytest.importorskip("torchmetrics")
    a = photograph(48, 40)
    for deviation in (2, 10, 40):
        b = noisy(a, deviation)
        options = {
            "gaussian_weights": True,
            "sigma": 1.5,
            "use_sample_covariance": False,
            "data_range": 255,
            "channel_axis": 2,
        }
        _, whole = structural_similarity(a.astype(float), b.astype(float), full=True, **options)
        assert metrics.ssim(a, b) == pytest.approx(whole.mean(), rel=0.005)  # the two mirror edges differently
    assert metrics.ssim(a, a) == pytest.approx(1)
    assert metrics.ssim(a[:10], a[:10]) is None


def test_ms_ssim_needs_176_pixels_and_falls_with_noise() -> None:
    pytest.importorskip("torchmetrics")
    a = photograph(176, 180)
    found = [metrics.ms_ssim(a, noisy(a, deviation)) for deviation in (0, 5, 20)]
    assert found[0] == pytest.approx(1)
    assert found == sorted(found, reverse=True)
    assert metrics.ms_ssim(a[:175], a[:175]) is None


@pytest.mark.parametrize("shape", [(11, 11), (12, 30), (64, 47), (176, 191), (240, 177)])
def test_both_measures_of_structure_are_those_of_torchmetrics(shape: tuple[int, int]) -> None:
    pytest.importorskip("torchmetrics")
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as theirs_multiscale
    from torchmetrics.functional.image import structural_similarity_index_measure as theirs

    a = photograph(*shape)
    flat = np.full_like(a, 200)
    structure = metrics.Structure(a)
    for b in (noisy(a, 3), noisy(a, 50), flat, a[::-1], 255 - a, a):
        tensors = [metrics.batch(p) for p in (a, b)]
        single, multi = structure.of(b)
        assert single == pytest.approx(float(theirs(*tensors, data_range=255.0)), abs=1e-9)
        if min(shape) < metrics.SMALLEST_MS:
            assert multi is None
        else:
            assert multi == pytest.approx(float(theirs_multiscale(*tensors, data_range=255.0)), abs=1e-7)
        assert metrics.ssim(a, b) == single
        assert metrics.ms_ssim(a, b) == multi


def test_the_sliced_wasserstein_distance_of_a_shift_is_its_projection() -> None:
    a = np.full((64, 64, 3), 100, np.uint8)
    one, other = (metrics.slices(p, 3)[None] for p in (a, a + np.uint8(12)))
    # Only the coarsest level holds the mean, and every patch there moves by 12 in all its values.
    moved = 12 * np.abs(metrics.directions().sum(0)).mean() / math.sqrt(3 * metrics.PATCH**2)
    assert metrics.sliced_wasserstein(one, other) == pytest.approx(moved / metrics.LEVELS, rel=1e-5)
    assert metrics.sliced_wasserstein(one, one) == 0


def test_the_sliced_wasserstein_distance_sees_lost_and_false_texture_and_small_pictures() -> None:
    pictures = [photograph(64, 64, i) for i in range(4)]

    def distance(change: object) -> float:
        changed = [change(p) for p in pictures]  # type: ignore[operator]
        return metrics.sliced_wasserstein(
            *(np.stack([metrics.slices(p, i) for i, p in enumerate(s)]) for s in (pictures, changed))
        )

    blurred = distance(lambda p: np.rint(metrics.halved(p.astype(float)).repeat(2, 0).repeat(2, 1)).astype(np.uint8))
    assert distance(lambda p: noisy(p, 1)) < distance(lambda p: noisy(p, 8)) < distance(lambda p: noisy(p, 30))
    assert blurred > distance(lambda p: noisy(p, 1))
    assert np.isnan(metrics.slices(photograph(6, 20), 0)).all()
    assert np.isfinite(metrics.slices(photograph(8, 8), 0)[0]).all()
    tiny = metrics.slices(photograph(6, 20), 0)[None]
    assert metrics.sliced_wasserstein(tiny, tiny) is None
    both = np.stack([metrics.slices(photograph(8, 8), 0), metrics.slices(photograph(64, 64), 0)])
    assert metrics.sliced_wasserstein(both, both) == 0  # of the level that both have
    with pytest.raises(EvaluationError, match="one size"):
        metrics.sliced_wasserstein(np.zeros((1, 3, 2, 2), np.float32), np.zeros((2, 3, 2, 2), np.float32))


def test_the_frechet_distance_of_shifted_and_of_wider_features() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 5)) * [1, 2, 3, 4, 5]
    assert metrics.frechet(x, x) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet(x, x + np.array([1, 0, 0, 2, 0])) == pytest.approx(5, rel=1e-6)
    centred = x - x.mean(0)
    spread = np.linalg.eigvalsh(np.cov(centred, rowvar=False)).sum()
    assert metrics.frechet(centred, 3 * centred) == pytest.approx(4 * spread, rel=1e-6)  # (3 - 1)^2 of every variance


def test_ssimulacra2_falls_with_noise_and_needs_eight_pixels() -> None:
    pytest.importorskip("ssimulacra2")
    a = photograph(40, 56)
    found = [metrics.ssimulacra2(a, noisy(a, deviation)) for deviation in (0, 4, 12, 40)]
    assert found[0] == pytest.approx(100)
    assert found == sorted(found, reverse=True)
    assert found[-1] is not None
    assert found[-1] < 60
    assert metrics.ssimulacra2(a[:7], a[:7]) is None


def test_butteraugli_is_what_its_program_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = photograph(40, 56)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert metrics.butteraugli(a, a) is None
    program = tmp_path / "butteraugli_main"
    # A program of the same manner: the largest difference of two PNG files, then another line.
    program.write_text(
        f"#!{sys.executable}\nimport sys\nimport numpy as np\nfrom PIL import Image\n"
        "a, b = (np.asarray(Image.open(p)).astype(int) for p in sys.argv[1:])\n"
        "print(f'{abs(a - b).max() / 8:.10f}\\n3-norm: 0.5')\n"
    )
    program.chmod(0o755)
    assert metrics.butteraugli(a, np.minimum(a, 215) + np.uint8(20)) == 2.5
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such picture')\n")
    with pytest.raises(EvaluationError, match="no such picture"):
        metrics.butteraugli(a, a)


def test_features_and_lpips_come_from_supplied_torchscript(tmp_path) -> None:
    torch = pytest.importorskip("torch")

    class Means(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().mean((2, 3))

    class Inception(torch.nn.Module):
        def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            return x.float().amax((2, 3)) if return_features else x.float().sum((2, 3))

    class Distance(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a - b).abs().mean()

    for name, module in (("means", Means()), ("inception", Inception()), ("distance", Distance())):
        torch.jit.script(module).save(str(tmp_path / f"{name}.pt"))
    a = photograph(8, 8)
    assert metrics.features(metrics.read_module(tmp_path / "means.pt"), a) == pytest.approx(a.mean((0, 1)))
    assert metrics.features(metrics.read_module(tmp_path / "inception.pt"), a).tolist() == a.max((0, 1)).tolist()
    distance = metrics.lpips(metrics.read_module(tmp_path / "distance.pt"), np.zeros_like(a), np.full_like(a, 255))
    assert distance == pytest.approx(2)

    class Fails(torch.nn.Module):
        def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            if return_features:
                raise RuntimeError("too large")
            return x.float().sum((2, 3))

    torch.jit.script(Fails()).save(str(tmp_path / "fails.pt"))
    with pytest.raises(Exception, match="too large"):  # never other outputs in their place
        metrics.features(metrics.read_module(tmp_path / "fails.pt"), a)
    (tmp_path / "broken.pt").write_bytes(b"not a module")
    with pytest.raises(EvaluationError, match=r"broken\.pt: not a TorchScript module"):
        metrics.read_module(tmp_path / "broken.pt")
