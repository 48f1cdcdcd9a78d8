"""Which families there are: those of this package, and what others register. A family is imported
when it is first asked for.
"""

import importlib
from typing import Any

from uqdm.bundle import Package
from uqdm.errors import DamagedError, FingerprintError, PackageError
from uqdm.families.base import Family, Networks, Opening, Walk
from uqdm.format import Header

BUILT_IN = {
    "uqdm": "uqdm.families.uqdm",
    "vdm": "uqdm.families.uqdm",
    "nested": "uqdm.families.nested",
    "pyramid": "uqdm.families.pyramid",
}
_registered: dict[str, Family] = {}


def register(family: Family) -> None:
    """Makes a family known, for the codec, the command line, training and evaluation. A second time
    replaces the first.
    """
    _registered[family.name] = family


def modules() -> tuple[str, ...]:
    """Modules that registered families which are not this package's: a process of its own imports
    them to know these too.
    """
    found = (family.config.__module__ for family in _registered.values())
    return tuple(dict.fromkeys(name for name in found if not name.startswith("uqdm.")))


def names() -> tuple[str, ...]:
    """Of all families."""
    return tuple(dict.fromkeys([*BUILT_IN, *_registered]))


def family(name: str) -> Family:
    """The family of that name. Raises `ValueError`, naming the families, where there is none."""
    if name not in _registered:
        if name not in BUILT_IN:
            raise ValueError(f"family is {name!r}; expected one of {', '.join(names())}")
        importlib.import_module(BUILT_IN[name])  # its folder registers it
    return _registered[name]


def floats(name: str) -> Any:
    """The family's float models (see `families.floats.Floats`). Needs PyTorch."""
    return importlib.import_module(family(name).floats).FLOATS


def of(model: Package) -> Family:
    """The family of a package. Raises `PackageError` where it is unknown, or has no streams."""
    try:
        found = family(model.family)
    except ValueError as error:
        raise PackageError(f"{model.name}: {error}") from None
    if found.walk is None:
        raise PackageError(f"{model.name}: models of the family {model.family!r} have no streams")
    return found


def mode_of(model: Package, header: Header) -> str:
    """The entropy mode of a file of that package.

    Raises `FingerprintError` for the file of another model, `DamagedError` for a mode that the
    family has not.
    """
    if not model.fingerprint.startswith(header.fingerprint.hex()):
        named = f"model {header.model!r}, fingerprint" if header.model else "the model of fingerprint"
        raise FingerprintError(
            f"the file was written with {named} {header.fingerprint.hex()}; "
            f"this is {model.name!r}, fingerprint {model.fingerprint[:16]}. Get that version of the model"
        )
    own = of(model)
    found = own.mode(header.extra)
    if found not in own.modes:
        known = ", ".join(own.modes)
        raise DamagedError(
            f"header: its sub-header says mode {found}; model {model.name!r}, which it names, has {known} only"
        )
    return found


def networks(model: Package, opening: Opening) -> Networks:
    """A package's networks, running. Raises `BackendError` where nothing here runs them,
    `PackageError` where they are broken.
    """
    own = of(model)
    assert own.networks is not None
    return own.networks(model, opening)


def walk(model: Package, mode: str, networks: Any) -> Walk:
    """The walk of a package in an entropy mode, on running networks. Raises `PackageError`,
    `ValueError` for the mode.
    """
    own = of(model)
    if mode not in own.modes:
        known = ", ".join(own.modes)
        raise ValueError(f"mode {mode!r}; {model.name} is of the family {model.family!r}, which has {known} only")
    assert own.walk is not None
    return own.walk(model, mode, networks)
