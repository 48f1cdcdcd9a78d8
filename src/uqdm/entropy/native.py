"""The range coder over constriction, compiled from Rust. It writes the same bytes as `plain.py`,
which says what they mean.

With `perfect=False` and a row of masses less one as weights, constriction gives every symbol one
part and multiplies the rest by exactly 1. So it uses the row as it is (rows are integers >= 1 that
sum to 2**24).
"""

import constriction
import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import plain
from uqdm.entropy.tables import PRECISION, Cells
from uqdm.errors import DamagedError

_MODEL = constriction.stream.model.Categorical(perfect=False)


def _weights(masses: NDArray[np.int64]) -> NDArray[np.float32]:
    return (masses - 1).astype(np.float32, order="C")  # integers below 2**24: exact


def check() -> None:
    """Raises if the installed constriction does not write this format."""
    plain.compare(RangeWriter, RangeReader)


class RangeWriter:
    """Narrows the interval, symbol by symbol."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def put(self, symbols: NDArray[np.int64], masses: NDArray[np.int64]) -> None:
        """Symbols (M,) under `masses` (M, K)."""
        if len(symbols):
            assert ((symbols >= 0) & (symbols < masses.shape[1])).all(), "a symbol is not one of its table's"
            self._coder.encode(symbols.astype(np.int32), _MODEL, _weights(masses))

    def put_cells(self, symbols: NDArray[np.int64], cells: Cells) -> None:
        """Symbols (M,) of `cells`.

        Only the sums below and above a symbol matter, so three columns are enough: below, own,
        above. If nothing is below, they are own, 1, the rest. There is always that much above,
        because a table reserves it.
        """
        for part in plain.blocks(cells.size):
            left, mass = cells[part].intervals(symbols[part])
            above = (1 << PRECISION) - left - mass
            lowest = left == 0
            rows = np.stack(
                [np.where(lowest, mass, left), np.where(lowest, 1, mass), np.where(lowest, above - 1, above)], 1
            )
            self.put(1 - lowest, rows)

    def finish(self) -> bytes:
        """The stream so far, closed. More can still be put into the writer."""
        return bytes(self._coder.get_compressed().astype(">u4").tobytes().rstrip(b"\0"))


class RangeReader:
    """Reads a whole stream; or, of the beginning of one, the symbols that are the same with zeros
    and with ones for what is missing.

    constriction tells an encoder's state but not a decoder's. So what was certain is encoded again,
    and when more bytes arrive, decoding goes on from there.
    """

    def __init__(self, stream: bytes, whole: bool) -> None:
        self._again = constriction.stream.queue.RangeEncoder()
        self.extend(stream, whole)

    def extend(self, stream: bytes, whole: bool) -> None:
        """Replaces the stream by this longer one."""
        self._coders = []
        for fill in (b"\0",) if whole else (b"\0", b"\xff"):
            padded = stream + fill * (-len(stream) % 4 + 8)
            self._coders.append(constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32)))
        self._rewind()

    def _rewind(self) -> None:
        for coder in self._coders:
            coder.seek(*self._again.pos())

    def take(
        self,
        masses: NDArray[np.int64],
        children: NDArray[np.int64] | None = None,
        merged: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """The next M symbols under `masses` (M, K), up to the first that is not certain (see
        `plain.RangeReader.take`).
        """
        weights = _weights(masses)
        if merged is not None and children is not None:
            return self._unmerged(weights, children, merged)
        if len(self._coders) == 1:
            return self._decode(weights, children)
        found = [np.zeros(0, np.int64)]
        begin, size = 0, len(masses)
        while begin < len(masses):
            part = slice(begin, begin + size)
            try:
                symbols = self._decode(weights[part], None if children is None else children[part])
            except DamagedError:  # somewhere in the part, for zeros or for ones
                if size == 1:
                    break
                size //= 2
                self._rewind()
                continue
            found.append(symbols)
            if len(symbols):
                self._again.encode(symbols.astype(np.int32), _MODEL, weights[begin : begin + len(symbols)])
            begin += len(symbols)
            if begin < min(part.stop, len(masses)):
                break
        return np.concatenate(found)

    def _unmerged(
        self, weights: NDArray[np.float32], children: NDArray[np.int64], merged: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Symbols up to the first that is merged with others, or not certain, or damage."""
        before = [coder.clone() for coder in self._coders]
        try:
            symbols = self._decode(weights, None)
        except DamagedError:  # what follows a merged symbol may be anything
            symbols = np.zeros(0, np.int64)
        bad = np.flatnonzero((symbols < merged[: len(symbols)]) | (symbols >= children[: len(symbols)]))
        symbols = symbols[: bad[0]] if len(bad) else symbols
        if len(symbols) < len(weights):
            self._coders = before
            symbols = self._decode(weights[: len(symbols)], None)
        if len(self._coders) > 1 and len(symbols):
            self._again.encode(symbols.astype(np.int32), _MODEL, weights[: len(symbols)])
        return symbols

    def _decode(self, weights: NDArray[np.float32], children: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The symbols before the first one in which the coders differ."""
        if not len(weights):
            return np.zeros(0, np.int64)
        try:
            answers = [coder.decode(_MODEL, weights).astype(np.int64) for coder in self._coders]
        except (AssertionError, ValueError) as error:
            raise DamagedError(f"the range coder's stream is not one that an encoder writes: {error}") from None
        if children is not None and (answers[0] >= children).any():
            raise DamagedError("the range coder's stream is not one that an encoder writes")
        parted = np.flatnonzero(answers[0] != answers[-1])
        symbols: NDArray[np.int64] = answers[0][: parted[0]] if len(parted) else answers[0]
        return symbols

    def take_cells(self, cells: Cells) -> NDArray[np.int64]:
        """The next symbols of `cells`, up to the first that is not certain."""
        return plain.take_cells(self, cells)
