"""Which runtime runs a package: the first that is installed and fits, or the one asked for, or an
error that says what to install.
"""

import sys
from typing import Any

import networks
import numpy as np
import pytest

import uqdm.exact.runtimes
from uqdm.bundle import Package
from uqdm.errors import BackendError, PackageError
from uqdm.exact import runtimes as backends

EXACT = networks.package_of(networks.constant(), networks.random_step())


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """without("torch") makes a module one that cannot be imported."""

    def hide(*modules: str) -> None:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
        for own in ("ort", "pytorch"):
            monkeypatch.delitem(sys.modules, f"uqdm.exact.runtimes.{own}", raising=False)
            monkeypatch.delattr(uqdm.exact.runtimes, own, raising=False)
        for name in [name for name in sys.modules if name.startswith("uqdm.families.") and ".torch" in name]:
            monkeypatch.delitem(sys.modules, name)

    return hide


def test_exact_networks_run_on_the_first_runtime_there_is(without: Any) -> None:
    pytest.importorskip("onnxruntime")
    assert networks.opened(EXACT).name == "onnxruntime"  # type: ignore[attr-defined]
    without("onnx")
    assert "onnxruntime" not in backends.available()
    if "torch" in backends.available():
        assert networks.opened(EXACT).name == "torch"  # type: ignore[attr-defined]
    without("torch")
    assert backends.available() == ("numpy",)
    assert networks.opened(EXACT).name == "numpy"  # type: ignore[attr-defined]


def test_float64_is_for_torch_or_numpy(without: Any) -> None:
    assert networks.opened(EXACT, precision="float64").name in ("torch", "numpy")  # type: ignore[attr-defined]
    without("torch")
    assert networks.opened(EXACT, precision="float64").name == "numpy"  # type: ignore[attr-defined]
    with pytest.raises(BackendError, match="onnxruntime runs networks on the CPU only, in float32"):
        networks.opened(EXACT, precision="float64", backend="onnxruntime")


def test_a_runtime_that_is_not_there_is_named_with_what_to_install(without: Any) -> None:
    without("torch", "onnxruntime")
    with pytest.raises(BackendError, match=r"onnxruntime cannot be imported .*: pip install onnx onnxruntime"):
        networks.opened(EXACT, backend="onnxruntime")
    with pytest.raises(BackendError, match=r"torch cannot be imported .*: pip install torch"):
        networks.opened(EXACT, device="cuda")
    floats = Package("floats", "uqdm", {"kind": "unet"}, {}, {}, {})
    with pytest.raises(
        BackendError, match=r"floats is a network of floats, which only PyTorch runs .* pip install torch"
    ):
        networks.opened(floats)


def test_devices_but_the_cpu_are_torchs() -> None:
    for backend in ("onnxruntime", "numpy"):
        with pytest.raises(BackendError, match="on the CPU only"):
            networks.opened(EXACT, device="cuda", backend=backend)
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="device 'cuda' cannot be used"):
            networks.opened(EXACT, device="cuda")
    with pytest.raises(BackendError, match="device 'tpu9' cannot be used"):
        networks.opened(EXACT, device="tpu9")


def test_networks_of_floats_are_torchs_and_say_what_they_are() -> None:
    pytest.importorskip("torch")
    from untrained import float_package

    found = networks.opened(float_package())
    assert (found.exact, found.sees_z, found.mixed) == (False, True, False)
    low, high = networks.boxes((2, 3, 5, 7))
    location, log2_scale = found(0, np.zeros((2, 3, 5, 7)), low, high)
    assert location.dtype == log2_scale.dtype == np.float64
    assert location.shape == log2_scale.shape == low.shape
    with pytest.raises(BackendError, match="only PyTorch runs in float64, not numpy"):
        networks.opened(float_package(), backend="numpy")


def test_what_nobody_knows_is_refused() -> None:
    with pytest.raises(BackendError, match="'tflite'; expected one of onnxruntime, torch, numpy"):
        networks.opened(EXACT, backend="tflite")
    with pytest.raises(PackageError, match="network kind 'transformer'"):
        networks.opened(Package("new", "uqdm", {"kind": "transformer"}, {}, {}, {}))


def test_a_runtime_whose_installation_is_broken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = backends._open

    def broken(name: str, *rest: Any) -> Any:
        if name == "onnxruntime":
            raise TypeError("Descriptors cannot be created directly")  # what onnx says where protobuf does not fit it
        return opened(name, *rest)

    monkeypatch.setattr(backends, "_open", broken)
    assert networks.opened(EXACT).name != "onnxruntime"  # type: ignore[attr-defined]
    with pytest.raises(BackendError, match="Descriptors cannot be created"):
        networks.opened(EXACT, backend="onnxruntime")
