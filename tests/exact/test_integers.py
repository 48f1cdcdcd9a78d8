"""Exact networks give the same integers on every runtime, in every setting, however the picture is
cut; what does not is refused.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from numpy.typing import NDArray

from uqdm import bundle as package
from uqdm import library
from uqdm.errors import BackendError, PackageError
from uqdm.exact import network as exact
from uqdm.exact import runtimes as backends
from uqdm.exact.bound import partial_sums
from uqdm.exact.network import Net
from uqdm.exact.running import proved
from uqdm.families.uqdm.networks import UqdmStep, parse
from uqdm.families.uqdm.running import ExactDenoiser

Run = Callable[[NDArray[np.float32]], NDArray[Any]]


@contextlib.contextmanager
def on_torch(net: Net, threads: int = 1, mkldnn: bool = True, **options: Any) -> Iterator[Run]:
    torch = pytest.importorskip("torch")
    from uqdm.exact.runtimes import pytorch

    with torch.backends.mkldnn.flags(enabled=mkldnn):
        yield pytorch.Runner(net, pytorch.device("cpu"), threads=threads, **options)


@contextlib.contextmanager
def on_onnxruntime(net: Net, unfolded: bool = False) -> Iterator[Run]:
    pytest.importorskip("onnxruntime")
    from uqdm.exact.runtimes import ort

    yield ort.Runner(net, unfolded=unfolded)


@contextlib.contextmanager
def on_numpy(net: Net, dtype: str) -> Iterator[Run]:
    yield lambda features: exact.run(net, features.astype(dtype))


pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")  # of mkldnn.flags, on any CPU
SETTINGS: dict[str, Any] = {
    "numpy, float64": functools.partial(on_numpy, dtype="float64"),
    "onnxruntime": on_onnxruntime,
    "onnxruntime, unfolded": functools.partial(on_onnxruntime, unfolded=True),
    "torch": on_torch,
    "torch, 2 threads": functools.partial(on_torch, threads=2),
    "torch, float64": functools.partial(on_torch, precision="float64"),
    "torch, contiguous": functools.partial(on_torch, channels_last=False),
    "torch, unfolded": functools.partial(on_torch, unfolded=True),
    "torch without oneDNN": functools.partial(on_torch, mkldnn=False),
    "torch without oneDNN, contiguous": functools.partial(on_torch, mkldnn=False, channels_last=False),
    "torch without oneDNN, float64": functools.partial(on_torch, mkldnn=False, precision="float64"),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS)


def same(setting: str, net: Net | None, *features: NDArray[np.float32]) -> None:
    """The setting's raw outputs are NumPy's in float32, byte for byte."""
    assert net is not None
    with SETTINGS[setting](net) as run:
        for x in features:
            expected, found = exact.run(net, x), run(x)
            assert found.shape == expected.shape
            assert found.astype(np.float32).tobytes() == expected.tobytes(), (
                f"{setting}: {np.mean(found != expected):.1%} differ"
            )


@every_setting
@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_by_chance_gives_the_same_integers_everywhere(setting: str, seed: int) -> None:
    step = networks.random_step(seed)
    assert 22.5 < step.check("by chance") < 24
    shapes = [(1, 3, 64, 64), (8, 3, 16, 24), (32, 3, 32, 32), (1, 3, 2, 2)]
    same(setting, step.net, *(step.features(*networks.boxes(shape)) for shape in shapes))


@every_setting
def test_sums_may_come_as_near_as_one_to_the_bound(setting: str) -> None:
    step = networks.edge_step()
    assert step.net is not None
    edge = step.limits()
    assert partial_sums(step.net.enter, -edge, edge).max() == exact.EXACT - 1
    top = np.broadcast_to(edge[:, None, None], (2, len(edge), 8, 8)).astype(np.float32)
    random = np.random.default_rng(0).integers(-edge, edge + 1, (20, 8, 8, len(edge))).transpose(0, 3, 1, 2)
    same(setting, step.net, top, -top, top - 1, np.ascontiguousarray(random, np.float32))


@pytest.fixture(scope="module")
def quantised() -> UqdmStep:
    """A network of the embedded model of the paper's construction."""
    model = package.read(library.find("uqdm-light"))
    return parse(model.name, model.network, model.weights)[1]


@every_setting
def test_a_quantised_network_of_the_shipped_width_too(setting: str, quantised: UqdmStep) -> None:
    same(
        setting,
        quantised.net,
        *(quantised.features(*networks.boxes(shape)) for shape in [(1, 3, 64, 64), (16, 3, 16, 16)]),
    )


def test_nnpacks_transform_is_not_exact_and_would_be_caught(
    quantised: UqdmStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without oneDNN, PyTorch takes NNPACK from 16 pictures on: a quarter of the outputs were
    wrong, in files that looked fine.
    """
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.backends.nnpack, "set_flags", lambda enabled: (True,))
    net = quantised.net
    assert net is not None
    with SETTINGS["torch without oneDNN"](net) as run:
        features = quantised.features(*networks.boxes((16, 3, 16, 16)))
        if (run(features) == exact.run(net, features)).all():
            pytest.skip("this PyTorch or processor has no NNPACK")
        with pytest.raises(BackendError, match="does not compute integers exactly"):
            proved(run, net, quantised.limits(), "torch")


# --- fields


def test_a_callers_autocast_changes_nothing() -> None:
    torch = pytest.importorskip("torch")
    step = networks.random_step(0)
    assert step.net is not None
    edge = step.limits()
    features = (
        np.random.default_rng(0)
        .integers(-edge, edge + 1, (2, 6, 5, len(edge)))
        .transpose(0, 3, 1, 2)
        .astype(np.float32)
    )
    with on_torch(step.net) as run, torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(run(features), exact.run(step.net, features.astype(np.float64)))


@pytest.mark.parametrize("shape", [(1, 3, 90, 74), (3, 3, 33, 47), (2, 3, 1, 1), (1, 3, 1, 80), (40, 3, 12, 10)])
@pytest.mark.parametrize("backend", backends.available())
def test_a_field_has_no_seams_whatever_the_tile(shape: tuple[int, ...], backend: str) -> None:
    described = networks.package_of(networks.constant(), networks.random_step())
    low, high = networks.boxes(shape)
    whole = networks.opened(described, backend="numpy", precision="float64")
    location, level = whole(1, None, low, high)
    assert (location.shape, location.dtype, level.shape, level.dtype) == (shape, np.int32, shape, np.uint8)
    for tile in (16, 32, 64, 384):
        tiled = networks.opened(described, backend=backend, threads=1)
        tiled.tile = tile  # type: ignore[attr-defined]
        for a, b in zip(tiled(1, None, low, high), (location, level), strict=True):
            assert a.dtype == b.dtype
            assert (a == b).all(), tile
    for i in range(len(low)):
        assert (whole(1, None, low[i : i + 1], high[i : i + 1])[0] == location[i]).all()


def test_the_reach_of_a_step_is_no_larger_than_needed() -> None:
    step = networks.random_step()
    low, high = networks.boxes((1, 3, 80, 80))
    short = ExactDenoiser(networks.package_of(step), lambda s: functools.partial(exact.run, s), "numpy", tile=32)
    whole = ExactDenoiser(networks.package_of(step), lambda s: functools.partial(exact.run, s), "numpy")
    assert (short(0, None, low, high)[0] == whole(0, None, low, high)[0]).all()
    short.steps = (_Short(**{f.name: getattr(step, f.name) for f in dataclasses.fields(step)}),)
    assert (short(0, None, low, high)[0] != whole(0, None, low, high)[0]).any()


class _Short(UqdmStep):
    @property
    def reach(self) -> int:
        return super().reach - 4


def test_a_first_step_is_constant_and_needs_no_runtime() -> None:
    def never(net: Net) -> exact.Runner:
        raise AssertionError("no network is asked")

    denoiser = ExactDenoiser(networks.package_of(networks.constant()), never, "none")
    low, high = networks.boxes((2, 3, 5, 7))
    location, level = denoiser(0, None, low, high)
    assert (location.dtype, location.shape, level.dtype) == (np.int32, low.shape, np.uint8)
    assert (np.ptp(location, (0, 2, 3)) == 0).all()
    assert location[0, 0, 0, 0] == (255 << 15) - 1234
    assert level[0, :, 0, 0].tolist() == [3000 >> 6, 3200 >> 6, 3100 >> 6]


def test_a_package_of_integers_comes_back_from_its_files(tmp_path: Path) -> None:
    made = networks.package_of(networks.constant(), networks.random_step(), mixed=True)
    read = package.read(package.write(made, tmp_path / "by-chance"))
    low, high = networks.boxes((1, 3, 20, 20))
    a, b = (networks.opened(p, backend="numpy") for p in (made, read))
    assert a.exact
    assert a.mixed
    assert not a.sees_z
    assert not networks.opened(networks.package_of(networks.constant())).mixed
    for x, y in zip(a(1, None, low, high), b(1, None, low, high), strict=True):
        assert (x == y).all()


# --- what is refused


def test_a_network_that_can_leave_24_bits_is_refused() -> None:
    step = networks.edge_step()
    assert step.net is not None
    enter = step.net.enter

    def refused(enter: exact.Convolution) -> package.Package:
        return networks.package_of(dataclasses.replace(step, net=dataclasses.replace(step.net, enter=enter)))

    with pytest.raises(PackageError, match=r"step 1: enter: a partial sum can reach 16777216"):
        networks.opened(refused(dataclasses.replace(enter, bias=enter.bias + np.int32(1))))
    with pytest.raises(PackageError, match="residual stream"):
        networks.opened(refused(dataclasses.replace(enter, shift=np.zeros(16, np.int8))))


def broken(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> package.Package:
    found = networks.package_of(networks.random_step())
    return dataclasses.replace(found, weights=dict(found.weights) | {name: change(found.weights[name])})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("0.enter.weight", lambda a: a[:, 1:], "35 inputs, expected 36"),
        ("0.enter.weight", lambda a: a.astype(np.float32), "expected integers"),
        ("0.body.1.first.weight", lambda a: a[1:], r"bias has the shape \(16,\); expected \(15,\)"),
        ("0.body.0.down", lambda a: a[1:], r"down has the shape \(15,\)"),
        ("0.body.0.down", lambda a: a - 8, "expected 0 to 23"),
        ("0.head.shift", lambda a: a + 20, "expected 0 to 23"),
        ("0.skip", lambda a: a[:2], r"skip has the shape \(2,\)"),
        ("0.detail", lambda a: np.array([1, 2]), "detail has the shape"),
    ],
)
def test_a_broken_description_is_named(name: str, change: Any, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        networks.opened(broken(name, change))
    found = networks.package_of(networks.random_step())
    with pytest.raises(PackageError, match=r"KeyError: '0\.head\.bias'"):
        networks.opened(
            dataclasses.replace(found, weights={k: v for k, v in found.weights.items() if k != "0.head.bias"})
        )


@pytest.mark.parametrize("bits", [8, 11])
def test_a_runtime_that_shortens_numbers_is_caught_before_it_is_used(bits: int) -> None:
    step = networks.random_step()

    def shortened(net: Net) -> exact.Runner:
        """As TF32 and bfloat16 do: products of numbers cut to 11 or 8 bits."""
        scale = 2.0 ** (12 - bits)
        rough = [
            dataclasses.replace(c, weight=np.rint(c.weight / scale) * scale)
            for c in (net.enter, net.head)
            if c is not None
        ]
        return functools.partial(exact.run, dataclasses.replace(net, enter=rough[0], head=rough[1]))

    denoiser = ExactDenoiser(networks.package_of(step), shortened, "shortened")
    with pytest.raises(BackendError, match=r"shortened does not compute integers exactly .* another backend"):
        denoiser(0, None, *networks.boxes((1, 3, 8, 8)))
