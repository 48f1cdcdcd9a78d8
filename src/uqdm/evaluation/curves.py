"""Points of many pictures to curves, counted in two ways, and distances between curves. Knows no
codec and no picture.

Every table states these conventions. Rates are means over pictures of each one's bits per pixel.
PSNR is given twice: as the mean of the pictures' own, none of which counts for more than `CAP`, and
as that of the pooled squared error. The paper mixes whole files (JPEG, JPEG2000, BPG) with model
entropies (UQDM, VDM), and takes means of each picture's own PSNR.
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

PUBLISHED = {  # names beside the paper's code -> what they are, and whether their bits were counted without a file
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
    """One setting over n pictures. Rates are in bits per pixel. None means not known, or not there
    at this size. n is 0 for published numbers.
    """

    setting: str
    n: int
    bpp: float
    payload_bpp: float | None
    exact: int  # pictures without any error
    psnr: float | None  # dB, mean of the pictures' own; None if all are exact
    pooled_psnr: float | None  # dB; None if all are exact
    ssim: float | None = None
    ms_ssim: float | None = None
    swd: float | None = None
    fid: float | None = None
    lpips: float | None = None
    ssimulacra2: float | None = None
    butteraugli: float | None = None
    encode: float | None = None  # seconds of the processor, median
    decode: float | None = None

    @property
    def lossless(self) -> bool:
        """Whether every picture comes back."""
        return self.exact == self.n and self.psnr is None

    @property
    def bits_per_dimension(self) -> float:
        """Bits per dimension of whole files: a third of `bpp`."""
        return self.bpp / 3


@dataclasses.dataclass(frozen=True)
class Curve:
    """A codec's points by rate."""

    name: str
    label: str
    points: tuple[Point, ...]
    progressive: bool = False
    hypothetical: bool = False
    published: bool = False  # numbers that others published, of other pictures
    elsewhere: bool = False  # from another evaluation, perhaps of other pictures
    memory: float | None = None  # the most MiB beyond what the process had before
    aside: tuple[str, ...] = ()  # settings that are points of interest, but not part of the curve
    dropped: tuple[str, ...] = ()  # settings that some pictures do not have; they are no points

    def lossless(self) -> Point | None:
        """The cheapest point at which every picture comes back."""
        return min((p for p in self.points if p.lossless), key=lambda p: p.bpp, default=None)

    def at(self, rate: float, metric: str = "psnr", payload: bool = False) -> float | None:
        """The metric at a rate, linear between points in the rate's logarithm. None outside the
        points, or if it is not known.
        """
        rates, values = self.known(metric, payload)
        if len(rates) < 2 or not rates[0] <= rate <= rates[-1]:
            return None
        return float(np.interp(math.log(rate), np.log(rates), values))

    def known(self, metric: str, payload: bool = False) -> tuple[list[float], list[float]]:
        """Ascending positive rates, and the metric at each.

        Points that another point beats in rate and quality stay: the curve shows what was measured.
        By payload only points with a known payload count. Points in `aside` never do.
        """
        positive = metric in ("swd", "fid", "lpips", "butteraugli")  # whose axes are logarithmic
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
    setting: str,
    rows: Sequence[Mapping[str, Any]],
    swd: float | None = None,
    fid: float | None = None,
    paper: bool = False,
) -> Point:
    """A setting's point from a row for each picture: bits, payload, pixels (their number), mse, and
    what else was measured.

    With `paper`, pictures without error are left out of the mean PSNR, and nothing is capped.
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
        ssimulacra2=mean("ssimulacra2"),
        butteraugli=mean("butteraugli"),
        swd=swd,
        fid=fid,
        encode=median("encode"),
        decode=median("decode"),
    )


def read_published(path: str | Path) -> list[Curve]:
    """The curves of a YAML file like those beside the paper's code: name -> bpp, psnr, fid. Raises
    `EvaluationError`.
    """
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
                points.append(
                    Point(f"{i + 1}", 0, float(bpp), float(bpp) if counted else None, 0, quality, None, fid=realism)
                )
            found.append(
                Curve(f"published:{name}", f"{label}, published", tuple(points), hypothetical=counted, published=True)
            )
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise EvaluationError(f"{path}: no curves of bpp and psnr by name: {type(error).__name__}: {error}") from None


def read_results(path: str | Path) -> list[Curve]:
    """The curves of another evaluation's results.json. Their labels say which pictures it had, and
    how many. Raises `EvaluationError`.
    """
    try:
        record = json.loads(Path(path).read_text())
        found = [Curve.from_json(one) for one in record["curves"]]
        conditions = record.get("conditions", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(
            f"{path}: not the results.json of an evaluation: {type(error).__name__}: {error}"
        ) from None
    about = [str(conditions["data"])] if "data" in conditions else []
    about += ["as the paper counts"] if conditions.get("paper") else []
    marked = []
    for curve in found:
        if not curve.published:
            counted = f"n = {max((p.n for p in curve.points), default=0)}"
            marked.append(
                dataclasses.replace(curve, label=f"{curve.label} ({'; '.join([*about, counted])})", elsewhere=True)
            )
    return marked


def bd_rate(anchor: Curve, other: Curve, metric: str = "psnr", payload: bool = False) -> float:
    """Bjøntegaard's delta rate (VCEG-M33): by how many per cent `other` needs more (+) or less (-)
    rate for the quality of `anchor`.

    This is the mean difference of log rate over the range of quality that both have. A monotone
    cubic (PCHIP) goes through each curve's points; the polynomial of 2001 swings between them. The
    measure has limits: it says nothing outside the common range, weighs every dB alike, and
    compares curves that are averages already. Raises `EvaluationError` if a curve has fewer than
    four points in which the quality rises with the rate, or if the common range is less than 1 dB
    (or hundredths of SSIM).
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
            raise EvaluationError(
                f"{curve.label}: {len(kept)} points of rising {metric}; the Bjøntegaard delta needs four"
            )
        qualities = [v for _, v in kept]
        fits.append(PchipInterpolator(qualities, np.log([r for r, _ in kept])))
        low, high = max(low, qualities[0]), min(high, qualities[-1])
    least = 0.01 if metric in ("ssim", "ms_ssim") else 1.0
    if high - low < least:
        common = f"{low:.2f} to {high:.2f}" if high > low else "nothing"
        raise EvaluationError(
            f"{anchor.label} and {other.label} have {common} of {metric} in common; expected {least:g} or more"
        )
    areas = [float(fit.integrate(low, high)) for fit in fits]
    return 100 * math.expm1((areas[1] - areas[0]) / (high - low))
