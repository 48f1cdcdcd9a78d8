"""Networks that need no weights, and codecs over them: what a codec does is tested without what a
network learned.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm import codec
from uqdm.bundle import Package
from uqdm.families.uqdm.constants import UqdmConstants, diffusion_constants

GAMMA = (6.0, 1.5, -3.0, -7.5, -12.0)
SPACES = ("rgb", "ycocg-r")


def toy_package(space: str = "rgb", gamma: tuple[float, ...] = GAMMA) -> Package:
    """A published schedule's constants, T = len(gamma) - 1, without a network."""
    scale = [128.0] * 3 if space == "rgb" else [74.0, 181.0, 148.0]
    offset = [127.5] * 3 if space == "rgb" else [127.5, 0.0, 0.0]
    fields = diffusion_constants(list(gamma), space, offset, scale)
    fields.setdefault("priority", [0, 0, 0] if space == "rgb" else [6, -4, -2])
    return Package("toy", "uqdm", {}, fields, {}, {})


def constants(space: str = "rgb", gamma: tuple[float, ...] = GAMMA) -> UqdmConstants:
    """See `toy_package`."""
    return UqdmConstants.of(toy_package(space, gamma))


class Floats:
    """In floats: the box's centre, smoothed a little, and a scale in proportion to its width.
    Remembers for what it was called.
    """

    exact = False

    def __init__(self, mixed: bool = False, sees_z: bool = False) -> None:
        self.mixed, self.sees_z = mixed, sees_z
        self.calls: list[tuple[int, NDArray[np.int16], NDArray[np.int16]]] = []

    def __call__(
        self, step: int, z: Any, low: NDArray[np.int16], high: NDArray[np.int16]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        assert low.dtype == high.dtype == np.int16
        assert (z is not None) or not self.sees_z
        self.calls.append((step, low.copy(), high.copy()))
        centre = (low.astype(float) + high) / 2
        smooth = (2 * centre + np.roll(centre, 1, -1) + np.roll(centre, -1, -1)) / 4
        return smooth, np.log2((high.astype(float) - low + 1) / 5.0)


class Integers(Floats):
    """The same in integers."""

    exact = True

    def __call__(
        self, step: int, z: Any, low: NDArray[np.int16], high: NDArray[np.int16]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        self.calls.append((step, low.copy(), high.copy()))
        twice = low.astype(np.int32) + high
        smooth = 2 * twice + np.roll(twice, 1, -1) + np.roll(twice, -1, -1)
        width = high.astype(np.int32) - low + 1
        octave = (width[..., None] >= 2 ** np.arange(1, 9)).sum(-1)
        return smooth << 13, (8 * (octave + 3)).astype(np.uint8)


class ToyCodec(codec.Codec):
    """A codec whose network is the one given, whatever precision is asked for."""

    def __init__(self, network: Any, space: str = "rgb", gamma: tuple[float, ...] = GAMMA, **options: Any) -> None:
        self._network = network
        super().__init__(toy_package(space, gamma), **options)

    def networks(self, precision: str | None) -> Any:
        return self._network
