"""The `nested` section of a config.json: what a nested model is made of. Knows no torch."""

import dataclasses
import itertools

from uqdm.records import check_types, frozen


@dataclasses.dataclass(frozen=True)
class NestedConfig:
    """The `nested` section: a model of the family "nested" (`torch/model.py`). One row a step, T of
    them.

    Raises `ValueError` for what cannot be.
    """

    # Of the cells after each step: Y, Co, Cg.
    widths: tuple[tuple[int, ...], ...] = ((405, 1053, 810), (45, 117, 90), (5, 13, 10), (1, 1, 1))
    trunks: tuple[tuple[int, ...], ...] = ((0, 0), (48, 1), (48, 1), (48, 1))  # channels and residual blocks; 0: none
    passes: tuple[tuple[int, ...], ...] = ((32, 0), (56, 1), (64, 1), (64, 1))  # of each of the four passes
    n_mixtures: int = 3  # logistics of a coordinate
    ema_rate: float = 0.9995

    @property
    def n_timesteps(self) -> int:
        """T."""
        return len(self.widths)

    @property
    def n_channels(self) -> int:
        """Of a picture."""
        return 3

    def __post_init__(self) -> None:
        for name in ("widths", "trunks", "passes"):  # as JSON has them
            object.__setattr__(self, name, frozen(getattr(self, name)))
        check_types(self)
        for name, count in (("widths", 3), ("trunks", 2), ("passes", 2)):
            rows = getattr(self, name)
            if len(rows) != len(self.widths) or not 1 <= len(rows) <= 64 or any(len(row) != count for row in rows):
                raise ValueError(
                    f"{name} are {rows}; expected {count} numbers for each of 1 to 64 steps, {len(self.widths)} by the"
                    " widths"
                )
        if self.widths[-1] != (1, 1, 1) or any(not 1 <= w <= 4096 for row in self.widths for w in row):
            raise ValueError(f"widths are {self.widths}; expected 1 to 4096, and 1, 1, 1 in the end")
        if any(a % b for wide, fine in itertools.pairwise(self.widths) for a, b in zip(wide, fine)):
            raise ValueError(f"widths are {self.widths}; expected each to be a multiple of the one below it")
        shapes = [*self.trunks, *self.passes]
        if any(not 0 <= c <= 1024 or not 0 <= blocks <= 64 for c, blocks in shapes) or any(
            c < 1 for c, _ in self.passes
        ):
            raise ValueError(
                f"trunks are {self.trunks}, passes {self.passes}; expected 1 to 1024 channels (a trunk may have 0), 0"
                " to 64 blocks"
            )
        if not 1 <= self.n_mixtures <= 8 or not 0 <= self.ema_rate < 1:
            raise ValueError(
                f"n_mixtures is {self.n_mixtures}, ema_rate {self.ema_rate}; expected 1 to 8, and 0 <= ema_rate < 1"
            )
