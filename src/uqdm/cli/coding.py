"""The commands that run a model over pictures and files: compress, decompress, sample."""

from __future__ import annotations  # types of modules that are not imported yet

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uqdm.cli import options
from uqdm.cli.batches import in_batches
from uqdm.cli.files import FILES, PICTURES, plan
from uqdm.cli.jobs import STD, Job
from uqdm.cli.output import complain
from uqdm.errors import FormatError

if TYPE_CHECKING:
    from uqdm.codec import Codec, Decoded
    from uqdm.images import Picture


@click.command(short_help="Pictures to .uqdm files.")
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@options.model
@options.seed
@click.option(
    "--mode", type=click.Choice(["tight", "paper"]), default="tight", show_default=True, help="Entropy mode: paper is to reproduce."
)
@click.option(
    "--max-error", type=click.IntRange(min=0), metavar="E", help="Up to the first step that keeps every value of a pixel within E."
)
@options.precision
@options.batch
@options.run
@click.option("--convert", is_flag=True, help="Accept 16 bits, palettes, CMYK, … by converting to 8-bit grey or RGB: not lossless.")
@options.force
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

    jobs = plan(paths, PICTURES, ".uqdm", force)
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

    return in_batches(jobs, batch, read, lambda picture: picture.pixels.shape, encode, finish)


@dataclass(frozen=True)
class File:
    """A .uqdm file to decode: its codec, its bytes, and what files must share to be decoded in one batch."""

    codec: Codec
    data: bytes
    group: tuple[Any, ...]


@click.command(short_help="Files, whole or cut, to pictures.")
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@options.rate
@click.option(
    "--method",
    type=click.Choice(["denoise", "ancestral", "flow"]),
    default="denoise",
    show_default=True,
    help="How a preview is made of a prefix.",
)
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, metavar="N", help="Seed of --method ancestral.")
@options.temperature
@options.where
@click.option("--salvage", is_flag=True, help="Of a damaged file decode what comes before the damage; exit code 1 all the same.")
@options.batch
@options.run
@options.force
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
    options.at_most_one(step=step, bpp=bpp, bytes=nbytes, max_error=max_error)
    from uqdm import container, images
    from uqdm.codec import mode_in, open_for

    jobs = plan(paths, FILES, ".png", force)
    for job in jobs:
        if job.target != STD:
            images.format_of(job.target)  # an unknown suffix is noticed before the work is done
    codecs: dict[tuple[str, bytes, str], Codec] = {}

    def read(job: Job) -> File:
        data = job.data()
        header = container.parse(data, steps=0, max_pixels=max_pixels or container.MAX_PIXELS, salvage=salvage).header
        key = (header.model, header.fingerprint, header.arithmetic)
        if key not in codecs:
            codecs[key] = open_for(data, device=device, threads=threads, model=model, max_pixels=max_pixels, backend=backend)
        last = step if max_error is None else codecs[key].step_within(max_error, mode_in(codecs[key].package, header), header.grey)
        if not (last is None and bpp is None and nbytes is None):
            # With --salvage a step that is not there is no reason to stop: what is there is decoded.
            with contextlib.suppress(*[FormatError] * (salvage and last is not None)):
                data = container.truncate(data, step=last, bpp=bpp, nbytes=nbytes)
        return File(codecs[key], data, (header.height, header.width, header.grey, header.extra, *key))

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

    return in_batches(jobs, batch, read, lambda file: file.group, decode, finish)


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


def _size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    width, _, height = value.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 64x64")
    return int(width), int(height)


@click.command(short_help="Draw pictures from a model.")
@click.argument("out", default="sample.png", metavar="[OUT]")
@options.model
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many.")
@click.option("--size", callback=_size, default="64x64", show_default=True, metavar="WxH", help="Width and height in pixels.")
@options.seed
@options.temperature
@options.run
@options.force
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
