"""What a TIFF file holds: the tags of its first directory. And a writer of TIFF files, for this
package's pictures only.
"""

import struct
import zlib

from uqdm.errors import ImageError
from uqdm.files import ifd
from uqdm.files.facts import Facts, depth, frames
from uqdm.files.ifd import LONG, SHORT, UNDEFINED, Entry, Tree
from uqdm.picture import Picture, to_array

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
(WIDTH, HEIGHT, BITS, COMPRESSION, COLOURS, FILL_ORDER, STRIPS, SAMPLES, ROWS, SIZES) = (
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279)  # fmt: skip
PLANES, PREDICTOR, SUB_PICTURES, EXTRA, SAMPLE_FORMAT, XMP, ICC = 284, 317, 330, 338, 339, 700, 34675
_STRUCTURE = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291,
    292, 293, 317, 320, 321,
    322, 323, 324, 325, 326, 327, 328, 330, 332, 333, 334, 336, 337, 338, 339, 340, 341, 342, 343, 344, 345, 346,
    347, 351, 400, 401, 402,
    403, 404, 433, 434, 435, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 559, 700, 34675,
}  # fmt: skip
_DECODING = _STRUCTURE - {SUB_PICTURES, XMP, ICC}
_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_NAMES = {4: "a mask", 8: "Lab colours", 9: "Lab colours", 10: "Lab colours", 32803: "the raw values of a sensor (CFA)",
          32844: "LogL values", 32845: "LogLuv values", 34892: "the raw values of a sensor",
          51177: "a depth map"}  # fmt: skip
_JPEG = 7
# compressions that every build of the decoder has, and Zstandard, which some have
_UNPACKED = {1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 34925, 50000}
_STRAIGHT, _MULTIPLIED = 2, 1  # the meaning of an extra band
_MOST_PAGES = 1 << 12  # that are counted
_MOST = 1 << 20  # bytes of a tag's values; more is no description, but Photoshop's layers or the like


def look(data: bytes) -> Facts:
    """Raises `ValueError`, `struct.error`, `KeyError`, `IndexError` if the file is broken."""
    order, big, at = ifd.header(data)
    first, following = ifd.read(data, at, order, big)
    width, height = _one(first, WIDTH), _one(first, HEIGHT)
    if width < 1 or height < 1:
        raise ValueError(f"a size of {width} × {height}")
    samples, colours, packing = _one(first, SAMPLES, 1), _one(first, COLOURS), _one(first, COMPRESSION, 1)
    widths = first[BITS].numbers() if BITS in first else [1]
    kinds = set(first[SAMPLE_FORMAT].numbers()) if SAMPLE_FORMAT in first else {1}
    extra = first[EXTRA].numbers() if EXTRA in first else []
    bits = max(widths)
    reasons, lost = frames(_count(data, order, big, at, following))
    impossible: str | None = None
    own = {_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}.get(colours, 0)
    if not own:
        impossible = _NAMES.get(colours, f"colours of kind {colours}")
    elif packing not in _UNPACKED:
        impossible = f"a compression that is not decoded (number {packing})"
    elif samples < own or (len(widths) not in (1, samples) and samples > 1):
        raise ValueError(f"{samples} bands with {len(widths)} depths, for colours of kind {colours}")
    elif len(set(widths)) > 1:
        impossible = f"bands of different depths ({', '.join(map(str, widths))} bits)"
    elif len(kinds) > 1 or not kinds <= {1, 2, 3, 4}:
        impossible = f"values of the kinds {', '.join(map(str, sorted(kinds)))}"
    elif (kinds != {1} or bits > 16) and (samples > 1 or (bits != 32 and kinds != {2})):
        kind = {1: "integers", 2: "integers with a sign", 3: "float values", 4: "values of no defined kind"}[min(kinds)]
        impossible = f"{kind} of {bits} bits in {samples} band{'s' * (samples > 1)}"
    elif samples > own + 3 or (samples > own + 1 and colours != _RGB):
        impossible = f"{samples} bands"
    elif kinds == {3}:
        reasons += ("float values",)
    elif kinds == {2}:
        reasons += (f"{bits}-bit integers with a sign",)
        impossible = reasons[-1] if bits == 8 else None
    elif colours == _PALETTE:
        reasons += ("a palette",)
    elif bits == 32:
        reasons += ("32-bit integers",)
    elif bits != 8:
        reasons += (depth(bits),)
    if colours == _CMYK:
        reasons += ("CMYK colours",)
    elif colours == _WHITE_IS_ZERO and own:
        reasons += ("grey in which 0 is white",)
        impossible = impossible or (depth(bits) + " in which 0 is white" if bits > 8 else None)
    elif colours == _YCBCR and packing != _JPEG:
        reasons += ("YCbCr colours",)
    if _one(first, FILL_ORDER, 1) != 1:
        reasons += ("bits in reverse order",)
    bands = samples - own
    alpha = bands > 0 and extra[:1] in ([_STRAIGHT], [_MULTIPLIED])
    if own and bands > 0 and (bands > 1 or extra != [_STRAIGHT] or colours not in (_GREY, _RGB)):
        if extra[:1] == [_MULTIPLIED]:
            reasons += ("colours multiplied by alpha (associated alpha)",)
        if bands > 1 or not alpha:
            more = bands - alpha
            reasons += (
                f"{samples} bands, of which {more} {'is' if more == 1 else 'are'} neither colour nor known to be alpha",
            )
            lost += (f"{more} band{'s' * (more > 1)} beside colour and alpha",)
    icc = first[ICC].data if ICC in first else None
    if icc and colours == _CMYK:
        icc, lost = None, (*lost, "the ICC profile, which is that of CMYK")
    exif, dropped = _exif(data, first, order, big)
    if SUB_PICTURES in first:
        dropped += ("further pictures of the file (SubIFDs)",)
    return Facts(
        "TIFF", width, height, bits, colours in (_GREY, _WHITE_IS_ZERO), alpha, reasons, impossible, icc=icc, exif=exif,
        xmp=first[XMP].data if XMP in first else None, dropped=dropped, lost=lost,
    )  # fmt: skip


def pixels_only(data: bytes) -> bytes:
    """The same file for the decoder, with only a directory of the first picture's pixels.

    It has no orientation by which the decoder would turn them, no EXIF, no unknown tags, and no
    further pictures.
    """
    order, big, at = ifd.header(data)
    count_code, pointer_code, size = ("Q", "Q", 20) if big else ("H", "I", 12)
    (count,) = struct.unpack_from(order + count_code, data, at)
    at += struct.calcsize("=" + count_code)
    entries = [data[at + size * i : at + size * (i + 1)] for i in range(count)]
    kept = [one for one in entries if struct.unpack_from(order + "H", one)[0] in _DECODING]
    place = len(data) + len(data) % 2
    table = struct.pack(order + count_code, len(kept)) + b"".join(kept) + bytes(struct.calcsize("=" + pointer_code))
    start = 8 if big else 4
    pointer = struct.pack(order + pointer_code, place)
    return data[:start] + pointer + data[start + len(pointer) :] + bytes(len(data) % 2) + table


def _one(directory: ifd.Directory, tag: int, default: int | None = None) -> int:
    if tag not in directory:
        if default is None:
            raise ValueError(f"the tag {tag} is missing")
        return default
    return directory[tag].numbers()[0]


def _count(data: bytes, order: str, big: bool, first: int, following: int) -> int:
    """How many directories there are. A broken one ends the count, and so does a loop."""
    seen = {first}
    while following and following not in seen and len(seen) < _MOST_PAGES:
        seen.add(following)
        try:
            _, following = ifd.read(data, following, order, big)
        except (ValueError, struct.error):
            break
    return len(seen)


def _exif(data: bytes, first: ifd.Directory, order: str, big: bool) -> tuple[bytes | None, tuple[str, ...]]:
    """All tags that describe the picture and not the file, as an EXIF blob; and what is not
    carried.
    """
    dropped: list[str] = []
    described: ifd.Directory = {}
    for tag, entry in first.items():
        if tag in _STRUCTURE:
            continue
        if len(entry.data) > _MOST or entry.type > 13:
            dropped.append(f"the tag {tag}")
        else:
            described[tag] = entry
    try:
        found = ifd.tree(data, described, order, big)
    except (ValueError, struct.error, IndexError):
        dropped.append("EXIF or GPS directories that are broken")
        found = {tag: entry for tag, entry in described.items() if tag not in ifd.POINTERS}
    if _is_plain(found):
        return None, tuple(dropped)
    return ifd.blob(found), tuple(dropped)


def _is_plain(found: Tree) -> bool:
    """Whether nothing is said but the defaults: upright, and square pixels of no size."""
    values = {tag: entry.data for tag, entry in found.items() if isinstance(entry, Entry)}
    if len(values) < len(found) or not set(values) <= {ifd.ORIENTATION, 282, 283, 296}:
        return False
    unit = values.get(ifd.RESOLUTION_UNIT, b"\2\0")
    sized = unit != b"\1\0" and (ifd.X_RESOLUTION in values or ifd.Y_RESOLUTION in values)
    return values.get(ifd.ORIENTATION, b"\1\0") == b"\1\0" and not sized and values.get(282) == values.get(283)


# --- writing


def write(picture: Picture) -> bytes:
    """A TIFF file of one deflated strip. Raises `ImageError` beyond 4 GiB."""
    array = to_array(picture)
    height, width, samples = *array.shape[:2], array.shape[2] if array.ndim == 3 else 1
    strip = zlib.compress(array.tobytes(), 6)
    strip += bytes(len(strip) % 2)
    root, _ = described(picture.exif)
    root |= {
        WIDTH: ifd.number(LONG, width),
        HEIGHT: ifd.number(LONG, height),
        BITS: ifd.number(SHORT, *[8] * samples),
        COMPRESSION: ifd.number(SHORT, 8),
        COLOURS: ifd.number(SHORT, _GREY if picture.pixels.shape[2] == 1 else _RGB),
        STRIPS: ifd.number(LONG, 8),
        SAMPLES: ifd.number(SHORT, samples),
        ROWS: ifd.number(LONG, height),
        SIZES: ifd.number(LONG, len(strip)),
        PLANES: ifd.number(SHORT, 1),
    }
    if picture.alpha is not None:
        root[EXTRA] = ifd.number(SHORT, _STRAIGHT)
    if picture.icc:
        root[ICC] = Entry(UNDEFINED, len(picture.icc), picture.icc)
    if picture.xmp:
        root[XMP] = Entry(ifd.BYTE, len(picture.xmp), picture.xmp)
    at = 8 + len(strip)
    try:
        return b"II*\0" + struct.pack("<I", at) + strip + ifd.pack(root, at)
    except (ValueError, struct.error) as error:
        raise ImageError(f"the picture is too large for TIFF: {error}") from error


def described(exif: bytes | None) -> tuple[dict[int, "Entry | Tree"], tuple[str, ...]]:
    """EXIF's directories, without what belongs to the file it came from; and what TIFF does not
    hold of it.
    """
    if not exif:
        return {}, ()
    try:
        found, thumbnail = ifd.exif_tree(exif)
    except (ValueError, struct.error, IndexError):
        return {}, ("EXIF that is broken",)
    kept = {tag: entry for tag, entry in found.items() if tag not in _STRUCTURE or tag in (301, 318, 319)}
    return kept, ("the thumbnail in EXIF",) if thumbnail else ()
