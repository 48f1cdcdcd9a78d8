"""What runs a packaged network: pictures' states in, suggestions out. One module for each runtime.

Exact networks (`uqdm.exact`) give the same integers on every runtime; here is chosen what is installed and fast. Float networks are
PyTorch's alone: ONNX Runtime has no float64 convolution on the CPU, and in float32 files would not decode elsewhere.
"""

import functools
import importlib.util
from typing import Any

from uqdm import cpus
from uqdm.bundle import Package
from uqdm.errors import BackendError, PackageError
from uqdm.exact import network as exact
from uqdm.exact.workers import Workers
from uqdm.families.nested.running import NestedNetworks
from uqdm.families.nested.walk import Networks
from uqdm.families.uqdm.running import ExactDenoiser, Runtime
from uqdm.families.uqdm.walk import Denoiser

# The first that fits is taken: quickest to import and to run.
MODULES = {"onnxruntime": ("onnx", "onnxruntime"), "torch": ("torch",), "numpy": ("numpy",)}
INSTALL = {"onnxruntime": "onnx onnxruntime", "torch": "torch", "numpy": "numpy"}
FLOATS = ("unet", "convnet")


def available() -> tuple[str, ...]:
    """Names of the runtimes that are installed, in the order in which they are taken."""
    return tuple(name for name, modules in MODULES.items() if all(importlib.util.find_spec(m) for m in modules))


def denoiser(
    package: Package, device: str = "cpu", threads: int | None = None, precision: str | None = None, backend: str | None = None
) -> Denoiser | Networks:
    """The package's network, ready to be called.

    `backend`: "onnxruntime", "torch" or "numpy"; None takes the first that is installed and fits. `precision`: "float32" or "float64", of
    the arithmetic; None: 32 bits for exact networks, whose results do not depend on it, 64 for others. `threads`: CPU threads the runtime
    may use (NumPy's follow its own settings). Raises `BackendError` where nothing here can run it, `PackageError` where it is broken.
    """
    if backend not in (None, *MODULES):
        raise BackendError(f"backend {backend!r}; expected one of {', '.join(MODULES)}")
    kind = package.network.get("kind")
    if kind in ("exact", "nested", "pyramid"):
        from uqdm.families.pyramid.running import PyramidNetworks

        networks: Any = {"exact": ExactDenoiser, "nested": NestedNetworks, "pyramid": PyramidNetworks}[kind]
        runtime, name = _runtime(backend, device, threads, precision or "float32")
        workers = Workers(cpus.checked(threads)) if name == "onnxruntime" else None  # PyTorch and NumPy have threads of their own
        found: Denoiser | Networks = networks(package, runtime, name, workers=workers)
        return found
    if kind not in FLOATS:
        raise PackageError(f"{package.name}: network kind {kind!r}; this version runs exact, nested, pyramid, {', '.join(FLOATS)}")
    why = f"{package.name} is a network of floats, which only PyTorch runs in float64"
    if backend not in (None, "torch"):
        raise BackendError(f"{why}, not {backend}: leave the backend out")
    try:
        from uqdm.exact.runtimes.pytorch import FloatDenoiser
    except ImportError as error:
        raise _missing("torch", error, f"{why}; torch") from None
    return FloatDenoiser(package, device, threads, precision or "float64")


def _runtime(backend: str | None, device: str, threads: int | None, precision: str) -> tuple[Runtime, str]:
    """What runs an exact network, and its name."""
    fitting = [n for n in MODULES if (device == "cpu" or n == "torch") and (precision == "float32" or n != "onnxruntime")]
    if backend is not None and backend not in fitting:
        raise BackendError(f"{backend} runs networks on the CPU only{', in float32' * (backend == 'onnxruntime')}; leave the backend out")
    for name in fitting if backend is None else [backend]:
        try:
            return _open(name, device, threads, precision), name
        except BackendError:
            raise
        except Exception as error:  # a broken installation may raise anything, and the others do the same work
            if backend is not None or name == fitting[-1]:
                raise _missing(name, error, name) from None
    raise AssertionError("NumPy is always there")


def _open(name: str, device: str, threads: int | None, precision: str) -> Runtime:
    if name == "onnxruntime":
        from uqdm.exact.runtimes import ort

        return ort.Runner
    if name == "torch":
        from uqdm.exact.runtimes import pytorch

        return functools.partial(pytorch.Runner, device=pytorch.device(device), precision=precision, threads=threads)
    return lambda net: lambda *fields: exact.run(net, *(a.astype(precision, copy=False) for a in fields))


def _missing(name: str, error: Exception, what: str) -> BackendError:
    return BackendError(f"{what} cannot be imported ({error}): pip install {INSTALL[name]}")
