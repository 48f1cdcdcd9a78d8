"""A nested model's walk: lossless at any size, any cut decodes, previews keep their promise, and
bits are those of the model in floats.
"""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import photograph
from numpy.typing import NDArray

pytest.importorskip("torch")

import torch
from untrained import seeded, small_nested

import uqdm
from uqdm import bundle as package
from uqdm import encoder, format
from uqdm import walk as loop
from uqdm.bundle import Package
from uqdm.codec import Codec
from uqdm.config import override
from uqdm.entropy import mixtures
from uqdm.errors import DamagedError, PackageError
from uqdm.exact import runtimes as backends
from uqdm.families import registry as families
from uqdm.families.nested import networks, walk
from uqdm.families.nested.running import NestedNetworks
from uqdm.families.nested.torch import model as nested
from uqdm.families.nested.torch.model import Nested
from uqdm.training.integers import in_integers

SIZES = [(16, 16), (1, 1), (1, 6), (7, 1), (2, 3), (13, 18)]


@pytest.fixture(scope="module")
def floats() -> Nested:
    return small_nested()


@pytest.fixture(scope="module")
def made(floats: Nested) -> Package:
    """The same in integers, calibrated on drawn pictures."""
    return in_integers(floats, "by-chance", [photograph(32, 32, i) for i in range(6)])[0]


@pytest.fixture(scope="module")
def coder(made: Package) -> Codec:
    return Codec(made)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("grey", [False, True])
def test_pictures_of_any_size_come_back(coder: Codec, size: tuple[int, int], grey: bool) -> None:
    pixels = photograph(*size, seed=3)
    pixels = pixels[..., :1] if grey else pixels
    data = coder.compress(pixels[..., 0] if grey else pixels)
    assert (coder.decompress(data).reshape(pixels.shape) == pixels).all()
    for step in range(4):
        assert coder.decompress(data, step=step).shape[:2] == size


def test_a_file_costs_what_its_steps_are_estimated_at_and_little_more(coder: Codec) -> None:
    pixels = photograph(32, 32)
    bits = coder.estimate(pixels)
    assert bits.shape == (3,)
    size = 8 * len(coder.compress(pixels))
    assert bits.sum() < size < 1.003 * bits.sum() + 8 * (40 + 14 * 3)


def test_bits_are_those_of_the_model_in_floats_under_the_same_offsets(floats: Nested, coder: Codec) -> None:
    pictures = np.stack([photograph(32, 32, 10 + i) for i in range(4)])
    found = coder.estimate(pictures, seed=5).sum(0) / pictures[..., 0].size
    family = coder.family("tight")
    offset = torch.from_numpy(family.start((32, 32), [5] * 4).offset.astype(np.float32))
    v = nested.coordinates(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()))
    levels = [nested.everything(v), *(nested.cells(v, offset, w) for w in floats.widths)]
    with torch.no_grad():
        expected = [float(s.bits(s.trunk(a), a, b)[0].mean()) for s, (a, b) in zip(floats.steps, pairwise(levels))]
    np.testing.assert_allclose(found, expected, rtol=0.01)


def test_cells_are_nested_and_every_symbol_tells_a_child(coder: Codec) -> None:
    pixels = photograph(16, 16)
    family = coder.family("tight")
    values = family.values(pixels.transpose(2, 0, 1)[None])
    states = list(loop.walk(family, family.start((16, 16), [0]), loop.Writer(values)))
    assert [s.step for s in states] == [1, 2, 3]
    for parent, child, widths in zip(states, states[1:], ((5, 13, 10), (1, 1, 1))):
        assert (parent.low <= child.low).all()
        assert (child.high <= parent.high).all()
        assert ((child.low <= values) & (values <= child.high)).all()
        assert ((child.high - child.low + 1).max((0, 2, 3)) <= widths).all()
        assert ((child.low - child.offset) % np.array(widths)[:, None, None] == 0)[child.low > parent.low].all()


def test_a_file_cut_anywhere_decodes_and_its_previews_keep_the_promised_bound(coder: Codec) -> None:
    pixels = photograph(24, 24, 2)
    data = coder.compress(pixels)
    head = format.parse(data).chunks[0].start
    last = 256
    errors = []
    for end in range(head, len(data) + 1, 7):
        found = coder.decode(data[:end])
        worst = int(np.abs(found.image.astype(int) - pixels).max())
        assert worst <= found.bound <= last
        last = found.bound
        errors.append(((found.image.astype(float) - pixels) ** 2).mean())
    assert errors[-1] < errors[len(errors) // 2] < errors[0]
    assert (coder.decompress(data) == pixels).all()


def test_previews_as_bytes_arrive_are_those_of_cut_files(coder: Codec) -> None:
    data = coder.compress(photograph(20, 14, 4))
    shown = list(coder.progressive(data, parts=3))
    assert len(shown) == 9
    assert [d.step for d in shown if not d.partial] == [1, 2, 3]
    chunks = [c for c in format.parse(data).chunks if c.kind == format.STEP]
    for k, chunk in enumerate(chunks):
        whole = coder.decode(data[: chunk.end])
        assert (whole.image == shown[3 * k + 2].image).all()


def test_previews_as_bytes_arrive_ask_networks_as_often_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    model = uqdm.load("nano")
    work = [11, 81, 100, 100]  # thousand multiply-adds a pixel by step, as the card has them: four passes each
    data = model.compress(photograph(32, 32, 4))
    asked: list[float] = []
    mixture = NestedNetworks.mixture

    def counted(self: NestedNetworks, step: int, *given: Any) -> Any:
        asked.append(work[step] / 4)
        return mixture(self, step, *given)

    monkeypatch.setattr(NestedNetworks, "mixture", counted)

    def cost(action: Callable[[], Any]) -> float:
        asked.clear()
        action()
        return sum(asked)

    once = cost(lambda: model.decode(data))
    assert once == sum(work)
    shares = [cost(lambda p=parts: list(model.progressive(data, parts=p))) / once for parts in (1, 2)]  # type: ignore[misc]
    assert shares == pytest.approx([1.96, 4.47], abs=0.05)


@pytest.mark.parametrize("method", ["denoise", "ancestral", "flow"])
def test_every_method_shows_the_picture_in_the_end_and_something_before(coder: Codec, method: Any) -> None:
    pixels = photograph(16, 16, 1)
    data = coder.compress(pixels)
    errors = [((coder.decompress(data, step=k, method=method).astype(float) - pixels) ** 2).mean() for k in range(4)]
    assert errors[3] == 0
    assert errors[0] > errors[1] > errors[2]
    assert len(coder.sample(2, 6, 5)) == 2


def test_the_flow_shrinks_boxes_that_were_all_there_is_within_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    model = uqdm.load("nano")  # whose first cells are wider than the range
    family = model.family("tight")
    assert isinstance(family, walk.NestedWalk)
    pixels = photograph(32, 32, 2)
    data = model.compress(pixels)
    boxes: list[tuple[NDArray[np.int16], NDArray[np.int16]]] = []
    filled = family.filled

    def noted(step: int, trunk: Any, low: Any, high: Any, *begun: Any) -> NDArray[np.int32]:
        boxes.append((low.copy(), high.copy()))
        return filled(step, trunk, low, high, *begun)

    monkeypatch.setattr(family, "filled", noted)
    for step in range(3):
        boxes.clear()
        shown = model.decompress(data, step=step, method="flow")
        known_low, known_high = boxes[0]
        for k, (low, high) in enumerate(boxes):
            widths = (high.astype(int) - low + 1).max((0, 2, 3))
            cells = (256, 511, 511) if step + k == 0 else family.constants.widths[step + k - 1]
            assert (low >= known_low - 1).all()
            assert (high <= known_high + 1).all()
            assert (widths <= np.array(cells) + 1).all()
        denoised = model.decompress(data, step=step)
        errors = [((a.astype(float) - pixels) ** 2).mean() for a in (shown, denoised)]
        assert errors[0] < 1.5 * errors[1]


def test_a_package_with_more_widths_than_networks_is_refused(made: Package) -> None:
    constants = dict(made.constants) | {"widths": [[90, 234, 180], *made.constants["widths"]]}
    with pytest.raises(PackageError, match="widths for 4 steps, networks for 3"):
        Codec(dataclasses.replace(made, constants=constants)).compress(photograph(8, 8))


def test_a_file_of_bounded_error_is_the_beginning_of_the_whole_one_and_no_more_is_computed(
    coder: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [photograph(16, 16, 3), photograph(16, 16, 3)[..., :1]]  # a grey one has other guarantees
    whole = [coder.compress(p) for p in pictures]
    asked = []

    def counted(*given: Any, **more: Any) -> Any:
        for state in loop.walk(*given, **more):
            asked.append(state.step)
            yield state

    monkeypatch.setattr(encoder, "walk", counted)
    for file, short, picture in zip(whole, coder.compress(pictures, max_error=20), pictures):
        step = coder.step_within(20, grey=picture.shape[2] == 1)
        assert 0 < step < 3
        assert short == uqdm.truncate(file, step=step)
    assert max(asked) < 3


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "numpy"])
def test_every_runtime_writes_the_same_bytes(coder: Codec, made: Package, backend: str) -> None:
    if backend not in backends.available():
        pytest.skip(f"{backend} is not installed")
    pictures = [photograph(18, 22, 7), photograph(18, 22, 8)]
    other = Codec(made, backend=backend)
    files = other.compress(pictures)
    assert files == [coder.compress(p) for p in pictures]
    assert all((a == b).all() for a, b in zip(other.decompress(files, step=2), coder.decompress(files, step=2)))


def test_no_bit_depends_on_the_tiles(made: Package) -> None:
    from uqdm.exact import network as exact

    def runtime(net: exact.Net) -> Callable[..., Any]:
        return lambda *fields: exact.run(net, *fields)

    whole, short = (NestedNetworks(made, runtime, "numpy", tile) for tile in (384, 16))
    random = np.random.default_rng(0)
    low = random.integers(-200, 200, (2, 3, 44, 38)).astype(np.int16)
    high = (low + random.integers(0, 12, low.shape)).astype(np.int16)
    for step in range(3):
        a, b = whole.trunk(step, low, high), short.trunk(step, low, high)
        assert (a is None) == (b is None) == (step == 0)
        if a is not None and b is not None:
            assert (a == b).all()
        for number in range(4):
            for one, other in zip(
                whole.mixture(step, number, a, low, high), short.mixture(step, number, a, low, high), strict=True
            ):
                assert (one == other).all()


def test_pictures_larger_than_a_run_come_back(coder: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    from uqdm.families import order

    monkeypatch.setattr(order, "RUN", 50)
    pixels = photograph(21, 30, 5)
    assert (coder.decompress(coder.compress(pixels)) == pixels).all()


def test_weights_are_whole_shares_of_256() -> None:
    raw = np.random.default_rng(0).integers(-3000, 3000, (200, 3))
    found = mixtures.weights(raw)
    assert (found.sum(-1) == 256).all()
    assert found.min() >= 1
    exact = np.exp((raw - raw.max(-1, keepdims=True)) / 64)
    assert np.abs(found / 256 - exact / exact.sum(-1, keepdims=True)).max() < 4 / 256
    assert (mixtures.weights(np.zeros((1, 3))) == [[86, 85, 85]]).all()
    assert (mixtures.weights(np.array([[5]])) == 256).all()


def test_compiled_mixtures_are_those_of_numpy(made: Package) -> None:
    compiled = pytest.importorskip("uqdm.families.nested.kernels")
    random = np.random.default_rng(0)
    low = random.integers(-255, 250, (2, 3, 12, 10)).astype(np.int16)
    high = (low + random.integers(0, 60, low.shape)).astype(np.int16)
    for step in networks.parse("m", made.network, made.weights):
        _, high_passed = step.pass_features(low, high)
        for number in range(4):
            raw = np.rint(random.normal(0, 3000, (2, 18, 6, 5))).astype(np.float32)
            raw[0, 4:6] = 7  # equal weights
            expected = step.mixture(number, raw, low, high, high_passed)
            found = compiled.mixture(step, number, raw, low, high, high_passed)
            for a, b in zip(expected, found, strict=True):
                assert a.dtype == b.dtype
                assert (a == b).all()


def test_what_is_no_such_model_is_refused(made: Package, coder: Codec) -> None:
    with pytest.raises(ValueError, match="which has tight only"):
        coder.compress(photograph(8, 8), mode="paper")
    broken = dataclasses.replace(made, constants={"widths": [[4, 4, 4], [3, 3, 3], [1, 1, 1]], "priority": [0, 0, 0]})
    with pytest.raises(PackageError, match="a multiple of the one below"):
        families.walk(broken, "tight", None)
    lacking = {k: v for k, v in made.weights.items() if not k.startswith("1.pass3.head")}
    with pytest.raises(PackageError, match="do not fit together"):
        networks.parse("m", made.network, lacking)
    large = {k: (v.astype(np.int32) * 64 if k == "1.trunk.enter.weight" else v) for k, v in made.weights.items()}
    with pytest.raises(PackageError, match="2\\*\\*24 or more"):
        networks.parse("m", made.network, large)
    with pytest.raises(PackageError, match="not a nested network"):
        networks.parse("m", {"steps": 3}, made.weights)


def test_damage_inside_a_step_is_noticed(coder: Codec) -> None:
    data = bytearray(coder.compress(photograph(16, 16)))
    data[-9] ^= 4
    with pytest.raises(DamagedError):
        coder.decompress(bytes(data))


def test_a_run_becomes_a_model_folder_by_its_averages(tmp_path: Path, floats: Nested) -> None:
    from uqdm.training.integers import quantise_run
    from uqdm.training.trainer import train

    class Data:
        batch_size = 2

        def ahead(self, numbers: Any) -> Any:
            for n in numbers:
                yield torch.randint(0, 256, (2, 3, 8, 8), generator=seeded(n), dtype=torch.uint8)

    config = override(floats.config, {"n_steps": 2, "precision": "float32"})
    train(config, Data(), None, tmp_path / "run", steps=2)
    pictures: list[NDArray[np.uint8]] = [photograph(17, 16, i) for i in range(4)]
    cost = quantise_run(tmp_path / "run", tmp_path / "mine", pictures, pictures[:2])
    assert len(cost.before) == len(cost.after) == 3
    assert sum(cost.after) == pytest.approx(sum(cost.before), rel=0.03)
    found = Codec(package.read(tmp_path / "mine"))
    assert found.exact
    assert found.steps == 3
    assert (found.decompress(found.compress(pictures[0])) == pictures[0]).all()
