"""The coder in plain Python against the arithmetic of the specification, done here with fractions
of a unit interval.
"""

from fractions import Fraction

import numpy as np
import pytest

from uqdm.entropy import coder, plain

from .worlds import rows


@pytest.mark.parametrize("seed", range(8))
def test_the_stream_names_the_interval_of_its_symbols(seed: int) -> None:
    symbols, masses = rows(40 * seed + 1, 7, seed)
    writer = plain.RangeWriter()
    writer.put(symbols, masses)
    lower, length, unit = (
        Fraction(0),
        2**64 - 1,
        Fraction(1, 2**64),
    )  # the interval, its length in units of the current line
    for symbol, row in zip(symbols, masses):
        part = length >> 24
        lower += part * int(row[:symbol].sum()) * unit
        length = part * int(row[symbol])
        if length < 2**32:
            length, unit = length << 32, unit / 2**32
    stream = writer.finish()
    number = Fraction(int.from_bytes(stream, "big"), 256 ** len(stream))
    assert lower <= number < lower + length * unit
    assert 8 * len(stream) <= coder.bits(symbols, masses) + 40


def test_a_stream_by_hand() -> None:
    # The line has 2**64 - 1 units, a part of it 2**40 - 1. Symbol 1 of (1/4, 1/2, 1/4) begins at
    # 2**22 parts, so the lower end is 2**22 (2**40 - 1) = 2**62 - 2**22; adding 2**32 - 1 passes
    # 2**62, whose topmost word is 0x40000000.
    writer = plain.RangeWriter()
    writer.put(np.array([1]), np.array([[2**22, 2**23, 2**22]]))
    assert writer.finish() == b"\x40"
