"""Integer tables: they sum exactly, hold no zero, follow the logistic, and survive every tail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqdm.entropy import tables

ONE = 1 << tables.FRACTION


def logistic(t: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(t, -700, 700)))


def test_the_stored_distribution_is_the_logistic_and_never_falls() -> None:
    table = tables.logistic_cdf()
    t = np.arange(len(table)) / 128 - tables.REACH
    assert np.abs(table / 2**tables.CDF_BITS - logistic(t)).max() < 1e-10
    assert (np.diff(table) >= 0).all()
    assert table[0] == 0
    assert table[-1] == 2**tables.CDF_BITS
    assert (table + table[::-1] == 2**tables.CDF_BITS).all()


@pytest.mark.parametrize("level", [0, 3, 40, 77, 127])
def test_the_distribution_function_is_right_between_its_cells(level: int) -> None:
    scale = 2 ** (level / 8 - 5)
    location = np.int64(100 * ONE + 77)
    position = location + np.round(np.linspace(-23, 23, 20001) * scale * ONE).astype(np.int64)
    found = tables.cdf(position, location, np.int64(level)) / 2**tables.CDF_BITS
    expected = logistic((position - location) / ONE / scale)
    assert np.abs(found - expected).max() < 5e-6
    inner = (expected > 1e-5) & (expected < 1 - 1e-5)
    assert np.abs(found / expected - 1)[inner].max() < 2e-4
    assert (np.diff(found) >= 0).all()


@given(
    st.lists(
        st.tuples(st.integers(-(10**7), 3 * 10**7), st.integers(0, 127), st.lists(st.integers(0, 10**6), min_size=1, max_size=12)),
        min_size=1,
    ),
)
def test_any_row_sums_exactly_and_leaves_every_symbol_codable(rows: list[tuple[int, int, list[int]]]) -> None:
    k = max(len(gaps) for _, _, gaps in rows)
    cuts = np.array([np.cumsum([0, 1, *gaps[1:], *[0] * (k - len(gaps))]) for _, _, gaps in rows], np.int64)
    location, level = (np.array(a, np.int64) for a in zip(*[(r[0], r[1]) for r in rows]))
    m = tables.truncated(cuts, location, level)
    assert (m.sum(1) == 2**tables.PRECISION).all()
    assert m.min() >= 1


def test_truncated_rows_follow_the_density_inside_the_box() -> None:
    cuts = ((np.arange(13) + 97) * ONE - ONE // 2)[None]
    location, level = np.array([104 * ONE + ONE // 3]), np.array([48])  # scale 2
    found = tables.truncated(cuts, location, level)[0] / 2**tables.PRECISION
    f = logistic((cuts[0] - location) / ONE / 2)
    assert np.allclose(found, np.diff(f) / (f[-1] - f[0]), rtol=2e-3)


def test_a_box_far_outside_the_density_is_uniform_over_its_own_children() -> None:
    cuts = (np.array([[200, 201, 202, 203, 203]]) << tables.FRACTION).astype(np.int64)
    m = tables.truncated(cuts, np.array([0]), np.array([0]))[0]
    assert abs(m[0] - m[2]) <= 2
    assert m[0] > 5_000_000
    assert m[3] <= 2


def test_levels_and_grids_round_to_the_nearest() -> None:
    log2 = np.linspace(-6, 12, 1001)
    level = tables.nearest_level(log2)
    inside = (log2 > -5) & (log2 < 10.8)
    assert np.abs(level / 8 - 5 - log2)[inside].max() <= 1 / 16 + 1e-12
    assert level.min() == 0
    assert level.max() == tables.LEVELS - 1
    location = np.random.default_rng(0).uniform(-300, 300, 1000)
    levels = np.full(1000, 43)
    grid = tables.on_grid(location, levels, np.full(1000, 30))
    assert np.abs(grid / ONE - location).max() <= 2 ** (43 // 8 - 5) / 16
    assert np.abs(tables.on_grid(location, np.full(1000, 127), np.full(1000, 12)) / ONE - location).max() <= 2**12 / ONE / 2
    assert (tables.on_grid(np.array([1e300, -1e300]), np.array([43, 43]), np.array([12, 12])) >> 16).tolist() == [2**14, -(2**14)]


def test_the_bell_is_a_normal() -> None:
    bell = tables.normal(0.32, 3) / 2**30
    d = np.arange(len(bell)) / 256
    assert np.allclose(bell, np.maximum(np.exp(-d * d / 2 / 0.32**2), 2.0**-30), atol=1e-9)
