"""Tables, cells and symbols for the tests of the ground floor: like those of real steps, and as bad
as the limits allow.
"""

import dataclasses

import numpy as np
from hypothesis import strategies as st

from uqdm.entropy import tables
from uqdm.entropy.tables import FRACTION, ONE, PRECISION, Cells


def rows(n: int, k: int, seed: int = 0, shape: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Random integer tables (n, k) and symbols drawn from them; the smaller `shape`, the more has
    one symbol of the mass.
    """
    random = np.random.default_rng(seed)
    weights = random.gamma(shape, size=(n, k)) + 1e-9
    cuts = np.floor(np.cumsum(weights, 1) / weights.sum(1, keepdims=True) * (2**PRECISION - k)).astype(
        np.int64
    ) + np.arange(1, k + 1)
    cuts[:, -1] = 2**PRECISION
    masses = np.diff(cuts, axis=1, prepend=0)
    symbols = (cuts <= random.integers(0, 2**PRECISION, (n, 1))).sum(1)
    return symbols, masses


def cells(n: int, seed: int = 0, wide: bool = False) -> tuple[np.ndarray, Cells]:
    """Like those of a real step, and symbols drawn from them: 40 to 60 integers in intervals of
    5.2, or 5 to 13 single ones.
    """
    random = np.random.default_rng(seed)
    size = random.integers(40, 61, n) if wide else random.integers(5, 14, n)
    low = random.integers(0, 256 - size)
    width = np.full(n, int(5.2 * ONE) if wide else ONE)
    start = (low << FRACTION) - (random.integers(0, width) if wide else 0)
    level = np.rint(
        (np.log2(size / 3) + random.normal(0, 0.3, n) - tables.LOWEST_OCTAVE) * tables.LEVELS_PER_OCTAVE
    ).astype(np.int64)
    location = np.rint((low - 0.5 + random.uniform(0, 1, n) * size) * 8).astype(np.int64) << (FRACTION - 3)
    made = Cells(
        low.astype(np.int32), (low + size - 1).astype(np.int32), start, width, location, level.astype(np.uint8)
    )
    cuts = np.cumsum(made.masses(slice(None)), 1)
    chances = random.integers(0, np.take_along_axis(cuts, made.children[:, None] - 1, 1))
    return (cuts <= chances).sum(1), made


def mixed(made: Cells, count: int, seed: int = 0) -> Cells:
    """The same under mixtures of `count` logistics, one of them the one that was there."""
    random = np.random.default_rng(seed)
    shape = (made.size, count)
    weight = rows(made.size, count, seed)[1] * (256 - count) // 2**PRECISION + 1
    weight[:, 0] += 256 - weight.sum(1)
    location = (
        made.location[:, None] + np.rint(random.normal(0, 8, shape) * (np.arange(count) > 0)).astype(np.int64) * ONE
    )
    level = np.clip(made.level.astype(np.int64)[:, None] + random.integers(-20, 20, shape), 0, tables.LEVELS - 1)
    return dataclasses.replace(
        made, location=np.clip(location, -(2**30), 2**30), level=level.astype(np.uint8), weight=weight.astype(np.uint16)
    )


@st.composite
def extreme(draw: st.DrawFn) -> tuple[np.ndarray, Cells]:
    """Any cells that the limits allow, and any symbols of theirs; of one logistic, or of some."""
    found = []
    for _ in range(draw(st.integers(1, 12))):
        low = draw(st.integers(tables.LOWEST, tables.HIGHEST))
        high = min(low + draw(st.one_of(st.integers(0, 12), st.integers(0, 2 * tables.HIGHEST))), tables.HIGHEST)
        least = max(16, -(-((high - low) << FRACTION) // (tables.MOST - 1)) + 1)
        width = draw(st.one_of(st.integers(least, 2**31 - 1), st.integers(least, least + 3), st.just(max(least, ONE))))
        start = (low << FRACTION) - draw(st.one_of(st.integers(0, width - 1), st.just(0), st.just(width - 1)))
        near = draw(st.integers(low - 3, high + 3)) << FRACTION
        location = draw(st.one_of(st.integers(-(2**30), 2**30), st.integers(near - ONE, near + ONE)))
        children = ((high << FRACTION) - start) // width + 1
        if children > tables.MOST:
            start, children = low << FRACTION, ((high - low) << FRACTION) // width + 1
        symbol = draw(st.one_of(st.integers(0, children - 1), st.just(0), st.just(children - 1)))
        found.append((symbol, low, high, start, width, location, draw(st.integers(0, tables.LEVELS - 1))))
    symbols, low, high, start, width, location, level = (np.array(a, np.int64) for a in zip(*found))
    made = Cells(low.astype(np.int32), high.astype(np.int32), start, width, location, level.astype(np.uint8))
    count = draw(st.sampled_from([1, 1, 2, 3]))
    return symbols, mixed(made, count, draw(st.integers(0, 99))) if count > 1 else made
