"""Seconds of one picture, warm: encoding, decoding whole, at 1 and at 0.1 bits per pixel; and of
small pictures, alone and 32 at once.

    python benchmarks/seconds.py PICTURE PACK [--threads 2] [--repeat 3] [--without-numba]

Medians over the repetitions, by the clock. `--without-numba`: as where it is not installed. NumPy's
library has one thread, as in commands.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

SMALL = 32  # pictures of the pack


def seconds(function: Callable[[], object], repeat: int) -> float:
    """Of one call, after one that does not count."""
    function()
    found = []
    for _ in range(repeat):
        begin = time.perf_counter()
        function()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without-numba", action="store_true")
    a = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if a.without_numba:
        sys.modules["numba"] = None  # type: ignore[assignment]  # importing it fails

    import uqdm
    from uqdm import files
    from uqdm.data.sources import load_pack

    codec, picture, some = uqdm.load(threads=a.threads), files.read(a.picture).pixels, list(load_pack(a.pack)[:SMALL])
    data, packed = codec.compress(picture), codec.compress(some)
    work: dict[str, Callable[[], object]] = {
        "encode": lambda: codec.compress(picture),
        "decode": lambda: codec.decompress(data),
        "decode 1 bpp": lambda: codec.decompress(data, bpp=1),
        "decode 0.1 bpp": lambda: codec.decompress(data, bpp=0.1),
        "small, encode": lambda: codec.compress(some[0]),
        "small, decode": lambda: codec.decompress(packed[0]),
        f"{SMALL} small, encode": lambda: codec.compress(some),
        f"{SMALL} small, decode": lambda: codec.decompress(packed),
    }
    for name, one in work.items():
        print(json.dumps({name: round(seconds(one, a.repeat), 3)}), flush=True)


if __name__ == "__main__":
    main()
