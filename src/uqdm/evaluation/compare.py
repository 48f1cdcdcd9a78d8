"""One picture through several codecs at one rate, as a contact sheet.

The sheet shows what each codec shows, what it costs, and where it errs. Knows no files.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from uqdm.errors import EvaluationError
from uqdm.evaluation.codecs import Contender, Pixels, said
from uqdm.evaluation.metrics import butteraugli, ssim, ssimulacra2
from uqdm.quality import mse, psnr

GAP, CAPTION = 12, 64
GAIN = 4  # brightness of error maps: 0 is black, an error of 64 or more is white
COLOURS = {True: "#b3123a", False: "#1d1d1f"}


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """A picture of the sheet."""

    label: str
    ours: bool
    bpp: float
    psnr: float  # dB; infinite where nothing is wrong
    ssim: float | None
    ssimulacra2: float | None
    butteraugli: float | None  # where its program is installed
    pixels: Pixels
    setting: str
    hypothetical: bool

    def measures(self) -> str:
        """What else is known of its quality, and how it was set."""
        known = (("SSIM {:.4f}", self.ssim), ("SSIMULACRA 2 {:.1f}", self.ssimulacra2),
                 ("Butteraugli {:.2f}", self.butteraugli))  # fmt: skip
        words = [text.format(value) for text, value in known if value is not None]
        return ", ".join([*words, "model entropy, no file" if self.hypothetical else self.setting])

    def line(self) -> str:
        """Rate and quality."""
        quality = "lossless" if self.psnr == float("inf") else f"{self.psnr:.2f} dB"
        return f"{self.bpp:.3f} bits/pixel, {quality}"


def panels(codecs: Sequence[Contender], pixels: Pixels, bpp: float) -> tuple[list[Panel], dict[str, str]]:
    """What each codec shows at the rate, and the codecs that failed, with the reason.

    A codec shows its best point that costs at most `bpp`; settings between its usual ones are tried
    too. If all cost more, it shows its cheapest. Raises `EvaluationError` if there is nothing to
    compare.
    """
    if not codecs or bpp <= 0:
        raise EvaluationError(f"{len(codecs)} codecs at {bpp:g} bits per pixel: there is nothing to compare")
    area = pixels.shape[0] * pixels.shape[1]
    found, failed = [], {}
    for codec in codecs:
        try:
            best = codec.within(pixels, bpp * area)
        except Exception as error:  # one codec may fail in any way; the others go on
            failed[codec.name] = said(error)
            continue
        found.append(
            Panel(
                label=codec.label,
                ours=codec.name.startswith("uqdm"),
                bpp=best.bits / area,
                psnr=psnr(mse(pixels, best.pixels)),
                ssim=ssim(pixels, best.pixels),
                ssimulacra2=ssimulacra2(pixels, best.pixels),
                butteraugli=butteraugli(pixels, best.pixels),
                pixels=best.pixels,
                setting=best.setting,
                hypothetical=codec.hypothetical,
            )
        )
    return found, failed


def sheet(original: Pixels, shown: Sequence[Panel], title: str = "", errors: bool = True) -> Image.Image:
    """The contact sheet: the original and each panel, with the panel's error map below it."""
    h, w = original.shape[:2]
    times = max(1, -(-192 // max(h, w)))
    h, w = h * times, w * times
    count = len(shown) + 1
    columns = min(count, max(2, 1800 // (w + GAP)))
    rows = -(-count // columns)
    # A column is wide enough for its text, however narrow the picture.
    cell_w = max(w, 230)
    cell_h = h * (2 if errors else 1) + (GAP // 2 if errors else 0) + CAPTION
    head = 34 if title else 0
    out = Image.new("RGB", (columns * (cell_w + GAP) + GAP, rows * (cell_h + GAP) + GAP + head), "white")
    draw = ImageDraw.Draw(out)
    bold, plain = ImageFont.load_default(15), ImageFont.load_default(13)
    if title:
        draw.text((GAP, GAP), title, "#1d1d1f", ImageFont.load_default(18))
    for i in range(count):
        x, y = GAP + i % columns * (cell_w + GAP), GAP + head + i // columns * (cell_h + GAP)
        panel = shown[i - 1] if i else None
        pixels = panel.pixels if panel else original
        out.paste(_enlarged(pixels, times), (x, y))
        if errors and panel:
            out.paste(_enlarged(error_map(original, pixels), times), (x, y + h + GAP // 2))
        elif errors:
            draw.text(
                (x, y + h + GAP), f"below: absolute errors, {GAIN} times\nas bright; black is none", "#6b6b70", plain
            )
        below = y + cell_h - CAPTION + 6
        label = panel.label if panel else "original"
        draw.text((x, below), _fitted(draw, label, bold, cell_w), COLOURS[bool(panel and panel.ours)], bold)
        draw.text((x, below + 20), panel.line() if panel else "24 bits/pixel", "#1d1d1f", plain)
        if panel:
            draw.text((x, below + 37), _fitted(draw, panel.measures(), plain, cell_w), "#6b6b70", plain)
    return out


def error_map(a: Pixels, b: Pixels) -> Pixels:
    """Absolute errors, made `GAIN` times as bright."""
    found: Pixels = np.clip(np.abs(a.astype(np.int16) - b) * GAIN, 0, 255).astype(np.uint8)
    return found


def _enlarged(pixels: Pixels, times: int) -> Image.Image:
    return Image.fromarray(np.repeat(np.repeat(pixels, times, 0), times, 1))


def _fitted(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> str:
    """The text, shortened to a width."""
    while len(text) > 4 and draw.textlength(text, font=font) > width:
        text = text[:-2].rstrip(" ,…") + "…"
    return text
