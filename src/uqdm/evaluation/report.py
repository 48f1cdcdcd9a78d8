"""An evaluation as files: results.json, results.csv, table.md, report.html. Knows no codec."""

import base64
import csv
import dataclasses
import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from uqdm import files
from uqdm.errors import EvaluationError
from uqdm.evaluation import plots
from uqdm.evaluation.curves import Curve, Point, bd_rate
from uqdm.evaluation.evaluate import SETS, Results
from uqdm.picture import from_array
from uqdm.quality import psnr

RATES = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0)  # bits per pixel in the main table
QUALITIES = (30.0, 35.0, 40.0)  # dB
STRIP_RATES = (0.5, 1.0, 2.0, 4.0)
COUNTING = (
    (
        "Rates are means over pictures of bits per pixel. “File”: whole files, every header, table and check included."
        " “Payload”: entropy-coded data of the picture alone. One bit per dimension is three bits per pixel."
    ),
    (
        "Values at a rate are read off each curve, linear in the logarithm of the rate. A dash: outside the curve, or"
        " not known."
    ),
    (
        "Dashed curves and grey rows are published or of other evaluations, of other pictures than these; hypothetical"
        " ones count a model’s bits: no file was written."
    ),
)
PAPER_TIMES = (
    "For comparison, the paper’s own times (appendix C.2), of a picture of 32 × 32: 0.6 s to encode and 0.5 s to decode"
    " with fixed variance on a Xeon Gold 5218, 0.5 and 0.3 s on a Quadro RTX 8000; about five minutes each way with"
    " learned variance."
)
CAPPED = (
    "PSNR is the mean of pictures’ own, none of which counts for more than 58.92 dB, the PSNR of rounding to whole"
    " values itself; that of the pooled squared error is in the tables of points."
)
UNCAPPED = (
    "PSNR is the mean of pictures’ own, those without any error left out; that of the pooled squared error is in the"
    " tables of points."
)
AS_PAPER = (
    "Counted as in the paper: JPEG and BPG at 4:2:0 and JPEG2000 without its colour transform, in whole files; UQDM and"
    " VDM by their models’ own code length, without any header. These rates do not compare with each other. In the"
    " paper a UQDM’s PSNR is of the mean squared error of two pictures at a time; here it is each picture’s own."
)


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What an evaluation was of."""

    data: str
    pictures: int
    sizes: str
    seed: int
    paper: bool
    versions: Mapping[str, str]
    machine: str

    def counting(self, curves: Sequence[Curve]) -> list[str]:
        """What has to be said about how it was counted."""
        found = [*COUNTING, *((UNCAPPED, AS_PAPER) if self.paper else (CAPPED,))]
        if any(p.fid is not None for c in curves if not c.published for p in c.points):
            found.append(
                f"Fréchet distances are of {min(self.pictures, SETS)} pictures: with fewer than some ten for each"
                " feature, far too large."
            )
        for c in curves:
            if c.dropped:
                found.append(f"{c.label}: no points for {', '.join(c.dropped)}, which not every picture has.")
        return found

    def line(self) -> str:
        """The conditions in one line."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.data}: {self.pictures} pictures, {self.sizes}. Seed {self.seed}; {versions}; {self.machine}."


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text. `kinds` says of each row whether it is ours, published or another's."""

    head: list[str]
    rows: list[list[str]]
    kinds: list[str]
    caption: str = ""

    def for_page(self) -> dict[str, Any]:
        """The table as HTML."""
        rows = [{"cells": cells, "kind": kind} for cells, kind in zip(self.rows, self.kinds)]
        return {"head": self.head, "rows": rows, "caption": self.caption}

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [self.head, ["---"] + ["---:"] * (len(self.head) - 1), *self.rows]
        return self.caption + ".\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main_table(curves: Sequence[Curve], metric: str = "psnr", payload: bool = False) -> Table:
    """A row for each codec: lossless rate by both countings, PSNR at rates, rates at PSNRs, time
    and memory.
    """
    head = [
        "codec",
        "lossless, file",
        "payload",
        *(f"dB at {r:g}" for r in RATES),
        *(f"bpp at {q:g} dB" for q in QUALITIES),
    ]
    head += ["encode, ms", "decode, ms", "MiB"]
    rows, kinds = [], []
    for curve in (c for c in curves if not payload or c.known(metric, payload)[0]):
        end = curve.lossless()
        cells = [
            curve.label,
            number(end.bpp if end and not curve.hypothetical else None, 2),
            number(end.payload_bpp if end else None, 2),
        ]
        cells += [number(curve.at(rate, metric, payload), 1) for rate in RATES]
        cells += [number(rate_at(curve, quality, metric, payload), 2) for quality in QUALITIES]
        rows.append([*cells, spent(curve, "encode"), spent(curve, "decode"), number(curve.memory, 0)])
        kinds.append(kind(curve))
    counting = (
        "payload only, of codecs of which it is known"
        if payload
        else "whole files, of hypothetical codecs of what a model counts"
    )
    mean = "of the pooled squared error" if metric == "pooled_psnr" else "mean of pictures’ own"
    caption = (
        f"PSNR ({mean}) at bits per pixel of {counting}. Times: of the processor, for a picture, lossy / lossless where"
        " they differ, medians; of external programs by the clock. MiB: what a process holds beyond an idle one,"
        " library and model included"
    )
    return Table(head, rows, kinds, caption)


def spent(curve: Curve, what: str) -> str:
    """Milliseconds to encode or decode: the median of lossy points / of the lossless one. With one
    kind only, or one file for all, it is one number.
    """
    end = curve.lossless()
    last: float | None = None if end is None else getattr(end, what)
    lossy = [
        getattr(p, what)
        for p in curve.points
        if getattr(p, what) is not None and not p.lossless and p.setting not in curve.aside
    ]
    times = [] if what == "encode" and curve.progressive else [float(np.median(lossy))] if lossy else []
    return " / ".join(f"{1e3 * t:.1f}" for t in [*times, *([] if last is None else [last])]) or "–"


def delta_table(curves: Sequence[Curve], payload: bool = False) -> Table | None:
    """Bjøntegaard deltas of each curve against each other; None if there is nothing to compare."""
    some = [c for c in curves if len(c.known("psnr", payload)[0]) >= 4]
    if len(some) < 2:
        return None

    def cell(anchor: Curve, other: Curve) -> str:
        try:
            return "–" if anchor is other else f"{bd_rate(anchor, other, payload=payload):+.0f} %"
        except EvaluationError:
            return "–"

    rows = [[c.label, *(cell(anchor, c) for anchor in some)] for c in some]
    counting = "payload" if payload else "whole files"
    caption = (
        f"Bjøntegaard delta rate (PSNR, {counting}) of each row against each column; minus: fewer bits at equal PSNR,"
        " over the range both have. A dash: less than 1 dB in common"
    )
    return Table(["codec", *(c.label for c in some)], rows, [kind(c) for c in some], caption)


def versus_table(ours: Curve, others: Sequence[Curve]) -> Table:
    """A row for each other curve: by how much ours is better at equal rates, by both countings."""

    def gains(found: Callable[[Curve, bool], float | None], digits: int) -> list[str]:
        cells = []
        for other in others:
            pairs = [
                (None if other.hypothetical else found(ours, False), found(other, False)),
                (found(ours, True), found(other, True)),
            ]
            both = ["–" if own is None or theirs is None else f"{own - theirs:+.{digits}f}" for own, theirs in pairs]
            cells.append(" / ".join(both) if both != ["–", "–"] else "–")
        return cells

    def cost(curve: Curve, payload: bool) -> float | None:
        end = curve.lossless()
        bits = None if end is None else end.payload_bpp if payload else end.bpp
        return None if bits is None else -bits

    columns = [[other.label for other in others], gains(cost, 2)]
    columns += [gains(functools.partial(_decibels, rate), 1) for rate in RATES]
    caption = (
        f"{ours.label} against each, file / payload: bits per pixel that it saves lossless, and how many dB it is"
        " better by at so many bits per pixel; minus where it is worse, a dash where one of the two has no value"
    )
    head = ["against", "lossless, bits", *(f"dB at {r:g}" for r in RATES)]
    return Table(head, [list(row) for row in zip(*columns)], [kind(c) for c in others], caption)


def _decibels(rate: float, curve: Curve, payload: bool) -> float | None:
    return curve.at(rate, payload=payload)


def versus(curves: Sequence[Curve]) -> list[Table]:
    """Each of ours against those that are not ours. Other evaluations' curves are of other
    pictures.
    """
    others = [c for c in curves if not plots.is_ours(c) and not c.elsewhere]
    return [versus_table(c, others) for c in curves if plots.is_ours(c)] if others else []


def deltas(curves: Sequence[Curve]) -> list[Table]:
    """Deltas by both countings, if there is something to compare."""
    return [t for t in (delta_table(curves), delta_table(curves, payload=True)) if t]


def tables(curves: Sequence[Curve], measured: Sequence[Curve]) -> list[Table]:
    """The contents of `table.md`: the main table, by payload, from pooled errors, ours against
    each, Bjøntegaard deltas.
    """
    found = [main_table(curves), main_table(curves, payload=True), main_table(measured, "pooled_psnr")]
    return [*found, *versus(curves), *deltas(measured)]


def point_table(curve: Curve) -> dict[str, Any]:
    """Every point of a curve."""
    columns = (
        ("setting", lambda p: p.setting), ("n", lambda p: str(p.n)), ("bpp, file", lambda p: number(p.bpp, 3)),
        ("bpp, payload", lambda p: number(p.payload_bpp, 3)), ("bits/dim", lambda p: number(p.bits_per_dimension, 3)),
        ("exact", lambda p: str(p.exact)), ("PSNR", lambda p: number(p.psnr, 2)), ("PSNR, pooled",
        lambda p: number(p.pooled_psnr, 2)),
        ("SSIM", lambda p: number(p.ssim, 4)), ("MS-SSIM", lambda p: number(p.ms_ssim, 4)), ("SWD",
        lambda p: number(p.swd, 3)),
        ("FID", lambda p: number(p.fid, 2)), ("LPIPS", lambda p: number(p.lpips, 4)),
        ("SSIMULACRA 2", lambda p: number(p.ssimulacra2, 2)), ("Butteraugli", lambda p: number(p.butteraugli, 3)),
        ("encode, ms", lambda p: number(p.encode and 1e3 * p.encode, 1)), ("decode, ms",
        lambda p: number(p.decode and 1e3 * p.decode, 1)),
    )  # fmt: skip
    kept = [(name, get) for name, get in columns if any(get(p) != "–" for p in curve.points)]
    return {
        "title": curve.label,
        "head": [n for n, _ in kept],
        "rows": [[get(p) for _, get in kept] for p in curve.points],
    }


def rate_at(curve: Curve, quality: float, metric: str = "psnr", payload: bool = False) -> float | None:
    """The first rate at which a curve reaches a PSNR, linear in the rate's logarithm. None if it
    never does, or begins above it.
    """
    rates, values = curve.known(metric, payload)
    if not values or values[0] > quality:
        return None
    for (r0, v0), (r1, v1) in zip(zip(rates, values), zip(rates[1:], values[1:])):
        if v0 <= quality <= v1:
            return float(np.exp(np.interp(quality, [v0, v1], np.log([r0, r1]))))
    return None


def kind(curve: Curve) -> str:
    """The kind of a row."""
    return "published" if curve.published or curve.elsewhere else "ours" if plots.is_ours(curve) else "other"


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


# --- pictures


def strips(results: Results) -> list[dict[str, Any]]:
    """For the first pictures and some rates: each codec's best point that costs at most the
    rate.
    """
    found = []
    for i, original in enumerate(results.pictures):
        for rate in STRIP_RATES if i == 0 else STRIP_RATES[1:3]:
            shown, above = [figure(original, "original", "24 bits/pixel", "")], []
            for curve in results.curves:
                one = results.kept[curve.name][i]
                area = one.rows[0]["pixels"]
                within = [k for k, row in enumerate(one.rows) if row["bits"] <= rate * area]
                if not within:
                    above.append(curve.label)
                    continue
                k = min(within, key=lambda k: one.rows[k]["mse"])
                row = one.rows[k]
                quality = "lossless" if row["mse"] == 0 else f"{psnr(row['mse']):.2f} dB"
                shown.append(
                    figure(one.decoded[k], curve.label, f"{row['bits'] / area:.2f} bits/pixel, {quality}", kind(curve))
                )
            left = f"; none of {', '.join(above)}" if above else ""
            found.append({"title": f"Picture {i + 1}, at most {rate:g} bits per pixel{left}", "shown": shown})
    return found


def figure(pixels: Any, label: str, text: str, kind: str) -> dict[str, str]:
    """One picture of a strip."""
    data = files.encode(from_array(np.ascontiguousarray(pixels)), "PNG")
    return {"png": base64.b64encode(data).decode(), "label": label, "text": text, "kind": kind}


# --- files


def write(
    results: Results,
    conditions: Conditions,
    out: Path,
    published: Sequence[Curve] = (),
    missing: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the four files into the folder `out` and returns their paths. `published` are curves
    that were not measured now.
    """
    curves = [*results.curves, *published]
    missing = dict(missing or {}) | results.failed
    record = {
        "conditions": dataclasses.asdict(conditions),
        "counting": conditions.counting(curves),
        "missing": missing,
        "curves": [c.to_json() for c in curves],
        "bjontegaard": [t.markdown() for t in deltas(results.curves)],
    }
    table = io.StringIO()
    fields = [
        "codec",
        "label",
        "progressive",
        "hypothetical",
        "published",
        "elsewhere",
        *(f.name for f in dataclasses.fields(Point)),
    ]
    fields.append("bits_per_dimension")
    rows = csv.DictWriter(table, fields, lineterminator="\n")
    rows.writeheader()
    for curve in curves:
        own = {
            "codec": curve.name,
            "label": curve.label,
            "progressive": curve.progressive,
            "hypothetical": curve.hypothetical,
        }
        for p in curve.points:
            own |= {
                "published": curve.published,
                "elsewhere": curve.elsewhere,
                "bits_per_dimension": p.bits_per_dimension,
            }
            rows.writerow(own | dataclasses.asdict(p))
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in (
        ("results.json", json.dumps(record, indent=1, allow_nan=False) + "\n"),
        ("results.csv", table.getvalue()),
        ("table.md", "\n\n".join(t.markdown() for t in tables(curves, results.curves)) + "\n"),
        ("report.html", page(results, conditions, published, missing)),
    ):
        files.write_atomic(out / name, text.encode(), force=True)
        written.append(out / name)
    return written


def page(results: Results, conditions: Conditions, published: Sequence[Curve], missing: Mapping[str, str]) -> str:
    """The report: one HTML file that needs no other file."""
    from jinja2 import Environment

    curves = [*results.curves, *published]
    ours = [c for c in results.curves if plots.is_ours(c)]
    apart, printed = [c for c in published if c.elsewhere], [c for c in published if not c.elsewhere]
    drawn = [
        (results.curves, "psnr", False, 15.0, "PSNR against whole files. Triangles: lossless."),
        (results.curves, "psnr", True, 15.0, "PSNR against payload alone, as if headers were free."),
        (results.curves, "psnr", False, 3.0, "Low rates."),
        ([*ours, *printed] if printed else [], "psnr", False, 15.0, "PSNR beside published curves, of other pictures."),
        (apart, "psnr", False, 15.0, "PSNR in other evaluations: few pictures, for what takes long."),
        (results.curves, "ssim", False, 8.0, "SSIM."),
        (results.curves, "ms_ssim", False, 8.0, "MS-SSIM."),
        (results.curves, "swd", False, 12.0, "Realism: sliced Wasserstein distance of patches; lower is better."),
        (curves, "fid", False, 12.0, "Fréchet distance of the supplied features; published curves are FID."),
        (results.curves, "lpips", False, 12.0, "LPIPS of the supplied network."),
        (results.curves, "ssimulacra2", False, 8.0, "SSIMULACRA 2."),
        (results.curves, "butteraugli", False, 8.0, "Butteraugli distance; lower is better."),
    ]
    shown = []
    for some, metric, payload, most, caption in drawn:
        known = [c for c in some if len(c.known(metric, payload)[0]) > 1 or (metric == "psnr" and c.lossless())]
        if known:
            shown.append(
                {"svg": plots.svg(plots.rate_figure(known, metric, payload=payload, most=most)), "caption": caption}
            )
    template = Environment(autoescape=True).from_string(
        resources.files("uqdm.evaluation").joinpath("report.html").read_text()
    )
    side = max((p.shape[1] for p in results.pictures), default=64)
    return template.render(
        title=f"Rate and distortion: {conditions.data}",
        facts=conditions.line(),
        counting=conditions.counting(curves),
        missing=missing,
        main=main_table(curves).for_page(),
        others=[
            ("The same by payload alone", main_table(curves, payload=True).for_page()),
            ("The same with PSNR of the pooled squared error", main_table(results.curves, "pooled_psnr").for_page()),
        ],
        times=PAPER_TIMES,
        deltas=[table.for_page() for table in deltas(results.curves)],
        versus=[table.for_page() for table in versus(curves)],
        plots=shown,
        strips=strips(results),
        tables=[point_table(c) for c in curves],
        width=min(320, max(150, 2 * side)),
    )
