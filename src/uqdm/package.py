"""A model as the codec uses it: a folder of `model.json` and `weights.safetensors`; read, checked and written here.

`model.json` holds the name, the family, the network's description, the constants of the arithmetic (floats as hexadecimal,
so that they are the same bits everywhere) and what a person wants to know. The fingerprint is the SHA-256 of what decides
a decoder's arithmetic: family, network, constants and weights; names and descriptions do not enter. Files carry its first
eight bytes. Knows nothing of what the constants mean.
"""

import dataclasses
import functools
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import OutputError, PackageError, UnknownModelError

FORMAT = 1
SHIPPED = Path(__file__).parent / "weights"
DEFAULT = "uqdm-light"


@dataclasses.dataclass(frozen=True)
class Package:
    """One model. `constants` and `network` are plain JSON values; weights are NumPy arrays by name."""

    name: str
    family: str
    network: Mapping[str, Any]
    constants: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]
    path: Path | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits."""
        return _fingerprint(self.family, self.network, self.constants, self.weights)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(array.size for array in self.weights.values())


@dataclasses.dataclass(frozen=True)
class Listing:
    """A model that can be asked for by name."""

    name: str
    family: str
    description: str
    parameters: int
    path: Path
    fingerprint: str


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _fingerprint(family: str, network: Mapping[str, Any], constants: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(_canonical([FORMAT, family, network, constants]).encode())
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(_canonical([name, array.dtype.str, array.shape]).encode())
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def hexadecimal(values: Any) -> Any:
    """Floats, nested in lists, as hexadecimal strings: the same bits wherever they are read."""
    return [hexadecimal(v) for v in values] if isinstance(values, list | tuple) else float(values).hex()


def floats(values: Any) -> Any:
    """Inverse of `hexadecimal`; lists become tuples."""
    return tuple(floats(v) for v in values) if isinstance(values, list | tuple) else float.fromhex(values)


def write(package: Package, folder: Path, force: bool = False) -> Path:
    """Write `package` as `folder`, beside it first and then renamed. Raises `OutputError` where it stands already."""
    from safetensors.numpy import save

    if folder.exists() and not force:
        raise OutputError(f"{folder}: exists; give another name, or --force to replace it")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    record = {
        "format": FORMAT,
        "name": package.name,
        "family": package.family,
        "fingerprint": package.fingerprint,
        "about": dict(package.about),
        "network": dict(package.network),
        "constants": dict(package.constants),
    }
    try:
        beside.mkdir(parents=True)
        (beside / "model.json").write_text(json.dumps(record, indent=1) + "\n")
        (beside / "weights.safetensors").write_bytes(save({k: np.ascontiguousarray(v) for k, v in package.weights.items()}))
        if folder.exists():
            for name in ("model.json", "weights.safetensors"):
                (beside / name).replace(folder / name)
            beside.rmdir()
        else:
            beside.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return folder


def read(folder: Path) -> Package:
    """Read and check a model folder. Raises `PackageError` saying what is missing or differs."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        record = json.loads((folder / "model.json").read_text())
        weights = load((folder / "weights.safetensors").read_bytes())
    except FileNotFoundError as error:
        raise PackageError(f"{folder}: not a model folder: {Path(error.filename).name} is missing") from None
    except (OSError, ValueError, SafetensorError, struct.error) as error:
        raise PackageError(f"{folder}: the model cannot be read: {error}") from None
    missing = [
        k for k in ("format", "name", "family", "fingerprint", "network", "constants") if not isinstance(record, dict) or k not in record
    ]
    if missing:
        raise PackageError(f"{folder}/model.json: lacks {', '.join(missing)}")
    if record["format"] != FORMAT:
        raise PackageError(f"{folder}/model.json: package format {record['format']}, expected {FORMAT}; a newer uqdm may read it")
    package = Package(record["name"], record["family"], record["network"], record["constants"], weights, record.get("about", {}), folder)
    if package.fingerprint != record["fingerprint"]:
        raise PackageError(
            f"{folder}: weights or constants differ from the fingerprint in model.json "
            f"(expected {record['fingerprint'][:16]}, found {package.fingerprint[:16]}); the folder is damaged, get it again"
        )
    return package


def _places() -> list[Path]:
    """Folders in which models are looked for by name: UQDM_MODELS (like PATH), then the shipped ones."""
    return [Path(p) for p in os.environ.get("UQDM_MODELS", "").split(os.pathsep) if p] + [SHIPPED]


def find(name_or_path: str | Path) -> Path:
    """The folder of a model: a path to one, or a name in one of the model places. Raises `UnknownModelError`."""
    direct = Path(name_or_path)
    if (direct / "model.json").is_file():
        return direct
    for place in _places():
        if (place / name_or_path / "model.json").is_file():
            return place / name_or_path
    known = ", ".join(listing.name for listing in available()) or "none"
    raise UnknownModelError(f"{name_or_path}: no such model; known: {known}. Give a model folder, or add its parent to UQDM_MODELS")


def available() -> list[Listing]:
    """Models that can be asked for by name, first found first; broken folders are left out."""
    found: dict[str, Listing] = {}
    for place in _places():
        for path in sorted(place.glob("*/model.json")) if place.is_dir() else ():
            try:
                package = read(path.parent)
            except PackageError:
                continue
            about = str(package.about.get("description", ""))
            listing = Listing(path.parent.name, package.family, about, package.parameters, path.parent, package.fingerprint)
            found.setdefault(path.parent.name, listing)
    return list(found.values())
