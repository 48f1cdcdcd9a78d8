"""Codecs over pictures: every point is measured once, in parallel, and kept. The same command goes
on where it stopped.

The results of one codec on one picture are a file in the folder `cache`. Its name follows from all
that they depend on: the picture's pixels, the codec's identity (settings, versions, fingerprint),
and what is measured. Knows no table and no plot.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm import cpus, files
from uqdm.errors import EvaluationError, ImageError, SourceError
from uqdm.evaluation import metrics
from uqdm.evaluation.codecs import Pixels, said
from uqdm.evaluation.curves import Curve, point
from uqdm.evaluation.external import Command
from uqdm.evaluation.processes import Workers, alone
from uqdm.evaluation.registry import Spec
from uqdm.quality import mse

MEASURES = 3  # This number changes when the measurements do, so that older results are not mistaken for new ones.
SETS = 500  # sets are compared by the patches and features of the first so many pictures
KEPT_SIDE = 256  # pixels a side; of a larger decoded picture only the middle is kept for looking at

Tick = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Measures:
    """What is measured besides rates, errors and times, and how many pictures are kept as decoded
    (their middle).
    """

    seed: int = 0
    kept: int = 4  # the first so many
    extractor: str | None = None  # TorchScript files
    perceptual: str | None = None
    psychovisual: bool = False  # SSIMULACRA 2, and Butteraugli where it is installed; both take long


@dataclasses.dataclass(frozen=True, eq=False)
class PictureResult:
    """One codec on one picture: a row for each point, what distances of sets need, and perhaps the
    decoded pictures.
    """

    rows: list[dict[str, Any]]
    slices: NDArray[np.float32]  # (points + 1, ...) of `metrics.slices`; the last is the true picture's
    features: NDArray[np.float64]  # (points + 1, d); d = 0 without an extractor
    decoded: NDArray[np.uint8]  # (points, h, w, 3), or empty if they are not kept

    def to_bytes(self) -> bytes:
        """As a cache file."""
        out = io.BytesIO()
        rows = np.frombuffer(json.dumps(self.rows).encode(), np.uint8)
        np.savez_compressed(out, rows=rows, slices=self.slices, features=self.features, decoded=self.decoded)
        return out.getvalue()

    @classmethod
    def read(cls, path: Path) -> "PictureResult | None":
        """None if the file is missing or not whole. A damaged archive may raise anything, and
        measuring again repairs it.
        """
        try:
            with np.load(path) as stored:
                return cls(
                    json.loads(stored["rows"].tobytes()), stored["slices"], stored["features"], stored["decoded"]
                )
        except Exception:
            return None


def measure(spec: Spec, pixels: Pixels, keep: bool, measures: Measures) -> PictureResult:
    """All points of one picture; with `keep`, also the decoded pictures. Random draws follow from
    the seed and the picture.
    """
    looked = _look(pixels, measures)
    rows, slices, features, decoded = [], [], [], []
    last: tuple[Pixels, _Looked] | None = None
    for coded in _codec(spec).code(pixels):
        if last is None or not np.array_equal(coded.pixels, last[0]):  # what shows the same measures the same
            last = coded.pixels, looked(coded.pixels)
        quality, own_slices, own_features = last[1]
        rows.append(
            {
                "setting": coded.setting,
                "bits": coded.bits,
                "payload": coded.payload,
                "pixels": pixels.shape[0] * pixels.shape[1],
                **quality,
                "encode": coded.encode,
                "decode": coded.decode,
            }
        )
        slices.append(own_slices)
        features.append(own_features)
        if keep:
            decoded.append(middle(coded.pixels))
    if not rows:
        raise EvaluationError("no points")
    _, own_slices, own_features = looked(pixels)
    slices.append(own_slices)
    features.append(own_features)
    kept = np.stack(decoded) if keep else np.zeros((0, 1, 1, 3), np.uint8)
    return PictureResult(rows, np.stack(slices), np.stack(features), kept)


_Looked = tuple[dict[str, float | None], NDArray[np.float32], NDArray[np.float64]]


def _look(true: Pixels, measures: Measures) -> Callable[[Pixels], _Looked]:
    """What measures a decoded picture: its distances from the true one, and what distances of sets
    need.
    """
    extractor = _module(measures.extractor) if measures.extractor else None
    perceptual = _module(measures.perceptual) if measures.perceptual else None
    seed = measures.seed ^ int(_digest(true)[:15], 16)
    structure = metrics.Structure(true)

    def looked(picture: Pixels) -> _Looked:
        ssim, ms_ssim = structure.of(picture)
        lpips = metrics.lpips(perceptual, true, picture) if perceptual else None
        quality = {"mse": mse(true, picture), "ssim": ssim, "ms_ssim": ms_ssim, "lpips": lpips}
        if measures.psychovisual:
            quality["ssimulacra2"] = metrics.ssimulacra2(true, picture)
            quality["butteraugli"] = metrics.butteraugli(true, picture)
        return (
            quality,
            metrics.slices(picture, seed),
            metrics.features(extractor, picture) if extractor else np.zeros(0),
        )

    return looked


def middle(pixels: Pixels) -> Pixels:
    """The middle of a picture, at most KEPT_SIDE x KEPT_SIDE."""
    top, left = (max(0, side - KEPT_SIDE) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + KEPT_SIDE, left : left + KEPT_SIDE])


def footprint(spec: Spec, pixels: Pixels) -> float | None:
    """The most MiB that a process holds while it codes a picture, beyond what it held before.

    Libraries and the model count. What loading takes for a moment does not count, because the codec
    has coded a corner before. None if it is not known: for external programs, and where the system
    does not say.
    """
    try:
        found: float | None = alone(_footprint, spec, pixels)
        return found
    except Exception:
        return None


def _footprint(spec: Spec, pixels: Pixels) -> float | None:
    before = _memory_of("VmRSS")
    codec = _codec(spec)
    if isinstance(codec, Command):
        return None
    collections.deque(codec.code(np.ascontiguousarray(pixels[:16, :16])), maxlen=0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is counted anew
    collections.deque(codec.code(pixels), maxlen=0)
    after = _memory_of("VmHWM")
    return None if before is None or after is None else (after - before) / 1024


def _memory_of(field: str) -> int | None:
    """KiB that this process holds (VmRSS), or has held at most (VmHWM). `getrusage` would begin
    with the parent's.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), None)


# --- over many


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """What an evaluation found. `kept` has, by codec, the measurements of the first pictures, with
    the decoded ones.
    """

    curves: list[Curve]
    pictures: list[Pixels]  # the middles of the first pictures, as many as are kept
    kept: dict[str, list[PictureResult]]
    failed: dict[str, str]  # codec -> why it has no curve
    left_out: dict[int, str] = dataclasses.field(default_factory=dict)  # picture -> why it cannot be read
    sizes: tuple[tuple[int, int], ...] = ()  # every (H, W) of the others, once


class _Seen:
    """What is known of the pictures. They are asked for one after the other, so few are in memory
    at a time.
    """

    def __init__(self, pictures: Sequence[Pixels], names: Sequence[str], kept: int) -> None:
        self.pictures, self._names, self._kept = pictures, names, kept
        self.digests: dict[int, str] = {}
        self.left_out: dict[int, str] = {}
        self.sizes: set[tuple[int, int]] = set()
        self.middles: dict[int, Pixels] = {}  # the middles of the first that can be read

    def name(self, i: int) -> str:
        return self._names[i] if self._names else f"picture {i + 1}"

    def first(self) -> int:
        """The first picture that can be read. Raises `EvaluationError`."""
        return next(i for i in range(len(self.pictures)) if self.digest(i)[0])

    def digest(self, i: int) -> tuple[str, Pixels | None]:
        """A picture's digest, empty if it cannot be read; and the picture, if it was read just
        now.
        """
        if i in self.digests or i in self.left_out:
            return self.digests.get(i, ""), None
        try:
            pixels = self.pictures[i]
        except SourceError:
            raise
        except ImageError as error:
            self.left_out[i] = str(error)
            if len(self.left_out) == len(self.pictures):
                raise EvaluationError(
                    f"none of {len(self.pictures)} pictures can be read; the first: {self.left_out[0]}"
                ) from None
            return "", None
        self.digests[i] = _digest(pixels)
        self.sizes.add((int(pixels.shape[0]), int(pixels.shape[1])))
        if len(self.middles) < self._kept:
            self.middles[i] = middle(pixels)
        return self.digests[i], pixels


def evaluate(
    pictures: Sequence[Pixels],
    specs: Sequence[Spec],
    cache: Path,
    measures: Measures = Measures(),
    *,
    names: Sequence[str] | None = None,
    jobs: int | None = None,
    memory: bool = True,
    tick: Tick = lambda what: None,
) -> Results:
    """Measures every codec on every picture uint8 (H, W, 3). `tick` is called once for each, with
    the codec's name.

    `pictures` may be any sequence that reads a picture when it is asked for; few are in memory at a
    time. A picture that raises `ImageError` is left out, for all codecs. `cache` is the folder of
    what has been measured. `names` are the pictures' names, for messages. `jobs` is the number of
    processes, by default one for each core. `memory` also measures `footprint`, on the first
    picture. A codec that fails on a picture is left out of the curves, and named. Raises
    `EvaluationError` if there is nothing to do, and `SourceError` if a whole file of pictures is
    broken.
    """
    if not len(pictures) or not specs:
        raise EvaluationError(f"{len(pictures)} pictures and {len(specs)} codecs: nothing to evaluate")
    seen = _Seen(pictures, names or (), measures.kept)
    curves, kept, failed = [], {}, {}
    jobs = jobs or cpus.available()
    first = seen.first()
    with Workers(jobs) as pool:
        for spec in specs:
            try:
                folder = cache_folder(spec, cache, measures)
                held = _memory(pool, spec, seen, first, folder) if memory else None
                measured = _measured(pool, 2 * jobs, spec, seen, folder, measures, tick)
                curves.append(curve(spec, measured, held() if held else None))
                kept[spec.name] = measured[: measures.kept]
            except concurrent.futures.BrokenExecutor:
                failed[spec.name] = "a process that ran it died: out of memory, perhaps, or a crash in a library"
                pool.renew()
            except SourceError:
                raise
            except Exception as error:  # one codec may fail in any way; the others go on
                failed[spec.name] = said(error)
    return Results(curves, [*seen.middles.values()], kept, failed, seen.left_out, tuple(sorted(seen.sizes)))


def _measured(
    pool: Workers, ahead: int, spec: Spec, seen: _Seen, folder: Path, measures: Measures, tick: Tick
) -> list[PictureResult]:
    """One codec on all pictures that can be read, in their order. New results go into the folder.

    At most `ahead` pictures wait to be measured. Raises what the codec raises, with the picture's
    name.
    """
    found: dict[int, PictureResult] = {}
    waiting: dict[Any, tuple[int, int, Path]] = {}

    def collect(most: int) -> None:
        """Takes finished results until at most `most` are waiting."""
        while len(waiting) > most:
            for done in concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED).done:
                i, place, path = waiting.pop(done)
                try:
                    one: PictureResult = done.result()
                except concurrent.futures.BrokenExecutor:
                    raise
                except Exception as error:
                    raise EvaluationError(f"{seen.name(i)}: {said(error)}") from error
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_atomic(path, one.to_bytes(), force=True)
                found[i] = _slim(one, place)
                tick(spec.name)

    try:
        place = 0  # among those that can be read
        for i in range(len(seen.pictures)):
            digest, pixels = seen.digest(i)
            if not digest:
                tick(spec.name)
                continue
            keep = place < measures.kept
            path = folder / f"{digest}{'-decoded' * keep}.npz"
            stored = PictureResult.read(path)
            if stored is None:
                pixels = seen.pictures[i] if pixels is None else pixels
                waiting[pool.submit(measure, spec, pixels, keep, measures)] = (i, place, path)
                collect(ahead)
            else:
                found[i] = _slim(stored, place)
                tick(spec.name)
            place += 1
        collect(0)
    finally:
        for future in waiting:
            future.cancel()
    return [found[i] for i in sorted(found)]


def _slim(one: PictureResult, i: int) -> PictureResult:
    """The result without what nobody asks of the i-th picture, so that many fit into memory."""
    if i < SETS:
        return one
    return dataclasses.replace(one, slices=one.slices[:0], features=one.features[:0])


def _memory(pool: Workers, spec: Spec, seen: _Seen, i: int, folder: Path) -> Callable[[], float | None]:
    """Begins to measure `footprint` on the i-th picture, while others are measured too, and gives
    what waits for it. It is kept in the folder.
    """
    path = folder / f"{seen.digests[i]}-held.json"
    try:
        stored: float | None = json.loads(path.read_text())
        return lambda: stored
    except (OSError, ValueError):
        begun = pool.submit(footprint, spec, seen.pictures[i])

    def wait() -> float | None:
        found: float | None = begun.result()
        if found is not None:
            files.write_atomic(path, json.dumps(found).encode(), force=True)
        return found

    return wait


def curve(spec: Spec, measured: Sequence[PictureResult], memory: float | None = None) -> Curve:
    """A codec's curve. Only settings that every picture has become points: means over different
    pictures cannot be compared.
    """
    codec = _codec(spec)
    everywhere = [{row["setting"]: k for k, row in enumerate(one.rows)} for one in measured]
    common = [s for s in everywhere[0] if all(s in own for own in everywhere)]
    dropped = {s for own in everywhere for s in own} - set(common)
    true = [one.slices[-1] for one in measured[:SETS]]
    looked = [one.features[-1] for one in measured[:SETS]]
    points = []
    for setting in common:
        at = [own[setting] for own in everywhere]
        swd = metrics.sliced_wasserstein(np.stack([m.slices[k] for m, k in zip(measured[:SETS], at)]), np.stack(true))
        fid = None
        if len(looked[0]) and len(looked) > 1:
            fid = metrics.frechet(np.stack([m.features[k] for m, k in zip(measured[:SETS], at)]), np.stack(looked))
        points.append(point(setting, [m.rows[k] for m, k in zip(measured, at)], swd, fid, spec.paper))
    points.sort(key=lambda p: p.bpp)
    prefix = getattr(codec, "aside", None)
    aside = tuple(s for s in common if prefix is not None and s.startswith(prefix))
    return Curve(
        spec.name,
        codec.label,
        tuple(points),
        codec.progressive,
        codec.hypothetical,
        memory=memory,
        aside=aside,
        dropped=tuple(sorted(dropped)),
    )


def _digest(pixels: Pixels) -> str:
    """A digest of a picture's content."""
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:24]


def cache_folder(spec: Spec, cache: Path, measures: Measures) -> Path:
    """The file name of one codec's results. It follows from all that they depend on; the machine
    too, because times are among them.
    """
    own: dict[str, Any] = {
        "codec": dict(_codec(spec).identity),
        "measures": MEASURES,
        "seed": measures.seed,
        "machine": machine(),
    }
    for key, path in (("extractor", measures.extractor), ("perceptual", measures.perceptual)):
        own[key] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
    if measures.psychovisual:
        own["psychovisual"] = True
    digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=list).encode()).hexdigest()[:16]
    readable = "".join(c if c.isalnum() or c in "-." else "_" for c in spec.name)
    return cache / f"{readable[-40:]}-{digest}"


# --- of this process, and of this machine


_CODECS: dict[Any, Any] = {}  # These belong to one process: opening models and modules takes longer than a picture.


def _codec(spec: Spec) -> Any:
    if spec not in _CODECS:
        _CODECS[spec] = spec.make()
    return _CODECS[spec]


def _module(path: str) -> Any:
    if path not in _CODECS:
        _CODECS[path] = metrics.read_module(path)
    return _CODECS[path]


def machine() -> str:
    """This machine in a few words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{platform.system()}, {model}, {cpus.available()} cores, Python {platform.python_version()}"
