"""What commands print: complaints, and columns."""

from collections.abc import Sequence

import click


def echo_table(rows: Sequence[Sequence[str]], left: tuple[int, ...] = (0,)) -> None:
    """Columns of text, numbers to the right, those in `left` to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) if i in left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        click.echo("  ".join(cells).rstrip())


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    click.echo("uqdm: " + " ".join(message.split()), err=True)
