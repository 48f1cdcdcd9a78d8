"""Codecs over pictures: every point measured once, in parallel, and kept; the same command goes on where it stopped.

Results of one codec on one picture are a file in the folder `cache`, named by what they depend on: the picture's pixels, the codec's
identity (settings, versions, fingerprint), and what is measured. Knows no table and no plot.
"""

import concurrent.futures
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm import images
from uqdm.errors import EvaluationError, UqdmError
from uqdm.evaluation import metrics
from uqdm.evaluation.codecs import Pixels
from uqdm.evaluation.curves import Curve, point
from uqdm.evaluation.registry import Spec

MEASURES = 1  # changes when what is measured does, so that older results are not taken for it

Tick = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Measures:
    """What is measured besides rates, errors and times, and which pictures are kept as decoded."""

    seed: int = 0
    kept: int = 4  # the first so many
    extractor: str | None = None  # TorchScript files
    perceptual: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """One codec on one picture: a row for each point, what set distances need, and perhaps what was decoded."""

    rows: list[dict[str, Any]]
    slices: NDArray[np.float32]  # (points + 1, ...) of `metrics.slices`; the last is the true picture's
    features: NDArray[np.float64]  # (points + 1, d); d = 0 without an extractor
    decoded: NDArray[np.uint8]  # (points, H, W, 3), or none of them

    def to_bytes(self) -> bytes:
        """As a cache file."""
        out = io.BytesIO()
        rows = np.frombuffer(json.dumps(self.rows).encode(), np.uint8)
        np.savez_compressed(out, rows=rows, slices=self.slices, features=self.features, decoded=self.decoded)
        return out.getvalue()

    @classmethod
    def read(cls, path: Path) -> "Measured | None":
        """None where the file is not there, or not whole."""
        try:
            with np.load(path) as stored:
                return cls(json.loads(stored["rows"].tobytes()), stored["slices"], stored["features"], stored["decoded"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None


def measure(spec: Spec, pixels: Pixels, keep: bool, measures: Measures) -> Measured:
    """All points of one picture; with `keep` also as decoded. What is drawn follows from the seed and the picture."""
    extractor = _module(measures.extractor) if measures.extractor else None
    perceptual = _module(measures.perceptual) if measures.perceptual else None
    seed = measures.seed ^ int(_digest(pixels)[:15], 16)
    rows, slices, features, decoded = [], [], [], []

    def describe(picture: Pixels) -> None:
        slices.append(metrics.slices(picture, seed))
        features.append(metrics.features(extractor, picture) if extractor else np.zeros(0))

    for coded in _codec(spec).code(pixels):
        rows.append(
            {
                "setting": coded.setting,
                "bits": coded.bits,
                "payload": coded.payload,
                "pixels": pixels.shape[0] * pixels.shape[1],
                "mse": metrics.mse(pixels, coded.pixels),
                "ssim": metrics.ssim(pixels, coded.pixels),
                "ms_ssim": metrics.ms_ssim(pixels, coded.pixels),
                "lpips": metrics.lpips(perceptual, pixels, coded.pixels) if perceptual else None,
                "encode": coded.encode,
                "decode": coded.decode,
            }
        )
        describe(coded.pixels)
        decoded.append(coded.pixels)
    describe(pixels)
    kept = np.stack(decoded) if keep else np.zeros((0, *pixels.shape), np.uint8)
    return Measured(rows, np.stack(slices), np.stack(features), kept)


def footprint(spec: Spec, pixels: Pixels) -> float | None:
    """MiB that coding a picture takes beyond what the process had, in a process of its own, the codec warmed up on a corner before."""
    try:
        with concurrent.futures.ProcessPoolExecutor(1, _context(), _begin) as pool:
            return pool.submit(_footprint, spec, pixels).result()
    except (UqdmError, OSError, ValueError, concurrent.futures.BrokenExecutor):
        return None


def _footprint(spec: Spec, pixels: Pixels) -> float:
    import resource

    def highest() -> int:
        return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    codec = _codec(spec)
    list(codec.code(np.ascontiguousarray(pixels[:16, :16])))
    before = highest()
    list(codec.code(pixels))
    return (highest() - before) / 1024


# --- over many ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """What an evaluation found. `kept`: of the first pictures, by codec, what was measured, with what was decoded."""

    curves: list[Curve]
    pictures: list[Pixels]  # the first, as many as are kept
    kept: dict[str, list[Measured]]
    failed: dict[str, str]  # codec -> why it has no curve


def evaluate(
    pictures: Sequence[Pixels],
    specs: Sequence[Spec],
    cache: Path,
    measures: Measures = Measures(),
    *,
    jobs: int | None = None,
    memory: bool = True,
    tick: Tick = lambda what: None,
) -> Results:
    """Every codec on every picture uint8 (H, W, 3). `tick` is called once for each, with the codec's name.

    `cache`: folder of what has been measured. `jobs`: processes, by default one a core. `memory`: also `footprint`, on the first picture.
    A codec that fails on a picture is left out of the curves, and named. Raises `EvaluationError` for nothing to do.
    """
    if not pictures or not specs:
        raise EvaluationError(f"{len(pictures)} pictures and {len(specs)} codecs: nothing to evaluate")
    found: dict[str, list[Measured | None]] = {spec.name: [None] * len(pictures) for spec in specs}
    failed: dict[str, str] = {}
    names = [_digest(p) for p in pictures]
    with concurrent.futures.ProcessPoolExecutor(jobs or _cores(), _context(), _begin) as pool:
        waiting: dict[Any, tuple[Spec, int, Path]] = {}
        for spec in specs:
            folder = _folder(spec, cache, measures)
            for i, pixels in enumerate(pictures):
                keep = i < measures.kept
                path = folder / f"{names[i]}{'-decoded' * keep}.npz"
                known = Measured.read(path)
                if known is not None:
                    found[spec.name][i] = known
                    tick(spec.name)
                else:
                    waiting[pool.submit(measure, spec, pixels, keep, measures)] = (spec, i, path)
        for done in concurrent.futures.as_completed(waiting):
            spec, i, path = waiting[done]
            try:
                one = done.result()
            except concurrent.futures.CancelledError:
                continue
            except (UqdmError, OSError, ValueError, RuntimeError) as error:
                if spec.name not in failed:
                    failed[spec.name] = f"picture {i + 1}: {error}"
                    for other, (its, _, _) in waiting.items():
                        if its.name == spec.name:
                            other.cancel()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            images.write_atomic(path, one.to_bytes(), force=True)
            found[spec.name][i] = one
            tick(spec.name)
    curves, kept = [], {}
    for spec in specs:
        if spec.name in failed:
            continue
        whole = [one for one in found[spec.name] if one is not None]
        curves.append(curve(spec, whole, footprint(spec, pictures[0]) if memory else None))
        kept[spec.name] = whole[: measures.kept]
    return Results(curves, list(pictures[: measures.kept]), kept, failed)


def curve(spec: Spec, measured: Sequence[Measured], memory: float | None = None) -> Curve:
    """A codec's curve. Only settings that every picture has become points: means over different pictures do not compare."""
    codec = _codec(spec)
    common = [row["setting"] for row in measured[0].rows]
    for one in measured[1:]:
        there = {row["setting"] for row in one.rows}
        common = [setting for setting in common if setting in there]
    points = []
    for setting in common:
        places = [next(k for k, row in enumerate(one.rows) if row["setting"] == setting) for one in measured]
        a, b = (np.stack([one.slices[k] for one, k in zip(measured, at)]) for at in (places, [-1] * len(measured)))
        fid = None
        if measured[0].features.shape[1] and len(measured) > 1:
            given = [np.stack([m.features[k] for m, k in zip(measured, at)]) for at in (places, [-1] * len(measured))]
            fid = metrics.frechet(*given)
        points.append(point(setting, [m.rows[k] for m, k in zip(measured, places)], metrics.sliced_wasserstein(a, b), fid))
    points.sort(key=lambda p: p.bpp)
    return Curve(spec.name, codec.label, tuple(points), codec.progressive, codec.hypothetical, memory=memory)


def _digest(pixels: Pixels) -> str:
    """Of a picture's content."""
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:24]


def _folder(spec: Spec, cache: Path, measures: Measures) -> Path:
    """Of one codec's results."""
    own: dict[str, Any] = {"codec": dict(_codec(spec).identity), "measures": MEASURES, "seed": measures.seed}
    for key, path in (("extractor", measures.extractor), ("perceptual", measures.perceptual)):
        own[key] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
    digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=list).encode()).hexdigest()[:16]
    readable = "".join(c if c.isalnum() or c in "-." else "_" for c in spec.name)
    return cache / f"{readable[-40:]}-{digest}"


_CODECS: dict[Any, Any] = {}  # a process's own: opening models and modules takes longer than a picture


def _codec(spec: Spec) -> Any:
    if spec not in _CODECS:
        _CODECS[spec] = spec.make()
    return _CODECS[spec]


def _module(path: str) -> Any:
    if path not in _CODECS:
        _CODECS[path] = metrics.read_module(path)
    return _CODECS[path]


def _context() -> Any:
    return multiprocessing.get_context("spawn")  # forks of a process with threads may hang


def _begin() -> None:
    """A worker's first lines: one thread each, since pictures run in parallel."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
