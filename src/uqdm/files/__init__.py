"""Picture files to pictures and back. This is the only door. Knows nothing of models or of the
.uqdm format.

`formats` and the modules of the formats say what a file holds. `reading` takes it or refuses it,
`decoding` makes its pixels, and `pillow` takes Pillow images. `writing` writes what is exact, and
`placing` puts files in their places.
"""

from uqdm.files.formats import READABLE
from uqdm.files.pillow import from_pillow, is_pillow
from uqdm.files.placing import check_target, write_atomic
from uqdm.files.reading import MAX_PIXELS, read
from uqdm.files.writing import EXACT, WRITABLE, check_format, encode, format_of, unheld, write

__all__ = [
    "EXACT",
    "MAX_PIXELS",
    "READABLE",
    "WRITABLE",
    "check_format",
    "check_target",
    "encode",
    "format_of",
    "from_pillow",
    "is_pillow",
    "read",
    "unheld",
    "write",
    "write_atomic",
]
