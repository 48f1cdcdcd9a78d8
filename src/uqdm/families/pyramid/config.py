"""The `pyramid` section of a config.json: what a pyramid is made of. Knows no torch."""

import dataclasses
import itertools

from uqdm.records import check_types, frozen


@dataclasses.dataclass(frozen=True)
class PyramidConfig:
    """The `pyramid` section: a model of the family "pyramid" (`families/pyramid`). T steps.

    `networks`: a row a step of three, for level 1, level 2 and all coarser ones: channels and
    blocks of the trunk, channels and blocks of each pass; all 0 where the step does not visit that
    level. Raises `ValueError` for what cannot be.
    """

    bases: tuple[int, ...] = (128, 64, 32, 16, 8, 4, 1)  # widths after each step, of Y and a synthesis norm of 1
    networks: tuple[tuple[tuple[int, ...], ...], ...] = (
        ((0, 0, 0, 0), (40, 1, 40, 1), (48, 1, 56, 1)),
        ((24, 1, 32, 1), (48, 1, 48, 1), (48, 1, 56, 1)),
        ((24, 1, 32, 1), (48, 1, 48, 1), (48, 1, 56, 1)),
        ((32, 1, 40, 1), (48, 1, 56, 1), (48, 1, 56, 1)),
        ((32, 1, 40, 1), (48, 1, 56, 1), (48, 1, 56, 1)),
        ((48, 1, 56, 1), (48, 1, 56, 1), (48, 1, 56, 1)),
        ((72, 1, 94, 1), (56, 1, 64, 1), (40, 1, 48, 1)),
    )
    kernel: int = 1  # of the second convolution of a block, a side
    n_mixtures: int = 3  # logistics of a coefficient
    threshold: float = 0.15  # a coefficient whose scale is below this many widths is not asked for
    ema_rate: float = 0.999
    learning: tuple[int, ...] = ()  # steps, from 1, whose networks learn; none: all. The others stay as they are

    @property
    def n_timesteps(self) -> int:
        """T."""
        return len(self.bases)

    @property
    def n_channels(self) -> int:
        """Of a picture."""
        return 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "bases", frozen(self.bases))
        object.__setattr__(self, "networks", frozen(self.networks))
        object.__setattr__(self, "learning", frozen(self.learning))
        check_types(self)
        steps = len(self.bases)
        if (
            not 1 <= steps <= 16
            or self.bases[-1] != 1
            or any(a <= b for a, b in itertools.pairwise(self.bases))
            or self.bases[0] > 256
        ):
            raise ValueError(f"bases are {self.bases}; expected 1 to 16 that decrease from at most 256 to 1")
        rows = [net for row in self.networks for net in row]
        if (
            len(self.networks) != steps
            or any(len(row) != 3 for row in self.networks)
            or any(len(net) != 4 for net in rows)
        ):
            raise ValueError(
                f"networks are {self.networks}; expected for each of {steps} steps three times four numbers"
            )
        for row in self.networks:
            visited = [net != (0, 0, 0, 0) for net in row]
            if visited != sorted(visited) or not visited[-1]:
                raise ValueError(
                    f"networks are {self.networks}; expected all coarser levels to be visited where a finer one is"
                )
        if any(not 1 <= step <= steps for step in self.learning):
            raise ValueError(f"learning is {self.learning}; expected steps from 1 to {steps}")
        if any(not (0 <= c <= 1024 and 0 <= b <= 64) for net in rows for c, b in (net[:2], net[2:])):
            raise ValueError(f"networks are {self.networks}; expected up to 1024 channels and 64 blocks")
        if not (
            self.kernel in (1, 3) and 1 <= self.n_mixtures <= 8 and 0 <= self.threshold < 1 and 0 <= self.ema_rate < 1
        ):
            raise ValueError(
                f"kernel is {self.kernel}, n_mixtures {self.n_mixtures}, threshold {self.threshold}, ema_rate"
                f" {self.ema_rate}; expected 1 or 3, 1 to 8, and 0 <= both < 1"
            )
