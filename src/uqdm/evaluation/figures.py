"""The paper's figures of pictures, from measurements: each is a layout to print, and the numbers
behind it. Knows no files.

Figures 1, 9 and 10 show reconstructions beside other codecs at equal rates. Figures 3 and 4 show
rate against distortion and realism on CIFAR-10 and ImageNet 64, with the published curves. Figures
5 and 8 (left) show progressive reconstructions by method. Figure 8 (right) shows bits by model
size. Figures 2, 6 and 7 are the swirl's, in `research/swirl.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from uqdm.evaluation import plots
from uqdm.evaluation.codecs import Contender, Pixels
from uqdm.evaluation.compare import panels
from uqdm.evaluation.curves import Curve
from uqdm.evaluation.ours import opened
from uqdm.format import ends, parse
from uqdm.previews import Method
from uqdm.quality import mse, psnr

RATES = {1: 2.0, 9: 4.0, 10: 1.0}  # bits per pixel of the figures at equal rates: middle, high, low
# from the published README: parameters as stated there, and bits per pixel in files on the ImageNet
# 64 test set
PUBLISHED_SIZES = {
    "UQDM-tiny": (176e3, 17.19),
    "UQDM-small": (2e6, 15.83),
    "UQDM-medium": (122e6, 15.77),
    "UQDM-big": (273e6, 15.68),
}
RESEARCH = ("ctc", "cdc")  # systems of the paper that are measured with --external
ABSENT = "{}: not installed (docs/benchmarks.md says how to add them)"
Found = tuple[Figure, dict[str, Any]]


def beside(number: int, systems: Sequence[Contender], pictures: Sequence[Pixels], missing: Sequence[str] = ()) -> Found:
    """Figures 1, 9 and 10: a row for each picture, a column for each codec, each at most
    `RATES[number]` bits per pixel.
    """
    rate = RATES[number]
    shown = [panels(systems, picture, rate) for picture in pictures]
    others = [name.upper() for name in RESEARCH if not any(system.name.lower().startswith(name) for system in systems)]
    absent = [*missing, *sorted({name for _, failed in shown for name in failed})]
    absent += [ABSENT.format(", ".join(others))] if others else []
    grid = [
        [("original", "24 bits/pixel", picture), *((p.label, p.line(), p.pixels) for p in row)]
        for picture, (row, _) in zip(pictures, shown)
    ]
    record = [
        [{"codec": p.label, "bpp": p.bpp, "psnr": _finite(p.psnr), "setting": p.setting} for p in row]
        for row, _ in shown
    ]
    title = (
        f"Reconstructions at equal rates, at most {rate:g} bits per pixel of whole files. Not shown:"
        f" {'; '.join(absent)}"
    )
    return _grid(grid, title), {"bpp": rate, "pictures": record, "missing": absent}


def rates(curves: Sequence[Curve], published: Sequence[Curve], title: str, missing: Sequence[str] = ()) -> Found:
    """Figures 3 and 4: PSNR, published FID (and FID of supplied features), sliced Wasserstein
    distance against bits per pixel.
    """
    wanted = ("uqdm-d", "uqdm-a", "vdm-d", "jpeg", "jpeg2000", "bpg", "ctc", "cdc-0", "cdc-p")
    chosen = [c for c in published if c.name.partition(":")[2] in wanted]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(15, 5.2), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        plots.rate_axes(left, [*curves, *chosen], "psnr", most=16)
        plots.rate_axes(middle, [*curves, *chosen], "fid", most=16)
        plots.rate_axes(right, curves, "swd", most=16)
        left.set_title(title + (f"; not here: {', '.join(missing)}" if missing else ""), fontsize=9, loc="left")
        middle.set_title("published numbers are of their own pictures", fontsize=9)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure, {"title": title, "curves": [c.to_json() for c in [*curves, *chosen]], "missing": list(missing)}


Way = tuple[str, Method, float]  # how a preview is made: what it is called, method, temperature
DENOISED: Way = ("denoised", "denoise", 1.0)
FLOW: Way = ("flow", "flow", 1.0)
ANCESTRAL: tuple[Way, ...] = (("ancestral, temperature 0.5", "ancestral", 0.5), ("ancestral", "ancestral", 1.0))


def progressive(
    models: Sequence[str], pictures: Sequence[Pixels], ways: Sequence[Way], title: str, seed: int = 0
) -> Found:
    """Figures 5 and 8: every picture after each step of each model's file, one block of columns for
    each method.
    """
    grid, record = [], []
    for model in models:
        one = opened(model)
        for picture in pictures:
            data = one.compress(picture, seed=seed)
            area = picture.shape[0] * picture.shape[1]
            row: list[tuple[str, str, Pixels]] = []
            for name, method, temperature in ways:
                for step, end in enumerate(ends(parse(data))[1:-1], 1):
                    shown = one.decode(data, step=step, method=method, seed=seed, temperature=temperature).image
                    quality = psnr(mse(picture, shown))
                    row.append((f"{name}, step {step}", f"{8 * end / area:.2f} bits/pixel, {quality:.1f} dB", shown))
                    record.append(
                        {"model": one.name, "way": name, "step": step, "bpp": 8 * end / area, "psnr": _finite(quality)}
                    )
            row.append((f"whole file, {one.name}", f"{8 * len(data) / area:.2f} bits/pixel, lossless", picture))
            grid.append(row)
    return _grid(grid, title), {"title": title, "rows": record}


def sizes(measured: Mapping[str, tuple[float, float]], note: str) -> Found:
    """Figure 8, right: bits per pixel, lossless, by parameters; published and `measured` (name ->
    parameters, bits).
    """
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(7, 3.8), layout="constrained")
        axes = figure.subplots()
        for rows, colour, label in (
            (PUBLISHED_SIZES, plots.OTHERS[0], "published, ImageNet 64 test"),
            (measured, plots.OURS[0], note),
        ):
            if not rows:
                continue
            names, values = list(rows), np.array(list(rows.values()))
            axes.plot(values[:, 0], values[:, 1], "o", color=colour, label=label)
            for i, (name, (count, bits)) in enumerate(zip(names, values)):
                place = (5, 4) if i % 2 == 0 else (-8, -12)  # so that neighbours' names do not meet
                axes.annotate(name, (count, bits), xytext=place, textcoords="offset points", fontsize=8, color=colour)
        axes.set(xscale="log", xlabel="parameters", ylabel="bits per pixel, lossless, in files")
        axes.margins(x=0.25, y=0.2)
        axes.legend(loc="best")
    return figure, {"published": PUBLISHED_SIZES, "measured": dict(measured), "measured on": note}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _grid(rows: Sequence[Sequence[tuple[str, str, Pixels]]], title: str) -> Figure:
    """Pictures with two lines under each; labels that are the same down a column stand above it
    once.
    """
    columns = max(len(row) for row in rows)
    h, w = rows[0][0][2].shape[:2]
    cell = 1.62
    with matplotlib.rc_context(plots.STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(cell * columns, (cell * h / w + 0.12) * len(rows) + 0.75), layout="constrained")
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for i, row in enumerate(rows):
            for k in range(columns):
                one = axes[i][k]
                one.set(xticks=[], yticks=[])
                for spine in one.spines.values():
                    spine.set_visible(False)
                if k >= len(row):
                    continue
                label, text, pixels = row[k]
                one.imshow(pixels, interpolation="nearest")
                one.set_xlabel(text, fontsize=6.2, labelpad=2)
                if i == 0 or k >= len(rows[i - 1]) or rows[i - 1][k][0] != label:
                    one.set_title(plots.wrapped(label, 24), fontsize=7)
        figure.suptitle(title, fontsize=8.5, x=0.01, ha="left")
    return figure


def size_of(model: str, pictures: Sequence[Pixels]) -> tuple[str, tuple[float, float]]:
    """A model's name, its stored numbers, and bits per pixel of whole files."""
    one = opened(model)
    bits = [8 * len(one.compress(p)) / (p.shape[0] * p.shape[1]) for p in pictures]
    return one.name, (float(one.package.parameters), float(np.mean(bits)))
