"""One input and one output, where `-` is stdin or stdout: reading, writing, and the lines about
them.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from uqdm.batches import FAILURES
from uqdm.cli import output
from uqdm.errors import OutputError, UqdmError

STD = "-"
_STREAMS = (r"/dev/stdin|/(dev|proc/self)/fd/0", r"/dev/stdout|/(dev|proc/self)/fd/1")
T = TypeVar("T")


def as_stream(word: str, number: int) -> str:
    """`-` for a path that is stdin (number 0) or stdout (1) by another name."""
    return STD if re.fullmatch(_STREAMS[number], os.path.normpath(word) if word else "") else word


@dataclass
class Job:
    """One input and one output, where `-` is stdin or stdout. If it is the only job (`alone`), its
    error ends the command.
    """

    source: str
    target: str
    alone: bool = True
    failed: bool = False
    skipped: bool = False
    bar: Any = None  # see `waiting.Bar`

    @property
    def name(self) -> str:
        return "stdin" if self.source == STD else self.source

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.failed or self.skipped

    def attempt(self, action: Callable[..., T], *arguments: Any) -> T | None:
        """Returns what `action(*arguments)` returns, or None if bad data made it fail. Then this
        job is over and has complained.
        """
        try:
            return action(*arguments)
        except BrokenPipeError:
            raise
        except FAILURES as error:
            self.failed = True
            said = "out of memory" if isinstance(error, MemoryError) else str(error)
            message = said if self.name in said or self.target in said else f"{self.name}: {said}"
            if self.alone:
                raise (type(error) if isinstance(error, UqdmError) else UqdmError)(message) from error
            self.complain(message)
            return None

    def check(self, force: bool, skip_existing: bool = False) -> None:
        """Raises, before the work is done, if the target cannot be written. With `skip_existing` a
        target that exists is skipped.
        """
        from uqdm import files

        if self.target != STD:
            if skip_existing and os.path.isfile(self.target):
                self.skipped = True
                self.complain(f"{self.name}: skipped, because {self.target} exists already")
                return
            files.check_target(self.target, force)
        elif sys.stdout is None:
            raise OutputError("stdout is closed: there is nowhere to write the result")
        elif sys.stdout.buffer.isatty():
            raise click.UsageError("stdout is a terminal: give a file name, or send the output elsewhere")

    def data(self) -> bytes:
        """The bytes of the source."""
        if self.source == STD and sys.stdin is None:
            raise UqdmError("stdin is closed: there is nothing to read")
        try:
            return sys.stdin.buffer.read() if self.source == STD else Path(self.source).read_bytes()
        except OSError as error:
            raise UqdmError(f"{self.name} cannot be read: {error.strerror}") from error

    @property
    def size(self) -> int:
        """Bytes of the source, 0 where they are not known."""
        with contextlib.suppress(OSError):
            return os.path.getsize(self.source) if self.source != STD else 0
        return 0

    def write(self, data: bytes, force: bool) -> None:
        """Writes the result where it belongs. A file is written whole or not at all."""
        if self.target == STD:
            output.write_stdout(data)
            return
        from uqdm import files

        files.write_atomic(self.target, data, force)

    def say(self, text: str) -> None:
        """Prints the line of this job's result."""
        self._tell(f"{'stdout' if self.target == STD else self.target}  {text}", err=self.target == STD)

    def complain(self, message: str) -> None:
        """Prints a line on stderr."""
        self._tell("uqdm: " + " ".join(message.split()), err=True)

    def _tell(self, line: str, err: bool) -> None:
        """Prints a line that does not run into the bar."""
        with contextlib.nullcontext() if self.bar is None else self.bar.aside():
            output.echo(line, err=err, note=True)
