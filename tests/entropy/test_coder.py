"""The coder: what goes in comes out, at the length that the tables promise."""

import numpy as np
import pytest

from uqdm.entropy import coder, randomness
from uqdm.entropy.tables import PRECISION


def rows(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random integer tables and symbols drawn from them."""
    random = np.random.default_rng(seed)
    weights = random.gamma(0.3, size=(n, k)) + 1e-9
    cuts = np.floor(np.cumsum(weights, 1) / weights.sum(1, keepdims=True) * (2**PRECISION - k)).astype(np.int64) + np.arange(1, k + 1)
    cuts[:, -1] = 2**PRECISION
    masses = np.diff(cuts, axis=1, prepend=0)
    symbols = (cuts <= random.integers(0, 2**PRECISION, (n, 1))).sum(1)
    return symbols, masses


@pytest.mark.parametrize(("n", "k"), [(0, 3), (1, 2), (7, 300), (5000, 12)])
def test_symbols_come_back_and_cost_what_their_tables_say(n: int, k: int) -> None:
    symbols, masses = rows(n, k)
    encoder = coder.Encoder()
    for part in (slice(0, n // 2), slice(n // 2, n)):
        encoder.encode(symbols[part], masses[part])
    stream = encoder.finish()
    decoder = coder.Decoder(stream)
    found = [decoder.decode(masses[part]) for part in (slice(0, n // 3), slice(n // 3, n))]
    assert (np.concatenate(found) == symbols).all()
    assert len(stream) <= coder.bits(symbols, masses) / 8 * 1.0001 + 4


def test_constriction_uses_exactly_the_integers_it_is_given() -> None:
    # A symbol of mass 1 between two giants costs exactly 24 bits; 400 of them cost 1200 bytes.
    masses = np.tile(np.array([[2**23, 1, 2**23 - 1]]), (400, 1))
    encoder = coder.Encoder()
    encoder.encode(np.ones(400, np.int64), masses)
    assert abs(len(encoder.finish()) - 1200) <= 4


def test_streams_end_without_zero_bytes_and_are_big_endian() -> None:
    masses = np.tile(np.array([[2**23, 2**23]]), (32, 1))
    encoder = coder.Encoder()
    encoder.encode(np.array([1, 0, 1, 0] + [0] * 28), masses)
    stream = encoder.finish()
    assert abs(int.from_bytes(stream[:3], "big") - 0b1010 * 2**20) <= 1
    assert stream[-1] != 0


def test_any_bytes_decode_to_symbols_in_range_or_are_refused() -> None:
    _, masses = rows(500, 6)
    random = np.random.default_rng(3)
    for _ in range(200):
        try:
            symbols = coder.Decoder(random.bytes(int(random.integers(0, 60)))).decode(masses)
        except coder.DamagedError:
            continue
        assert symbols.min() >= 0
        assert symbols.max() < 6


def test_the_generator_gives_these_integers_everywhere() -> None:
    assert randomness.raw(0, 1, 4).tolist() == [int(v) for v in PINNED[:4]]
    assert randomness.raw(2**64 - 1, randomness.SAMPLING, 3).tolist() == PINNED[4:]
    assert (randomness.raw(5, 2, 1001)[:7] == randomness.raw(5, 2, 7)).all()


def test_dither_is_uniform_below_its_limit() -> None:
    width = np.full(200_000, 48_000, np.int64)
    d = randomness.below(width, randomness.raw(1, 1, len(width)))
    assert d.min() >= 0
    assert d.max() < 48_000
    assert abs(d.mean() / 48_000 - 0.5) < 0.003
    assert abs(d.std() / 48_000 - 12**-0.5) < 0.002


PINNED = [4188131702, 3493329091, 1277232997, 3226943899, 963329307, 1998440675, 3604436354]
