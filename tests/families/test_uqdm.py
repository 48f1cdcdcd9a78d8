"""The UQDM walk on a toy network: universal quantization, boxes, both entropy modes, answers that fall short."""

import math
from itertools import pairwise

import numpy as np
import pytest
from conftest import photograph, toy_constants, toy_denoiser

from uqdm.codec import walk
from uqdm.families.uqdm import Paper, Tight, truncated_mean

FAMILIES = [Tight, Paper]
SPACES = ["rgb", "ycocg-r"]


def encode(model, rgb, seeds=(0,), grey=False):
    """States after every chunk, the first being the start, with the ideal bits of each chunk."""
    values = model.values(rgb)
    bits = []

    def answer(i, question):
        symbols = question.symbols(values[i])
        masses = question.masses(slice(0, question.size))
        assert (masses.sum(1) == 2**24).all()
        assert symbols.min(initial=0) >= 0
        bits.append((24 - np.log2(np.take_along_axis(masses, symbols[:, None], 1))).sum())
        return symbols

    start = model.start(rgb.shape[2:], seeds, grey)
    return [start, *walk(model, start, answer)], bits


def pixels(h=24, w=20, seed=0):
    return photograph(h, w, seed).transpose(2, 0, 1)[None]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_walk_ends_with_the_picture_itself(family, space) -> None:
    model = family(toy_constants(space), toy_denoiser)
    rgb = pixels()
    states, _ = encode(model, rgb)
    assert len(states) == model.chunks + 1
    assert (states[-1].low == states[-1].high).all()
    assert (model.denoise(states[-1]) == rgb).all()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_shrink_and_always_hold_the_picture(family, space) -> None:
    model = family(toy_constants(space), toy_denoiser)
    rgb = pixels()
    v = model.values(rgb)
    states, _ = encode(model, rgb)
    for before, after in pairwise(states):
        assert (after.low >= before.low).all()
        assert (after.high <= before.high).all()
        assert (after.low <= v).all()
        assert (v <= after.high).all()


@pytest.mark.parametrize("step", [0, 1, 2])
def test_the_noise_of_universal_quantization_is_uniform_and_ignores_the_picture(step) -> None:
    model = Tight(toy_constants(), toy_denoiser)
    rgb = pixels(64, 64)
    states, _ = encode(model, rgb)
    c = model.constants
    x = (model.values(rgb) - 127.5) / 128
    before, after = states[step].z, states[step + 1].z
    delta = c.widths[step][0] / 2**16 / 128 * c.c[step]
    noise = ((after - c.b[step] * before - c.c[step] * x) / delta).ravel()
    n = noise.size
    assert np.abs(noise).max() <= 0.5 + 1e-4
    ordered = np.sort(noise) + 0.5
    assert np.abs(ordered - np.arange(n) / n).max() < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov, 0.1 %
    assert abs(np.corrcoef(noise, x.ravel())[0, 1]) < 4 / math.sqrt(n)


def test_the_last_latent_has_the_variance_of_the_gaussian_forward_process() -> None:
    # Appendix A.2: z_t given x has the mean alpha_t x and the variance sigma_t^2 whatever the noise's shape, but for b z_T.
    model = Paper(toy_constants(), toy_denoiser)
    rgb = pixels(64, 64)
    states, _ = encode(model, rgb)
    c = model.constants
    x = (model.values(rgb) - 127.5) / 128
    for t in (1, 2, 3, 4):
        error = states[t].z - c.alpha[t] * x
        assert error.std() == pytest.approx(c.sigma[t], rel=0.03)


def test_tight_never_costs_more_than_what_is_left_and_paper_costs_more_than_tight() -> None:
    rgb = pixels(32, 32)
    constants = toy_constants()
    _, tight = encode(Tight(constants, toy_denoiser), rgb)
    _, paper = encode(Paper(constants, toy_denoiser), rgb)
    assert sum(tight) < sum(paper)
    assert len(tight) == 4
    assert len(paper) == 5


def test_tight_lengths_are_a_distribution_over_pictures() -> None:
    # One coordinate, three channels fixed: the code lengths of all 256 values of one channel must satisfy Kraft with equality
    # (each value's path is one leaf of a tree whose tables sum to one), up to the integer tables' leftovers.
    model = Tight(toy_constants(), toy_denoiser)
    total = 0.0
    for value in range(256):
        rgb = np.zeros((1, 3, 1, 1), np.uint8)
        rgb[0, 0] = value
        values = model.values(rgb)
        length = []

        def answer(i, question):
            symbols = question.symbols(values[i])  # noqa: B023
            masses = question.masses(slice(0, question.size))
            at = question.asked == 0
            length.append((24 - np.log2(np.take_along_axis(masses, symbols[:, None], 1)))[at].sum())  # noqa: B023
            return symbols

        def alone(step, z, low, high):
            return (low + high) / 2, np.log2((high - low + 1) / 5.0)

        model.denoiser = alone
        for _ in walk(model, model.start((1, 1), (0,)), answer):
            pass
        total += 2 ** -sum(length)
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_that_falls_short_leaves_the_rest_as_it_was(family) -> None:
    model = family(toy_constants(), toy_denoiser)
    rgb = pixels()
    values = model.values(rgb)
    full, _ = encode(model, rgb)

    def answer(i, question):
        symbols = question.symbols(values[i])
        return symbols[:100] if question.width[0] == model.constants.widths[1][0] else symbols

    states = list(walk(model, model.start(rgb.shape[2:], (0,)), answer))
    assert len(states) == 2
    same = (states[1].low == full[2].low) & (states[1].high == full[2].high)
    old = (states[1].low == full[1].low) & (states[1].high == full[1].high)
    assert (same | old).all()
    assert same.ravel()[:100].all()


@pytest.mark.parametrize("space", SPACES)
def test_grey_pictures_are_three_equal_channels_at_the_price_of_one(space) -> None:
    model = Tight(toy_constants(space), toy_denoiser)
    rgb = np.repeat(pixels()[:, :1], 3, 1)
    for family in FAMILIES:
        for question in family(toy_constants(space), toy_denoiser).question(model.start(rgb.shape[2:], (0,), True), 0):
            assert question.size <= rgb[0, 0].size
    states, grey = encode(model, rgb, grey=True)
    assert (model.denoise(states[-1]) == rgb).all()
    for state in states[:-1]:
        preview = model.denoise(state)
        assert np.abs(preview.astype(int) - preview[:, 1:2]).max() <= 1
    _, colour_bits = encode(model, rgb)
    assert sum(grey) < 0.75 * sum(colour_bits)


def test_grey_paper_mode_comes_back_too() -> None:
    for space in SPACES:
        model = Paper(toy_constants(space), toy_denoiser)
        rgb = np.repeat(pixels()[:, :1], 3, 1)
        states, _ = encode(model, rgb, grey=True)
        assert (model.denoise(states[-1]) == rgb).all()


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_any_number_of_steps_works(steps) -> None:
    gamma = tuple(np.linspace(6, -12.3, steps + 1))
    for family in FAMILIES:
        model = family(toy_constants("rgb", gamma), toy_denoiser)
        states, _ = encode(model, pixels())
        assert (model.denoise(states[-1]) == pixels()).all()


@pytest.mark.parametrize("method", ["denoise", "flow"])
def test_previews_improve_with_every_step_and_stay_in_the_box(method) -> None:
    model = Tight(toy_constants(), toy_denoiser)
    rgb = pixels(48, 48)
    states, _ = encode(model, rgb)
    errors = []
    for state in states:
        preview = getattr(model, method)(state).astype(int)
        assert (preview >= state.low).all()
        assert (preview <= state.high).all()
        errors.append(((preview - rgb.astype(int)) ** 2).mean())
    assert all(a > b for a, b in pairwise(errors))


def test_the_truncated_mean_agrees_with_numerical_integration() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        location, scale = random.uniform(-50, 50), 2 ** random.uniform(-4, 6)
        low = location + random.uniform(-25, 25) * scale
        high = low + 2 ** random.uniform(-6, 5) * scale
        t = np.linspace(low, high, 20001)
        u = -np.abs((t - location) / scale)
        log_density = u - 2 * np.log1p(np.exp(u))
        weight = np.exp(log_density - log_density.max())
        weight[[0, -1]] /= 2
        expected = (t * weight).sum() / weight.sum()
        found = truncated_mean(*(np.array([a]) for a in (location, scale, low, high)))[0]
        assert found == pytest.approx(expected, abs=2e-3 * min(scale, high - low) + 1e-6)


def test_the_truncated_mean_stays_inside_whatever_it_is_given() -> None:
    low = np.array([0.0, 250, -0.5, 10, 10])
    high = np.array([255.0, 251, 0.5, 10.5, 10.5])
    location = np.array([1e9, -1e9, 0, 3000, 10.2])
    scale = np.array([1e-9, 1e-9, 1e9, 0.01, 1e-6])
    mean = truncated_mean(location, scale, low, high)
    assert np.isfinite(mean).all()
    assert (mean >= low).all()
    assert (mean <= high).all()


def test_packages_with_constants_that_cannot_be_are_refused() -> None:
    import dataclasses

    from uqdm.errors import PackageError

    good = toy_constants()
    for changes in (
        {"alpha": good.alpha[:-1]},
        {"widths": ((0, 0, 0),) * 4},
        {"widths": ((2**31,) * 3,) * 4},
        {"prior": good.prior[:3000]},
        {"space": "hsv"},
        {"sigma": (float("inf"),) * 5},
        {"scale": (128.0, 128.0, -1.0)},
    ):
        with pytest.raises(PackageError):
            dataclasses.replace(good, **changes)
