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
    with pytest.raises(BackendError, match="onnxruntime runs networks by CUDA or on the CPU, in float32 only"):
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


def test_a_device_that_is_not_there_is_an_error_and_never_becomes_the_cpu() -> None:
    with pytest.raises(BackendError, match="numpy runs networks on the CPU only"):
        networks.opened(EXACT, device="cuda", backend="numpy")
    with pytest.raises(BackendError, match="by CUDA or on the CPU"):
        networks.opened(EXACT, device="mps", backend="onnxruntime")
    with pytest.raises(BackendError, match="device 'cuda:977' cannot be used by ONNX Runtime"):
        networks.opened(EXACT, device="cuda:977", backend="onnxruntime")
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match=r"device 'cuda' cannot be used: .*by ONNX Runtime: .*the CPU is taken"):
            networks.opened(EXACT, device="cuda")
    with pytest.raises(BackendError, match="device 'tpu9' cannot be used"):
        networks.opened(EXACT, device="tpu9")


def test_cuda_by_onnx_runtime_where_there_is_no_torch(without: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is not here, so the CPU's kernels run the graph that CUDA's would get."""
    pytest.importorskip("onnxruntime")
    without("torch")
    from uqdm.exact.runtimes import ort

    session, asked = ort.session, []

    def on_the_cpu(model: Any, cuda: int | None) -> Any:
        asked.append(cuda)
        return session(model, None)

    monkeypatch.setattr(ort, "session", on_the_cpu)
    monkeypatch.setattr(ort.onnxruntime, "get_available_providers", lambda: [ort.CUDA, "CPUExecutionProvider"])
    found = networks.opened(EXACT, device="cuda:1")
    assert found.name == "onnxruntime"  # type: ignore[attr-defined]
    assert found.workers is None  # type: ignore[attr-defined]
    assert asked == [1]


def test_tf32_is_off_during_a_call_and_then_as_it_was_by_either_name() -> None:
    torch = pytest.importorskip("torch")
    from uqdm.exact.runtimes import pytorch

    matmul, conv = torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv", None)
    if conv is None:
        pytest.skip("this PyTorch has the older names only")
    old = matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    before = matmul.fp32_precision, conv.fp32_precision
    try:
        for older in (True, False):
            if older:
                matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            else:
                matmul.fp32_precision = conv.fp32_precision = "tf32"
            with pytorch.SETTINGS.ours("cuda", None):
                assert (matmul.fp32_precision, conv.fp32_precision) == ("ieee", "ieee")
            assert (matmul.fp32_precision, conv.fp32_precision) == ("tf32", "tf32")
    finally:
        matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = old  # first, since it sets the newer ones too
        matmul.fp32_precision, conv.fp32_precision = before


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
    opened = backends.open_runtime

    def broken(name: str, *rest: Any) -> Any:
        if name == "onnxruntime":
            raise TypeError("Descriptors cannot be created directly")  # what onnx says where protobuf does not fit it
        return opened(name, *rest)

    monkeypatch.setattr(backends, "open_runtime", broken)
    assert networks.opened(EXACT).name != "onnxruntime"  # type: ignore[attr-defined]
    with pytest.raises(BackendError, match="Descriptors cannot be created"):
        networks.opened(EXACT, backend="onnxruntime")
