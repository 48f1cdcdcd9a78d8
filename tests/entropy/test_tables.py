"""Integer tables: they sum exactly, hold no zero, follow the logistic, survive every tail, and
depend on nothing around them.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uqdm.entropy import choice, coder, tables
from uqdm.entropy.tables import FRACTION, ONE, Cells
from uqdm.errors import LimitError

from .worlds import cells, extreme


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
        st.tuples(
            st.integers(-(10**7), 3 * 10**7),
            st.integers(0, 127),
            st.lists(st.integers(0, 10**6), min_size=1, max_size=12),
        ),
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
    assert m.shape == (len(rows), k + 1)
    for i, (_, _, gaps) in enumerate(rows):  # alone, without the columns that its neighbours need
        n = len(gaps)
        assert (
            tables.truncated(cuts[i : i + 1, : n + 1], location[i : i + 1], level[i : i + 1])[0, :n] == m[i, :n]
        ).all()
        assert (m[i, n:k] == 1).all()


def test_truncated_rows_follow_the_density_inside_the_box() -> None:
    cuts = ((np.arange(13) + 97) * ONE - ONE // 2)[None]
    location, level = np.array([104 * ONE + ONE // 3]), np.array([48])  # scale 2
    found = tables.truncated(cuts, location, level)[0, :-1] / 2**tables.PRECISION
    f = logistic((cuts[0] - location) / ONE / 2)
    assert np.allclose(found, np.diff(f) / (f[-1] - f[0]), rtol=2e-3)


def test_a_box_far_outside_the_density_is_uniform_over_its_own_children() -> None:
    cuts = (np.array([[200, 201, 202, 203, 203]]) << tables.FRACTION).astype(np.int64)
    m = tables.truncated(cuts, np.array([0]), np.array([0]))[0]
    assert abs(m[0] - m[2]) <= 2
    assert m[0] > 5_000_000
    assert m[3] == 1
    assert m[4] == tables.RESERVED - 4


def test_the_bell_is_a_normal() -> None:
    bell = tables.normal(0.32, 3) / 2**30
    d = np.arange(len(bell)) / 256
    assert np.allclose(bell, np.maximum(np.exp(-d * d / 2 / 0.32**2), 2.0**-30), atol=1e-9)


# --- cells


def by_definition(world: Cells, i: int) -> tuple[list[int], int]:
    """Coordinate i's masses and number of children, from the definition, integer by integer."""
    low, high, start, width = (int(a[i]) for a in (world.low, world.high, world.start, world.width))
    n = ((high << FRACTION) - start) // width + 1
    first = [low] + [min(-((-start - k * width) >> FRACTION), high + 1) for k in range(1, n)] + [high + 1]
    edges = (np.array(first) << FRACTION) - ONE // 2
    weight = world.weight[i].tolist() if world.weight is not None else [256]
    parts = zip(weight, np.ravel(world.location[i]), np.ravel(world.level[i]))
    f = (sum(w * tables.cdf(edges, place, np.int64(level)) for w, place, level in parts) >> 8).tolist()
    if f[0] == f[-1]:
        f = list(range(n + 1))
    cum = [(v - f[0]) * (2**24 - 1024) // (f[-1] - f[0]) + j for j, v in enumerate(f)]
    return [b - a for a, b in itertools.pairwise(cum)], n


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(extreme())
def test_cells_have_the_tables_that_the_format_defines(world: tuple[np.ndarray, Cells]) -> None:
    symbols, asked = world
    table = asked.masses(slice(None))
    left, mass = asked.intervals(symbols)
    assert (table.sum(1) == 2**tables.PRECISION).all()
    assert table.min() >= 1
    assert table.shape[1] == asked.children.max() + 1
    for i, symbol in enumerate(symbols):
        expected, n = by_definition(asked, i)
        assert asked.children[i] == n
        assert table[i, :n].tolist() == expected
        assert (left[i], mass[i]) == (sum(expected[:symbol]), expected[symbol])
        assert asked.masses(slice(i, i + 1))[0, :n].tolist() == expected


def test_every_integer_of_a_box_belongs_to_the_child_whose_interval_holds_it() -> None:
    _, asked = cells(300, wide=True)
    for i in range(asked.size):
        v = np.arange(asked.low[i], asked.high[i] + 1)
        child = ((v << FRACTION) - asked.start[i]) // asked.width[i]
        assert child[0] == 0
        assert child[-1] == asked.children[i] - 1
        # The share of a child is that of its integers, each from half below to half above.
        ends = np.append(v, v[-1] + 1) * ONE - ONE // 2
        f = np.diff(tables.cdf(ends, asked.location[i], np.int64(asked.level[i]))).astype(float)
        shares = np.bincount(child, f) / f.sum()
        assert np.allclose(asked.masses(slice(i, i + 1))[0, :-1] / 2**24, shares, atol=1e-4)


def test_a_slice_of_cells_is_those_cells() -> None:
    _, asked = cells(50)
    part = asked[10:30]
    assert part.size == 20
    assert (part.children == asked.children[10:30]).all()
    assert (part.masses(slice(3, 7))[:, :3] == asked.masses(slice(13, 17))[:, :3]).all()


@settings(deadline=None, max_examples=50)
@given(extreme(), st.integers(1, 40), st.integers(1, 9))
def test_tables_of_likely_children_are_the_whole_ones_with_the_others_added_up(
    world: tuple[np.ndarray, Cells], begin: int, count: int
) -> None:
    asked = world[1]
    first = np.minimum(begin, np.maximum(1, asked.children - count))
    for i, (row, near) in enumerate(zip(asked.masses(slice(None)), asked.masses_near(first, count))):
        n, at = int(asked.children[i]), int(first[i])
        kept = [int(row[:at].sum()), *row[at : min(at + count, n)].tolist()]
        assert near[: len(kept)].tolist() == kept
        assert near.min() >= 1
        assert near.sum() == 1 << tables.PRECISION


def test_tables_of_more_children_than_are_reserved_for_are_refused() -> None:
    assert tables.masses(np.arange(1024)[None], 1023).min() >= 1
    with pytest.raises(LimitError, match="1024 children"):
        tables.masses(np.arange(1025)[None], 1024)


def test_what_lies_outside_a_table_has_no_symbol() -> None:
    # Three children with a quarter of the total: the last column holds the other three quarters.
    m = tables.masses(np.array([[0, 1 << 32, 1 << 33, 1 << 34, 1 << 34]]), 1 << 36)[0]
    assert m.tolist() == [1048513, 1048513, 2097025, 1, 2**24 - 2 * 1048513 - 2097026]


# --- means


def exact_mean(location: float, scale: float, low: float, high: float) -> float:
    """Mean of the logistic truncated to low .. high, by Simpson's rule on the density seen from its
    highest point.
    """
    t = (np.linspace(low, high, 20001) - location) / scale
    log_density = -np.abs(t) - 2 * np.log1p(np.exp(-np.abs(t)))
    top = t[log_density.argmax()]
    # Where the box is many scales wide, only the part near the density's highest point counts; look
    # at that alone.
    t = np.linspace(max(t[0], top - 45), min(t[-1], top + 45), 20001)
    log_density = -np.abs(t) - 2 * np.log1p(np.exp(-np.abs(t)))
    weight = np.exp(log_density - log_density.max()) * np.array([1, *[4, 2] * 9999, 4, 1])
    return location + scale * float((weight * t).sum() / weight.sum())


@pytest.mark.parametrize("seed", range(4))
def test_means_are_right_to_a_hundredth_of_the_scale_and_of_the_box(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = 500
    size = np.maximum(1, np.round(2 ** random.uniform(0, 9, n))).astype(int)
    low = random.integers(-300, 300, n)
    high = low + size - 1
    level = random.integers(0, tables.LEVELS, n)
    scale = 2 ** (level / 8 - 5)
    location = (low + high) / 2 + random.normal(0, 1, n) * np.where(random.random(n) < 0.5, size, 40 * scale)
    location = np.rint(np.clip(location, -(2**14), 2**14) * ONE).astype(np.int64)
    found = tables.mean(location, level, low, high) / ONE
    expected = np.array([exact_mean(m / ONE, s, a - 0.5, b + 0.5) for m, s, a, b in zip(location, scale, low, high)])
    error = np.abs(found - np.clip(expected, low, high))
    assert (error / scale).max() < 0.01
    assert (error / size).max() < 0.01


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**30), 2**30),
            st.integers(0, 127),
            st.integers(tables.LOWEST, tables.HIGHEST),
            st.one_of(st.integers(0, 9), st.integers(0, 2**16)),
        ),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_means_lie_in_their_boxes_and_are_the_same_from_all(rows: list[tuple[int, int, int, int]], near: bool) -> None:
    location, level, low, size = (np.array(a, np.int64) for a in zip(*rows))
    high = np.minimum(low + size, tables.HIGHEST)
    if near:
        location = np.clip((low << FRACTION) + location % (9 * ONE) - 4 * ONE, -(2**30), 2**30)
    answers = {name: tables.mean(location, level, low, high, name) for name in coder.available()}
    found = answers["plain"]
    assert found.dtype == np.int32
    assert (found >= low << FRACTION).all()
    assert (found <= high << FRACTION).all()
    assert (found[low == high] == low[low == high] << FRACTION).all()
    assert all((other == found).all() for other in answers.values())
    # Mirrored, the mean is mirrored: what rounding leaves is far below a thousandth.
    mirrored = tables.mean(-location, level, -high, -low)
    assert np.abs(mirrored.astype(np.int64) + found).max() <= 2 + np.exp2(level.max() / 8 - 5)


def test_a_box_far_out_has_its_mean_one_scale_from_its_near_end() -> None:
    # Beyond the stored distribution's reach the density is an exponential, and its mean is one
    # scale inside.
    location, level = np.int64(0), np.int64(40)  # scale 1
    found = tables.mean(location, level, np.array([300, -600]), np.array([600, -300])) / ONE
    assert np.allclose(found, [300 - 0.5 + 1, -300 + 0.5 - 1], atol=1e-3)
    found = tables.mean(location, level, np.array([300]), np.array([301])) / ONE
    assert math.isclose(found[0], 299.5 + 1 - 2 / math.expm1(2), abs_tol=1e-3)


def test_means_of_small_integer_types_and_other_shapes_are_the_same() -> None:
    random = np.random.default_rng(2)
    low = random.integers(0, 200, (3, 5, 7))
    location, level = random.integers(0, 200 * ONE, (3, 5, 7)), random.integers(0, 128, (3, 5, 7))
    expected = tables.mean(location, level, low, low + 9)
    small = tables.mean(
        location.astype(np.int32), level.astype(np.uint8), low.astype(np.int16), (low + 9).astype(np.int32)
    )
    assert expected.shape == (3, 5, 7)
    assert (small == expected).all()
    assert (
        tables.mean(location, level[..., ::-1], low, low + 9)[..., ::-1]
        == tables.mean(location[..., ::-1], level, low[..., ::-1], low[..., ::-1] + 9)
    ).all()
    assert tables.mean(np.int64(0), np.int64(3), np.int64(5), np.int64(5)) == 5 * ONE


def test_more_means_than_a_block_holds_are_those_of_each() -> None:
    low = np.arange(150_000) % 251
    location = np.arange(150_000) * 97 % (256 * ONE)
    level = np.arange(150_000) % 128
    found = tables.mean(location, level, low, low + 4)
    pick = np.array([0, 65535, 65536, 131071, 131072, 149_999])
    assert (found[pick] == tables.mean(location[pick], level[pick], low[pick], low[pick] + 4)).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_mixtures_mean_is_that_of_its_density_in_the_box(count: int) -> None:
    random = np.random.default_rng(1)
    low = random.integers(-40, 40, 300).astype(np.int16)
    high = (low + random.integers(0, 30, 300)).astype(np.int16)
    location = random.integers(-50 * ONE, 70 * ONE, (300, count)).astype(np.int32)
    level = random.integers(30, 70, (300, count)).astype(np.uint8)
    weight = np.full((300, count), 256 // count, np.uint16)
    weight[:, 0] += 256 % count
    found = tables.mixture_mean(location, level, weight, low, high) / ONE
    assert (found >= low).all()
    assert (found <= high).all()
    points = low[:, None] - 0.5 + (high - low + 1)[:, None] * (np.arange(4000) + 0.5) / 4000
    scale = 2.0 ** (level / 8 - 5)
    t = np.abs(points[:, None] - location[..., None] / ONE) / scale[..., None]
    density = (weight[..., None] * np.exp(-t) / (1 + np.exp(-t)) ** 2 / scale[..., None]).sum(1)
    there = (
        density.sum(1) / 4000 * (high - low + 1) / 256 > 1e-5
    )  # elsewhere masses in 2**-36, less 12 bits, say little
    expected = np.clip((density * points).sum(1) / density.sum(1), low, high)
    assert there.mean() > 0.6
    assert np.abs(found - expected)[there].max() < 0.06


def test_all_coders_give_the_same_means_of_mixtures() -> None:
    random = np.random.default_rng(2)
    low = random.integers(-400, 400, 2000).astype(np.int16)
    high = (low + random.integers(0, 300, 2000) ** 2 // 300 - (random.random(2000) < 0.01)).astype(np.int16)
    location = random.integers(-(1 << 30), 1 << 30, (2000, 3)).astype(np.int32) >> random.integers(0, 12, (2000, 1))
    level = random.integers(0, 128, (2000, 3)).astype(np.uint8)
    weight = random.multinomial(253, [0.6, 0.3, 0.1], 2000).astype(np.uint16) + np.uint16(1)
    found = [tables.mixture_mean(location, level, weight, low, high, name) for name in choice.available()]
    for other in found[1:]:
        assert (other == found[0]).all()
