"""Narrower networks from a trained pyramid: channels are left out one by one, and the others take
over what they can.

    python benchmarks/narrower.py RUN OUT --networks "((0,0,0,0),(40,1,40,1),(48,1,56,1)), ..." --data PACK [--count 20]

RUN is a folder with a checkpoint. OUT becomes a folder that `uqdm train --config OUT/config.json
--start OUT` begins with. Blocks stay.

A channel is left out where that costs least, as in Optimal Brain Surgeon (Hassibi and Stork 1993).
Whatever reads the channel reads the best linear guess of it from the channels that are left. The
error of that guess is what it costs. The statistics are of a pack's pictures.
"""

import argparse
import ast
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from uqdm.data.sources import load_pack
from uqdm.families.pyramid.torch.model import LevelNet, Pyramid
from uqdm.families.torch.cells import coordinates
from uqdm.training import runs

MOST = 20_000  # positions of a picture that count
DAMPING = 1e-6


class Statistics:
    """Second moments of what convolutions read, and of the constant 1: (I + 1, I + 1) each."""

    def __init__(self) -> None:
        self._found: dict[nn.Module, Tensor] = {}

    def __call__(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        """A hook before a convolution."""
        x = given[0].detach().double().movedim(1, -1).reshape(-1, given[0].shape[1])
        x = x[:: -(-len(x) // MOST)]
        x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.double)], 1)
        self._found[module] = self._found.get(module, torch.zeros((), dtype=torch.double)) + x.T @ x

    def of(self, module: nn.Module) -> Tensor:
        """Relative to the number of positions."""
        found = self._found[module]
        return found / found[-1, -1] + DAMPING * found.diagonal().mean() / found[-1, -1] * torch.eye(
            len(found), dtype=torch.double
        )


class Reader:
    """A convolution that reads channels of which some are left out."""

    def __init__(self, convolution: nn.Conv2d, moments: Tensor) -> None:
        weight = convolution.weight.detach().double()
        self.convolution, self.shape = convolution, weight.shape
        flat = weight.movedim(1, -1).reshape(-1, weight.shape[1])
        self.weight = torch.cat([flat, torch.zeros(len(flat), 1, dtype=torch.double)], 1)  # and of the constant
        self.inverse = torch.linalg.inv(moments)
        covariance = moments[:-1, :-1] - moments[:-1, -1:] * moments[-1:, :-1]
        self.variance = float(torch.einsum("oi,ij,oj->", flat, covariance, flat)) + 1e-12

    def cost(self, channel: int) -> float:
        """Of leaving a channel out: the error's share of the variance of all that it says."""
        return float((self.weight[:, channel] ** 2).sum() / self.inverse[channel, channel] / self.variance)

    def leave_out(self, channel: int) -> None:
        """The others take over."""
        row = self.inverse[channel] / self.inverse[channel, channel]
        self.weight = self.weight - self.weight[:, channel, None] * row
        self.inverse = self.inverse - self.inverse[:, channel, None] * row
        for array in (self.weight[:, channel], self.inverse[channel], self.inverse[:, channel]):
            array.zero_()

    def close(self, kept: list[int]) -> None:
        """The convolution reads these channels."""
        out, _, height, width = self.shape
        weight = self.weight[:, kept].reshape(out, height, width, len(kept)).movedim(-1, 1).float()
        _replace(self.convolution, weight, self.weight[:, -1].reshape(out, -1).sum(1).float())


def _replace(convolution: nn.Conv2d, weight: Tensor, more: Tensor | None = None) -> None:
    convolution.weight = nn.Parameter(weight.contiguous())
    convolution.out_channels, convolution.in_channels = weight.shape[:2]
    if convolution.bias is not None and more is not None:
        convolution.bias = nn.Parameter(convolution.bias.detach() + more)


def _fewer(writers: list[nn.Conv2d], readers: list[nn.Conv2d], channels: int, statistics: Statistics) -> None:
    """Leaves `channels` channels between what writes them and what reads them."""
    kept = list(range(writers[0].out_channels))
    if len(kept) <= channels:
        return
    reading = [Reader(one, statistics.of(one)) for one in readers]
    while len(kept) > channels:
        least = min(kept, key=lambda channel: sum(reader.cost(channel) for reader in reading))
        for reader in reading:
            reader.leave_out(least)
        kept.remove(least)
    for reader in reading:
        reader.close(kept)
    for writer in writers:
        if writer.bias is not None:
            writer.bias = nn.Parameter(writer.bias.detach()[kept].contiguous())
        _replace(writer, writer.weight.detach()[kept])


def narrow(net: LevelNet, trunk: int, channels: int, statistics: Statistics) -> None:
    """Of `trunk` channels, and passes of `channels`."""
    passes: list[nn.Module] = list(net.passes)
    for part, size in ((net, trunk), *((one, channels) for one in passes)):
        blocks: list[nn.Module] = list(part.body)  # type: ignore[arg-type]
        for block in blocks:
            _fewer([block.first], [block.second], size, statistics)  # type: ignore[list-item]
        first, second = ([getattr(block, name) for block in blocks] for name in ("first", "second"))
        if part is net:
            writers, readers = [net.enter, *second], [*first, *(one.join for one in passes)]
        else:
            writers, readers = [part.join, *([] if part.enter is None else [part.enter]), *second], [*first, part.head]  # type: ignore[list-item]
        _fewer(writers, readers, size, statistics)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", type=ast.literal_eval, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    args = parser.parse_args()
    model = runs.read_folder(args.run).eval()
    assert isinstance(model, Pyramid)
    config = dataclasses.replace(
        model.config, model=dataclasses.replace(model.config.model, networks=args.networks, learning=())
    )
    pack = load_pack(args.data)
    pictures = [
        torch.from_numpy(np.ascontiguousarray(pack[i].transpose(2, 0, 1)))[None]
        for i in range(0, len(pack), len(pack) // args.count)
    ]

    def bits() -> list[float]:
        with torch.no_grad():
            found = [model.walk(coordinates(x), torch.Generator().manual_seed(0)).asked[:, 0] for x in pictures]
        return [round(float(b), 4) for b in torch.stack(found).mean(0)]

    statistics = Statistics()
    hooks = [m.register_forward_pre_hook(statistics) for m in model.modules() if isinstance(m, nn.Conv2d)]
    print("bits of a step before:", bits(), flush=True)
    for hook in hooks:
        hook.remove()
    for step, row in enumerate(args.networks):
        for kind, (trunk, _, channels, _) in enumerate(row):
            net = model.layers[step][kind]  # type: ignore[index]
            if isinstance(net, LevelNet):
                narrow(net, trunk, channels, statistics)
    print("and after:", bits(), f"{model.multiply_adds() / 1e3:.0f} k multiply-adds a pixel", flush=True)
    runs.write_start(args.out, config, dict(model.named_parameters()))


if __name__ == "__main__":
    main()
