"""Frozen records that JSON holds. Their fields' types are checked when they are made. Knows nothing
of what they describe.
"""

import dataclasses
import typing
from typing import Any


def check_types(record: Any) -> None:
    """Raises `ValueError` if a field does not have its declared type. An int counts as a float, but
    True is no number.
    """
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if typing.get_origin(field.type) is tuple:  # of counts, or of rows of counts, at any depth
            if not _counts(value, field.type):
                raise ValueError(f"{field.name} is {value!r}; expected integers in rows, such as [[3, 5], [4, 7]]")
            continue
        accepted = (int, float) if field.type is float else field.type
        if not isinstance(value, accepted) or (isinstance(value, bool) and field.type is not bool):  # type: ignore[arg-type]
            raise ValueError(f"{field.name} is {value!r}; expected {getattr(field.type, '__name__', field.type)}")


def one_of(record: Any, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(record, name) not in allowed:
        raise ValueError(f"{name} is {getattr(record, name)!r}; expected one of {', '.join(allowed)}")


def frozen(value: Any) -> Any:
    """Lists, as JSON has them, as tuples."""
    return tuple(frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _counts(value: Any, kind: Any) -> bool:
    """Whether a value is what `tuple[int, ...]`, `tuple[tuple[int, ...], ...]`, ... declare."""
    if typing.get_origin(kind) is not tuple:
        return type(value) is int
    return isinstance(value, tuple) and all(_counts(one, typing.get_args(kind)[0]) for one in value)
