"""Symbols and integer tables to bytes and back. Knows nothing of where they come from.

1. A table is a row of integers >= 1 that sums to 2**24 (`tables.py`), or one of `Cells`, whose row
   need not be made.
2. The stream is the range coder's 32-bit words, most significant byte first, so that each byte
   received narrows the interval. Zero bytes at its end are left out, and readers add them.
   `plain.py` says what the words mean.
3. There are several implementations (`choice.py`). They write the same bytes. So does any split of
   the symbols into calls, and any mixture of calls with rows and with cells.
4. Damaged bytes decode to some sequence of symbols, or raise `DamagedError`. They never lead out of
   an array.
5. Of the beginning of a stream, exactly those symbols are decoded that are the same for every way
   in which it may go on.
"""

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import choice
from uqdm.entropy.choice import available
from uqdm.entropy.plain import blocks
from uqdm.entropy.tables import PRECISION, Cells
from uqdm.errors import DamagedError

__all__ = ["RangeDecoder", "RangeEncoder", "available", "bits", "bits_cells"]


class RangeEncoder:
    """Collects symbols into one stream. `coder` names the implementation; None means the fastest
    one here.
    """

    def __init__(self, coder: str | None = None) -> None:
        self._writer = choice.load(choice.resolve(coder)).RangeWriter()

    def encode(self, symbols: NDArray[np.int64], masses: NDArray[np.int64]) -> None:
        """Appends `symbols` (M,), each 0 .. K - 1, under the rows of `masses` (M, K), with K at
        least 2.
        """
        assert len(symbols) == len(masses), f"{len(symbols)} symbols for {len(masses)} tables"
        self._writer.put(symbols, masses)

    def encode_cells(self, symbols: NDArray[np.int64], cells: Cells) -> None:
        """Appends `symbols` (M,), each one of its coordinate's children."""
        assert len(symbols) == cells.size, f"{len(symbols)} symbols for {cells.size} cells"
        assert not (cells.low > cells.high).any(), "a box holds no integer"
        self._writer.put_cells(symbols, cells)

    def finish(self) -> bytes:
        """The stream."""
        stream: bytes = self._writer.finish()
        return stream


class RangeDecoder:
    """Reads symbols back in the order in which they were encoded, under the same tables.

    With `whole` the stream is all there is. Otherwise it is the beginning of a longer one, and a
    call may return fewer symbols than were asked for: those that are certain. The decoder is then
    exhausted and returns no more until `extend`. After that, ask for the same symbols again, less
    those received.
    """

    def __init__(self, stream: bytes, whole: bool = True, coder: str | None = None) -> None:
        self._stream, self._whole = stream, whole
        self._reader = choice.load(choice.resolve(coder)).RangeReader(stream, whole)
        self.exhausted = False

    def decode(self, masses: NDArray[np.int64]) -> NDArray[np.int64]:
        """The next M symbols under `masses` (M, K). Raises `DamagedError` if no stream could lead
        there.

        Every column is a symbol here. The caller refuses what is not a child of its coordinate.
        """
        return self._count(np.zeros(0, np.int64) if self.exhausted else self._reader.take(masses), len(masses))

    def decode_cells(self, cells: Cells) -> NDArray[np.int64]:
        """The next M symbols of `cells`. Raises `DamagedError` if no stream could lead there, or if
        it leads to no child.
        """
        # an interval narrower than 1 may hold no integer, and damage may lead into it
        if (cells.low > cells.high).any():
            raise DamagedError("a box holds no integer: an encoder does not write the symbols before it")
        return self._count(np.zeros(0, np.int64) if self.exhausted else self._reader.take_cells(cells), cells.size)

    def _count(self, symbols: NDArray[np.int64], asked: int) -> NDArray[np.int64]:
        self.exhausted = self.exhausted or len(symbols) < asked
        return symbols

    def extend(self, stream: bytes, whole: bool) -> None:
        """Takes more bytes: `stream` begins with what was there before. Decoding goes on after the
        last certain symbol.
        """
        assert not self._whole, "a whole stream does not grow"
        assert stream.startswith(self._stream), "a longer stream begins with the shorter one"
        self._reader.extend(stream, whole)
        self._stream, self._whole, self.exhausted = stream, whole, False


def bits(symbols: NDArray[np.int64], masses: NDArray[np.int64]) -> float:
    """Ideal code length of `symbols` (M,) under `masses` (M, K), in bits."""
    chosen = np.take_along_axis(masses, symbols[:, None], axis=1)
    return float(PRECISION * len(symbols) - np.log2(chosen).sum())


def bits_cells(symbols: NDArray[np.int64], cells: Cells) -> float:
    """Ideal code length of `symbols` (M,) of `cells`, in bits."""
    chosen = (cells[part].intervals(symbols[part])[1] for part in blocks(cells.size))
    return sum(float(PRECISION * len(mass) - np.log2(mass).sum()) for mass in chosen)
