"""The coder: what goes in comes out, at the length that the tables promise, and the same with every
implementation.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uqdm.entropy import coder
from uqdm.entropy.tables import PRECISION, Cells
from uqdm.errors import DamagedError, LimitError

from .worlds import cells, extreme, mixed, rows

CODERS = coder.available()
each = pytest.mark.parametrize("name", CODERS)
FULL = 1 << PRECISION


def encoded(name: str, symbols: np.ndarray, masses: np.ndarray, calls: int = 1) -> bytes:
    encoder = coder.RangeEncoder(name)
    for part in np.array_split(np.arange(len(symbols)), calls):
        encoder.encode(symbols[part], masses[part])
    return encoder.finish()


def agreed(symbols: np.ndarray, masses: np.ndarray) -> bytes:
    """The stream, which all implementations must write and read, in one call and in several."""
    streams = {encoded(name, symbols, masses, calls) for name in CODERS for calls in (1, 3)}
    assert len(streams) == 1
    stream = streams.pop()
    for name in CODERS:
        assert (coder.RangeDecoder(stream, coder=name).decode(masses) == symbols).all()
    return stream


def certain(name: str, stream: bytes, masses: np.ndarray) -> np.ndarray:
    decoder = coder.RangeDecoder(stream, whole=False, coder=name)
    found = decoder.decode(masses)
    assert decoder.exhausted == (len(found) < len(masses))
    return found


def common(stream: bytes, masses: np.ndarray) -> int:
    """How many symbols do not depend on what follows, by definition: with zeros and with ones they
    are the same.
    """
    decoders = [coder.RangeDecoder(stream + tail, coder="plain") for tail in (bytes(16), b"\xff" * 16)]
    for i in range(len(masses)):
        try:
            first, second = (int(d.decode(masses[i : i + 1])[0]) for d in decoders)
        except DamagedError:
            return i
        if first != second:
            return i
    return len(masses)


# --- whole streams


@each
@pytest.mark.parametrize(("n", "k"), [(0, 3), (1, 2), (7, 300), (5000, 12)])
def test_symbols_come_back_and_cost_what_their_tables_say(name: str, n: int, k: int) -> None:
    symbols, masses = rows(n, k)
    stream = encoded(name, symbols, masses, 2)
    decoder = coder.RangeDecoder(stream, coder=name)
    found = [decoder.decode(masses[part]) for part in (slice(0, n // 3), slice(n // 3, n))]
    assert (np.concatenate(found) == symbols).all()
    assert len(stream) <= coder.bits(symbols, masses) / 8 * 1.0001 + 4


@each
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_cells_come_back_and_cost_what_their_tables_say(name: str, wide: bool, count: int) -> None:
    symbols, asked = cells(9000, wide=wide)
    asked = mixed(asked, count) if count > 1 else asked
    encoder = coder.RangeEncoder(name)
    encoder.encode_cells(symbols, asked)
    stream = encoder.finish()
    assert (coder.RangeDecoder(stream, coder=name).decode_cells(asked) == symbols).all()
    assert len(stream) <= coder.bits_cells(symbols, asked) / 8 * 1.0001 + 4
    assert coder.bits_cells(symbols, asked) == pytest.approx(coder.bits(symbols, asked.masses(slice(None))))


@each
def test_every_implementation_uses_exactly_the_integers_it_is_given(name: str) -> None:
    # A symbol of mass 1 between two giants costs exactly 24 bits; 400 of them cost 1200 bytes.
    masses = np.tile(np.array([[2**23, 1, 2**23 - 1]]), (400, 1))
    assert abs(len(encoded(name, np.ones(400, np.int64), masses)) - 1200) <= 4


@each
def test_streams_end_without_zero_bytes_and_are_big_endian(name: str) -> None:
    masses = np.tile(np.array([[2**23, 2**23]]), (32, 1))
    stream = encoded(name, np.array([1, 0, 1, 0] + [0] * 28), masses)
    assert abs(int.from_bytes(stream[:3], "big") - 0b1010 * 2**20) <= 1
    assert stream[-1] != 0


@each
def test_a_stream_of_nothing_has_no_bytes_and_gives_nothing(name: str) -> None:
    nothing = cells(1)[1][:0]
    encoder = coder.RangeEncoder(name)
    encoder.encode_cells(np.zeros(0, np.int64), nothing)
    encoder.encode(np.zeros(0, np.int64), np.zeros((0, 3), np.int64))
    assert encoder.finish() == b""
    decoder = coder.RangeDecoder(b"", coder=name)
    assert len(decoder.decode_cells(nothing)) == len(decoder.decode(np.zeros((0, 3), np.int64))) == 0
    assert not decoder.exhausted


@each
def test_a_stream_may_be_closed_and_continued(name: str) -> None:
    symbols, masses = rows(300, 9)
    encoder = coder.RangeEncoder(name)
    encoder.encode(symbols[:100], masses[:100])
    assert encoder.finish() == encoder.finish() == encoded(name, symbols[:100], masses[:100])
    encoder.encode(symbols[100:], masses[100:])
    assert encoder.finish() == encoded(name, symbols, masses)


# --- all implementations agree


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(2, 20), st.sampled_from([0.01, 0.1, 1, 10]))
def test_all_write_and_read_the_same_under_any_tables(seed: int, n: int, k: int, shape: float) -> None:
    agreed(*rows(n, k, seed, shape))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(extreme(), st.integers(0, 2**32))
def test_all_write_and_read_the_same_under_any_cells(world: tuple[np.ndarray, Cells], seed: int) -> None:
    symbols, asked = world
    masses = asked.masses(slice(None))
    stream = agreed(symbols, masses)
    for name in CODERS:
        encoder = coder.RangeEncoder(name)
        encoder.encode_cells(symbols[:3], asked[:3])
        encoder.encode_cells(symbols[3:], asked[3:])
        assert encoder.finish() == stream
        assert (coder.RangeDecoder(stream, coder=name).decode_cells(asked) == symbols).all()
    damaged = np.random.default_rng(seed).bytes(len(stream))
    outcomes = set()
    for name in CODERS:
        try:
            outcomes.add(tuple(coder.RangeDecoder(damaged, coder=name).decode_cells(asked).tolist()))
        except DamagedError:
            outcomes.add(None)
    assert len(outcomes) == 1


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.sampled_from([b"\x7f", b"\x80", b"\0\0\0\0\0", b"\xff\xff\xff\xff\xff\xff", b"\x01", b"\xfe", b"\xa5"])
    ),
    st.integers(0, 99),
)
def test_carries_run_through_as_many_words_as_they_must(pieces: list[bytes], seed: int) -> None:
    # Symbols read from long runs of ones or zeros make an encoder's interval straddle a boundary
    # for that long.
    _, masses = rows(120, 5, seed, 1)
    try:
        symbols = coder.RangeDecoder(b"".join(pieces), coder="plain").decode(masses)
    except DamagedError:  # all ones lie above the line's last part
        return
    agreed(symbols, masses)


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_carry_into_forty_words_of_ones_is_written_by_all(last: int) -> None:
    masses = np.tile(np.array([[5592405, 5592407, 5592404]]), (1000, 1))
    symbols = coder.RangeDecoder(b"\x7f" + b"\xff" * 160, coder="plain").decode(masses)[:805]
    stream = agreed(np.append(symbols, [last] * 9), masses[:814])
    assert stream[:150] in (b"\x7f" + b"\xff" * 149, b"\x80" + bytes(149))


def test_symbols_that_cost_almost_nothing_cost_almost_nothing() -> None:
    n = 200_000
    masses = np.tile(np.array([[1, FULL - 2, 1]]), (n, 1))
    assert len(agreed(np.ones(n, np.int64), masses)) <= 8  # 0.03 bits
    symbols = np.where(np.arange(n) % 5003 == 17, 2, 1)
    assert len(agreed(symbols, masses)) <= 3 * 40 + 8


def test_a_long_stream_is_the_same_from_all() -> None:
    symbols, asked = cells(150_000, seed=5)
    streams = set()
    for name in CODERS:
        encoder = coder.RangeEncoder(name)
        encoder.encode_cells(symbols, asked)
        streams.add(encoder.finish())
    assert len(streams) == 1
    for stream in streams:
        assert all((coder.RangeDecoder(stream, coder=name).decode_cells(asked) == symbols).all() for name in CODERS)


@each
def test_rows_and_cells_may_follow_each_other_in_one_stream(name: str) -> None:
    symbols, asked = cells(500)
    others, masses = rows(400, 30)
    encoder = coder.RangeEncoder(name)
    encoder.encode(others[:200], masses[:200])
    encoder.encode_cells(symbols, asked)
    encoder.encode(others[200:], masses[200:])
    decoder = coder.RangeDecoder(encoder.finish(), coder=CODERS[-1])
    assert (decoder.decode(masses[:200]) == others[:200]).all()
    assert (decoder.decode(asked.masses(slice(0, 250))) == symbols[:250]).all()
    assert (decoder.decode_cells(asked[250:]) == symbols[250:]).all()
    assert (decoder.decode(masses[200:]) == others[200:]).all()


@each
def test_arrays_of_other_layouts_and_types_are_taken_as_well(name: str) -> None:
    symbols, asked = cells(64)
    strided = [np.repeat(getattr(asked, f), 2)[::2] for f in ("low", "high", "start", "width", "location")]
    other = Cells(*strided, asked.level.astype(np.int64))
    masses = asked.masses(slice(None))
    plain = coder.RangeEncoder("plain")
    plain.encode_cells(symbols, asked)
    for case in (0, 1):
        encoder = coder.RangeEncoder(name)
        if case:
            encoder.encode_cells(symbols.astype(np.int32), other)
        else:
            encoder.encode(symbols.astype(np.int16)[::1], np.asfortranarray(masses))
        assert encoder.finish() == plain.finish()


# --- beginnings of streams


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(2, 20), st.sampled_from([0.01, 0.1, 1, 10]))
def test_of_a_beginning_exactly_what_every_continuation_shares_is_decoded(
    seed: int, n: int, k: int, shape: float
) -> None:
    symbols, masses = rows(n, k, seed, shape)
    stream = encoded("plain", symbols, masses)
    for end in range(len(stream) + 1):
        expected = common(stream[:end], masses)
        for name in CODERS:
            found = certain(name, stream[:end], masses)
            assert len(found) == expected
            assert (found == symbols[:expected]).all()


@each
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_stream_that_arrives_byte_by_byte_gives_the_same_symbols(name: str, wide: bool, count: int) -> None:
    symbols, asked = cells(1500, wide=wide)
    asked = mixed(asked, count) if count > 1 else asked
    encoder = coder.RangeEncoder(name)
    encoder.encode_cells(symbols, asked)
    stream = encoder.finish()
    decoder = coder.RangeDecoder(b"", whole=False, coder=name)
    found = np.zeros(0, np.int64)
    for end in range(len(stream) + 1):
        decoder.extend(stream[:end], whole=False)
        for _ in range(2):  # the second call has nothing to give
            found = np.append(found, decoder.decode_cells(asked[len(found) :]))
        assert len(found) == len(symbols) or decoder.exhausted
        alone = coder.RangeDecoder(stream[:end], whole=False, coder=name).decode_cells(asked)
        assert (alone == found).all()
    assert (found == symbols[: len(found)]).all()
    assert len(symbols) - len(found) < 60
    decoder.extend(stream, whole=True)
    assert (np.append(found, decoder.decode_cells(asked[len(found) :])) == symbols).all()


@each
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("damaged", [False, True])
def test_of_many_children_the_unlikely_ones_come_back_too(name: str, count: int, damaged: bool) -> None:
    """Tables hold the likely children of each; half of the symbols here are others."""
    symbols, asked = many(1100, count)
    assert 4 * asked.likely()[1] < asked.children.max()
    stream = encoded_cells("plain", symbols, asked)
    assert stream == encoded_cells(name, symbols, asked)
    assert (coder.RangeDecoder(stream, coder=name).decode_cells(asked) == symbols).all()
    if damaged:
        stream = stream[:700] + bytes([stream[700] ^ 64]) + stream[701:]
    answers = []
    for kind in {name, "plain"}:
        decoder, found = coder.RangeDecoder(b"", whole=False, coder=kind), np.zeros(0, np.int64)
        for end in (5, 6, 7, 400, 900, 901, len(stream) - 2):
            decoder.extend(stream[:end], whole=False)
            found = np.append(found, decoder.decode_cells(asked[len(found) :]))
        answers.append(found)
    assert (answers[0] == answers[-1]).all()
    assert damaged or len(symbols) - len(answers[0]) < 60


def many(n: int, count: int) -> tuple[np.ndarray, Cells]:
    """Cells of 200 to 900 children, narrow densities somewhere in them, some of them wide or outside; every other
    symbol is any child, and the rest are near the middle.
    """
    random = np.random.default_rng(count)
    low, size = random.integers(-500, -100, n), random.integers(200, 900, n)
    location = (low[:, None] + random.integers(-20, 920, (n, 1)) + random.integers(-9, 9, (n, count))) << 16
    level = np.where(random.random((n, count)) < 0.02, 110, random.integers(20, 70, (n, count))).astype(np.uint8)
    weight = mixed(cells(n)[1], count).weight if count > 1 else None
    ends = low.astype(np.int32), (low + size - 1).astype(np.int32)
    places, levels = (location, level) if count > 1 else (location[:, 0], level[:, 0])
    asked = Cells(*ends, low.astype(np.int64) << 16, np.full(n, 1 << 16), places, levels, weight)
    near = np.clip((location[:, 0] >> 16) - low + random.integers(-5, 6, n), 0, size - 1)
    return np.where(np.arange(n) % 2, near, random.integers(0, size)), asked


def encoded_cells(name: str, symbols: np.ndarray, asked: Cells) -> bytes:
    encoder = coder.RangeEncoder(name)
    encoder.encode_cells(symbols, asked)
    return encoder.finish()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=20),
    st.sampled_from(CODERS),
)
def test_any_order_of_arrivals_and_questions_gives_the_same(
    seed: int, events: list[tuple[int, int]], name: str
) -> None:
    symbols, masses = rows(200, 6, seed)
    stream = encoded("plain", symbols, masses)
    decoder, end, found = coder.RangeDecoder(b"", whole=False, coder=name), 0, np.zeros(0, np.int64)
    for arrived, asked in events:
        end = min(end + arrived, len(stream))
        decoder.extend(stream[:end], whole=False)
        found = np.append(found, decoder.decode(masses[len(found) : len(found) + asked]))
        assert len(found) <= common(stream[:end], masses)
    decoder.extend(stream, whole=True)
    assert (np.append(found, decoder.decode(masses[len(found) :])) == symbols).all()


@each
def test_bytes_turn_into_symbols_as_they_come(name: str) -> None:
    symbols, masses = rows(2000, 8, shape=1)
    stream = encoded(name, symbols, masses)
    counts = np.array([len(certain(name, stream[:end], masses)) for end in range(200)])
    per_byte = len(symbols) / len(stream)
    assert (counts >= per_byte * np.arange(200) - 25).all()
    assert (np.diff(counts) > 0).mean() > 0.7


@each
def test_ones_in_the_last_place_overflow_nothing(name: str) -> None:
    # After 128 bits the interval is nearly the whole line and the number near its top: adding what
    # may come passes 2**64.
    masses = np.tile(np.array([[1, FULL - 2, 1]]), (300, 1))
    for first in (b"\xff\xff\xfe", b"\xff\xff\xfe\xff\xff\xff\xff\xfe", b"\xfe\xff", b"\0\0\0\0\0\0\xff"):
        for end in range(len(first) + 1):
            assert len(certain(name, first[:end], masses)) == common(first[:end], masses)


# --- damage and mistakes


@each
def test_any_bytes_decode_to_symbols_in_range_or_are_refused(name: str) -> None:
    _, masses = rows(500, 6)
    _, asked = cells(500)
    random = np.random.default_rng(3)
    refused = 0
    for _ in range(100):
        stream = random.bytes(int(random.integers(0, 60)))
        try:
            symbols = coder.RangeDecoder(stream, coder=name).decode(masses)
            assert symbols.min() >= 0
            assert symbols.max() < 6
            symbols = coder.RangeDecoder(stream, coder=name).decode_cells(asked)
            assert (symbols >= 0).all()
            assert (symbols < asked.children).all()
        except DamagedError:
            refused += 1
    assert refused < 50


@each
def test_a_number_above_the_line_is_refused_whole_and_awaited_in_part(name: str) -> None:
    _, asked = cells(3)
    with pytest.raises(DamagedError):
        coder.RangeDecoder(b"\xff" * 12, coder=name).decode_cells(asked)
    decoder = coder.RangeDecoder(b"\xff" * 12, whole=False, coder=name)
    assert len(decoder.decode_cells(asked)) == 0
    assert decoder.exhausted
    decoder.extend(b"\xff" * 13, whole=True)
    with pytest.raises(DamagedError):
        decoder.decode_cells(asked)


@each
def test_symbols_that_are_no_children_are_not_encoded(name: str) -> None:
    symbols, asked = cells(5)
    masses = asked.masses(slice(None))
    for wrong in (-1, 10_000):
        with pytest.raises(AssertionError):
            coder.RangeEncoder(name).encode_cells(np.full(5, wrong), asked)
    if name != "plain":
        with pytest.raises(AssertionError):
            coder.RangeEncoder(name).encode(np.full(5, masses.shape[1]), masses)
    with pytest.raises(AssertionError):
        coder.RangeEncoder(name).encode_cells(symbols[:4], asked)


@each
def test_a_box_without_an_integer_is_damage(name: str) -> None:
    _, asked = cells(5)
    empty = Cells(asked.high + 1, asked.high, asked.start, asked.width, asked.location, asked.level)
    with pytest.raises(DamagedError, match="no integer"):
        coder.RangeDecoder(b"abc", coder=name).decode_cells(empty)


@each
def test_a_coordinate_with_too_many_children_is_refused(name: str) -> None:
    def line(children: int) -> Cells:
        one = np.ones(1, np.int64)
        return Cells(
            0 * one.astype(np.int32),
            (children - 1) * one.astype(np.int32),
            0 * one,
            65536 * one,
            0 * one,
            one.astype(np.uint8),
        )

    encoder = coder.RangeEncoder(name)
    encoder.encode_cells(np.array([1022]), line(1023))
    assert (coder.RangeDecoder(encoder.finish(), coder=name).decode_cells(line(1023)) == 1022).all()
    with pytest.raises(LimitError, match="1024 children"):
        encoder.encode_cells(np.array([3]), line(1024))
    with pytest.raises(LimitError, match="1024 children"):
        coder.RangeDecoder(b"abc", coder=name).decode_cells(line(1024))
