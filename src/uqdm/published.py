"""The usage of the authors' published README, on our codec: `load_checkpoint`, `compress`, `decompress` on batches of tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uqdm.codec import Codec
from uqdm.container import inspect
from uqdm.errors import ImageError
from uqdm.models.checkpoint import read_published
from uqdm.models.export import package_of


class PublishedModel:
    """A published checkpoint: its configuration, its torch model, and a codec over the same weights."""

    def __init__(self, folder: str | Path, reading: str = "ema", device: str = "cpu", precision: str = "float64") -> None:
        self.model = read_published(Path(folder), reading)
        self.config = self.model.config
        self.codec = Codec(package_of(self.model, Path(folder).resolve().name, reading), device, precision=precision)

    def compress(self, image: torch.Tensor, mode: Any = "tight", seed: int = 0) -> list[bytes]:
        """A batch (B, 3, H, W) of uint8 values, or one picture (3, H, W), to one `.uqdm` file each."""
        if image.dtype != torch.uint8 or image.ndim not in (3, 4) or image.shape[-3] != 3:
            raise ImageError(f"expected a uint8 tensor (B, 3, H, W), found {image.dtype} {tuple(image.shape)}")
        batch = image.reshape(-1, *image.shape[-3:]).permute(0, 2, 3, 1).cpu().numpy()
        files: list[bytes] = self.codec.compress(list(batch), mode=mode, seed=seed)
        return files

    def decompress(self, compressed: bytes | Sequence[bytes]) -> list[torch.Tensor]:
        """The progressive reconstructions of a batch: one uint8 tensor (B, 3, H, W) after each step, the last equal to the input."""
        files = [bytes(compressed)] if isinstance(compressed, bytes | bytearray | memoryview) else list(compressed)
        found = [inspect(one) for one in files]
        if len({(info.height, info.width, info.channels, info.steps_available) for info in found}) != 1:
            raise ImageError("the files of a batch must be of one size and hold equally many steps; decompress them one by one")
        previews = (self.codec.decompress(files, step=k) for k in range(1, found[0].steps_available + 1))
        return [torch.from_numpy(np.stack(step)).permute(0, 3, 1, 2) for step in previews]


def load_checkpoint(folder: str | Path, reading: str = "ema", device: str = "cpu", precision: str = "float64") -> PublishedModel:
    """A folder of `checkpoint.pt` and `config.json`, as published. `reading`: "ema" (as trained) or "raw" (as the published script).

    Raises `CheckpointError` for what cannot be read safely.
    """
    return PublishedModel(folder, reading, device, precision)
