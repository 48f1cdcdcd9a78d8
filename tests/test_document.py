"""The document's decoder (`tests/document/`) reads golden files, whole and cut, and shows what the codec shows."""

import hashlib
import json
from typing import Any

import document.nested
import document.uqdm
import pytest
from document.stream import header
from golden import make
from safetensors.numpy import load_file

CASES = make.cases()
DECODERS = {"uqdm": document.uqdm.decode, "nested": document.nested.decode}


def golden(name: str) -> bytes:
    return (make.HERE / f"{name}.uqdm").read_bytes()


def decoded(name: str, data: bytes, steps: int | None = None) -> Any:
    """A golden file, or its beginning, by what its model's family is."""
    folder = make.place(CASES[name][0])
    model, weights = json.loads((folder / "model.json").read_text()), load_file(folder / "weights.safetensors")
    return DECODERS[model["family"]](data, model, weights, steps)


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"nano-long-steps"}))  # slow, and light-long-steps has long steps too
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


@pytest.mark.parametrize("model", sorted({model for model, _, _ in CASES.values()}))
def test_the_fingerprint_is_made_as_the_document_says(model: str) -> None:
    """Computed from the two files of the folder; golden files carry its first 8 bytes."""
    folder = make.place(model)
    record, weights = json.loads((folder / "model.json").read_text()), load_file(folder / "weights.safetensors")

    def text(value: Any) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    whole = text([1, record["family"], record["network"], record["constants"]])
    for name, array in sorted(weights.items()):
        kind = {1: "|i1", 2: "<i2", 4: "<i4", 8: "<i8"}[array.dtype.itemsize]
        assert array.dtype.kind == "i"
        whole += text([name, kind, list(array.shape)]) + array.astype(kind).tobytes()
    found = hashlib.sha256(whole).hexdigest()
    assert found == record["fingerprint"]
    for name in (name for name, (of, _, _) in CASES.items() if of == model):
        assert header(golden(name)).fingerprint.hex() == found[:16]
