"""Which model: by name, by path, by what a file says; and codecs of models, opened once. Knows
nothing of what a model holds.

1. The default is the package's own.
2. A name is that of a model of the package, or else of one in the folders that UQDM_MODELS lists.
3. A path is a folder: a `Path`, or text with a slash or a dot in front (`./mine`).
4. A file names its model and the beginning of its fingerprint; a compact file has no name. That
   model is looked for in the same places.

What lies in the current folder never decides, unless it is named as a path.
"""

import dataclasses
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from uqdm import bundle as package
from uqdm import sources
from uqdm.errors import FingerprintError, PackageError, UnknownModelError
from uqdm.format import MAX_PIXELS, ChunkReader, Header, parse
from uqdm.goals import Goal, Reached

if TYPE_CHECKING:
    from uqdm.codec import Codec
    from uqdm.sources import Source

SHIPPED = Path(__file__).parent / "weights"
DEFAULT = "photo"
VARIABLE = "UQDM_MODELS"  # folders of model folders, written like PATH


@dataclasses.dataclass(frozen=True)
class Listing:
    """A model that can be asked for by name. `default` says that it is taken if none is named."""

    name: str
    family: str
    description: str
    parameters: int
    path: Path
    fingerprint: str
    default: bool = False


# --- where models are


def places() -> list[Path]:
    """Folders in which models are looked for by name: the package's, then those of UQDM_MODELS, in
    their order.
    """
    return [SHIPPED] + [Path(p) for p in os.environ.get(VARIABLE, "").split(os.pathsep) if p]


def find(name_or_path: str | os.PathLike[str] = DEFAULT) -> Path:
    """The folder of a model, by name or by path (see above). Raises `UnknownModelError`."""
    text = os.fspath(name_or_path)
    if not isinstance(name_or_path, str) or text.startswith(".") or {os.sep, os.altsep, "/"} & set(text):
        if not (Path(text) / "model.json").is_file():
            raise UnknownModelError(f"{text}: no model folder: there is no {Path(text) / 'model.json'}")
        return Path(text)
    for place in places():
        if text and (place / text / "model.json").is_file():
            return place / text
    hint = f"Give a folder as a path (./{text}), or add its parent to {VARIABLE}"
    if text and (Path(text) / "model.json").is_file():
        hint = f"There is a folder of that name here: to mean it, write ./{text}"
    raise UnknownModelError(f"{text or repr(text)}: no model of that name; known: {_known()}. {hint}")


def find_for(name: str, fingerprint: str) -> Path:
    """The folder of the model that wrote a file, by the name in it ("" where it has none) and the
    beginning of its fingerprint (hexadecimal).

    Raises `FingerprintError` if the models of that name are others, and `UnknownModelError` if
    there is none.
    """
    others = []
    for folder, record in _described():
        if record["fingerprint"].startswith(fingerprint):
            return folder
        if name in (record["name"], folder.name):
            others.append(f"{folder} ({record['fingerprint'][:16]})")
    if others:
        raise FingerprintError(
            f"the file was written with model {name!r}, fingerprint {fingerprint}; here are only others of that name: "
            f"{', '.join(others)}. Get that version of the model, and give its folder with --model"
        )
    named = f"model {name!r} ({fingerprint})" if name else f"the model of fingerprint {fingerprint}"
    raise UnknownModelError(
        f"the file needs {named}, which is not here; known: {_known()}. Give its folder with"
        f" --model ./FOLDER, or add the folder's parent to {VARIABLE}"
    )


def folder_for(header: Header, model: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the model that a file asks for, or of `model`, if one is given. Raises what
    `find` and `find_for` raise.
    """
    return find(model) if model is not None else find_for(header.model, header.fingerprint.hex())


def _described() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folders in the model places with their descriptions. Weights are not read, and broken folders
    are left out.
    """
    for place in places():
        for path in sorted(place.glob("*/model.json")) if place.is_dir() else ():
            try:
                yield path.parent, package.describe(path.parent)
            except PackageError:
                continue


def _known() -> str:
    return ", ".join(sorted({folder.name for folder, _ in _described()})) or "none"


def available() -> list[Listing]:
    """Models that can be asked for by name. The first one found counts; broken folders are left
    out.
    """
    found: dict[str, Listing] = {}
    for folder, _ in _described():
        if folder.name in found:
            continue
        try:
            model = package.read(folder)
        except PackageError:
            continue
        about = str(model.about.get("description", ""))
        default = folder.name == DEFAULT
        found[folder.name] = Listing(
            folder.name, model.family, about, model.parameters, folder, model.fingerprint, default
        )
    return list(found.values())


# --- codecs


def load(
    name_or_path: str | os.PathLike[str] = DEFAULT,
    *,
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
    max_pixels: int | None = None,
    backend: str | None = None,
    coder: str | None = None,
) -> "Codec":
    """The codec of a model: a name (see `list_models`), or the path of a model folder (a `Path`, or
    text such as "./mine").

    - `device` is where the network runs ("cpu", "cuda", ...).
    - `threads` is how many CPU threads it may use, 1 to 256; by default as many as this process has
      processors.
    - `backend` is what runs it: "onnxruntime", "torch" or "numpy". `coder` is the implementation of
      the range coder: "numba", "constriction" or "plain". By default they are the fastest that are
      installed and fit. No bit depends on them.
    - `precision` is "float64" or "float32", the arithmetic of an imported float model; by default
      float64. Files of float32 decode only on a machine of the same kind. Exact models give the
      same bits in both.
    - `max_pixels` refuses larger pictures before anything is allocated (by default 2**26).

    Raises `UnknownModelError`, `PackageError` or `BackendError`; `ValueError` or `TypeError` for an
    argument that is none of these.
    """
    from uqdm.codec import Codec

    return Codec(package.read(find(name_or_path)), device, threads, precision, max_pixels, backend, coder)


def open_for(data: "Source", *, model: str | os.PathLike[str] | None = None, **options: Any) -> "Codec":
    """The codec that a file's header asks for. `model` is its name or path, if what the file says
    does not lead to it.

    `options` are those of `load` except `precision`, which the file knows. Of a file object only
    the header is read. Raises `UnknownModelError`, `FingerprintError`, and what the header's reader
    raises.
    """
    return CodecPool(**options).open_for(data, model)


def truncate(data: "Source", *, model: str | os.PathLike[str] | None = None, **goal: Unpack[Reached]) -> bytes:
    """The first bytes of a file: a file too, in which nothing is encoded again.

    Exactly one goal must be given: `step=`, `bpp=`, `target_size=`, `psnr=` or `max_error=`.
    `rate.beginning` says what each takes, and raises. `model`: see `open_for`; only `max_error` asks
    for the model, and raises what that does.
    """
    from uqdm import rate

    wanted = Goal(**goal)
    if wanted == Goal():
        raise ValueError("nothing is asked for: give exactly one of step, bpp, target_size, psnr and max_error")
    data, own = sources.read(data), None
    if wanted.max_error is not None:
        own = package.read(folder_for(parse(data, steps=0, max_pixels=None).header, model))
    return rate.beginning(data, wanted, own)


class CodecPool:
    """Codecs that are open, each opened once. `options` are those of `load`."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._open: dict[tuple[Any, ...], Codec] = {}
        self._lock = threading.RLock()

    def load(self, name_or_path: str | os.PathLike[str] = DEFAULT) -> "Codec":
        """As `load`."""
        return self._codec(find(name_or_path).resolve())

    def open_for(self, data: "Source", model: str | os.PathLike[str] | None = None) -> "Codec":
        """As `open_for`."""
        from uqdm import codec

        with sources.opened(data) as stream:
            header = ChunkReader(stream, max_pixels=self._options.get("max_pixels") or MAX_PIXELS).header
        found = self._codec(
            folder_for(header, model).resolve(),
            precision=header.arithmetic if header.arithmetic in codec.PRECISIONS else None,
        )
        found.match(header)
        return found

    def _codec(self, folder: Path, **more: Any) -> "Codec":
        key = (folder, *more.values())
        with self._lock:
            if key not in self._open:
                self._open[key] = load(folder, **(self._options | more))
            return self._open[key]
