"""What a file is to reach: steps, bits per pixel, bytes, decibels, the largest error; and the
shortest beginning that does.
"""

from typing import Any

import numpy as np
import pytest

import uqdm
from uqdm import format, goals
from uqdm.quality import psnr


@pytest.fixture(scope="module")
def nano() -> uqdm.Codec:
    return uqdm.load("nano")


def picture(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """Waves and some noise, (H, W, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 9
    waves = [np.sin(y * a + x * b) for a, b in random.uniform(-1, 1, (3, 2))]
    return np.clip(128 + 60 * np.stack(waves, -1) + random.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)


def quality(codec: uqdm.Codec, data: bytes, image: np.ndarray) -> float:
    return psnr(float(np.mean((codec.decompress(data).astype(int) - image) ** 2)))


def test_the_search_ends_where_the_value_is_reached_and_is_short() -> None:
    random = np.random.default_rng(3)
    counts = []
    for trial in range(60):
        size = int(random.integers(2, 50_000))
        curve = (
            np.cumsum(random.normal(1, 6 * (trial % 3), size + 1)) / size
        )  # the more a trial has by chance, the less it only grows
        wanted = float(random.uniform(curve[0], curve[-1]))
        if not curve[0] < wanted <= curve[-1]:
            continue
        asked: list[int] = []

        def at(place: int, curve: Any = curve, asked: list[int] = asked) -> float:
            asked.append(place)
            return float(curve[place])

        found = goals.crossing(at, wanted, 0, float(curve[0]), size, float(curve[-1]))
        assert curve[found] >= wanted > curve[found - 1]
        assert len(asked) == len(set(asked)) <= 3 * np.log2(size) + 3
        counts.append(len(asked) / np.log2(size))
    assert len(counts) > 30
    assert np.mean(counts) < 1
    jump = goals.crossing(lambda place: 99.0 if place >= 99_998 else 30.0, 60, 0, 30.0, 100_000, 99.0)
    assert jump == 99_998


def test_a_goal_in_steps_bits_or_bytes_is_a_beginning_of_the_whole_file(nano: uqdm.Codec) -> None:
    image = picture(1)
    whole = nano.compress(image)
    assert nano.compress(image, step=2) == uqdm.truncate(whole, step=2)
    assert nano.compress(image, step=0) == uqdm.truncate(whole, step=0)
    for bpp in (0.7, 3.0):
        assert nano.compress(image, bpp=bpp) == uqdm.truncate(whole, bpp=bpp)
    assert nano.compress(image, target_size=900) == whole[:900]
    assert nano.compress(image, target_size=len(whole) + 1) == whole
    assert nano.compress([image, image[::-1]], target_size=900) == [
        whole[:900],
        nano.compress(image[::-1].copy())[:900],
    ]


def test_networks_run_no_further_than_a_goal_needs(nano: uqdm.Codec) -> None:
    within = format.ends(format.parse(nano.compress(picture(2), step=1)))[1] - 20
    for goal in ({"step": 1}, {"bpp": 8 * within / (40 * 56)}, {"target_size": within}, {"psnr": 12}):
        reached: list[int] = []
        nano.compress(picture(2), progress=lambda step, part, parts, reached=reached: reached.append(step), **goal)
        assert max(reached) == 1, goal


@pytest.mark.parametrize("wanted", [18.0, 24.5, 31.0, 44.0])
def test_a_psnr_is_reached_and_with_one_byte_less_it_is_not(nano: uqdm.Codec, wanted: float) -> None:
    image = picture(3)
    data = nano.compress(image, psnr=wanted)
    assert data == nano.compress(image)[: len(data)]
    assert quality(nano, data, image) >= wanted
    assert quality(nano, data[:-1], image) < wanted


def test_a_psnr_that_no_preview_has_is_the_whole_file(nano: uqdm.Codec) -> None:
    image = picture(4)
    assert nano.compress(image, psnr=float("inf")) == nano.compress(image)
    assert nano.compress(image, psnr=98.0) == nano.compress(image)


def test_each_picture_of_a_batch_reaches_its_own_size(nano: uqdm.Codec) -> None:
    some = [picture(5), np.full((40, 56, 3), 90, np.uint8), picture(6)]
    for image, data in zip(some, nano.compress(some, psnr=30)):
        assert data == nano.compress(image, psnr=30)


def test_grey_and_alpha_have_goals_too(nano: uqdm.Codec) -> None:
    grey = picture(7)[:, :, 0]
    data = nano.compress(grey, psnr=28)
    assert quality(nano, data, grey) >= 28 > quality(nano, data[:-1], grey)
    clear = np.dstack([picture(8), picture(9)[:, :, :1]])
    decoded = nano.decode(nano.compress(clear, psnr=28)).image
    assert (decoded[:, :, 3] == clear[:, :, 3]).all()
    assert psnr(float(np.mean((decoded[:, :, :3].astype(int) - clear[:, :, :3]) ** 2))) >= 28


def test_the_default_model_reaches_goals_and_tells_no_error_of_steps_that_it_did_not_write() -> None:
    codec, image = uqdm.load(), picture(10, 128, 129)
    data = codec.compress(image, step=2)
    errors = format.parse(data).payload(format.ERRORS)
    assert errors is not None
    assert len(errors) == codec.steps - 1
    assert max(errors[:2]) < 255
    assert set(errors[2:]) == {255}
    assert codec.decode(data).bound == errors[1]
    good = codec.compress(image, psnr=33)
    assert quality(codec, good, image) >= 33 > quality(codec, good[:-1], image)


@pytest.mark.parametrize(
    ("goal", "error", "words"),
    [
        ({"bpp": 1, "step": 1}, ValueError, "step=1 and bpp=1 cannot be used together"),
        ({"psnr": 0}, ValueError, "psnr 0; expected a number of decibels above 0"),
        ({"step": 1.0}, TypeError, "step 1.0; expected a whole number"),
        ({"step": 99}, uqdm.LimitError, "step 99 was asked for; the model nano has steps 0 to"),
        (
            {"target_size": 20},
            uqdm.LimitError,
            "20 bytes were asked for, but header, metadata and the first of the picture take",
        ),
    ],
)
def test_goals_that_make_no_sense_are_refused(
    nano: uqdm.Codec, goal: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        nano.compress(picture(11), **goal)
