"""What a run says while it trains: rows of metrics, and lines for whoever listens. Knows no
step.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uqdm import atomic
from uqdm.training.state import TrainingState

# seconds between two lines: after the first step, and in the end; each is twice the one before
FIRST_WORD, LAST_WORD = 2.0, 60.0


class Log:
    """Reports as lines of JSON, for TensorBoard, and to whoever listens.

    Rows behind the last checkpoint are dropped when a run goes on.
    """

    def __init__(self, folder: Path, step: int, say: Callable[[str], None]) -> None:
        self._path, self._say = folder / "metrics.jsonl", say
        if self._path.exists():
            rows = [line for line in self._path.read_text().splitlines() if _step_of(line) <= step]
            atomic.write(self._path, "".join(row + "\n" for row in rows))
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board: Any = SummaryWriter(folder / "events", purge_step=step + 1)
        except ImportError:
            self._board = None

    def __call__(self, row: dict[str, Any], line: str) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(name, value, row["step"])
                elif isinstance(value, list):
                    for i, one in enumerate(value):
                        self._board.add_scalar(f"{name}/{i}", one, row["step"])
            self._board.flush()
        self._say(line)


class Occasions:
    """Knows when to say how training goes: after the first step, soon after that, then more and
    more rarely.

    `window` is what there is to say.
    """

    def __init__(self) -> None:
        self._pause, self._next = FIRST_WORD, 0.0
        self.window = Window()

    def due(self, report: bool) -> bool:
        """Whether it is time, and no report says the same."""
        return not report and time.monotonic() >= self._next

    def said(self) -> None:
        """Notes that something was said just now."""
        self._next = time.monotonic() + self._pause
        self._pause = min(LAST_WORD, 2 * self._pause)
        self.window = Window()


class Window:
    """Sums since the last report."""

    def __init__(self) -> None:
        self.begin, self.images = time.perf_counter(), 0
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.sums: Tensor | None = None
        self.counts: Tensor | None = None

    def add(self, loss: Tensor, norm: Tensor, sums: Tensor, counts: Tensor, images: int) -> None:
        self.images += images
        self.losses.append(loss)
        self.norms.append(norm)
        self.sums = sums if self.sums is None else self.sums + sums
        self.counts = counts if self.counts is None else self.counts + counts

    def row(self, state: TrainingState, lr: float) -> dict[str, Any]:
        """Means: bits per dimension, latent, steps in the order of sending, pixels."""
        dims = state.model.config.model.n_channels
        row: dict[str, Any] = {
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "loss": float(torch.stack(self.losses).double().mean()) / dims,
            "gradient": float(torch.stack(self.norms).double().mean()),
            "lr": lr,
            "images_per_second": self.images / (time.perf_counter() - self.begin),
        }
        if self.sums is not None and self.counts is not None and len(self.sums):
            row["terms"] = (self.sums.double() / self.counts.double().clamp_min(1) / dims).tolist()
        return row


def _step_of(line: str) -> float:
    """The step of a line of metrics; infinity for a line that a killed process left half
    written.
    """
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
