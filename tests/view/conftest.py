"""A server of a folder, with the toy model of the commands' tests as the default."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import photograph
from serving import made, serving

from uqdm import codec, library
from uqdm.view import Server

PICTURE = photograph(40, 48)


@pytest.fixture
def small(toy: Path, monkeypatch: pytest.MonkeyPatch) -> codec.Codec:
    """The toy is the default model."""
    monkeypatch.setattr(library, "SHIPPED", toy)
    return library.load(threads=1)


@pytest.fixture
def folder(small: codec.Codec, tmp_path: Path) -> Path:
    """A folder with a file and its original, another one below, and things that nobody shall see."""
    inside = tmp_path / "shown"
    made(inside, PICTURE)
    made(inside / "deeper", photograph(24, 20, 1), "b")
    (inside / "deeper" / "b.png").unlink()
    (tmp_path / "secret.uqdm").write_bytes((inside / "a.uqdm").read_bytes())
    (inside / "link.uqdm").symlink_to(tmp_path / "secret.uqdm")
    (inside / ".hidden.uqdm").write_bytes(b"x")
    return inside


@pytest.fixture
def shown(folder: Path) -> Iterator[Server]:
    with serving(folder) as found:
        yield found
