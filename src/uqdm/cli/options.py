"""Options that several commands share, and the numbers that they take."""

import math
from collections.abc import Callable
from typing import Any

import click

from uqdm import cpus
from uqdm.goals import EXPECTED

# the most threads or processes, so that a typing error does not ask for a million
THREADS = click.IntRange(1, cpus.MOST)


class Number(click.FloatRange):
    """A number in a range. "nan", which is in every range, and "inf" are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            low, high = ("..." if end is None else f"{end:g}" for end in (self.min, self.max))
            self.fail(f"{value!r} is no number of {low} to {high}", param, ctx)
        return found


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


run = together(
    click.option(
        "--device",
        default="cpu",
        show_default=True,
        metavar="NAME",
        help="Where the network runs: cpu, cuda, cuda:1, …",
    ),
    click.option(
        "--backend",
        type=click.Choice(["onnxruntime", "torch", "numpy"]),
        help=(
            "What runs the network; by default the first that is installed and fits. No bit of an exact model depends"
            " on it."
        ),
    ),
    click.option(
        "--max-pixels", type=click.IntRange(min=1), metavar="N", help="Refuse larger pictures; 67,108,864 by default."
    ),
    click.option(
        "--threads",
        type=THREADS,
        metavar="N",
        help="CPU threads of the network; by default one for each core that this process may use.",
    ),
)
where = click.option(
    "--model", metavar="NAME|PATH", help="Where the model is, if the name in the file does not lead to it."
)
model = click.option("--model", metavar="NAME|PATH", help="The model, by name (see `uqdm models`) or as a folder.")
force = click.option("--force", is_flag=True, help="Replace what is there already.")
temperature = click.option(
    "--temperature",
    type=Number(0, 1),
    default=1.0,
    show_default=True,
    metavar="T",
    help=(
        "How freely pictures are drawn: below 1 they are nearer to the most likely ones, with less texture and less"
        " noise."
    ),
)
seed = click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the randomness.",
)
batches = together(
    click.option(
        "--skip-existing",
        is_flag=True,
        help="Skip inputs that have an output already; so the same command goes on where it stopped.",
    ),
    click.option(
        "--recursive", is_flag=True, help="Take the sub-folders of a folder too; OUT then gets the same ones."
    ),
)
batch = click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Pictures of one size that share a network call.",
)
jobs = click.option(
    "--jobs",
    type=THREADS,
    metavar="N",
    help=(
        "Processes that share several pictures, each with one thread; by default one for each core that this process"
        " may use, and fewer for little work. The files are the same."
    ),
)
precision = click.option(
    "--precision",
    type=click.Choice(["float64", "float32"]),
    help=(
        "For imported float models, by default float64: float32 is faster, for files that stay on one machine. Exact"
        " models, such as the default, are the same in any."
    ),
)
rate = together(
    click.option(
        "--step", type=click.IntRange(min=0), metavar="K", help="Take all up to the end of step K (0: no step)."
    ),
    click.option("--bpp", type=Number(min=0, min_open=True), metavar="R", help="Take at most R bits per pixel."),
    click.option(
        "--bytes",
        "--target-size",
        "target_size",
        type=click.IntRange(min=1),
        metavar="N",
        help="Take the first N bytes.",
    ),
    click.option(
        "--psnr",
        type=Number(min=0, min_open=True),
        metavar="DB",
        help="Take all up to the first place in the file's index that shows so many decibels of PSNR.",
    ),
    click.option(
        "--max-error",
        type=click.IntRange(min=0),
        metavar="E",
        help="Take all up to the first step after which no value of a pixel is off by more than E.",
    ),
)
goal = together(
    click.option("--step", type=click.IntRange(min=0), metavar="K", help="Write the first K steps only."),
    click.option("--bpp", type=Number(min=0, min_open=True), metavar="R", help="Write at most R bits per pixel."),
    click.option("--target-size", type=click.IntRange(min=1), metavar="BYTES", help="Write at most so many bytes."),
    click.option(
        "--psnr",
        type=Number(min=0, min_open=True),
        metavar="DB",
        help="Write as few bytes as reach so many decibels of PSNR.",
    ),
    click.option(
        "--max-error",
        type=click.IntRange(min=0),
        metavar="E",
        help="Keep every value of a pixel within E, in as few bytes as possible.",
    ),
)


def taken_goal(given: dict[str, Any]) -> dict[str, Any]:
    """Takes the options of `rate` or `goal` out of all that are given to a command. The one that is
    set is left, by name (see `goals.Goal`).
    """
    found = {name: value for name in EXPECTED if (value := given.pop(name)) is not None}
    if len(found) > 1:
        names = " and ".join(f"--{name.replace('_', '-')}" for name in found)
        raise click.UsageError(f"{names} cannot be used together: each says how much of the file to take")
    return found
