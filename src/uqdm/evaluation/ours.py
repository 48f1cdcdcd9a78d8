"""Our models under evaluation, and hypothetical codecs: models whose bits are counted, and no file written.

`Progressive` cuts one real file: after each step, and at given rates. Its payload is what the range coder wrote, without header, heads
and checks. `Estimated` counts as the paper did: the model's own code length, without a header. `Gaussian` is DiffC (Theis et al. 2022):
a variational diffusion model's steps counted at their relative entropies, which no coder of practical speed reaches.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import uqdm
from uqdm import codec, container
from uqdm.errors import EvaluationError
from uqdm.evaluation.codecs import Coded, Pixels, timed

RATES = (0.15, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 12.0)  # bits per pixel at which a file is cut


def open_model(name: str, precision: str | None = None) -> codec.Codec:
    """A codec on one thread: pictures are what runs in parallel."""
    return uqdm.load(name, threads=1, precision=precision)


@dataclasses.dataclass(frozen=True)
class Progressive:
    """A model's files, cut. `method`: how previews are made."""

    name: str
    model: str
    rates: tuple[float, ...] = RATES
    method: codec.Method = "denoise"
    progressive: bool = True
    hypothetical: bool = False

    @property
    def label(self) -> str:
        """See `Codec`."""
        return f"uqdm, {Path(self.model).name}" + (f", {self.method}" if self.method != "denoise" else "")

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Codec`. Files follow from the model's fingerprint and the format; previews from this version."""
        found = opened(self.model)
        own = {"name": self.name, "fingerprint": found.fingerprint, "rates": self.rates, "method": self.method}
        return own | {"version": uqdm.__version__, "format": container.VERSION}

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Codec`."""
        model = opened(self.model)
        data, encoding = timed(model.compress, pixels)
        area = pixels.shape[0] * pixels.shape[1]
        contents = container.parse(data)
        ends = {f"step {chunk.index}": chunk.end for chunk in contents.chunks if chunk.kind == container.STEP}
        cuts = {f"{rate:g} bpp": int(rate * area / 8) for rate in self.rates}
        cuts = {name: n for name, n in cuts.items() if contents.header_size < n < len(data)}
        for name, n in sorted((ends | cuts).items(), key=lambda one: one[1]):
            back, decoding = timed(model.decode, data[:n], method=self.method)
            yield Coded(name, 8 * n, 8 * _payload(data[:n], model), back.image, encoding, decoding)


def _payload(data: bytes, model: codec.Codec) -> int:
    """What the range coder wrote of a file, or of its beginning."""
    contents = container.parse(data)
    chunks = [chunk for chunk in contents.chunks if chunk.kind == container.STEP]
    chunks += [contents.partial] if contents.partial is not None and contents.partial.kind == container.STEP else []
    own = codec.CHECK + model.family("tight").side_size
    return sum(max(0, len(chunk.payload) - own) for chunk in chunks)


@dataclasses.dataclass(frozen=True)
class Estimated:
    """A model's own code length after each step, in the mode `paper` where its family has one."""

    name: str
    model: str
    method: codec.Method = "denoise"
    progressive: bool = True
    hypothetical: bool = True

    @property
    def label(self) -> str:
        """See `Codec`."""
        return f"uqdm, {Path(self.model).name}, model entropy" + (f", {self.method}" if self.method != "denoise" else "")

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Codec`."""
        return {"name": self.name, "fingerprint": opened(self.model).fingerprint, "method": self.method, "version": uqdm.__version__}

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Codec`."""
        model = opened(self.model)
        mode: codec.Mode = "paper" if "paper" in model.modes else "tight"
        bits = np.concatenate([[0.0], np.cumsum(model.estimate(pixels, mode=mode))])
        data, encoding = timed(model.compress, pixels, mode=mode)
        for step, own in enumerate(bits.tolist()):
            back, decoding = timed(model.decode, data, step=step, method=self.method)
            yield Coded(f"step {step}", own, own, back.image, encoding, decoding)


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """DiffC: a VDM's steps at their relative entropies, and pictures by one of section 5's reconstructions.

    `run`: a folder of `uqdm train`, or a published checkpoint. `reconstruction`: "denoised" (VDM-D), "ancestral" (VDM-A, DiffC-A) or
    "flow" (VDM-F, DiffC-F). `steps`: T. `points`: how many latents are reconstructed from, evenly spaced in log-SNR.
    """

    name: str
    run: str
    reconstruction: str
    steps: int = 20
    points: int = 8
    progressive: bool = True
    hypothetical: bool = True

    @property
    def label(self) -> str:
        """See `Codec`."""
        letter = {"denoised": "D", "ancestral": "A", "flow": "F"}[self.reconstruction]
        return f"VDM-{letter}, T = {self.steps}, hypothetical"

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `Codec`."""
        from hashlib import sha256

        from uqdm.models import runs

        weights = sha256((Path(self.run) / runs.CHECKPOINT).read_bytes()).hexdigest()
        own = {"name": self.name, "weights": weights, "reconstruction": self.reconstruction}
        return own | {"steps": self.steps, "points": self.points, "version": uqdm.__version__}

    def code(self, pixels: Pixels) -> Iterator[Coded]:
        """See `Codec`."""
        import torch

        from uqdm.models.vdm import VDM

        model = _vdm(self.run)
        assert isinstance(model, VDM)
        with torch.no_grad():
            yield from _gaussian(self, model, torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None])


def _gaussian(system: Gaussian, model: Any, x: Any) -> Iterator[Coded]:
    """One picture uint8 (1, 3, H, W)."""
    import torch

    gamma, generator = model.gammas(system.steps), torch.Generator().manual_seed(0)
    shown = set(np.unique(np.linspace(1, system.steps, min(system.points, system.steps)).round().astype(int)).tolist())
    real = model.to_real(x)
    z, bits = model.start(real, generator, gamma[0])
    area = x.shape[2] * x.shape[3]
    for i in range(system.steps):
        after = model.forward_step(real, z, gamma[i], gamma[i + 1], generator)
        cost, _ = model.step_bits(real, z, after, gamma[i], gamma[i + 1])
        bits, z = bits + cost, after
        if i + 1 in shown:
            ways = {"denoised": model.denoise, "flow": model.flow}
            if system.reconstruction == "ancestral":
                back = model.ancestral(z, i + 1, generator, system.steps)
            else:
                back = ways[system.reconstruction](z, i + 1, system.steps)
            picture = model.to_values(back)[0].permute(1, 2, 0).to(torch.uint8).numpy()
            total = float(bits[0]) * area
            yield Coded(f"step {i + 1}", total, total, picture)
    total = float((bits + model.pixel_bits(x, z, gamma[-1]))[0]) * area
    yield Coded("lossless", total, total, x[0].permute(1, 2, 0).numpy())


_OPEN: dict[str, Any] = {}  # what this process has open: reading a model takes longer than a picture


def opened(model: str) -> codec.Codec:
    """A model, once a process."""
    if model not in _OPEN:
        _OPEN[model] = open_model(model)
    found: codec.Codec = _OPEN[model]
    return found


def _vdm(run: str) -> Any:
    from uqdm.models import runs
    from uqdm.models.vdm import VDM

    if run not in _OPEN:
        model = runs.read_folder(run)
        if not isinstance(model, VDM):
            raise EvaluationError(f"{run}: family {model.config.family!r}; DiffC needs a VDM")
        _OPEN[run] = model.eval()
    return _OPEN[run]
