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
    `precision`: "float32" (by default) or "float64", of the arithmetic; the results do not depend
    on it. `threads`: CPU threads the runtime may use (NumPy's follow its own settings). Raises
    `BackendError` where nothing here fits.
    """
    checked(opening.backend)
    runtime, name = _runtime(opening.backend, opening.device, opening.threads, opening.precision or "float32")
    # PyTorch and NumPy have threads of their own.
    workers = Workers(cpus.checked(opening.threads)) if name == "onnxruntime" else None
    return Opened(runtime, name, workers)


def checked(backend: str | None) -> None:
    """Raises `BackendError` for a name that no runtime has."""
    if backend not in (None, *MODULES):
        raise BackendError(f"backend {backend!r}; expected one of {', '.join(MODULES)}")


def _runtime(backend: str | None, device: str, threads: int | None, precision: str) -> tuple[Runtime, str]:
    """What runs an exact network, and its name."""
    fitting = [
        n for n in MODULES if (device == "cpu" or n == "torch") and (precision == "float32" or n != "onnxruntime")
    ]
    if backend is not None and backend not in fitting:
        raise BackendError(
            f"{backend} runs networks on the CPU only{', in float32' * (backend == 'onnxruntime')}; leave the"
            " backend out"
        )
    for name in fitting if backend is None else [backend]:
        try:
            return _open(name, device, threads, precision), name
        except BackendError:
            raise
        except Exception as error:  # a broken installation may raise anything, and the others do the same work
            if backend is not None or name == fitting[-1]:
                raise missing(name, error, name) from None
    raise AssertionError("NumPy is always there")


def _open(name: str, device: str, threads: int | None, precision: str) -> Runtime:
    if name == "onnxruntime":
        from uqdm.exact.runtimes import ort

        return ort.Runner
    if name == "torch":
        from uqdm.exact.runtimes import pytorch

        return functools.partial(pytorch.Runner, device=pytorch.device(device), precision=precision, threads=threads)
    return lambda net: lambda *fields: exact.run(net, *(a.astype(precision, copy=False) for a in fields))


def missing(name: str, error: Exception, what: str) -> BackendError:
    """The error of a runtime that is not installed, or does not work."""
    return BackendError(f"{what} cannot be imported ({error}): pip install {INSTALL[name]}")
