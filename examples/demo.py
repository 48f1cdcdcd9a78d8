"""A picture to one stream, and the stream back from its beginnings: files, a contact sheet and a
table.

python examples/demo.py [PICTURE] [--out demo] [--model photo]
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import uqdm
from uqdm import files, library
from uqdm.picture import to_array
from uqdm.quality import psnr

SAMPLE = Path(__file__).parent / "parrots.png"  # Kodak image 23, released for unrestricted use
RATES = (0.1, 0.25, 0.5, 1.0, 2.0)  # bits per pixel at which the stream is cut
HEAD = 64  # bytes; a smaller beginning may end inside the header, and then it is no picture yet
PANEL, CAPTION, GAP = (300, 400), 58, 10


def contact_sheet(panels: list[tuple[np.ndarray, str, str]]) -> Image.Image:
    """Middle cuts at full resolution side by side, two lines under each."""
    w, h = PANEL
    sheet = Image.new("RGB", (len(panels) * (w + GAP) + GAP, h + CAPTION + 2 * GAP), "white")
    draw = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(20), ImageFont.load_default(16)
    for i, (pixels, title, text) in enumerate(panels):
        top, left = max((pixels.shape[0] - h) // 2, 0), max((pixels.shape[1] - w) // 4, 0)
        x = GAP + i * (w + GAP)
        sheet.paste(Image.fromarray(pixels[top : top + h, left : left + w]).convert("RGB"), (x, GAP))
        draw.text((x, h + GAP + 4), title, "black", bold)
        draw.text((x, h + GAP + 32), text, "#555", plain)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument("--model", default=library.DEFAULT)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)

    picture = files.read(a.picture, convert=True)
    original = to_array(picture)
    codec = uqdm.load(a.model)
    begin = time.perf_counter()
    data = codec.compress(picture)
    seconds = time.perf_counter() - begin
    stream = a.out / f"{a.picture.stem}.uqdm"
    files.write_atomic(stream, data, force=True)

    h, w = original.shape[:2]
    print(f"{a.picture.name}: {w} x {h}, {codec.name}, {len(data):,} bytes in {stream}, written in {seconds:.1f} s\n")
    print(f"{'bytes':>9}{'bits/pixel':>12}{'step':>6}{'PSNR dB':>10}{'decoded in s':>14}  file")
    panels = [(original, "original", f"{3 * h * w:,} bytes as raw pixels")]
    cuts = [size for rate in RATES if HEAD <= (size := int(rate * w * h / 8)) < len(data)]
    for size in (*cuts, len(data)):
        begin = time.perf_counter()
        decoded = codec.decode(data[:size])
        seconds = time.perf_counter() - begin
        quality = psnr(((decoded.image.astype(float) - original) ** 2).mean())
        out = a.out / (f"{a.picture.stem}-whole.png" if size == len(data) else f"{a.picture.stem}-{size}-bytes.png")
        files.write(decoded.picture, out, force=True)
        shown, rate = "lossless" if quality == float("inf") else f"{quality:.2f}", 8 * size / w / h
        print(f"{size:>9,}{rate:>12.3f}{decoded.step:>6}{shown:>10}{seconds:>14.1f}  {out}")
        text = f"{'all' if size == len(data) else 'first'} {size:,} bytes, {shown}"
        panels.append((decoded.image, f"{rate:.2f} bits/pixel", text if shown == "lossless" else f"{text} dB"))
    sheet = a.out / f"{a.picture.stem}-sheet.png"
    contact_sheet(panels).save(sheet)
    assert (codec.decompress(data) == original).all(), "the whole stream must give the picture back"
    print(f"\nThe whole stream gives the picture back, pixel for pixel. Contact sheet: {sheet}")


if __name__ == "__main__":
    main()
