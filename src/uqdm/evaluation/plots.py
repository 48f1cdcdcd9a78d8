"""Curves as figures for print: matplotlib, without a display. Knows no files."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure

from uqdm.evaluation.curves import Curve

TITLES = {
    "psnr": "PSNR, dB (mean of pictures' own)",
    "pooled_psnr": "PSNR, dB (of the pooled error)",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "swd": "sliced Wasserstein distance",
    "fid": "FID",
    "lpips": "LPIPS",
    "ssimulacra2": "SSIMULACRA 2",
    "butteraugli": "Butteraugli distance",
}
OURS = ("#b3123a", "#e0632f", "#8c2d8c", "#c2860b")
OTHERS = (
    "#1f5fa8",
    "#3a9a8f",
    "#5b8c2a",
    "#7a6a58",
    "#6a55a8",
    "#a3a01c",
    "#2f9fde",
    "#606060",
    "#a05a78",
    "#12705e",
    "#c08ad0",
    "#8f4a1e",
)
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.fonttype": "none",
}


def is_ours(curve: Curve) -> bool:
    """Whether a curve is one of our models, measured now; published weights are not."""
    return curve.label.startswith("uqdm,") and not curve.elsewhere


def looks(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Line styles: ours are red and thick, others cool and thin, published ones dashed,
    hypothetical ones dotted.
    """
    found, ours, others = [], 0, 0
    for curve in curves:
        if is_ours(curve):
            colour, width, ours = OURS[ours % len(OURS)], 2.2, ours + 1
        else:
            colour, width, others = OTHERS[others % len(OTHERS)], 1.2, others + 1
        line = "--" if curve.published or curve.elsewhere else ":" if curve.hypothetical else "-"
        found.append(
            {
                "color": colour,
                "linewidth": width,
                "linestyle": line,
                "marker": "o",
                "markersize": 2.5 if is_ours(curve) else 2,
            }
        )
    return found


def rate_axes(
    axes: Any, curves: Sequence[Curve], metric: str = "psnr", *, payload: bool = False, most: float | None = None
) -> None:
    """A metric against bits per pixel up to `most`, for the curves that have it.

    A lossless point is a mark at the upper end. If it lies outside, it is in the legend.
    """
    seen: list[float] = []
    for curve, look in zip(curves, looks(curves)):
        rates, values = curve.known(metric, payload)
        end = curve.lossless() if metric in ("psnr", "pooled_psnr") else None
        lossless = None if end is None else end.payload_bpp if payload else end.bpp
        outside = lossless is not None and most is not None and lossless > most
        label = curve.label + (f" (lossless at {lossless:.1f})" if outside else "")
        if values:
            axes.plot(rates, values, label=label, **look)
            seen += [v for r, v in zip(rates, values) if most is None or r <= most]
        if lossless is not None and outside and not values:
            axes.plot([], [], label=label, **look)
        elif lossless is not None and not outside:
            mark = {"marker": "v", "color": look["color"], "ls": "", "label": None if values else label}
            axes.plot([lossless], [1.0], clip_on=False, transform=axes.get_xaxis_transform(), **mark)
    axes.set(xlabel=f"bits per pixel ({'payload only' if payload else 'whole files'})", ylabel=TITLES[metric])
    if metric in ("swd", "fid", "lpips", "butteraugli"):
        axes.set_yscale("log")
    if most is not None:
        axes.set_xlim(0, most)
    if metric in ("psnr", "pooled_psnr") and seen:
        axes.set_ylim(min(seen) - 1, max(seen) + 2)


def rate_figure(
    curves: Sequence[Curve], metric: str = "psnr", *, payload: bool = False, most: float | None = None, title: str = ""
) -> Figure:
    """`rate_axes` alone, with its legend beside it."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.4), layout="constrained")
        axes = figure.subplots()
        rate_axes(axes, curves, metric, payload=payload, most=most)
        lines, labels = axes.get_legend_handles_labels()
        if lines:
            folded = [wrapped(label, 38) for label in labels]
            # enough room for all names
            figure.set_figheight(max(4.4, 0.16 * sum(label.count("\n") + 1 for label in folded)))
            axes.legend(lines, folded, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set_title(title, fontsize=9, loc="left")
    return figure


def wrapped(label: str, most: int) -> str:
    """A label, broken into lines of at most so many characters."""
    return "\n".join(textwrap.wrap(label, most))


def svg(figure: Figure) -> str:
    """A figure as an SVG element."""
    out = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "uqdm"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()
