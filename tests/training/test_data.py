"""Data: packs and folders to batches; what is broken is named or counted."""

import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from conftest import pack, photograph
from PIL import Image

from uqdm import errors
from uqdm.training.data import load_data, load_pack


def pictures(n: int, size: int) -> np.ndarray:
    return np.stack([photograph(size, size, i) for i in range(n)])


def test_a_pack_comes_back_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    some = pictures(5, 16)
    assert (load_pack(pack(tmp_path / "a.zip", some)) == some).all()
    with pytest.raises(errors.ImageError, match="not those"):
        load_pack(pack(tmp_path / "b.zip", some, sha256_of_uint8_NHWC="0" * 64))
    (tmp_path / "c.zip").write_bytes(b"no zip")
    with pytest.raises(errors.ImageError, match=r"c\.zip"):
        load_pack(tmp_path / "c.zip")


def test_batches_are_uint8_tensors_and_follow_their_seed(tmp_path: Path) -> None:
    class Config:
        batch_size, shuffle = 4, True

    path = pack(tmp_path / "a.zip", pictures(20, 24))
    train, held = load_data(path, Config())
    batches = list(train)
    assert [tuple(b.shape) for b in batches] == [(4, 3, 24, 24)] * 4 + [(2, 3, 24, 24)]
    assert batches[0].dtype == torch.uint8
    assert sum(len(b) for b in held) == 2
    assert all(torch.equal(a, b) for a, b in zip(batches, load_data(path, Config())[0], strict=True))
    assert not torch.equal(batches[0], next(iter(load_data(path, Config(), seed=1)[0])))


def test_a_folder_is_cropped_and_its_broken_pictures_are_counted(tmp_path: Path) -> None:
    for i in range(11):
        Image.fromarray(photograph(80, 70 + i, i)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    Image.fromarray(photograph(20, 20)).save(tmp_path / "small.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train, held = load_data(tmp_path)
    assert any("2 of 13" in str(w.message) for w in caught)
    assert next(iter(train)).shape[1:] == (3, 64, 64)
    assert next(iter(held)).shape == (2, 3, 64, 64)


def test_a_folder_with_a_division_keeps_it(tmp_path: Path) -> None:
    for part, n in (("train", 3), ("val", 2)):
        (tmp_path / part).mkdir()
        for i in range(n):
            Image.fromarray(photograph(64, 64, i)).save(tmp_path / part / f"{i}.png")
    train, held = load_data(tmp_path)
    assert len(train.pictures) == 3
    assert len(held.pictures) == 2


def test_nothing_there_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(errors.ImageError, match="no pictures"):
        load_data(tmp_path)
