"""Directories of tags, as TIFF and EXIF have them: bytes to entries and back. Knows no picture and
few tags.

Values are kept as bytes, in little-endian order whatever the order of the file. So nothing is
interpreted on the way.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Union

EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005  # tags whose value is the place of another directory
POINTERS = frozenset({EXIF, GPS, INTEROPERABILITY})
ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNITS = {5: 4, 10: 4}  # a rational is two numbers
_MOST = 1 << 16  # entries


@dataclass(frozen=True)
class Entry:
    """The values of a tag. `place` says where they lie in the file that was read; it is 0 for a new
    entry.
    """

    type: int
    count: int
    data: bytes
    place: int = 0

    def numbers(self) -> list[int]:
        """The values of a whole-number type. Raises `ValueError` for other types."""
        kind = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(self.type)
        if kind is None:
            raise ValueError(f"values of type {self.type} where whole numbers are expected")
        return list(struct.unpack(f"<{self.count}{kind}", self.data))


Directory = dict[int, Entry]
Tree = Mapping[int, Union[Entry, "Tree"]]  # a directory whose pointers are directories too


def number(type: int, *values: int) -> Entry:
    """An entry of whole numbers, or of a rational's two."""
    code = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "I"}[type]
    return Entry(type, len(values) // (2 if type == RATIONAL else 1), struct.pack(f"<{len(values)}{code}", *values))


def header(data: bytes) -> tuple[str, bool, int]:
    """Byte order ("<" or ">"), whether the file is a BigTIFF, and where the first directory is.
    Raises `ValueError`.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise ValueError("no TIFF header")
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version == 42:
        return order, False, struct.unpack_from(order + "I", data, 4)[0]
    if version == 43 and struct.unpack_from(order + "HH", data, 4) == (8, 0):
        return order, True, struct.unpack_from(order + "Q", data, 8)[0]
    raise ValueError(f"TIFF version {version}")


def read(data: bytes, at: int, order: str, big: bool = False) -> tuple[Directory, int]:
    """The directory at a place, and where the next one is (0: nowhere). Raises `ValueError`,
    `struct.error` if it is cut.
    """
    count_code, entry_code, room = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    (count,) = struct.unpack_from(order + count_code, data, at)
    if count > _MOST:
        raise ValueError(f"a directory of {count} tags")
    at += struct.calcsize("=" + count_code)
    found: Directory = {}
    total = 0
    for _ in range(count):
        tag, kind, values = struct.unpack_from(order + entry_code, data, at)
        at += struct.calcsize("=" + entry_code)
        size = _SIZES.get(kind, 0) * values
        place = at if size <= room else struct.unpack_from(order + ("Q" if big else "I"), data, at)[0]
        at += room
        if not _SIZES.get(kind):
            continue  # a type that is not defined has no value
        if place + size > len(data):
            raise ValueError(f"tag {tag} is cut")
        total += size
        if total > len(data):
            raise ValueError("the values of two tags overlap")
        found.setdefault(tag, Entry(kind, values, _swapped(data[place : place + size], kind, order), place))
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, at)
    return found, following


def _swapped(data: bytes, kind: int, order: str) -> bytes:
    """Values in little-endian order. Bytes, text and undefined values are the same in any order."""
    unit = _UNITS.get(kind, _SIZES[kind])
    if order == "<" or unit == 1:
        return data
    return b"".join(data[i : i + unit][::-1] for i in range(0, len(data), unit))


def tree(data: bytes, directory: Directory, order: str, big: bool = False) -> dict[int, "Entry | Tree"]:
    """A directory with those that it points to. A broken one raises what `read` raises."""
    return _tree(data, directory, order, big, (EXIF, GPS))


def _tree(
    data: bytes, directory: Directory, order: str, big: bool, below: tuple[int, ...]
) -> dict[int, "Entry | Tree"]:
    """Follows the pointers in `below`. Others are left out, so a directory cannot lead to
    itself.
    """
    found: dict[int, Entry | Tree] = {}
    for tag, entry in directory.items():
        if tag in below:
            inner, _ = read(data, entry.numbers()[0], order, big)
            found[tag] = _tree(data, inner, order, big, (INTEROPERABILITY,) if tag == EXIF else ())
        elif tag not in POINTERS:
            found[tag] = entry
    return found


def exif_tree(blob: bytes) -> tuple[dict[int, "Entry | Tree"], bool]:
    """The directories of an EXIF blob, and whether it has a second picture (a thumbnail). Raises
    `ValueError`, `struct.error`.
    """
    order, big, at = header(blob)
    directory, following = read(blob, at, order, big)
    return tree(blob, directory, order, big), following != 0


def pack(root: "Tree", at: int) -> bytes:
    """A directory and all below it, to be put at `at`, which is even, in a little-endian file.

    Raises `ValueError` beyond 4 GiB.
    """
    if at % 2:
        raise ValueError("directories lie at even places")
    tags = sorted(root)
    values = at + 2 + 12 * len(tags) + 4
    table, rest = struct.pack("<H", len(tags)), b""
    for tag in tags:
        value = root[tag]
        place = values + len(rest)
        if isinstance(value, Entry):
            table += struct.pack("<HHI", tag, value.type, value.count)
            if len(value.data) <= 4:
                table += value.data.ljust(4, b"\0")
            else:
                table += struct.pack("<I", _fits(place))
                rest += value.data + bytes(len(value.data) % 2)
        else:
            table += struct.pack("<HHII", tag, LONG, 1, _fits(place))
            inner = pack(value, place)
            rest += inner + bytes(len(inner) % 2)
    return table + struct.pack("<I", 0) + rest


def blob(root: "Tree") -> bytes:
    """An EXIF blob, from its TIFF header on."""
    return b"II*\0" + struct.pack("<I", 8) + pack(root, 8)


def resolution(x: Sequence[int], y: Sequence[int], unit: int) -> dict[int, Entry]:
    """The entries of a resolution: two fractions and a unit (2: inch, 3: centimetre)."""
    return {
        X_RESOLUTION: number(RATIONAL, *x),
        Y_RESOLUTION: number(RATIONAL, *y),
        RESOLUTION_UNIT: number(SHORT, unit),
    }


def resolution_of(exif: bytes) -> tuple[Fraction, Fraction] | None:
    """Pixels per inch in x and y, as an EXIF blob says them, or None."""
    try:
        found, _ = exif_tree(exif)
        entries = [found[tag] for tag in (X_RESOLUTION, Y_RESOLUTION)]
        unit = found.get(RESOLUTION_UNIT)
        name = unit.numbers()[0] if isinstance(unit, Entry) else 2
        scale = {2: Fraction(1), 3: Fraction(254, 100)}[name]
        x, y = (
            Fraction(*struct.unpack("<II", entry.data[:8])) * scale for entry in entries if isinstance(entry, Entry)
        )
    except (ValueError, KeyError, IndexError, struct.error, ZeroDivisionError):
        return None
    return (x, y) if x > 0 and y > 0 else None


def _fits(place: int) -> int:
    if place >= 1 << 32:
        raise ValueError("more than 4 GiB, which TIFF cannot hold")
    return place
