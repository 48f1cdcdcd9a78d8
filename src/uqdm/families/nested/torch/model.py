"""Nested universal quantization: a diffusion over integer cells whose steps add up to a likelihood;
knows no bytes.

A coordinate v is an integer. There are widths w_1 > w_2 > ... > w_T = 1, each dividing the one
before, and one shared random offset o. The cell of v at level k is the interval of w_k integers
o + j w_k .. o + (j + 1) w_k - 1 that holds v. Over the offset, the cell's middle less v is uniform.
This is universal quantization (section 2 of the paper): noise of the same kind as UQDM's, of width
w_k. But cells are nested. Step k tells which of its parent's children holds v, under a density
truncated to the parent. So the steps' code lengths add up to -log2 p(v | o), and the last cell is v
itself: there is no bound, no gap and no p(x | z_0).

A step goes over the picture in four passes, the phases of 2 x 2 pixels, so that a pass sees what
the passes before it told. Everything runs at half resolution. A trunk sees the parents' cells, once
a step. Each pass adds the cells as they are by then, some of them children already, and gives a
mixture of logistics for every coordinate of its phase. All of it can be done in integers
(`uqdm.exact`): convolutions, limits, shifts. For a preview the next step's passes run, and see
means in the place of what they would be told.

Pictures are uint8 RGB (B, 3, H, W), coordinates those of YCoCg-R, floating (B, 3, H, W), H and W
even.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uqdm.config import Config
from uqdm.families.nested.networks import PHASES, phase
from uqdm.families.torch.blocks import LEAK, Residual, high_pass, zero
from uqdm.families.torch.cells import SCALES, FloatCells, FloatMixture, coordinates, pixels
from uqdm.families.torch.held_out import Terms

RANGE = ((0, 255), (-255, 255), (-255, 255))  # of Y, Co, Cg
MIDDLE = (127.5, 0.0, 0.0)
# Eighths of an octave: what an error of one in Y, Co, Cg does to RGB, for a coordinate's turn
# inside a pass.
PRIORITY = (6, -4, -2)
# Of a batch: pictures whose steps are also asked for from the middle of the step before, for
# previews of cut files.
MIXED = 0.25


def offsets(shape: tuple[int, ...], widths: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """(B, C, H, W) one for every coordinate, uniform on 0 .. w - 1 of its channel's greatest
    width.
    """
    u = torch.rand(shape, generator=generator, device=generator.device)
    most = _channels(widths, u)
    return torch.minimum(torch.floor(u * most), most - 1)


def everything(like: Tensor) -> FloatCells:
    """Before the first step: the whole range of every coordinate."""
    low, high = (_channels(ends, like).expand_as(like).contiguous() for ends in zip(*RANGE))
    return FloatCells(low, high)


def cells(v: Tensor, offset: Tensor, widths: tuple[int, ...]) -> FloatCells:
    """The cells of integers v (B, C, H, W) at a level of those widths, within the range."""
    w = _channels(widths, v)
    lowest, highest = (_channels(ends, v) for ends in zip(*RANGE))
    low = offset + w * torch.floor((v - offset) / w)
    return FloatCells(torch.maximum(low, lowest), torch.minimum(low + w - 1, highest))


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)


def turn(mixture: FloatMixture) -> Tensor:
    """How early a coordinate is sent, highest first (B, C, H, W): its logistics' mean log-scale,
    and its channel's priority.
    """
    octaves = (mixture.log_scale * mixture.log_weight.exp()).sum(2) / math.log(2)
    return octaves + _channels(PRIORITY, octaves) / 8


class FloatPass(nn.Module):
    """One pass of a step: the trunk's activations and the cells as they are -> a mixture for one
    phase's coordinates.
    """

    def __init__(self, trunk: int, inputs: int, shape: tuple[int, ...], coordinates: int, mixtures: int) -> None:
        super().__init__()
        channels, blocks = shape
        self.join = nn.Conv2d(trunk, channels, 1, bias=False) if trunk else None
        self.enter = nn.Conv2d(inputs, channels, 3, padding=1)
        self.body = nn.Sequential(*[Residual(channels, LEAK) for _ in range(blocks)])
        self.head = zero(nn.Conv2d(channels, 3 * mixtures * coordinates, 1))
        self.shape = (coordinates, 3, mixtures)
        self.offset = nn.Parameter(torch.linspace(-0.1, 0.1, mixtures).mul(mixtures > 1).repeat(coordinates, 1))
        self.stretch = nn.Parameter(torch.full((coordinates, mixtures), -1.5))
        self.skip = nn.Parameter(torch.full((coordinates, 1), -0.7))

    def forward(
        self, trunk: Tensor | None, features: Tensor, centre: Tensor, detail: Tensor, width: Tensor
    ) -> FloatMixture:
        """trunk (B, K, h, w); features (B, inputs, h, w); of the phase's coordinates: centre,
        detail (B, C, h, w), width (1, C, 1, 1).
        """
        h = self.enter(features)
        if self.join is not None:
            h = h + self.join(trunk)
        raw = self.head(F.leaky_relu(self.body(h), LEAK)).float()
        offset, stretch, weight = raw.view(len(raw), *self.shape, *raw.shape[2:]).unbind(2)
        own, wide, skip = (p[None, :, :, None, None] for p in (self.offset, self.stretch, self.skip))
        w = width[:, :, None]
        location = centre[:, :, None] + w * (offset + own + F.softsign(skip * detail[:, :, None]))
        log_scale = (stretch + wide + torch.log(w)).clamp(*SCALES)
        return FloatMixture(location, log_scale, torch.log_softmax(weight, 2))


class FloatStep(nn.Module):
    """One step, parents' cells to children's. `width`: of the parents, by channel; `trunk`,
    `passes`: channels and residual blocks.

    Without a trunk (0 channels) the passes see all features: the first step's parents say nothing
    that a trunk could work on.
    """

    width: Tensor
    middle: Tensor

    def __init__(
        self, width: tuple[float, ...], trunk: tuple[int, ...], passes: tuple[int, ...], mixtures: int
    ) -> None:
        super().__init__()
        c, (channels, blocks) = len(width), trunk
        self.register_buffer("width", torch.tensor(width).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("middle", torch.tensor(MIDDLE).view(1, -1, 1, 1), persistent=False)
        self.passes = nn.ModuleList(
            [FloatPass(channels, (4 if channels else 12) * c, passes, c, mixtures) for _ in PHASES]
        )
        self.channels = channels
        if channels:
            self.enter = nn.Conv2d(12 * c, channels, 3, padding=1)
            self.body = nn.Sequential(*[Residual(channels, LEAK) for _ in range(blocks)])

    def features(self, known: FloatCells) -> tuple[Tensor, Tensor, Tensor]:
        """-> centre, high-pass in widths, and all features: (B, C, H, W), (B, C, H, W), (B, 3 C, H,
        W).
        """
        centre = (known.low + known.high) / 2
        detail = high_pass(centre) / self.width
        return (
            centre,
            detail,
            torch.cat([(centre - self.middle) / 64, detail, (known.high - known.low + 1) / self.width], 1),
        )

    def trunk(self, known: FloatCells) -> Tensor | None:
        """(B, K, H/2, W/2), activations; None where there is no trunk."""
        if not self.channels:
            return None
        return F.leaky_relu(self.body(self.enter(F.pixel_unshuffle(self.features(known)[2], 2))), LEAK)

    def mixture(self, trunk: Tensor | None, known: FloatCells, number: int) -> FloatMixture:
        """Of the coordinates of pass `number`; `known`: the cells as they are by then."""
        centre, detail, features = self.features(known)
        seen = F.pixel_unshuffle(detail if self.channels else features, 2)
        found: FloatMixture = self.passes[number](trunk, seen, phase(centre, number), phase(detail, number), self.width)
        return found

    def mean(self, trunk: Tensor | None, known: FloatCells) -> Tensor:
        """The posterior mean of every coordinate, within its cell: (B, C, H, W). Each pass sees the
        means of those before it.
        """
        low, high = known.low.clone(), known.high.clone()
        for number in range(len(PHASES)):
            own = FloatCells(phase(known.low, number), phase(known.high, number))
            mean = self.mixture(trunk, FloatCells(low, high), number).mean(own)
            phase(low, number).copy_(mean)
            phase(high, number).copy_(mean)
        return low

    def bits(self, trunk: Tensor | None, parent: FloatCells, child: FloatCells) -> tuple[Tensor, Tensor]:
        """-> bits of all passes per pixel, (B,); and every coordinate's turn (B, C, H, W), earlier
        passes first.
        """
        low, high = parent.low.clone(), parent.high.clone()
        total, turns = low.new_zeros(len(low)), torch.empty_like(low)
        for number in range(len(PHASES)):
            mixture = self.mixture(trunk, FloatCells(low, high), number)
            own = FloatCells(phase(child.low, number), phase(child.high, number))
            total = total + mixture.truncated_bits(
                FloatCells(phase(parent.low, number), phase(parent.high, number)), own
            ).sum((1, 2, 3))
            phase(turns, number).copy_(turn(mixture).detach() - 1000 * number)
            low, high = low.clone(), high.clone()
            phase(low, number).copy_(own.low)
            phase(high, number).copy_(own.high)
        return total / low[0, 0].numel(), turns

    def multiply_adds(self) -> float:
        """A pixel and call, all passes."""
        return sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Conv2d)) / 4


class Nested(nn.Module):
    """All steps of a config: `Nested(PRESETS["nano"])` is a fresh one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        model = config.model
        self.config, self.widths = config, model.widths
        start = tuple(float(high - low) for low, high in RANGE)
        parents = [start, *(tuple(map(float, w)) for w in self.widths[:-1])]
        self.layers = nn.ModuleList(
            [FloatStep(*each, model.n_mixtures) for each in zip(parents, model.trunks, model.passes)]
        )

    @property
    def steps(self) -> list[FloatStep]:
        """T of them."""
        return [step for step in self.layers if isinstance(step, FloatStep)]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def levels(self, v: Tensor, generator: torch.Generator) -> list[FloatCells]:
        """T + 1 cells of integers v, from everything to v itself, under one draw of the offsets."""
        offset = offsets(tuple(v.shape), self.widths[0], generator)
        return [everything(v), *(cells(v, offset, w) for w in self.widths[:-1]), FloatCells(v, v)]

    def nelbo(self, x: Tensor, generator: torch.Generator) -> Terms:
        """-log2 p(x | offsets) with one draw of the offsets, by step: bits per pixel; what is
        before and behind the steps costs nothing.
        """
        return self.bits_and_mixed(x, generator, 0.0)[0]

    def bits_and_mixed(self, x: Tensor, generator: torch.Generator, mixed: float = MIXED) -> tuple[Terms, Tensor]:
        """`nelbo`, and () the mean bits of what previews of cut files ask, of a share `mixed` of
        the pictures, summed over steps.

        Such a file ends inside a step: some coordinates, those that are sent first, are children
        already. The next step's networks are asked about that state for what a whole file would
        tell there.
        """
        v = coordinates(x)
        levels = self.levels(v, generator)
        bits, others = [], []
        some = round(mixed * len(v))
        for k, (step, (parent, child)) in enumerate(zip(self.steps, pairwise(levels))):
            cost, turns = step.bits(step.trunk(parent), parent, child)
            bits.append(cost)
            if some and k + 1 < len(self.steps):
                before, behind, after = (
                    FloatCells(c.low[:some], c.high[:some]) for c in (parent, child, levels[k + 2])
                )
                state = partly(before, behind, turns[:some], generator)
                next_step = self.steps[k + 1]
                others.append(next_step.bits(next_step.trunk(state), state, after)[0].mean())
        none = v.new_zeros(len(v))
        return Terms(none, torch.stack(bits), none), torch.stack(others).sum() if others else v.new_zeros(())

    def coded(self, x: Tensor, generator: torch.Generator) -> tuple[Terms, list[Tensor]]:
        """`nelbo`, and T + 1 previews: the posterior mean before the first step, after it, ... as
        RGB (B, 3, H, W), 0 .. 255.
        """
        v = coordinates(x)
        levels = self.levels(v, generator)
        bits, shown = [], []
        for step, (parent, child) in zip(self.steps, pairwise(levels)):
            trunk = step.trunk(parent)
            shown.append(pixels(step.mean(trunk, parent)))
            bits.append(step.bits(trunk, parent, child)[0])
        none = v.new_zeros(len(v))
        return Terms(none, torch.stack(bits), none), [*shown, x.float()]

    def multiply_adds(self) -> float:
        """A pixel, all steps: a whole file. A preview after a step takes as much as the next
        step.
        """
        return sum(step.multiply_adds() for step in self.steps)


def partly(parent: FloatCells, child: FloatCells, turns: Tensor, generator: torch.Generator) -> FloatCells:
    """Cells of files that are cut inside a step, each after a share of its coordinates that chance
    names.
    """
    share = torch.rand(len(turns), generator=generator, device=generator.device)
    cuts = torch.stack([torch.quantile(t.flatten(), 1 - u) for t, u in zip(turns, share)])
    sent = turns > cuts.view(-1, 1, 1, 1)
    return FloatCells(torch.where(sent, child.low, parent.low), torch.where(sent, child.high, parent.high))
