"""A VDM's steps as bytes: Gaussian channels simulated exactly, block by block. It is slow, and for
research. Knows no files and no formats of pictures. It is long because sender and receiver have to
be read side by side.

A VDM's rate is that of an ideal simulation of its Gaussian steps, which nobody has. This is a real
one. The receiver knows z_t and so p(z_s | z_t), and is told enough to hold a draw from q(z_s | z_t,
x). In units of sigma_Q, and less what both know, a step is N(m, 1) for each coordinate, with m = c
(x - x_hat) / sigma_Q, which only the sender has. A step goes like this:

1. An orthogonal transform from shared randomness spreads the energy of m evenly. So blocks of one
   size carry about as many bits, and no sizes are sent. N(m, 1) is the same law in any orthogonal
   coordinates. The mean of m^2 is sent, as one level.
2. A block is a race (the Poisson functional representation of Li and El Gamal 2018; also A*
   sampling, Maddison et al. 2014). Candidates z_1, z_2, ... with density p come from shared
   randomness and arrive at times T_1 < T_2 < ... of a Poisson process. The one of least T_i /
   r(z_i) has density q = r p. Its number is sent. The sender looks at about 2^KL candidates and
   more; the receiver looks at one.
3. A race takes longer the higher r is, and r has no bound, or one far too high. So the race is for
   the part of q under min(r, cap). With the probability of what is left, E_q (1 - cap / r)+, the
   block is drawn in other ways until it falls into that part, and the attempt's number is sent as
   well. The mixture is q, whatever the cap. The cap is the sender's choice and follows from how
   much work a block may be.
4. The first other way is a pair, for some attempts: both halves of the block are blocks of their
   own. The second is layered quantizers (Hegazy and Li 2022), which are no work, but cost a quarter
   to a third of a bit more for each coordinate. A normal is a uniform of random width, twice a chi
   with three degrees of freedom. So dither and a rounded multiple of that width make m into N(m,
   1).
5. A block of more than `limit` bits of divergence is split into halves. One coordinate of more is
   sent by a layered quantizer.
6. The winner's number is about 2^KL. How many bits it has is coded under the law of log r, and the
   bits are sent as they are. In all a block costs two to three bits more than its divergence,
   however large that is.

Promises: (a) The receiver's latents are the sender's, bit by bit. (b) Each is a draw from q(z_s |
z_t, x) given the one before, up to the float32 of candidates' normals (Box and Muller 1958, on 32
bits of Philox: none beyond 6.7). (c) No block that is raced has more than `limit` bits of
divergence from what its candidates are drawn from.

The exceptions: Both ends must run on one machine, with the same libraries and threads, because both
run the network in floats. For the same reason only one picture is coded at a time. And the shared
randomness makes (b) a statement about draws of the seed.

Both ends draw z_T from p(z_T), as a UQDM does (section 3.3 of the paper). So L_T is 0, and q(z_T |
x) is not quite met.
"""

import dataclasses
import math
import time
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uqdm.entropy import coder, randomness
from uqdm.entropy.tables import PRECISION
from uqdm.errors import DamagedError
from uqdm.families.torch.held_out import psnr
from uqdm.families.uqdm.torch.diffusion import wide
from uqdm.families.uqdm.torch.schedule import step_constants
from uqdm.families.uqdm.torch.vdm import VDM

Reals = NDArray[np.float64]
Masses = NDArray[np.int64]

CHUNK = 1 << 15  # values that are drawn at once: candidates times coordinates
RACE, SPLIT, PAIR, LAYERED = range(4)  # how a block is sent
KINDS = (0.93, 0.04, 0.02, 0.01)
SHARE = 4  # either half of a pair may take one part in so many of a block's work
ATTEMPTS = 64  # so many attempts at a pair, before layered quantizers
LEVELS = 80  # of the mean of m^2: 2^8, 2^7.75, ..., 2^-11.75
FIRST_LEVEL = 70
BUCKETS = 48  # of an index: 1, 2-3, 4-7, ...
SPARE = 1.5  # blocks are so small that one of mean energy, and so many standard deviations more, is below the limit
# A race is not worth the work beyond so many standard deviations of log r (if it were normal, with
# variance twice its mean).
REACH = 2.5
NEAR = 8  # multiples of a layered quantizer's width up to here have their own symbol
_CANDIDATES, _ARRIVALS, _LAYERS, _PRIVATE, _MIX = range(5)  # what a stream of random integers is for


@dataclasses.dataclass(frozen=True)
class Channel:
    """What both ends agree on beforehand, besides the model and the picture's shape.

    `limit` is the most bits of divergence of a block that is raced. With 0 nothing is raced, and
    all goes through layered quantizers. `widened` gives candidates the variance 1 + v, where v is
    the mean of m^2 over the step, and not the VDM's 1. This is what p(z_s | z_t) should be when
    steps are few. `work` is the number of random numbers that a block is worth. Raises `ValueError`
    for what cannot be.
    """

    steps: int = 20
    limit: float = 12.0
    widened: bool = True
    work: int = 1 << 22
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 255 or not 0 <= self.limit <= 24 or self.work < 1 or not 0 <= self.seed < 1 << 63:
            found = f"steps is {self.steps}, limit {self.limit}, work {self.work}, seed {self.seed}"
            raise ValueError(f"{found}; expected steps 1 to 255, limit 0 to 24 bits, work from 1, seed 0 to 2^63 - 1")


class BlockRecord(NamedTuple):
    """One block as its sender saw it."""

    step: int
    size: int  # coordinates
    kind: int  # RACE, PAIR, LAYERED
    divergence: float  # bits, of q from what candidates are drawn from
    coded: float  # bits
    numbers: int  # candidates looked at, times coordinates
    score: float  # (z - m) along m: N(0, 1), if z is what it should be


class Step(NamedTuple):
    """One step as its sender saw it. Bits are those of the whole picture."""

    ideal: float  # KL(q(z_s | z_t, x) || p(z_s | z_t)), the VDM's: |m|^2 / 2
    divergence: float  # the same from what candidates are drawn from
    coded: float  # -log2 of the probabilities of all symbols sent
    seconds: float  # without the network


class Sent(NamedTuple):
    """What `encode` returns."""

    data: bytes
    latents: list[Tensor]  # z_T, and one more after each step: what `decode` finds
    quality: list[float]  # dB of the denoised prediction at each of them
    steps: list[Step]
    blocks: list[BlockRecord]


class Wire(Protocol):
    """The only thing in which the two ends differ: the sender's takes symbols, the receiver's gives
    them.
    """

    bits: float

    def pass_on(self, symbols: NDArray[np.int64] | None, masses: Masses) -> NDArray[np.int64]:
        """(M,) symbols under the tables `masses` (M, K); None at the receiver. Returns the same
        symbols at both ends.
        """


class ChannelWriter:
    def __init__(self) -> None:
        self.encoder, self.bits = coder.RangeEncoder("plain"), 0.0

    def pass_on(self, symbols: NDArray[np.int64] | None, masses: Masses) -> NDArray[np.int64]:
        assert symbols is not None
        self.encoder.encode(symbols, masses)
        self.bits += coder.bits(symbols, masses)
        return symbols


class ChannelReader:
    def __init__(self, data: bytes) -> None:
        self.decoder, self.bits = coder.RangeDecoder(data, coder="plain"), 0.0

    def pass_on(self, symbols: NDArray[np.int64] | None, masses: Masses) -> NDArray[np.int64]:
        found = self.decoder.decode(masses)
        self.bits += coder.bits(found, masses)
        return found


# ---- symbols ----


def _masses(weights: Reals) -> Masses:
    """(M, K) weights, not all 0 in a row -> rows for the range coder."""
    share = weights / weights.sum(1, keepdims=True)
    masses: Masses = np.floor(share * ((1 << PRECISION) - weights.shape[1])).astype(np.int64) + 1
    masses[np.arange(len(masses)), share.argmax(1)] += (1 << PRECISION) - masses.sum(1)
    return masses


def _symbol(wire: Wire, value: int | None, weights: Reals) -> int:
    return int(wire.pass_on(None if value is None else np.array([value]), _masses(weights[None]))[0])


def _number(wire: Wire, value: int | None, weights: Reals) -> int:
    """An integer >= 1: how many bits it has under `weights` (BUCKETS,), then the bits behind the
    first, as they are.
    """
    bucket = _symbol(wire, None if value is None else value.bit_length() - 1, weights)
    found = 1
    for low in range(bucket - bucket % 8, -1, -8):
        count = min(8, bucket - low)
        if count:
            part = None if value is None else value >> low & (1 << count) - 1
            found = found << count | _symbol(wire, part, np.ones(1 << count))
    return found


def _falling(ratio: float, count: int, centre: int = 0) -> Reals:
    return ratio ** np.abs(np.arange(count) - centre)


# ---- shared randomness ----


class BlockPlace(NamedTuple):
    """What names a block at both ends. No two have the same random integers."""

    step: int
    begin: int  # its first coordinate
    size: int
    attempt: int = 0  # at the pair that it is half of, from 1

    def halves(self, attempt: int) -> tuple["BlockPlace", "BlockPlace"]:
        cut = self.size // 2
        return BlockPlace(self.step, self.begin, cut, attempt), BlockPlace(
            self.step, self.begin + cut, self.size - cut, attempt
        )


def _raw(channel: Channel, purpose: int, at: BlockPlace, count: int, start: int = 0) -> NDArray[np.uint32]:
    """Integers of one of a block's streams."""
    assert at.step < 1 << 12, f"step {at.step}"
    assert max(at.begin, at.size) < 1 << 24, f"{at.size} coordinates from {at.begin}"
    stream = (8 | purpose) << 60 | at.step << 48 | at.begin << 24 | at.size
    return randomness.raw(channel.seed, stream, count, start + (at.attempt << 64))


def _normals(integers: NDArray[np.uint32]) -> NDArray[np.float32]:
    """An even number of integers -> as many standard normals (Box and Muller 1958). float32, for
    speed.
    """
    half = len(integers) // 2
    radius = integers[:half].astype(np.float32)
    radius += np.float32(0.5)
    radius *= np.float32(2**-32)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle = integers[half:].astype(np.float32)
    angle *= np.float32(2 * math.pi * 2**-32)
    found = np.empty((2, half), np.float32)
    np.cos(angle, out=found[0])
    np.sin(angle, out=found[1])
    found *= radius
    return found.reshape(-1)


def uniforms(integers: NDArray[np.uint32]) -> Reals:
    """In (0, 1)."""
    return (integers + 0.5) / 2**32


def _candidates(channel: Channel, at: BlockPlace, chunk: int) -> NDArray[np.float32]:
    """Candidates of a block, some at a time: (n, size) standard normals. n follows from the
    size.
    """
    size = at.size
    n = max(1, CHUNK // size)
    even = n * size + n * size % 2
    return _normals(_raw(channel, _CANDIDATES, at, even, chunk * even))[: n * size].reshape(n, size)


class _Mix:
    """An orthogonal transform of n coordinates: a permutation, signs, and Hadamard's matrix on as
    many as its order divides.
    """

    def __init__(self, channel: Channel, step: int, n: int) -> None:
        integers = _raw(channel, _MIX, BlockPlace(step, 0, n), 2 * n)
        self.order = np.argsort(integers[:n], kind="stable")
        self.signs = np.where(integers[n:] >> 31, 1.0, -1.0)
        self.length = n & -n  # the greatest power of two that divides n

    def _hadamard(self, values: Reals) -> Reals:
        found = values.reshape(-1, self.length)
        step = 1
        while step < self.length:
            pairs = found.reshape(-1, self.length // (2 * step), 2, step)
            found = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], 2)
            step *= 2
        return found.reshape(-1) / math.sqrt(self.length)

    def forward(self, values: Reals) -> Reals:
        return self._hadamard(values[self.order] * self.signs)

    def back(self, values: Reals) -> Reals:
        found = np.empty_like(values)
        found[self.order] = self._hadamard(values) * self.signs
        return found


# ---- what is known of a step ----


class Law:
    """What both ends know of a step's blocks: m is about N(0, v) per coordinate, candidates are
    N(0, wide).
    """

    def __init__(self, level: int, channel: Channel) -> None:
        self.channel = channel
        self.v = 2 ** ((32 - level) / 4)
        self.wide = 1 + self.v if channel.widened else 1.0
        # Of log r of one coordinate, nats: its mean; its variance; and the variance of its mean
        # given m.
        self.mean = self._fixed() + self.v / (2 * self.wide)
        self.between = (self.v / self.wide) ** 2 / 2
        self.variance = self.v / self.wide if channel.widened else self.v + self.v**2 / 2

    def _fixed(self) -> float:
        return (math.log(self.wide) + 1 / self.wide - 1) / 2

    def divergence(self, m: Reals) -> float:
        """The divergence of N(m, 1) from the candidates, in nats."""
        return len(m) * self._fixed() + float(m @ m) / (2 * self.wide)

    def cap(self, m: Reals, work: int) -> float:
        """Log of the ratio up to which a block is raced, in nats: as much as the work allows, and
        no more than is useful.
        """
        nats = self.divergence(m)
        return min(math.log(max(1.0, work / len(m))), nats + REACH * math.sqrt(2 * nats))

    def size(self, n: int) -> int:
        """Coordinates of a block, if n are left."""
        if not self.channel.limit:
            return n
        spread, limit = SPARE * math.sqrt(self.between), self.channel.limit * math.log(2)
        root = (math.sqrt(spread**2 + 4 * self.mean * limit) - spread) / (2 * self.mean)
        return max(1, min(n, int(root**2)))

    def ratio(self, m: Reals, normals: NDArray[np.float32]) -> Reals:
        """log q / p of candidates (n, size) before they are made wide -> (n,)."""
        found = (normals @ (math.sqrt(self.wide) * m).astype(np.float32)).astype(np.float64)
        if self.wide > 1:
            found -= (self.wide - 1) / 2 * np.einsum("ij,ij->i", normals, normals)
        found += (len(m) * math.log(self.wide) - float(m @ m)) / 2
        return found

    def ratio_of(self, m: Reals, z: Reals) -> float:
        """The same for one z (size,)."""
        return float(self.ratio(m, (z[None] / math.sqrt(self.wide)).astype(np.float32))[0])

    def numbers(self, size: int) -> Reals:
        """Weights of the bits of a winner's number. Its logarithm is about log r, plus that of an
        exponential variable.
        """
        centre = size * self.mean / math.log(2) - 0.83
        spread = math.sqrt(size * self.variance / math.log(2) ** 2 + 1.85**2)
        ends = [(1 + math.erf((b - centre) / (spread * math.sqrt(2)))) / 2 for b in range(1, BUCKETS)]
        return np.diff([0.0, *ends, 1.0]) + 1e-6


# ---- one block: what the sender finds ----


class _Told(NamedTuple):
    """What there is to tell of a block."""

    kind: int
    number: int  # of a race's winner, or of an attempt; from 1
    looked: int  # numbers
    halves: "tuple[_Told, _Told] | None" = None


def _race(m: Reals, law: Law, at: BlockPlace, cap: float) -> tuple[int, int]:
    """The winner's number from 1, or 0 if it is to be what is above the cap; and how many numbers
    were looked at.
    """
    channel, size = law.channel, at.size
    # Decide first whether to race at all. One private draw of q answers with the right probability,
    # whatever that is.
    even = size + size % 2
    private = _raw(channel, _PRIVATE, at, even + 1)
    drawn = m + _normals(private[:even])[:size]
    if math.log(uniforms(private[even:])[0]) > cap - law.ratio_of(m, drawn):
        return 0, 0
    best, winner, arrived, seen = math.inf, 0, 0.0, 0
    for chunk in range(1 << 40):
        normals = _candidates(channel, at, chunk)
        n = len(normals)
        times = arrived - np.log(uniforms(_raw(channel, _ARRIVALS, at, n, chunk * n))).cumsum()
        finish = np.log(times) - np.minimum(law.ratio(m, normals), cap)
        first = int(finish.argmin())
        if finish[first] < best:
            best, winner = float(finish[first]), seen + first + 1
        arrived, seen = float(times[-1]), seen + n
        if math.log(arrived) - cap >= best:  # whoever comes later finishes later
            break
    return winner, seen * size


def _choose(m: Reals, law: Law, at: BlockPlace, work: int) -> _Told:
    """A draw of N(m, 1), as what is to be told of it."""
    channel = law.channel
    if law.divergence(m) > channel.limit * math.log(2):
        if at.size == 1 or not channel.limit:
            return _Told(LAYERED, 1, 0)
        first, rest = at.halves(at.attempt)
        return _Told(
            SPLIT, 1, 0, (_choose(m[: first.size], law, first, work), _choose(m[first.size :], law, rest, work))
        )
    cap = law.cap(m, work)
    winner, looked = _race(m, law, at, cap)
    if winner:
        return _Told(RACE, winner, looked)
    coins = np.random.Generator(np.random.Philox(key=_raw(channel, _PRIVATE, at, 4, 1 << 32).view(np.uint64)))
    # Every attempt is a draw of q, and it is taken if it is above the cap. It does not matter after
    # how many attempts the way is changed.
    if at.size > 1 and not at.attempt:
        for attempt in range(1, ATTEMPTS + 1):
            first, rest = at.halves(attempt)
            told = (
                _choose(m[: first.size], law, first, work // SHARE),
                _choose(m[first.size :], law, rest, work // SHARE),
            )
            looked += told[0].looked + told[1].looked
            z = np.concatenate(
                [_found(m[: first.size], law, first, told[0]), _found(m[first.size :], law, rest, told[1])]
            )
            if -coins.exponential() > cap - law.ratio_of(m, z):
                return _Told(PAIR, attempt, looked, told)
    attempt = 1
    while -coins.exponential() <= cap - law.ratio_of(m, _found(m, law, at, _Told(LAYERED, attempt, 0))):
        attempt += 1
    return _Told(LAYERED, attempt, looked)


def _found(m: Reals, law: Law, at: BlockPlace, told: _Told) -> Reals:
    """What the receiver will have, by a race or by layered quantizers."""
    if told.kind == RACE:
        return _winner(law, at, told.number)
    widths, dithers = _layers(law.channel, at, told.number)
    z: Reals = widths * (np.round(m / widths + dithers) - dithers)
    return z


# ---- one block: what both ends do ----


def _winner(law: Law, at: BlockPlace, number: int) -> Reals:
    n = max(1, CHUNK // at.size)
    z: Reals = math.sqrt(law.wide) * _candidates(law.channel, at, (number - 1) // n)[(number - 1) % n].astype(
        np.float64
    )
    return z


def _layers(channel: Channel, at: BlockPlace, attempt: int) -> tuple[Reals, Reals]:
    """Widths and dithers in (-1/2, 1/2) of a block's layered quantizers at an attempt from 1:
    (size,) each.
    """
    size = at.size
    integers = _raw(channel, _LAYERS, at, 5 * size, (attempt - 1) * 5 * size)
    normals = _normals(integers[: 4 * size]).reshape(4, size)[:3].astype(np.float64)
    return 2 * np.sqrt((normals**2).sum(0)), uniforms(integers[4 * size :]) - 0.5


def _layered(wire: Wire, m: Reals | None, law: Law, at: BlockPlace, attempt: int) -> Reals:
    """The multiples of a block's layered quantizers."""
    widths, dithers = _layers(law.channel, at, attempt)
    whole = None if m is None else np.round(m / widths + dithers).astype(np.int64)
    near = np.arange(-NEAR, NEAR + 1)
    edges = (np.arange(-NEAR, NEAR + 2) - 0.5 - dithers[:, None]) * widths[:, None] / math.sqrt(law.v)
    weights = np.diff(torch.special.ndtr(torch.from_numpy(edges)).numpy(), axis=1)
    beyond = np.full((len(widths), 1), 1e-5)
    symbols = None if whole is None else np.where(np.abs(whole) <= NEAR, whole + NEAR, len(near))
    symbols = wire.pass_on(symbols, _masses(np.concatenate([weights, beyond], 1)))
    found = symbols - NEAR
    for i in np.flatnonzero(symbols == len(near)).tolist():  # far ones one by one: sign, then how far
        value = None if whole is None else int(whole[i])
        sign = _symbol(wire, None if value is None else int(value < 0), np.ones(2))
        found[i] = (NEAR + _number(wire, None if value is None else abs(value) - NEAR, _falling(0.7, BUCKETS))) * (
            1 - 2 * sign
        )
    z: Reals = widths * (found - dithers)
    return z


def _tell(
    wire: Wire, m: Reals | None, law: Law, at: BlockPlace, told: _Told | None, blocks: list[BlockRecord]
) -> Reals:
    """What was chosen, and so the draw, at both ends. m and `told` are None at the receiver. Adds
    the sender's blocks to `blocks`.
    """
    before = wire.bits
    kind = _symbol(wire, told and told.kind, np.array(KINDS))
    z: Reals
    if kind == RACE:
        z = _winner(law, at, _number(wire, told and told.number, law.numbers(at.size)))
    elif kind == LAYERED:
        attempt = _number(wire, told and told.number, _falling(0.7, BUCKETS, 5 if law.channel.limit else 0))
        z = _layered(wire, m, law, at, attempt)
    else:
        attempt = at.attempt if kind == SPLIT else _number(wire, told and told.number, _falling(0.7, BUCKETS, 4))
        parts, own = [], blocks if kind == SPLIT else []
        for i, half in enumerate(at.halves(attempt)):
            begin = half.begin - at.begin
            one = told.halves[i] if told and told.halves else None
            parts.append(_tell(wire, None if m is None else m[begin : begin + half.size], law, half, one, own))
        z = np.concatenate(parts)
    if m is not None and told and kind != SPLIT:
        score = float(m @ (z - m)) / math.sqrt(max(float(m @ m), 1e-300))
        blocks.append(
            BlockRecord(at.step, at.size, kind, law.divergence(m) / math.log(2), wire.bits - before, told.looked, score)
        )
    return z


def block(wire: Wire, m: Reals | None, law: Law, at: BlockPlace, blocks: list[BlockRecord]) -> Reals:
    """A draw of N(m, 1) at both ends. m is None at the receiver."""
    return _tell(wire, m, law, at, None if m is None else _choose(m, law, at, law.channel.work), blocks)


# ---- steps ----


def _step(
    model: VDM,
    channel: Channel,
    wire: Wire,
    z: Tensor,
    x_hat: Tensor,
    real: Tensor | None,
    index: int,
    level: int,
    seen: list[BlockRecord],
) -> tuple[Tensor, int, Step]:
    """z_s from z_t at `index`, at both ends. `real`, x in [-1, 1], is None at the receiver. `level`
    is the last step's.
    """
    begin, bits, blocks = time.perf_counter(), wire.bits, len(seen)
    gamma = model.gammas(channel.steps)
    k = step_constants(gamma[index], gamma[index + 1])
    width = k.sigma_s * torch.sqrt(k.e)
    n, m, asked = z.numel(), None, None
    mix = _Mix(channel, index, n)
    if real is not None:
        m = mix.forward((k.c / width * (real.double() - x_hat.double())).numpy().reshape(-1))
        asked = round(min(max(32 - 4 * math.log2(max(float(m @ m) / n, 1e-30)), 0), LEVELS - 1))
    level = _symbol(wire, asked, _falling(0.85, LEVELS, level - 2))
    law = Law(level, channel)
    size = law.size(n)
    found = np.empty(n)
    for start in range(0, n, size):
        part = slice(start, min(n, start + size))
        found[part] = block(
            wire, None if m is None else m[part], law, BlockPlace(index, start, part.stop - start), seen
        )
    noise = torch.from_numpy(mix.back(found)).view(z.shape)
    z_s = (k.b * z.double() + k.c * x_hat.double() + width * noise).to(z.dtype)
    ideal = 0.0 if m is None else float(m @ m) / (2 * math.log(2))
    return (
        z_s,
        level,
        Step(ideal, sum(b.divergence for b in seen[blocks:]), wire.bits - bits, time.perf_counter() - begin),
    )


def _start(model: VDM, shape: tuple[int, ...], channel: Channel) -> Tensor:
    return model.prior(shape, torch.Generator().manual_seed(channel.seed))


@torch.no_grad()
def encode(model: VDM, x: Tensor, channel: Channel, until: float = math.inf) -> Sent:
    """Encodes one picture, uint8 (1, C, H, W), step by step until the denoised prediction has
    `until` dB, or all steps are sent.

    The stream is a byte that says how many steps there are, then one stream of the range coder.
    Raises `ValueError` for more than one picture.
    """
    if x.ndim != 4 or len(x) != 1:
        raise ValueError(f"pictures are of shape {tuple(x.shape)}; expected one, (1, C, H, W)")
    real = model.to_real(x)
    wire, level = ChannelWriter(), FIRST_LEVEL
    latents, quality = [_start(model, tuple(x.shape), channel)], []
    steps: list[Step] = []
    blocks: list[BlockRecord] = []
    for index in range(channel.steps + 1):
        x_hat = model.denoise(latents[-1], index, channel.steps)
        quality.append(float(psnr(x_hat, real)[0]))
        if index == channel.steps or quality[-1] >= until:
            break
        z, level, step = _step(model, channel, wire, latents[-1], x_hat, real, index, level, blocks)
        latents.append(z)
        steps.append(step)
    return Sent(bytes([len(steps)]) + wire.encoder.finish(), latents, quality, steps, blocks)


@torch.no_grad()
def decode(model: VDM, data: bytes, shape: tuple[int, int, int], channel: Channel) -> list[Tensor]:
    """The latents z_T, ... of what `encode` gave for a picture of `shape` (C, H, W), under the same
    `channel`: (1, C, H, W) each.

    `denoise`, `ancestral` and `flow` of the model make pictures of them. Raises `DamagedError` if
    no stream could lead there.
    """
    if not data or data[0] > channel.steps:
        raise DamagedError(
            f"{data[0] if data else 'no'} steps; expected at most {channel.steps}: other settings, or no such stream"
        )
    wire, level = ChannelReader(data[1:]), FIRST_LEVEL
    latents = [_start(model, (1, *shape), channel)]
    for index in range(data[0]):
        x_hat = model.denoise(latents[-1], index, channel.steps)
        z, level, _ = _step(model, channel, wire, latents[-1], x_hat, None, index, level, [])
        latents.append(z)
    return latents


# ---- is it what it should be? ----


@torch.no_grad()
def noise(model: VDM, x: Tensor, latents: list[Tensor], steps: int) -> Reals:
    """(z_s - b z_t - c x) / sigma_Q of each step, (len(latents) - 1, numel).

    It is N(0, 1) if each z_s is a draw from q(z_s | z_t, x).
    """
    gamma, real = model.gammas(steps), model.to_real(x).double()
    found = []
    for i, (z_t, z_s) in enumerate(pairwise(latents)):
        k = step_constants(wide(gamma[i]), wide(gamma[i + 1]))
        found.append(
            ((z_s.double() - k.b * z_t.double() - k.c * real) / (k.sigma_s * torch.sqrt(k.e))).numpy().reshape(-1)
        )
    return np.stack(found)


def kolmogorov(samples: Reals) -> tuple[float, float]:
    """The test of Kolmogorov and Smirnov against N(0, 1): the greatest distance of the distribution
    functions, and its p-value.

    The p-value is the limit's, 2 sum (-1)^(k-1) exp(-2 k^2 l^2), with Stephens's (1970) l for n
    from 5 on.
    """
    ordered, n = np.sort(samples.reshape(-1)), samples.size
    exact = torch.special.ndtr(torch.from_numpy(ordered)).numpy()
    rank = np.arange(n + 1) / n
    distance = float(max((rank[1:] - exact).max(), (exact - rank[:-1]).max()))
    scale = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scale) ** 2) for k in range(1, 101))
    return distance, min(max(p, 0.0), 1.0) if scale > 0.2 else 1.0
