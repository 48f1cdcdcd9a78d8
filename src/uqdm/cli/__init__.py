"""The front door: parses a command, calls one function, prints, and exits. Everything else is
elsewhere.

Results go to stdout, or to stderr if stdout carries the data. Complaints go to stderr. Exit codes
are 0, 1 for bad data, 2 for bad usage, and 130 after an interrupt. Nothing heavy is imported before
a command runs, so `uqdm --help` answers at once.
"""

import os

import click

from uqdm import __version__
from uqdm.cli import bulk, coding, completion, evaluation, models, streams, training, view
from uqdm.cli.group import Group


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0; 1 for bad data, a missing model, or output that cannot be written; 2 for bad usage.",
)
@click.version_option(__version__, prog_name="uqdm")
@click.option("--debug", is_flag=True, help="Show tracebacks. May stand anywhere on the line.")
def main(debug: bool) -> None:
    """Compress pictures with diffusion models into progressive streams: every beginning of a file
    is a picture, the whole is lossless.

    \b
    Examples:
      uqdm compress photo.png                      writes photo.uqdm
      uqdm decompress photo.uqdm out.png --bpp 1.5 decodes the first 1.5 bits per pixel
      uqdm truncate photo.uqdm small.uqdm --step 2 shortens a file, nothing re-encoded
      uqdm info photo.uqdm                         what each step costs
    """
    # NumPy's products are small here: threads of its library would only wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@click.command("help", short_help="The help of a command, page by page.")
@click.argument(
    "command",
    nargs=-1,
    metavar="[COMMAND]...",
    shell_complete=lambda context, _, word: main.shell_complete(context.find_root(), word),
)
@click.pass_context
def show_help(context: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of uqdm, or of a COMMAND, page by page as `man` does.

    \b
    Examples:
      uqdm help
      uqdm help compress
      uqdm help bulk decompress
    """
    shown = context.find_root()
    for word in command:
        if not isinstance(shown.command, click.Group):
            raise click.UsageError(f"{shown.command_path} has no commands, so {word!r} is none of them", context)
        _, found, _ = shown.command.resolve_command(shown, [word])
        assert found is not None  # else it has raised an error that tells the known ones
        shown = click.Context(found, shown, word)
    click.echo_via_pager(shown.get_help())


for _command in (
    coding.compress,
    coding.decompress,
    streams.info,
    streams.truncate,
    view.view,
    coding.sample,
    bulk.bulk,
    models.models,
    models.import_checkpoint,
    models.quantise,
    training.train,
    training.list_presets,
    evaluation.evaluate,
    evaluation.compare,
    evaluation.reproduce,
    show_help,
):
    main.add_command(_command)
completion.complete(main)
