"""Golden files hold the bits still: they decode to what they did, whole and cut, and the same
pictures give the same files.

They are of format versions 1.0 and 1.1 and stay as they are: what later versions write gets files
of its own (`tests/golden/make.py`).
"""

import itertools
import json
from typing import Any

import pytest
from golden import make

from uqdm import codec
from uqdm.picture import to_array

PINS: dict[str, Any] = json.loads((make.HERE / "pins.json").read_text())
CASES = make.cases()

# Runtimes and coders know nothing of each other: with these and the codecs above, each is seen at work, whole and
# in the middle of a step. The others, and all cuts, are slow.
QUICK = [("onnxruntime", "plain"), ("torch", "constriction"), ("numpy", "numba")]
MATRIX = itertools.product(("onnxruntime", "torch", "numpy"), ("plain", "constriction", "numba"))


@pytest.fixture(scope="module")
def codecs() -> dict[str, codec.Codec]:
    return make.codecs()


def test_every_case_is_pinned() -> None:
    assert PINS.keys() == CASES.keys() == {p.stem for p in make.HERE.glob("*.uqdm")}


@pytest.mark.parametrize("name", CASES)
def test_a_golden_file_decodes_as_it_did(codecs: dict[str, codec.Codec], name: str) -> None:
    model, picture, _ = CASES[name]
    data = (make.HERE / f"{name}.uqdm").read_bytes()
    assert make.pins(codecs[model], data) == PINS[name]
    back = codecs[model].decode(data)
    assert (to_array(back.picture) == to_array(picture)).all()
    assert (back.picture.icc, back.picture.exif, back.picture.xmp) == (picture.icc, picture.exif, picture.xmp)


@pytest.mark.parametrize("name", CASES)
def test_the_same_picture_gives_the_same_file(codecs: dict[str, codec.Codec], name: str) -> None:
    model, picture, options = CASES[name]
    assert codecs[model].compress(picture, **options) == (make.HERE / f"{name}.uqdm").read_bytes()


@pytest.mark.parametrize(
    ("backend", "coder", "cuts"),
    [
        *(pytest.param(*pair, make.CUTS[1:2], id="-".join(pair)) for pair in QUICK),
        *(pytest.param(*pair, make.CUTS, id=f"{'-'.join(pair)}-all", marks=pytest.mark.slow) for pair in MATRIX),
    ],
)
def test_golden_files_are_the_same_bits_on_every_runtime_and_coder(
    backend: str, coder: str, cuts: tuple[float, ...]
) -> None:
    from uqdm import bundle as package
    from uqdm.entropy.coder import available
    from uqdm.exact import runtimes as backends

    if backend not in backends.available() or coder not in available():
        pytest.skip(f"{backend} or {coder} is not installed")
    for name in ("photo-rgb", "pyramid-rgb", "nano-rgb", "light-rgb", "chance-rgb", "chance-paper"):
        one = codec.Codec(package.read(make.place(CASES[name][0])), backend=backend, coder=coder)
        expected = PINS[name] | {"cut": {str(share): PINS[name]["cut"][str(share)] for share in cuts}}
        assert make.pins(one, (make.HERE / f"{name}.uqdm").read_bytes(), cuts) == expected
