"""The coder's implementations side by side: millions of symbols a second, encoding and decoding, on
cells like a step's.

    python benchmarks/entropy.py [--size 12288] [--repeat 15] [--seed 0]

Prints medians of process time over the repetitions of one run, in which the implementations take
turns: what else the machine does then falls on all of them. Times are of whole calls, tables and
the making of the stream included.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from uqdm.entropy import coder, tables
from uqdm.entropy.tables import FRACTION, ONE, Cells

KINDS = {  # least and most integers, width of the intervals, logistics in the mixture
    "5-13 single integers": (5, 13, 1.0, 1),
    "40-60 in intervals of 5.2": (40, 60, 5.2, 1),
    "5-13 single integers, mixtures of 3": (5, 13, 1.0, 3),
}


def cells(
    n: int, least: int, most: int, width: float, count: int, random: np.random.Generator
) -> tuple[np.ndarray, Cells]:
    """Boxes of `least` to `most` integers, scales near a third of the box, `count` logistics each;
    and symbols drawn from the tables.
    """
    size = random.integers(least, most + 1, n)
    low = random.integers(0, 256 - size)
    widths = np.full(n, int(width * ONE))
    start = (low << FRACTION) - (random.integers(0, widths) if width > 1 else 0)
    octaves = np.log2(size / 3) + random.normal(0, 0.3, (count, n)) - tables.LOWEST_OCTAVE
    level = np.rint(octaves * tables.LEVELS_PER_OCTAVE).astype(np.uint8).T
    location = np.rint((low - 0.5 + random.uniform(0, 1, (count, n)) * size) * ONE).astype(np.int64).T
    weight = np.full((n, count), 256 // count, np.uint16)
    weight[:, 0] += 256 % count
    mixture = (location, level, weight) if count > 1 else (location[:, 0], level[:, 0])
    made = Cells(low.astype(np.int32), (low + size - 1).astype(np.int32), start, widths, *mixture)
    cuts = np.cumsum(made.masses(slice(None)), 1)
    chances = random.integers(0, np.take_along_axis(cuts, made.children[:, None] - 1, 1))
    return (cuts <= chances).sum(1), made


def encode(name: str, symbols: np.ndarray, asked: Cells) -> bytes:
    encoder = coder.RangeEncoder(name)
    encoder.encode_cells(symbols, asked)
    return encoder.finish()


def rate(call: Callable[[], object], size: int) -> float:
    """Millions of symbols a second of process time, over calls of some 10 ms together."""
    calls, spent, begin = 0, 0, time.process_time_ns()
    while spent < 10_000_000:
        call()
        calls, spent = calls + 1, time.process_time_ns() - begin
    return 1e3 * size * calls / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=12288, help="symbols a call; 12288 are a picture of 64 x 64")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    random = np.random.default_rng(a.seed)
    rows: dict[tuple[str, str, str], list[float]] = {}
    worlds = {kind: cells(a.size, *shape, random) for kind, shape in KINDS.items()}
    for i in range(a.repeat + 1):
        for kind, (symbols, asked) in worlds.items():
            for name in coder.available():
                stream = encode(name, symbols, asked)
                found = coder.RangeDecoder(stream, coder=name).decode_cells(asked)
                assert (found == symbols).all()
                work = {
                    "encode": lambda: encode(name, symbols, asked),  # noqa: B023
                    "decode": lambda: coder.RangeDecoder(stream, coder=name).decode_cells(asked),  # noqa: B023
                }
                if asked.weight is None:
                    work["mean"] = lambda: tables.mean(asked.location, asked.level, asked.low, asked.high, name)  # noqa: B023
                for what, call in work.items():
                    if i:  # the first run warms up
                        rows.setdefault((kind, name, what), []).append(rate(call, a.size))
    print(f"{a.size} symbols a call, medians of {a.repeat}, seed {a.seed}; million symbols a second of process time")
    for kind, (symbols, asked) in worlds.items():
        print(
            f"\n{kind}: {asked.children.mean():.1f} children, {coder.bits_cells(symbols, asked) / a.size:.2f} bits a"
            " symbol"
        )
        print(f"  {'':14}{'encode':>9}{'decode':>9}{'mean':>9}")
        for name in coder.available():
            print(
                f"  {name:14}"
                + "".join(
                    f"{statistics.median(rows[kind, name, what]):9.2f}"
                    for what in ("encode", "decode", "mean")
                    if (kind, name, what) in rows
                )
            )


if __name__ == "__main__":
    main()
