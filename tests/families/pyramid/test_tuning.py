"""Corrections fitted to a picture: told as symbols, applied as integers, worth their bits."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from uqdm.exact.workers import Workers
from uqdm.families.pyramid import tuning
from uqdm.families.pyramid.networks import PyramidMixture
from uqdm.families.pyramid.tuning import BandSample, Layout


@pytest.mark.parametrize("channel", range(3))
def test_what_is_told_is_what_was_chosen(channel: int) -> None:
    random = np.random.default_rng(channel)
    layout = Layout(15, 3, channel)
    exponents = random.integers(0, tuning.EXPONENTS, len(layout.groups))
    quotients = np.rint(random.laplace(0, 12, layout.size)).astype(np.int64).clip(-1023, 1023)
    quotients[::7] = 0
    sizes = tuning.sizes_of(layout, exponents, quotients)
    bits = tuning.bits_of(quotients)
    assert len(bits) == tuning.count_of_bits(layout, sizes)
    assert sizes.max() < tuning.SIZES
    told = tuning.weights_of(layout, sizes, bits)
    assert (told == quotients << np.repeat(exponents, layout.groups)).all()


def test_a_correction_has_a_place_for_every_output_of_its_channel() -> None:
    rows = [set(Layout(12, 3, channel).rows.tolist()) for channel in range(3)]
    assert set.union(*rows) == set(range(33))
    assert sum(map(len, rows)) == 33


def sample(bias: float, spread: float, channel: int = 0, size: int = 8192) -> tuple[BandSample, Layout]:
    """Coefficients whose location is off by `bias` times a neighbour, and whose scale is off by the
    factor `spread`.
    """
    random = np.random.default_rng(1)
    layout = Layout(12, 1, channel)
    planes = random.integers(-200, 200, (9 * 12, size)).astype(np.int32)
    truth = np.rint(bias * planes[9 * 3 + 4] / 8 + random.logistic(0, 2 * spread, size)).astype(np.int64)
    raw = np.zeros((1, 15, 1, size), np.int16)

    def mixture(raw: NDArray[np.int16], base: NDArray[np.int64]) -> PyramidMixture:
        location = base[0, channel, 0] + raw[0, channel, 0].astype(np.int64) * 64
        level = np.clip(48 + (raw[0, 3 + channel, 0].astype(np.int64) >> 6), 0, 127)
        shape = (1, 1, raw.shape[-1], 1)
        ones = np.full(shape, 256, np.uint16)
        return PyramidMixture(
            location.astype(np.int32).reshape(shape), level.astype(np.uint8).reshape(shape), ones, ones[..., 0], None
        )  # type: ignore[arg-type]

    parent = np.full(size, -2000), np.full(size, 2000)
    return BandSample(
        planes, raw, np.zeros((1, 3, 1, size), np.int64), [], [], parent, (truth, truth), 1, mixture
    ), layout


def test_scores_are_the_slopes_of_the_bits() -> None:
    one, layout = sample(0.3, 1.5)
    weights = np.zeros(layout.size, np.int64)
    _bits, (gradients,) = tuning.scores(layout, [one], weights)
    for i, step in ((9 * 3 + 4, 40), (0, 40), (layout.linear - 1, 64), (layout.linear, 8)):
        ends = []
        for sign in (1, -1):
            moved = weights.copy()
            moved[i] += sign * step
            ends.append(tuning.scores(layout, [one], moved, False)[0])
        slope = -(ends[0] - ends[1]) / (2 * step) * np.log(2)
        assert gradients[i].sum() == pytest.approx(
            slope, rel=0.02, abs=0.02 * np.abs(gradients[i]).sum() / np.sqrt(one.size)
        )


def test_a_fit_finds_what_is_wrong_and_only_that() -> None:
    one, layout = sample(0.3, 1.0)
    found = tuning.fit(layout, [one], 1.0)
    assert found is not None
    weights = found[1] << np.repeat(found[0], layout.groups)
    assert weights[9 * 3 + 4] / 4096 == pytest.approx(0.3, abs=0.03)
    others = np.delete(weights[: layout.linear - 1], 9 * 3 + 4)
    assert np.abs(others).max() / 4096 < 0.03
    before, _ = tuning.scores(layout, [one], np.zeros(layout.size, np.int64), False)
    after, _ = tuning.scores(layout, [one], weights, False)
    assert before - after > 10 * tuning.cost(layout, *found)


def test_a_wrong_scale_is_found() -> None:
    one, layout = sample(0.0, 1.3)
    found = tuning.fit(layout, [one], 1.0)
    assert found is not None
    weights = found[1] << np.repeat(found[0], layout.groups)
    assert weights[layout.linear + 1] / 739 == pytest.approx(np.log(1.3), abs=0.06)  # nat() of a raw level


def test_what_is_right_already_is_left_alone() -> None:
    one, layout = sample(0.0, 1.0)
    assert tuning.fit(layout, [one], 1.0) is None


def test_the_fit_is_the_same_whatever_adds_up_its_sums() -> None:
    one, layout = sample(0.2, 1.3)
    turned = np.random.default_rng(5).permutation(one.size)
    parts = {
        "planes": np.ascontiguousarray(one.planes[:, turned]),
        "parent": tuple(end[turned] for end in one.parent),
        "child": tuple(end[turned] for end in one.child),
    }
    a, b = tuning.fit(layout, [one], 1.0), tuning.fit(layout, [dataclasses.replace(one, **parts)], 1.0)
    assert a is not None
    assert b is not None
    assert (a[0] == b[0]).all()
    assert (a[1] == b[1]).all()


def test_the_fit_is_the_same_however_the_sample_is_cut() -> None:
    one, layout = sample(0.2, 1.3)
    workers, parts = Workers(2), [slice(at, at + 1000) for at in range(0, one.size, 1000)]
    pieces = [
        dataclasses.replace(
            one,
            planes=one.planes[:, part],
            raw=one.raw[..., part],
            base=one.base[..., part],
            parent=tuple(end[part] for end in one.parent),
            child=tuple(end[part] for end in one.child),
        )
        for part in parts
    ]
    bits, (whole,) = tuning.scores(layout, [one], np.arange(layout.size))
    again, gradients = tuning.scores(layout, pieces, np.arange(layout.size), True, workers.each)
    assert bits == again
    assert (np.concatenate(gradients, 1) == whole).all()
    a, b = tuning.fit(layout, [one], 1.0), tuning.fit(layout, pieces, 1.0, workers.each)
    assert a is not None
    assert b is not None
    assert (a[0] == b[0]).all()
    assert (a[1] == b[1]).all()


def test_compiled_slopes_are_those_of_numpy_to_the_last_bit() -> None:
    kernels = pytest.importorskip("uqdm.families.pyramid.tuning_kernels")
    random = np.random.default_rng(0)
    for j in (1, 3, 7):
        location = random.integers(-(1 << 24), 1 << 24, (500, j))
        level, share = random.integers(0, 128, (500, j)), random.random((500, j))
        low = random.integers(-200, 200, 500)
        child, parent = (low, low + random.integers(0, 9, 500)), (low - 5, low + random.integers(9, 99, 500))
        for gradients in (False, True):
            given = location, level, share, child, parent, gradients
            for a, b in zip(tuning.slopes(*given), kernels.slopes(*given), strict=True):
                assert (a == b).all()
