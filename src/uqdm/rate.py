"""Where a stream is cut: after a step, at bits per pixel, at bytes, at decibels, or as soon as no
value can be further off than an error.

All but the last need the file alone (`format.shortening`). The last asks the model that wrote it
what each step promises; no network runs.
"""

import dataclasses
from collections.abc import Sequence

from uqdm import format, sources
from uqdm.bundle import Package
from uqdm.errors import LimitError
from uqdm.families import registry
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


@dataclasses.dataclass(frozen=True)
class Cut:
    """How much of a stream is wanted: at most one of the five. With none it is all.

    `step`: up to the end of that step. `bpp`: bits per pixel of the whole file, `nbytes`: its
    bytes. `max_error`: up to the first step that keeps every value of a pixel within it.
    `psnr`: up to the first place in the file's index that shows so many decibels.
    """

    step: int | None = None
    bpp: float | None = None
    nbytes: int | None = None
    max_error: int | None = None
    psnr: float | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in dataclasses.astuple(self)) > 1:
            raise ValueError(f"{self}: give at most one of step, bpp, nbytes, max_error and psnr")

    def resolved(self, model: Package, contents: format.Contents) -> "Cut":
        """The same for a file of that model, with a step in the place of `max_error`, or all of a
        file that is corrected enough.
        """
        if self.max_error is None:
            return self
        step, correction = step_within(promises(model, contents), self.max_error), contents.payload(format.CORRECTION)
        corrected = (
            correction is not None
            and step > len(contents.steps)
            and correction[:1] <= bytes([min(self.max_error, 255)])
        )
        return Cut() if corrected else Cut(step)

    def of(self, data: Source, model: Package | None = None) -> bytes:
        """The beginning of a file that is wanted. `model`: the file's, which `max_error` needs.
        Raises what `format.truncate` raises.
        """
        data, cut = sources.read(data), self
        if self.max_error is not None:
            if model is None:
                raise ValueError("max_error needs the model that wrote the file")
            contents = format.parse(data, max_pixels=None)
            cut = self.resolved(model, contents)
            if cut.step is not None and cut.step > (there := len(contents.steps)):
                raise LimitError(
                    f"an error of at most {self.max_error} was asked for, which only step {cut.step} keeps; "
                    f"the file holds {there} of {contents.header.chunks} whole steps"
                )
        if cut == Cut():
            return data
        return format.truncate(data, nbytes=cut.nbytes, bpp=cut.bpp, step=cut.step, psnr=cut.psnr)
