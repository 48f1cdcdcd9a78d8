"""Noise only grows with time, and the constants of a step give the mean and variance that the paper
promises.
"""

import math

import pytest

pytest.importorskip("torch")

import torch

from uqdm.families.uqdm import constants
from uqdm.families.uqdm.torch.schedule import (
    FixedLinear,
    LearnedLinear,
    LearnedMonotone,
    alpha,
    new_schedule,
    sigma,
    step_constants,
)

KINDS = ["fixed_linear", "learned_linear", "learned_monotone"]


@pytest.mark.parametrize("fixed_end", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_schedule_starts_between_the_given_ends_and_increases(kind: str, fixed_end: bool) -> None:
    torch.manual_seed(0)
    schedule = new_schedule(kind, -12.3, 6.0, fixed_end)
    gamma = schedule(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert gamma.dtype == torch.float64
    assert gamma.shape == (101,)
    assert gamma[0].item() == pytest.approx(-12.3, abs=1e-5)
    assert gamma[-1].item() == pytest.approx(6.0, abs=1e-5)
    assert (gamma.diff() > 0).all()


def test_a_monotone_schedule_stays_monotone_and_keeps_its_learned_ends_whatever_its_weights() -> None:
    torch.manual_seed(1)
    for fixed_end in (True, False):
        schedule = LearnedMonotone(-10.0, 5.0, fixed_end)
        with torch.no_grad():
            for p in schedule.parameters():
                p.copy_(torch.randn_like(p))
            if not fixed_end:
                schedule.ends.b.fill_(-3.0)
            schedule.ends.w.fill_(-7.0)
        gamma = schedule(torch.linspace(0, 1, 50, dtype=torch.float64))
        assert (gamma.diff() > 0).all()
        low, high = (-2.0, 5.0) if fixed_end else (-3.0, 4.0)
        assert gamma[0].item() == pytest.approx(low, abs=1e-9)
        assert gamma[-1].item() == pytest.approx(high, abs=1e-9)


def test_a_learned_line_has_the_published_form_and_learns() -> None:
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    line = LearnedLinear(-12.3, 6.0, True)
    with torch.no_grad():
        line.w.fill_(-18.0)  # only its size counts
    torch.testing.assert_close(line(t), 18.0 * (t - 1) + 6.0)
    assert [n for n, _ in line.named_parameters()] == ["w"]
    free = LearnedLinear(-12.0, 6.0, False)
    torch.testing.assert_close(free(t), -12.0 + 18.0 * t)
    free(t).sum().backward()
    assert free.b.grad is not None
    assert free.b.grad.item() == 3.0
    assert not list(FixedLinear(-12.3, 6.0).parameters())


def test_ends_may_be_whole_numbers() -> None:
    assert LearnedLinear(-12, 6, False)(torch.tensor(0.5)).item() == -3.0


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="cosine"):
        new_schedule("cosine", -1.0, 1.0, True)


def test_signal_and_noise_add_up_to_one_and_their_ratio_is_gamma() -> None:
    gamma = torch.linspace(-30, 30, 25, dtype=torch.float64)
    torch.testing.assert_close(alpha(gamma) ** 2 + sigma(gamma) ** 2, torch.ones_like(gamma))
    torch.testing.assert_close(torch.log(sigma(gamma) ** 2) - torch.log(alpha(gamma) ** 2), gamma)


def test_step_constants_are_those_written_below_equation_4() -> None:
    t, s = torch.tensor(1.5), torch.tensor(-3.0)
    k = step_constants(t, s)
    a_t, a_s, v_t, v_s = (
        float(f(g.double()))
        for f, g in [(alpha, t), (alpha, s), (lambda g: sigma(g) ** 2, t), (lambda g: sigma(g) ** 2, s)]
    )
    v_ts = v_t - (a_t / a_s) ** 2 * v_s
    assert float(k.b) == pytest.approx(a_t / a_s * v_s / v_t, rel=1e-12)
    assert float(k.c) == pytest.approx(v_ts * a_s / v_t, rel=1e-12)
    assert float(k.delta) == pytest.approx(math.sqrt(12 * v_ts * v_s / v_t), rel=1e-12)
    assert all(field.dtype == torch.float64 for field in k)


@pytest.mark.parametrize("ends", [(6.0, -12.3), (1.5, 1.4), (-3.0, -12.0)])
def test_packages_and_models_in_floats_have_the_same_constants(ends: tuple[float, float]) -> None:
    """Equation 4 is written once, for numbers and for tensors."""
    stored, found = (
        constants.step_constants(*ends),
        step_constants(*(torch.tensor(gamma, dtype=torch.float64) for gamma in ends)),
    )
    for own, other in zip(stored, found, strict=True):
        assert float(other) == pytest.approx(own, rel=1e-12)


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_a_chain_of_uniform_steps_has_the_variance_of_the_gaussian_one(steps: int) -> None:
    """Appendix A.2: given z_T and x, every z_t has mean b z_T + c x and variance sigma_Q^2 of the
    one step from T to t.
    """
    torch.manual_seed(steps)
    gamma = torch.linspace(6.0, -12.3, steps + 1, dtype=torch.float64)
    n, x, start = 200_000, 0.3, -0.8
    z = torch.full((n,), start, dtype=torch.float64)
    for i in range(steps):
        k = step_constants(gamma[i], gamma[i + 1])
        z = k.b * z + k.c * x + k.delta * (torch.rand(n, dtype=torch.float64) - 0.5)
        direct = step_constants(gamma[0], gamma[i + 1])
        variance = float(direct.delta) ** 2 / 12
        assert float(z.var()) == pytest.approx(variance, rel=0.02)
        assert float(z.mean()) == pytest.approx(float(direct.b * start + direct.c * x), abs=5 * math.sqrt(variance / n))
