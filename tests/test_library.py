"""Which model: the package's own by default, a name from the places for names, a folder by its
path; never what happens to lie around.
"""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

import uqdm
from uqdm import bundle as package
from uqdm import codec, errors, library

PHOTO = Path(uqdm.__file__).parent / "weights" / "photo"


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder "photo" with another model in the current folder."""
    monkeypatch.delenv("UQDM_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    light = package.read(library.find("uqdm-light"))
    return package.write(dataclasses.replace(light, name="photo"), tmp_path / "photo")


def test_a_folder_of_a_models_name_in_the_current_folder_is_not_that_model(other: Path) -> None:
    assert library.find() == library.find("photo") == PHOTO
    assert uqdm.load().fingerprint == uqdm.load("photo").fingerprint == package.read(PHOTO).fingerprint


def test_a_path_is_a_folder(other: Path) -> None:
    assert package.read(PHOTO).fingerprint != package.read(other).fingerprint
    for path in ("./photo", f".{os.sep}photo", str(other), "photo/", Path("photo"), other):
        assert package.read(library.find(path)) == package.read(other), path
    with pytest.raises(errors.UnknownModelError, match=r"no model folder: there is no absent/model\.json"):
        library.find("./absent".removeprefix("./") + "/")
    with pytest.raises(errors.UnknownModelError, match="no model folder"):
        library.find(Path("uqdm-light"))  # a Path is no name


def test_a_folder_that_is_asked_for_as_a_name_is_pointed_out(other: Path) -> None:
    shutil.move(other, "mine")
    with pytest.raises(
        errors.UnknownModelError,
        match=r"known: nano, photo, uqdm-light\. There is a folder of that name here: .* write \./mine",
    ):
        library.find("mine")
    for name in ("", "absent"):
        with pytest.raises(errors.UnknownModelError, match="known: nano, photo, uqdm-light"):
            library.find(name)


def test_the_packages_models_come_before_those_of_the_search_path(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(other, "models/photo")
    shutil.copytree(other, "models/mine")
    monkeypatch.setenv("UQDM_MODELS", "models")
    assert library.find() == library.find("photo") == PHOTO
    assert library.find("mine") == Path("models/mine")
    listed = {one.name: one for one in library.available()}
    assert [name for name, one in listed.items() if one.default] == ["photo"]
    assert listed["photo"].path == PHOTO
    assert not any(
        "default" in one.description and one.default is False and "before" not in one.description
        for one in listed.values()
    )


def test_the_model_of_a_file_is_not_looked_for_in_the_current_folder(
    other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = package.read(other).fingerprint[:16]
    assert library.find_for("photo", fingerprint) == library.find(
        "uqdm-light"
    )  # what computes is what counts, not the name
    monkeypatch.setattr(library, "SHIPPED", Path("nowhere"))
    with pytest.raises(errors.UnknownModelError, match=r"--model \./FOLDER, or add the folder's parent to UQDM_MODELS"):
        library.find_for("photo", fingerprint)
    monkeypatch.setenv("UQDM_MODELS", str(other.parent))
    assert library.find_for("photo", fingerprint) == other


def test_a_pool_opens_a_codec_once(default: codec.Codec) -> None:
    import numpy as np

    pool = library.CodecPool(threads=1)
    data = default.compress(np.zeros((8, 8, 3), np.uint8))
    assert pool.load() is pool.load("photo") is pool.load(PHOTO)
    assert pool.open_for(data) is pool.open_for(data, "photo") is pool.open_for(data, PHOTO)
    with pytest.raises(errors.FingerprintError):
        pool.open_for(data, "uqdm-light")
