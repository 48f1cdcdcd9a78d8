"""Symbols and integer tables to bytes and back, over constriction's range coder; knows nothing of where they come from.

1. A table is a row of integers >= 1 that sums to 2**24 (`tables.py`). constriction, told `perfect=False` and given the
   row less one as weights, gives every symbol one unit and multiplies the rest by exactly 1: it uses the row as it is.
2. The stream is the coder's 32-bit words, most significant byte first, so that each byte received narrows the interval;
   zero bytes at its end are left out and understood.
3. What is decoded from damaged bytes is some sequence of symbols, or a `DamagedError`; never an overrun.
"""

import constriction
import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.tables import PRECISION
from uqdm.errors import DamagedError

_MODEL = constriction.stream.model.Categorical(perfect=False)


def _weights(masses: NDArray[np.int64]) -> NDArray[np.float32]:
    return (masses - 1).astype(np.float32, order="C")  # integers below 2**24: exact


class Encoder:
    """Collects symbols into one stream."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: NDArray[np.int64], masses: NDArray[np.int64]) -> None:
        """Append `symbols` (M,), each 0 .. K - 1, under the rows of `masses` (M, K)."""
        if len(symbols):
            self._coder.encode(symbols.astype(np.int32), _MODEL, _weights(masses))

    def finish(self) -> bytes:
        """The stream."""
        return bytes(self._coder.get_compressed().astype(">u4").tobytes().rstrip(b"\0"))


class Decoder:
    """Reads symbols back in the order in which they were encoded, under the same tables."""

    def __init__(self, stream: bytes) -> None:
        padded = stream + b"\0" * (-len(stream) % 4 + 8)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    def decode(self, masses: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next M symbols under `masses` (M, K). Raises `DamagedError` where no stream could lead."""
        if not len(masses):
            return np.zeros(0, np.int64)
        try:
            symbols: NDArray[np.int32] = self._coder.decode(_MODEL, _weights(masses))
        except (AssertionError, ValueError) as error:
            raise DamagedError(f"the range coder's stream is not one that an encoder writes: {error}") from None
        return symbols.astype(np.int64)


def bits(symbols: NDArray[np.int64], masses: NDArray[np.int64]) -> float:
    """Ideal code length of `symbols` (M,) under `masses` (M, K), in bits."""
    chosen = np.take_along_axis(masses, symbols[:, None], axis=1)
    return float(PRECISION * len(symbols) - np.log2(chosen).sum())
