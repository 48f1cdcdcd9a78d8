"""Cutting a file. Any beginning that holds the header is a file too; nothing is ever re-encoded."""

import io
import math

from uqdm import sources
from uqdm.errors import LimitError
from uqdm.format.chunks import ChunkReader, parse
from uqdm.format.cuts import bytes_at, ends
from uqdm.format.index import reaching, read_index
from uqdm.sources import Source


def truncate(
    data: Source,
    *,
    nbytes: int | None = None,
    bpp: float | None = None,
    step: int | None = None,
    psnr: float | None = None,
) -> bytes:
    """The first bytes of a file (its bytes, its path, or a binary file object). Exactly one of the
    four must be given.

    `nbytes`: exactly that many. `bpp`: as many as `bytes_at` says. `step`: up to the end of that
    step (0: header and metadata only); nothing behind it is judged. `psnr`: up to the first place
    in the file's index that shows at least so many decibels. A shorter beginning may show them too,
    but nobody knows that without the picture. A file that is already shorter than `nbytes` or `bpp`
    ask for is returned whole. Raises `LimitError` where the request ends inside the header, asks for
    a step that the file does not hold, or for decibels that its index does not know or that it does
    not hold; or where it has no index. Raises `ValueError` unless exactly one is given, and what
    `ChunkReader` raises.
    """
    if sum(given is not None for given in (nbytes, bpp, step, psnr)) != 1:
        raise ValueError("give exactly one of nbytes, bpp, step and psnr")
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
    if psnr is not None:
        if math.isnan(psnr) or psnr <= 0:
            raise LimitError(f"{psnr} dB were asked for; expected a number above 0")
        return data[: reaching(read_index(parse(data, steps=0, max_pixels=None)), psnr, len(data)).bytes]
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
