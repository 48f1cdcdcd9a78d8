"""Time and memory by size: seconds per megapixel and peak memory, each size and direction in a
process of its own.

    python benchmarks/sizes.py PICTURES [--model NAME] [--megapixels 0.1 0.4 1.6 6.4 12] [--threads 2] [--backend NAME]

Directions: encode, decode; the preview of a file cut in the middle of the last step but one
("cut"), and the flow from step 1 ("flow"). Photographs of any size are made by laying the pictures
of the folder PICTURES side by side. Memory is the peak resident size of the process less what it
was when the model had been loaded; 12 megapixels are 4000 x 3000.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from uqdm import files, format, library


def mosaic(folder: Path, width: int, height: int) -> np.ndarray:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".jpg", ".webp"})
    out = np.empty((height, width, 3), np.uint8)
    y = number = 0
    while y < height:
        x, tall = 0, 0
        while x < width:
            picture = files.read(paths[number % len(paths)]).pixels
            picture = picture if picture.shape[0] < picture.shape[1] else picture.transpose(1, 0, 2)
            h, w = min(picture.shape[0], height - y), min(picture.shape[1], width - x)
            out[y : y + h, x : x + w] = picture[:h, :w]
            x, tall, number = x + w, max(tall, h), number + 1
        y += tall
    return out


def work(a: argparse.Namespace) -> None:
    """One direction of one size; prints seconds and KiB."""
    import uqdm

    codec = uqdm.load(a.model, threads=a.threads, backend=a.backend, max_pixels=1 << 26)
    codec.decompress(codec.compress(np.zeros((64, 64, 3), np.uint8)))  # compiled, loaded, warm
    begin_kib = int(
        next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")).split()[1]
    )
    clock = time.perf_counter()
    if a.worker == "encode":
        pixels = np.load(a.input)
        clock = time.perf_counter()
        Path(a.output).write_bytes(codec.compress(pixels))
    else:
        data = Path(a.input).read_bytes()
        ends = [c.end for c in format.parse(data, max_pixels=None).chunks if c.kind == format.STEP]
        if a.worker == "cut":
            codec.decompress(data[: (ends[-3] + ends[-2]) // 2])
        elif a.worker == "flow":
            codec.decompress(data, step=1, method="flow")
        else:
            np.save(a.output, codec.decompress(data))
    seconds = time.perf_counter() - clock
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin_kib]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--model", default=library.DEFAULT)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.1, 0.4, 1.6, 6.4, 12])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--input", help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        return work(a)
    print(f"{'size':>12} {'direction':>9} {'seconds':>9} {'s/MP':>7} {'MiB':>7} {'bytes/pixel':>12} {'bpp':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in a.megapixels:
            height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
            width = round(megapixels * 1e6 / height)
            pixels = mosaic(a.pictures, width, height)
            source, file, back = (str(Path(folder) / name) for name in ("in.npy", "f.uqdm", "out.npy"))
            np.save(source, pixels)
            for direction, given, made in (
                ("encode", source, file),
                *((d, file, back) for d in ("decode", "cut", "flow")),
            ):
                words = [
                    sys.executable,
                    __file__,
                    "--worker",
                    direction,
                    "--input",
                    given,
                    "--output",
                    made,
                    "--model",
                    a.model,
                ]
                words += ["--threads", str(a.threads), *(["--backend", a.backend] if a.backend else [])]
                seconds, kib = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
                n = width * height
                bpp = 8 * Path(file).stat().st_size / n
                each = f"{seconds:9.2f} {seconds / n * 1e6:7.2f} {kib / 1024:7.0f} {kib * 1024 / n:12.0f} {bpp:7.3f}"
                print(f"{f'{width}x{height}':>12} {direction:>9} {each}", flush=True)
            assert np.array_equal(np.load(back), pixels), "not lossless"


if __name__ == "__main__":
    main()
