"""Where the time goes: seconds in the network and in everything else, encoding and decoding one picture.

    python benchmarks/coding.py --model PATH [--picture FILE] [--precision float32] [--threads 2] [--repeat 9]

Prints medians over the repetitions of one run, and the ratio everything else / network taken within each repetition.
"""

import argparse
import io
import statistics
import time
from pathlib import Path

import numpy as np

import uqdm
from uqdm import images, package
from uqdm.codec import Codec


class Timed:
    """A denoiser that adds up the time spent in it."""

    def __init__(self, inner) -> None:
        self.inner, self.seconds = inner, 0.0

    def __call__(self, *args):
        begin = time.perf_counter()
        out = self.inner(*args)
        self.seconds += time.perf_counter() - begin
        return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=package.DEFAULT)
    parser.add_argument("--picture", type=Path, help="a picture; by default 64 x 64 pixels cut from the sample")
    parser.add_argument("--precision", default="float32", choices=["float32", "float64"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--mode", default="tight", choices=["tight", "paper"])
    a = parser.parse_args()
    sample = Path(__file__).parent.parent / "examples" / "parrots.png"
    pixels = images.read(a.picture).pixels if a.picture else images.read(sample).pixels[100:164, 200:264]
    codec: Codec = uqdm.load(a.model, threads=a.threads, precision=a.precision)
    family = codec.family(a.mode, a.precision)
    family.denoiser = timed = Timed(family.denoiser)
    rows: dict[str, list[tuple[float, float]]] = {"encode": [], "decode": []}
    for i in range(a.repeat + 1):
        data = b""
        for name in rows:
            timed.seconds, begin = 0.0, time.perf_counter()
            if name == "encode":
                data = codec.compress(pixels, mode=a.mode)
            else:
                assert np.array_equal(codec.decompress(data).reshape(pixels.shape), pixels)
            whole = time.perf_counter() - begin
            if i:  # the first run warms up
                rows[name].append((timed.seconds, whole - timed.seconds))
    out = io.StringIO()
    h, w = pixels.shape[:2]
    print(
        f"{codec.name}, {w} x {h}, mode {a.mode}, {a.precision}, {a.threads} threads, batch 1, {a.repeat} repetitions, {len(data)} bytes",
        file=out,
    )
    print(f"{'':8}{'network s':>12}{'else s':>12}{'else/network':>14}{'symbols/s else':>16}", file=out)
    for name, pairs in rows.items():
        network, rest = (statistics.median(p[k] for p in pairs) for k in (0, 1))
        ratio = statistics.median(r / n for n, r in pairs)
        print(f"{name:8}{network:12.4f}{rest:12.4f}{ratio:13.1%} {4 * pixels.size / rest:15,.0f}", file=out)
    print(out.getvalue(), end="")


if __name__ == "__main__":
    main()
