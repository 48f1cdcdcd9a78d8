"""The convolutional denoiser of our own models: boxes in, locations and scales out; knows nothing of bits.

What is known of a coordinate before a step is a box of integers [low, high] (docs/equations.md). The network sees, for
every coordinate, the box's centre, the centre's high-pass and the box's width, and predicts the location and the scale
of a logistic density for the integer inside. It has no normalisation and no attention: it is fully convolutional, works
at half resolution (2x2 pixels become channels), takes any even size as one field, and needs nothing but convolutions
and ReLU, so that it can be turned into integers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uqdm.families.uqdm.torch.distributions import DENSITIES, log_interval


def high_pass(centre: Tensor) -> Tensor:
    """`centre` less its 3x3 binomial average (1 2 1; 2 4 2; 1 2 1)/16, edges replicated. (B, C, H, W) -> the same."""
    padded = F.pad(centre, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    return centre - (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))), 3 x 3 and `size` x `size`; the second convolution starts at zero, so the block starts as identity.

    act is ReLU, or with a `leak` passes that share of what is below zero.
    """

    def __init__(self, channels: int, leak: float = 0.0, size: int = 3) -> None:
        super().__init__()
        self.leak = leak
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, size, padding=size // 2)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, self.leak)), self.leak))  # type: ignore[no-any-return]


class StepNet(nn.Module):
    """One step's network: (low, high) -> (location, log_scale), all (B, 3, H, W), H and W even; pixel units.

    `width` is the nominal box width before this step, one per channel, in pixel units. `channels` = 0 makes the
    constant network of the first step, where nothing is known: one location and one log-scale per channel.
    """

    width: Tensor
    middle: Tensor

    def __init__(self, width: list[float], middle: list[float], channels: int, blocks: int) -> None:
        super().__init__()
        self.register_buffer("width", torch.tensor(width).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("middle", torch.tensor(middle).view(1, -1, 1, 1), persistent=False)
        self.channels, self.blocks = channels, blocks
        n = len(width)
        self.offset = nn.Parameter(torch.zeros(1, n, 1, 1))  # of the location, in widths
        self.stretch = nn.Parameter(torch.full((1, n, 1, 1), -1.5))  # log(scale / width)
        if channels:
            self.smooth = nn.Parameter(torch.full((1, n, 1, 1), -0.7))
            self.enter = nn.Conv2d(3 * n * 4, channels, 3, padding=1)
            self.body = nn.Sequential(*[Residual(channels) for _ in range(blocks)])
            self.head = nn.Conv2d(channels, 2 * n * 4, 1)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        width = self.width
        centre = (low + high) / 2
        if not self.channels:
            zero = torch.zeros_like(centre)
            location, log_scale = self.middle + self.offset * width + zero, self.stretch + torch.log(width) + zero
            return location, log_scale
        detail = high_pass(centre) / width
        features = torch.cat([(centre - self.middle) / 64, detail, (high - low + 1) / width], 1)
        h = self.enter(F.pixel_unshuffle(features, 2))
        out = F.pixel_shuffle(self.head(F.relu(self.body(h))), 2)
        offset, stretch = out.chunk(2, 1)
        location = centre + width * (offset + self.offset + F.softsign(self.smooth * detail))
        return location, stretch + self.stretch + torch.log(width)

    def reach(self) -> int:
        """How far around a pixel its outputs depend on the input, in pixels, rounded up to even."""
        return 2 * (1 + 2 * self.blocks) + 2 if self.channels else 0

    def multiply_adds(self) -> float:
        """Multiply-adds per pixel and call."""
        if not self.channels:
            return 0.0
        c = self.channels
        return (self.enter.weight.numel() + self.blocks * 2 * 9 * c * c + self.head.weight.numel()) / 4


def truncated_bits(location: Tensor, log_scale: Tensor, low: Tensor, high: Tensor, child_low: Tensor, child_high: Tensor) -> Tensor:
    """-log2 of the mass that a logistic, truncated to the integers low..high, gives to child_low..child_high.

    Every integer v owns the interval v - 1/2 .. v + 1/2. All arguments (B, C, H, W), pixel units; bits per coordinate.
    """
    scale = torch.exp(log_scale)
    whole = log_interval(DENSITIES["logistic"], low - 0.5, high + 0.5, location, scale)
    part = log_interval(DENSITIES["logistic"], child_low - 0.5, child_high + 0.5, location, scale)
    return (whole - part) / math.log(2)
