"""What commands print: lines, complaints, columns. Knows what to do if a stream is closed or full,
or cannot hold a name.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

import click

from uqdm.errors import OutputError


def open_missing_descriptors() -> None:
    """Opens the null device in place of a closed stdin, stdout or stderr. Otherwise what is printed
    would go into the next file opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one


def printable(name: object) -> str:
    """A file's name as text. Bytes that are not UTF-8 become `\\xff`."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def echo(text: object = "", err: bool = False, note: bool = False) -> None:
    """Prints a line on stdout, or on stderr with `err`. Names that are not UTF-8 go to stdout as
    the bytes they are.

    Raises `OutputError` if stdout is full or closed; with `note` a closed one is ignored. A closed
    or full stderr is always ignored, because there is no other place to complain. Raises
    `BrokenPipeError` if the reader of stdout has left.
    """
    stream = sys.stderr if err else sys.stdout
    if stream is None:
        if err or note:
            return
        raise OutputError("stdout is closed: there is nowhere to write the result")
    try:
        click.echo(_encoded(str(text), stream.encoding or "utf-8", err), file=stream)
    except OSError as error:
        if err:
            return
        silence()
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"stdout cannot be written: {error.strerror}") from error


def _encoded(text: str, encoding: str, err: bool) -> bytes:
    if not err:
        with contextlib.suppress(UnicodeEncodeError):
            return text.encode(encoding, "surrogateescape")
    return printable(text).encode(encoding, "backslashreplace")


def write_stdout(data: bytes) -> None:
    """Writes bytes to stdout. Raises `OutputError` if it is full or closed, and `BrokenPipeError`
    if its reader has left.
    """
    if sys.stdout is None:
        raise OutputError("stdout is closed: there is nowhere to write the result")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        silence()
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"stdout cannot be written: {error.strerror}") from error


def silence() -> None:
    """Drops what Python still holds for stdout. Otherwise it would fail once more when the process
    ends.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def complain(message: str) -> None:
    """Prints one line on stderr, whatever the message holds."""
    echo("uqdm: " + " ".join(message.split()), err=True)


def echo_table(rows: Sequence[Sequence[str]], left: tuple[int, ...] = (0,)) -> None:
    """Columns of text. Numbers stand to the right, columns in `left` to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())
