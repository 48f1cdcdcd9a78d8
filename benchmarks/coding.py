"""Where the time goes: seconds in the network and in everything else, encoding and decoding, on the
fast path and the reference.

    python benchmarks/coding.py [--model PATH] [--picture FILE] [--batch N] [--precision float64]
        [--coder fast] [--threads 2]

The network is what a runtime computes; everything else is features and suggestions of exact
networks, boxes, dithers, order, tables, range coding, container. Prints medians over the
repetitions, the coders taking turns within each, and their files compared.
"""

import argparse
import functools
import statistics
import threading
import time
from pathlib import Path

import numpy as np

import uqdm
from uqdm import files, library
from uqdm.codec import Codec
from uqdm.entropy import coder

LOCK = threading.Lock()


class Timed:
    """Something called, and the time spent in it."""

    def __init__(self, inner, clock: list[float]) -> None:
        self._inner, self._clock = inner, clock

    def __call__(self, *args):
        begin = time.perf_counter()
        out = self._inner(*args)
        with LOCK:  # with several threads these are seconds of all of them
            self._clock[0] += time.perf_counter() - begin
        return out

    def __getattr__(self, name: str):
        return getattr(self._inner, name)


def timed(codec: Codec, mode: str) -> list[float]:
    """The clock of a codec's network."""
    clock = [0.0]
    family = codec.family(mode)
    if codec.exact:
        networks = getattr(family, "networks", None) or family.denoiser
        runner = networks.runner
        networks.runner = lambda net, edge: Timed(runner(net, edge), clock)
    else:
        family.denoiser = Timed(family.denoiser, clock)
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=library.DEFAULT)
    parser.add_argument("--picture", type=Path, help="a picture; by default 64 x 64 pixels cut from the sample")
    parser.add_argument("--batch", type=int, default=1, help="so many of it at once")
    parser.add_argument("--precision", choices=["float32", "float64"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--mode", default="tight", choices=["tight", "paper"])
    parser.add_argument(
        "--coder", nargs="*", choices=coder.available(), default=coder.available(), help="by default all that there are"
    )
    a = parser.parse_args()
    sample = Path(__file__).parent.parent / "examples" / "parrots.png"
    pixels = files.read(a.picture).pixels if a.picture else files.read(sample).pixels[100:164, 200:264]
    load = functools.partial(uqdm.load, a.model, threads=a.threads, precision=a.precision)
    codecs = {name: load(coder=name) for name in a.coder}
    clocks = {name: timed(codec, a.mode) for name, codec in codecs.items()}
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {(n, d): [] for n in codecs for d in ("encode", "decode")}
    coded = {}
    for i in range(a.repeat + 1):
        for name, codec in codecs.items():
            for direction in ("encode", "decode"):
                clocks[name][0], begin = 0.0, time.perf_counter()
                if direction == "encode":
                    coded[name] = codec.compress([pixels] * a.batch, mode=a.mode)
                else:
                    back = codec.decompress(coded[name])
                whole = time.perf_counter() - begin
                if i:  # the first run warms up
                    rows[name, direction].append((clocks[name][0], whole - clocks[name][0]))
            assert all(np.array_equal(one.reshape(pixels.shape), pixels) for one in back)
    assert len({tuple(f) for f in coded.values()}) == 1, "the coders' files differ"
    h, w = pixels.shape[:2]
    one = codecs[next(iter(codecs))]
    print(
        f"{one.name}, {w} x {h}, batch {a.batch}, mode {a.mode}, {one.arithmetic}, {a.threads} threads, {a.repeat}"
        f" repetitions, {len(coded[next(iter(coded))][0])} bytes each, all coders' files the same"
    )
    print(f"{'coder':14}{'':8}{'network s':>12}{'else s':>12}{'else/network':>14}{'symbols/s else':>16}")
    symbols = one.family(a.mode).chunks * pixels.size * a.batch
    for (name, direction), pairs in rows.items():
        network, rest = (statistics.median(p[k] for p in pairs) for k in (0, 1))
        ratio = statistics.median(r / n for n, r in pairs)
        print(f"{name:14}{direction:8}{network:12.4f}{rest:12.4f}{ratio:13.1%} {symbols / rest:15,.0f}")


if __name__ == "__main__":
    main()
