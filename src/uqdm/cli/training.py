"""The commands that train: parse, load data, call the trainer, print its lines."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from uqdm.cli.options import THREADS, Number
from uqdm.cli.output import complain, echo, echo_table
from uqdm.errors import UqdmError


@click.command(short_help="Train a model.")
@click.option(
    "--preset",
    "name",
    metavar="NAME",
    help="What to train: nano, base, photo, photo-large, tiny, small, medium, big, half, cifar10, tiny-vdm,"
    " cifar10-vdm.",
)
@click.option(
    "--config",
    "path",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="A config.json instead of a preset.",
)
@click.option(
    "--data",
    required=True,
    multiple=True,
    metavar="PATH …",
    help="Pictures: packs, folders, globs, shards, or a data set's name.",
)
@click.option(
    "--held",
    multiple=True,
    metavar="PATH …",
    help="Pictures to evaluate on; by default every tenth, or the data set's own.",
)
@click.option("--out", required=True, metavar="RUN", help="Folder of the run.")
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="Optimiser steps, counted from the run's beginning."
)
@click.option(
    "--minutes",
    type=Number(min=0, min_open=True),
    metavar="M",
    help="Minutes of training, counted from the run's beginning.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE …",
    help="Keys of the configuration: lr=1e-3, model.n_timesteps=8, …",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    metavar="S",
    help="Seed of everything random.",
)
@click.option("--start", metavar="FOLDER", help="Begin with the weights of another run, or of a published checkpoint.")
@click.option("--device", metavar="NAME", help="cpu, cuda, …; by default a GPU where there is one.")
@click.option("--threads", type=THREADS, metavar="N", help="CPU threads; by default all cores.")
def train(
    name: str | None,
    path: str | None,
    data: tuple[str, ...],
    held: tuple[str, ...],
    out: str,
    steps: int | None,
    minutes: float | None,
    settings: tuple[str, ...],
    seed: int,
    start: str | None,
    device: str | None,
    threads: int | None,
) -> int:
    """Train a model on pictures. The same command goes on where the run stopped; more --steps make
    a finished run go on.

    The folder RUN holds config.json (the complete configuration), checkpoint.safetensors,
    metrics.jsonl, and events/ for TensorBoard. With torchrun every process takes its share of each
    step. A picture that cannot be read is left out and named, and the exit code is 1 at the end.
    One that is smaller than the crop is only named.

    \b
    Examples:
      uqdm train --preset tiny --data photographs/ --out runs/tiny --minutes 30
      uqdm train --preset tiny --data a.zip b.zip --held dev.zip --out runs/t8 --set n_timesteps=8 batch_size=32
      uqdm train --preset cifar10 --data CIFAR10 --out runs/cifar
      torchrun --nproc-per-node 2 -m uqdm train --preset small --data ImageNet64 --out runs/small
      uqdm import-checkpoint runs/tiny models/mine
    """
    if (name is None) == (path is None):
        raise click.UsageError("give one of --preset and --config")
    if steps is not None and minutes is not None:
        raise click.UsageError("--steps and --minutes cannot be used together: each says when to stop")
    import torch
    import torch.distributed as dist

    from uqdm.config import to_json
    from uqdm.training import runs
    from uqdm.training.data import load_data
    from uqdm.training.trainer import Stopped, check_folder
    from uqdm.training.trainer import train as run

    config = _configured(name, path, settings, steps)
    if threads is not None:
        torch.set_num_threads(threads)
    many = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if many:
        dist.init_process_group("nccl" if torch.cuda.is_available() and device != "cpu" else "gloo")
    first = not many or dist.get_rank() == 0
    check_folder(out, config)
    torch.set_flush_denormal(True)  # of this thread, until the end
    try:
        sources = list(data) if len(data) > 1 else data[0]
        train_data, held_data = load_data(sources, config.data, held=list(held) or None, seed=seed)
        begin = runs.read_folder(start) if start is not None else None
        if first:
            echo(to_json(config).rstrip("\n"))
            echo(describe(config, len(train_data.pictures), len(held_data.pictures)))
        say = echo if first else _silent
        how: Any = {"steps": steps, "minutes": minutes, "seed": seed, "device": device, "start": begin, "say": say}
        run(config, train_data, held_data, out, **how)
        return left_out(train_data, held_data) if first else 0
    except Stopped as stopped:
        if first:
            complain(str(stopped))
        sys.exit(128 + stopped.number)
    except KeyboardInterrupt:
        step = runs.step_of(out)
        goes_on = f"{out} holds step {step}, from which the same command goes on"
        complain(f"interrupted; {goes_on if step else 'no step has been saved'}")
        sys.exit(130)
    finally:
        torch.set_flush_denormal(False)
        if many:
            dist.destroy_process_group()


def _configured(name: str | None, path: str | None, settings: tuple[str, ...], steps: int | None) -> Any:
    """The configuration of a preset or a file, changed as `--set` says."""
    from uqdm.config import override, read_config
    from uqdm.training import presets

    given = dict(one.split("=", 1) if "=" in one else _no_value(one) for one in settings)
    try:
        config = override(presets.preset(name) if name is not None else read_config(path or ""), given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if steps is not None:
        config = override(config, {"training.n_steps": steps})
    if config.model.n_channels != 3:
        raise UqdmError(
            f"{name}: a model of {config.model.n_channels} channels, and --data holds pictures; python -m"
            " uqdm.research.swirl trains it"
        )
    if config.data.scale_min < 1 and not config.data.crop:
        raise click.UsageError(
            f"data.scale_min is {config.data.scale_min} and data.crop 0: pictures of many sizes need a crop, --set"
            " crop=64"
        )
    return config


def left_out(*data: Any) -> int:
    """Names the pictures that were not used, and counts them. Returns the exit code: 1 if some are
    broken, 0 if they are only small.
    """
    for part in data:
        for _, why in sorted(part.left_out.items()):
            complain(f"left out: {why}")
        if part.left_out:
            complain(
                f"{len(part.left_out)} of {len(part.pictures)} pictures were left out, {len(part.broken)} of them"
                " broken"
            )
    return int(any(part.broken for part in data))


def describe(config: Any, pictures: int, held: int) -> str:
    """What will be trained, in one line: parameters, arithmetic, data."""
    from uqdm.families import registry

    size = registry.floats(config.family).size(config, None)
    work = f"{size.multiply_adds / 1e3:,.0f} k multiply-adds a pixel{size.what}"
    return f"{size.parameters:,} parameters; {work}; {pictures:,} pictures to train on, {held:,} held out"


def _no_value(word: str) -> Any:
    raise click.UsageError(f"--set {word}: expected KEY=VALUE")


def _silent(line: str) -> None:
    pass


@click.command("presets", short_help="List what can be trained.")
@click.option("--json", "as_json", is_flag=True, help="The whole configurations.")
def list_presets(as_json: bool) -> None:
    """List the presets of `uqdm train`. If PyTorch is installed, their size and arithmetic are
    counted.

    \b
    Examples:
      uqdm presets
      uqdm presets --json
    """
    from uqdm.config import to_json
    from uqdm.families import registry
    from uqdm.training.presets import PRESETS

    if as_json:
        echo(json.dumps({name: json.loads(to_json(config)) for name, config in PRESETS.items()}, indent=2))
        return
    rows = [("preset", "family", "T", "parameters", "k multiply-adds a pixel", "loss", "batch", "steps")]
    try:
        import torch  # noqa: F401

        counted = True
    except ImportError:
        counted = False
    for name, c in PRESETS.items():
        size = ("–", "–")
        if counted:
            found = registry.floats(c.family).size(c, 32 if "cifar" in name else None)
            size = (f"{found.parameters:,}", f"{found.multiply_adds / 1e3:,.1f}{found.what}")
        steps = str(c.model.n_timesteps)
        rows.append((name, c.family, steps, *size, c.training.loss, str(c.data.batch_size), f"{c.training.n_steps:,}"))
    echo_table(rows, left=(0, 1, 4, 5))
    if not counted:
        complain("counting sizes and training need PyTorch: pip install '.[train]' in uqdm's folder")
