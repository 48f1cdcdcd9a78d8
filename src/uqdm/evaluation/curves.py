"""Points of many pictures to curves, two countings each, and distances between curves; knows no codec and no picture.

Conventions, stated in every table. Rates are means over pictures of each one's bits per pixel. PSNR comes twice: the mean of each
picture's own, none of which counts for more than `CAP`, and that of the pooled squared error. The paper mixes whole files (JPEG,
JPEG2000, BPG) with model entropies (UQDM, VDM), and takes means of each picture's own PSNR.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uqdm.errors import EvaluationError
from uqdm.quality import capped, psnr

PUBLISHED = {  # names beside the paper's code -> what they are, and whether bits were counted without a file
    "jpeg": ("JPEG 4:2:0", False),
    "jpeg2000": ("JPEG2000, no colour transform", False),
    "bpg": ("BPG 4:2:0", False),
    "ctc": ("CTC", False),
    "cdc-0": ("CDC, ρ = 0, estimated", True),
    "cdc-p": ("CDC, ρ = 0.9, estimated", True),
    "vdm-d": ("VDM-D, T = 20, hypothetical", True),
    "vdm-a": ("VDM-A, T = 20, hypothetical", True),
    "vdm-f": ("VDM-F, T = 20, hypothetical", True),
    "vdm-1000d": ("VDM-D, T = 1000, hypothetical", True),
    "uqdm-d": ("UQDM-D, model entropy", True),
    "uqdm-a": ("UQDM-A, model entropy", True),
    "uqdm-f": ("UQDM-F, model entropy", True),
}


@dataclasses.dataclass(frozen=True)
class Point:
    """One setting over n pictures. Rates in bits per pixel; None: not known, or not there at this size. Of published numbers n is 0."""

    setting: str
    n: int
    bpp: float
    payload_bpp: float | None
    exact: int  # pictures without any error
    psnr: float | None  # dB, mean of pictures' own; None where all are exact
    pooled_psnr: float | None  # dB; None where all are exact
    ssim: float | None = None
    ms_ssim: float | None = None
    swd: float | None = None
    fid: float | None = None
    lpips: float | None = None
    encode: float | None = None  # seconds, median
    decode: float | None = None

    @property
    def lossless(self) -> bool:
        """Whether every picture comes back."""
        return self.exact == self.n and self.psnr is None

    @property
    def bits_per_dimension(self) -> float:
        """Of whole files, a third of `bpp`."""
        return self.bpp / 3


@dataclasses.dataclass(frozen=True)
class Curve:
    """A codec's points by rate."""

    name: str
    label: str
    points: tuple[Point, ...]
    progressive: bool = False
    hypothetical: bool = False
    published: bool = False  # numbers that others printed, of other pictures
    elsewhere: bool = False  # of another evaluation, perhaps of other pictures
    memory: float | None = None  # MiB beyond what the process had before, at most
    aside: tuple[str, ...] = ()  # settings that are points of interest, and no part of the curve
    dropped: tuple[str, ...] = ()  # settings that not every picture had, of which there are no points

    def lossless(self) -> Point | None:
        """The cheapest point at which every picture comes back."""
        return min((p for p in self.points if p.lossless), key=lambda p: p.bpp, default=None)

    def at(self, rate: float, metric: str = "psnr", payload: bool = False) -> float | None:
        """The metric at a rate, linear between points in the rate's logarithm; None outside them, or where it has none."""
        rates, values = self.known(metric, payload)
        if len(rates) < 2 or not rates[0] <= rate <= rates[-1]:
            return None
        return float(np.interp(math.log(rate), np.log(rates), values))

    def known(self, metric: str, payload: bool = False) -> tuple[list[float], list[float]]:
        """Ascending positive rates, and the metric there. Points that another beats in rate and quality stay: a curve is what it is.

        Of the payload only points where that is known; never those `aside`.
        """
        positive = metric in ("swd", "fid", "lpips")  # whose axes are logarithmic
        rows: list[tuple[float, float]] = []
        for p in self.points:
            rate, value = p.payload_bpp if payload else p.bpp, getattr(p, metric)
            if p.setting in self.aside or rate is None or rate <= 0 or value is None or not math.isfinite(value):
                continue
            if value > 0 or not positive:
                rows.append((rate, value))
        rows.sort()
        return [r for r, _ in rows], [v for _, v in rows]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        points = [dataclasses.asdict(p) | {"bits_per_dimension": p.bits_per_dimension} for p in self.points]
        return dataclasses.asdict(self) | {"points": points}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Curve":
        """Inverse of `to_json`."""
        tuples = {name: tuple(record[name]) for name in ("aside", "dropped")}
        points = [{k: v for k, v in p.items() if k != "bits_per_dimension"} for p in record["points"]]
        return cls(**dict(record) | tuples | {"points": tuple(Point(**p) for p in points)})


def point(
    setting: str, rows: Sequence[Mapping[str, Any]], swd: float | None = None, fid: float | None = None, paper: bool = False
) -> Point:
    """A setting's point from each picture's row: bits, payload, pixels (their number), mse, and what else was measured.

    `paper`: pictures without error are left out of the mean PSNR, and nothing is capped.
    """
    errors = [row["mse"] for row in rows]
    own = [psnr(e) for e in errors if e] if paper else [capped(e) for e in errors]
    exact = errors.count(0)
    sizes = [row["pixels"] for row in rows]
    pooled = float(np.average(errors, weights=sizes))
    payloads = [row["payload"] for row in rows]

    def mean(key: str) -> float | None:
        values = [row.get(key) for row in rows]
        return None if any(v is None for v in values) else float(np.mean(values))  # type: ignore[arg-type]

    def median(key: str) -> float | None:
        values = [row[key] for row in rows if row.get(key) is not None]
        return float(np.median(values)) if values else None

    return Point(
        setting=setting,
        n=len(rows),
        bpp=float(np.mean([row["bits"] / size for row, size in zip(rows, sizes)])),
        payload_bpp=None if None in payloads else float(np.mean([p / size for p, size in zip(payloads, sizes)])),
        exact=exact,
        psnr=float(np.mean(own)) if exact < len(rows) else None,
        pooled_psnr=psnr(pooled) if pooled else None,
        ssim=mean("ssim"),
        ms_ssim=mean("ms_ssim"),
        lpips=mean("lpips"),
        swd=swd,
        fid=fid,
        encode=median("encode"),
        decode=median("decode"),
    )


def read_published(path: str | Path) -> list[Curve]:
    """Curves of a YAML file like those beside the paper's code: name -> bpp, psnr, fid. Raises `EvaluationError`."""
    import yaml

    try:
        tables = yaml.safe_load(Path(path).read_text())
        found = []
        for name, table in tables.items():
            columns = [table["bpp"], table["psnr"], table.get("fid", [None] * len(table["bpp"]))]
            label, counted = PUBLISHED.get(name, (name, False))
            points = []
            for i, (bpp, value, fid) in enumerate(zip(*columns, strict=True)):
                if math.isnan(float(value)) or not math.isfinite(float(bpp)):
                    raise ValueError(f"{name}: bpp {bpp}, psnr {value}; expected numbers, or .inf for lossless")
                quality = float(value) if math.isfinite(float(value)) else None
                realism = None if fid is None else float(fid)
                points.append(Point(f"{i + 1}", 0, float(bpp), float(bpp) if counted else None, 0, quality, None, fid=realism))
            found.append(Curve(f"published:{name}", f"{label}, published", tuple(points), hypothetical=counted, published=True))
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise EvaluationError(f"{path}: no curves of bpp and psnr by name: {type(error).__name__}: {error}") from None


def read_results(path: str | Path) -> list[Curve]:
    """The curves of another evaluation's results.json, of which pictures and how many in their labels. Raises `EvaluationError`."""
    try:
        record = json.loads(Path(path).read_text())
        found = [Curve.from_json(one) for one in record["curves"]]
        conditions = record.get("conditions", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{path}: not the results.json of an evaluation: {type(error).__name__}: {error}") from None
    about = [str(conditions["data"])] if "data" in conditions else []
    about += ["as the paper counts"] if conditions.get("paper") else []
    marked = []
    for curve in found:
        if not curve.published:
            counted = f"n = {max((p.n for p in curve.points), default=0)}"
            marked.append(dataclasses.replace(curve, label=f"{curve.label} ({'; '.join([*about, counted])})", elsewhere=True))
    return marked


def bd_rate(anchor: Curve, other: Curve, metric: str = "psnr", payload: bool = False) -> float:
    """Bjøntegaard's delta rate (VCEG-M33): by how much more (+) or less (-) rate `other` has the quality of `anchor`, per cent.

    The mean difference of log rate over the range of quality that both have, with a monotone cubic (PCHIP) through each curve's points
    rather than the polynomial of 2001, which swings between them. Its limits: it says nothing outside the common range, weighs every dB
    alike, and compares curves that are averages already. Raises `EvaluationError` where a curve has fewer than four points in which the
    quality rises with the rate, or the ranges have less than 1 dB (or hundredths of SSIM) in common.
    """
    from scipy.interpolate import PchipInterpolator

    fits, low, high = [], -math.inf, math.inf
    for curve in (anchor, other):
        rates, values = curve.known(metric, payload)
        kept: list[tuple[float, float]] = []
        for rate, value in zip(rates, values):  # the upper envelope: quality as a function that can be inverted
            if not kept or value > kept[-1][1] + 1e-9:
                kept.append((rate, value))
        if len(kept) < 4:
            raise EvaluationError(f"{curve.label}: {len(kept)} points of rising {metric}; the Bjøntegaard delta needs four")
        qualities = [v for _, v in kept]
        fits.append(PchipInterpolator(qualities, np.log([r for r, _ in kept])))
        low, high = max(low, qualities[0]), min(high, qualities[-1])
    least = 0.01 if metric in ("ssim", "ms_ssim") else 1.0
    if high - low < least:
        common = f"{low:.2f} to {high:.2f}" if high > low else "nothing"
        raise EvaluationError(f"{anchor.label} and {other.label} have {common} of {metric} in common; expected {least:g} or more")
    areas = [float(fit.integrate(low, high)) for fit in fits]
    return 100 * math.expm1((areas[1] - areas[0]) / (high - low))
