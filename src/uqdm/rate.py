"""Where a file that is there is cut to reach a goal. Any beginning that holds the header is a file
too; nothing is ever encoded again.

All goals but one need the file alone. The largest error asks the model that wrote it what each step
promises; no network runs.
"""

import io
from collections.abc import Sequence

from uqdm import format, sources
from uqdm.bundle import Package
from uqdm.errors import FormatError, LimitError
from uqdm.families import registry
from uqdm.goals import Goal
from uqdm.sources import Source

Promise = tuple[int, int, int]  # how far R, G and B of any preview can be from the true ones


def promises(model: Package, contents: format.Contents) -> list[Promise]:
    """What a file and its model promise before the first step, after it, ..., after the last.

    A file may tell errors that its encoder has measured. Raises what `registry.mode_of` does.
    """
    header = contents.header
    found = registry.walk(model, registry.mode_of(model, header), None).guarantees(header.grey)
    if (told := contents.payload(format.ERRORS)) is not None:
        found[1:-1] = [min(own, (error,) * 3) for own, error in zip(found[1:-1], told)]
    return found


def step_within(promised: Sequence[Promise], most: int) -> int:
    """The first step whose promise is at most `most`."""
    return next(step for step, errors in enumerate(promised) if max(errors) <= most)


def beginning(
    data: Source, goal: Goal, model: Package | None = None, salvage: bool = False, max_pixels: int | None = None
) -> bytes:
    """The beginning of a file that a goal asks for; without a goal all of it. `model`: the file's,
    which `max_error` needs. `max_pixels`: larger pictures are refused by their header.

    `step`: up to the end of that step (0: header and metadata); nothing behind it is judged.
    `target_size`, `bpp`: so many bytes, or a shorter file whole. `psnr`: up to the first place in
    the file's index that shows so many decibels. A shorter beginning may show them too, but nobody
    knows that without the picture. `max_error`: up to the first step that keeps it (see `promises`),
    or all of a file that is corrected enough. `salvage`: where the file does not hold such a step,
    or is damaged before its end, it is given back whole.

    Raises `LimitError` where the goal ends inside the header, is a step that the file does not
    hold, or decibels that its index does not know or the file does not hold; or where it has no
    index. Raises `ValueError` for `max_error` without a model, and what `ChunkReader` raises.
    """
    data = sources.read(data)
    if goal == Goal():
        return data
    try:
        return data[: _size(data, goal, model, salvage, max_pixels)]
    except FormatError:
        if salvage and (goal.step is not None or goal.max_error is not None):
            return data
        raise


def _size(data: bytes, goal: Goal, model: Package | None, salvage: bool, max_pixels: int | None) -> int:
    """How many bytes it has."""
    reader = format.ChunkReader(io.BytesIO(data), max_pixels=max_pixels)
    header, most = reader.header, goal.max_error
    if goal.psnr is not None:
        return format.reaching(format.read_index(format.parse(data, steps=0, max_pixels=None)), goal.psnr, len(data))
    if most is not None:
        if model is None:
            raise ValueError("max_error needs the model that wrote the file")
        contents = format.parse(data, max_pixels=None, salvage=salvage)
        step, correction = step_within(promises(model, contents), most), contents.payload(format.CORRECTION)
        if step > len(contents.steps) and correction and correction[0] <= most:
            return len(data)
        asked = f"an error of at most {most} was asked for, which only step {step} keeps"
    elif goal.step is not None:
        step, asked = goal.step, f"step {goal.step} was asked for"
        if step > header.chunks:
            raise LimitError(f"{asked}; this file has steps 0 to {header.chunks}")
        contents = format.parse(data, steps=step, max_pixels=None)
    else:
        pixels = header.width * header.height
        size = goal.size(pixels)
        assert size is not None  # one of the two that are left
        if size < reader.header_size:
            raise LimitError(
                f"{size} bytes were asked for, but the header alone takes {reader.header_size} "
                f"({8 * reader.header_size / pixels:.3f} bits per pixel): ask for at least that"
            )
        return size
    if step > (there := len(contents.steps)):
        raise LimitError(f"{asked}; the file was cut and holds {there} of {header.chunks} whole steps")
    return format.ends(contents)[step]
