"""Progressive image compression with universally quantized diffusion models: one stream, every
prefix a picture.

    import uqdm
    codec = uqdm.load()                          # or uqdm.open_for("photo.uqdm"), the codec that a file asks for
    data = codec.compress(image)                 # uint8 (H, W, 3) -> bytes
    preview = codec.decompress(data, step=2)     # after two of four steps
    for decoded in codec.progressive(data):      # as bytes arrive, `parts` previews a step
        ...

Everything public is listed here; what runs networks is imported when it is first used.
"""

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
    from uqdm.format import Info, inspect
    from uqdm.library import available as list_models
    from uqdm.library import load, open_for, truncate
    from uqdm.notebook import show
    from uqdm.picture import Picture
    from uqdm.published import load_checkpoint
    from uqdm.training.data import load_data

__version__ = "0.1.0"

_WHERE = {
    "Codec": "uqdm.codec",
    "Decoded": "uqdm.codec",
    "Info": "uqdm.format",
    "inspect": "uqdm.format",
    "Picture": "uqdm.picture",
    "show": "uqdm.notebook",
    "list_models": "uqdm.library",
    "load": "uqdm.library",
    "open_for": "uqdm.library",
    "truncate": "uqdm.library",
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
    "open_for",
    "show",
    "truncate",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'uqdm' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), "available" if name == "list_models" else name)
