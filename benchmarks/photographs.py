"""Photographs: the default model's one stream against JPEG 2000, JPEG XL and AVIF, without loss and
at a few rates.

    python benchmarks/photographs.py FOLDER_OR_PACK [--every N] [--codecs jpeg2000,jpeg2000-97,jxl,avif]
        [--out FILE.json]

Printed for each picture and as means: bits per pixel of whole files, and the mean PSNR at each
rate. A stream of ours is cut there. Between the points of other codecs PSNR is interpolated over
bits per pixel; left of their first point there is none.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import uqdm
from uqdm import files, format, library
from uqdm.data.sources import load_pack
from uqdm.evaluation import classical
from uqdm.evaluation.codecs import Contender
from uqdm.evaluation.ours import previews
from uqdm.previews import Way

RATES = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
CODECS = {
    "jpeg2000": classical.jpeg2000,
    "jpeg2000-97": classical.jpeg2000_97,
    "jxl": classical.jxl,
    "avif": classical.avif,
}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels."""
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(np.float64) - b) ** 2))))


def other(codec: Contender, pixels: np.ndarray) -> tuple[float, list[float]]:
    """Bits per pixel without loss (nan if it cannot), and PSNR at the rates."""
    area = pixels.shape[0] * pixels.shape[1]
    points = sorted(
        (c.bits / area, 99.0 if np.array_equal(c.pixels, pixels) else psnr(c.pixels, pixels))
        for c in codec.code(pixels)
    )
    whole = [bits for bits, quality in points if quality == 99.0]
    lossy = [point for point in points if point[1] < 99.0]
    rates, quality = zip(*lossy) if lossy else ((0.0,), (0.0,))
    return min(whole, default=float("nan")), np.interp(RATES, rates, quality, left=np.nan, right=np.nan).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--model", default=library.DEFAULT)
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.data.is_dir():
        named = [(p.stem, files.read(p).pixels) for p in sorted(args.data.glob("*.png"))[:: args.every]]
    else:
        named = [(str(i), x) for i, x in enumerate(load_pack(args.data)) if i % args.every == 0]
    ours = uqdm.load(args.model)
    others = {name: CODECS[name](False) for name in args.codecs.split(",") if name}
    rows: dict[str, list[list[float]]] = {name: [] for name in (ours.name, *others)}
    seconds, steps = [], []
    for name, pixels in named:
        area, begin = pixels.shape[0] * pixels.shape[1], time.perf_counter()
        data = ours.compress(pixels)
        middle = time.perf_counter()
        assert (ours.decompress(data) == pixels).all(), name
        seconds.append((middle - begin, time.perf_counter() - middle))
        steps.append(uqdm.inspect(data).bpp)
        sizes = [size for rate in RATES if (size := format.bytes_at(rate, area)) < len(data)]
        cut = [psnr(one.pixels, pixels) for one in previews(ours, data, sizes, Way("denoise"))]
        rows[ours.name].append([8 * len(data) / area, *cut, *[np.nan] * (len(RATES) - len(cut))])
        for other_name, codec in others.items():
            whole, quality = other(codec, pixels)
            rows[other_name].append([whole, *quality])
        print(name, {k: [round(v, 2) for v in row[-1]] for k, row in rows.items()}, flush=True)
    means = {name: np.round(np.nanmean(row, 0), 3).tolist() for name, row in rows.items()}
    found = {
        "pictures": len(named),
        "rates": RATES,
        "lossless, then PSNR at the rates": means,
        "after steps": np.round(np.mean(steps, 0), 3).tolist(),
        "median seconds to encode, decode": np.round(np.median(seconds, 0), 2).tolist(),
    }
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found | {"each": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
