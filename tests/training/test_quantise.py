"""A trained network becomes integers: what it costs, what is refused, and that previews inside a step stay good."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import pack, photograph

import uqdm
from uqdm import bundle as package
from uqdm import files
from uqdm.errors import OutputError, PackageError
from uqdm.format import container

pytest.importorskip("torch")
from uqdm.training.quantise import quantise_model

ROOT = Path(__file__).parent.parent.parent
FLOATS = ROOT / "checkpoints" / "uqdm-light-float"


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    """Photographs of 48 x 48: pieces of the sample."""
    sample = files.read(ROOT / "examples" / "parrots.png").pixels
    return [sample[y : y + 48, x : x + 48] for y in range(0, 240, 48) for x in range(0, 384, 48)]


def test_integers_cost_next_to_nothing_and_keep_the_bound(crops: list[np.ndarray], tmp_path: Path) -> None:
    cost = quantise_model(FLOATS, tmp_path / "exact", crops[::4], crops[1::8])
    assert sum(cost.after) < 1.005 * sum(cost.before)
    assert max(cost.largest) < 24
    assert uqdm.load(tmp_path / "exact").exact
    with pytest.raises(PackageError, match="exact"):
        quantise_model(tmp_path / "exact", tmp_path / "again", crops[:1], crops[:1])


def test_previews_reach_a_steps_end_without_a_jump(crops: list[np.ndarray]) -> None:
    codec = uqdm.load()
    before, after = [], []
    for picture in crops[::5]:
        data = codec.compress(picture)
        for chunk in container.parse(data).chunks[:3]:
            for end, found in ((chunk.end - 6, before), (chunk.end, after)):
                found.append(((codec.decompress(data[:end]).astype(float) - picture) ** 2).mean())
    jumps = 10 * np.log10(np.reshape(before, (-1, 3)) / np.reshape(after, (-1, 3)))
    assert np.abs(jumps.mean(0)).max() < 0.5


def test_of_large_pictures_a_piece_is_looked_at_and_small_ones_are_whole() -> None:
    from uqdm.training.quantise import SIDE, pieces

    asked: list[int] = []

    def large() -> Iterator[np.ndarray]:
        for i in range(3):
            asked.append(i)
            yield np.random.default_rng(i).integers(0, 256, (SIDE + 40, 3 * SIDE, 3), dtype=np.uint8)

    found = pieces(large(), 0)
    assert [p.shape for p in found] == [(SIDE, SIDE, 3)] * 3
    assert all(p.base is None for p in found)  # nothing of the rest is kept
    assert asked == [0, 1, 2]
    assert all((a == b).all() for a, b in zip(found, pieces(large(), 0), strict=True))
    assert any((a != b).any() for a, b in zip(found, pieces(large(), 1), strict=True))
    small = [photograph(SIDE, 17), photograph(1, 1), photograph(SIDE + 1, 5)]
    again = pieces(small, 0)
    assert all((a == b).all() for a, b in zip(small[:2], again[:2], strict=True))
    assert again[2].shape == (SIDE, 5, 3)


def test_a_place_that_is_taken_is_refused_before_the_work(tmp_path: Path, crops: list[np.ndarray]) -> None:
    from uqdm.cli import main
    from uqdm.families.uqdm.torch.export import import_checkpoint

    class Unread(list[np.ndarray]):
        def __iter__(self) -> Iterator[np.ndarray]:
            raise AssertionError("a picture was read")

    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for name, message in (("there", "exists"), ("file", "is a file"), ("file/in", "is a file"), (".hidden", "cannot be a model's name")):
        with pytest.raises(OutputError, match=message):
            quantise_model(FLOATS, tmp_path / name, Unread(), Unread())
        with pytest.raises(OutputError, match=message):
            import_checkpoint(tmp_path / "no checkpoint at all", tmp_path / name)
        with pytest.raises(SystemExit) as ended:
            main(["quantise", str(FLOATS), str(tmp_path / name), "--data", str(tmp_path / "no pictures")])
        assert ended.value.code == 1


def test_the_command_prints_the_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from uqdm.cli import main

    data = pack(tmp_path / "p.zip", np.stack([photograph(32, 32, i) for i in range(12)]))
    with pytest.raises(SystemExit) as ended:
        main(["quantise", str(FLOATS), str(tmp_path / "exact"), "--data", str(data), "--count", "4"])
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[:2] == ["reading pictures", "walking through 4 pictures"]  # it takes minutes, and says where it is
    assert "step 4" in out
    assert "2^23." in out
    assert package.read(tmp_path / "exact").network["kind"] == "exact"
