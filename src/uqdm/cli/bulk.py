"""The commands for very many pictures, on one machine or many: bulk compress, bulk decompress, bulk
evaluate.
"""

from __future__ import annotations  # for types of modules that are not imported yet

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from uqdm.cli import options, output

if TYPE_CHECKING:
    from uqdm.bulk.clusters import Summary

_pictures = options.together(
    options.model,
    options.seed,
    click.option(
        "--mode", type=click.Choice(["tight", "paper"]), default="tight", show_default=True, help="Entropy mode."
    ),
    click.option("--convert", is_flag=True, help="Accept 16 bits, palettes, CMYK, … converted to 8-bit grey or RGB."),
)

_where = options.together(
    click.option(
        "--ray",
        "address",
        metavar="ADDRESS",
        help="A running cluster: auto, or ray://HOST:10001; by default Ray runs on this machine, for this command.",
    ),
    click.option("--actors", type=click.IntRange(min=1), metavar="N", help="Workers; by default all that fit."),
    click.option(
        "--cpus",
        type=options.THREADS,
        default=1,
        show_default=True,
        metavar="N",
        help="Processors of a worker, each a thread of the network.",
    ),
    click.option("--memory", type=click.IntRange(min=1), metavar="BYTES", help="Memory that a worker is given."),
    click.option(
        "--max-pixels", type=click.IntRange(min=1), metavar="N", help="Refuse larger pictures; 67,108,864 by default."
    ),
    options.batch,
    click.option("--force", is_flag=True, help="Make again what is there already; by default it is skipped."),
)


@click.group(short_help="Very many pictures, on many machines, by Ray.")
def bulk() -> None:
    """Compress, decompress and evaluate very many pictures, on this machine or on a cluster, by Ray
    Data.

    Needs the extra `ray`. docs/bulk.md says more. For the cores of one machine, `uqdm compress
    FOLDER --jobs N` does without it.

    \b
    Examples:
      uqdm bulk compress pictures/ compressed/
      uqdm bulk compress pictures/ compressed/ --ray auto --actors 64
      uqdm bulk decompress compressed/ back/ --bpp 2
      uqdm bulk evaluate pictures/ figures/ --bpp 0.5,1,2
    """


@bulk.command(short_help="A folder of pictures to .uqdm files.")
@click.argument("source", metavar="SRC", type=click.Path())
@click.argument("out", metavar="DST", type=click.Path())
@_pictures
@options.goal
@_where
def compress(source: str, out: str, model: str | None, mode: str, **given: Any) -> int:
    """Compress the pictures of a folder and its sub-folders to .uqdm files in another folder.

    What is there already is skipped, so the same command goes on where it stopped. DST gets a table
    too, pictures.parquet, with a row for each picture: path, bytes, width, height, bpp, error. All
    workers must be able to write into DST.

    A picture that cannot be read is named and has a row with its error. The others are compressed,
    and the exit code is 1.

    \b
    Examples:
      uqdm bulk compress pictures/ compressed/
      uqdm bulk compress pictures/ compressed/ --ray ray://head:10001 --max-error 2
    """
    from uqdm import library
    from uqdm.bulk import clusters

    goal = options.taken_goal(given)
    done = _run(clusters.compress, source, out, model=model or library.DEFAULT, mode=mode, **goal, **given)
    return int(done.failed > 0)


@bulk.command(short_help="A folder of .uqdm files to pictures.")
@click.argument("source", metavar="SRC", type=click.Path())
@click.argument("out", metavar="DST", type=click.Path())
@options.where
@options.rate
@click.option("--suffix", default=".png", show_default=True, metavar=".EXT", help="The format of the pictures.")
@click.option("--lossy-output", "lossy", is_flag=True, help="Write whole pictures to JPEG or AVIF too.")
@_where
def decompress(source: str, out: str, **given: Any) -> int:
    """Decompress the .uqdm files of a folder and its sub-folders to pictures in another folder.

    What is there already is skipped, and DST gets a table, as with `uqdm bulk compress`. With
    --step, --bpp, --bytes, --psnr or --max-error only the beginning of each file is decoded.

    \b
    Examples:
      uqdm bulk decompress compressed/ back/
      uqdm bulk decompress compressed/ previews/ --bpp 2 --suffix .jpg
    """
    from uqdm.bulk import clusters

    goal = options.taken_goal(given)
    return int(_run(clusters.decompress, source, out, **goal, **given).failed > 0)


@bulk.command(short_help="A folder of pictures to a table of sizes and PSNR.")
@click.argument("source", metavar="SRC", type=click.Path())
@click.argument("out", metavar="DST", type=click.Path())
@_pictures
@click.option(
    "--bpp",
    "rates",
    type=options.Number(min=0, min_open=True),
    multiple=True,
    metavar="R,…",
    help="Bits per pixel at which to measure the PSNR; by default 0.25, 0.5, 1 and 2.",
)
@_where
def evaluate(source: str, out: str, model: str | None, rates: tuple[float, ...], **given: Any) -> int:
    """Measure the pictures of a folder and its sub-folders, without keeping their .uqdm files.

    DST gets a table, pictures.parquet, with a row for each picture: path, bytes, width, height, bpp
    without loss, error, and the PSNR of the beginning of each rate: psnr_0.5, … It is infinite where
    nothing differs. The means are printed. Each file is decoded whole once, and compared.

    What is in the table already is skipped, so the same command goes on where it stopped. A picture
    that cannot be read is named and has a row with its error, and the exit code is 1.

    \b
    Examples:
      uqdm bulk evaluate pictures/ figures/
      uqdm bulk evaluate pictures/ figures/ --bpp 0.5,1,2 --ray auto
    """
    from uqdm import library
    from uqdm.bulk import clusters, evaluating

    model, rates = model or library.DEFAULT, rates or evaluating.RATES
    done = _run(evaluating.evaluate, source, out, model=model, rates=rates, **given)
    means = done.means()
    if means:
        decibels = [f"{means[name]:.2f} dB at {bpp:g}" for bpp in rates if (name := clusters.column(bpp)) in means]
        lossless = f"{means['bpp']:.3f} bits per pixel without loss"
        output.echo("; ".join([f"means: {lossless}", *([", ".join(decibels)] if decibels else [])]))
    return int(done.failed > 0)


def _run(work: Callable[..., Any], source: str, out: str, **given: Any) -> Summary:
    """Does the work, shows how far it is, prints what failed and how much is done."""
    from uqdm.bulk.clusters import Cluster

    cluster = Cluster(**{name: given.pop(name) for name in ("address", "actors", "cpus", "memory")})
    _quiet()
    with _bar() as bar:

        def progress(over: int, total: int) -> None:
            bar.total = total
            bar.update(over - bar.n)

        done: Summary = work(source, out, cluster=cluster, progress=progress, **given)
    for path, error in done.errors():
        output.complain(error if path in error else f"{path}: {error}")
    output.complain(f"{done.done} done, {done.skipped} skipped, {done.failed} failed; the table is {done.table}")
    return done


def _quiet() -> None:
    """Lets Ray tell what is wrong only. Its own log files have the rest."""
    import ray.data  # noqa: F401 - sets its loggers up

    logging.getLogger("ray.data").setLevel(logging.WARNING)


def _bar() -> Any:
    """On a terminal only."""
    from tqdm import tqdm

    return tqdm(unit=" pictures", file=sys.stderr, disable=None, dynamic_ncols=True)
