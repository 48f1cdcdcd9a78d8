"""Our models under evaluation, and hypothetical codecs: models whose bits are counted without a
file.

`Progressive` cuts one real file: after each step, and at given rates. Its payload is what the range
coder wrote, without header, heads and checks. `Estimated` counts as the paper did: the model's own
code length, without a header. `Gaussian` is DiffC (Theis et al. 2022): a variational diffusion
model's steps are counted at their relative entropies, which no coder of practical speed reaches.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import uqdm
from uqdm import bundle as package
from uqdm import codec, library
from uqdm.errors import EvaluationError
from uqdm.evaluation.codecs import Coded, Pixels, best_within, timed
from uqdm.format import VERSION, bytes_at, ends, parse
from uqdm.prefixes import Prefixes
from uqdm.previews import Method, Way

RATES = (
    0.1,
    0.15,
    0.25,
    0.4,
    0.5,
    0.75,
    1.0,
    1.25,
    1.5,
    2.0,
    2.5,
    3.0,
    4.0,
    5.0,
    6.0,
    7.0,
    8.0,
    10.0,
    12.0,
)  # bits per pixel of cut files


@dataclasses.dataclass(frozen=True)
class Progressive:
    """A model's files, cut at `rates` and after each step.

    A file that is shorter than a rate counts whole. Points after steps are not part of the curve.
    `method` says how previews are made; `seed` is that of the dither and of random draws.
    """

    name: str
    model: str
    rates: tuple[float, ...] = RATES
    method: Method = "denoise"
    seed: int = 0
    progressive: bool = True
    hypothetical: bool = False
    aside: str = "step "  # how the names of points beside the curve begin

    @property
    def label(self) -> str:
        """See `Contender`."""
        return _called(self.model) + (f", {self.method}" if self.method != "denoise" else "")

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Contender`. Files follow from the model's fingerprint and the format, and previews
        follow from the code.
        """
        found = opened(self.model)
        own = {
            "name": self.name,
            "fingerprint": found.fingerprint,
            "rates": self.rates,
            "method": self.method,
            "seed": self.seed,
        }
        return own | {"format": VERSION} | _code()

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Contender`."""
        model = opened(self.model)
        data, encoding = timed(model.compress, pixels, seed=self.seed)
        area = pixels.shape[0] * pixels.shape[1]
        contents = parse(data)
        steps = {f"step {step}": end for step, end in enumerate(ends(contents)[1:-1], 1)}
        cuts = {f"{rate:g} bpp": min(bytes_at(rate, area), len(data)) for rate in self.rates}
        cuts = {name: n for name, n in cuts.items() if n > contents.header_size} | {"whole": len(data)}
        points = sorted((steps | cuts).items(), key=lambda one: one[1])
        way = Way(self.method, self.seed)
        for (name, n), one in zip(points, previews(model, data, [n for _, n in points], way)):
            yield Coded(name, 8 * n, 8 * _payload(data[:n], model), one.pixels, encoding, one.seconds)

    def within(self, pixels: Pixels, bits: float) -> Coded:
        """See `Contender`. The file is cut there."""
        model = opened(self.model)
        data, encoding = timed(model.compress, pixels, seed=self.seed)
        size = parse(data, steps=0).header_size
        cut = data[: max(size, int(bits // 8))]
        back, decoding = timed(model.decode, cut, method=self.method, seed=self.seed)
        return Coded("cut", 8 * len(cut), 8 * _payload(cut, model), back.image, encoding, decoding)


@dataclasses.dataclass(frozen=True, eq=False)
class Preview:
    """What the first `size` bytes of a file show. `seconds`: what decoding them from the start
    takes.
    """

    size: int
    pixels: Pixels
    seconds: float


def previews(model: codec.Codec, data: bytes, sizes: Sequence[int], way: Way) -> Iterator[Preview]:
    """The previews of `data[:size]` for ascending sizes, from one walk; none may end inside the
    header.

    The seconds of a beginning are those of its whole steps, each measured once, and of its own part
    of the next step and preview. `data` is a file of three channels, without alpha and correction.
    """
    walked, spent = Prefixes(model, way, room=0), 0.0
    last: Preview | None = None
    for size in sizes:
        if last is None or size != last.size:
            _, seconds = timed(walked.advance, data[:size])
            spent += seconds
            decoded, seconds = timed(walked.decode, data[:size])
            last = Preview(size, decoded.image, spent + seconds)
        yield last


@functools.cache
def _called(model: str) -> str:
    """A model's name in labels. For published weights it says how they were read."""
    found = package.read(Path(model))
    published = str(found.about.get("description", "")).startswith("published")
    return (
        f"UQDM, {found.name}, published weights, {found.about.get('reading')}" if published else f"uqdm, {found.name}"
    )


@functools.cache
def _code() -> dict[str, Any]:
    """The versions of what makes files and previews, ours and others'. Results of other versions
    are not reused.
    """
    root = Path(uqdm.__file__).parent
    apart = {root / name for name in ("bulk", "cli", "data", "evaluation", "training", "view")}
    files = [path for path in sorted(root.rglob("*.py")) if not apart & set(path.parents)]
    files.append(Path(__file__))
    found = {"code": hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]}
    for name in ("numpy", "onnxruntime", "torch", "numba", "constriction"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _payload(data: bytes, model: codec.Codec) -> int:
    """What the range coder wrote of a file, or of its beginning."""
    contents = parse(data)
    chunks = contents.steps + ([contents.partial] if contents.partial is not None else [])
    own, header = model.family().side_size, contents.header
    return sum(max(0, len(chunk.payload) - own - header.symbol_check(chunk.index)) for chunk in chunks)


@dataclasses.dataclass(frozen=True)
class Estimated:
    """A model's own code length after each step, in mode `paper` if its family has that."""

    name: str
    model: str
    method: Method = "denoise"
    seed: int = 0
    progressive: bool = True
    hypothetical: bool = True

    @property
    def label(self) -> str:
        """See `Contender`."""
        return f"{_called(self.model)}, model entropy" + (f", {self.method}" if self.method != "denoise" else "")

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Contender`."""
        return {
            "name": self.name,
            "fingerprint": opened(self.model).fingerprint,
            "method": self.method,
            "seed": self.seed,
        } | _code()

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Contender`."""
        model = opened(self.model)
        mode = "paper" if "paper" in model.modes else None
        bits = np.concatenate([[0.0], np.cumsum(model.estimate(pixels, mode=mode, seed=self.seed))])
        data, encoding = timed(model.compress, pixels, mode=mode, seed=self.seed)
        found = previews(model, data, ends(parse(data)), Way(self.method, self.seed))
        for step, (own, one) in enumerate(zip(bits.tolist(), found)):
            yield Coded(f"step {step}", own, own, one.pixels, encoding, one.seconds)

    def within(self, pixels: Pixels, bits: float) -> Coded:
        """See `Contender`. It is a whole step."""
        return best_within(list(self.code(pixels)), pixels, bits)


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """DiffC: a VDM's steps at their relative entropies, and pictures by one of section 5's
    reconstructions.

    `run` is a folder of `uqdm train`, or a published checkpoint. `reconstruction` is "denoise"
    (VDM-D), "ancestral" (VDM-A, DiffC-A) or "flow" (VDM-F, DiffC-F). `steps` is T. `points` says
    from how many latents pictures are reconstructed, evenly spaced in t. Noise and draws follow
    from `seed` and the picture.
    """

    name: str
    run: str
    reconstruction: str
    steps: int = 20
    points: int = 8
    seed: int = 0
    progressive: bool = True
    hypothetical: bool = True

    @property
    def label(self) -> str:
        """See `Contender`."""
        letter = {"denoise": "D", "ancestral": "A", "flow": "F"}[self.reconstruction]
        return f"VDM-{letter}, T = {self.steps}, hypothetical{trained(self.run)}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Contender`."""
        files = [
            path
            for path in sorted(Path(self.run).iterdir())
            if path.name.startswith("checkpoint.") or path.name == "config.json"
        ]
        weights = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        own = {"name": self.name, "weights": weights, "reconstruction": self.reconstruction, "seed": self.seed}
        return own | {"steps": self.steps, "points": self.points} | _code()

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Contender`."""
        import torch

        model = opened_vdm(self.run)
        with torch.no_grad():
            yield from _gaussian(self, model, torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None])

    def within(self, pixels: Pixels, bits: float) -> Coded:
        """See `Contender`. It is one of the points."""
        return best_within(list(self.code(pixels)), pixels, bits)


@functools.cache
def trained(run: str) -> str:
    """How long a run trained, for labels. Published checkpoints do not say it, so they get
    nothing.
    """
    from uqdm.training import runs

    path = Path(run) / runs.CHECKPOINT
    if not path.is_file():
        return ""
    counters = runs.read(path)[1]
    return f", trained {counters['step']:,} steps, {counters['seconds'] / 60:.0f} minutes"


def _gaussian(system: Gaussian, model: Any, x: Any) -> Iterator[Coded]:
    """One picture uint8 (1, 3, H, W)."""
    import torch

    digest = int(hashlib.sha256(x.numpy().tobytes()).hexdigest()[:15], 16)
    generator, drawing = (torch.Generator().manual_seed((system.seed ^ digest) + 2**60 * k) for k in range(2))
    gamma = model.gammas(system.steps)
    shown = set(np.unique(np.linspace(1, system.steps, min(system.points, system.steps)).round().astype(int)).tolist())
    real = model.to_real(x)
    z, bits = model.start(real, generator, gamma[0])
    area = x.shape[2] * x.shape[3]
    for i in range(system.steps):
        after = model.forward_step(real, z, gamma[i], gamma[i + 1], generator)
        cost, _ = model.step_bits(real, z, after, gamma[i], gamma[i + 1])
        bits, z = bits + cost, after
        if i + 1 in shown:
            ways = {"denoise": model.denoise, "flow": model.flow}
            if system.reconstruction == "ancestral":
                back = model.ancestral(z, i + 1, drawing, system.steps)
            else:
                back = ways[system.reconstruction](z, i + 1, system.steps)
            picture = model.to_values(back)[0].permute(1, 2, 0).to(torch.uint8).numpy()
            total = float(bits[0]) * area
            yield Coded(f"step {i + 1}", total, total, picture)
    total = float((bits + model.pixel_bits(x, z, gamma[-1]))[0]) * area
    yield Coded("lossless", total, total, x[0].permute(1, 2, 0).numpy())


_POOL = library.CodecPool(threads=1)  # What this process has open: reading a model takes longer than a picture.


def opened(model: str) -> codec.Codec:
    """A model, opened once in each process, on one thread. Pictures run in parallel."""
    return _POOL.load(model)


@functools.cache
def opened_vdm(run: str) -> Any:
    """A VDM, opened once in each process. Raises `EvaluationError` for another family, and
    `CheckpointError` if it is no run.
    """
    from uqdm.families.uqdm.torch.vdm import VDM
    from uqdm.training import runs

    model = runs.read_folder(run)
    if not isinstance(model, VDM):
        raise EvaluationError(f"{run}: family {model.config.family!r}; DiffC needs a VDM")
    return model.eval()
