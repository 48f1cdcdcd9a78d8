"""The commands that run a model over pictures and files: compress, decompress, sample."""

from __future__ import annotations  # for types of modules that are not imported yet

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uqdm.cli import options
from uqdm.cli.batches import in_batches
from uqdm.cli.files import FILES, Kind, pictures, plan
from uqdm.cli.jobs import STD, Job, as_stream
from uqdm.cli.waiting import Bar, Tick

if TYPE_CHECKING:
    from uqdm.codec import Codec, Decoded
    from uqdm.format import Contents
    from uqdm.picture import Picture


@click.command(short_help="Pictures to .uqdm files.")
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@options.model
@options.seed
@click.option(
    "--mode",
    type=click.Choice(["tight", "paper"]),
    default="tight",
    show_default=True,
    help="Entropy mode; paper reproduces the paper's.",
)
@options.goal
@click.option(
    "--index/--no-index",
    default=True,
    show_default=True,
    help="Begin a long file with what its beginnings show. (photo)",
)
@options.precision
@options.batch
@options.jobs
@options.run
@click.option(
    "--convert",
    is_flag=True,
    help="Accept 16 bits, palettes, CMYK, … converted to 8-bit grey or RGB; this loses precision.",
)
@options.batches
@options.force
def compress(
    paths: tuple[str, ...],
    batch: int,
    jobs: int | None,
    threads: int | None,
    skip_existing: bool,
    recursive: bool,
    force: bool,
    **given: Any,
) -> int:
    """Compress pictures to .uqdm files.

    IN is a picture, a folder of pictures, a quoted glob, or - for stdin. OUT is a file, or a folder
    for several pictures. By default each file is written beside its picture, with the suffix .uqdm.
    One line is printed for each file: name, bytes, bits per pixel, and the share of the input's
    bytes. A file is lossless, unless --step, --bpp, --target-size, --psnr or --max-error says what
    it is to reach. Then it is decoded once, and the line says its PSNR and how far any value of a
    pixel is off at most.

    A picture that cannot be read is left out and named. The others are compressed, and the exit
    code is 1. With several pictures the last line, on stderr, says how many are done, skipped and
    failed.

    \b
    Examples:
      uqdm compress photo.png
      uqdm compress photo.png smaller.uqdm --model my-model/
      uqdm compress holiday/ compressed/ --device cuda --batch 32
      uqdm compress holiday/ compressed/ --recursive --skip-existing
      uqdm compress holiday/ compressed/ --jobs 4
      uqdm compress 'scans/*.tif' compressed/ --convert
      uqdm compress photo.png near-lossless.uqdm --max-error 2
      uqdm compress photo.png small.uqdm --target-size 50000
      uqdm compress photo.png good.uqdm --psnr 38
      uqdm compress photo.png --backend numpy --threads 1
      uqdm compress - - < photo.png > photo.uqdm
    """
    goal = options.taken_goal(given)
    planned = plan(paths, Kind("compress", "pictures", pictures(), FILES, ".uqdm"), force, skip_existing, recursive)
    if all(job.over for job in planned.jobs):
        return planned.finish()
    work = functools.partial(Encoding, goal=goal, force=force, **given)
    return in_batches(planned, batch, work, jobs, threads, given["device"])


class Encoding:
    """What `compress` does with its pictures; its arguments are the command's."""

    def __init__(
        self,
        *,
        model: str | None,
        mode: str,
        seed: int,
        goal: dict[str, Any],
        index: bool,
        max_pixels: int | None,
        convert: bool,
        force: bool,
        **machine: Any,
    ) -> None:
        from uqdm import load
        from uqdm.files import MAX_PIXELS

        self._codec: Codec = load(*([model] if model is not None else []), max_pixels=max_pixels, **machine)
        if mode not in self._codec.modes:
            had = ", ".join(self._codec.modes)
            raise click.UsageError(
                f"--mode {mode}: the model {self._codec.name} has {had} only; uqdm-light and imported ones have it"
            )
        self._mode, self._seed, self._goal, self._index = mode, seed, goal, index
        self._max_pixels, self._convert, self._force = max_pixels or MAX_PIXELS, convert, force

    def read(self, job: Job) -> Picture:
        """The picture of a job. If it is a .uqdm file, the error says so."""
        from uqdm import files
        from uqdm.errors import ImageError
        from uqdm.format import MAGIC

        data = job.data() if job.source == STD else None
        try:
            picture = files.read(job.source if data is None else data, self._convert, max_pixels=self._max_pixels)
        except ImageError:
            with contextlib.suppress(OSError):
                if (data or Path(job.source).read_bytes()).startswith(MAGIC):
                    raise ImageError(
                        f"{job.name} is a .uqdm file whatever its suffix, and compress reads pictures"
                    ) from None
            raise
        if picture.dropped:
            job.complain(f"{job.name}: not carried: {', '.join(picture.dropped)}")
        return picture

    def group(self, picture: Picture) -> tuple[Any, ...]:
        return picture.pixels.shape

    def steps(self, picture: Picture) -> int:
        """How many steps are written."""
        if (error := self._goal.get("max_error")) is not None:
            return self._codec.step_within(error, self._mode, picture.grey)
        return min(int(self._goal.get("step", self._codec.steps)), self._codec.steps)

    def work(self, some: list[Picture], tick: Tick) -> list[bytes]:
        how: dict[str, Any] = {"mode": self._mode, "seed": self._seed, "index": self._index, **self._goal}
        found: list[bytes] = self._codec.compress(some, progress=tick, **how)
        return found

    def finish(self, job: Job, picture: Picture, data: bytes) -> None:
        """Writes a file and prints what it costs."""
        job.write(data, self._force)
        height, width = picture.pixels.shape[:2]
        facts = [f"{len(data)} bytes", f"{8 * len(data) / (width * height):.3f} bpp"]
        if self._goal:
            facts += _quality(self._codec.decode(data), picture)
        if job.size:
            facts.append(f"{len(data) / job.size:.1%} of the input")
        job.say("  ".join(facts))


def _quality(decoded: Decoded, picture: Picture) -> list[str]:
    """What a file shows of a picture: its PSNR, and how far off it is, if that is told."""
    import numpy as np

    from uqdm import quality

    found = quality.psnr(float(np.mean((decoded.picture.pixels.astype(np.int32) - picture.pixels) ** 2)))
    facts = [f"{found:.2f} dB" if found < float("inf") else "lossless"]
    return facts + [f"error at most {decoded.bound}"] * (0 < decoded.bound < 255)


@click.command(short_help="Files, whole or cut, to pictures.")
@click.argument("paths", nargs=-1, required=True, metavar="IN... [OUT]")
@options.rate
@click.option(
    "--method",
    type=click.Choice(["denoise", "ancestral", "flow"]),
    default="denoise",
    show_default=True,
    help="How a preview is made.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of --method ancestral.",
)
@options.temperature
@options.where
@click.option(
    "--reduce",
    type=click.IntRange(0, 6),
    default=0,
    metavar="N",
    help="Halve the sides N times; less is decoded. (photo)",
)
@click.option(
    "--salvage", is_flag=True, help="Decode what comes before the damage in a damaged file; the exit code is still 1."
)
@click.option(
    "--lossy-output", is_flag=True, help="Write whole pictures to JPEG or AVIF too, although these change their values."
)
@options.batch
@options.jobs
@options.run
@options.batches
@options.force
def decompress(
    paths: tuple[str, ...],
    batch: int,
    jobs: int | None,
    threads: int | None,
    skip_existing: bool,
    recursive: bool,
    force: bool,
    **given: Any,
) -> int:
    """Decompress .uqdm files, whole or cut anywhere, to pictures.

    IN is a file, a folder of .uqdm files, a quoted glob, or - for stdin. OUT is a picture (its
    suffix chooses the format), or a folder for several files. By default each picture is written
    beside its file, as PNG. A whole file is written exactly, so to PNG, TIFF, WebP, JPEG 2000, BMP,
    PPM or PGM. A preview can also be written to JPEG or AVIF. With --step, --bpp, --bytes or --psnr
    only the beginning of each file is decoded. If a step is cut, all of it that is there is used
    (except by --method flow). --psnr needs an index in the file (see uqdm truncate).

    --method denoise shows the mean of what the picture can be: it has the least error and little
    texture. ancestral draws one of the pictures that it can be: it is more lively, but further from
    the true one, and --temperature says how freely it draws. flow follows eq. 17 of the paper.

    One line is printed for each file: name, bytes, bits per pixel, step, and how far any value of a
    pixel can be from the true one, if that is known. Bytes at the end of a cut file that no check
    covers yet are counted on stderr as unverified.

    A damaged file is an error. With --salvage what comes before the damage is written as a picture,
    the damage is named on stderr, and the exit code is 1. A file that cannot be decoded is left out
    and named. The others are decoded, and the exit code is 1. With several files the last line, on
    stderr, says how many are done, skipped and failed.

    \b
    Examples:
      uqdm decompress photo.uqdm
      uqdm decompress photo.uqdm preview.png --step 2
      uqdm decompress photo.uqdm preview.png --bpp 1.5
      uqdm decompress photo.uqdm lively.png --bpp 1.5 --method ancestral --temperature 0.6
      uqdm decompress photo.uqdm small.png --reduce 2
      uqdm decompress damaged.uqdm rest.png --salvage
      uqdm decompress compressed/ pictures/ --force
      head -c 4000 photo.uqdm | uqdm decompress - preview.png
    """
    goal = options.taken_goal(given)
    planned = plan(paths, Kind("decompress", ".uqdm files", FILES, pictures(), ".png"), force, skip_existing, recursive)
    for job in planned.jobs:
        picture_format(job)  # an unknown suffix is noticed before the work is done
    work = functools.partial(Decoding, goal=goal, force=force, **given)
    return in_batches(planned, batch, work, jobs, threads, given["device"])


def picture_format(job: Job) -> str:
    """The format of a job's output: PNG on stdout, otherwise by its suffix."""
    from uqdm import files

    return "PNG" if job.target == STD else files.format_of(job.target)


@dataclass(frozen=True)
class File:
    """A .uqdm file to decode: its codec, its bytes, how many steps they hold, and what files of one
    batch must share.
    """

    codec: Codec
    data: bytes
    steps: int
    group: tuple[Any, ...]


class Decoding:
    """What `decompress` does with its files; its arguments are the command's."""

    def __init__(
        self,
        *,
        goal: dict[str, Any],
        method: str,
        seed: int,
        temperature: float,
        salvage: bool,
        reduce: int,
        lossy_output: bool,
        model: str | None,
        max_pixels: int | None,
        force: bool,
        **machine: Any,
    ) -> None:
        from uqdm import goals, library

        self._goal = goals.Goal(**goal)
        self._how = {"method": method, "seed": seed, "temperature": temperature, "salvage": salvage, "reduce": reduce}
        self._lossy = lossy_output or reduce > 0  # a smaller picture is not the whole one anyway
        self._salvage, self._max_pixels, self._force = salvage, max_pixels, force
        self._model, self._pool = model, library.CodecPool(max_pixels=max_pixels, **machine)

    def read(self, job: Job) -> File:
        """A job's file, shortened to what is asked for, with its codec."""
        from uqdm import format, rate

        data = job.data()
        codec = self._pool.open_for(data, self._model)
        data = rate.beginning(data, self._goal, codec.package, self._salvage, codec.max_pixels)
        contents = format.parse(data, max_pixels=None, salvage=self._salvage)
        self._check(job, contents)
        header, steps = contents.header, max(1, len(contents.steps) + (contents.partial is not None))
        alike = (header.grey, header.extra, header.arithmetic, header.compact, header.fingerprint)
        return File(codec, data, steps, (header.height, header.width, *alike))

    def _check(self, job: Job, contents: Contents) -> None:
        """Raises, before the work is done, if the output's format cannot hold what the file will
        decode to.
        """
        from uqdm import files
        from uqdm.format import ALPHA

        header, alpha = contents.header, any(chunk.kind == ALPHA for chunk in contents.chunks)
        lossy = self._lossy or len(contents.steps) < header.chunks
        files.check_format(
            picture_format(job), grey=header.grey, alpha=alpha, lossy=lossy, size=(header.height, header.width)
        )

    def group(self, file: File) -> tuple[Any, ...]:
        return file.group

    def steps(self, file: File) -> int:
        return file.steps

    def work(self, files: list[File], tick: Tick) -> list[Decoded]:
        return files[0].codec.decode_many([file.data for file in files], progress=tick, **self._how)  # type: ignore[arg-type]

    def finish(self, job: Job, file: File, decoded: Decoded) -> None:
        """Writes a picture and prints what it was made of."""
        from uqdm import files

        format = picture_format(job)
        job.write(files.encode(decoded.picture, format, lossy=self._lossy or decoded.step < decoded.steps), self._force)
        height, width = file.group[:2]
        size = _used(file.data, decoded)
        reached = f"step {decoded.step} of {decoded.steps}" + decoded.partial * f" and part of step {decoded.step + 1}"
        reached += decoded.corrected * " and its correction"
        facts = [f"{size} bytes", f"{8 * size / (width * height):.3f} bpp", reached]
        if decoded.step < decoded.steps and decoded.bound < 255:
            facts.append(f"error at most {decoded.bound}")
        job.say("  ".join(facts))
        if lost := files.unheld(decoded.picture, format):
            job.complain(f"{'stdout' if job.target == STD else job.target}: {format} does not hold {', '.join(lost)}")
        if decoded.damage is not None:
            job.failed = True
            job.complain(f"{job.name}: decoded what comes before the damage: {decoded.damage}")
        elif decoded.tail:
            job.complain(f"{job.name}: last {decoded.tail} bytes unverified: no check covers them yet")
        elif not decoded.corrected and decoded.step < self._wanted(decoded):
            job.complain(f"{job.name}: the file is cut; decoded to {reached}")

    def _wanted(self, decoded: Decoded) -> int:
        """How many steps of a file were asked for, if it was asked by steps."""
        if self._goal.step is not None:
            return self._goal.step
        return decoded.steps if self._goal == type(self._goal)() else 0


def _used(data: bytes, decoded: Decoded) -> int:
    """How many bytes a picture was made of: all, or those before the damage."""
    if decoded.damage is None:
        return len(data)
    from uqdm.format import ends, parse

    contents = parse(data, max_pixels=None, salvage=True)
    if decoded.partial and contents.partial is not None:
        return contents.partial.end
    return ends(contents)[decoded.step]


def _size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    width, _, height = value.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 64x64")
    return int(width), int(height)


@click.command(short_help="Draw pictures from a model.")
@click.argument("out", default="sample.png", metavar="[OUT]")
@options.model
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="How many.")
@click.option(
    "--size", callback=_size, default="64x64", show_default=True, metavar="WxH", help="Width and height in pixels."
)
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
    force: bool,
    **machine: Any,
) -> None:
    """Draw pictures from a model, out of nothing.

    OUT is sample.png by default. With --count N the files are numbered: sample-1.png, sample-2.png,
    …

    \b
    Examples:
      uqdm sample
      uqdm sample dream.png --size 128x96 --seed 7
      uqdm sample drawn.png --count 16 --model my-model/
    """
    from uqdm import files, load
    from uqdm.picture import from_array

    if not out:
        raise click.UsageError("OUT is empty; perhaps a variable is not set")
    out = as_stream(out, 1)
    path = Path(out)
    if out != STD and not path.suffix and not (path.exists() and not path.is_dir()):
        path = path.with_suffix(".png")
    targets = [path] if count == 1 else [path.with_stem(f"{path.stem}-{i + 1}") for i in range(count)]
    if out == STD and count > 1:
        raise click.UsageError("only one picture can be written to stdout")
    jobs = [Job("sample", str(target)) for target in targets]
    for job in jobs:
        job.check(force)
        files.check_format(picture_format(job), grey=False, alpha=False, lossy=True, size=size[::-1])
    codec: Codec = load(*([model] if model is not None else []), **machine)
    width, height = size
    with Bar(jobs) as bar:
        for i, job in enumerate(jobs):
            tick = bar.tick(1, codec.steps)
            array = codec.sample(1, height, width, (seed + i) % 2**64, temperature=temperature, progress=tick)[0]
            data = files.encode(from_array(array), picture_format(job), lossy=True)
            job.write(data, force)
            job.say(f"{width} × {height}")
            bar.done()
