"""What a GIF file holds. It always has a palette, so it is only read with conversion."""

import struct

from uqdm.files.facts import Facts, after, frames


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `struct.error`, `IndexError` if the file is broken."""
    width, height, packed = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (packed & 7) + 1) * (packed >> 7)
    count, clear, dropped = 0, False, []
    while data[at] != 0x3B:
        if data[at] == 0x2C:
            left, top, w, h, local = struct.unpack_from("<HHHHB", data, at + 1)
            if count == 0 and (left, top, w, h) != (0, 0, width, height):
                clear = True  # what the first picture does not cover is transparent
            count += 1
            at = _after(data, at + 10 + (3 << (local & 7) + 1) * (local >> 7) + 1)
        elif data[at] == 0x21:
            if data[at + 1] == 0xF9 and count == 0:
                clear = clear or bool(data[at + 3] & 1)
            elif data[at + 1] == 0xFE:
                dropped.append("a comment")
            elif data[at + 1] == 0xFF and data[at + 3 : at + 14] not in (b"NETSCAPE2.0", b"ANIMEXTS1.0"):
                dropped.append(f"application data ({data[at + 3 : at + 11].decode('latin-1')})")
            at = _after(data, at + 2)
        else:
            raise ValueError(f"no block at byte {at}")
    if count == 0:
        raise ValueError("no picture in it")
    reasons, lost = frames(count)
    return Facts(
        "GIF",
        width,
        height,
        alpha=clear,
        reasons=(*reasons, "a palette"),
        dropped=(*dict.fromkeys(dropped), *after(data, at + 1)),
        lost=lost,
    )


def _after(data: bytes, at: int) -> int:
    """The place after a sequence of sub-blocks."""
    while data[at]:
        at += 1 + data[at]
    return at + 1
