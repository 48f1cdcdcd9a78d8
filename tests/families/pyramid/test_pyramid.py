"""A pyramid's walk: lossless at any size, any cut decodes, the same bits everywhere, and bits are
those of the model in floats.
"""

import dataclasses
import functools
import types
from typing import Any

import numpy as np
import pytest
from conftest import photograph

pytest.importorskip("torch")

import torch

from uqdm import ahead, bundle, library
from uqdm import walk as loop
from uqdm.bundle import Package
from uqdm.codec import Codec
from uqdm.config import Config
from uqdm.entropy import randomness
from uqdm.errors import LimitError, NumericsError, PackageError, UqdmError
from uqdm.exact import network as exact
from uqdm.exact.runtimes import available
from uqdm.families import boxes, colour, order, registry
from uqdm.families.pyramid import band as telling
from uqdm.families.pyramid import fields, lattice, networks, tuning
from uqdm.families.pyramid import walk as walking
from uqdm.families.pyramid.config import PyramidConfig
from uqdm.families.pyramid.correcting import Correcting
from uqdm.families.pyramid.running import PyramidNetworks
from uqdm.families.pyramid.torch.model import Pass, Pyramid
from uqdm.training.integers import in_integers

SIZES = [(16, 16), (1, 1), (2, 2), (1, 6), (7, 1), (3, 3), (13, 18), (33, 20)]
NONE, SMALL = (0, 0, 0, 0), (6, 1, 8, 1)
STEPS = PyramidConfig(bases=(24, 6, 1), networks=((NONE, SMALL, SMALL), (SMALL, SMALL, SMALL), (SMALL, SMALL, SMALL)))
ONCE = PyramidConfig(bases=(1,), networks=((SMALL, SMALL, SMALL),), n_mixtures=1, kernel=3)


def by_chance(config: PyramidConfig) -> Pyramid:
    """A model that nobody trained: predictions that differ from place to place, some of them sure,
    so that much is skipped.
    """
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    model = Pyramid(Config(config, family="pyramid")).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Pass):
                module.head.weight.copy_(torch.randn(module.head.weight.shape, generator=generator) * 0.25)
                module.linear.weight.copy_(torch.randn(module.linear.weight.shape, generator=generator) * 0.02)
                module.stretch.sub_(0.8)
    return model


@pytest.fixture(scope="module")
def floats() -> Pyramid:
    return by_chance(STEPS)


@pytest.fixture(scope="module")
def made(floats: Pyramid) -> Package:
    return in_integers(floats, "by-chance", [photograph(48, 48, i) for i in range(2)])[0]


@pytest.fixture(scope="module")
def coder(made: Package) -> Codec:
    return Codec(made)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grey", [False, True])
def test_pictures_of_any_size_come_back(coder: Codec, size: tuple[int, int], grey: bool) -> None:
    pixels = photograph(*size, seed=3)
    pixels = pixels[..., 0] if grey else pixels
    assert (coder.decompress(coder.compress(pixels)) == pixels).all()


def test_batches_alpha_and_seeds(coder: Codec) -> None:
    pictures = [photograph(20, 27, i) for i in range(3)]
    for one, data in zip(pictures, coder.compress(pictures, seed=9)):
        assert data == coder.compress(one, seed=9)
        assert (coder.decompress(data) == one).all()
    with_alpha = np.concatenate([pictures[0], pictures[1][..., :1]], 2)
    assert (coder.decompress(coder.compress(with_alpha)) == with_alpha).all()


def test_extreme_pictures_come_back(coder: Codec) -> None:
    y, x = np.mgrid[:24, :24]
    random = np.random.default_rng(0)
    for pattern in (y % 2 == 0, (x + y) % 2 == 0, x < 12, np.zeros_like(x)):
        pixels = np.stack([pattern, ~pattern.astype(bool), pattern], -1).astype(np.uint8) * 255
        assert (coder.decompress(coder.compress(pixels)) == pixels).all()
    noise = (random.integers(0, 2, (31, 17, 3)) * 255).astype(np.uint8)
    assert (coder.decompress(coder.compress(noise)) == noise).all()


def test_every_beginning_decodes_and_the_whole_is_exact(coder: Codec) -> None:
    pixels = photograph(21, 30, 1)
    data = coder.compress(pixels)
    head = len(data) - sum(1 for _ in data[40:])
    last = -1
    for end in range(head, len(data) + 1, 7):
        decoded = coder.decode(data[:end])
        assert decoded.image.shape == pixels.shape
        assert decoded.step >= last
        last = decoded.step
    assert (coder.decode(data).image == pixels).all()


def test_previews_as_bytes_arrive_are_those_of_cut_files(coder: Codec) -> None:
    pixels = photograph(21, 30, 1)
    data = coder.compress(pixels)
    for decoded in coder.progressive(data):
        if not decoded.partial:
            assert (decoded.image == coder.decompress(data, step=decoded.step)).all()
    assert (decoded.image == pixels).all()


@pytest.mark.parametrize("backend", available())
def test_every_runtime_writes_the_same_file(made: Package, coder: Codec, backend: str) -> None:
    pixels = photograph(40, 33, 2)
    other = Codec(made, backend=backend, threads=1)
    data = coder.compress(pixels)
    assert other.compress(pixels) == data
    assert (other.decompress(data, step=2) == coder.decompress(data, step=2)).all()


@pytest.mark.parametrize("kind", ["plain", "constriction"])
def test_every_coder_writes_the_same_file(made: Package, coder: Codec, kind: str) -> None:
    pixels = photograph(12, 19, 2)
    other = Codec(made, coder=kind)
    data = coder.compress(pixels)
    assert other.compress(pixels) == data
    assert (other.decompress(data) == pixels).all()


def test_no_bit_depends_on_tiles(made: Package) -> None:
    """Networks on tiles with what they see around them say what they say of the whole."""
    pixels = photograph(70, 90, 4)[None].transpose(0, 3, 1, 2)

    def runtime(net: exact.Net) -> exact.Runner:
        return functools.partial(exact.run, net)

    bits = []
    for tile in (8, 192):
        walk = registry.walk(made, "tight", PyramidNetworks(made, runtime, "numpy", tile))
        state, values, told = walk.start((70, 90), [0]), walk.values(pixels), []
        for _ in range(walk.chunks):
            for part in range(walk.parts(state)):
                questions = walk.question(state, part, [b""])
                answers = [q.symbols(values[0], slice(0, q.size)) for q in questions]
                told.append(answers[0])
                state = walk.update(state, part, questions, answers)
        bits.append(np.concatenate(told))
    assert (bits[0] == bits[1]).all()


@pytest.mark.parametrize("grey", [False, True])
def test_a_walk_that_spends_its_states_writes_the_same_and_any_other_leaves_them_as_they_are(
    coder: Codec, grey: bool
) -> None:
    family = coder.family()
    pixels = np.stack([photograph(21, 30, i).transpose(2, 0, 1) for i in range(2)])
    if grey:
        pixels[:] = pixels[:, :1]
    kept, payloads = [family.start((21, 30), [1, 2], grey)], []
    writer = loop.Writer(family.values(pixels))
    for state in loop.walk(family, kept[0], writer):
        kept.append(state)
        payloads.append(writer.take())
    shown = [family.denoise(state) for state in kept]
    writer, turn = loop.Writer(family.values(pixels)), 0
    for turn, state in enumerate(loop.walk(family, family.start((21, 30), [1, 2], grey), writer, spend=True), 1):
        assert writer.take() == payloads[turn - 1]
        assert (family.denoise(state) == shown[turn]).all()
    assert turn == family.chunks
    for step, before in enumerate(kept[:-1]):  # from a state that was kept the walk goes on as it did then
        writer = loop.Writer(family.values(pixels))
        after = next(loop.walk(family, before, writer, step + 1))
        assert writer.take() == payloads[step]
        assert (family.denoise(after) == shown[step + 1]).all()


def test_fields_that_are_made_in_pieces_are_those_made_at_once() -> None:
    random = np.random.default_rng(0)
    planes = [random.integers(-9, 9, (2, 3, 4)).astype(np.int16) for _ in range(5)]
    whole = fields.Planes(planes)
    assert (whole[0:2, :, 0:3, 0:4] == np.stack(planes, 1)).all()
    assert (whole[1:2, 1::3, 1:3, 0:2] == np.stack(planes, 1)[1:2, 1::3, 1:3, 0:2]).all()
    assert (whole[1] == np.stack(planes, 1)[1]).all()
    assert fields.Planes([], (2, 3, 4))[0:1, :, 1:3, 0:4].shape == (1, 0, 2, 4)
    twice = np.stack(planes, 1).repeat(2, 2).repeat(2, 3)
    for bottom, right in ((6, 8), (5, 7)):
        for top, left in ((0, 0), (1, 2), (2, 3)):
            piece = fields.doubled(planes, (bottom, right))[0:2, :, top:bottom, left:right]
            assert (piece == twice[:, :, top:bottom, left:right]).all()


def test_offsets_are_the_same_however_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One stream for all planes of all levels, in their order."""
    limits, shapes = [[3] * 9, [1000] * 9], [(7, 9), (4, 5)]
    drawn = randomness.raw(5, fields.DITHER, 9 * (63 + 20))
    expected = np.concatenate([randomness.below(3, drawn[: 9 * 63]), randomness.below(1000, drawn[9 * 63 :])])
    monkeypatch.setattr(boxes, "BLOCK", 13)
    offsets = fields.Offsets([5], limits, shapes)
    found = [offsets.plane(level, k)[0].reshape(-1) for level in (1, 2) for k in range(9)]
    assert (np.concatenate(found) == expected).all()


def test_corrections_that_leave_32_bits_are_exact() -> None:
    """The largest that can be told take more than 32 bits with what the linear part gives."""
    h, w = 6, 5
    large = np.full((1, h, w), (1 << 31) - 5, np.int32)
    place = types.SimpleNamespace(
        layout=tuning.Layout(12, 1, 0),
        raw=np.zeros((1, 15, h, w), np.int16),
        base=[large],
        linear=lambda n, weights: np.arange(h * w, dtype=np.int64).reshape(1, 1, h, w),
    )
    place.base *= 3
    Correcting(place).apply(0, np.zeros(place.layout.size, np.int64))  # type: ignore[arg-type]
    assert place.base[0].dtype == np.int64
    assert (place.base[0] == large.astype(np.int64) + np.arange(h * w).reshape(h, w)).all()
    assert place.base[1].dtype == np.int32


def test_files_are_as_long_as_the_estimate_says(coder: Codec) -> None:
    pixels = photograph(40, 40, 6)
    estimate = float(np.sum(coder.estimate(pixels))) / 8
    assert estimate < len(coder.compress(pixels)) < 1.01 * estimate + 100


def test_integers_cost_what_floats_cost() -> None:
    """Of a fresh model: what chance predicts is so wrong that the tables' least masses would save
    bits.
    """
    torch.manual_seed(1)
    fresh = Pyramid(Config(STEPS, family="pyramid")).eval()
    coder = Codec(in_integers(fresh, "fresh", [photograph(48, 48, 1)])[0])
    pixels = photograph(64, 64, 7)
    x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        expected = fresh.nelbo(x, torch.Generator().manual_seed(1)).steps.flatten()
    assert coder.estimate(pixels).flatten() / 64**2 == pytest.approx(expected.numpy(), rel=0.02, abs=0.02)


def test_what_is_skipped_is_told_later(made: Package, coder: Codec) -> None:
    """A higher threshold asks for less in early steps; the whole is lossless all the same, and
    every detail is told by the end.
    """
    pixels = photograph(32, 32, 8)
    much = dataclasses.replace(made, constants=dict(made.constants) | {"threshold": 250})
    few, many = (Codec(p).estimate(pixels) for p in (much, made))
    assert few[0] < many[0]
    assert (Codec(much).decompress(Codec(much).compress(pixels)) == pixels).all()


def test_a_coefficient_of_thousands_of_children_is_told_in_two_digits() -> None:
    made, _ = in_integers(by_chance(ONCE), "once", [photograph(32, 32, i) for i in range(2)])
    coder = Codec(made)
    for pixels in (photograph(24, 31, 1), np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)):
        data = coder.compress(pixels)
        assert (coder.decompress(data) == pixels).all()
        coder.decode(data[: len(data) // 2])


def test_pictures_by_chance_are_pictures(coder: Codec) -> None:
    assert [p.shape for p in coder.sample(2, 12, 17, seed=3)] == [(12, 17, 3)] * 2


def test_methods_draw_what_a_file_does_not_say(coder: Codec) -> None:
    data = coder.compress(photograph(24, 24, 2))
    first, again, other = (coder.decode(data, step=1, method="ancestral", seed=s).image for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert (coder.decompress(data, step=1, method="flow") == coder.decompress(data, step=1)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"bases": [4, 4, 1]},
        {"bases": [24, 6, 2]},
        {"threshold": 256},
        {"threshold": -1},
        {"bases": "no"},
        {"bases": [6, 1]},
    ],
)
def test_constants_that_cannot_be_are_refused(made: Package, change: dict[str, object]) -> None:
    with pytest.raises(PackageError):
        Codec(dataclasses.replace(made, constants=dict(made.constants) | change))


def test_networks_that_break_the_bound_are_refused(made: Package) -> None:
    for name in ("2.0.trunk.enter.weight", "2.0.pass1.linear", "2.0.pass0.head.bias"):
        array = made.weights[name]
        huge = np.full(array.shape, 1 << 25, np.int32)
        with pytest.raises(UqdmError):
            Codec(dataclasses.replace(made, weights=dict(made.weights) | {name: huge}))


def test_compiled_arithmetic_is_that_of_numpy(made: Package) -> None:
    kernels = pytest.importorskip("uqdm.families.pyramid.kernels")
    random = np.random.default_rng(0)
    net = networks.parse(made.name, made.network, made.weights)[1][0]
    assert net is not None
    unit = np.arange(2, 11)
    for band in range(3):
        j = net.passes[band].offset.shape[1]
        raw = random.integers(-32768, 32768, (2, 9 * j + 6, 7, 5)).astype(np.int16)
        raw[0, :, 0] = 0
        base = random.integers(-(1 << 31), 1 << 31, (2, 3, 7, 5))
        for channel in range(3):
            errors = [random.integers(-4096, 4096, (2, 7, 5)).astype(np.int16) for _ in range(channel)]
            louds = [random.integers(-22, 113, (2, 7, 5)).astype(np.int8) for _ in range(channel)]
            both = []
            for mixture in (networks.mixture_of, kernels.mixture):
                kinds = (np.int32, np.uint8, np.uint16)
                found = networks.PyramidMixture(
                    *(np.zeros((2, 7, 5, j), kind) for kind in kinds),
                    np.zeros((2, 7, 5), np.uint16),
                    np.zeros((2, 7, 5), np.int16),
                )
                for rows in (slice(0, 3), slice(3, 7)):
                    mixture(net, band, channel, raw, base[:, channel], unit, errors, louds, rows, found)
                both.append(found)
            for a, b in zip(*both, strict=True):
                assert (a == b).all()
    for size in ((6, 9), (1, 7), (5, 1)):
        image, before, now = (random.integers(-(1 << 15), 1 << 15, (2, k, *size)).astype(np.int16) for k in (3, 9, 6))
        width = np.abs(before >> 6) + np.int16(1)
        loud = random.integers(-22, 113, (2, 9, *size)).astype(np.int8)
        given = image, before, width, loud, unit
        assert (networks.features(*given) == kernels.features(*given)).all()
        earlier = 2, now, before[:, :6], loud[:, :6], unit
        assert (networks.seen(*earlier) == kernels.seen(*earlier)).all()
        weight = random.integers(-(1 << 20), 1 << 20, (3, 18, 3, 3)) * random.integers(0, 2, (3, 18, 3, 3))
        assert (networks.moved(image, before, now, weight) == kernels.moved(image, before, now, weight)).all()


def test_what_is_compiled_of_a_band_is_what_numpy_does() -> None:
    compiled = pytest.importorskip("uqdm.families.pyramid.band_kernels")
    random = np.random.default_rng(0)
    h, w, unit = 6, 9, 3
    offset, low = random.integers(0, 9, (h, w)).astype(np.int16), random.integers(-300, 300, (h, w)).astype(np.int16)
    high = (low + random.integers(0, 4000, (h, w))).astype(np.int16)
    asked, told, choice = random.integers(0, 2, (3, h, w)).astype(bool)
    turn, guess = random.integers(0, 127 * 256, (h, w)).astype(np.uint16), (8 * high - 900).astype(np.int16)
    location = random.integers(-(1 << 30), 1 << 30, (h * w, 3)).astype(np.int32)
    level, weight = (random.integers(1, 99, (h * w, 3)).astype(kind) for kind in (np.uint8, np.uint16))
    ends = low.reshape(-1), high.reshape(-1), offset.reshape(-1)
    found = []
    for kind in (telling, compiled):
        places = [
            kind.in_turn(order.run((h, w - 1), 0), w - 1, asked, told, turn, many, unit, low, high, offset)
            for many in (False, True)
        ]
        cells = kind.cells(places[0], *ends, unit, 5, (location, level, weight))
        state = [a.reshape(-1).copy() for a in (low, high, told)]
        kind.narrowed(places[0][1:], np.arange(len(places[0]) - 1) % 3, ends[2], unit, 5, True, *state)
        result = [np.zeros((1, h, w), np.int16) for _ in range(3)]
        now = [a.reshape(1, h, w) for a in state]
        fields = *now[:2], low[None], high[None], now[2], choice[None], guess[None], turn[None], *result
        for rows in (slice(0, 2), slice(2, h)):
            kind.concluded(rows, *fields)
        found.append([*places, *(getattr(cells, f.name) for f in dataclasses.fields(cells)), *state, *result])
    assert all(len(places) for places in found[0][:2])
    for a, b in zip(*found, strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("size", [(40, 52), (33, 20), (7, 1), (2, 2)])
@pytest.mark.parametrize("halvings", [1, 2, 6])
def test_a_reduced_picture_is_the_low_pass_and_asks_no_finer_network(
    coder: Codec, size: tuple[int, int], halvings: int
) -> None:
    picture = photograph(*size)
    data = coder.compress(picture)
    asked: list[int] = []
    networks_ = coder.networks(None)
    trunk = networks_.trunk  # type: ignore[attr-defined]
    networks_.trunk = lambda step, level, *rest: asked.append(level) or trunk(step, level, *rest)  # type: ignore[attr-defined]
    try:
        found = coder.decode(data, reduce=halvings).image
    finally:
        del networks_.trunk  # type: ignore[attr-defined]
    deep = min(halvings, lattice.levels(*size))
    low, _ = lattice.forward(colour.forward(picture.transpose(2, 0, 1)[None], "ycocg-r"), deep)
    assert (found == colour.inverse(low.astype(np.int16), "ycocg-r")[0].transpose(1, 2, 0)).all()
    assert all(level > deep for level in asked)
    for step in range(coder.steps):
        assert coder.decode(data, reduce=halvings, step=step).image.shape == found.shape
    for end in range(len(data) // 2, len(data), 41):
        assert coder.decode(data[:end], reduce=halvings).image.shape == found.shape


def test_alpha_is_reduced_with_the_picture(coder: Codec) -> None:
    picture = np.dstack([photograph(19, 30), np.arange(570, dtype=np.uint8).reshape(19, 30)])
    assert coder.decode(coder.compress(picture), reduce=2).image.shape == (5, 8, 4)


def test_a_family_without_levels_says_that_it_has_no_reduced_pictures() -> None:
    nano = Codec(bundle.read(library.find("nano")))
    with pytest.raises(LimitError, match="no reduced previews"):
        nano.decode(nano.compress(photograph(8, 8)), reduce=1)


# --- a step beside the one before it


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Parts of steps that were told beside another one, also of small pictures."""
    found: list[int] = []

    class Counted(ahead.Beside):
        def taken(self) -> loop.StepTold:
            one = super().taken()
            found.append(one.part)
            return one

    monkeypatch.setattr(walking, "BESIDE", range(1, 1 << 22))
    monkeypatch.setattr(ahead, "Beside", Counted)
    return found


@pytest.fixture(scope="module")
def data(coder: Codec) -> bytes:
    return coder.compress(photograph(48, 40, 4))


def test_a_step_told_beside_the_one_before_it_gives_the_same_bits(made: Package, told: list[int], data: bytes) -> None:
    alone, two = (Codec(made, threads=n) for n in (1, 2))
    assert (two.decompress(data) == photograph(48, 40, 4)).all()
    assert sum(told) > 0
    for size in range(len(data) // 9, len(data), len(data) // 9):
        assert (two.decompress(data[:size]) == alone.decompress(data[:size])).all()


def test_progress_is_told_part_by_part_as_without_it(made: Package, told: list[int], data: bytes) -> None:
    seen: list[list[tuple[int, int, int]]] = []
    for threads in (1, 2):
        seen.append([])
        codec = Codec(made, threads=threads)
        codec.decode_many([data], progress=lambda *at: seen[-1].append(at))
    assert sum(told) > 0
    assert seen[0] == seen[1]


def test_an_error_in_a_step_comes_after_the_steps_before_it(made: Package, told: list[int], data: bytes) -> None:
    """A step whose symbols are not the encoder's, and the one after it, which is begun already."""
    codec = Codec(made, threads=2)
    kept = codec.answers

    def spoilt(family: Any, header: Any, number: int, payloads: Any, *rest: Any) -> Any:
        head = payloads[0][:1] + bytes([payloads[0][1] ^ 1]) if number == 3 else payloads[0][:2]
        return kept(family, header, number, [head + payloads[0][2:]], *rest)

    codec.answers = spoilt  # type: ignore[method-assign]
    with pytest.raises(NumericsError, match="step 3"):
        codec.decompress(data)
    decoded = codec.decode(data, salvage=True)
    assert decoded.step == 2
    assert (decoded.image == Codec(made, threads=1).decompress(data, step=2)).all()


def test_what_goes_wrong_beside_is_raised_when_its_turn_comes() -> None:
    def begin() -> loop.StepTold:
        raise ValueError("said there")

    beside = ahead.Beside(begin)
    with pytest.raises(ValueError, match="said there"):
        beside.taken()


def test_without_threads_a_step_waits_for_the_one_before(
    made: Package, told: list[int], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(begin: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ahead, "Beside", refused)
    assert (Codec(made, threads=2).decompress(data) == photograph(48, 40, 4)).all()
    assert told == []
