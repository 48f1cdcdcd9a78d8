"""The commands about models: list them, import one, turn one into integers."""

from pathlib import Path

import click

from uqdm.cli import options
from uqdm.cli.output import complain, echo, echo_table
from uqdm.cli.training import left_out


@click.command(short_help="List the models.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def models(as_json: bool) -> None:
    """List the models that can be asked for by name.

    \b
    Examples:
      uqdm models
      UQDM_MODELS=~/models uqdm models --json
    """
    from uqdm import library

    found = library.available()
    if as_json:
        import json

        echo(json.dumps([{**vars(one), "path": str(one.path)} for one in found], indent=2))
        return
    if not found:
        complain("there are no models here: give a folder with --model, or its parent folder in UQDM_MODELS")
        return
    rows = [
        (
            one.name + one.default * " (default)",
            one.family,
            f"{one.parameters:,}",
            one.fingerprint[:16],
            one.description,
        )
        for one in found
    ]
    echo_table([("name", "family", "parameters", "fingerprint", "description"), *rows], left=(0, 1, 3, 4))


@click.command("import-checkpoint", short_help="A published checkpoint, or a run, to a model folder.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False), metavar="FOLDER")
@click.argument("out", metavar="OUT")
@click.option(
    "--reading",
    type=click.Choice(["ema", "raw"]),
    default="ema",
    show_default=True,
    help="Which weights to take: averaged over training, or the last.",
)
@options.force
def import_checkpoint(folder: str, out: str, reading: str, force: bool) -> None:
    """Turn a published checkpoint, or a run of `uqdm train`, into a model folder OUT that the codec
    uses.

    FOLDER holds config.json and checkpoint.pt, as published, or checkpoint.safetensors. No code in
    it is run.

    \b
    Examples:
      uqdm import-checkpoint checkpoints/uqdm-tiny models/uqdm-tiny
      uqdm import-checkpoint runs/mine models/mine
      uqdm compress photo.png --model models/uqdm-tiny
    """
    from uqdm.training import importing

    echo(importing.import_checkpoint(folder, out, reading=reading, force=force))


@click.command(short_help="A trained model to one that computes in integers.")
@click.argument("model", metavar="RUN")
@click.argument("out", metavar="OUT")
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="PATH",
    help="Pictures: a folder, a glob or a pack; may be repeated.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=48,
    show_default=True,
    metavar="N",
    help="Pictures to calibrate on, and as many to test.",
)
@options.force
def quantise(model: str, out: str, data: tuple[str, ...], count: int, force: bool) -> int:
    """Turn a RUN of `uqdm train` into a model folder OUT that computes in integers.

    Scales are calibrated on some of the pictures, and the cost in bits is measured on others. Both
    rates are printed for every step, and how large a partial sum can become. A model is refused if
    one can reach 2^24.

    \b
    Examples:
      uqdm quantise runs/nano models/my-nano --data photographs/
    """
    from uqdm import bundle as package
    from uqdm.training.data import load_data
    from uqdm.training.integers import quantise_run

    package.check_target(out, force)
    train, held = load_data(data)
    chosen = train.pictures[:: max(1, len(train.pictures) // count)][:count], held.pictures[:count]
    cost = quantise_run(model, Path(out), *chosen, force, lambda line: echo(line, err=True))
    table = [("bits per pixel", "floats", "integers", "cost", "largest sum")]
    for step, (before, after, largest) in enumerate(zip(cost.before, cost.after, cost.largest), 1):
        table.append((f"step {step}", f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}", f"2^{largest:.2f}"))
    before, after = sum(cost.before), sum(cost.after)
    table.append(
        ("all", f"{before:.4f}", f"{after:.4f}", f"{(after - before) / before:+.2%}", f"2^{max(cost.largest):.2f}")
    )
    echo_table(table)
    echo(cost.path)
    return left_out(train, held)
