"""The usage of the authors' published README, on our codec: `load_checkpoint`, `compress`, `decompress` on batches of tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from uqdm.codec import Codec
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
        return self.codec.compress(list(batch), mode=mode, seed=seed)

    def decompress(self, compressed: bytes | Sequence[bytes]) -> list[torch.Tensor]:
        """The progressive reconstructions of a batch: one uint8 tensor (B, 3, H, W) after each step, the last equal to the input."""
        files = [compressed] if isinstance(compressed, bytes) else list(compressed)
        previews = [[decoded.picture.pixels for decoded in self.codec.progressive(one)] for one in files]
        return [torch.stack([torch.from_numpy(p.copy()) for p in step]).permute(0, 3, 1, 2) for step in zip(*previews, strict=True)]


def load_checkpoint(folder: str | Path, reading: str = "ema", device: str = "cpu", precision: str = "float64") -> PublishedModel:
    """A folder of `checkpoint.pt` and `config.json`, as published. `reading`: "ema" (as trained) or "raw" (as the published script).

    Raises `CheckpointError` for what cannot be read safely.
    """
    return PublishedModel(folder, reading, device, precision)
