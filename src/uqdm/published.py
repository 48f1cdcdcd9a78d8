"""The calls of the authors' published README, on our codec and trainer: `load_checkpoint`, then
`trainer`, `evaluate`, `compress`.
"""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uqdm import sources
from uqdm.codec import Codec
from uqdm.errors import CheckpointError, ImageError
from uqdm.families import registry
from uqdm.families.torch.held_out import RECONSTRUCTIONS, Evaluation
from uqdm.format import inspect, parse
from uqdm.sources import Source
from uqdm.training import runs
from uqdm.training.importing import package_of
from uqdm.training.trainer import Stream, train

MODES = ("paper", "tight")


@dataclasses.dataclass(frozen=True)
class CodedSizes:
    """Lossless bits per pixel of one entropy mode, means over pictures: the two columns of the
    published README's table.
    """

    files: float  # of whole files, header and checks included
    payload: float  # of the steps alone: what "compression to bits" counts
    estimate: float  # the model's ideal code length of the same pictures and dithers


@dataclasses.dataclass(frozen=True)
class Report:
    """What `PublishedModel.evaluate` found. Its `str` is two tables."""

    model: Evaluation  # rates by step and PSNR of the reconstructions, simulated
    coded: dict[
        str, CodedSizes
    ]  # by mode: "paper" is eq. 1, "tight" the same network's densities truncated to what is possible

    def __str__(self) -> str:
        lines = [self.model.table(), f"{self.model.pictures} pictures, {self.model.line()}"]
        if self.coded:
            lines.append("lossless, bits/pixel: files, payload, entropy estimate")
        lines += [f"  {mode}: {c.files:.3f}, {c.payload:.3f}, {c.estimate:.3f}" for mode, c in self.coded.items()]
        return "\n".join(lines)


class PublishedModel:
    """A published checkpoint, or a run of our trainer: its configuration, its torch model, and a
    codec over the same weights.

    `codec` is None if there is none for the model: a VDM, a nested model that is not quantised yet,
    a Gaussian prior, grey pictures.
    """

    def __init__(
        self, folder: str | Path, reading: str = "ema", device: str = "cpu", precision: str = "float64"
    ) -> None:
        self._name, self._reading = Path(folder).resolve().name, reading
        self._device, self._precision = device, precision
        self._take(runs.read_folder(Path(folder), reading))

    def _take(self, model: runs.Model) -> None:
        self.model, self.config = model, model.config
        self.codec: Codec | None = None
        try:
            found = package_of(model, self._name, self._reading)
        except CheckpointError as error:  # the model can be trained and evaluated; it only has no codec
            self._why = str(error)
        else:
            self.codec = Codec(found, self._device, precision=self._precision)

    def _coder(self) -> Codec:
        if self.codec is None:
            raise CheckpointError(f"no codec for it: {self._why}")
        return self.codec

    def trainer(
        self,
        train_iter: Stream,
        eval_iter: Iterable[torch.Tensor] | None = None,
        out: str | Path | None = None,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        seed: int = 0,
        say: Callable[[str], Any] = lambda line: sys.stderr.write(line + "\n"),
    ) -> "PublishedModel":
        """Trains on from these weights and then holds the averages of the run; see `uqdm train
        --start` and `training.trainer.train`.

        `train_iter` is what `load_data` returns. `out` is the run's folder, by default runs/ and
        this model's name. `steps` is by default `config.training.n_steps`. The same call goes on
        where a run was stopped.
        """
        out = Path(out) if out is not None else Path("runs") / self._name
        how: dict[str, Any] = {"steps": steps, "minutes": minutes, "seed": seed, "device": self._device, "say": say}
        train(self.config, train_iter, eval_iter, out, start=self.model, **how)
        self._take(runs.read_run(out).to(self._device))
        return self

    def evaluate(
        self,
        eval_iter: Iterable[torch.Tensor],
        *,
        batches: int | None = None,
        steps: int | None = None,
        modes: Sequence[str] = MODES,
        reconstructions: Sequence[str] = RECONSTRUCTIONS,
        seed: int = 0,
    ) -> Report:
        """Rates by step, PSNR of the three reconstructions, and lossless bits per pixel as files
        and as entropy estimate.

        `eval_iter` has batches uint8 (B, C, H, W), of which at most `batches` are used. `steps` is
        T of the simulated rates, by default the config's; files have the config's. The weights are
        those that were loaded, so by default the averages.
        """
        held = list(itertools.islice(eval_iter, batches))
        floats = registry.floats(self.config.family)
        found = floats.held_out(self.model, held, seed=seed, steps=steps, reconstructions=reconstructions)
        coded = {}
        for mode in modes if self.codec is not None else ():
            files, payload, estimate = [], [], []
            for x in held:
                some = list(x.permute(0, 2, 3, 1).cpu().numpy())
                pixels = some[0].shape[0] * some[0].shape[1]
                for data in self.codec.compress(some, mode=mode, seed=seed):  # type: ignore[union-attr]
                    files.append(8 * len(data) / pixels)
                    payload.append(8 * sum(len(chunk.payload) for chunk in parse(data).chunks) / pixels)
                estimate += (self.codec.estimate(some, mode=mode, seed=seed).sum(1) / pixels).tolist()  # type: ignore[union-attr]
            coded[mode] = CodedSizes(float(np.mean(files)), float(np.mean(payload)), float(np.mean(estimate)))
        return Report(found, coded)

    def compress(self, image: torch.Tensor, mode: Any = "tight", seed: int = 0) -> list[bytes]:
        """A batch (B, 3, H, W) of uint8 values, or one picture (3, H, W), to one `.uqdm` file
        each.
        """
        codec = self._coder()
        if image.dtype != torch.uint8 or image.ndim not in (3, 4) or image.shape[-3] != 3:
            raise ImageError(f"expected a uint8 tensor (B, 3, H, W), found {image.dtype} {tuple(image.shape)}")
        batch = image.reshape(-1, *image.shape[-3:]).permute(0, 2, 3, 1).cpu().numpy()
        files: list[bytes] = codec.compress(list(batch), mode=mode, seed=seed)
        return files

    def decompress(self, compressed: Source | Iterable[Source]) -> list[torch.Tensor]:
        """The progressive reconstructions of a batch: one uint8 tensor (B, 3, H, W) after each
        step. The last equals the input.

        `compressed` is a file or an iterable of files; each is its bytes, its path or a binary file
        object.
        """
        codec = self._coder()
        some: Any = [compressed] if sources.is_one(compressed) else compressed
        files = [sources.read(one) for one in some]
        found = [inspect(one) for one in files]
        if len({(info.height, info.width, info.channels, info.steps_available) for info in found}) != 1:
            raise ImageError(
                "the files of a batch must be of one size and hold equally many steps; decompress them one by one"
            )
        previews = (codec.decompress(files, step=k) for k in range(1, found[0].steps_available + 1))
        return [torch.from_numpy(np.stack(step)).permute(0, 3, 1, 2) for step in previews]


def load_checkpoint(
    folder: str | Path, reading: str = "ema", device: str = "cpu", precision: str = "float64"
) -> PublishedModel:
    """A folder of `checkpoint.pt` and `config.json`, as published, or a run of `uqdm train`.

    `reading` is "ema" (as trained) or "raw" (as the published script reads it). Raises
    `CheckpointError` for what cannot be read safely.
    """
    return PublishedModel(folder, reading, device, precision)
