"""A file in a notebook: the picture, and a slider over the file's bytes. Knows widgets, and no
server.

It needs ipywidgets (the extra `notebook`). Single previews need nothing: a `Decoded` at the end of
a cell shows itself.
"""

import math
from typing import TYPE_CHECKING, Any

from uqdm import arguments, format, goals, library, sources
from uqdm.errors import ImageError, LimitError
from uqdm.format import Place
from uqdm.prefixes import Prefixes
from uqdm.sources import Source
from uqdm.view import pixels

if TYPE_CHECKING:
    from uqdm.codec import Decoded
    from uqdm.picture import Picture

PLACES = 60  # of the slider, besides the ends of steps: each has the same share more bytes than the one before


def show(data: Source, *, original: Any = None, model: Any = None, size: int | None = None) -> Any:
    """A widget for the result of a cell: what the first bytes of a file show, and a slider that
    says how many.

    Under the picture stand bytes, bits per pixel, steps and the largest error, as far as it is
    promised; and the PSNR, if there is an `original` (a picture, as `Codec.compress` takes it), or
    if the file's index tells it. `data`: see `Codec.decompress`. `model`: see `open_for`. `size`:
    bytes that are shown at first; by default all. Each place of the slider is decoded when it is
    reached, from the last step before it that was decoded already.

    Raises `ModuleNotFoundError` without ipywidgets, `ImageError` for an original that is no picture
    of the file's size, `LimitError` for a file that holds nothing of its picture, and what
    `open_for` and `Codec.decode` raise.
    """
    try:
        import ipywidgets as widgets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "uqdm.show needs ipywidgets, which is not installed: pip install '.[notebook]' in uqdm's folder",
            name=error.name,
        ) from None
    data = sources.read(data)
    codec = library.open_for(data, model=model)
    contents = format.parse(data, max_pixels=codec.max_pixels)
    if not goals.shows(contents):
        raise LimitError(f"the file ends at byte {len(data)}, before its picture begins: get more of it")
    header, told, prefixes = contents.header, format.read_index(contents), Prefixes(codec)
    truth = None if original is None else _original(original, (header.height, header.width))
    sizes = _sizes(goals.least(data), len(data), format.ends(contents))
    size = sizes[-1] if size is None else max(one for one in sizes if one <= max(size, sizes[0]))

    picture = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", object_fit="contain"))
    slider = widgets.SelectionSlider(
        options=[(f"{one:,} bytes", one) for one in sizes],
        value=size,
        continuous_update=False,  # one preview for each stop, not one for each place on the way
        layout=widgets.Layout(width="100%", max_width=f"{max(header.width, 480)}px"),
    )
    line = widgets.Label()

    def render(_: Any = None) -> None:
        decoded = prefixes.decode(data[: slider.value])
        picture.value = pixels.png(decoded.image, pixels.orientation(decoded.picture.exif), decoded.picture.icc)
        facts = [
            f"{slider.value:,} of {len(data):,} bytes",
            f"{8 * slider.value / header.width / header.height:.3f} bpp",
        ]
        facts.append(
            f"step {decoded.step} of {decoded.steps}" + decoded.partial * f" and part of step {decoded.step + 1}"
        )
        facts += _quality(decoded, truth, told, slider.value)
        line.value = " · ".join(facts)

    slider.observe(render, "value")
    render()
    return widgets.VBox([picture, slider, line])


def _sizes(first: int, last: int, ends: list[int]) -> list[int]:
    """Places of the slider, by ascending bytes."""
    even = [round(first * (last / first) ** (i / PLACES)) for i in range(PLACES + 1)]
    return sorted({*even, *(end for end in ends if first <= end)})


def _original(original: Any, shape: tuple[int, int]) -> "Picture":
    """What previews are compared with."""
    found, batch = arguments.pictures(original)
    if batch or found[0].pixels.shape[:2] != shape:
        h, w = found[0].pixels.shape[:2] if found else (0, 0)
        there = "several pictures" if batch else f"{w} × {h}"
        raise ImageError(f"the original is {there}; expected one picture of {shape[1]} × {shape[0]}, as in the file")
    return found[0]


def _quality(decoded: "Decoded", truth: "Picture | None", told: list[Place] | None, size: int) -> list[str]:
    """PSNR and largest error, as far as they are known."""
    if decoded.step == decoded.steps:
        return ["lossless"]
    facts = [f"no value is more than {decoded.bound} off"] * (decoded.bound < 255)
    if truth is not None:
        psnr = pixels.decibels(decoded.picture.pixels, truth.pixels)
        return [f"{psnr:.2f} dB" if math.isfinite(psnr) else "without any error", *facts]
    before = [place.psnr for place in told or [] if place.bytes <= size]
    after = [place.psnr for place in told or [] if place.bytes >= size]
    if not before or not after:
        return facts
    low, high = before[-1], after[0]
    if low == high:
        return [f"{low:.2f} dB", *facts]
    return [f"about {low:.1f} dB or more" if math.isinf(high) else f"about {low:.1f} to {high:.1f} dB", *facts]
