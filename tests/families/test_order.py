"""The order inside a step: a permutation, coarse before fine, most uncertain first, whatever the
size and the runs.
"""

import numpy as np
import pytest
from conftest import photograph
from toys import SPACES, Floats, Integers, ToyCodec, constants

from uqdm.families import order
from uqdm.families.uqdm.paper import Paper
from uqdm.families.uqdm.tight import Tight
from uqdm.walk import Writer, walk

SIZES = [(1, 1), (1, 2), (2, 1), (1, 17), (23, 1), (2, 2), (3, 5), (8, 8), (16, 9), (31, 33), (5, 64)]


@pytest.mark.parametrize("size", SIZES)
def test_the_lattice_takes_every_position_once_and_coarse_grids_before_fine_ones(size) -> None:
    found = order.lattice(*size)
    assert sorted(found.tolist()) == list(range(size[0] * size[1]))
    y, x = found // size[1], found % size[1]
    # The finest grid that a position lies on only: how often 2 divides both of its coordinates.
    together = np.where((y | x) == 0, 64, [(int(a | b) & -int(a | b)).bit_length() for a, b in zip(y, x)])
    assert (np.diff(together) <= 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_beginning_of_the_lattice_is_the_lattice_of_the_picture_of_every_second_pixel(size) -> None:
    h, w = size
    half = ((h + 1) // 2, (w + 1) // 2)
    if half == size:
        return
    coarse = order.lattice(*half)
    y, x = coarse // half[1], coarse % half[1]
    assert (order.lattice(h, w)[: len(coarse)] == 2 * y * w + 2 * x).all()


def test_priorities_go_down_equals_keep_their_order_and_zero_is_not_asked() -> None:
    random = np.random.default_rng(0)
    for size in (0, 1, 2, 1000):
        priority = random.choice(np.array([0, 1, 2, 7, 254, 255], np.uint8), size)
        found = order.by_priority(priority)
        expected = sorted(np.flatnonzero(priority).tolist(), key=lambda i: -int(priority[i]))  # Python's sort is stable
        assert found.tolist() == expected


@pytest.mark.parametrize("run", [1, 7, 64, 1000])
def test_runs_cover_everything_once(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "RUN", run)
    for size in SIZES:
        runs = [order.run(size, k) for k in range(order.runs(size))]
        assert max(map(len, runs)) <= run
        assert min(map(len, runs)) >= 1
        assert sorted(np.concatenate(runs).tolist()) == list(range(size[0] * size[1]))


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("mode", ["tight", "paper"])
def test_pictures_of_several_runs_come_back_whole_and_cut(mode, space, grey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "RUN", 64)
    picture = photograph(15, 14)
    picture = picture[..., 1] if grey else picture
    for network in (Integers(), Floats(sees_z=True)):
        toy = ToyCodec(network, space)
        data = toy.compress([picture, picture[::-1]], mode=mode, seed=3)
        assert (toy.decompress(data[1]) == picture[::-1]).all()
        assert toy.compress(picture[::-1], mode=mode, seed=3) == data[1]
        for n in range(60, len(data[0]), 97):
            decoded = toy.decode(data[0][:n])
            assert np.abs(decoded.image.astype(int) - picture).max() <= decoded.bound
        assert (toy.decompress(data[0]) == picture).all()


@pytest.mark.parametrize("family", [Tight, Paper])
def test_all_runs_of_a_step_are_asked_with_what_the_network_said_at_its_start(
    family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "RUN", 50)
    network = Floats()
    model = family(constants("ycocg-r"), network)
    rgb = photograph(15, 14).transpose(2, 0, 1)[None]
    writer = Writer(model.values(rgb))
    start = model.start((15, 14), (0,))
    assert model.parts(start) == 5
    states = [start]
    for state in walk(model, start, writer):
        writer.take()
        states.append(state)
    assert [step for step, _, _ in network.calls] == [0, 1, 2, 3]
    for (_, low, high), state in zip(network.calls, states):
        assert (low == state.low).all()
        assert (high == state.high).all()


def test_the_most_uncertain_coordinates_are_asked_first() -> None:
    model = Tight(constants("ycocg-r"), Integers())
    writer = Writer(model.values(photograph(20, 20).transpose(2, 0, 1)[None]))
    state = model.start((20, 20), (0,))
    for following in walk(model, state, writer, 3):
        writer.take()
        question = model.question(state, 0, model.side(state))[0]
        level = model.predict(state).level.reshape(-1)[question.asked].astype(int)
        turn = level + np.array(model.constants.priority)[question.asked // 400]
        assert (np.diff(turn) <= 0).all()
        state = following
