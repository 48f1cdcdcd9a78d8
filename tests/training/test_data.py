"""Batches: a function of seed and number, whatever is read when; what is broken is left out and
counted.
"""

import itertools
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from conftest import pack, photograph
from PIL import Image

from uqdm import errors
from uqdm.errors import SourceError
from uqdm.training.data import Augment, Batches, load_data, reduced


def numbered(n: int, size: int = 2, first: int = 0) -> np.ndarray:
    """Pictures that are their own number."""
    return np.broadcast_to(np.arange(first, first + n, dtype=np.uint8)[:, None, None, None], (n, size, size, 3))


def numbers(batch: torch.Tensor) -> list[int]:
    return batch[:, 0, 0, 0].tolist()


def photographs(folder: Path, n: int, height: int = 80, width: int = 70) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(n):
        Image.fromarray(photograph(height, width + i, i)).save(folder / f"{i:02}.png")
    return folder


class Config:
    batch_size, shuffle = 4, True


class Holes:
    """Pictures that are their own number, some of them broken."""

    def __init__(self, n: int, broken: set[int], whole: bool = False) -> None:
        self.n, self.broken, self.error = n, broken, SourceError if whole else errors.ImageError
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> np.ndarray:
        self.asked.append(i)
        if i in self.broken:
            raise self.error(f"picture {i} is broken")
        return np.full((2, 2, 3), i, np.uint8)


# --- the stream


def test_batches_are_uint8_tensors_and_follow_their_seed(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", np.stack([photograph(24, 24, i) for i in range(20)]))
    train, held = load_data(path, Config())
    batches = list(train)
    assert [tuple(b.shape) for b in batches] == [(4, 3, 24, 24)] * 4 + [(2, 3, 24, 24)]
    assert len(train) == 5
    assert batches[0].dtype == torch.uint8
    assert sum(len(b) for b in held) == 2
    assert all(torch.equal(a, b) for a, b in zip(batches, load_data(path, Config())[0], strict=True))
    assert not torch.equal(batches[0], next(iter(load_data(path, Config(), seed=1)[0])))


def test_every_epoch_holds_every_picture_once_and_in_an_order_of_its_own() -> None:
    data = Batches([numbered(7), numbered(6, first=7)], 4, shuffle=True)
    stream = [k for step in range(13) for k in numbers(data.batch(step))]  # 52 pictures, four epochs
    epochs = [stream[i : i + 13] for i in range(0, 52, 13)]
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [k for batch in data for k in numbers(batch)] == epochs[0]


def test_without_shuffle_pictures_come_in_order_cut_in_the_middle() -> None:
    data = Batches([numbered(5)], 2)
    assert [numbers(b) for b in data] == [[0, 1], [2, 3], [4]]
    assert [numbers(data.batch(step)) for step in range(4)] == [[0, 1], [2, 3], [4, 0], [1, 2]]
    picture = photograph(9, 12)
    (cut,) = Batches([[picture]], 1, augment=Augment(crop=5))  # type: ignore[list-item]
    assert np.array_equal(cut[0].permute(1, 2, 0).numpy(), picture[2:7, 3:8])


def test_a_batch_is_the_same_in_any_order_and_any_thread(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "p", 12)
    load = lambda: load_data(folder, Config(), crop=32, scales=(0.5, 1.0), seed=3)[0]  # noqa: E731
    expected = [load().batch(step) for step in range(8)]
    assert len({b.numpy().tobytes() for b in expected}) == 8
    data = load()
    assert all(torch.equal(data.batch(step), expected[step]) for step in (7, 0, 3, 3, 6, 1, 2, 5, 4))
    data, right = load(), []
    threads = [
        threading.Thread(
            target=lambda steps=steps: right.extend(torch.equal(data.batch(s), expected[s]) for s in steps)
        )
        for steps in ((0, 1, 2, 3), (3, 2, 1, 0), (4, 5, 6, 7), (7, 0, 4, 2))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 16


def test_rows_are_slices_of_the_batch_and_decode_nothing_else() -> None:
    data = Batches([numbered(50)], 8, shuffle=True)
    for begin, end in ((0, 8), (2, 5), (7, 8)):
        assert torch.equal(data.rows(5, begin, end), data.batch(5)[begin:end])
    source = Holes(50, set())
    Batches([source], 8, shuffle=True).rows(5, 2, 5)
    assert len(source.asked) == 3
    for wrong in ((3, 3), (0, 9), (-1, 2)):
        with pytest.raises(ValueError, match="rows"):
            data.rows(0, *wrong)


# --- ahead


def test_what_is_prepared_ahead_is_what_batch_gives() -> None:
    data = Batches([numbered(50)], 8, shuffle=True, seed=5)
    for depth, workers in ((1, 1), (4, 2), (3, 5)):
        stream = data.ahead(7, depth, workers)
        assert all(torch.equal(next(stream), data.batch(step)) for step in range(7, 17))
        stream.close()
    stream = data.ahead(0, rows=slice(4, 8))
    assert torch.equal(next(stream), data.rows(0, 4, 8))
    stream.close()
    found = list(data.ahead(iter([5, 1, 9, 1, 0])))
    assert all(torch.equal(x, data.batch(step)) for x, step in zip(found, (5, 1, 9, 1, 0), strict=True))


def test_closing_ends_the_threads_and_an_error_reaches_the_reader() -> None:
    def threads() -> int:
        return sum(t.name.startswith("uqdm-batches") for t in threading.enumerate())

    stream = Batches([numbered(50)], 8).ahead(0)
    next(stream)
    assert threads() > 0
    stream.close()
    assert threads() == 0
    source = Holes(8, {5}, whole=True)
    stream = Batches([source], 2).ahead(0)
    assert numbers(next(stream)) == [0, 1]
    assert numbers(next(stream)) == [2, 3]
    with pytest.raises(errors.ImageError, match="picture 5"):
        next(stream)
    assert threads() == 0
    with pytest.raises(ValueError, match="neighbouring"):
        Batches([source], 2).ahead(0, rows=slice(None, None, 2))


# --- scale, crop, flip


def test_half_the_scale_is_the_mean_of_two_by_two_blocks() -> None:
    picture = photograph(40, 60)
    means = picture.reshape(20, 2, 30, 2, 3).mean((1, 3))
    data = Batches([[picture]], 1, True, Augment(20, flip=False, scales=(0.5, 0.5)))  # type: ignore[list-item]
    places = set()
    for step in range(20):
        found = data.batch(step)[0].permute(1, 2, 0).numpy()
        fits = [x for x in range(11) if np.abs(found - means[:, x : x + 20]).max() <= 0.5]
        assert len(fits) == 1
        places.add(fits[0])
    assert len(places) > 5


def test_a_piece_of_a_reduced_picture_is_that_piece_of_the_whole_reduced() -> None:
    picture = photograph(90, 120)
    step = 1.5
    whole = np.asarray(Image.fromarray(picture).resize((80, 60), Image.Resampling.BOX))
    for y, x in ((0, 0), (10, 21), (28, 48)):
        assert np.abs(reduced(picture, y, x, 32, step).astype(int) - whole[y : y + 32, x : x + 32]).max() <= 1


def test_scales_are_spread_evenly_in_their_logarithm_and_leave_room_for_the_crop() -> None:
    augment = Augment(64, scales=(0.25, 1.0))
    steps = [augment.step(1000, u) for u in np.linspace(0, 1, 101)]
    assert steps[0] == 4
    assert steps[50] == pytest.approx(2)
    assert steps[100] == 1
    assert augment.step(100, 0.0) == pytest.approx(100 / 64)
    assert augment.step(64, 0.0) == 1
    random = np.random.default_rng(0)
    for h, w in ((64, 64), (65, 200), (301, 97), (64, 1000)):
        for _ in range(50):
            assert augment.drawn(np.zeros((h, w, 3), np.uint8), random.random(4)).shape == (64, 64, 3)
        for numbers in (np.zeros(4), np.full(4, 1 - 2**-53)):
            assert augment.drawn(np.zeros((h, w, 3), np.uint8), numbers).shape == (64, 64, 3)


def test_a_training_picture_is_a_crop_of_its_own_and_every_second_is_flipped() -> None:
    picture = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, 2)
    data = Batches([[picture]], 200, True, Augment(4))  # type: ignore[list-item]
    found = data.batch(0)[:, 0].int()
    flipped = found[:, 0, 0] > found[:, 0, 1]
    corners = torch.where(flipped, found[:, 0, 3], found[:, 0, 0])
    assert 70 < int(flipped.sum()) < 130
    assert len(set(corners.tolist())) > 40  # of 49
    assert not any(
        Batches([[picture]], 50, True, Augment(4, flip=False)).batch(0)[:, 0].int().diff(dim=2).flatten() < 0
    )  # type: ignore[list-item]


def test_options_that_cannot_be_are_refused() -> None:
    for wrong in (
        {"crop": 0},
        {"crop": 8, "scales": (0.5, 2.0)},
        {"crop": 8, "scales": (0.0, 1.0)},
        {"scales": (0.5, 1.0)},
    ):
        with pytest.raises(ValueError, match=r"crop|scales"):
            Augment(**wrong)  # type: ignore[arg-type]


# --- mixtures


def test_weights_are_shares_and_without_them_sizes_are() -> None:
    sources = [numbered(10), numbered(90, first=10), numbered(50, first=100)]
    plain = [k for batch in Batches(sources, 50, True) for k in numbers(batch)]
    assert sum(k < 10 for k in plain) == 10
    data = Batches(sources, 50, True, seed=1, weights=(3, 1, 0))
    drawn = [k for step in range(40) for k in numbers(data.batch(step))]
    assert sum(k < 10 for k in drawn) / 2000 == pytest.approx(0.75, abs=0.03)
    assert max(drawn) < 100
    assert set(drawn) == set(range(100))
    assert torch.equal(data.batch(7), Batches(sources, 50, True, seed=1, weights=(0.75, 0.25, 0)).batch(7))


def test_weights_that_fit_nothing_are_refused() -> None:
    for wrong in ((1,), (1, -1), (0, 0), (1, float("nan"))):
        with pytest.raises(ValueError, match="weights"):
            Batches([numbered(3), numbered(3)], 2, True, weights=wrong)
    with pytest.raises(ValueError, match="shuffle"):
        Batches([numbered(3), numbered(3)], 2, False, weights=(1, 1))
    with pytest.raises(errors.ImageError, match="no pictures"):
        Batches([numbered(3), numbered(0)], 2, True, weights=(1, 1))


# --- broken pictures


def test_the_next_usable_picture_stands_in_for_a_broken_one_which_is_counted_and_warned_about_once() -> None:
    data = Batches([Holes(10, {3, 4, 9})], 5)
    assert data.report() is None
    with pytest.warns(UserWarning, match="picture 3") as caught:
        found = [numbers(batch) for batch in data]
    assert len(caught) == 1
    assert found == [[0, 1, 2, 5, 5], [5, 6, 7, 8, 0]]
    assert data.left_out == {i: f"picture {i} is broken" for i in (3, 4, 9)}
    first = "3 of 10 pictures left out so far; the first: picture 3 is broken"
    assert data.report() == f"{first}\n  picture 4 is broken\n  picture 9 is broken"


@pytest.mark.filterwarnings("ignore:left out")
def test_broken_pictures_change_nothing_about_purity() -> None:
    expected = [Batches([Holes(20, {1, 5, 6, 19})], 6, True).batch(step) for step in range(6)]
    data = Batches([Holes(20, {1, 5, 6, 19})], 6, True)
    assert all(torch.equal(data.batch(step), expected[step]) for step in (5, 2, 0, 4, 1, 3))


def test_a_folders_broken_and_small_pictures_are_left_out(tmp_path: Path) -> None:
    photographs(tmp_path, 11)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    Image.fromarray(photograph(20, 20)).save(tmp_path / "small.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train, held = load_data(tmp_path)
        batches = list(train)
    assert [tuple(b.shape) for b in batches] == [(11, 3, 64, 64)]
    assert next(iter(held)).shape == (2, 3, 64, 64)
    assert len(caught) == 1
    reasons = sorted(train.left_out.values())
    assert "broken.png" in reasons[0]
    assert "small.png: 20 x 20 is smaller than the crop of 64" in reasons[1]
    assert (train.report() or "").startswith("2 of 11")
    assert held.report() is None


def test_where_nothing_is_usable_it_is_an_error() -> None:
    with (
        pytest.warns(UserWarning, match="picture 0"),
        pytest.raises(errors.ImageError, match="none of 3 pictures is usable; the first: picture 0"),
    ):
        Batches([Holes(3, {0, 1, 2})], 2).batch(0)
    with pytest.raises(errors.ImageError, match="picture 0 is broken"):
        Batches([Holes(3, {0}, whole=True)], 2).batch(0)


def test_pictures_are_whole_and_a_slice_of_them_decodes_nothing() -> None:
    source = Holes(100, {20})
    data = Batches([source], 4, augment=Augment(1))
    some = data.pictures[::10][:3]
    assert len(some) == 3
    assert source.asked == []
    with pytest.warns(UserWarning, match="picture 20"):
        assert [int(p[0, 0, 0]) for p in some] == [0, 10, 21]
    assert data.pictures[0].shape == (2, 2, 3)
    assert int(data.pictures[-1][0, 0, 0]) == 99


# --- load_data


def test_a_folder_with_a_division_keeps_it(tmp_path: Path) -> None:
    for part, n in (("train", 3), ("val", 2)):
        photographs(tmp_path / part, n)
    train, held = load_data(tmp_path)
    assert len(train.pictures) == 3
    assert len(held.pictures) == 2


def test_held_data_that_is_given_evaluates_and_all_of_the_source_trains(tmp_path: Path) -> None:
    train, held = load_data(
        [numbered(20), pack(tmp_path / "a.zip", numbered(3, 2, 50))], Config(), held=numbered(30, 2, 100)
    )
    assert sorted(k for batch in train for k in numbers(batch)) == [*range(20), *range(50, 53)]
    assert [k for batch in held for k in numbers(batch)] == list(range(100, 130))


def test_several_sources_are_mixed_and_a_list_of_pictures_is_one(tmp_path: Path) -> None:
    train, held = load_data([numbered(20), numbered(20, first=20)], Config(), weights=(0, 1))
    assert min(numbers(train.batch(0))) > 20
    assert [k for batch in held for k in numbers(batch)] == [0, 10, 20, 30]
    train, held = load_data(list(numbered(20)), Config())
    assert (len(train.pictures), len(held.pictures)) == (18, 2)
    train, held = load_data([str(photographs(tmp_path / "p", 11)), numbered(20, 70)], Config())
    assert train.batch(0).shape == (4, 3, 64, 64)
    assert len(train.pictures) == 10 - 1 + 18


def test_the_published_config_takes_pictures_in_order() -> None:
    from uqdm.config import DataConfig

    train, _ = load_data(numbered(20), DataConfig())
    assert numbers(train.batch(0)) == [1, 2]
    assert not train.shuffle


def test_what_a_config_says_of_crop_flip_and_scale_is_followed_unless_told_otherwise() -> None:
    class Own(Config):
        crop, flip, scale_min, scale_max = 8, False, 0.5, 0.75

    some = np.stack([photograph(32, 32, i) for i in range(11)])
    assert load_data(some, Own())[0].augment == Augment(8, False, (0.5, 0.75))
    assert load_data(some, Own(), crop=16, scales=(1.0, 1.0))[0].augment == Augment(16, False, (1.0, 1.0))


def test_sizes_that_do_not_fit_are_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(errors.ImageError, match="give crop="):
        load_data([numbered(20, 8), numbered(20, 6)])
    with pytest.raises(errors.ImageError, match="smaller than the crop of 16"):
        load_data(numbered(20, 8), crop=16)
    assert load_data([numbered(20, 8), numbered(20, 6)], crop=5)[0].batch(0).shape == (16, 3, 5, 5)
    data = Batches([[photograph(8, 8), photograph(8, 9)]], 2)  # type: ignore[list-item]
    with pytest.raises(errors.ImageError, match="9 x 8 and of 8 x 8"):
        data.batch(0)


def test_nothing_there_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(errors.ImageError, match="no pictures"):
        load_data(tmp_path)
    with pytest.raises(errors.ImageError, match="no usable pictures"):
        load_data([])
    train, _ = load_data(numbered(1))
    assert list(train) == []
    with pytest.raises(errors.ImageError, match="all of them are in the other"):
        next(itertools.islice(train.ahead(0), 1))
