"""The numbers of headers and chunks: varints and checks."""

import zlib

MAX_VARINT = 9  # bytes: 63 bits, for chunk lengths


def crc32(data: bytes, start: int) -> int:
    """The CRC-32 of ISO 3309, which zlib and PNG use. It is in every language's standard library.

    `start`: the CRC of what comes before.
    """
    return zlib.crc32(data, start)


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, lowest first, the high bit set on all but the last."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, at: int) -> tuple[int, int] | None:
    """Value and the position after it. None: cut, longer than 64 bits, or needless zeros at its
    end.
    """
    value = 0
    for i in range(10):
        if at + i >= len(data):
            return None
        byte = data[at + i]
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return None if (byte == 0 and i > 0) or value >= 1 << 64 else (value, at + i + 1)
    return None
