"""The denoising network of the published models (appendix C, as in VDM): z and gamma in, noise and
scale out; knows nothing of bits.

A U-Net without down-sampling: residual blocks at full resolution, one global attention in the
middle, every block told the noise level. Names of submodules are those of the published weights, so
that these load as they are.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uqdm.families.uqdm.config import ModelConfig

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

# Sin and cos of 2 pi 2^n z: periods 1/32 and 1/64, on the order of the spacing of pixel values,
# 1/128.
FOURIER_EXPONENTS = (5, 6)
POINT_EXPONENTS = tuple(range(8))  # for points, whose whole position matters


def timestep_embedding(t: Tensor, size: int) -> Tensor:
    """Sines, then cosines, of 1000 t times size/2 frequencies from 1 to 1e-4. (B,) near [0, 1] ->
    (B, size), same dtype.
    """
    half = size // 2
    exponents = torch.arange(half, dtype=t.dtype, device=t.device) * (-4 / (half - 1))
    angles = 1000 * t[:, None] * torch.pow(10.0, exponents)
    return torch.cat([torch.sin(angles), torch.cos(angles)], 1)


def fourier_features(z: Tensor, exponents: Sequence[int] = FOURIER_EXPONENTS) -> Tensor:
    """sin(2 pi 2^n z) for each n of `exponents`, N of them, and each channel, then all cosines.
    (B, C, H, W) -> (B, 2 N C, H, W).
    """
    angles = torch.cat([z * (2 * math.pi * 2**n) for n in exponents], 1)
    return torch.cat([torch.sin(angles), torch.cos(angles)], 1)


class ResnetBlock(nn.Module):
    """skip(x) + net2(net1(x) + cond_proj(condition)). (B, inputs, H, W), (B, 4 D) ->
    (B, outputs, H, W).
    """

    def __init__(self, inputs: int, outputs: int, condition: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.net1 = nn.Sequential(nn.GroupNorm(groups, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.cond_proj = _zeroed(nn.Linear(condition, outputs, bias=False))
        last = _zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        # Takes an index, so it is there only if the weights' names say so.
        drop = [nn.Dropout(dropout)] if dropout > 0 else []
        self.net2 = nn.Sequential(nn.GroupNorm(groups, outputs), nn.SiLU(), *drop, last)
        self.skip_conv = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.net1(x) + self.cond_proj(condition)[:, :, None, None]
        skip = x if self.skip_conv is None else self.skip_conv(x)
        return skip + self.net2(h)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Every position attends to every other. (B, 3 D, H, W), being q, k, v along channels ->
    (B, D, H, W).
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv: Tensor) -> Tensor:
        batch, channels, height, width = qkv.shape
        # (B, 3, heads, D / heads, H W) -> three of (B, heads, H W, D / heads); the softmax is of q
        # k / sqrt(D / heads).
        q, k, v = qkv.reshape(batch, 3, self.heads, -1, height * width).transpose(3, 4).contiguous().unbind(1)
        out = F.scaled_dot_product_attention(q, k, v)
        return out.transpose(2, 3).reshape(batch, channels // 3, height, width)


class AttentionBlock(nn.Module):
    """x + attention over normalised x. (B, D, H, W) -> the same."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        last = _zeroed(nn.Conv2d(channels, channels, 1))
        self.layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.Conv2d(channels, 3 * channels, 1), Attention(heads), last
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # type: ignore[no-any-return]


class UpDownBlock(nn.Module):
    """A residual block, with attention behind it where the config wants it everywhere."""

    def __init__(self, config: ModelConfig, inputs: int) -> None:
        super().__init__()
        d = config.embedding_dim
        self.resnet_block = ResnetBlock(inputs, d, 4 * d, config.norm_groups, config.dropout_prob)
        self.attn_block = (
            AttentionBlock(d, config.n_attention_heads, config.norm_groups) if config.attention_everywhere else None
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.resnet_block(x, condition)
        return h if self.attn_block is None else self.attn_block(h)  # type: ignore[no-any-return]


def _read_out(out: Tensor, z: Tensor, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """A network's last layer (B, C or 2 C, H, W) -> eps_hat and a positive factor on the reverse
    step's scale, both like z.
    """
    noise = out[:, : config.n_channels] + z
    if not config.learned_prior_scale:
        return noise, torch.ones_like(z)
    return noise, F.softplus(out[:, config.n_channels :] + math.log(math.expm1(1)))


class UNet(nn.Module):
    """z_t and gamma_t -> what noise z_t holds, and how unsure the reverse step should be.

    The output is z itself plus three channels for the noise; with `learned_prior_scale` three more
    make the positive factor on the reverse step's scale (section 3.2). Fresh weights give
    eps_hat = z and a factor of 1: the last layers start at zero. With `downsample` k, k x k pixels
    are one position of the network, as channels: a k-th of the resolution (ours, for speed).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c, d, groups, dropout = config.n_channels, config.embedding_dim, config.norm_groups, config.dropout_prob
        self.embed_conditioning = nn.Sequential(nn.Linear(d, 4 * d), nn.SiLU(), nn.Linear(4 * d, 4 * d), nn.SiLU())
        area = config.downsample**2
        features = c * (1 + 2 * len(FOURIER_EXPONENTS)) if config.use_fourier_features else c
        self.conv_in = nn.Conv2d(features * area, d, 3, padding=1)
        self.down_blocks = nn.ModuleList(UpDownBlock(config, d) for _ in range(config.n_blocks))
        self.mid_resnet_block_1 = ResnetBlock(d, d, 4 * d, groups, dropout)
        self.mid_attn_block = AttentionBlock(d, config.n_attention_heads, groups)
        self.mid_resnet_block_2 = ResnetBlock(d, d, 4 * d, groups, dropout)
        self.up_blocks = nn.ModuleList(UpDownBlock(config, 2 * d) for _ in range(config.n_blocks + 1))
        outputs = 2 * c if config.learned_prior_scale else c
        self.conv_out = nn.Sequential(
            nn.GroupNorm(groups, d), nn.SiLU(), _zeroed(nn.Conv2d(d, outputs * area, 3, padding=1))
        )

    def forward(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, C, H, W) float32 or float64 as the weights, gamma (B,) or () -> eps_hat, factor >
        0, both like z.

        The network sees the time that gamma would have on the config's own line, also where the
        schedule is another.
        """
        low, high = self.config.gamma_min, self.config.gamma_max
        t = ((gamma.to(z) - low) / (high - low)).expand(len(z))
        condition = self.embed_conditioning(timestep_embedding(t, self.config.embedding_dim))
        features = torch.cat([z, fourier_features(z)], 1) if self.config.use_fourier_features else z
        h = self.conv_in(
            F.pixel_unshuffle(features, self.config.downsample) if self.config.downsample > 1 else features
        )
        skips = []
        for block in self.down_blocks:
            skips.append(h)
            h = block(h, condition)
        skips.append(h)
        h = self.mid_resnet_block_1(h, condition)
        h = self.mid_attn_block(h)
        h = self.mid_resnet_block_2(h, condition)
        for block in self.up_blocks:
            h = block(torch.cat([h, skips.pop()], 1), condition)
        out = self.conv_out(h)
        return _read_out(
            F.pixel_shuffle(out, self.config.downsample) if self.config.downsample > 1 else out, z, self.config
        )

    def multiply_adds(self, height: int, width: int) -> tuple[int, int]:
        """Multiply-adds per pixel and call at this size: (in convolutions, in attention).

        No layer changes the resolution, so a convolution costs its weights once per position;
        attention costs one product of D channels with every key and one with every value. Norms,
        activations and the embedding of gamma are not counted.
        """
        area = self.config.downsample**2
        convolutions = sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Conv2d))
        blocks = sum(isinstance(m, Attention) for m in self.modules())
        return convolutions // area, blocks * 2 * self.config.embedding_dim * height * width // area**2


class PointNet(nn.Module):
    """The network of the swirl (appendix C.1, as in VDM's example in two dimensions): two hidden
    layers of D units.

    It sees z, sin and cos of 2 pi 2^n z for n = 0 .. 7, and the time that gamma has on the config's
    own line. No convolutions.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c, d = config.n_channels, config.embedding_dim
        features = c * (1 + 2 * len(POINT_EXPONENTS)) if config.use_fourier_features else c
        last = _zeroed(nn.Linear(d, 2 * c if config.learned_prior_scale else c))
        self.layers = nn.Sequential(nn.Linear(features + 1, d), nn.SiLU(), nn.Linear(d, d), nn.SiLU(), last)

    def forward(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, C, 1, 1), gamma (B,) or () -> eps_hat, factor > 0, both like z."""
        low, high = self.config.gamma_min, self.config.gamma_max
        t = (2 * (gamma.to(z) - low) / (high - low) - 1).expand(len(z))
        seen = torch.cat([z, fourier_features(z, POINT_EXPONENTS)], 1) if self.config.use_fourier_features else z
        out = self.layers(torch.cat([seen.flatten(1), t[:, None]], 1))
        return _read_out(out[..., None, None], z, self.config)

    def multiply_adds(self, height: int, width: int) -> tuple[int, int]:
        """Multiply-adds per point and call: (in linear layers, 0)."""
        return sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear)), 0


def new_network(config: ModelConfig) -> "UNet | PointNet":
    """The network that a config names, fresh."""
    return PointNet(config) if config.network == "points" else UNet(config)


def _zeroed(layer: Layer) -> Layer:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
