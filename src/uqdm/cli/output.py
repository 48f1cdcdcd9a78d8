"""What commands share: numbers as they take them, and what they print in columns."""

import math
from collections.abc import Sequence
from typing import Any

import click

from uqdm import cpus

THREADS = click.IntRange(1, cpus.MOST)  # of threads or processes: a slip of the finger must not ask for a million


class Number(click.FloatRange):
    """A number in a range. Neither "nan", which is in every range, nor "inf" is one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            low, high = ("..." if end is None else f"{end:g}" for end in (self.min, self.max))
            self.fail(f"{value!r} is no number of {low} to {high}", param, ctx)
        return found


def echo_table(rows: Sequence[Sequence[str]], left: tuple[int, ...] = (0,)) -> None:
    """Columns of text, numbers to the right, those in `left` to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        click.echo("  ".join(cells).rstrip())
