"""Where a file may be cut."""

from uqdm.format.chunks import CORRECTION, STEP, Contents


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
