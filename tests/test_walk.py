"""The one loop, whoever answers: what is written is read, counted and guessed by the same
questions.
"""

import numpy as np
import pytest
from conftest import photograph
from planes import Planes
from toys import Integers, constants

from uqdm import walk as loop
from uqdm.errors import DamagedError, NumericsError
from uqdm.families.base import Walk
from uqdm.families.uqdm.paper import Paper
from uqdm.families.uqdm.tight import Tight

SHAPE = (9, 12)


@pytest.fixture(params=["planes", "tight", "paper"])
def model(request: pytest.FixtureRequest) -> Walk:
    if request.param == "planes":
        return Planes((3, 2, 3))
    return {"tight": Tight, "paper": Paper}[request.param](constants("ycocg-r"), Integers())


def written(model: Walk) -> tuple[np.ndarray, list[list[bytes]]]:
    """Two pictures (2, 3, H, W), and the payloads of each step."""
    rgb = np.stack([photograph(*SHAPE, i).transpose(2, 0, 1) for i in range(2)])
    writer = loop.Writer(model.values(rgb))
    return rgb, [writer.take() for _ in loop.walk(model, model.start(SHAPE, (3, 4)), writer)]


def test_what_a_writer_writes_a_reader_answers(model: Walk) -> None:
    rgb, steps = written(model)
    assert len(steps) == model.chunks
    state = model.start(SHAPE, (3, 4))
    for number, payloads in enumerate(steps, 1):
        reader = loop.Reader(number, payloads, True, model.side_size)
        state = next(loop.walk(model, state, reader, number))
        reader.finish()
        assert reader.received > 0
        told = [p[model.side_size : model.side_size + loop.CHECK] for p in payloads]
        assert [found.to_bytes(loop.CHECK, "big") for found in reader.checks] == told
    assert state.step == model.chunks
    assert (model.denoise(state) == rgb).all()


def test_an_estimator_counts_what_a_writer_writes_within_0_3_percent_and_4_bytes(model: Walk) -> None:
    rgb, steps = written(model)
    estimator = loop.Estimator(model.values(rgb), model.chunks)
    for _ in loop.walk(model, model.start(SHAPE, (3, 4)), estimator):
        pass
    own = loop.CHECK + model.side_size
    found = 8 * np.array([[len(payload) - own for payload in payloads] for payloads in steps]).T
    assert (np.abs(found - estimator.bits) <= 0.003 * estimator.bits + 32).all()


def test_a_guesser_needs_nothing_but_a_seed_and_gives_the_same_again(model: Walk) -> None:
    ends = [list(loop.walk(model, model.start(SHAPE, (5,)), loop.Guesser(7)))[-1] for _ in range(2)]
    assert ends[0].step == model.chunks
    assert (model.denoise(ends[0]) == model.denoise(ends[1])).all()


def test_a_reader_of_a_beginning_is_extended_and_goes_on_from_there() -> None:
    model = Tight(constants("ycocg-r"), Integers())
    values = model.values(photograph(*SHAPE).transpose(2, 0, 1)[None])
    writer = loop.Writer(values)
    start = model.start(SHAPE, (3,))
    next(loop.walk(model, start, writer))
    payload = writer.take()[0]
    reader = loop.Reader(1, [payload[: len(payload) * 2 // 3]], False, model.side_size)
    part = next(loop.walk(model, start, reader, 1))
    assert part.cut
    before = reader.received
    reader.extend(payload, True)
    assert next(loop.walk(model, start, reader, 1)).step == 1
    reader.finish()
    assert values.size >= reader.received > before > 0


def test_progress_is_told_after_each_part() -> None:
    model, told = Planes((3, 2, 3)), []
    for _ in loop.walk(model, model.start(SHAPE, (0,)), loop.Guesser(0), 2, lambda *now: told.append(now)):
        pass
    assert told == [(1, 1, 1), (2, 1, 1)]


def test_a_payload_that_no_encoder_writes_and_a_check_that_differs_are_errors() -> None:
    model = Planes((3, 2, 3))
    payload = written(model)[1][0][0]
    for wrong in (payload[:3], payload + b"\0"):
        with pytest.raises(DamagedError, match="not one that an encoder writes"):
            loop.Reader(1, [wrong], True, 0)
    reader = loop.Reader(1, [bytes([payload[0] ^ 1]) + payload[1:]], True, 0)
    next(loop.walk(model, model.start(SHAPE, (3,)), reader, 1))
    with pytest.raises(NumericsError, match="step 1"):
        reader.finish()
