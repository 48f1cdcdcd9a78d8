"""Makes the golden files: small pictures drawn by a program, six models, every kind of header.
Their bits stay; cases may come.

PYTHONPATH=src:tests python tests/golden/make.py    writes *.uqdm, the models by chance and pins.json beside this file
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm import bundle as package
from uqdm import codec, format, library
from uqdm.families.uqdm.constants import diffusion_constants
from uqdm.picture import Picture

HERE = Path(__file__).parent
CUTS = (0.1, 0.37, 0.6, 0.85)  # shares of a file at which previews are pinned


def drawn(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """The same picture on every machine: integers only."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    hashed = (x * 2654435761 + y * 40503 + x * y * 97) % 65521
    layers = [
        (3 * x + 5 * y) % 256,
        (x * x + y * y) // 9 % 256,
        40 + (x // 8 + y // 8) % 2 * 150 + hashed % 24,
        hashed % 251,
    ]
    return np.stack(layers[:channels], -1).astype(np.uint8)


def cases() -> dict[str, tuple[str, Picture, dict[str, Any]]]:
    """name -> model, picture, options of compress."""
    rgb = Picture(drawn(24, 33))
    carried = Picture(drawn(9, 14), drawn(9, 14, 4)[..., 3], b"a colour profile", b"II*\0exif", b"<xmp/>")
    noise = Picture(np.random.Generator(np.random.Philox(7)).integers(0, 256, (80, 72, 3), dtype=np.uint8))
    smooth = Picture(
        (
            np.stack([np.add.outer(np.arange(300) * k, np.arange(272) * (4 - k)) // 5 % 256 for k in (1, 2, 3)], -1)
        ).astype(np.uint8)
    )
    return {
        "photo-rgb": ("photo", rgb, {}),
        "photo-one-pixel": ("photo", Picture(drawn(1, 1)), {}),
        "photo-row": ("photo", Picture(drawn(1, 57)), {}),
        "photo-grey": ("photo", Picture(drawn(31, 18, 1)), {}),
        "photo-carried": ("photo", carried, {"seed": 2**64 - 1}),
        "photo-corrected": ("photo", smooth, {}),  # large enough that corrections are told
        "nano-rgb": ("nano", rgb, {}),
        "nano-one-pixel": ("nano", Picture(drawn(1, 1)), {}),
        "nano-row": ("nano", Picture(drawn(1, 57)), {}),
        "nano-grey": ("nano", Picture(drawn(31, 18, 1)), {}),
        "nano-carried": ("nano", carried, {"seed": 2**64 - 1}),
        "nano-long-steps": ("nano", noise, {}),
        "pyramid-rgb": ("pyramid-by-chance", Picture(drawn(13, 18)), {"seed": 9}),
        "pyramid-grey": ("pyramid-by-chance", Picture(drawn(7, 6, 1)), {}),
        "nested-rgb": ("nested-by-chance", Picture(drawn(9, 12)), {"seed": 9}),
        "nested-grey": ("nested-by-chance", Picture(drawn(6, 7, 1)), {}),
        "nested-column": ("nested-by-chance", Picture(drawn(5, 1)), {"seed": 300}),
        "light-rgb": ("uqdm-light", rgb, {}),
        "light-one-pixel": ("uqdm-light", Picture(drawn(1, 1)), {}),
        "light-row": ("uqdm-light", Picture(drawn(1, 57)), {}),
        "light-grey": ("uqdm-light", Picture(drawn(31, 18, 1)), {}),
        "light-carried": ("uqdm-light", carried, {"seed": 2**64 - 1}),
        "light-long-steps": ("uqdm-light", noise, {}),
        "light-paper": ("uqdm-light", Picture(drawn(12, 20)), {"mode": "paper"}),
        "chance-rgb": ("by-chance", rgb, {"seed": 1}),
        "chance-grey": ("by-chance", Picture(drawn(15, 15, 1)), {}),
        "chance-paper": ("by-chance", Picture(drawn(10, 11)), {"mode": "paper", "seed": 300}),
        "chance-paper-grey": ("by-chance", Picture(drawn(8, 8, 1)), {"mode": "paper"}),
        "chance-column": ("by-chance", Picture(drawn(40, 2)), {}),
    }


def by_chance() -> package.Package:
    """A small exact model in RGB, T = 3, its weights by chance."""
    from exact.networks import constant, package_of, random_step

    constants = diffusion_constants([5.0, 0.5, -4.0, -11.0], "rgb", [127.5] * 3, [128.0] * 3, [2, 0, -3])
    made = package_of(constant(), random_step(1, 4, 1), random_step(2, 4, 1), mixed=True)
    return package.Package(
        "by-chance", "uqdm", made.network, constants, made.weights, {"description": "weights by chance, for tests"}
    )


def nested_by_chance() -> package.Package:
    """A small nested model, T = 3, its weights by chance."""
    from untrained import small_nested

    from uqdm.training.integers import in_integers

    return in_integers(small_nested(), "nested-by-chance", [drawn(32, 32 + 2 * i) for i in range(3)])[0]


def pyramid_by_chance() -> package.Package:
    """A small pyramid, T = 3, its weights by chance."""
    from families.pyramid.test_pyramid import STEPS
    from families.pyramid.test_pyramid import by_chance as model

    from uqdm.training.integers import in_integers

    return in_integers(model(STEPS), "pyramid-by-chance", [drawn(48, 48 + 2 * i) for i in range(2)])[0]


def place(model: str) -> Path:
    """A model's folder."""
    return HERE / model if (HERE / model).is_dir() else library.find(model)


def codecs() -> dict[str, codec.Codec]:
    """By model's name."""
    return {
        name: codec.Codec(package.read(place(name))) for name in sorted({model for model, _, _ in cases().values()})
    }


def pixels_hash(decoded: codec.Decoded) -> str:
    """Of pixels and all that is carried."""
    p = decoded.picture
    parts = [
        p.pixels.tobytes(),
        b"" if p.alpha is None else p.alpha.tobytes(),
        p.icc or b"",
        p.exif or b"",
        p.xmp or b"",
    ]
    return hashlib.sha256(b"|".join([str(p.pixels.shape).encode(), *parts])).hexdigest()


def pins(one: codec.Codec, data: bytes, cuts: tuple[float, ...] = CUTS) -> dict[str, Any]:
    """What a file decodes to, whole and cut."""
    header = format.parse(data, steps=0).header_size
    cut = {str(share): pixels_hash(one.decode(data[: max(header, int(share * len(data)))])) for share in cuts}
    return {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "pixels": pixels_hash(one.decode(data)),
        "cut": cut,
    }


def main() -> None:
    for model in (by_chance(), nested_by_chance(), pyramid_by_chance()):
        if (HERE / model.name).is_dir():
            continue  # they are pinned too: training libraries may change what is drawn
        package.write(model, HERE / model.name, force=True)
    made, found = codecs(), {}
    for name, (model, picture, options) in cases().items():
        data = made[model].compress(picture, **options)
        (HERE / f"{name}.uqdm").write_bytes(data)
        found[name] = pins(made[model], data)
        print(name, len(data), "bytes")
    (HERE / "pins.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
