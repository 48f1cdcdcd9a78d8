"""The front door: parses a command, calls one function, prints, and exits; everything else is elsewhere.

Results go to stdout, or to stderr where stdout carries the data; complaints go to stderr. Exit codes: 0, 1 for bad data, 2 for bad
usage, 130 when interrupted. Nothing heavy is imported before a command runs, so that `uqdm --help` answers at once.
"""

from __future__ import annotations  # types of modules that are not imported yet

import contextlib
import glob
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from uqdm import __version__
from uqdm.cli import evaluation, training
from uqdm.cli.output import THREADS, Number, echo_table
from uqdm.errors import FormatError, OutputError, UqdmError

if TYPE_CHECKING:
    from uqdm.codec import Codec, Decoded
    from uqdm.container import Header, Info
    from uqdm.images import Picture

PICTURES = frozenset({".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"})
FILES = frozenset({".uqdm"})
STD = "-"
EXTRAS = {"torch": ("PyTorch", "torch")} | {name: (name, "eval") for name in ("jinja2", "matplotlib", "scipy", "torchmetrics", "yaml")}
_WAITING = 64  # files that wait in memory for a batch of their size to fill
_LARGE = 1 << 18  # pixels that keep a network call busy: so many do not wait for more
T = TypeVar("T")
R = TypeVar("R")


class _Group(click.Group):
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


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    click.echo("uqdm: " + " ".join(message.split()), err=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, UqdmError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        name, extra = EXTRAS[error.name]
        return f"{name} is not installed and this needs it: pip install 'uqdm[{extra}]'"
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"unexpected {type(error).__name__}: {error}. This is a mistake in uqdm; --debug shows where"


# --- options -----------------------------------------------------------------------------------------------------------------------


def _together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_run = _together(
    click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where the network runs: cpu, cuda, cuda:1, …"),
    click.option(
        "--backend",
        type=click.Choice(["onnxruntime", "torch", "numpy"]),
        help="What runs the network; by default the first that is installed and fits. No bit of an exact model depends on it.",
    ),
    click.option("--max-pixels", type=click.IntRange(min=1), metavar="N", help="Refuse larger pictures; 67,108,864 by default."),
    click.option("--threads", type=THREADS, metavar="N", help="CPU threads of the network; by default one a core that is ours."),
)
_where = click.option("--model", metavar="NAME|PATH", help="Where the model is, if not found by the name in the file.")
_model = click.option("--model", metavar="NAME|PATH", help="The model, by name (see `uqdm models`) or as a folder.")
_force = click.option("--force", is_flag=True, help="Replace what is there already.")
_temperature = click.option(
    "--temperature",
    type=Number(0, 1),
    default=1.0,
    show_default=True,
    metavar="T",
    help="Of what is drawn: below 1 nearer to the middle of what is likely, with less texture and less noise.",
)
_seed = click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, metavar="N", help="Seed of the randomness.")
_batch = click.option(
    "--batch", type=click.IntRange(min=1), default=8, show_default=True, metavar="N", help="Pictures of one size that share a network call."
)
_precision = click.option(
    "--precision",
    type=click.Choice(["float64", "float32"]),
    help="For imported float models, by default float64: float32 is faster, for files that stay on one machine. Exact models, such as the "
    "default, are the same in any.",
)
_rate = _together(
    click.option("--step", type=click.IntRange(min=0), metavar="K", help="Up to the end of step K (0: none)."),
    click.option("--bpp", type=Number(min=0), metavar="R", help="Up to R bits per pixel."),
    click.option("--bytes", "nbytes", type=click.IntRange(min=0), metavar="N", help="The first N bytes."),
    click.option(
        "--max-error",
        type=click.IntRange(min=0),
        metavar="E",
        help="Up to the first step after which no value of a pixel is off by more than E.",
    ),
)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0; 1 for bad data, a missing model, or output that cannot be written; 2 for bad usage.",
)
@click.version_option(__version__, prog_name="uqdm")
@click.option("--debug", is_flag=True, help="Show tracebacks. May stand anywhere on the line.")
def main(debug: bool) -> None:
    """Compress pictures with diffusion models into progressive streams: every beginning of a file is a picture, the whole is lossless.

    \b
    Examples:
      uqdm compress photo.png                      writes photo.uqdm
      uqdm decompress photo.uqdm out.png --bpp 1.5 decodes the first 1.5 bits per pixel
      uqdm truncate photo.uqdm small.uqdm --step 2 shortens a file, nothing re-encoded
      uqdm info photo.uqdm                         what each step costs
    """


# --- compress, decompress ----------------------------------------------------------------------------------------------------------


@main.command(short_help="Pictures to .uqdm files.")
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@_model
@_seed
@click.option(
    "--mode", type=click.Choice(["tight", "paper"]), default="tight", show_default=True, help="Entropy mode: paper is to reproduce."
)
@click.option(
    "--max-error", type=click.IntRange(min=0), metavar="E", help="Up to the first step that keeps every value of a pixel within E."
)
@_precision
@_batch
@_run
@click.option("--convert", is_flag=True, help="Accept 16 bits, palettes, CMYK, … by converting to 8-bit grey or RGB: not lossless.")
@_force
def compress(
    paths: tuple[str, ...],
    model: str | None,
    seed: int,
    mode: str,
    max_error: int | None,
    precision: str | None,
    batch: int,
    device: str,
    backend: str | None,
    max_pixels: int | None,
    threads: int | None,
    convert: bool,
    force: bool,
) -> int:
    """Compress pictures to .uqdm files.

    IN is a picture, a folder of pictures, a quoted glob, or - for stdin. OUT is a file, or a folder for several pictures; by default
    each file is written beside its picture, with the suffix .uqdm. Prints a line per file: name, bytes, bits per pixel.

    \b
    Examples:
      uqdm compress photo.png
      uqdm compress photo.png smaller.uqdm --model my-model/
      uqdm compress holiday/ compressed/ --device cuda --batch 32
      uqdm compress 'scans/*.tif' compressed/ --convert
      uqdm compress photo.png near-lossless.uqdm --max-error 16
      uqdm compress photo.png --backend numpy --threads 1
      uqdm compress - - < photo.png > photo.uqdm
    """
    from uqdm import images, load

    jobs = _plan(paths, PICTURES, ".uqdm", force)
    options = {"device": device, "threads": threads, "precision": precision, "max_pixels": max_pixels, "backend": backend}
    codec: Codec = load(*([model] if model is not None else []), **options)  # type: ignore[arg-type]
    if mode not in codec.modes:
        raise click.UsageError(
            f"--mode {mode}: the model {codec.name} has {', '.join(codec.modes)} only; uqdm-light and imported ones have it"
        )

    def read(job: Job) -> Picture:
        return images.read(job.data() if job.source == STD else job.source, convert, max_pixels=max_pixels or images.MAX_PIXELS)

    def encode(pictures: list[Picture]) -> list[bytes]:
        return codec.compress(pictures, mode=mode, seed=seed, max_error=max_error)  # type: ignore[call-overload,no-any-return]

    def finish(job: Job, picture: Picture, data: bytes) -> None:
        job.write(data, force)
        height, width = picture.pixels.shape[:2]
        job.say(f"{len(data)} bytes  {8 * len(data) / (width * height):.3f} bpp")

    return _in_batches(jobs, batch, read, lambda picture: picture.pixels.shape, encode, finish)


@main.command(short_help="Files, whole or cut, to pictures.")
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@_rate
@click.option(
    "--method",
    type=click.Choice(["denoise", "ancestral", "flow"]),
    default="denoise",
    show_default=True,
    help="How a preview is made of a prefix.",
)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, metavar="N", help="Seed of --method ancestral.")
@_temperature
@_where
@click.option("--salvage", is_flag=True, help="Of a damaged file decode what comes before the damage; exit code 1 all the same.")
@_batch
@_run
@_force
def decompress(
    paths: tuple[str, ...],
    step: int | None,
    bpp: float | None,
    nbytes: int | None,
    max_error: int | None,
    method: str,
    seed: int,
    temperature: float,
    model: str | None,
    salvage: bool,
    batch: int,
    device: str,
    backend: str | None,
    max_pixels: int | None,
    threads: int | None,
    force: bool,
) -> int:
    """Decompress .uqdm files, whole or cut anywhere, to pictures.

    IN is a file, a folder of .uqdm files, a quoted glob, or - for stdin. OUT is a picture (its suffix chooses the format), or a
    folder for several files; by default each picture is written beside its file, as PNG. With --step, --bpp or --bytes only the
    beginning of each file is decoded. Of a step that is cut, all that is there is used (but by --method flow).

    --method denoise shows the mean of what the picture can be: least error, little texture. ancestral draws one of the pictures that it
    can be, more or less freely by --temperature: more lively, further from the true one; flow goes the way of eq. 17 of the paper.

    Prints a line per file: name, bytes, bits per pixel, step, and how far any value of a pixel can be from the true one, where that is
    known. Bytes at the end of a cut file that no check covers yet are counted on stderr as unverified.

    A damaged file is an error; with --salvage what comes before the damage is written as a picture, the damage is named on stderr, and
    the exit code is 1.

    \b
    Examples:
      uqdm decompress photo.uqdm
      uqdm decompress photo.uqdm preview.png --step 2
      uqdm decompress photo.uqdm preview.png --bpp 1.5
      uqdm decompress photo.uqdm lively.png --bpp 1.5 --method ancestral --temperature 0.6
      uqdm decompress damaged.uqdm rest.png --salvage
      uqdm decompress compressed/ pictures/ --force
      head -c 4000 photo.uqdm | uqdm decompress - preview.png
    """
    _at_most_one(step=step, bpp=bpp, bytes=nbytes, max_error=max_error)
    from uqdm import container, images, library
    from uqdm.codec import mode_in

    jobs = _plan(paths, FILES, ".png", force)
    for job in jobs:
        if job.target != STD:
            images.format_of(job.target)  # an unknown suffix is noticed before the work is done
    pool = library.Pool(device=device, threads=threads, max_pixels=max_pixels, backend=backend)

    def read(job: Job) -> File:
        data = job.data()
        header = container.parse(data, steps=0, max_pixels=max_pixels or container.MAX_PIXELS, salvage=salvage).header
        codec = pool.open_for(data, model)
        last = step if max_error is None else codec.step_within(max_error, mode_in(codec.package, header), header.grey)
        if not (last is None and bpp is None and nbytes is None):
            # With --salvage a step that is not there is no reason to stop: what is there is decoded.
            with contextlib.suppress(*[FormatError] * (salvage and last is not None)):
                data = container.truncate(data, step=last, bpp=bpp, nbytes=nbytes)
        return File(codec, data, (header.height, header.width, header.grey, header.extra, header.arithmetic, header.fingerprint))

    def decode(files: list[File]) -> list[Decoded]:
        batch = [file.data for file in files]
        return files[0].codec.decode_many(batch, method=method, seed=seed, temperature=temperature, salvage=salvage)  # type: ignore[arg-type]

    def finish(job: Job, file: File, decoded: Decoded) -> None:
        job.write(images.encode(decoded.picture, "PNG" if job.target == STD else images.format_of(job.target)), force)
        height, width = decoded.picture.pixels.shape[:2]
        size = _used(file.data, decoded)
        reached = f"step {decoded.step} of {decoded.steps}" + decoded.partial * f" and part of step {decoded.step + 1}"
        facts = [f"{size} bytes", f"{8 * size / (width * height):.3f} bpp", reached]
        if decoded.step < decoded.steps and decoded.bound < 255:
            facts.append(f"error at most {decoded.bound}")
        job.say("  ".join(facts))
        if decoded.damage is not None:
            job.failed = True
            complain(f"{job.name}: decoded what comes before the damage: {decoded.damage}")
        elif decoded.tail:
            complain(f"{job.name}: last {decoded.tail} bytes unverified: no check covers them yet")
        elif decoded.step < (decoded.steps if step is None else step) and bpp is None and nbytes is None and max_error is None:
            complain(f"{job.name}: the file is cut; decoded to {reached}")

    return _in_batches(jobs, batch, read, lambda file: file.group, decode, finish)


# --- info, truncate ----------------------------------------------------------------------------------------------------------------


@main.command(short_help="What a file holds, and what each step costs.")
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@_where
def info(file: str, as_json: bool, model: str | None) -> None:
    """Show what a .uqdm file holds: size, model, and what each step costs. The picture is not decoded.

    \b
    Examples:
      uqdm info photo.uqdm
      uqdm info photo.uqdm --json | jq .bpp
      head -c 4000 photo.uqdm | uqdm info -
    """
    import json

    from uqdm import container

    job = Job(file, STD)
    data = job.attempt(job.data)
    assert data is not None
    found = job.attempt(lambda: container.inspect(data))
    assert found is not None
    available, mode = model is not None or _is_available(found.model, found.fingerprint), _mode(found)
    errors: list[tuple[int, int, int]] = []
    if available and mode:
        header = container.parse(data, steps=0, max_pixels=None).header
        errors = job.attempt(lambda: _guarantees(header, model)) or []
    if as_json:
        more = {"mode": mode, "model_available": available, "max_error": errors or None}
        click.echo(json.dumps(json.loads(found.to_json()) | more, indent=2, ensure_ascii=False))
        return
    colour = ("grey" if found.channels == 1 else "RGB") + (" and alpha" if found.alpha else "")
    whole = f"whole, {found.chunks} steps" if found.complete else f"cut: {found.steps_available} of {found.chunks} steps are whole"
    if found.partial_bytes:
        whole += f", and {found.partial_bytes} bytes of step {found.steps_available + 1}"
    if found.tail_bytes:
        whole += f"; last {found.tail_bytes} bytes unverified"
    facts = [
        ("file", f"{file}, format version {found.version}"),
        ("size", f"{found.width} × {found.height}, {colour}"),
        ("model", f"{found.model} ({found.fingerprint}), {'available' if available else 'not available here'}"),
        ("coding", f"{f'mode {mode}' if mode else f'sub-header {found.extra!r}'}, {found.arithmetic} arithmetic, seed {found.seed}"),
        ("stream", whole),
    ]
    for name, text in facts:
        click.echo(f"{name:<8}{text}")
    pixels = found.width * found.height
    rows = [("header", found.header_bytes), *found.metadata_bytes.items()]
    rows += [(f"step {k}", size) for k, size in enumerate(found.step_bytes, 1)]
    rest = found.total_bytes - sum(size for _, size in rows)
    if rest:
        rows.append((f"part of step {found.steps_available + 1}" if found.partial_bytes else "unverified", rest))
    promised = {f"step {k}": ", ".join(map(str, one)) for k, one in enumerate(errors)}
    table, total = [("", "bytes", "bpp", "total", "bpp", *["R, G, B off by at most"][: len(promised)])], 0
    for name, size in rows:
        total += size
        ends = [promised.get(name, "")][: len(promised)]
        table.append((name, str(size), f"{8 * size / pixels:.3f}", str(total), f"{8 * total / pixels:.3f}", *ends))
    click.echo()
    echo_table(table)


@main.command(short_help="Shorten a file, nothing re-encoded.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@_rate
@_where
@_force
def truncate(
    source: str,
    target: str,
    step: int | None,
    bpp: float | None,
    nbytes: int | None,
    max_error: int | None,
    model: str | None,
    force: bool,
) -> None:
    """Shorten a .uqdm file to a lower rate: OUT is the first bytes of IN, nothing is re-encoded.

    --bytes N is exactly the first N bytes; --bpp, --step and --max-error only choose N; the last needs the file's model. One of the
    four is needed.

    \b
    Examples:
      uqdm truncate photo.uqdm small.uqdm --bpp 1.5
      uqdm truncate photo.uqdm small.uqdm --step 2
      uqdm truncate photo.uqdm small.uqdm --max-error 16
      uqdm truncate photo.uqdm - --bytes 4000 | uqdm decompress - preview.png
    """
    _at_most_one(step=step, bpp=bpp, bytes=nbytes, max_error=max_error)
    if step is None and bpp is None and nbytes is None and max_error is None:
        raise click.UsageError("one of --step, --bpp, --bytes and --max-error is needed")
    from uqdm import container, families

    if target != STD and Path(target).is_dir():
        target = str(Path(target) / Path(source).name)
    job = Job(source, target)
    job.check(force)
    data = job.data()

    def shortened() -> bytes:
        last = step
        if max_error is not None:
            header = container.parse(data, steps=0, max_pixels=None).header
            last = families.step_within(_guarantees(header, model), max_error)
        return container.truncate(data, step=last, bpp=bpp, nbytes=nbytes)

    short = job.attempt(shortened)
    assert short is not None
    header = container.parse(short, steps=0, max_pixels=None).header
    job.write(short, force)
    job.say(f"{len(short)} bytes  {8 * len(short) / (header.width * header.height):.3f} bpp")


# --- models ------------------------------------------------------------------------------------------------------------------------


def _size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    width, _, height = value.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 64x64")
    return int(width), int(height)


@main.command(short_help="Draw pictures from a model.")
@click.argument("out", default="sample.png", metavar="[OUT]")
@_model
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many.")
@click.option("--size", callback=_size, default="64x64", show_default=True, metavar="WxH", help="Width and height in pixels.")
@_seed
@_temperature
@_run
@_force
def sample(
    out: str,
    model: str | None,
    count: int,
    size: tuple[int, int],
    seed: int,
    temperature: float,
    device: str,
    backend: str | None,
    max_pixels: int | None,
    threads: int | None,
    force: bool,
) -> None:
    """Draw pictures from a model, out of nothing.

    OUT is sample.png by default; with --count N, numbered: sample-1.png, sample-2.png, …

    \b
    Examples:
      uqdm sample
      uqdm sample dream.png --size 128x96 --seed 7
      uqdm sample drawn.png --count 16 --model my-model/
    """
    from uqdm import images, load

    path = Path(out)
    path = path if out == STD or path.suffix else path.with_suffix(".png")
    targets = [path] if count == 1 else [path.with_stem(f"{path.stem}-{i + 1}") for i in range(count)]
    if out == STD and count > 1:
        raise click.UsageError("only one picture can be written to stdout")
    jobs = [Job("sample", str(target)) for target in targets]
    for job in jobs:
        job.check(force)
        _ = images.format_of(job.target) if job.target != STD else ""
    options = {"device": device, "threads": threads, "max_pixels": max_pixels, "backend": backend}
    codec: Codec = load(*([model] if model is not None else []), **options)  # type: ignore[arg-type]
    width, height = size
    for job, array in zip(jobs, codec.sample(count, height, width, seed, temperature=temperature), strict=True):
        data = images.encode(images.from_array(array), "PNG" if job.target == STD else images.format_of(job.target))
        job.write(data, force)
        job.say(f"{width} × {height}")


@main.command(short_help="List the models.")
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

        click.echo(json.dumps([{**vars(one), "path": str(one.path)} for one in found], indent=2, ensure_ascii=False))
        return
    if not found:
        complain("no models here: give a folder with --model, or its parent folder in UQDM_MODELS")
        return
    rows = [
        (one.name + one.default * " (default)", one.family, f"{one.parameters:,}", one.fingerprint[:16], one.description) for one in found
    ]
    echo_table([("name", "family", "parameters", "fingerprint", "description"), *rows], left=(0, 1, 3, 4))


@main.command("import-checkpoint", short_help="A published checkpoint, or a run, to a model folder.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False), metavar="FOLDER")
@click.argument("out", metavar="OUT")
@click.option(
    "--reading",
    type=click.Choice(["ema", "raw"]),
    default="ema",
    show_default=True,
    help="Which weights: averaged over training, or the last.",
)
@_force
def import_checkpoint(folder: str, out: str, reading: str, force: bool) -> None:
    """Turn a published checkpoint, or a run of `uqdm train`, into a model folder OUT that the codec uses.

    FOLDER holds config.json and checkpoint.pt, as published, or checkpoint.safetensors. No code in it is run.

    \b
    Examples:
      uqdm import-checkpoint checkpoints/uqdm-tiny models/uqdm-tiny
      uqdm import-checkpoint runs/mine models/mine
      uqdm compress photo.png --model models/uqdm-tiny
    """
    from uqdm.models import export

    click.echo(export.import_checkpoint(folder, out, reading=reading, force=force))


@main.command(short_help="A trained model to one that computes in integers.")
@click.argument("model", metavar="MODEL")
@click.argument("out", metavar="OUT")
@click.option("--data", required=True, multiple=True, metavar="PATH", help="Pictures: a folder, a glob or a pack; may be repeated.")
@click.option(
    "--count", type=click.IntRange(min=1), default=48, show_default=True, metavar="N", help="Pictures to calibrate on, and as many to test."
)
@_force
def quantise(model: str, out: str, data: tuple[str, ...], count: int, force: bool) -> None:
    """Turn a run of `uqdm train` (or a convolutional MODEL of floats) into a model folder OUT that computes in integers.

    Scales are calibrated on some of the pictures; the cost in bits is measured on others. Prints both rates for every step, and how
    large a partial sum can become: below 2^24, or the model is refused.

    \b
    Examples:
      uqdm quantise runs/nano models/my-nano --data photographs/
    """
    from uqdm.training.data import load_data
    from uqdm.training.quantise import quantise_model, quantise_run

    train, held = load_data(data)
    work = quantise_run if (Path(model) / "config.json").is_file() else quantise_model
    cost = work(model, Path(out), train.pictures[:: max(1, len(train.pictures) // count)][:count], held.pictures[:count], force)
    table = [("bits per pixel", "floats", "integers", "cost", "largest sum")]
    for step, (before, after, largest) in enumerate(zip(cost.before, cost.after, cost.largest), 1):
        table.append((f"step {step}", f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}", f"2^{largest:.2f}"))
    before, after = sum(cost.before), sum(cost.after)
    table.append(("all", f"{before:.4f}", f"{after:.4f}", f"{(after - before) / before:+.2%}", f"2^{max(cost.largest):.2f}"))
    echo_table(table)
    click.echo(cost.path)


main.add_command(training.train)
main.add_command(training.list_presets)
main.add_command(evaluation.evaluate)
main.add_command(evaluation.compare)
main.add_command(evaluation.reproduce)


# --- inputs and outputs --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A .uqdm file to decode: its codec, its bytes, and what files must share to be decoded in one batch."""

    codec: Codec
    data: bytes
    group: tuple[Any, ...]


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


def _in_batches(
    jobs: list[Job],
    batch: int,
    read: Callable[[Job], T],
    group: Callable[[T], tuple[Any, ...]],
    work: Callable[[list[T]], list[R]],
    finish: Callable[[Job, T, R], None],
) -> int:
    """Reads each job's item, works on those of one group together, finishes each; returns the exit code.

    `group`: height, width, and what else must agree. Items wait until `batch` of their group are there, or fewer large ones. Where a
    batch fails, its items are tried one by one, so that one of them does not spoil the others.
    """
    waiting: dict[Any, list[tuple[Job, T]]] = {}

    def flush(key: Any) -> None:
        some = waiting.pop(key)
        results: Sequence[R | None] | None = None
        if len(some) > 1:
            with contextlib.suppress(UqdmError):
                results = work([item for _, item in some])
        if results is None:
            results = [one[0] if (one := job.attempt(work, [item])) is not None else None for job, item in some]
        for (job, item), result in zip(some, results, strict=True):
            if result is not None:
                job.attempt(finish, job, item, result)

    _show_progress(jobs)
    try:
        for job in jobs:
            if job.failed or (item := job.attempt(read, job)) is None:
                continue
            key = group(item)
            waiting.setdefault(key, []).append((job, item))
            if len(waiting[key]) >= batch or len(waiting[key]) * key[0] * key[1] >= _LARGE:
                flush(key)
            if sum(len(some) for some in waiting.values()) >= _WAITING:
                flush(max(waiting, key=lambda key: len(waiting[key])))
        for key in list(waiting):
            flush(key)
    finally:
        if jobs[0].bar is not None:
            jobs[0].bar.close()
    return int(any(job.failed for job in jobs))


def _show_progress(jobs: list[Job]) -> None:
    """A bar on stderr, if someone may be looking and there is more than one thing to wait for."""
    if len(jobs) < 2 or not sys.stderr.isatty():
        return
    from tqdm import tqdm

    bar = tqdm(total=len(jobs), initial=sum(job.failed for job in jobs), unit="file", file=sys.stderr, dynamic_ncols=True)
    for job in jobs:
        job.bar = bar


def _plan(paths: tuple[str, ...], suffixes: frozenset[str], suffix: str, force: bool) -> list[Job]:
    """Inputs and their outputs; every output is checked before any work is done.

    The last of several paths is OUT unless it looks like an input: a file with one of `suffixes`, or a glob.
    """
    words, out = list(paths), None
    if len(words) > 1 and not _looks_like_input(words[-1], suffixes):
        out = words.pop()
    inputs: list[str] = []
    several = len(words) > 1
    for word in words:
        if word != STD and Path(word).is_dir():
            found = sorted(str(path) for path in Path(word).iterdir() if path.suffix.lower() in suffixes and path.is_file())
            if not found:
                raise UqdmError(f"{word}: the folder holds no files with the suffixes {', '.join(sorted(suffixes))}")
            inputs, several = inputs + found, True
        elif glob.has_magic(word) and not Path(word).exists():
            found = sorted(path for path in glob.glob(word, recursive=True) if Path(path).is_file())
            if not found:
                raise UqdmError(f"{word}: nothing fits")
            inputs, several = inputs + found, True
        else:
            inputs.append(word)
    if several and (STD in inputs or out == STD):
        raise click.UsageError("- stands for one stream: it cannot be used with several inputs")
    if several and out is not None:
        if Path(out).exists() and not Path(out).is_dir():
            raise click.UsageError(f"there are several inputs, so OUT must be a folder; {out} is a file")
        if Path(out).suffix.lower() in suffixes | {suffix}:
            raise click.UsageError(f"there are several inputs, so OUT must be a folder; {out} looks like a file")
    jobs = [Job(source, _target(source, out, several, suffix), alone=not several) for source in inputs]
    taken: dict[str, str] = {}
    for job in jobs:
        if job.target != STD and job.target in taken:
            raise OutputError(f"{taken[job.target]} and {job.source} would both become {job.target}: give them different names or folders")
        taken[job.target] = job.source
    if several and out is not None:
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {out} cannot be made: {error.strerror}") from error
    for job in jobs:
        job.attempt(job.check, force)
    return jobs


def _looks_like_input(word: str, suffixes: frozenset[str]) -> bool:
    return word != STD and not Path(word).is_dir() and (Path(word).suffix.lower() in suffixes or glob.has_magic(word))


def _target(source: str, out: str | None, several: bool, suffix: str) -> str:
    if out is None:
        return STD if source == STD else str(Path(source).with_suffix(suffix))
    if out != STD and (several or Path(out).is_dir()):
        return str(Path(out) / ("stdin" if source == STD else Path(source).name)).removesuffix(Path(source).suffix) + suffix
    return out


def _at_most_one(**options: Any) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} cannot be used together: each says how much of the file to take")


def _used(data: bytes, decoded: Decoded) -> int:
    """How many bytes a picture was made of: all, or those before the damage."""
    if decoded.damage is None:
        return len(data)
    from uqdm import container

    contents = container.parse(data, max_pixels=None, salvage=True)
    if decoded.partial and contents.partial is not None:
        return contents.partial.end
    ends = [chunk.end for chunk in contents.chunks if chunk.kind != container.STEP or chunk.index <= decoded.step]
    return max([contents.header_size, *ends])


def _mode(found: Info) -> str | None:
    """The entropy mode in a file's sub-header, or None if it is not of a family that is known here."""
    from uqdm import families

    try:
        return families.mode(bytes.fromhex(found.extra))
    except FormatError:
        return None


def _guarantees(header: Header, given: str | None) -> list[tuple[int, int, int]]:
    """How far R, G and B of a preview can be off after each step; raises where the model is not here, or is another."""
    from uqdm import families, library, package
    from uqdm.codec import mode_in

    model = package.read(library.find(given) if given is not None else library.find_for(header.model, header.fingerprint.hex()))
    return families.guarantees(model, mode_in(model, header), header.grey)


def _is_available(model: str, fingerprint: str) -> bool:
    from uqdm import library
    from uqdm.errors import ModelError

    try:
        library.find_for(model, fingerprint)
    except ModelError:
        return False
    return True
