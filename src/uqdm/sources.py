"""Where the bytes of a `.uqdm` file come from: themselves, a path, or a binary file object; knows nothing of what they mean.

The same everywhere: whatever takes a file takes all three, and says so where it is given something else.
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
    """Whether it is one file, rather than an iterable of files or nothing that is understood. An open file is one, though it iterates."""
    return isinstance(data, bytes | bytearray | memoryview | str | os.PathLike) or hasattr(data, "read")


def read(data: Source) -> bytes:
    """All bytes; of a file object from where it stands. Raises `FormatError` for a path that cannot be read, `TypeError` for no source."""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    with opened(data) as stream:
        found = stream.read()
        return found if isinstance(found, bytes) else bytes(found)


def opened(data: Source) -> contextlib.AbstractContextManager[BinaryIO]:
    """A binary stream, to be used in a `with` block, which closes what was opened here and nothing else. Raises as `read`."""
    if isinstance(data, bytes | bytearray | memoryview):
        return io.BytesIO(data)
    if isinstance(data, str | os.PathLike):
        try:
            return Path(data).open("rb")
        except (OSError, ValueError) as error:  # ValueError: a null character
            raise FormatError(f"{os.fspath(data)!s}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not hasattr(data, "read"):
        raise TypeError(f"{EXPECTED}; found {type(data).__name__}")
    if isinstance(data, io.TextIOBase):  # type: ignore[unreachable]  # what types forbid, callers do
        raise TypeError(f"{EXPECTED}; found a file that is open as text: open it with mode 'rb'")
    return contextlib.nullcontext(data)
