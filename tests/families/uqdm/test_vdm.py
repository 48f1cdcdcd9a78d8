"""A VDM's bits are divergences of normals, its limit and its single steps agree with the whole sum,
and a UQDM can stand on it.

Where the rest is: what both families share (test_uqdm.py, test_schedule.py); that UQDM's chain has
this one's marginals, and the rate of a uniform step (test_theory.py); training on these losses, and
the swirl (tests/training/).
"""

import math
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from untrained import knowing, pictures, seeded

from uqdm.config import Config
from uqdm.families.uqdm.config import ModelConfig
from uqdm.families.uqdm.torch.diffusion import Diffusion
from uqdm.families.uqdm.torch.model import UQDM
from uqdm.families.uqdm.torch.vdm import VDM
from uqdm.training.presets import PRESETS

pytestmark = pytest.mark.usefixtures("one_thread")

PIXELS: dict[str, Any] = {"embedding_dim": 8, "norm_groups": 4}
POINTS: dict[str, Any] = {
    "network": "points",
    "n_channels": 2,
    "embedding_dim": 32,
    "gamma_min": -6.0,
    "fix_gamma_max": False,
}
KNOWN = {
    "logistic": 0.37959,
    "gaussian": 0.39937,
}  # bits a coordinate and step where x_hat = x and sigma = sigma_Q (test_theory.py)


def fresh(kind: type[Diffusion] = VDM, perturbed: float = 0.0, **changes: Any) -> Any:
    """A model in float64; with `perturbed`, its network's last layer is not zero but random: it is
    wrong, smoothly.
    """
    torch.manual_seed(0)
    model = kind(Config(ModelConfig(learned_prior_scale=False, **changes), family=kind.__name__.lower())).double()
    last = model.network.layers[-1] if changes.get("network") == "points" else model.network.conv_out[-1]
    if perturbed:
        torch.nn.init.normal_(last.weight, std=perturbed)
    return model


def points(n: int) -> Tensor:
    """Points away from the ends, where a prediction that is a little wrong is not yet clipped."""
    return torch.randint(96, 160, (n, 2, 1, 1), generator=seeded(7), dtype=torch.uint8)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Of independent values (n, ...): the mean, and the standard error of it."""
    each = values.detach().double().flatten(1).mean(1) if values.ndim > 1 else values.detach().double()
    return each.mean().item(), each.std().item() / math.sqrt(len(each))


def levels(gamma: Tensor) -> tuple[Tensor, Tensor]:
    """alpha^2 and sigma^2 from the ratio that gamma names, not as schedule.py has them."""
    snr = torch.exp(-gamma.double())
    return snr / (1 + snr), 1 / (1 + snr)


# --- the terms of eq. 1


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_a_step_costs_the_divergence_of_two_normals_of_one_variance(steps: int) -> None:
    """Appendix B.1: q(z_s | z_t, x) of A.1 against the same with x_hat in x's place."""
    model, x = fresh(perturbed=0.05, **PIXELS), pictures(size=4)
    real, z = model.to_real(x), model.trajectory(x, seeded(), steps)
    gamma = model.gammas(steps).detach()
    total = model.nelbo(x, seeded(), steps)
    for i, (t, s) in enumerate(pairwise(gamma)):
        (signal_t, variance_t), (signal_s, variance_s) = levels(t), levels(s)
        ratio = torch.sqrt(signal_t / signal_s)  # alpha_{t|s}
        between = variance_t - ratio**2 * variance_s  # sigma_{t|s}^2
        b, c = ratio * variance_s / variance_t, torch.sqrt(signal_s) * between / variance_t
        deviation = torch.sqrt(between * variance_s / variance_t)
        bits, x_hat = model.step_bits(real, z[i], z[i + 1], t, s)
        q, p = (Normal(b * z[i] + c * a, deviation) for a in (real, x_hat))
        expected = kl_divergence(q, p).sum((1, 2, 3)) / math.log(2) / 16
        torch.testing.assert_close(bits, expected, rtol=1e-8, atol=0)
        torch.testing.assert_close(total.steps[i], expected, rtol=1e-8, atol=0)
        torch.testing.assert_close(x_hat, model.predict(z[i], t)[0])


@pytest.mark.parametrize("gamma", [-5.0, 0.0, 6.0, 20.0])
def test_z_T_costs_its_divergence_from_the_standard_normal(gamma: float) -> None:
    model, real = fresh(**PIXELS), 2 * torch.rand(3, 3, 4, 4, generator=seeded(), dtype=torch.float64) - 1
    signal, variance = levels(torch.tensor(gamma))
    z, bits = model.start(real, seeded(), torch.tensor(gamma, dtype=torch.float64))
    expected = kl_divergence(Normal(torch.sqrt(signal) * real, torch.sqrt(variance)), Normal(0.0, 1.0))
    torch.testing.assert_close(bits, expected.sum((1, 2, 3)) / math.log(2) / 16, rtol=1e-6, atol=1e-9)
    assert z.shape == real.shape


def test_the_trajectory_has_the_marginals_of_q_and_is_a_markov_chain() -> None:
    """q(z_t | x) = N(alpha_t x, sigma_t^2), and z_t, z_s have the covariance alpha_{t|s} sigma_s^2,
    neighbours or not (appendix A.1).
    """
    model, n, value = fresh(**PIXELS, gamma_max=1.0), 3 * 256**2, 200
    x = torch.full((1, 3, 256, 256), value, dtype=torch.uint8)
    gamma, z = model.gammas(5), model.trajectory(x, seeded(3), 5)
    noise = []
    for i, latent in enumerate(z):
        signal, variance = levels(gamma[i].detach())
        noise.append((latent - torch.sqrt(signal) * (2 * value + 1 - 256) / 256).flatten())
        assert noise[i].mean().item() == pytest.approx(0, abs=4 * math.sqrt(variance / n))
        assert noise[i].var().item() == pytest.approx(variance.item(), rel=4 * math.sqrt(2 / n))
        ordered = torch.special.ndtr(torch.sort(noise[i] / torch.sqrt(variance)).values)
        assert (ordered - (torch.arange(n) + 0.5) / n).abs().max().item() < 1.95 / math.sqrt(
            n
        )  # Kolmogorov-Smirnov, 0.1 %
    for i, s in ((a, b) for b in range(6) for a in range(b)):
        (signal_t, variance_t), (signal_s, variance_s) = (levels(gamma[j].detach()) for j in (i, s))
        correlation = torch.sqrt(signal_t / signal_s * variance_s / variance_t)
        assert torch.corrcoef(torch.stack([noise[i], noise[s]]))[0, 1].item() == pytest.approx(
            correlation.item(), abs=4 / math.sqrt(n)
        )


def test_a_learned_reverse_variance_is_refused() -> None:
    with pytest.raises(ValueError, match="learned_prior_scale is true"):
        VDM(Config(ModelConfig(**PIXELS, learned_prior_scale=True), family="vdm"))


# --- pictures


def test_pictures_come_back_from_every_step_when_the_network_knows_them_and_the_steps_are_free() -> None:
    x = pictures(size=8)
    model = knowing(fresh(**PIXELS, n_timesteps=6), x)
    z, real = model.trajectory(x, seeded()), model.to_real(x)
    for index in range(7):
        if index < 6:
            torch.testing.assert_close(model.denoise(z[index], index), real, atol=1e-9, rtol=0)
        for x_hat in (model.ancestral(z[index], index, seeded()), model.flow(z[index], index)):
            assert (x_hat - real).abs().mean() < 0.01
    assert model.denoise(z[6], 6).equal(model.flow(z[6], 6))
    bits = model.nelbo(x, seeded())
    assert bits.steps.abs().max() < 1e-9
    assert bits.latent.max() < 0.02  # alpha_T = 0.05
    torch.testing.assert_close(bits.total(), bits.latent + bits.pixels)


def test_a_step_back_is_a_step_forward_with_the_prediction_for_the_picture() -> None:
    """p(z_s | z_t) = q(z_s | z_t, x = x_hat), appendix B.1."""
    model = fresh(perturbed=0.05, **PIXELS)
    z = model.trajectory(pictures(size=4), seeded())[1]
    gamma_t, gamma_s = model.gammas()[1:3]
    assert not z.equal(back := model.backward_step(z, gamma_t, gamma_s, seeded(4)))
    assert back.equal(model.forward_step(model.predict(z, gamma_t)[0], z, gamma_t, gamma_s, seeded(4)))


def test_flow_is_deterministic_sampling_follows_its_generator_and_pictures_are_drawn_from_nothing() -> None:
    model = fresh(**PIXELS)
    z = model.trajectory(pictures(size=4), seeded(), 3)[1]
    assert model.flow(z, 1, 3).equal(model.flow(z, 1, 3))
    assert model.ancestral(z, 1, seeded(4), 3).equal(model.ancestral(z, 1, seeded(4), 3))
    assert not model.ancestral(z, 1, seeded(4), 3).equal(model.ancestral(z, 1, seeded(5), 3))
    drawn = model.sample(2, 4, 6, seeded(), steps=3)
    assert drawn.shape == (2, 3, 4, 6)
    assert 0 <= drawn.min() <= drawn.max() <= 255


# --- the limit of many steps


def test_more_steps_cost_less_and_their_limit_is_the_continuous_loss() -> None:
    """Kingma et al. 2021: eq. 1 falls with T; what is left falls as 1/T, so twice a sum less the
    sum of half as many steps has none.
    """
    model, x = fresh(perturbed=0.01, **POINTS, gamma_max=1.0), points(8000)
    with torch.no_grad():
        z, clipped = model.trajectory(x[:1000], seeded(), 16), 0.0
        for latent, gamma in zip(z, model.gammas(16)):
            clipped = max(clipped, (model.predict(latent, gamma)[0].abs() == 1).double().mean().item())
        assert clipped < 0.002  # else the two losses would differ: the limit does not clip
        limit, limit_error = mean_and_error(torch.stack([model.continuous_nelbo(x, seeded(i)) for i in range(16)], 1))
        found = {
            steps: mean_and_error(model.nelbo(x, seeded(steps), steps).total()) for steps in (1, 2, 4, 8, 16, 32, 64)
        }
    for (more, more_error), (less, less_error) in pairwise(found.values()):
        assert less < more + 3 * math.hypot(more_error, less_error)
    assert found[1][0] > found[4][0] + 1 > found[16][0] + 1
    assert found[64][0] > limit - 3 * math.hypot(found[64][1], limit_error)
    error = math.hypot(2 * found[64][1], found[32][1], limit_error)
    assert 2 * found[64][0] - found[32][0] == pytest.approx(limit, abs=3 * error)
    assert error < 0.02 * limit


def bent(model: Any) -> Any:
    """The same model, its learned schedule far from a line."""
    with torch.no_grad():
        model.schedule.weight2.copy_(torch.linspace(0, 8, 1024))
        model.schedule.bias2.fill_(-3.0)
        model.schedule.weight3.fill_(0.2)
    return model


def test_the_limit_depends_on_the_ends_of_the_schedule_alone() -> None:
    """Kingma et al. 2021, section 5.1: what lies between them only moves where t is spent."""
    x, found = points(2500), []
    for kind in ("learned_linear", "learned_monotone"):
        model = fresh(perturbed=0.05, **POINTS, noise_schedule=kind)
        if kind == "learned_monotone":
            model = bent(model)
            middle = model.schedule(torch.tensor(0.5, dtype=torch.float64)).item()
            torch.testing.assert_close(
                model.gammas(1), torch.tensor([6.0, -6.0], dtype=torch.float64), atol=1e-5, rtol=0
            )
            assert abs(middle) > 2  # a line's is 0
        with torch.no_grad():
            found.append(mean_and_error(torch.stack([model.continuous_nelbo(x, seeded(i)) for i in range(24)], 1)))
    (line, line_error), (curve, curve_error) = found
    assert curve == pytest.approx(line, abs=3 * math.hypot(line_error, curve_error))
    assert math.hypot(line_error, curve_error) < 0.01 * line


@pytest.mark.parametrize("kind", ["learned_linear", "learned_monotone"])
@pytest.mark.parametrize("fixed_end", [True, False])
def test_gradients_of_the_limit_reach_every_parameter_of_the_schedule_and_are_its_derivatives(
    fixed_end: bool, kind: str
) -> None:
    model, x = fresh(perturbed=0.05, **{**POINTS, "fix_gamma_max": fixed_end}, noise_schedule=kind), points(64)
    loss = model.continuous_nelbo(x, seeded(1)).mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())
    named = dict(model.schedule.named_parameters())
    ends = [p for name, p in named.items() if name.split(".")[-1] in ("b", "w")]
    assert len(ends) == 2 - fixed_end
    for p in ends:
        slopes, small = p.grad.item(), 1e-5
        with torch.no_grad():
            p += small
            above = model.continuous_nelbo(x, seeded(1)).mean()
            p -= 2 * small
            below = model.continuous_nelbo(x, seeded(1)).mean()
            p += small
        assert slopes == pytest.approx(((above - below) / (2 * small)).item(), rel=1e-5)


def test_gradients_of_the_sum_reach_every_parameter() -> None:
    model = fresh(noise_schedule="learned_monotone", fix_gamma_max=False, **PIXELS)
    model.nelbo(pictures(size=4), seeded(), 3).total().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.schedule.ends.w.grad.abs() > 0
    assert model.schedule.ends.b.grad.abs() > 0


# --- one step a picture


@pytest.mark.parametrize("family", [VDM, UQDM])
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_one_step_a_picture_gives_the_sum_in_the_mean(steps: int, family: type[Diffusion]) -> None:
    """Section 5's single-step estimate against eq. 1: the total, and the steps alone, over many
    draws of five different points.
    """
    model, x, n = fresh(family, perturbed=0.05, **POINTS), points(5), 600
    generator, other = seeded(1), seeded(2)
    with torch.no_grad():
        single = [model.sampled_nelbo(x, generator, steps) for _ in range(n)]
        whole = [model.nelbo(x, other, steps) for _ in range(n)]
    for one, all_ in (
        (torch.stack([s.total() for s in single]), torch.stack([w.total() for w in whole])),
        (torch.stack([s.steps * s.step for s in single]), torch.stack([w.steps.sum(0) for w in whole])),
    ):
        (a, a_error), (b, b_error) = mean_and_error(one), mean_and_error(all_)
        assert a == pytest.approx(b, abs=3 * math.hypot(a_error, b_error))
        assert a_error < 0.1 * b
    which = torch.stack([s.which for s in single])
    shares = torch.stack([(which == i).double().mean(0) for i in range(steps)])  # (T, B): each step for each point
    assert (shares - 1 / steps).abs().max().item() < 5 / math.sqrt(4 * n)
    counts = torch.stack([(which == i).sum(1) for i in range(steps)])
    assert ((counts == 5 // steps) | (counts == -(-5 // steps))).all()  # spread evenly over each batch


# --- UQDM over VDM


def test_a_uqdm_over_a_vdm_shares_its_weights_and_schedule() -> None:
    vdm = fresh(perturbed=0.05, **PIXELS, noise_schedule="learned_linear").eval()
    uqdm = UQDM.over(vdm, "gaussian")
    assert isinstance(uqdm, UQDM)
    assert uqdm.network is vdm.network
    assert uqdm.schedule is vdm.schedule
    assert {id(p) for p in uqdm.parameters()} == {id(p) for p in vdm.parameters()}
    assert (uqdm.config.family, vdm.config.family) == ("uqdm", "vdm")
    assert uqdm.config.model.prior_type == "gaussian"
    assert not uqdm.training
    x = pictures(size=4)
    before = uqdm.nelbo(x, seeded()).total()
    with torch.no_grad():
        vdm.network.conv_out[-1].weight.mul_(2)
    assert not torch.equal(uqdm.nelbo(x, seeded()).total(), before)


@pytest.mark.parametrize("density", KNOWN)
def test_where_the_network_knows_the_picture_a_uqdm_over_a_vdm_pays_the_constant_of_each_step(density: str) -> None:
    """Appendix B.2: matching moments alone costs a constant a coordinate and step, which B.1's
    steps do not have.
    """
    x = pictures(size=32)
    vdm = knowing(fresh(**PIXELS), x)
    for steps in (1, 4, 10):
        bits = UQDM.over(vdm, density).nelbo(x, seeded(steps), steps).steps
        assert bits.shape == (steps, 2)
        assert bits.mean().item() == pytest.approx(3 * KNOWN[density], rel=0.01)
        assert vdm.nelbo(x, seeded(steps), steps).steps.abs().max() < 1e-9


@pytest.mark.parametrize("density", KNOWN)
def test_a_uqdm_over_a_vdm_pays_that_constant_and_less_than_the_vdm_for_its_errors(density: str) -> None:
    """So with many steps it costs more than the VDM, and with few and an untrained network less:
    UQDM's p is wider, by the box.

    That it costs what a UQDM of fixed variance costs that was trained as one (section 5.1) takes
    training: uqdm.research.swirl.
    """
    vdm, x = fresh(perturbed=0.02, **POINTS), points(3000)
    uqdm = UQDM.over(vdm, density)
    for steps in (1, 2, 4, 8, 16, 32):
        with torch.no_grad():
            found, other = (model.nelbo(x, seeded(steps), steps) for model in (uqdm, vdm))
        assert found.total().isfinite().all()
        (bits, error), (gaussian, gaussian_error) = (mean_and_error(terms.steps.sum(0)) for terms in (found, other))
        constant = 2 * KNOWN[density] * steps
        assert constant - 3 * error < bits < constant + gaussian + 3 * math.hypot(error, gaussian_error)
        if steps >= 16:
            assert found.total().mean() > other.total().mean() + 5
    assert (bits - constant) / gaussian == pytest.approx(
        0.5, abs=0.1
    )  # small errors count about half, over twice the variance


@pytest.mark.parametrize("name", ["tiny-vdm", "swirl-vdm"])
def test_a_uqdm_stands_on_every_vdm_that_a_preset_names(name: str) -> None:
    torch.manual_seed(0)
    assert UQDM.over(VDM(PRESETS[name])).config.family == "uqdm"
