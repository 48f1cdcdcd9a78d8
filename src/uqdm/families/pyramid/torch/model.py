"""The pyramid in floats: cells of wavelet coefficients, told step over step, level over level, band
over band; knows no bytes. It is long because networks, walk and bits are read together.

A picture becomes YCoCg-R and then the reversible 5/3 wavelet (`families.pyramid.lattice`). Every
coefficient has one random offset and cells of widths w_1 >= w_2 >= ... >= w_T = 1, each a multiple
of the next (as in `families.nested`). A step goes from the coarsest level to the finest. At a level
it knows the level's low-pass image, and asks for HL, LH and HH in turn, in each for Y, Co and Cg in
turn. A network gives each coefficient a mixture of logistics, truncated to the cell that is known
of it. Three things it sees are from this very step: what earlier bands were told, how wrong the
predictions were there, and how wrong they were at the level above.

A coefficient whose predicted scale is below `threshold` times the step's width is not asked for:
its cell stays, and a later step tells it from there. Both ends know the prediction, so nothing is
sent for that. The loss counts every coefficient all the same; else networks learn to predict tiny
scales and to ask for nothing.

The details of a level are (B, 9, h, w): HL, LH, HH, of each Y, Co, Cg, all of the low-pass image's
size. A band that is shorter repeats its edge there, and those places count nowhere.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uqdm.config import Config
from uqdm.families.pyramid import lattice
from uqdm.families.torch.blocks import LEAK, Residual, high_pass, zero
from uqdm.families.torch.cells import SCALES, FloatCells, FloatMixture, coordinates, pixels
from uqdm.families.torch.held_out import Terms

CHANNELS = 3
DETAILS = 9  # of a position: three bands of three channels
MIDDLE = (127.5, 0.0, 0.0)  # of Y, Co, Cg in a low-pass image
QUIET = 0.7  # what log(1 + |error| / scale) is on average; taken from it, so that 0 says nothing
WIDEST = 4.0  # widths of cells as a feature, in units; wider ones count as that
FIRST = 4  # the unit of the first step, in its widths
LOW_BITS = 10  # that a coefficient of the last low-pass costs, at most: it is sent as it is
FARTHEST = 64.0  # scales that an error counts as, at most
COUPLINGS = 6  # Co: error of Y, for location and scale; Cg: errors of Y and Co, likewise


class KnownDetails(NamedTuple):
    """What is known of a level's details, (B, 9, h, w) each."""

    low: Tensor  # the cell, ends included
    high: Tensor
    value: Tensor  # the best guess: its middle, or, of one that was not asked for, the last predicted mean within it


class Spoken(NamedTuple):
    """What a step said of a level, (B, 9, h, w) each."""

    told: KnownDetails
    loud: Tensor  # log(1 + |error| / scale) - QUIET; 0 where nothing was asked
    bits: Tensor  # that the child costs, whether it was asked for or not
    asked: Tensor  # bool
    mean: Tensor | None  # of the mixture truncated to what is known, for previews


class BandAnswer(NamedTuple):
    """What was said and told of one band of a level, (B, 3, h, w) each."""

    value: Tensor  # as in `KnownDetails`
    error: Tensor  # of the prediction, in units; 0 where nothing was asked
    loud: Tensor  # as in `Spoken`
    asked: Tensor
    bits: Tensor
    location: Tensor  # the mixtures, (B, 3, J, h, w) each
    log_scale: Tensor
    log_weight: Tensor


class Seen(NamedTuple):
    """What the networks of a level saw in a step, for calibration. (B, 9, h, w), but for the image
    and the unit.
    """

    step: int
    level: int
    image: Tensor  # (B, 3, h, w)
    told: KnownDetails  # as the step began
    above: Tensor
    trunk: Tensor  # activations (B, K, h, w)
    value: Tensor
    error: Tensor  # in units
    loud: Tensor
    unit: Tensor  # (9,)


class Pass(nn.Module):
    """The network of one band: the trunk and what earlier bands were told -> mixtures for three
    channels, in turn.

    `seen`: planes of earlier bands, 0, 9 or 18. `shape`: channels and blocks.
    """

    def __init__(self, trunk: int, seen: int, shape: tuple[int, int, int], mixtures: int) -> None:
        super().__init__()
        channels, blocks, size = shape
        self.join = nn.Conv2d(trunk, channels, 1)
        self.enter = nn.Conv2d(seen, channels, 3, padding=1, bias=False) if seen else None
        self.body = nn.Sequential(*[Residual(channels, LEAK, size) for _ in range(blocks)])
        self.head = zero(nn.Conv2d(channels, 3 * mixtures * CHANNELS + COUPLINGS, 1))
        self.linear = zero(nn.Conv2d(CHANNELS + DETAILS + seen // 3, CHANNELS, 3, padding=1, bias=False))
        self.mixtures = mixtures
        self.offset = nn.Parameter(torch.linspace(-0.05, 0.05, mixtures).mul(mixtures > 1).repeat(CHANNELS, 1))
        self.stretch = nn.Parameter(
            torch.linspace(-2.5, -0.5, mixtures).add(-1.0 * (mixtures == 1)).repeat(CHANNELS, 1)
        )

    def forward(self, trunk: Tensor, seen: Tensor | None) -> Tensor:
        """-> raw offsets, stretches, weights and couplings (B, 9 J + 6, h, w): see `answer`."""
        h = self.join(trunk)
        if self.enter is not None:
            h = h + self.enter(seen)
        return self.head(F.leaky_relu(self.body(h), LEAK)).float()  # type: ignore[no-any-return]


class FloatLevelNet(nn.Module):
    """The networks of one level, or of all coarse ones, in one step. `trunk`, `passes`: channels,
    blocks, second kernel of a block.
    """

    def __init__(self, trunk: tuple[int, int, int], passes: tuple[int, int, int], mixtures: int) -> None:
        super().__init__()
        channels, blocks, size = trunk
        self.enter = nn.Conv2d(2 * CHANNELS + 3 * DETAILS, channels, 3, padding=1)
        self.body = nn.Sequential(*[Residual(channels, LEAK, size) for _ in range(blocks)])
        self.passes = nn.ModuleList([Pass(channels, 9 * band, passes, mixtures) for band in range(len(lattice.BANDS))])

    def trunk(self, features: Tensor) -> Tensor:
        """(B, 33, h, w) -> activations (B, K, h, w)."""
        return F.leaky_relu(self.body(self.enter(features)), LEAK)

    def multiply_adds(self) -> int:
        """A position, all passes."""
        return sum(int(m.weight.numel()) for m in self.modules() if isinstance(m, nn.Conv2d))


class Pyramid(nn.Module):
    """All steps of a config: `Pyramid(PRESETS["photo"])` is a fresh one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, model = config, config.model
        self.bases, self.threshold = model.bases, model.threshold
        widths = torch.tensor(
            [[[w for band in level for w in band] for level in step] for step in lattice.widths(model.bases)]
        )
        ends = [
            [lattice.detail_range(n + 1, band, c) for band in range(3) for c in range(CHANNELS)]
            for n in range(lattice.MOST_LEVELS)
        ]
        # Constants that are no weights, on the weights' device.
        self.register_buffer("widths", widths.float(), persistent=False)  # (T, levels, 9)
        self.register_buffer("ends", torch.tensor(ends).float(), persistent=False)  # (levels, 9)
        self.register_buffer("middle", torch.tensor(MIDDLE).view(1, -1, 1, 1), persistent=False)
        self._answer: Callable[..., BandAnswer] = answer
        self.layers = nn.ModuleList()
        for row in model.networks:
            row_nets = nn.ModuleList()
            for t, tb, p, pb in row:
                size = model.kernel
                row_nets.append(FloatLevelNet((t, tb, size), (p, pb, size), model.n_mixtures) if t else nn.Identity())
            self.layers.append(row_nets)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compiles what is done coordinate by coordinate. It is most of the work beside the
        convolutions.
        """
        self._answer = torch.compile(answer, dynamic=True)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def n_steps(self) -> int:
        """T."""
        return len(self.bases)

    def net(self, step: int, level: int) -> FloatLevelNet | None:
        """The network of a level (from 1) in a step (from 0): levels 1 and 2 have one each, the
        others share one. None: not visited.
        """
        found = self.layers[step][min(level, 3) - 1]  # type: ignore[index]
        return found if isinstance(found, FloatLevelNet) else None

    def start(self, v: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Coordinates (B, 3, H, W) -> the last low-pass, details (B, 9, h, w) by level, and 0 or 1
        where they count (1, 9, h, w).
        """
        height, width = v.shape[2:]
        count = lattice.levels(height, width)
        low, bands = _forward(v, count)
        details, valid = [], []
        for (h, w), level in zip(lattice.shapes(height, width, count)[1:], bands):
            parts = [
                F.pad(b, (0, w - b.shape[-1], 0, h - b.shape[-2]), mode="replicate")
                if b.numel()
                else b.new_zeros(len(b), CHANNELS, h, w)
                for b in level
            ]
            details.append(torch.cat(parts, 1))
            ones = [
                F.pad(torch.ones_like(b[:1]), (0, w - b.shape[-1], 0, h - b.shape[-2]))
                if b.numel()
                else b.new_zeros(1, CHANNELS, h, w)
                for b in level
            ]
            valid.append(torch.cat(ones, 1))
        return low, details, valid

    def walk(
        self,
        v: Tensor,
        generator: torch.Generator,
        means: bool = False,
        record: Callable[[Seen], None] | None = None,
        learning: Sequence[int] = (),
    ) -> "Walked":
        """All steps over coordinates (B, 3, H, W). `means`: previews too. `record` is told what
        networks see.

        `learning`: steps, from 1, that keep what gradients need. It ends after the last one. None:
        all.
        """
        low, details, valid = self.start(v)
        size = (v.shape[2], v.shape[3])
        offsets = [torch.rand(d.shape, generator=generator, device=d.device) for d in details]
        told = [_everything(d, self.ends[i]) for i, d in enumerate(details)]  # type: ignore[index]
        shapes = lattice.shapes(*size, len(details))
        bits, asked, previews = [], [], []
        best = [t.value for t in told]
        for step in range(self.n_steps):
            if step < max(learning, default=self.n_steps):
                with torch.set_grad_enabled(torch.is_grad_enabled() and (not learning or step + 1 in learning)):
                    cost, sent = self._step(step, low, details, valid, shapes, offsets, told, best, means, record)
            else:
                cost = sent = low.new_zeros(len(low))
            bits.append(cost / (size[0] * size[1]))
            asked.append(sent / (size[0] * size[1]))
            if means:
                shown = low
                for level in range(len(details), 0, -1):
                    shown = level_up(shown, best[level - 1], shapes[level - 1], exact=False)
                previews.append(pixels(shown))
        return Walked(torch.stack(bits), torch.stack(asked), previews)

    def _step(
        self,
        step: int,
        low: Tensor,
        details: list[Tensor],
        valid: list[Tensor],
        shapes: list[tuple[int, int]],
        offsets: list[Tensor],
        told: list[KnownDetails],
        best: list[Tensor],
        means: bool,
        record: Callable[[Seen], None] | None,
    ) -> tuple[Tensor, Tensor]:
        """All levels of one step -> bits (B,) of all details, and of those asked for. `told` and
        `best` are replaced, level by level.
        """
        cost, sent = low.new_zeros(len(low)), low.new_zeros(len(low))
        if step == 0:
            sent = cost = low.new_full((len(low),), float(LOW_BITS * CHANNELS * low[0, 0].numel()))
        image, above = low, None
        for level in range(len(details), 0, -1):
            net, i = self.net(step, level), level - 1
            if net is None:
                break
            found = self.speak(net, step, level, image, told[i], details[i], offsets[i], above, means, record)
            counted = found.bits * valid[i]
            cost = cost + counted.sum((1, 2, 3))
            sent = sent + (counted.detach() * found.asked).sum((1, 2, 3))
            told[i] = KnownDetails(*(_edged(t, shapes[level - 1]) for t in found.told))
            if found.mean is not None:
                best[i] = found.mean
            if level > 1 and self.net(step, level - 1) is not None:
                h, w = shapes[level - 1]
                image = level_up(image, told[i].value, (h, w), exact=step + 1 == self.n_steps)
                above = F.interpolate(_edged(found.loud, (h, w)), scale_factor=2.0, mode="nearest")[..., :h, :w]
        return cost, sent

    def speak(
        self,
        net: FloatLevelNet,
        step: int,
        level: int,
        image: Tensor,
        told: KnownDetails,
        truth: Tensor,
        offset: Tensor,
        above: Tensor | None,
        means: bool,
        record: Callable[[Seen], None] | None = None,
    ) -> Spoken:
        """One step at one level: image (B, 3, h, w), the rest (B, 9, h, w)."""
        last = step + 1 == self.n_steps
        width, unit, largest = (row.view(1, -1, 1, 1) for row in self._widths(step, level))
        offset = torch.minimum(torch.floor(offset * largest), largest - 1)
        child = _cells(truth, offset, width, told)
        several = torch.floor((told.low - offset) / width) < torch.floor((told.high - offset) / width)  # children
        sharp, middle = high_pass(image), cast(Tensor, self.middle)
        above = torch.zeros_like(truth) if above is None else above
        wide = ((told.high - told.low + 1) / unit).clamp_max(WIDEST)
        trunk = net.trunk(torch.cat([(image - middle) / 64, sharp / unit[:, :3], told.value / unit, wide, above], 1))
        bands: list[BandAnswer] = []
        for band in range(len(lattice.BANDS)):
            here = slice(3 * band, 3 * band + 3)
            one = cast(Pass, net.passes[band])
            earlier, seen = None, None
            if band:
                earlier, errors, louds = (torch.cat(part, 1) for part in zip(*(b[:3] for b in bands)))
                seen = torch.cat([earlier / unit[:, : 3 * band], errors, louds], 1)
            raw = one(trunk, seen)
            moved = [] if earlier is None else [earlier - told.value[:, : 3 * band]]
            with torch.autocast(image.device.type, enabled=False):
                base = one.linear(torch.cat([sharp, told.value, *moved], 1)) + told.value[:, here]
            ends = (part[:, here] for part in (told.low, told.high, child.low, child.high, several))
            given = [part.contiguous() for part in (raw, base, *ends)]
            sizes = width[:, here].clone(), unit[:, here].clone()
            bands.append(self._answer(one.offset, one.stretch, *given, *sizes, 0.0 if last else self.threshold))
        value, error, loud, sent, cost, *mixture = (torch.cat(part, 1) for part in zip(*bands))
        known = KnownDetails(torch.where(sent, child.low, told.low), torch.where(sent, child.high, told.high), value)
        if record is not None:
            record(Seen(step, level, image, told, above, trunk, value, error, loud, unit.flatten()))
        mean = FloatMixture(*mixture).mean(FloatCells(known.low, known.high)) if means else None
        return Spoken(known, loud, cost, sent, mean)

    def _widths(self, step: int, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """(9,) each: of the children's cells, of what networks count in (the parents' cells), of
        the first step's cells.
        """
        rows: Tensor = self.widths[:, level - 1]  # type: ignore[index]
        return rows[step], rows[step - 1] if step else FIRST * rows[0], rows[0]

    def nelbo(self, x: Tensor, generator: torch.Generator) -> Terms:
        """-log2 p(x | offsets) with one draw of the offsets, by step: bits per pixel of what is
        asked for.
        """
        found = self.walk(coordinates(x), generator).asked
        none = found.new_zeros(len(x))
        return Terms(none, found, none)

    def bits_of_all(self, x: Tensor, generator: torch.Generator) -> tuple[Terms, Tensor]:
        """`nelbo`, and what training sums: bits per pixel of every coefficient in every step, (T,
        B), asked for or not.

        Both are 0 after the last step that learns.
        """
        found = self.walk(coordinates(x), generator, learning=self.config.model.learning)
        none = found.bits.new_zeros(len(x))
        return Terms(none, found.asked, none), found.bits

    def coded(self, x: Tensor, generator: torch.Generator) -> tuple[Terms, list[Tensor]]:
        """`nelbo`, and T + 1 previews: before the first step, after it, ... as RGB (B, 3, H, W), 0
        .. 255.
        """
        found = self.walk(coordinates(x), generator, means=True)
        none = found.bits.new_zeros(len(x))
        grey = torch.full_like(x, 128, dtype=torch.float32)
        return Terms(none, found.asked, none), [grey, *found.previews[:-1], x.float()]

    def multiply_adds(self) -> float:
        """A pixel, all steps: a whole file of a large picture."""
        return sum(self.step_multiply_adds(step) for step in range(self.n_steps))

    def step_multiply_adds(self, step: int) -> float:
        """A pixel, one step."""
        nets = [self.net(step, level) for level in range(1, lattice.MOST_LEVELS + 1)]
        return float(sum(net.multiply_adds() / 4 ** (i + 1) for i, net in enumerate(nets) if net is not None))


class Walked(NamedTuple):
    """Bits per pixel by step, (T, B): of every coefficient, and of those asked for; previews after
    each step.
    """

    bits: Tensor
    asked: Tensor
    previews: list[Tensor]


def answer(
    offset: Tensor,
    stretch: Tensor,
    raw: Tensor,
    base: Tensor,
    low: Tensor,
    high: Tensor,
    child_low: Tensor,
    child_high: Tensor,
    several: Tensor,
    width: Tensor,
    unit: Tensor,
    threshold: float,
) -> BandAnswer:
    """What one band of one level answers: Y, Co and Cg in turn, each moved by the errors of those
    before it.

    `offset`, `stretch` (C, J) and `raw` (B, 3 C J + 6, h, w) are a pass's constants and outputs.
    `base` is where locations begin. Like the cells, and `several`, whether there is a choice, it is
    (B, 3, h, w). `width` and `unit` are (1, 3, 1, 1). What has a scale below `threshold` widths is
    not asked for. All are contiguous: one compiled function serves every size.
    """
    channels, mixtures = offset.shape
    each = channels * mixtures
    raws, stretches, weights, couplings = torch.split(raw, [each, each, each, COUPLINGS], 1)
    shape = (len(raw), channels, mixtures, *raw.shape[2:])
    u = unit[:, :, None]
    locations = (base[:, :, None] + u * (raws.reshape(shape) + offset[None, :, :, None, None])).unbind(1)
    log_scales = (stretches.reshape(shape) + stretch[None, :, :, None, None] + torch.log(u)).unbind(1)
    log_weights = torch.log_softmax(weights.reshape(shape), 2)
    coupling = couplings.unbind(1)
    centres = torch.where(several, (child_low + child_high) / 2, (low + high) / 2)
    parts: list[list[Tensor]] = [[], [], [], [], [], []]  # value, error, loud, asked, location, log-scale
    for c in range(CHANNELS):
        errors, louds = parts[1:3]
        place, size, log_weight = locations[c], log_scales[c], log_weights[:, c]
        if c:
            at = 2 * (c - 1)  # see COUPLINGS
            place = place + unit[0, c] * _sum(coupling[at + 2 * o] * errors[o] for o in range(c))[:, None]
            size = size + _sum(coupling[at + 2 * o + 1] * louds[o] for o in range(c))[:, None]
        size = size.clamp(*SCALES)
        with torch.no_grad():
            share, choice, centre = log_weight.exp(), several[:, c], centres[:, c]
            guess = torch.minimum(torch.maximum((share * place).sum(1), low[:, c]), high[:, c])
            scale = (share * size).sum(1).exp()
            ask = choice & (scale >= threshold * width[0, c])
            error = torch.where(ask, centre - guess, 0.0)
            value = torch.where(choice & ~ask, guess, centre)
            loud = torch.where(ask, torch.log1p((error.abs() / scale).clamp_max(FARTHEST)) - QUIET, 0.0)
        for part, found in zip(parts, (value, error / unit[0, c], loud, ask, place, size)):
            part.append(found)
    value, error, loud, ask, place, size = (torch.stack(part, 1) for part in parts)
    mixture, parent, child = (
        FloatMixture(place, size, log_weights),
        FloatCells(low, high),
        FloatCells(child_low, child_high),
    )
    bits = torch.where(several, mixture.truncated_bits(parent, child), 0.0)
    return BandAnswer(value, error, loud, ask, bits, *mixture)


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, terms)


def _everything(like: Tensor, ends: Tensor) -> KnownDetails:
    """Before the first step: the whole range of every detail."""
    high = ends.view(1, -1, 1, 1).expand_as(like).contiguous()
    return KnownDetails(-high, high, torch.zeros_like(like))


def _cells(v: Tensor, offset: Tensor, width: Tensor, within: KnownDetails) -> FloatCells:
    """The cells of integers at a width, cut to what is known."""
    low = offset + width * torch.floor((v - offset) / width)
    return FloatCells(torch.maximum(low, within.low), torch.minimum(low + width - 1, within.high))


def _edged(field: Tensor, finer: tuple[int, int]) -> Tensor:
    """Details (B, 9, h, w) with the edge of a shorter band repeated again; `finer`: the size of the
    field that they make.
    """
    h, w = finer
    if h % 2 == 0 and w % 2 == 0:
        return field
    field = field.clone()
    hl, lh, hh = (field[:, 3 * band : 3 * band + 3] for band in range(3))
    for part, down, across in ((hl, False, True), (lh, True, False), (hh, True, True)):
        if across and w % 2 and w > 1:
            part[..., -1] = part[..., -2]
        if down and h % 2 and h > 1:
            part[..., -1, :] = part[..., -2, :]
    return field


def _sides(high: Tensor, count: int) -> tuple[Tensor, Tensor]:
    before = torch.cat([high[..., :1], high], -1)[..., :count]
    behind = high if high.shape[-1] == count else torch.cat([high, high[..., -1:]], -1)
    return before, behind


def _right(even: Tensor, count: int) -> Tensor:
    return even[..., 1:] if even.shape[-1] > count else torch.cat([even[..., 1:], even[..., -1:]], -1)


def split(a: Tensor) -> tuple[Tensor, Tensor]:
    """Along the last axis; floats that hold integers (see `lattice`)."""
    even, odd = a[..., ::2], a[..., 1::2]
    if not odd.shape[-1]:
        return even, odd
    high = odd - torch.floor((even[..., : odd.shape[-1]] + _right(even, odd.shape[-1])) / 2)
    before, behind = _sides(high, even.shape[-1])
    return even + torch.floor((before + behind + 2) / 4), high


def join(low: Tensor, high: Tensor, exact: bool) -> Tensor:
    """Inverse of `split`. Not `exact`: of real numbers, with the mean that rounding down leaves
    behind (1/4 and 3/8).
    """
    if not high.shape[-1]:
        return low
    before, behind = _sides(high, low.shape[-1])
    sums = (before + behind + 2) / 4
    even = low - (torch.floor(sums) if exact else sums - 0.375)
    halves = (even[..., : high.shape[-1]] + _right(even, high.shape[-1])) / 2
    odd = high + (torch.floor(halves) if exact else halves - 0.25)
    found = low.new_empty(*low.shape[:-1], low.shape[-1] + high.shape[-1])
    found[..., ::2], found[..., 1::2] = even, odd
    return found


def _forward(v: Tensor, count: int) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
    bands = []
    for _ in range(count):
        top, bottom = (part.transpose(-1, -2) for part in split(v.transpose(-1, -2)))
        (v, hl), (lh, hh) = split(top), split(bottom)
        bands.append((hl, lh, hh))
    return v, bands


def level_up(low: Tensor, details: Tensor, finer: tuple[int, int], exact: bool) -> Tensor:
    """LL (B, 3, h, w) and details (B, 9, h, w) -> the finer field (B, 3, *finer)."""
    h, w = finer
    hl = details[:, 0:3, :, : w // 2]
    lh, hh = details[:, 3:6, : h // 2], details[:, 6:9, : h // 2, : w // 2]
    top, bottom = join(low, hl, exact), join(lh, hh, exact)
    return join(top.transpose(-1, -2), bottom.transpose(-1, -2), exact).transpose(-1, -2)
