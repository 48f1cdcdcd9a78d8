"""Where the bytes of a `.uqdm` file come from: bytes, a path, or a binary file object. Knows
nothing of what they mean.

Whatever takes a file takes all three, and says so if it is given something else.
"""

import contextlib
import io
import os
from pathlib import Path
from typing import Any, BinaryIO

from uqdm.errors import FormatError

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
EXPECTED = "expected the bytes of a .uqdm file, its path, or a binary file object"


def is_one(data: Any) -> bool:
    """Whether it is one file, and not an iterable of files or something else. An open file is one,
    though it iterates.
    """
    return isinstance(data, bytes | bytearray | memoryview | str | os.PathLike) or hasattr(data, "read")


def read(data: Source) -> bytes:
    """All bytes; of a file object from its current place.

    Raises `FormatError` for a path that cannot be read, and `TypeError` for what is no source.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    with opened(data) as stream:
        found = stream.read()
        return found if isinstance(found, bytes) else bytes(found)


def opened(data: Source) -> contextlib.AbstractContextManager[BinaryIO]:
    """A binary stream for a `with` block, which closes only what was opened here. Raises what
    `read` raises.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return io.BytesIO(data)
    if isinstance(data, str | os.PathLike):
        try:
            return Path(data).open("rb")
        except (OSError, ValueError) as error:  # ValueError: the path has a null character
            raise FormatError(
                f"{os.fspath(data)!s}: cannot be read: {getattr(error, 'strerror', None) or error}"
            ) from None
    if not hasattr(data, "read"):
        raise TypeError(f"{EXPECTED}; found {type(data).__name__}")
    if isinstance(data, io.TextIOBase):  # type: ignore[unreachable]  # what types forbid, callers do
        raise TypeError(f"{EXPECTED}; found a file that is open as text: open it with mode 'rb'")
    return contextlib.nullcontext(data)
