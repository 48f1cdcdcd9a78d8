"""The group of commands: where every error ends, as one line on stderr and an exit code."""

import os
import sys
from typing import Any, NoReturn

import click

from uqdm.cli import training
from uqdm.cli.output import complain
from uqdm.errors import UqdmError

EXTRAS = {"torch": ("PyTorch", "torch")} | {name: (name, "eval") for name in ("jinja2", "matplotlib", "scipy", "torchmetrics", "yaml")}


class Group(click.Group):
    """A group that turns errors into one line on stderr and an exit code, wherever `--debug` stands on the line."""

    def main(self, args: Any = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> NoReturn:
        words = list(sys.argv[1:] if args is None else args)
        options = words[: words.index("--")] if "--" in words else words
        debug = "--debug" in options
        if debug:
            words = [word for word in options if word != "--debug"] + words[len(options) :]
        words = training.spread(words)
        extra["standalone_mode"] = False
        try:
            code = super().main(words, "uqdm", *rest, **extra)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)
        except BrokenPipeError:
            # Whoever read our output has left: nothing to complain about, and nothing to flush at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(1)
        except Exception as error:
            if debug:
                raise
            complain(_one_line(error))
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Exception) -> str:
    if isinstance(error, UqdmError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        name, extra = EXTRAS[error.name]
        return f"{name} is not installed and this needs it: pip install 'uqdm[{extra}]'"
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"unexpected {type(error).__name__}: {error}. This is a mistake in uqdm; --debug shows where"
