"""Blocks of convolutional networks that can become integers: no normalisation, no attention, any
size.
"""

import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 1 / 8  # what activations pass on of what is below zero: with none, training silences most channels for good


def high_pass(centre: Tensor) -> Tensor:
    """`centre` less its 3x3 binomial average (1 2 1; 2 4 2; 1 2 1)/16, edges replicated.
    (B, C, H, W) -> the same.
    """
    padded = F.pad(centre, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    return centre - (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))), 3 x 3 and `size` x `size`; the second convolution starts at
    zero, so the block starts as identity.

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


def zero(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution, with weights and biases of 0."""
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
