"""The limits of a file: what is larger is refused before anything is allocated. `docs/format.md`,
"Limits", says why they are so.
"""

MAX_SIDE = 1 << 24  # pixels
MAX_PIXELS = 1 << 26  # decoding takes at most 150 bytes a pixel, 10 GiB
MAX_COMPACT = 1 << 14  # pixels of a compact file: there its head counts
MAX_CHUNKS = 240  # step chunks: the tag byte is 15 + index
MAX_NAME = 64  # bytes of UTF-8
MAX_EXTRA = 64  # bytes of the family's sub-header
MAX_INDEX = 4096  # bytes of an index
MAX_METADATA = 16 << 20  # bytes of one ICC, EXIF or XMP chunk
PIECE = 4096  # bytes of payload under one check


def largest_alpha(pixels: int) -> int:
    """Bytes of an alpha chunk's payload: a plane that does not compress, and room."""
    return pixels + pixels // 64 + 1024


def largest_step(pixels: int) -> int:
    """Bytes of a step's payload: 8 for each coordinate, which is far above what any coder needs."""
    return 8 * 3 * pixels + 64
