"""The commands that evaluate: parse, read pictures, call the evaluation, print its table.

Three commands share their options and their errors, so they share a file of some 500 lines.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from uqdm.cli.jobs import STD, as_stream
from uqdm.cli.options import THREADS, Number
from uqdm.cli.output import complain, echo, echo_table, printable
from uqdm.errors import EvaluationError, ImageError, OutputError, SourceError

if TYPE_CHECKING:
    from uqdm.evaluation.curves import Curve

_codecs = click.option(
    "--codec",
    "names",
    multiple=True,
    metavar="NAME,…",
    help="uqdm, uqdm:MODEL, jpeg, jpeg2000, jxl, webp, avif, bpg, png, …, or all.",
)
_external = click.option(
    "--external",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE,…",
    help="Codecs with a command line (TOML).",
)
_features = click.option(
    "--features",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="TorchScript of a feature extractor, such as Inception for FID.",
)
_paper = click.option("--as-paper", "paper", is_flag=True, help="Set and count every codec as the paper did.")
_published = click.option(
    "--published",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE,…",
    help="Published curves (YAML), drawn with a label that says so.",
)
_every = click.option("--every", type=click.IntRange(min=1), default=1, metavar="K", help="Only every K-th picture.")
_seed = click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    metavar="S",
    help="Seed of dithers, draws and patches.",
)
_jobs = click.option("--jobs", type=THREADS, metavar="N", help="Processes; by default one for each core.")


@click.command(short_help="Codecs over pictures: tables, curves, a report.")
@click.argument("data", nargs=-1, required=True, metavar="DATA …")
@_codecs
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the results.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pictures.")
@_every
@_paper
@_published
@click.option(
    "--beside",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE,…",
    help="results.json of other evaluations, to show beside this one.",
)
@_external
@_features
@click.option("--lpips", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="TorchScript of LPIPS.")
@click.option(
    "--ssimulacra2",
    "psychovisual",
    is_flag=True,
    help="Measure SSIMULACRA 2 too, about a second for each point of a Kodak picture, and Butteraugli where its program"
    " is on the PATH.",
)
@click.option(
    "--show",
    "kept",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    metavar="N",
    help="Pictures in the report, the first N.",
)
@_seed
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder that keeps what was measured; by default DIR/cache.",
)
@_jobs
def evaluate(
    data: tuple[str, ...],
    names: tuple[str, ...],
    out: Path,
    limit: int | None,
    every: int,
    paper: bool,
    published: tuple[str, ...],
    beside: tuple[str, ...],
    external: tuple[str, ...],
    features: str | None,
    lpips: str | None,
    psychovisual: bool,
    kept: int,
    seed: int,
    cache: Path | None,
    jobs: int | None,
) -> int:
    """Measure codecs over pictures. Prints a table, and writes results.json, results.csv and
    report.html to DIR.

    DATA is packs, folders, globs or a data set's name, as for `uqdm train`. By default all codecs
    that can run here are measured. What was measured is kept: the same command goes on where it
    stopped, and another codec costs only its own time. Evaluate slow codecs apart, on fewer
    pictures, and show them with --beside. A picture that cannot be read is left out and named, and
    the exit code is 1.

    \b
    Examples:
      uqdm evaluate photographs/ --out report
      uqdm evaluate dev.zip --every 5 --codec uqdm,jxl,webp,jpeg2000 --out report
      uqdm evaluate CIFAR10 --codec all --as-paper --published cifar.yml --out as-paper
      uqdm evaluate dev.zip --limit 20 --codec vdm-a:runs/vdm,vdm-f:runs/vdm@1000 --out gaussian
    """
    # Import these now: if they are missing, a worker would notice hours later.
    import jinja2  # noqa: F401
    import scipy  # noqa: F401
    import torchmetrics  # noqa: F401
    from tqdm import tqdm

    from uqdm.evaluation import curves, registry, report
    from uqdm.evaluation.evaluate import Measures, machine
    from uqdm.evaluation.evaluate import evaluate as run

    make_folder(out)
    pictures, called, label = lazily(data, every, limit)
    chosen, missing = registry.specs(names, paper, external, seed)
    others = [curve for path in beside for curve in curves.read_results(path)]
    others += [curve for path in published for curve in curves.read_published(path)]
    measures = Measures(seed, kept, features, lpips, psychovisual)
    with tqdm(total=len(pictures) * len(chosen), unit="picture", disable=None) as bar:

        def tick(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        results = run(pictures, chosen, cache or out / "cache", measures, names=called, jobs=jobs, tick=tick)
    sizes = sorted(f"{w} × {h}" for h, w in results.sizes)
    shown = ", ".join(sizes[:4]) + (f" and {len(sizes) - 4} other sizes" if len(sizes) > 4 else "")
    count = len(pictures) - len(results.left_out)
    label += f", without {len(results.left_out)} that cannot be read" if results.left_out else ""
    conditions = report.Conditions(label, count, shown, seed, paper, versions(), machine())
    written = report.write(results, conditions, out, others, missing)
    show([*results.curves, *others])
    for name, why in (missing | results.failed).items():
        complain(f"{name}: {why}")
    echo("\n".join(str(path) for path in written))
    if results.failed:
        raise EvaluationError(f"{len(results.failed)} of {len(chosen)} codecs failed; what the others gave is in {out}")
    for why in results.left_out.values():
        complain(f"left out: {why}")
    return left_out(len(results.left_out), len(pictures) - len(results.left_out))


def make_folder(out: Path) -> None:
    """A folder for results, made before the work is done. Raises `OutputError` if it cannot be
    written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made: {error.strerror}") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise OutputError(f"{out} is write-protected")


def lazily(data: tuple[str, ...], every: int, limit: int | None) -> tuple[Any, list[str], str]:
    """Pictures uint8 (H, W, 3), their names, and a name for all of them. They are read when they
    are asked for.

    If a data set has its own test pictures, it is those. A broken picture raises `ImageError` when
    it is asked for.
    """
    import numpy as np

    from uqdm.data.opening import open_source
    from uqdm.data.sources import Joined, Subset

    sources = []
    for one in data:
        train, held = open_source(one)
        sources.append(held if held is not None else train)
    joined = Joined(sources)
    chosen = range(0, len(joined), every)[:limit]
    if not chosen:
        raise EvaluationError(f"{', '.join(data)}: no pictures")
    label = ", ".join(printable(Path(one).name or one) for one in data)
    label += (f", one in {every}" if every > 1 else "") + (f", the first {limit}" if limit is not None else "")
    return Subset(joined, np.array(chosen, np.int64)), [printable(joined.name(i)) for i in chosen], label


def read(data: tuple[str, ...], every: int, limit: int | None) -> tuple[list[Any], list[str], str, int]:
    """The same pictures, read at once, for commands that show a few; and how many broken ones were
    left out and named.
    """
    found, names, label = lazily(data, every, limit)
    pictures, called = [], []
    for i, name in enumerate(names):
        try:
            pictures.append(found[i])
            called.append(name)
        except SourceError:
            raise
        except ImageError as error:
            complain(f"left out: {error}")
    broken = len(names) - len(pictures)
    if not pictures:
        raise EvaluationError(f"{', '.join(data)}: none of {broken} pictures can be read")
    label += f", without {broken} that cannot be read" if broken else ""
    return pictures, called, label, broken


def left_out(broken: int, good: int) -> int:
    """Prints how many pictures were left out. Returns the exit code."""
    if broken:
        complain(f"{broken} of {broken + good} pictures were left out, because they cannot be read")
    return int(broken > 0)


def show(curves: list[Curve]) -> None:
    """Prints the main table by both countings."""
    from uqdm.evaluation.report import main_table

    for table in (main_table(curves), main_table(curves, payload=True)):
        if table.rows:
            echo_table([table.head, *table.rows])
            echo(f"{table.caption}.\n")


def versions() -> dict[str, str]:
    """The versions of what does the work."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("uqdm", "pillow", "imagecodecs", "pillow-heif", "torch", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@click.command(short_help="One picture, several codecs, one rate: a contact sheet.")
@click.argument("image", type=click.Path(exists=True, dir_okay=False))
@click.argument("out", required=False, metavar="[OUT]", type=click.Path(path_type=Path))
@_codecs
@click.option(
    "--bpp", type=Number(min=0, min_open=True), default=1.0, show_default=True, metavar="R", help="Bits per pixel."
)
@click.option("--crop", metavar="WxH[+X+Y]", help="Show only this part of the picture; all of it is coded.")
@click.option("--no-errors", is_flag=True, help="Without error maps.")
@_paper
@_external
@click.option("--force", is_flag=True, help="Write over what is there.")
def compare(
    image: str,
    out: Path | None,
    names: tuple[str, ...],
    bpp: float,
    crop: str | None,
    no_errors: bool,
    paper: bool,
    external: tuple[str, ...],
    force: bool,
) -> None:
    """Show a picture through several codecs at the same rate, with rates, PSNRs and error maps, as
    one picture OUT.

    Each codec is shown at its best setting that costs at most R bits per pixel. OUT is
    IMAGE-compare.png by default.

    \b
    Examples:
      uqdm compare photo.png
      uqdm compare photo.png --bpp 0.5 --codec uqdm,uqdm-ancestral,jpeg,jxl,webp
      uqdm compare photo.png sheet.png --bpp 2 --crop 256x256+100+80
    """
    import dataclasses

    from uqdm import files
    from uqdm.evaluation import compare as comparing
    from uqdm.evaluation import registry

    if out is not None and as_stream(str(out), 1) == STD:
        raise click.UsageError("the table goes to stdout: give OUT the name of a file")
    target = out or Path(f"{Path(image).stem}-compare.png")
    files.check_format(files.format_of(target), grey=False, alpha=False, lossy=True)
    files.check_target(target, force)
    pixels = files.read(image, convert=True).pixels
    pixels = pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)
    part = _crop(crop, pixels.shape)
    chosen, missing = registry.specs(names, paper, external)
    shown, failed = comparing.panels([spec.make() for spec in chosen], pixels, bpp)
    rows = [("codec", "bits/pixel", "PSNR, dB", "SSIM", "SSIMULACRA 2", "point")]
    for one in shown:
        quality = "lossless" if one.psnr == float("inf") else f"{one.psnr:.2f}"
        more = (_known(one.ssim, 4), _known(one.ssimulacra2, 1))
        rows.append((one.label, f"{one.bpp:.3f}", quality, *more, one.setting))
    echo_table(rows, left=(0, 5))
    for name, why in (missing | failed).items():
        complain(f"{name}: {why}")
    if not shown:
        raise EvaluationError("no codec gave a picture")
    cut = [dataclasses.replace(one, pixels=one.pixels[part]) for one in shown]
    made = comparing.sheet(
        pixels[part], cut, f"{printable(Path(image).name)} at {bpp:g} bits per pixel", errors=not no_errors
    )
    files.write(files.from_pillow(made), target, force=force, lossy=True)
    echo(str(target))


def _known(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def _crop(text: str | None, shape: tuple[int, ...]) -> Any:
    """`WxH+X+Y` as slices of a picture. Without a place they are its middle."""
    import re

    if text is None:
        return (slice(None), slice(None))
    found = re.fullmatch(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?", text)
    height, width = shape[:2]
    if found:
        w, h = int(found[1]), int(found[2])
        x, y = (int(found[3]), int(found[4])) if found[3] else ((width - w) // 2, (height - h) // 2)
        if w and h and 0 <= x <= width - w and 0 <= y <= height - h:
            return (slice(y, y + h), slice(x, x + w))
    raise click.UsageError(f"--crop {text}: expected WxH or WxH+X+Y inside the picture of {width}x{height}")


@click.command(short_help="A figure of the paper, by number.")
@click.argument(
    "figures", nargs=-1, required=True, type=click.Choice([f"fig{i}" for i in range(1, 11)]), metavar="fig1 … fig10"
)
@click.option(
    "--out",
    default="figures",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="PATH …",
    help="Pictures: CIFAR-10 for fig3, ImageNet 64 or the like for the others.",
)
@_published
@click.option("--models", multiple=True, metavar="NAME,…", help="Models to show; by default the embedded one.")
@click.option(
    "--codec", "names", multiple=True, metavar="NAME,…", help="Other codecs to show (fig1, fig3, fig4, fig9, fig10)."
)
@_external
@_features
@_every
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the first N pictures; by default 100 for curves and 4 for reconstructions.",
)
@click.option(
    "--small", is_flag=True, help="Train the swirl (fig2, fig6, fig7) with fewer runs and steps, in some minutes."
)
@_seed
@_jobs
def reproduce(
    figures: tuple[str, ...],
    out: Path,
    data: tuple[str, ...],
    published: tuple[str, ...],
    models: tuple[str, ...],
    names: tuple[str, ...],
    external: tuple[str, ...],
    features: str | None,
    every: int,
    limit: int | None,
    small: bool,
    seed: int,
    jobs: int | None,
) -> int:
    """Make the paper's figures anew: DIR/figN.png and the numbers behind it, DIR/figN.json.

    fig1, fig9 and fig10 show reconstructions beside other codecs at equal rates. fig2, fig6 and
    fig7 are the swirl, trained here (about 95 core-minutes; with --small some minutes). fig3 and
    fig4 show rate, distortion and realism on CIFAR-10 and ImageNet 64. fig5 and fig8 show
    progressive reconstructions by method, and bits by model size. --data gives the pictures. A
    figure names what is not installed.

    \b
    Examples:
      uqdm reproduce fig2 fig6 fig7 --small
      uqdm reproduce fig4 --data dev.zip --every 5 --published imagenet.yml
      uqdm reproduce fig1 fig5 fig8 fig9 fig10 --data dev.zip --every 120
    """
    from uqdm import library

    code, numbers = 0, sorted({int(name[3:]) for name in figures})
    make_folder(out)
    for number in numbers:
        if number in (2, 6, 7):
            _swirl(number, out, small, seed, jobs or 2)
            continue
        if not data:
            raise click.UsageError(f"fig{number} needs pictures: --data")
        count = limit or (100 if number in (3, 4) else 4)
        if number in (3, 4):
            pictures, _, label = lazily(data, every, count)
        else:
            pictures, _, label, broken = read(data, every, count)
            code |= left_out(broken, len(pictures))
        more = _More(names, external, features, published)
        _figure(number, pictures, label, out, models or (library.DEFAULT,), more, seed, jobs)
    return code


class _More(NamedTuple):
    """Options that change what a figure shows."""

    names: tuple[str, ...]
    external: tuple[str, ...]
    features: str | None
    published: tuple[str, ...]


def _figure(
    number: int, pictures: Any, label: str, out: Path, models: tuple[str, ...], more: _More, seed: int, jobs: int | None
) -> None:
    from tqdm import tqdm

    from uqdm.evaluation import curves, registry
    from uqdm.evaluation import figures as made
    from uqdm.evaluation.evaluate import Measures
    from uqdm.evaluation.evaluate import evaluate as run

    names = [f"uqdm:{model}" for model in models]
    if number in (3, 4):
        ancestral = [name.replace("uqdm", "uqdm-ancestral", 1) for name in names]
        wanted = [*names, *ancestral, "jpeg", "jpeg2000", "bpg", *more.names]
        chosen, missing = registry.specs(wanted, False, more.external, seed, lenient=True)
        measures = Measures(seed, 0, more.features)
        with tqdm(total=len(pictures) * len(chosen), unit="picture", disable=None) as bar:
            results = run(
                pictures,
                chosen,
                out / "cache",
                measures,
                jobs=jobs,
                memory=False,
                tick=lambda what: bar.update() and None,
            )
        others = [curve for path in more.published for curve in curves.read_published(path)]
        for why in results.left_out.values():
            click.echo(f"uqdm: left out: {why}", err=True)
        title = f"{label}: {len(pictures) - len(results.left_out)} pictures"
        _save(number, out, *made.rates(results.curves, others, title, [*missing, *results.failed]))
    elif number == 5:
        ways = (made.DENOISED, *made.ANCESTRAL)
        _save(number, out, *made.progressive(models, pictures, ways, f"Progressive reconstructions, {label}", seed))
    elif number == 8:
        _save(
            number, out, *made.progressive(models, pictures, (made.FLOW,), f"Flow-based reconstructions, {label}", seed)
        )
        found = dict(made.size_of(model, pictures) for model in models)
        _save(number, out, *made.sizes(found, f"measured, {label}"), suffix="-sizes")
    else:
        wanted = [*names, "jpeg", "jpeg2000", "jxl", "webp", "avif", "bpg", *more.names]
        chosen, missing = registry.specs(wanted, False, more.external, seed, lenient=True)
        _save(number, out, *made.beside(number, [spec.make() for spec in chosen], pictures, list(missing)))


def _swirl(number: int, out: Path, small: bool, seed: int, jobs: int) -> None:
    import json

    from uqdm import files
    from uqdm.research import swirl

    found = swirl.everything(out / "swirl", small, seed=seed, jobs=jobs, say=lambda line: echo(line, err=True))
    png = (out / "swirl" / f"figure{number}.png").read_bytes()
    for path, content in ((out / f"fig{number}.png", png), (out / f"fig{number}.json", json.dumps(found).encode())):
        files.write_atomic(path, content, force=True)
        echo(str(path))


def _save(number: int, out: Path, figure: Any, record: dict[str, Any], suffix: str = "") -> None:
    import json

    from uqdm import files
    from uqdm.evaluation import plots

    for path, content in (
        (out / f"fig{number}{suffix}.png", plots.png(figure)),
        (out / f"fig{number}{suffix}.json", (json.dumps(record, indent=1) + "\n").encode()),
    ):
        files.write_atomic(path, content, force=True)
        echo(str(path))
