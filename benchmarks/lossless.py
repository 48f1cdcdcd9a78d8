"""Whole files over a set of pictures: bits per pixel estimated and in files, lossless or not,
seconds.

    python benchmarks/lossless.py PACK_OR_FOLDER --model PATH [--every 5] [--limit N] [--batch 10]
        [--mode tight] [--no-decode]

Every picture is compressed, and (unless --no-decode) decompressed in batches of another size, and
compared pixel for pixel.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

import uqdm
from uqdm import files, format, library
from uqdm.data.sources import load_pack


def arguments() -> argparse.Namespace:
    """Of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=library.DEFAULT)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--mode", default="tight", choices=["tight", "paper"])
    parser.add_argument("--precision", choices=["float32", "float64"], help="of a float model's network")
    parser.add_argument("--backend")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--estimate", action="store_true", help="also the model's own estimate (one more pass)")
    parser.add_argument("--no-decode", action="store_true")
    parser.add_argument(
        "--previews", action="store_true", help="also the mean PSNR of each method's preview after each step"
    )
    return parser.parse_args()


def main() -> None:
    a = arguments()
    if a.data.suffix == ".zip":
        pictures = list(load_pack(a.data))
    else:
        pictures = [
            files.read(p).pixels for p in sorted(a.data.iterdir()) if p.suffix.lower() in {".png", ".jpg", ".webp"}
        ]
    pictures = pictures[:: a.every][: a.limit]
    codec = uqdm.load(a.model, threads=a.threads, precision=a.precision, backend=a.backend)
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bpp: list[list[float]] = []
    overhead: list[int] = []
    estimated: list[np.ndarray] = []
    chunks = codec.family(a.mode).chunks
    psnr: dict[tuple[str, int], list[float]] = {
        (m, k): [] for m in ("denoise", "flow", "ancestral") for k in range(chunks)
    }
    wrong, seconds = 0, {"encode": [], "decode": []}
    for begin in range(0, len(pictures), a.batch):
        some = pictures[begin : begin + a.batch]
        clock = time.perf_counter()
        coded = codec.compress(some, mode=a.mode)
        seconds["encode"].append((time.perf_counter() - clock) / len(some))
        for data in coded:
            info = uqdm.inspect(data)
            bpp.append(info.bpp)
            contents = format.parse(data)
            coded_symbols = sum(len(c.payload) - contents.header.symbol_check(c.index) for c in contents.steps)
            overhead.append(len(data) - coded_symbols)
        if a.estimate:
            same = {p.shape for p in some}
            groups = [some] if len(same) == 1 else [[p] for p in some]
            for group in groups:
                estimated.extend(codec.estimate(group, mode=a.mode) / (group[0].shape[0] * group[0].shape[1]))
        if a.previews:
            for (method, step), found in psnr.items():
                back = codec.decode_many(coded, step=step, method=method)
                found += [
                    10 * np.log10(255**2 / ((x.astype(float) - y.image) ** 2).mean())
                    for x, y in zip(some, back, strict=True)
                ]
        if not a.no_decode:
            half = max(1, len(some) // 2)
            for part in range(0, len(some), half):
                clock = time.perf_counter()
                back = codec.decompress(coded[part : part + half])
                seconds["decode"].append((time.perf_counter() - clock) / len(coded[part : part + half]))
                wrong += sum(not np.array_equal(x, y) for x, y in zip(some[part : part + half], back, strict=True))
    mean = np.mean(bpp, 0)
    result = {
        "data": a.data.name,
        "pictures": len(pictures),
        "model": codec.name,
        "fingerprint": codec.fingerprint[:16],
        "mode": a.mode,
        "arithmetic": codec.arithmetic,
        "file_bpp_after_step": [round(float(v), 4) for v in mean],
        "file_bpp": round(float(mean[-1]), 4),
        "estimated_bpp_by_step": [round(float(v), 4) for v in np.mean(estimated, 0)] if estimated else None,
        "estimated_bpp": round(float(np.mean(np.sum(estimated, 1))), 4) if estimated else None,
        "mean_psnr_after_step": {f"{m} {k}": round(float(np.mean(v)), 2) for (m, k), v in psnr.items() if v} or None,
        "bytes_besides_symbols_max": max(overhead),
        "not_lossless": None if a.no_decode else wrong,
        "median_seconds": {k: round(float(np.median(v)), 3) for k, v in seconds.items() if v},
        "slowest_seconds": {k: round(float(np.max(v)), 3) for k, v in seconds.items() if v},
        "peak_mib_beyond_start": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_start) // 1024,
    }
    print(json.dumps(result, indent=1))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
