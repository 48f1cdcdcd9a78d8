"""A model as the codec uses it: a folder of `model.json` and `weights.safetensors`, which is read,
checked and written here.

`model.json` holds the name, the family, the network's description, the constants of the arithmetic
(floats as hexadecimal, so that they are the same bits everywhere) and what a person wants to know.
`weights.safetensors` holds arrays by name. A large array of 16-bit integers may be stored as two,
its high bytes and its low bytes. The fingerprint is the SHA-256 of what decides a decoder's
arithmetic: family, network, constants and weights. Names and descriptions do not enter it. Files
carry its first eight bytes. Knows nothing of what the constants mean, nor where models are looked
for (`library.py`).
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm import atomic
from uqdm.errors import OutputError, PackageError, UqdmError

FORMAT = 1
HALVED = 256  # numbers in an array that is worth being stored in halves
HIGH, LOW = ".high", ".low"  # what the names of the halves end in
MOST_DESCRIPTION = 1 << 24  # bytes of model.json
MOST_WEIGHTS = 1 << 33  # bytes of weights.safetensors


@dataclasses.dataclass(frozen=True, eq=False)
class Package:
    """One model. `constants` and `network` are plain JSON values; weights are NumPy arrays by name.

    Two models are equal if they have one name and compute the same.
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
        return fingerprint_of(self.family, self.network, self.constants, self.weights)

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


def fingerprint_of(
    family: str, network: Mapping[str, Any], constants: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]
) -> str:
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


def check_target(folder: str | Path, force: bool = False) -> None:
    """Raises, before the work is done, the `OutputError` that writing a model there would raise, if
    it can be known.
    """
    folder = Path(folder)
    _check_name(folder.resolve().name, folder, OutputError)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; a model is a folder")
    if folder.exists() and not force:
        raise OutputError(f"{folder}: exists; give another name, or --force to replace it")
    above = next(place for place in folder.resolve().parents if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(
            f"{folder}: cannot be written: {above} is {'write-protected' if above.is_dir() else 'a file'}"
        )


def write(package: Package, folder: Path, force: bool = False) -> Path:
    """Writes `package` as `folder`, beside its place first and then renamed. Raises `OutputError`
    if the folder exists already.
    """
    from safetensors.numpy import save

    _check_name(package.name, folder, OutputError)
    check_target(folder, force)
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
        with atomic.folder(folder) as beside:
            (beside / "model.json").write_text(json.dumps(record, indent=1) + "\n")
            (beside / "weights.safetensors").write_bytes(save(_halved(package.weights)))
            # whatever else is in the folder, such as a model card, moves with it
            for other in folder.iterdir() if folder.exists() else ():
                if other.name not in {"model.json", "weights.safetensors"}:
                    (shutil.copytree if other.is_dir() else shutil.copy2)(other, beside / other.name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return folder


def _halved(weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Large arrays of 16 bits as their high bytes and their low bytes: a wheel packs them a tenth
    smaller than side by side.
    """
    found = {}
    for name, array in weights.items():
        if array.dtype == np.int16 and array.size >= HALVED:
            found[name + HIGH], found[name + LOW] = (array >> 8).astype(np.int8), (array & 255).astype(np.uint8)
        else:
            found[name] = np.ascontiguousarray(array)
    return found


def _joined(path: Path, stored: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Inverse of `_halved`. Arrays that were stored whole stay as they are. Raises
    `PackageError`.
    """
    found = {}
    for name, array in stored.items():
        if name.endswith(HIGH) and array.dtype == np.int8:
            whole = name.removesuffix(HIGH)
            low = stored.get(whole + LOW)
            if low is None or low.dtype != np.uint8 or low.shape != array.shape or whole in stored:
                raise PackageError(
                    f"{path}: {name} has no low bytes {whole + LOW} of its shape, or {whole} is there twice"
                )
            found[whole] = (array.astype(np.int16) << 8) | low
        elif not (name.endswith(LOW) and name.removesuffix(LOW) + HIGH in stored):
            found[name] = array
    return found


def _check_name(name: str, folder: Path, error: type[UqdmError]) -> None:
    """Checks a name: it goes into files, which carry at most 64 bytes of it, and from files into
    look-ups.
    """
    if not name or not name.isprintable() or len(name.encode()) > 64 or name.startswith(".") or set(name) & set("/\\"):
        raise error(
            f"{folder}: {name!r} cannot be a model's name: 1 to 64 bytes, printable, no slashes, no dot in front"
        )


_FIELDS = {"format": int, "name": str, "family": str, "fingerprint": str, "network": dict, "constants": dict}


def _contents(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes. Raises `PackageError`."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise PackageError(f"{path}: not a file")
            if about.st_size > most:
                raise PackageError(f"{path}: {about.st_size:,} bytes; expected at most {most:,}")
            return file.read(most)
    except FileNotFoundError:
        raise PackageError(f"{path.parent}: not a model folder: {path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise PackageError(f"{path}: cannot be read: {error}") from None


def _at_once(path: str, flags: int) -> int:
    """Opens a file without waiting, because a named pipe may have no writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def describe(folder: Path) -> dict[str, Any]:
    """model.json with its fields checked; the weights are not read. Raises `PackageError`."""
    path = folder / "model.json"
    try:
        record = json.loads(_contents(path, MOST_DESCRIPTION), parse_constant=_no_number)
        wrong = [k for k, kind in _FIELDS.items() if not isinstance(record, dict) or type(record.get(k)) is not kind]
        if not wrong:
            _canonical(record)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path}: cannot be read: {error}") from None
    if wrong:
        raise PackageError(f"{path}: {', '.join(wrong)} missing or of the wrong kind")
    if record["format"] != FORMAT:
        raise PackageError(f"{path}: package format {record['format']}, expected {FORMAT}; a newer uqdm may read it")
    _check_name(record["name"], folder, PackageError)
    if not isinstance(record.get("about"), dict):
        record["about"] = {}
    return dict(record)


def read(folder: Path) -> Package:
    """Reads and checks a model folder. Raises `PackageError`, which says what is missing or
    differs.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    record = describe(folder)
    path = folder / "weights.safetensors"
    try:
        stored = load(_contents(path, MOST_WEIGHTS))
    except (ValueError, KeyError, TypeError, AttributeError, ImportError, OverflowError, SafetensorError) as error:
        raise PackageError(f"{path}: cannot be read: {type(error).__name__}: {error}") from None
    weights = _joined(path, stored)
    package = Package(
        record["name"], record["family"], record["network"], record["constants"], weights, record["about"], folder
    )
    if package.fingerprint != record["fingerprint"]:
        raise PackageError(
            f"{folder}: weights or constants differ from the fingerprint in model.json (expected"
            f" {record['fingerprint'][:16]!r}, found {package.fingerprint[:16]!r}); the folder is damaged, get it again"
        )
    return package
