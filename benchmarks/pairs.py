"""Two checkouts side by side: the default model's seconds, memory and bytes, in alternating runs of
fresh processes.

    git worktree add ../before COMMIT
    python benchmarks/pairs.py ../before . --picture kodak/05.png [--pairs 9]

Each run codes 384 x 512 pixels of the picture as one picture and as a batch of 48. Prints medians
and their ratio.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("compress, s", "decompress, s", "batch, both ways, s", "peak memory, MiB", "bytes", "bytes of the batch")


def once(path: str) -> list[float]:
    """One run, in the order of NAMES."""
    import numpy as np
    from PIL import Image

    import uqdm

    codec = uqdm.load()
    picture = np.asarray(Image.open(path))[:384, :512]
    batch = [picture[i : i + 64, j : j + 64] for i in range(0, 384, 64) for j in range(0, 512, 64)]
    codec.decompress(codec.compress(picture[:64, :64]))  # compiles and opens what is needed
    codec.compress(batch[:8])
    marks = [time.perf_counter()]
    data = codec.compress(picture)
    marks.append(time.perf_counter())
    codec.decompress(data)
    marks.append(time.perf_counter())
    many = codec.compress(batch)
    codec.decompress(many)
    marks.append(time.perf_counter())
    seconds = [b - a for a, b in itertools.pairwise(marks)]
    return [*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(data), sum(map(len, many))]


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, nargs="?", help="a checkout")
    parser.add_argument("after", type=Path, nargs="?", help="another")
    parser.add_argument("--picture", required=True, help="of at least 384 x 512 pixels")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.once:
        print(json.dumps(once(a.picture)))
        return
    if a.before is None or a.after is None:
        parser.error("two checkouts are needed")
    found: dict[Path, list[list[float]]] = {a.before: [], a.after: []}
    for _ in range(a.pairs):
        for checkout, runs in found.items():
            environment = os.environ | {"PYTHONPATH": str((checkout / "src").resolve())}
            command = [sys.executable, __file__, "--once", "--picture", a.picture]
            runs.append(
                json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
            )
    for name, before, after in zip(
        NAMES, zip(*found[a.before], strict=True), zip(*found[a.after], strict=True), strict=True
    ):
        old, new = statistics.median(before), statistics.median(after)
        print(f"{name:20}  {old:12.3f}  {new:12.3f}  {new / old - 1:+.1%}")


if __name__ == "__main__":
    main()
