"""Model folders: written whole, read back, and refused when anything that decides a decoder's
arithmetic has changed.
"""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from uqdm import bundle as package
from uqdm import errors, library
from uqdm.bundle import Package


def small(name: str = "small") -> Package:
    weights = {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array([1.5], np.float32)}
    return Package(
        name,
        "uqdm",
        {"kind": "unet"},
        {"alpha": package.hexadecimal([0.1, 1 / 3])},
        weights,
        {"description": "for tests"},
    )


def test_a_package_comes_back_with_its_fingerprint(tmp_path: Path) -> None:
    path = package.write(small(), tmp_path / "small")
    back = package.read(path)
    assert back.fingerprint == small().fingerprint
    assert back.parameters == 7
    assert back.path == path
    assert package.floats(back.constants["alpha"]) == (0.1, 1 / 3)
    assert (back.weights["a"] == small().weights["a"]).all()


def test_names_and_descriptions_do_not_enter_the_fingerprint_but_everything_else_does() -> None:
    import dataclasses

    base = small().fingerprint
    assert small("other").fingerprint == base
    assert dataclasses.replace(small(), family="nested").fingerprint != base
    assert dataclasses.replace(small(), network={"kind": "exact"}).fingerprint != base
    assert dataclasses.replace(small(), constants={}).fingerprint != base
    assert (
        dataclasses.replace(small(), weights={"a": small().weights["a"] + 1, "b": small().weights["b"]}).fingerprint
        != base
    )


def test_a_standing_folder_is_kept_unless_forced(tmp_path: Path) -> None:
    package.write(small(), tmp_path / "m")
    with pytest.raises(errors.OutputError, match="exists"):
        package.write(small(), tmp_path / "m")
    package.write(small(), tmp_path / "m", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    path = package.write(small(), tmp_path / "m")
    data = bytearray((path / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "weights.safetensors").write_bytes(data)
    with pytest.raises(errors.PackageError, match="fingerprint"):
        package.read(path)


@pytest.mark.parametrize("missing", ["model.json", "weights.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    path = package.write(small(), tmp_path / "m")
    (path / missing).unlink()
    with pytest.raises(errors.PackageError, match=missing):
        package.read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_broken_description_is_refused(tmp_path: Path, text: str) -> None:
    path = package.write(small(), tmp_path / "m")
    (path / "model.json").write_text(text)
    with pytest.raises(errors.PackageError):
        package.read(path)


def test_a_newer_package_format_is_refused(tmp_path: Path) -> None:
    path = package.write(small(), tmp_path / "m")
    record = json.loads((path / "model.json").read_text())
    record["format"] += 1
    (path / "model.json").write_text(json.dumps(record))
    with pytest.raises(errors.PackageError, match="newer"):
        package.read(path)


def test_models_are_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = package.write(small(), tmp_path / "small")
    monkeypatch.setenv("UQDM_MODELS", str(tmp_path))
    assert library.find(path) == path
    assert library.find("small") == path
    assert "small" in [listing.name for listing in library.available()]
    with pytest.raises(errors.UnknownModelError, match="small"):
        library.find("absent")


def test_the_default_model_ships_and_takes_at_most_four_megabytes_of_a_wheel() -> None:
    """A wheel is a zip file, whose files are deflated."""
    path, wheel = library.find(library.DEFAULT), io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as out:
        for file in path.iterdir():
            out.write(file, file.name)
    assert len(wheel.getvalue()) <= 4_000_000
    assert package.read(path).name == library.DEFAULT
