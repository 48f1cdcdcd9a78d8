"""PSNR against bytes: what every byte of a cut file brings, by three ways to read it.

    python benchmarks/progressive.py PACK_OR_FOLDER [--model PATH] [--every 5] [--points 50] [--out curve.png]

Each picture's file is cut at even shares of its bytes and decoded: (ours) coordinates in the order
of the format, all whole symbols used; (a) whole chunks only, of the same file; (b) of the family
`uqdm`, coordinates in raster order, pixel by pixel. Prints a table, the largest fall between two
points and the largest rise at a step's end; `--out` plots it. PSNR is the mean over pictures of
each one's own; an exact picture counts as having one value wrong by half.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import uqdm
from uqdm import files, format, library
from uqdm.codec import Codec
from uqdm.families.uqdm.tight import Tight


class Spatial(Tight):
    """Raster order inside a step."""

    def _order(self, turns, where):
        asked = np.flatnonzero(turns.reshape(-1))
        at, channel = where[asked % len(where)], asked // len(where)
        return asked[np.argsort(at.astype(np.int64) * 3 + channel, kind="stable")]


def pictures(source: str, every: int, limit: int | None) -> list[np.ndarray]:
    if source.endswith(".zip"):
        from uqdm.data.sources import load_pack

        return list(load_pack(source)[::every][:limit])
    paths = sorted(p for p in Path(source).iterdir() if p.suffix in {".png", ".webp"})
    return [files.read(p).pixels for p in paths[::every][:limit]]


def psnr(found: np.ndarray, true: np.ndarray) -> float:
    error = ((found.astype(float) - true) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 0.25 / true.size)))


def curve(
    codec: Codec, pixels: np.ndarray, shares: Sequence[float], whole_only: bool = False
) -> tuple[np.ndarray, np.ndarray, int]:
    """PSNR at shares of the file's bytes, PSNR just before and just after each step's end, and the
    file's bytes.
    """
    data = codec.compress(pixels)
    parsed = format.parse(data)
    chunks = [c for c in parsed.chunks if c.kind == format.STEP]
    cuts = [max(parsed.header_size, round(share * len(data))) for share in shares]
    if whole_only:
        ends = [parsed.header_size, *(c.end for c in chunks)]
        shown = [psnr(codec.decompress(data[:end]), pixels) for end in ends]
        return (
            np.array([shown[max(i for i, end in enumerate(ends) if end <= cut)] for cut in cuts]),
            np.zeros((0, 2)),
            len(data),
        )
    found = [d.image for d in codec.decode_many([data[:cut] for cut in cuts])]
    ends = codec.decode_many(
        [data[:n] for c in chunks for n in (c.end - 5, c.end)]
    )  # before: all but the last byte of the stream
    jumps = np.array([psnr(d.image, pixels) for d in ends]).reshape(-1, 2)
    return np.array([psnr(f, pixels) for f in found]), jumps, len(data)


class InRasterOrder(Codec):
    """The same model with another walk."""

    def family(self, mode: str | None = None, arithmetic: str | None = None) -> Spatial:
        own = super().family(mode, arithmetic)
        return Spatial(own.constants, own.denoiser)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--model", default=library.DEFAULT)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--out", type=Path, help="a plot (PNG) and its numbers (JSON beside it)")
    a = parser.parse_args()
    shares = [i / a.points for i in range(1, a.points + 1)]
    codec = uqdm.load(a.model)
    ways = {"by scale": (codec, False), "whole steps only": (codec, True)}
    if isinstance(codec.family(), Tight):
        ways["raster order"] = (InRasterOrder(codec.package), False)
    if a.ours_only:
        ways = {"by scale": ways["by scale"]}
    results = {name: [] for name in ways}
    sizes, jumps = [], []
    some = pictures(a.source, a.every, a.limit)
    for pixels in some:
        for name, (one, whole_only) in ways.items():
            psnrs, found, size = curve(one, pixels, shares, whole_only)
            results[name].append(psnrs)
            if name == "by scale":
                jumps.append(found)
                sizes.append(8 * size / (pixels.shape[0] * pixels.shape[1]))
    means = {name: np.mean(rows, 0) for name, rows in results.items()}
    print(f"{codec.name}, {len(some)} pictures, mean {np.mean(sizes):.3f} bits per pixel, {a.points} points")
    print(f"{'bytes':>6} " + " ".join(f"{name:>18}" for name in means))
    for i, share in enumerate(shares):
        print(f"{share:6.0%} " + " ".join(f"{m[i]:18.2f}" for m in means.values()))
    for name, m in means.items():
        rises = np.diff(m)
        print(f"{name}: largest fall {max(0.0, -rises.min()):.3f} dB, mean over points {m[:-1].mean():.2f} dB")
    print("before and after each step's end, by scale:", [(round(b, 2), round(e, 2)) for b, e in np.mean(jumps, 0)])
    if a.out:
        record = {
            "shares": shares,
            "psnr": {n: m.tolist() for n, m in means.items()},
            "jumps": np.mean(jumps, 0).tolist(),
            "bpp": float(np.mean(sizes)),
        }
        a.out.with_suffix(".json").write_text(json.dumps(record))
        plot(record, a.out, f"{codec.name}, {len(some)} pictures")


def plot(record: dict, path: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), constrained_layout=True)
    styles = {"by scale": "-", "whole steps only": ":", "raster order": "--"}
    for name, psnrs in record["psnr"].items():
        axes.plot(
            [100 * s for s in record["shares"]],
            psnrs,
            styles.get(name, "-"),
            label=name,
            drawstyle="steps-post" if "whole" in name else None,
        )
    axes.set(xlabel="share of the file's bytes, %", ylabel="PSNR, dB", title=title, xlim=(0, 100), ylim=(10, 60))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
