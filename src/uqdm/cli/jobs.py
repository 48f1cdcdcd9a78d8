"""One input and one output, `-` for stdin or stdout: read, written, and what is said of them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from uqdm.errors import UqdmError

STD = "-"
T = TypeVar("T")


@dataclass
class Job:
    """One input and one output, `-` for stdin or stdout. Where it is the only one (`alone`), its error ends the command."""

    source: str
    target: str
    alone: bool = True
    failed: bool = False
    bar: Any = None

    @property
    def name(self) -> str:
        return "stdin" if self.source == STD else self.source

    def attempt(self, action: Callable[..., T], *arguments: Any) -> T | None:
        """What `action(*arguments)` returns; None if it failed because of the data: then this job is over and has complained."""
        try:
            return action(*arguments)
        except UqdmError as error:
            self.failed = True
            message = str(error) if self.name in str(error) or self.target in str(error) else f"{self.name}: {error}"
            if self.alone:
                raise type(error)(message) from error
            self._tell("uqdm: " + " ".join(message.split()), err=True)
            return None

    def check(self, force: bool) -> None:
        """Raises for a target that cannot be written, before the work is done."""
        from uqdm import images

        if self.target != STD:
            images.check_target(self.target, force)
        elif sys.stdout.buffer.isatty():
            raise click.UsageError("stdout is a terminal: give a file name, or send the output elsewhere")

    def data(self) -> bytes:
        """The bytes of the source."""
        if self.source == STD:
            return sys.stdin.buffer.read()
        try:
            return Path(self.source).read_bytes()
        except OSError as error:
            raise UqdmError(f"{self.source} cannot be read: {error.strerror}") from error

    def write(self, data: bytes, force: bool) -> None:
        """The result to where it belongs, a file whole or not at all."""
        if self.target == STD:
            stdout = sys.stdout.buffer
            stdout.write(data)
            stdout.flush()
            return
        from uqdm import images

        images.write_atomic(self.target, data, force)

    def say(self, text: str) -> None:
        """The line of this job's result."""
        self._tell(f"{'stdout' if self.target == STD else self.target}  {text}", err=self.target == STD)

    def _tell(self, line: str, err: bool) -> None:
        """The last word of a job: a line that does not run into the bar, which moves on."""
        if self.bar is not None:
            self.bar.clear()
        click.echo(line, err=err)
        if self.bar is not None:
            self.bar.update()
