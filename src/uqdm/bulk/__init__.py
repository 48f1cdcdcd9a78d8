"""Many pictures: processes of one machine (`processes.py`), and clusters by Ray Data.

from uqdm import bulk
bulk.compress("pictures", "compressed")      # needs the extra `ray`; see docs/bulk.md
bulk.decompress("compressed", "back")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uqdm.bulk.clusters import Cluster, Summary, compress, compressed, decompress, decompressed
    from uqdm.bulk.pictures import Decoder, Encoder, Made

_WHERE = {
    **dict.fromkeys(
        ("Cluster", "Summary", "compress", "compressed", "decompress", "decompressed"), "uqdm.bulk.clusters"
    ),
    **dict.fromkeys(("Decoder", "Encoder", "Made"), "uqdm.bulk.pictures"),
}
__all__ = ["Cluster", "Decoder", "Encoder", "Made", "Summary", "compress", "compressed", "decompress", "decompressed"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'uqdm.bulk' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)
