"""Means, countings and distances between curves, against what can be worked out by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from uqdm.errors import EvaluationError
from uqdm.evaluation.curves import Curve, Point, bd_rate, point, read_published, read_results
from uqdm.quality import CAP


def row(bits: float, mse: float, payload: float | None = None, pixels: int = 100) -> dict[str, object]:
    return {"bits": bits, "payload": payload, "pixels": pixels, "mse": mse}


def curve(rates: list[float], values: list[float], name: str = "a") -> Curve:
    points = tuple(Point(str(i), 4, r, r / 2, 0, v, v) for i, (r, v) in enumerate(zip(rates, values)))
    return Curve(name, name, points)


def test_rates_are_means_of_bits_per_pixel_and_psnr_comes_both_ways() -> None:
    found = point("q", [row(100, 4, 80), row(900, 1, 700, 300)])
    assert found.bpp == pytest.approx((1 + 3) / 2)
    assert found.payload_bpp == pytest.approx((0.8 + 7 / 3) / 2)
    assert found.bits_per_dimension == pytest.approx(2 / 3)
    db = [10 * math.log10(255**2 / e) for e in (4, 1)]
    assert found.psnr == pytest.approx(np.mean(db))
    assert found.pooled_psnr == pytest.approx(10 * math.log10(255**2 / ((4 * 100 + 1 * 300) / 400)))
    assert (found.n, found.exact, found.lossless) == (2, 0, False)


def test_pictures_without_error_are_counted_and_never_make_a_mean_infinite() -> None:
    some = point("q", [row(100, 0), row(100, 1)])
    assert (some.exact, some.lossless) == (1, False)
    assert some.psnr == pytest.approx((CAP + 10 * math.log10(255**2)) / 2)
    assert abs(CAP - 58.92) < 0.01
    assert some.payload_bpp is None
    whole = point("q", [row(100, 0), row(100, 0)])
    assert (whole.exact, whole.lossless, whole.psnr, whole.pooled_psnr) == (2, True, None, None)
    assert Curve("a", "a", (some, whole)).lossless() is whole


def test_as_in_the_paper_exact_pictures_are_left_out_and_nothing_is_capped() -> None:
    rows = [row(100, 0), row(100, 1), row(100, 0.001)]
    found = point("q", rows, paper=True)
    assert found.psnr == pytest.approx(np.mean([10 * math.log10(255**2 / e) for e in (1, 0.001)]))
    assert found.psnr > CAP > point("q", rows).psnr
    assert (found.exact, found.lossless) == (1, False)


def test_where_the_payload_is_not_known_there_is_no_point_of_it_and_what_stands_aside_is_no_part_of_the_curve() -> None:
    points = (
        Point("1", 4, 1.0, 0.5, 0, 30, 30),
        Point("2", 4, 2.0, None, 0, 33, 33),
        Point("step 1", 4, 3.0, 2.0, 0, 50, 50),
    )
    c = Curve("a", "a", points, aside=("step 1",))
    assert c.known("psnr") == ([1.0, 2.0], [30, 33])
    assert c.known("psnr", payload=True) == ([0.5], [30])
    assert c.at(2.5) is None


def test_values_are_read_off_a_curve_in_the_rates_logarithm_and_nowhere_else() -> None:
    c = curve([1, 4, 16], [30, 36, 42])
    assert c.at(2) == pytest.approx(33)
    assert c.at(8) == pytest.approx(39)
    assert c.at(0.5) is None
    assert c.at(17) is None
    assert c.at(1, payload=True) == pytest.approx(33)  # at half the rates
    assert c.at(2, "ssim") is None


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25, 2.0])
def test_the_bjontegaard_delta_of_a_curve_at_so_much_more_rate_is_that(factor: float) -> None:
    rates, values = [0.5, 1, 2, 4, 7], [25, 29, 32, 36, 41]
    assert bd_rate(curve(rates, values), curve([factor * r for r in rates], values)) == pytest.approx(
        100 * (factor - 1), abs=1e-9
    )


def test_the_bjontegaard_delta_of_lines_is_that_of_their_offset() -> None:
    # log2 rate = quality / 3 against quality / 3 - 1: half the rate everywhere, whatever points are
    # known of either.
    a = curve([2 ** (q / 3) for q in (20, 26, 29, 35, 41)], [20, 26, 29, 35, 41])
    b = curve([2 ** (q / 3 - 1) for q in (22, 27, 30, 33)], [22, 27, 30, 33])
    assert bd_rate(a, b) == pytest.approx(-50, abs=1e-9)
    assert bd_rate(b, a) == pytest.approx(100, abs=1e-9)


def test_curves_that_do_not_compare_are_refused() -> None:
    a = curve([1, 2, 3, 4], [30, 31, 32, 33])
    with pytest.raises(EvaluationError, match="needs four"):
        bd_rate(a, curve([1, 2, 3], [30, 31, 32]))
    with pytest.raises(EvaluationError, match="nothing of psnr in common"):
        bd_rate(a, curve([1, 2, 3, 4], [40, 41, 42, 43]))
    falling = curve([1, 2, 3, 4, 5, 6], [30, 31, 29, 32, 33, 34])
    assert math.isfinite(bd_rate(a, falling))  # a point below a cheaper one is left out


def test_published_curves_are_read_and_what_is_not_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text("# rounded\njpeg:\n  bpp: [1.0, 2.0]\n  psnr: [30, .inf]\n  fid: [10, 0.0]\n")
    (found,) = read_published(path)
    assert (found.name, found.published) == ("published:jpeg", True)
    assert [p.bpp for p in found.points] == [1, 2]
    assert found.points[0].psnr == 30
    assert found.points[0].fid == 10
    assert not found.points[0].lossless
    assert found.lossless() is found.points[1]
    assert found.points[1].n == 0
    for text in (
        "jpeg:\n  bpp: [1.0]\n  psnr: [.nan]\n",
        "jpeg: 3\n",
        "jpeg:\n  bpp: [1]\n",
        "jpeg:\n  bpp: [1]\n  psnr: [1, 2]\n",
        ":\n -",
    ):
        path.write_text(text)
        with pytest.raises(EvaluationError, match=r"p\.yml: no curves"):
            read_published(path)


def test_curves_come_back_from_json_and_from_other_evaluations_with_their_n(tmp_path: Path) -> None:
    c = curve([1, 2], [30, 40])
    assert Curve.from_json(c.to_json()) == c
    path = tmp_path / "results.json"
    record = {
        "conditions": {"data": "dev.zip", "paper": True},
        "curves": [c.to_json(), Curve("p", "p", c.points, published=True).to_json()],
    }
    path.write_text(json.dumps(record))
    (found,) = read_results(path)
    assert found.label == "a (dev.zip; as the paper counts; n = 4)"
    assert found.elsewhere
    assert found.points == c.points
    path.write_text("{}")
    with pytest.raises(EvaluationError, match=r"results\.json: not the results"):
        read_results(path)
