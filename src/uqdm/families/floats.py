"""What a family says of its float models, for training, evaluation and quantising. Names PyTorch's
types, but does not import it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uqdm.bundle import Package

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from uqdm.config import Config

Pictures = Sequence[NDArray[np.uint8]]  # (H, W, 3) each
Measure = Callable[[Package], Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a model is."""

    parameters: int
    multiply_adds: float  # a pixel
    what: str = ""  # what the multiply-adds are for, such as " and call at 64 x 64"


@dataclasses.dataclass(frozen=True)
class Floats:
    """One record a family, `FLOATS` of the module that `Family.floats` names."""

    new: "Callable[[Config], nn.Module]"  # a fresh model, float32; has `config`, `device`
    loss: "Callable[[Any, Tensor, Generator, str], tuple[Tensor, Tensor, Tensor]]"
    # (model, uint8 (B, C, H, W), generator, loss) -> mean bits per pixel, differentiable, and for
    # reports sums and counts of its terms
    held_out: "Callable[..., Any]"  # (model, batches, loss=, seed=, batches=) -> `families.torch.held_out.Evaluation`
    size: (
        "Callable[[Config, int | None], Size]"  # of a config, for pictures of that many pixels a side where it matters
    )
    package: "Callable[[Any, str, str, str], Package] | None" = (
        None  # (model, name, reading, source): as floats, where a codec runs it
    )
    quantise: "Callable[[Any, str, Pictures, Measure, Callable[[str], None]], tuple[Package, list[float]]] | None" = (
        None
    )
    # (model, name, pictures to calibrate on, what tells a model's bits by step, what hears what is
    # done) -> a package of integers, and log2 of each step's largest partial sum
    network: "Callable[[Any], nn.Module] | None" = None  # what torch.compile takes
    recordable: bool = False  # whether a step can be recorded as a CUDA graph, as `training.captured` says
