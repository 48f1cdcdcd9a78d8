"""The denoiser is the published one: its sizes, its names, its numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from uqdm.families.uqdm.config import ModelConfig
from uqdm.families.uqdm.torch.checkpoint import read_published
from uqdm.families.uqdm.torch.unet import Attention, UNet, fourier_features, timestep_embedding
from uqdm.training.presets import SIZES

SMALL = ModelConfig(embedding_dim=8, norm_groups=4)


def perturbed(config: ModelConfig, seed: int = 0) -> UNet:
    """Fresh weights, without the zeros that would hide most of the network."""
    torch.manual_seed(seed)
    net = UNet(config)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


@pytest.mark.parametrize(
    ("size", "count"), [("tiny", 167_494), ("small", 2_238_150), ("medium", 122_143_494), ("big", 237_609_734)]
)
def test_each_size_has_its_number_of_parameters(size: str, count: int) -> None:
    with torch.device("meta"):
        net = UNet(SIZES[size])
    assert sum(p.numel() for p in net.parameters()) == count


def test_multiply_adds_of_the_tiny_model_at_its_size() -> None:
    with torch.device("meta"):
        convolutions, attention = UNet(SIZES["tiny"]).multiply_adds(64, 64)
    assert (round(convolutions / 1000), round(attention / 1000)) == (125, 262)


@pytest.mark.parametrize("reading", ["raw", "ema"])
def test_the_published_weights_give_the_published_numbers(reading: str, shared: Path) -> None:
    folder = shared / "official" / "uqdm-tiny"
    if not (folder / "vectors.npz").is_file():
        pytest.skip(f"{folder} is not here")
    model, vectors = read_published(folder, reading), np.load(folder / "vectors.npz")
    np.testing.assert_allclose(model.gammas().detach().numpy(), vectors[f"{reading}_gamma"], atol=3e-6)
    with torch.inference_mode():
        for i in range(4):
            z, gamma = torch.from_numpy(vectors[f"{reading}_z{i}"][:2]), torch.tensor(vectors[f"{reading}_gamma"][i])
            eps, scale = model.network(z, gamma)
            np.testing.assert_allclose(eps.numpy(), vectors[f"{reading}_eps{i}"][:2], atol=1e-4, rtol=0)
            np.testing.assert_allclose(scale.numpy(), vectors[f"{reading}_scale{i}"][:2], atol=1e-4, rtol=0)


def test_fresh_weights_predict_that_all_is_noise_and_leave_the_scale_alone() -> None:
    z = torch.randn(2, 3, 6, 5)
    eps, scale = UNet(SMALL)(z, torch.tensor(1.0))
    torch.testing.assert_close(eps, z)
    torch.testing.assert_close(scale, torch.ones_like(z))


def test_double_precision_agrees_with_single() -> None:
    net, z = perturbed(SMALL), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        eps, scale = net(z, torch.tensor(-2.0))
        eps64, scale64 = net.double()(z.double(), torch.tensor(-2.0))
    assert eps64.dtype == scale64.dtype == torch.float64
    torch.testing.assert_close(eps.double(), eps64, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(scale.double(), scale64, atol=1e-3, rtol=1e-3)


def test_a_picture_has_the_same_answer_alone_and_in_a_batch_with_other_noise_levels() -> None:
    net, z = perturbed(SMALL).double(), torch.randn(3, 3, 6, 6, dtype=torch.float64)
    gamma = torch.tensor([5.0, 0.0, -9.0], dtype=torch.float64)
    with torch.no_grad():
        together = net(z, gamma)[0]
        alone = torch.cat([net(z[i : i + 1], gamma[i])[0] for i in range(3)])
    torch.testing.assert_close(together, alone)


def test_attention_is_the_softmax_written_out() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 24, 3, 5, dtype=torch.float64)
    out = Attention(2)(qkv).reshape(2, 8, 15)
    for b in range(2):
        for head in range(2):
            q, k, v = (qkv[b, 8 * i + 4 * head : 8 * i + 4 * head + 4].reshape(4, 15) for i in range(3))
            weights = torch.softmax((q * 4**-0.25).T @ (k * 4**-0.25), 1)  # over keys
            torch.testing.assert_close(out[b, 4 * head : 4 * head + 4], v @ weights.T)


def test_features_stand_in_the_published_order() -> None:
    z = torch.rand(1, 3, 1, 1, dtype=torch.float64) * 2 - 1
    features = fourier_features(z)
    assert features.shape == (1, 12, 1, 1)
    torch.testing.assert_close(features[:, :3], torch.sin(2 * torch.pi * 32 * z))
    torch.testing.assert_close(features[:, 9:], torch.cos(2 * torch.pi * 64 * z))
    embedding = timestep_embedding(torch.tensor([0.5], dtype=torch.float64), 8)
    assert embedding[0, 0].item() == pytest.approx(np.sin(500.0))
    assert embedding[0, 7].item() == pytest.approx(np.cos(0.05))


def test_dropout_moves_the_last_convolution_and_attention_everywhere_adds_its_blocks() -> None:
    net = UNet(dataclasses.replace(SMALL, dropout_prob=0.1, attention_everywhere=True, n_attention_heads=2))
    names = net.state_dict().keys()
    assert "mid_resnet_block_1.net2.3.weight" in names
    assert "mid_resnet_block_1.net2.2.weight" not in names
    assert "up_blocks.1.attn_block.layers.3.weight" in names
    assert net.eval()(torch.randn(1, 3, 4, 4), torch.tensor(0.0))[0].shape == (1, 3, 4, 4)


def test_without_a_learned_scale_there_is_no_output_for_it() -> None:
    net = perturbed(dataclasses.replace(SMALL, learned_prior_scale=False, use_fourier_features=False))
    assert net.state_dict()["conv_out.2.weight"].shape[0] == 3
    assert net.state_dict()["conv_in.weight"].shape[1] == 3
    assert (net(torch.randn(1, 3, 4, 4), torch.tensor(0.0))[1] == 1).all()
