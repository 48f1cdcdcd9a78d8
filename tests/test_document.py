"""The document's decoder (`tests/document/`) reads golden files, whole and cut, and shows what the
codec shows.
"""

import hashlib
import json
from typing import Any

import document.nested
import document.pyramid
import document.uqdm
import pytest
from document.convolutions import whole
from document.stream import header
from golden import make
from safetensors.numpy import load_file

CASES = make.cases()
DECODERS = {"uqdm": document.uqdm.decode, "nested": document.nested.decode, "pyramid": document.pyramid.decode}
LARGE = "photo-corrected"


def golden(name: str) -> bytes:
    return (make.HERE / f"{name}.uqdm").read_bytes()


def decoded(name: str, data: bytes, steps: int | None = None) -> Any:
    """A golden file, or its beginning, by what its model's family is."""
    folder = make.place(CASES[name][0])
    model, weights = json.loads((folder / "model.json").read_text()), whole(load_file(folder / "weights.safetensors"))
    return DECODERS[model["family"]](data, model, weights, steps)


@pytest.mark.parametrize(
    "name",
    [
        *sorted(
            CASES.keys() - {"nano-long-steps", LARGE}
        ),  # the first is slow, and light-long-steps has long steps too
        pytest.param(LARGE, marks=pytest.mark.slow),
    ],
)
def test_what_the_document_says_decodes_golden_files(name: str) -> None:
    assert (decoded(name, golden(name)) == CASES[name][1].pixels).all()


@pytest.fixture(scope="module")
def codecs() -> Any:
    return make.codecs()


def compared(codecs: Any, name: str, data: bytes, step: int | None = None) -> None:
    expected = codecs[CASES[name][0]].decode(data, step=step).picture.pixels
    found = decoded(name, data, step)
    assert (found[..., 1:2] if expected.shape[2] == 1 else found).tolist() == expected.tolist()


PREVIEWED = (
    "light-row",
    "light-carried",
    "light-grey",
    "light-paper",
    "chance-grey",
    "chance-column",
    "chance-paper",
    "chance-paper-grey",
    "nano-row",
    "nested-rgb",
    "nested-grey",
    "nested-column",
    "pyramid-rgb",
    "pyramid-grey",
    "photo-row",
    "photo-grey",
    "photo-carried",
    "photo-one-pixel",
)


@pytest.mark.parametrize("name", PREVIEWED)
def test_what_the_document_says_shows_the_codecs_previews(codecs: Any, name: str) -> None:
    for step in range(header(golden(name)).steps):
        compared(codecs, name, golden(name), step)


@pytest.mark.parametrize("name", PREVIEWED)
def test_what_the_document_says_shows_what_the_codec_makes_of_cut_files(codecs: Any, name: str) -> None:
    """Cut in the middle of every step, and anywhere else."""
    data = golden(name)
    first = header(data).end
    places = {first + (len(data) - first) * k // 12 for k in range(1, 12)}
    for size in sorted(places):
        compared(codecs, name, data[:size])


@pytest.mark.slow
@pytest.mark.parametrize("less", [20000, 11000, 8564, 2048])
def test_what_the_document_says_shows_what_the_codec_makes_of_a_large_cut_file(codecs: Any, less: int) -> None:
    """Cut twice before the corrections of the last step, and twice inside one."""
    compared(codecs, LARGE, golden(LARGE)[:-less])


@pytest.mark.parametrize(
    ("name", "most"), [("photo-rgb", 2), ("photo-rgb", 9), ("photo-grey", 3), ("pyramid-rgb", 4), ("pyramid-grey", 20)]
)
def test_what_the_document_says_corrects_the_preview_of_a_near_lossless_file(codecs: Any, name: str, most: int) -> None:
    data = codecs[CASES[name][0]].compress(CASES[name][1], max_error=most)
    assert abs(decoded(name, data).astype(int) - CASES[name][1].pixels).max() <= most
    compared(codecs, name, data)
    compared(codecs, name, data[:-3])


@pytest.mark.parametrize("model", sorted({model for model, _, _ in CASES.values()}))
def test_the_fingerprint_is_made_as_the_document_says(model: str) -> None:
    """Computed from the two files of the folder; golden files carry its first 8 bytes."""
    folder = make.place(model)
    record, weights = json.loads((folder / "model.json").read_text()), whole(load_file(folder / "weights.safetensors"))

    def text(value: Any) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    hashed = text([1, record["family"], record["network"], record["constants"]])
    for name, array in sorted(weights.items()):
        kind = {1: "|i1", 2: "<i2", 4: "<i4", 8: "<i8"}[array.dtype.itemsize]
        assert array.dtype.kind == "i"
        hashed += text([name, kind, list(array.shape)]) + array.astype(kind).tobytes()
    found = hashlib.sha256(hashed).hexdigest()
    assert found == record["fingerprint"]
    for name in (name for name, (of, _, _) in CASES.items() if of == model):
        one = header(golden(name))
        assert one.fingerprint.hex() == found[: 8 if one.compact else 16]
