"""What runs exact networks: one module for each runtime. They give the same integers on every one;
here is chosen what is fast.
"""

import functools
import importlib.util

from uqdm import cpus
from uqdm.errors import BackendError
from uqdm.exact import network as exact
from uqdm.exact.running import Opened, Runtime
from uqdm.exact.workers import Workers
from uqdm.families.base import Opening

# The first that fits is taken: quickest to import and to run.
MODULES = {"onnxruntime": ("onnx", "onnxruntime"), "torch": ("torch",), "numpy": ("numpy",)}
INSTALL = {"onnxruntime": "onnx onnxruntime", "torch": "torch", "numpy": "numpy"}


def available() -> tuple[str, ...]:
    """Names of the runtimes that are installed, in the order in which they are taken."""
    return tuple(name for name, modules in MODULES.items() if all(importlib.util.find_spec(m) for m in modules))


def opened(opening: Opening) -> Opened:
    """What runs exact networks.

    `backend`: "onnxruntime", "torch" or "numpy"; None takes the first that is installed and fits.
    `device`: "cuda" is PyTorch's or else ONNX Runtime's, others but "cpu" are PyTorch's alone. The
    CPU is never taken in the place of another device.
    `precision`: "float32" (by default) or "float64", of the arithmetic; the results do not depend
    on it. `threads`: CPU threads the runtime may use (NumPy's follow its own settings). Raises
    `BackendError` where nothing here fits.
    """
    checked(opening.backend)
    runtime, name = _runtime(opening.backend, opening.device, opening.threads, opening.precision or "float32")
    # PyTorch and NumPy have threads of their own, and a device takes one piece after the other.
    here = name == "onnxruntime" and opening.device == "cpu"
    workers = Workers(cpus.checked(opening.threads)) if here else None
    return Opened(runtime, name, workers)


def checked(backend: str | None) -> None:
    """Raises `BackendError` for a name that no runtime has."""
    if backend not in (None, *MODULES):
        raise BackendError(f"backend {backend!r}; expected one of {', '.join(MODULES)}")


def _runtime(backend: str | None, device: str, threads: int | None, precision: str) -> tuple[Runtime, str]:
    """What runs an exact network, and its name."""
    fitting = _fitting(device, precision)
    if backend is not None and backend not in fitting:
        where = "by CUDA or on the CPU" if backend == "onnxruntime" else "on the CPU only"
        what = f"{where}, in float32 only" if backend == "onnxruntime" else where
        raise BackendError(f"{backend} runs networks {what}; leave the backend out")
    problems = []
    for name in fitting if backend is None else [backend]:
        try:
            return open_runtime(name, device, threads, precision), name
        except BackendError as error:
            problems.append(str(error))
        except Exception as error:  # a broken installation may raise anything, and the others do the same work
            problems.append(str(missing(name, error, name)))
    raise BackendError("; ".join(problems) + (f"; without {device!r} the CPU is taken" if device != "cpu" else ""))


def _fitting(device: str, precision: str) -> list[str]:
    """The runtimes that a device and a precision leave, in the order in which they are taken."""
    if device == "cpu":
        return [name for name in MODULES if precision == "float32" or name != "onnxruntime"]
    by_cuda = device.startswith("cuda") and precision == "float32"
    return ["torch", "onnxruntime"] if by_cuda else ["torch"]


def open_runtime(name: str, device: str, threads: int | None, precision: str) -> Runtime:
    if name == "onnxruntime":
        from uqdm.exact.runtimes import ort

        return ort.Runner if device == "cpu" else functools.partial(ort.Runner, cuda=ort.device(device))
    if name == "torch":
        from uqdm.exact.runtimes import pytorch

        return functools.partial(pytorch.Runner, device=pytorch.device(device), precision=precision, threads=threads)
    return lambda net: lambda *fields: exact.run(net, *(a.astype(precision, copy=False) for a in fields))


def missing(name: str, error: Exception, what: str) -> BackendError:
    """The error of a runtime that is not installed, or does not work."""
    return BackendError(f"{what} cannot be imported ({error}): pip install {INSTALL[name]}")
