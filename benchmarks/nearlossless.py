"""Near-lossless files: bits per pixel at a few errors, and what is kept.

python benchmarks/nearlossless.py PICTURE [--size 320x256] [--model NAME]
"""

import argparse
from pathlib import Path

import numpy as np

import uqdm
from uqdm import files, library


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", help="of the upper left cut, width x height; all by default")
    parser.add_argument("--model", default=library.DEFAULT)
    args = parser.parse_args()
    pixels = files.read(args.picture).pixels
    if args.size:
        width, height = map(int, args.size.split("x"))
        pixels = pixels[:height, :width]
    codec = uqdm.load(args.model)
    for most in (0, 1, 2, 4, 8, 16, 40):
        data = codec.compress(pixels, max_error=most)
        found = codec.decode(data)
        off = int(np.abs(found.image.astype(int) - pixels).max())
        assert off <= found.bound <= most
        rate = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
        print(
            f"error at most {most:>2}: {rate:.3f} bits per pixel, {found.step} steps{', corrected' * found.corrected},"
            f" largest {off}"
        )


if __name__ == "__main__":
    main()
