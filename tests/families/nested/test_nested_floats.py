"""Cells are nested and dithered as universal quantization wants them, and a step's bits are a true
distribution's, told pass by pass.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from untrained import pictures, seeded

from uqdm.config import override
from uqdm.families import colour
from uqdm.families.nested.torch import model as nested
from uqdm.families.nested.torch.model import Nested
from uqdm.families.torch.cells import FloatCells
from uqdm.training.presets import PRESETS

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = ((45, 117, 90), (5, 13, 10), (1, 1, 1))
SMALL: dict[str, Any] = {
    "widths": WIDTHS,
    "trunks": ((0, 0), (8, 1), (8, 1)),
    "passes": ((6, 0), (8, 1), (8, 1)),
    "n_mixtures": 2,
}


def fresh(perturbed: float = 0.3, **changes: Any) -> Nested:
    """Every weight by chance, so that no output stays what it begins as."""
    torch.manual_seed(0)
    model = Nested(override(PRESETS["nano"], SMALL | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(perturbed * torch.randn_like(parameter) / max(1, parameter[0].numel()) ** 0.5)
    return model


def test_coordinates_are_those_of_the_codec_and_previews_invert_them() -> None:
    x = pictures(3)
    v = nested.coordinates(x)
    np.testing.assert_array_equal(v.numpy(), colour.forward(x.numpy(), "ycocg-r"))
    assert (nested.pixels(v) - x).abs().max() <= 1


def test_cells_lie_in_each_other_and_hold_the_value() -> None:
    v = nested.coordinates(pictures(2))
    levels = fresh().levels(v, seeded())
    assert len(levels) == 4
    for parent, child in pairwise(levels):
        assert ((parent.low <= child.low) & (child.low <= v) & (v <= child.high) & (child.high <= parent.high)).all()
    assert torch.equal(levels[-1].low, v)
    inside = (levels[1].low > -255) & (levels[1].high < 255) & (levels[1].low > 0)
    width = (levels[1].high - levels[1].low + 1)[:, 0][inside[:, 0]]
    assert (width == 45).all()


@pytest.mark.parametrize("level", [0, 1])
def test_a_cells_middle_is_the_value_plus_uniform_noise_whatever_the_value_is(level: int) -> None:
    draws = 4000
    for value in (60.0, 61.0, 199.0):
        v = torch.full((draws, 3, 1, 1), value)
        offset = nested.offsets((draws, 3, 1, 1), WIDTHS[0], seeded(1))
        low = nested.cells(v, offset, WIDTHS[level]).low[:, 0].flatten()
        width = WIDTHS[level][0]
        counts = torch.bincount((v[:, 0].flatten() - low).long(), minlength=width).double()
        assert len(counts) == width
        expected = draws / width
        chi = float(((counts - expected) ** 2 / expected).sum())
        assert abs(chi - (width - 1)) < 5 * (2 * (width - 1)) ** 0.5


def test_children_of_a_cell_share_all_of_its_mass() -> None:
    model, v = fresh(), nested.coordinates(pictures(1, 8))
    step = model.steps[1]
    parent = model.levels(v, seeded())[1]
    mixture = step.mixture(step.trunk(parent), parent, 0)
    own = FloatCells(nested.phase(parent.low, 0), nested.phase(parent.high, 0))
    mass = torch.zeros_like(own.low)
    for value in range(-255, 256):
        there = (own.low <= value) & (value <= own.high)
        one = torch.where(there, torch.full_like(own.low, float(value)), own.low)
        mass += torch.where(there, 2 ** -mixture.truncated_bits(own, FloatCells(one, one)), torch.zeros(()))
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=1e-4, atol=1e-4)


def test_a_pass_sees_nothing_of_what_is_told_later() -> None:
    """A step's bits are those of its passes, each computed from what has been told by then and no
    more.
    """
    model, v = fresh(), nested.coordinates(pictures(1, 8))
    levels = model.levels(v, seeded())
    for step, (parent, child) in zip(model.steps, pairwise(levels)):
        trunk, alone = step.trunk(parent), torch.zeros(())
        low, high = parent.low.clone(), parent.high.clone()
        for number in range(4):
            mixture = step.mixture(trunk, FloatCells(low.clone(), high.clone()), number)
            own = [FloatCells(nested.phase(c.low, number), nested.phase(c.high, number)) for c in (parent, child)]
            alone = alone + mixture.truncated_bits(own[0], own[1]).sum() / 64
            nested.phase(low, number).copy_(own[1].low)
            nested.phase(high, number).copy_(own[1].high)
            # What is told of this phase changes what is thought of the next ones.
            if number < 3:
                after = step.mixture(trunk, FloatCells(low, high), number + 1).location
                before = step.mixture(trunk, parent, number + 1).location
                assert not torch.equal(after, before)
        torch.testing.assert_close(step.bits(trunk, parent, child)[0].sum(), alone)


def test_previews_lie_in_their_cells_and_the_last_is_the_picture() -> None:
    model, x = fresh(3.0), pictures(2)
    levels = model.levels(nested.coordinates(x), seeded())
    for step, known in zip(model.steps, levels):
        shown = step.mean(step.trunk(known), known)
        assert ((known.low <= shown) & (shown <= known.high)).all()
    terms, previews = model.coded(x, seeded())
    assert len(previews) == 4
    assert torch.equal(previews[-1], x.float())
    assert terms.steps.shape == (3, 2)
    assert (terms.latent == 0).all()
    assert (terms.pixels == 0).all()


def test_a_mixtures_mean_is_that_of_its_integers_shares_of_the_cell() -> None:
    generator = seeded(2)
    location = torch.rand(1, 1, 3, 40, 1, generator=generator) * 300 - 100
    mixture = nested.FloatMixture(
        location,
        torch.rand(location.shape, generator=generator) * 6 - 2,
        torch.log_softmax(torch.rand(location.shape), 2),
    )
    low = torch.floor(torch.rand(1, 1, 40, 1, generator=generator) * 100)
    known = FloatCells(low, low + 30)
    points = torch.linspace(0, 1, 20001, dtype=torch.float64)[:-1] + 1 / 40000
    at = low[..., None].double() - 0.5 + 31 * points
    t = (at[:, :, None] - mixture.location[..., None]) / torch.exp(mixture.log_scale[..., None].double())
    density = (
        torch.exp(mixture.log_weight[..., None])
        * torch.sigmoid(t)
        * torch.sigmoid(-t)
        / torch.exp(mixture.log_scale[..., None])
    ).sum(2)
    expected = torch.minimum(torch.maximum((density * at).sum(-1) / density.sum(-1), low), low + 30)
    there = density.mean(-1) > 1e-9  # elsewhere a sum of doubles knows nothing
    assert there.double().mean() > 0.8
    torch.testing.assert_close(mixture.mean(known).double()[there], expected[there], atol=0.02, rtol=1e-3)


def test_every_weight_is_learned_from() -> None:
    model = fresh()
    terms, mixed = model.bits_and_mixed(pictures(8), seeded())
    (terms.total().mean() + mixed).backward()
    for name, parameter in model.named_parameters():
        if name == "layers.0.passes.0.skip":  # before the first pass of all nothing has a high-pass
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name
    assert torch.equal(model.bits_and_mixed(pictures(8), seeded(), 0.0)[1], torch.zeros(()))
    assert 0 < mixed < 3 * 24


def test_a_state_in_the_middle_of_a_step_holds_both_kinds_of_cells() -> None:
    model, v = fresh(), nested.coordinates(pictures(16))
    levels = model.levels(v, seeded())
    _, turns = model.steps[1].bits(model.steps[1].trunk(levels[1]), levels[1], levels[2])
    state = nested.partly(levels[1], levels[2], turns, seeded(3))
    finer = (state.low == levels[2].low) & (state.high == levels[2].high)
    coarse = (state.low == levels[1].low) & (state.high == levels[1].high)
    assert (finer | coarse).all()
    shares = finer.double().mean((1, 2, 3))
    assert shares.min() < 0.5 < shares.max()
    for one, other, turn in zip(finer & ~coarse, coarse & ~finer, turns):  # what is sent comes before what is not
        assert not one.any() or not other.any() or turn[one].min() > turn[other].max()


def test_multiply_adds_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model, x = fresh(), pictures(1, 16)
    with FlopCounterMode(display=False) as counter:
        model.nelbo(x, seeded())
    assert counter.get_total_flops() / 2 / 256 == pytest.approx(model.multiply_adds())
    full = Nested(PRESETS["nano"])
    assert full.multiply_adds() <= 300_000
