"""The group of commands. Every error ends here, as one line on stderr and an exit code."""

import io
import sys
from typing import Any, NoReturn

import click

from uqdm.cli import output, words
from uqdm.errors import UqdmError

EXTRAS = {
    "torch": ("PyTorch", "torch"),
    **{
        name: (name, "eval")
        for name in ("imagecodecs", "jinja2", "matplotlib", "pillow_heif", "scipy", "torchmetrics", "yaml")
    },
    "ray": ("Ray", "ray"),
    "pyarrow": ("pyarrow", "ray"),
    "tensorboard": ("tensorboard", "train"),
}


class Group(click.Group):
    """A group that turns errors into one line on stderr and an exit code. `--debug` may stand
    anywhere on the line.
    """

    def main(self, args: Any = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> NoReturn:
        line = list(sys.argv[1:] if args is None else args)
        options = line[: line.index("--")] if "--" in line else line
        debug = "--debug" in options
        if debug:
            line = [word for word in options if word != "--debug"] + line[len(options) :]
        extra["standalone_mode"] = False
        output.open_missing_descriptors()
        try:
            code = super().main(words.spread(line), "uqdm", *rest, **extra)
        except click.ClickException as error:
            shown = io.StringIO()
            error.show(shown)
            output.echo(shown.getvalue().rstrip("\n"), err=True)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)
        # the reader of our output has left, so there is nothing to complain about and nothing to
        # flush at exit
        except BrokenPipeError:
            output.silence()
            sys.exit(1)
        except Exception as error:
            if isinstance(error, OSError):
                output.silence()  # it may be that of stdout
            if debug:
                raise
            output.complain(_one_line(error))
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Exception) -> str:
    if isinstance(error, UqdmError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        name, extra = EXTRAS[error.name]
        return f"{name} is not installed and this needs it: pip install '.[{extra}]' in uqdm's folder"
    if isinstance(error, MemoryError):
        return "out of memory"
    # a disk, a folder or a stream has a fault; the program has made no mistake
    if isinstance(error, OSError) and error.errno is not None:
        named = f"{error.filename}: " if error.filename is not None else ""
        return f"{named}{error.strerror or error}"
    return f"unexpected {type(error).__name__}: {error}. This is a mistake in uqdm; --debug shows where"
