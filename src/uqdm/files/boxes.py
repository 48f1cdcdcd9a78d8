"""Boxes of the ISO base media file format, which JPEG 2000 and AVIF files are made of. Knows no
kind of box.
"""

import struct
from collections.abc import Iterator


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and contents of each box. Raises `ValueError`, `struct.error` if one is cut."""
    at = 0
    while at < len(data):
        size, name, head = *struct.unpack_from(">I4s", data, at), 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            raise ValueError(f"the box {name.decode('latin-1')} is cut")
        yield name, data[at + head : at + size]
        at += size
