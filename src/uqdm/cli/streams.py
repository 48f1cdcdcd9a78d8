"""The commands that look into a stream or shorten it without decoding a picture: info, truncate."""

from __future__ import annotations  # for types of modules that are not imported yet

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uqdm.cli import options
from uqdm.cli.jobs import STD, Job, as_stream
from uqdm.cli.output import echo, echo_table
from uqdm.errors import FormatError

if TYPE_CHECKING:
    from uqdm.format import Info, Place


@click.command(short_help="What a file holds, and what each step costs.")
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@options.where
def info(file: str, as_json: bool, model: str | None) -> None:
    """Show what a .uqdm file holds: size, model, and what each step costs. The picture is not
    decoded.

    \b
    Examples:
      uqdm info photo.uqdm
      uqdm info photo.uqdm --json | jq .bpp
      head -c 4000 photo.uqdm | uqdm info -
    """
    import json

    from uqdm import bundle, format, library, rate

    job = Job(as_stream(file, 0), STD)
    data = job.attempt(job.data)
    assert data is not None
    found = job.attempt(lambda: format.inspect(data))
    assert found is not None
    here, mode = _here(found.model, found.fingerprint), _mode(found)
    available = model is not None or here is not None
    found = dataclasses.replace(found, model=found.model or here or "")  # a compact file does not name it
    errors: list[tuple[int, int, int]] = []
    if available and mode:
        contents = format.parse(data, steps=0, max_pixels=None)
        folder = library.folder_for
        errors = job.attempt(lambda: rate.promises(bundle.read(folder(contents.header, model)), contents)) or []
    if as_json:
        more = {"mode": mode, "model_available": available, "max_error": errors or None}
        echo(json.dumps(json.loads(found.to_json()) | more, indent=2))
        return
    for name, text in _facts(file, found, mode, available):
        echo(f"{name:<8}{text}")
    echo()
    echo_table(_parts(found, errors))
    if found.index:
        echo()
        echo_table(_index(found, found.index))


def _facts(file: str, found: Info, mode: str | None, available: bool) -> list[tuple[str, str]]:
    """What a file is, by name."""
    colour = ("grey" if found.channels == 1 else "RGB") + (" and alpha" if found.alpha else "")
    whole = (
        f"whole, {found.chunks} steps"
        if found.complete
        else f"cut: {found.steps_available} of {found.chunks} steps are whole"
    )
    if found.corrected_to is not None:
        whole = (
            f"{found.steps_available} of {found.chunks} steps and a correction: no value is more than"
            f" {found.corrected_to} off"
        )
    if found.partial_bytes:
        whole += f", and {found.partial_bytes} bytes of step {found.steps_available + 1}"
    if found.tail_bytes:
        whole += f"; last {found.tail_bytes} bytes unverified"
    return [
        ("file", f"{file}, format version {found.version}"),
        ("size", f"{found.width} × {found.height}, {colour}"),
        (
            "model",
            f"{found.model or 'unnamed'} ({found.fingerprint}), {'available' if available else 'not available here'}",
        ),
        (
            "coding",
            (
                f"{f'mode {mode}' if mode else f'sub-header {found.extra!r}'}, {found.arithmetic} arithmetic, seed"
                f" {found.seed}"
            ),
        ),
        ("stream", whole),
    ]


def _parts(found: Info, errors: list[tuple[int, int, int]]) -> list[tuple[str, ...]]:
    """The bytes of each part of a file, as a table; with the errors that are promised after each
    step.
    """
    pixels = found.width * found.height
    before, behind = {**found.metadata_bytes}, {}
    if (corrected := before.pop("correction", None)) is not None:
        behind["correction"] = corrected
    rows = [("header", found.header_bytes), *before.items()]
    rows += [*((f"step {k}", size) for k, size in enumerate(found.step_bytes, 1)), *behind.items()]
    rest = found.total_bytes - sum(size for _, size in rows)
    if rest:
        rows.append((f"part of step {found.steps_available + 1}" if found.partial_bytes else "unverified", rest))
    promised = {f"step {k}": ", ".join(map(str, one)) for k, one in enumerate(errors)}
    if found.corrected_to is not None:
        promised["correction"] = ", ".join([str(found.corrected_to)] * 3)
    table, total = [("", "bytes", "bpp", "total", "bpp", *["R, G, B off by at most"][: len(promised)])], 0
    for name, size in rows:
        total += size
        ends = [promised.get(name, "")][: len(promised)]
        table.append((name, str(size), f"{8 * size / pixels:.3f}", str(total), f"{8 * total / pixels:.3f}", *ends))
    return table


def _index(found: Info, places: list[Place]) -> list[tuple[str, ...]]:
    """What a file tells of its beginnings, as a table."""
    rows: list[tuple[str, ...]] = [("index", "bytes", "bpp", "dB")]
    for place in places:
        name = f"in step {place.step + 1}" if place.inside else f"step {place.step}" if place.step else "no step"
        name += ", behind the end" * (place.bytes > found.total_bytes)
        psnr = "lossless" if math.isinf(place.psnr) else f"{place.psnr:.2f}"
        rows.append((name, str(place.bytes), f"{8 * place.bytes / (found.width * found.height):.3f}", psnr))
    return rows


@click.command(short_help="Shorten a file by copying its first bytes.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@options.rate
@options.where
@options.force
def truncate(
    source: str,
    target: str,
    model: str | None,
    force: bool,
    **given: Any,
) -> None:
    """Shorten a .uqdm file to a lower rate: OUT gets the first bytes of IN, and nothing is encoded
    again.

    --bytes N takes exactly the first N bytes. --bpp, --step, --psnr and --max-error choose N.
    --max-error needs the file's model. --psnr needs the index that long files of photo begin with:
    it takes all up to the first place in it that shows so many decibels. A shorter beginning may
    show them too, but only compress --psnr, which sees the picture, finds the shortest. Give one of
    the five.

    \b
    Examples:
      uqdm truncate photo.uqdm small.uqdm --bpp 1.5
      uqdm truncate photo.uqdm small.uqdm --step 2
      uqdm truncate photo.uqdm small.uqdm --psnr 38
      uqdm truncate photo.uqdm small.uqdm --max-error 16
      uqdm truncate photo.uqdm - --bytes 4000 | uqdm decompress - preview.png
    """
    goal = options.taken_goal(given)
    if not goal:
        raise click.UsageError("one of --step, --bpp, --bytes, --psnr and --max-error is needed")
    from uqdm import format, library

    source, target = as_stream(source, 0), as_stream(target, 1)
    if not source or not target:
        raise click.UsageError("a name is empty; perhaps a variable is not set")
    if target != STD and Path(target).is_dir():
        target = str(Path(target) / Path(source).name)
    job = Job(source, target)
    data = job.data()
    job.check(force)
    short = job.attempt(lambda: library.truncate(data, model=model, **goal))
    assert short is not None
    header = format.parse(short, steps=0, max_pixels=None).header
    job.write(short, force)
    job.say(f"{len(short)} bytes  {8 * len(short) / (header.width * header.height):.3f} bpp")


def _mode(found: Info) -> str | None:
    """The entropy mode in a file's sub-header, or None if its family is not known here."""
    from uqdm.families.base import mode_named

    try:
        return mode_named(bytes.fromhex(found.extra))
    except FormatError:
        return None


def _here(model: str, fingerprint: str) -> str | None:
    """The name of the model that a file needs, if it is here."""
    from uqdm import library
    from uqdm.errors import ModelError

    try:
        return library.find_for(model, fingerprint).name
    except ModelError:
        return None
