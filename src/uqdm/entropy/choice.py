"""Which of the coder's implementations work on this machine. Knows nothing of what they do.

They write the same bytes and read the same symbols; only their speed differs. Each is imported when
it is first asked for: Numba's import alone takes a second.
"""

import functools
import importlib
from typing import Any

PREFERENCE = {
    "numba": "fast",
    "constriction": "native",
    "plain": "plain",
}  # the fastest first: name, module of this folder


@functools.cache
def _module(name: str) -> Any:
    """The module, or None if what it needs is missing or does not work."""
    try:
        module = importlib.import_module(f"uqdm.entropy.{PREFERENCE[name]}")
        module.check()
    except Exception:  # a broken installation may raise anything, and the others do the same work
        return None
    return module


def load(name: str) -> Any:
    """The module of the implementation `name`. Raises `ValueError` if there is none."""
    if name not in PREFERENCE or (module := _module(name)) is None:
        raise ValueError(f"coder {name!r} is not available here; there are {', '.join(available())}")
    return module


def available() -> tuple[str, ...]:
    """Names of the implementations that work here, in order of preference."""
    return tuple(name for name in PREFERENCE if _module(name) is not None)


@functools.cache
def fastest() -> str:
    """The first of `available`, without looking at the others."""
    return next(name for name in PREFERENCE if _module(name) is not None)


def compiles() -> bool:
    """Whether Numba compiles in this process, which takes seconds, as no earlier one has done it."""
    try:
        return not importlib.import_module(f"uqdm.entropy.{PREFERENCE['numba']}").KEPT
    except Exception:  # see above
        return False


def resolve(name: str | None) -> str:
    """`name`, or for None the fastest one here."""
    return fastest() if name is None else name
