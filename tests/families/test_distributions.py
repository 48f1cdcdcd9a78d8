"""Probabilities of intervals are right, add up, and stay finite far out in the tails, gradients
included.
"""

import math

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from uqdm.families.torch.cells import FloatCells, FloatMixture
from uqdm.families.torch.distributions import DENSITIES, LOGISTIC_SCALE, log_interval, log_mass_around, sample_convolved

KINDS = sorted(DENSITIES)
every = pytest.mark.parametrize("kind", KINDS)


def at(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


@every
def test_mass_of_an_interval_is_the_difference_of_the_cdf_where_that_is_exact(kind: str) -> None:
    g = DENSITIES[kind]
    centre = torch.linspace(-4, 4, 81, dtype=torch.float64)[:, None]
    width = torch.logspace(-4, 1.3, 60, dtype=torch.float64)
    exact = g.cdf(centre + width / 2) - g.cdf(centre - width / 2)
    torch.testing.assert_close(torch.exp(g.log_mass(centre, width)), exact, rtol=1e-6, atol=1e-12)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mass_is_finite_and_has_finite_gradients_at_ten_thousand_scales(kind: str, dtype: torch.dtype) -> None:
    places = [-1e4, -300.0, -20.0, -1.0, 0.0, 0.3, 20.0, 300.0, 1e4]
    centre = torch.tensor(places, dtype=dtype)[:, None].expand(-1, 7).clone().requires_grad_()
    width = torch.tensor([0.0, 1e-30, 1e-6, 1e-2, 1.0, 50.0, 2e4], dtype=dtype).expand(9, -1).clone().requires_grad_()
    mass = DENSITIES[kind].log_mass(centre, width)
    assert torch.isfinite(mass).all()
    assert (mass <= 1e-6).all()
    mass.sum().backward()
    assert centre.grad is not None
    assert width.grad is not None
    assert torch.isfinite(centre.grad).all()
    assert torch.isfinite(width.grad).all()
    torch.testing.assert_close(mass, DENSITIES[kind].log_mass(-centre, width))


@every
def test_tails_follow_their_density(kind: str) -> None:
    g = DENSITIES[kind]
    for centre in (60.0, -60.0):
        narrow = g.log_mass(at(centre), at(1e-4))
        torch.testing.assert_close(narrow, g.log_density(at(centre)) + math.log(1e-4), rtol=0, atol=1e-4)


@every
def test_gradients_are_the_derivatives(kind: str) -> None:
    g = DENSITIES[kind]
    centre = at(-9.0, -2.0, -0.4, 0.1, 1.0, 7.0, 0.7, 3.0).requires_grad_()
    width = at(0.5, 3.0, 0.02, 9.0, 0.3, 20.0, 0.001, 0.01).requires_grad_()
    assert torch.autograd.gradcheck(g.log_mass, (centre, width), eps=1e-7, atol=1e-4, rtol=1e-3)


@every
@pytest.mark.parametrize("scale", [0.01, 0.3, 4.0])
def test_the_convolved_density_integrates_to_one(kind: str, scale: float) -> None:
    y = torch.linspace(-200, 200, 800_001, dtype=torch.float64)
    density = torch.exp(log_mass_around(DENSITIES[kind], y, at(0.7), at(0.2), at(scale))) / 0.7
    assert torch.trapezoid(density, y).item() == pytest.approx(1.0, abs=1e-3)


@every
def test_masses_on_a_grid_of_boxes_add_up_to_one_also_when_truncated(kind: str) -> None:
    g, delta, location, scale = DENSITIES[kind], at(0.37), at(0.2), at(0.15)
    low, high = at(-1.0), at(0.9)
    y = torch.arange(-4, 4, dtype=torch.float64) * 0.37 + 0.11
    y = y[(y + 0.185 > low) & (y - 0.185 < high)]
    boxes = torch.maximum(low, y - delta / 2), torch.minimum(high, y + delta / 2)
    mass = log_interval(g, *boxes, location, scale) - log_interval(g, low, high, location, scale)
    assert torch.exp(mass).sum().item() == pytest.approx(1.0, abs=1e-9)
    wide = torch.arange(-400, 400, dtype=torch.float64) * 0.37
    assert torch.exp(log_mass_around(g, wide, delta, location, scale)).sum().item() == pytest.approx(1.0, abs=1e-9)


def test_a_truncated_mass_is_a_probability_even_where_the_density_is_far_away() -> None:
    mixture = FloatMixture(*(at(value).view(1, 1, 1, 1, 1) for value in (5000.0, math.log(0.5), 0.0)))
    parent, child = (FloatCells(*(at(end).view(1, 1, 1, 1) for end in ends)) for ends in ((0.0, 9.0), (3.0, 4.0)))
    bits = mixture.truncated_bits(parent, child)
    assert torch.isfinite(bits).all()
    assert bits.item() >= 0


@every
def test_draws_have_the_moments_of_the_convolution(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    location = torch.full((400_000,), 1.5, dtype=torch.float64)
    drawn = sample_convolved(DENSITIES[kind], at(2.0), location, at(0.5), generator)
    variance = (0.5 / DENSITIES[kind].unit) ** 2 + 2.0**2 / 12
    assert drawn.mean().item() == pytest.approx(1.5, abs=0.01)
    assert drawn.var().item() == pytest.approx(variance, rel=0.02)


def test_a_logistic_of_unit_deviation_has_variance_one() -> None:
    x = torch.linspace(-60, 60, 200_001, dtype=torch.float64)
    density = torch.exp(DENSITIES["logistic"].log_density(x / LOGISTIC_SCALE)) / LOGISTIC_SCALE
    assert torch.trapezoid(density * x * x, x).item() == pytest.approx(1.0, abs=1e-6)


@every
def test_an_interval_needs_no_order_of_magnitude(kind: str) -> None:
    value = log_interval(DENSITIES[kind], at(-1e-3), at(1e-3), at(0.0), at(1e-3))
    assert value.item() == pytest.approx(math.log(0.46211715726 if kind == "logistic" else 0.682689492137), abs=1e-9)
