"""Where a file may be cut, and cutting it. Any beginning that holds the header is a file too;
nothing is ever re-encoded.
"""

import io

from uqdm import sources
from uqdm.errors import LimitError
from uqdm.format.chunks import CORRECTION, STEP, ChunkReader, Contents, parse
from uqdm.sources import Source


def ends(contents: Contents) -> list[int]:
    """In bytes, where the first step begins, and then where each whole step ends: cut there, no
    byte is left over.
    """
    before = [chunk.end for chunk in contents.chunks if chunk.kind not in (CORRECTION, STEP)]
    return [max([contents.header_size, *before]), *(chunk.end for chunk in contents.steps)]


def bytes_at(bpp: float, pixels: int) -> int:
    """⌊bpp · pixels / 8⌋. A rate that was itself computed from a length gives that length: rounding
    errors are forgiven.
    """
    return int(min(bpp * pixels / 8 * (1 + 1e-12), 1 << 62))


def truncate(data: Source, *, nbytes: int | None = None, bpp: float | None = None, step: int | None = None) -> bytes:
    """The first bytes of a file (its bytes, its path, or a binary file object). Exactly one of the
    three must be given.

    `nbytes`: exactly that many. `bpp`: as many as `bytes_at` says. `step`: up to the end of that
    step (0: header and metadata only); nothing behind it is judged. A file that is already shorter
    than `nbytes` or `bpp` ask for is returned whole. Raises `LimitError` where the request ends
    inside the header or asks for a step that the file does not hold, `ValueError` unless exactly
    one is given, and what `ChunkReader` raises.
    """
    if (nbytes is not None) + (bpp is not None) + (step is not None) != 1:
        raise ValueError("give exactly one of nbytes, bpp and step")
    for name, value in (("nbytes", nbytes), ("step", step)):
        if value is not None and (isinstance(value, bool) or not hasattr(value, "__index__")):
            raise TypeError(f"{name} is {value!r}; expected a whole number")
    data = sources.read(data)
    reader = ChunkReader(io.BytesIO(data), max_pixels=None)
    header, end = reader.header, reader.header_size
    if step is not None:
        if not 0 <= step <= header.chunks:
            raise LimitError(f"step {step} was asked for; this file has steps 0 to {header.chunks}")
        found = ends(parse(data, steps=step, max_pixels=None))
        if len(found) <= step:
            raise LimitError(
                f"step {step} was asked for; the file was cut and holds {len(found) - 1} of {header.chunks} whole steps"
            )
        return data[: found[step]]
    pixels = header.width * header.height
    if bpp is not None:
        if not 0 <= bpp < float("inf"):
            raise LimitError(f"{bpp} bits per pixel were asked for; expected a number of 0 or more")
        nbytes = bytes_at(bpp, pixels)
    assert nbytes is not None
    if nbytes < end:
        raise LimitError(
            f"{nbytes} bytes were asked for, but the header alone takes {end} "
            f"({8 * end / pixels:.3f} bits per pixel): ask for at least that"
        )
    return data[:nbytes]
