"""Many pictures: processes of one machine (`processes.py`), and clusters by Ray Data.

from uqdm import bulk
bulk.compress("pictures", "compressed")      # needs the extra `ray`; see docs/bulk.md
bulk.decompress("compressed", "back")
bulk.evaluate("pictures", "figures")         # a table of bytes, and of PSNR at rates
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uqdm.bulk.clusters import Cluster, Summary, compress, compressed, decompress, decompressed
    from uqdm.bulk.evaluating import evaluate
    from uqdm.bulk.pictures import Decoder, Encoder, Evaluator, Made

_WHERE = {
    **dict.fromkeys(
        ("Cluster", "Summary", "compress", "compressed", "decompress", "decompressed"), "uqdm.bulk.clusters"
    ),
    "evaluate": "uqdm.bulk.evaluating",
    **dict.fromkeys(("Decoder", "Encoder", "Evaluator", "Made"), "uqdm.bulk.pictures"),
}
__all__ = [
    "Cluster", "Decoder", "Encoder", "Evaluator", "Made", "Summary",
    "compress", "compressed", "decompress", "decompressed", "evaluate",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'uqdm.bulk' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)
