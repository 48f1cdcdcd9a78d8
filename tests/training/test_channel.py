"""Gaussian channels as bytes: what arrives is what was sent, it has the law it should have, and it
costs little more than it must.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from uqdm.config import override
from uqdm.errors import DamagedError
from uqdm.families.uqdm.torch.vdm import VDM
from uqdm.research import gaussian_channel as channel
from uqdm.research.gaussian_channel import LAYERED, PAIR, RACE, Channel, Sent, decode, encode, kolmogorov, noise
from uqdm.training.presets import PRESETS

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Channel(steps=6, limit=5, work=1 << 16)
CHANCE = 1e-3  # of a p-value: there are a dozen here


def fresh(**changes: Any) -> VDM:
    """A VDM that knows nothing yet; from gamma = -2 on, so that its steps are as small as those of
    one that does.
    """
    torch.manual_seed(0)
    return VDM(
        override(PRESETS["tiny-vdm"], {"embedding_dim": 8, "norm_groups": 4, "gamma_min": -2.0} | changes)
    ).eval()


def picture(size: int = 16, seed: int = 7) -> Tensor:
    """Smooth, with some noise: uint8 (1, 3, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 3, 3, generator=generator)
    fine = (
        torch.nn.functional.interpolate(coarse, size=size, mode="bilinear") * 220
        + torch.rand(1, 3, size, size, generator=generator) * 30
    )
    return fine.to(torch.uint8)


def sent(settings: Channel, draws: int = 1, **changes: Any) -> tuple[VDM, Tensor, list[Sent]]:
    model, x = fresh(**changes), picture()
    return model, x, [encode(model, x, dataclasses.replace(settings, seed=i)) for i in range(draws)]


def simulated(m: np.ndarray, settings: Channel, draws: int) -> tuple[np.ndarray, list[channel.BlockRecord]]:
    """Draws of N(m, 1), each with its own seed; standard in direction m -> (draws,)."""
    blocks: list[channel.BlockRecord] = []
    for seed in range(draws):
        own = dataclasses.replace(settings, seed=seed)
        level = round(32 - 4 * math.log2((m**2).mean()))
        channel.block(channel.ChannelWriter(), m, channel.Law(level, own), channel.BlockPlace(0, 0, len(m)), blocks)
    return np.array([b.score for b in blocks]), blocks


@pytest.mark.parametrize("limit", [0, 3, 5])
@pytest.mark.parametrize("widened", [True, False])
def test_what_arrives_is_what_was_sent_bit_by_bit(limit: float, widened: bool) -> None:
    settings = dataclasses.replace(QUICK, limit=limit, widened=widened)
    model, _, (found,) = sent(settings)
    assert found.steps[-1].ideal > 1
    arrived = decode(model, found.data, (3, 16, 16), settings)
    assert len(arrived) == 7
    for ours, theirs in zip(found.latents, arrived, strict=True):
        assert torch.equal(ours, theirs)
    for method in (model.denoise, model.flow):
        assert torch.equal(method(arrived[3], 3, 6), method(found.latents[3], 3, 6))


def test_every_way_to_send_a_block_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "ATTEMPTS", 2)
    settings = dataclasses.replace(QUICK, work=1 << 10)
    model, _, (found,) = sent(settings)
    assert {b.kind for b in found.blocks} == {RACE, PAIR, LAYERED}
    arrived = decode(model, found.data, (3, 16, 16), settings)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found.latents, arrived, strict=True))


def test_sending_ends_where_the_picture_is_good_enough() -> None:
    model, x = fresh(), picture()
    everything = encode(model, x, QUICK)
    some = encode(model, x, QUICK, until=everything.quality[3] - 1e-6)
    assert len(some.steps) <= 3
    arrived = decode(model, some.data, (3, 16, 16), QUICK)
    assert len(arrived) == len(some.latents)
    assert all(torch.equal(a, b) for a, b in zip(arrived, everything.latents))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one"):
        encode(fresh(), torch.cat([picture(), picture()]), QUICK)
    with pytest.raises(ValueError, match="limit"):
        Channel(limit=25)
    for data in (b"", b"\x07"):
        with pytest.raises(DamagedError, match="at most 6"):
            decode(fresh(), data, (3, 16, 16), QUICK)


@pytest.mark.parametrize("limit", [0, 5])
def test_latents_are_draws_of_the_forward_process(limit: float) -> None:
    model, x, several = sent(dataclasses.replace(QUICK, limit=limit), 8)
    _, p = kolmogorov(np.stack([noise(model, x, one.latents, QUICK.steps) for one in several]))
    assert p > CHANCE
    if limit:
        _, p = kolmogorov(np.array([b.score for one in several for b in one.blocks]))
        assert p > CHANCE


M = np.array([2.5, -1.5, 0.5, 1.0])  # 7 bits by the VDM's reckoning


# A work of 16 or 128 numbers leaves some of q to the other ways, one of 2^16 next to nothing: the
# law is the same.
@pytest.mark.parametrize(("work", "least", "most"), [(16, 0.5, 0.9), (128, 0.05, 0.6), (1 << 16, 0, 0.05)])
@pytest.mark.parametrize("widened", [True, False])
def test_a_block_has_its_law_however_little_work_it_is_given(
    work: int, least: float, most: float, widened: bool
) -> None:
    scores, blocks = simulated(M, Channel(limit=8, widened=widened, work=work), 1000)
    other = sum(b.kind != RACE for b in blocks) / len(blocks)
    assert least <= other <= most
    assert kolmogorov(scores)[1] > CHANCE


def test_the_test_finds_a_race_that_was_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is left above the cap, draws stay behind m: the best of too few, as in minimal
    random coding.
    """
    original = channel.uniforms
    monkeypatch.setattr(
        channel, "uniforms", lambda integers: original(integers) if len(integers) > 1 else np.array([1e-300])
    )
    scores, blocks = simulated(M, Channel(limit=8, widened=False, work=128), 1000)
    assert all(b.kind == RACE for b in blocks)
    assert kolmogorov(scores)[1] < 1e-6
    assert scores.mean() < -0.1


def test_the_test_accepts_normals_and_nothing_else() -> None:
    normals = np.random.default_rng(0).normal(size=4000)
    assert kolmogorov(normals)[1] > CHANCE
    for other in (normals + 0.1, normals * 1.1, np.sign(normals) * np.abs(normals) ** 1.2):
        assert kolmogorov(other)[1] < CHANCE
    assert kolmogorov(np.zeros(1))[0] == 0.5


def test_a_coordinate_of_more_than_the_limit_arrives_all_the_same() -> None:
    m = np.array([0.3, 40.0, -0.2, -3000.0, 0.1])  # 1,150 and 6.5 million bits by the VDM's reckoning
    settings = Channel(limit=6, work=1 << 16)
    for level in (40, 20):  # of much less energy than there is
        law, blocks = channel.Law(level, settings), []
        writer = channel.ChannelWriter()
        z = channel.block(writer, m, law, channel.BlockPlace(0, 0, 5), blocks)
        assert np.abs(z - m).max() < 6
        assert {b.kind for b in blocks} == {RACE, LAYERED}
        reader = channel.ChannelReader(writer.encoder.finish())
        assert (channel.block(reader, None, law, channel.BlockPlace(0, 0, 5), []) == z).all()


def test_no_raced_block_has_more_than_the_limit() -> None:
    _, _, several = sent(QUICK, 3)
    blocks = [b for one in several for b in one.blocks]
    assert len(blocks) > 50
    assert all(b.divergence <= QUICK.limit for b in blocks if b.kind == RACE)
    assert all(b.divergence <= QUICK.limit for b in blocks)  # and nothing had to be sent otherwise for being too large


@pytest.mark.parametrize("widened", [True, False])
def test_blocks_cost_their_divergence_its_logarithm_and_a_constant(widened: bool) -> None:
    """Li and El Gamal (2018): KL + log2(KL + 1) + 4 bits on average, 5 with a code for the
    number.
    """
    _, _, several = sent(dataclasses.replace(QUICK, widened=widened), 3)
    blocks = [b for one in several for b in one.blocks]
    bound = sum(b.divergence + math.log2(b.divergence + 1) + 4 for b in blocks)
    assert sum(b.divergence for b in blocks) < sum(b.coded for b in blocks) < bound


def test_the_file_is_as_long_as_its_symbols_are_improbable() -> None:
    _, _, (found,) = sent(QUICK)
    coded = sum(step.coded for step in found.steps)
    assert coded + 8 <= 8 * len(found.data) <= coded + 8 + 40
    assert sum(b.coded for b in found.blocks) < coded < sum(b.coded for b in found.blocks) + 24 * QUICK.steps


def test_ideal_bits_are_those_of_the_likelihood_bound() -> None:
    model, x, (found,) = sent(QUICK)
    gamma, real = model.gammas(QUICK.steps), model.to_real(x)
    for i, step in enumerate(found.steps):
        bits, _ = model.step_bits(real, found.latents[i], found.latents[i + 1], gamma[i], gamma[i + 1])
        assert step.ideal == pytest.approx(bits.item() * 256, rel=1e-4)


def test_wider_candidates_have_less_to_tell() -> None:
    _, _, (wide,) = sent(QUICK)
    _, _, (narrow,) = sent(dataclasses.replace(QUICK, widened=False))
    assert sum(s.divergence for s in wide.steps) < 0.97 * sum(s.ideal for s in wide.steps)
    assert sum(s.divergence for s in narrow.steps) == pytest.approx(sum(s.ideal for s in narrow.steps))
    assert len(wide.data) < len(narrow.data)


def test_a_mix_is_orthogonal_and_spreads_what_is_in_one_place() -> None:
    for n in (1, 3, 96, 3072):
        mix = channel._Mix(QUICK, 2, n)
        values = np.random.default_rng(n).normal(size=n)
        np.testing.assert_allclose(mix.back(mix.forward(values)), values, atol=1e-12)
        assert (mix.forward(values) ** 2).sum() == pytest.approx((values**2).sum())
    spike = np.zeros(3072)
    spike[5] = 1
    assert np.abs(mix.forward(spike)).max() == pytest.approx(1 / 32)
