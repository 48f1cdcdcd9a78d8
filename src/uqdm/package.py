"""A model as the codec uses it: a folder of `model.json` and `weights.safetensors`; read, checked and written here.

`model.json` holds the name, the family, the network's description, the constants of the arithmetic (floats as hexadecimal,
so that they are the same bits everywhere) and what a person wants to know. The fingerprint is the SHA-256 of what decides
a decoder's arithmetic: family, network, constants and weights; names and descriptions do not enter. Files carry its first
eight bytes. Knows nothing of what the constants mean, nor where
models are looked for (`library.py`).
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import OutputError, PackageError, UqdmError

FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Package:
    """One model. `constants` and `network` are plain JSON values; weights are NumPy arrays by name.

    Two are equal where they have one name and compute the same.
    """

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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Package) and (self.name, self.fingerprint) == (other.name, other.fingerprint)

    def __hash__(self) -> int:
        return hash((self.name, self.fingerprint))

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(array.size for array in self.weights.values())


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


def tuples(values: Any) -> Any:
    """Lists, nested, as tuples."""
    return tuple(tuples(v) for v in values) if isinstance(values, list) else values


def write(package: Package, folder: Path, force: bool = False) -> Path:
    """Write `package` as `folder`, beside it first and then renamed. Raises `OutputError` where it stands already."""
    from safetensors.numpy import save

    _check_name(package.name, folder, OutputError)
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
        if folder.exists():  # whatever else lies there, such as a model card, moves with it
            for other in folder.iterdir():
                if other.name not in {"model.json", "weights.safetensors"} and other.is_file():
                    (beside / other.name).write_bytes(other.read_bytes())
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            beside.rename(folder)
            shutil.rmtree(old)
        else:
            beside.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _check_name(name: str, folder: Path, error: type[UqdmError]) -> None:
    """A name goes into files, which carry at most 64 bytes of it, and from files into look-ups."""
    if not name or len(name.encode()) > 64 or not name.isprintable() or name.startswith(".") or set(name) & set("/\\"):
        raise error(f"{folder}: {name!r} cannot be a model's name: 1 to 64 bytes, printable, no slashes, no dot in front")


_FIELDS = {"format": int, "name": str, "family": str, "fingerprint": str, "network": dict, "constants": dict}


def describe(folder: Path) -> dict[str, Any]:
    """model.json, its fields checked; weights unread. Raises `PackageError`."""
    try:
        record = json.loads((folder / "model.json").read_text())
    except FileNotFoundError:
        raise PackageError(f"{folder}: not a model folder: model.json is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PackageError(f"{folder}/model.json: cannot be read: {error}") from None
    wrong = [k for k, kind in _FIELDS.items() if not isinstance(record, dict) or not isinstance(record.get(k), kind)]
    if wrong:
        raise PackageError(f"{folder}/model.json: {', '.join(wrong)} missing or of the wrong kind")
    if record["format"] != FORMAT:
        raise PackageError(f"{folder}/model.json: package format {record['format']}, expected {FORMAT}; a newer uqdm may read it")
    _check_name(record["name"], folder, PackageError)
    if not isinstance(record.get("about"), dict):
        record["about"] = {}
    return dict(record)


def read(folder: Path) -> Package:
    """Read and check a model folder. Raises `PackageError` saying what is missing or differs."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    record = describe(folder)
    try:
        weights = load((folder / "weights.safetensors").read_bytes())
    except FileNotFoundError:
        raise PackageError(f"{folder}: not a model folder: weights.safetensors is missing") from None
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise PackageError(f"{folder}/weights.safetensors: cannot be read: {error}") from None
    package = Package(record["name"], record["family"], record["network"], record["constants"], weights, record["about"], folder)
    if package.fingerprint != record["fingerprint"]:
        raise PackageError(
            f"{folder}: weights or constants differ from the fingerprint in model.json "
            f"(expected {record['fingerprint'][:16]}, found {package.fingerprint[:16]}); the folder is damaged, get it again"
        )
    return package
