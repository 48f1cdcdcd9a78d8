"""Progressive image compression with universally quantized diffusion models: one stream, every prefix a picture.

    import uqdm
    codec = uqdm.load()
    data = codec.compress(image)                 # uint8 (H, W, 3) -> bytes
    preview = codec.decompress(data, step=2)     # after two of four steps
    for decoded in codec.progressive(data):      # as bytes arrive, `parts` previews a step
        ...

Everything public is listed here; what runs networks is imported when it is first used.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from uqdm.errors import (
    BackendError,
    CheckpointError,
    DamagedError,
    FingerprintError,
    FormatError,
    ImageError,
    LimitError,
    ModelError,
    NotUqdmError,
    NumericsError,
    OutputError,
    PackageError,
    SourceError,
    TrainingError,
    TruncatedError,
    UnknownModelError,
    UqdmError,
    VersionError,
)

if TYPE_CHECKING:
    from uqdm.codec import Codec, Decoded
    from uqdm.container import Info, inspect, truncate
    from uqdm.package import available as list_models
    from uqdm.picture import Picture
    from uqdm.published import load_checkpoint
    from uqdm.training.data import load_data

__version__ = "0.1.0"

_WHERE = {
    "Codec": "uqdm.codec",
    "Decoded": "uqdm.codec",
    "Info": "uqdm.container",
    "inspect": "uqdm.container",
    "truncate": "uqdm.container",
    "Picture": "uqdm.picture",
    "list_models": "uqdm.package",
    "load_checkpoint": "uqdm.published",
    "load_data": "uqdm.training.data",
}

__all__ = [
    "BackendError",
    "CheckpointError",
    "Codec",
    "DamagedError",
    "Decoded",
    "FingerprintError",
    "FormatError",
    "ImageError",
    "Info",
    "LimitError",
    "ModelError",
    "NotUqdmError",
    "NumericsError",
    "OutputError",
    "PackageError",
    "Picture",
    "SourceError",
    "TrainingError",
    "TruncatedError",
    "UnknownModelError",
    "UqdmError",
    "VersionError",
    "inspect",
    "list_models",
    "load",
    "load_checkpoint",
    "load_data",
    "truncate",
]


def load(
    name_or_path: str | Path = "nano",
    *,
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
    max_pixels: int | None = None,
    backend: str | None = None,
    coder: str | None = None,
) -> "Codec":
    """The codec of a model: a name (see `list_models`) or the path of a model folder.

    `device`: where the network runs ("cpu", "cuda", ...). `threads`: CPU threads it may use. `backend`: what runs it, "onnxruntime",
    "torch" or "numpy"; `coder`: the implementation of the range coder, "numba", "constriction" or "plain"; by default the fastest that
    is installed and fits, and no bit depends on them. `precision`: "float64" or "float32", the arithmetic of an imported float model
    (by default float64; files of float32 decode only on an alike machine); exact models give the same bits in both. `max_pixels`:
    larger pictures are refused before anything is allocated (by default 2**26). Raises `UnknownModelError`, `PackageError`,
    `BackendError`.
    """
    from uqdm import codec, package

    return codec.Codec(package.read(package.find(name_or_path)), device, threads, precision, max_pixels, backend, coder)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'uqdm' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), "available" if name == "list_models" else name)
