"""The one loop over a model's steps, and who answers its questions. Knows symbols and their coder;
no files, and no family.

A model's walk is a start, and then for each part of each step a question, its answers, and an
update. Four answer it. The `Writer` answers from pictures and writes a step's bytes. The `Reader`
answers from these bytes. The `Estimator` answers from pictures and adds up bits. The `Guesser`
answers by chance. After each step the walk yields what is known, so a preview is a walk that stops
early. Where a file is cut inside a step, the answers fall short.
"""

import collections
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import coder, randomness
from uqdm.entropy.tables import Cells
from uqdm.errors import DamagedError, NumericsError
from uqdm.families.base import Question, State, Walk

BLOCK = 1 << 14  # symbols coded at once; no bit depends on it
CHECK = 4  # bytes of a step's check of its symbols; fewer in a compact file
Symbols = NDArray[np.int64]
Progress = Callable[
    [int, int, int], None
]  # told after each part: its step, its number in it, of how many; all from 1 on


class Answers(Protocol):
    """Who answers a walk."""

    def side(self, model: Walk, state: Any) -> Sequence[bytes]:
        """What is told of the next step besides symbols, for each picture (see `Walk.side`)."""

    def __call__(self, i: int, question: Question) -> Symbols:
        """The symbols of picture i, maybe fewer than asked for."""


def walk(
    model: Walk,
    state: State,
    answers: Answers,
    steps: int | None = None,
    progress: Progress | None = None,
    spend: bool = False,
    blind: bool = False,
) -> Iterator[State]:
    """The one loop: yields what is known after each step from `state` on, up to `steps` steps in
    all.

    An answer shorter than its question ends the walk with what it made known. `spend`: nobody looks
    at a state, the given one too, once the walk has gone on from it. So a family may use its memory
    for the next one. `blind`: nobody makes a preview of a state but the one at a model's end.
    """
    for _ in range(state.step, model.chunks if steps is None else steps):
        told = StepTold(model, state, answers, spend, blind)
        tell(told, progress)
        state = told.state
        yield state
        if told.short:
            return


def tell(told: "StepTold", progress: Progress | None = None, then: Callable[[], None] = lambda: None) -> None:
    """The parts of a step that are left. `then` is called after each."""
    while not told.done:
        told.ask()
        told.take()
        if progress is not None:
            progress(told.step, told.part, told.parts)
        then()


class StepTold:
    """One step of a walk, part by part. `spend`, `blind`: see `walk`."""

    def __init__(self, model: Walk, state: Any, answers: Answers, spend: bool = False, blind: bool = False) -> None:
        for hint, given in (("spending", spend), ("blinded", blind)):
            if given and hasattr(model, hint):  # few families can use them
                getattr(model, hint)(state)
        self.state, self.answers, self.step = state, answers, state.step + 1
        self._model: Any = model
        self._side = answers.side(model, state)
        self.parts, self.part = model.parts(state), 0  # how many there are, and are answered
        self._asked: tuple[Sequence[Any], list[Symbols]] | None = None  # questions and answers that are not taken in
        self.short = False

    @property
    def done(self) -> bool:
        """Whether the step has been told, or what the answers hold of it."""
        return self.part == self.parts or (self.short and self._asked is None)

    def ask(self) -> None:
        """The next part is asked and answered, unless it was."""
        if self._asked is None:
            questions = self._model.question(self.state, self.part, self._side)
            given = [self.answers(i, question) for i, question in enumerate(questions)]
            self._asked = questions, given
            self.short = any(len(a) < q.size for a, q in zip(given, questions))

    def take(self) -> None:
        """The answers become part of the state."""
        assert self._asked is not None
        self.state = self._model.update(self.state, self.part, *self._asked)
        self._asked = None  # before the next ones are made: those of a large picture take much memory
        self.part += 1

    @property
    def ready(self) -> bool:
        """Whether the next part needs no more of a step before that is still told (see `ahead`)."""
        ready: bool = self._model.ready(self.state, self.part)
        return ready


def check(symbols: NDArray[Any], before: int = 0) -> int:
    """CRC-32 of a step's symbols, continued from part to part. It tells whether they are the
    encoder's.
    """
    return zlib.crc32(symbols.astype("<u2").tobytes(), before)


def _shortened(found: int, size: int) -> int:
    """A check's low bits, as many as `size` bytes hold."""
    return found & (1 << 8 * size) - 1


def _blocks(start: int, end: int) -> Iterator[slice]:
    return (slice(i, min(i + BLOCK, end)) for i in range(start, end, BLOCK))


class Writer:
    """Answers from pictures, and writes the current step of each.

    `values` (N, C, H, W): see `Walk.values`. `kind`: the range coder's implementation.
    """

    def __init__(self, values: NDArray[np.int16], kind: str | None = None) -> None:
        self._values, self._kind = values, kind
        self._sides: list[bytes] = []
        self._begin()

    def _begin(self) -> None:
        self._coders = [coder.RangeEncoder(self._kind) for _ in self._values]
        self._checks = [0] * len(self._values)

    def side(self, model: Walk, state: Any) -> list[bytes]:
        """As the model chooses it."""
        self._sides = model.side(state)
        return self._sides

    def __call__(self, i: int, question: Question) -> Symbols:
        """All symbols, which are written."""
        symbols = np.empty(question.size, np.int64)
        for part in _blocks(0, question.size):
            symbols[part] = question.symbols(self._values[i], part)
            table = question.table(part)
            if isinstance(table, Cells):
                self._coders[i].encode_cells(symbols[part], table)
            else:
                self._coders[i].encode(symbols[part], table)
        self._checks[i] = check(symbols, self._checks[i])
        return symbols

    def take(self, size: int = CHECK) -> list[bytes]:
        """The payloads of the step that has been answered. The next step begins. `size`: bytes of the
        check of its symbols.
        """
        parts = zip(self._sides, self._checks, self._coders)
        payloads = [
            side + _shortened(found, size).to_bytes(size, "big") + encoder.finish() for side, found, encoder in parts
        ]
        self._begin()
        return payloads


class Reader:
    """Answers from the payloads of one step: whole ones, or the beginnings of some, which `extend`
    may lengthen.

    `number`: of the step, from 1. `side_size`: see `Walk.side_size`. `kind`: the range coder's
    implementation. `exact`: whether the model computes in integers, which errors tell. `beginning`:
    the walk asks only for the first symbols of a step, whose check is then not compared. `size`:
    see `Writer.take`.
    """

    def __init__(
        self,
        number: int,
        payloads: Sequence[bytes],
        whole: bool,
        side_size: int,
        kind: str | None = None,
        exact: bool = False,
        beginning: bool = False,
        size: int = CHECK,
    ) -> None:
        self._number, self.whole, self._head, self._exact = number, whole, side_size + size, exact
        self._beginning, self._side_size, self._check_size = beginning, side_size, size
        for payload in payloads:
            if whole and (len(payload) < self._head or (len(payload) > self._head and payload[-1] == 0)):
                raise DamagedError(
                    f"step {number}: its payload of {len(payload)} bytes is not one that an encoder writes"
                )
        self._begin(payloads)
        self._coders = [coder.RangeDecoder(payload[self._head :], whole, kind) for payload in payloads]
        self._got: list[list[NDArray[np.uint16]]] = [[] for _ in payloads]  # symbols, in as few bytes as hold them
        self._turns = [0] * len(payloads)

    def _begin(self, payloads: Sequence[bytes]) -> None:
        """Takes what stands before the symbols."""
        self._least = min(map(len, payloads))
        self._sides = [payload[: self._side_size] for payload in payloads]
        self._expected = [int.from_bytes(payload[self._side_size : self._head], "big") for payload in payloads]

    def side(self, model: Walk, state: Any) -> list[bytes]:
        """As the payloads tell it."""
        return self._sides

    def extend(self, payload: bytes, whole: bool) -> None:
        """More of a single picture's payload. The walk starts again from before the step, with what
        was decoded already.
        """
        if whole and payload[-1:] == b"\0" and len(payload) > self._head:
            raise DamagedError(
                f"step {self._number}: its payload of {len(payload)} bytes is not one that an encoder writes"
            )
        self._begin([payload])
        self._coders[0].extend(payload[self._head :], whole)
        self._turns, self.whole = [0], whole

    def __call__(self, i: int, question: Question) -> Symbols:
        """The symbols that the bytes make certain."""
        turn, self._turns[i] = self._turns[i], self._turns[i] + 1
        if turn == len(self._got[i]):
            self._got[i].append(np.zeros(0, np.uint16))
        pieces = [self._got[i][turn].astype(np.int64)]
        try:
            for part in _blocks(len(pieces[0]), question.size):
                table = question.table(part)
                if isinstance(table, Cells):
                    pieces.append(self._coders[i].decode_cells(table))
                else:
                    pieces.append(self._coders[i].decode(table))
                    if (pieces[-1] >= question.children(part)[: len(pieces[-1])]).any():
                        raise DamagedError("no child")
                if len(pieces[-1]) < part.stop - part.start:
                    break
        except DamagedError:
            raise self._wrong("the stream leaves the tables") from None
        found = np.concatenate(pieces)
        self._got[i][turn] = found.astype(np.uint16)
        return found

    @property
    def empty(self) -> bool:
        """Whether a payload ends before its first symbol could."""
        return not self.whole and self._least <= self._head

    @property
    def received(self) -> int:
        """How many symbols have been decoded."""
        return sum(len(symbols) for parts in self._got for symbols in parts)

    @property
    def checks(self) -> list[int]:
        """For each picture, the check of the symbols that have been decoded."""
        found = []
        for parts in self._got:
            value = 0
            for symbols in parts:
                value = check(symbols, value)
            found.append(value)
        return found

    def finish(self) -> None:
        """Raises `NumericsError` unless the step's symbols, where they are all there, are those
        that were encoded.
        """
        if not self.whole or self._beginning:
            return
        for found, expected in zip(self.checks, self._expected):
            if (short := _shortened(found, self._check_size)) != expected:
                digits = 2 * self._check_size
                raise self._wrong(f"check {short:0{digits}x}, expected {expected:0{digits}x}")

    def _wrong(self, what: str) -> NumericsError:
        before = f"Earlier steps decode (--step {self._number - 1})"
        if self._exact:
            why = (
                "the model computes in integers, the same everywhere, and the bytes pass their checks: the file was "
                f"damaged before it was written, was forged, or was written by a broken program. {before}; get the "
                "file again from where it was made"
            )
        else:
            why = (
                f"the network's arithmetic, in floats, differs from the writer's. {before}; for all of them decode "
                "where the file was written, or write it again with a model that computes in integers, or in float64"
            )
        return NumericsError(f"step {self._number}: the decoded symbols are not the encoder's ({what}): {why}")


class Guesser:
    """Answers by chance: what a model thinks likely. A picture's draws follow from the seed and its
    own questions alone.

    `temperature`: the uniform number that each draw begins with moves toward the middle by this
    factor. At 0 all answers are medians. `reader`: of a step that was cut. Its certain answers go
    before.
    """

    def __init__(self, seed: int, temperature: float = 1.0, reader: Reader | None = None) -> None:
        self._seed, self._step, self._reader = seed, 0, reader
        self._share = round(temperature * 2**16)
        self._turns = collections.Counter[tuple[int, int]]()

    def side(self, model: Walk, state: Any) -> Sequence[bytes]:
        """As the model chooses it, or as the reader has it."""
        self._step = state.step
        return model.side(state) if self._reader is None else self._reader.side(model, state)

    def __call__(self, i: int, question: Question) -> Symbols:
        """The certain symbols, then drawn ones."""
        stream = randomness.SAMPLING + (self._step << 16) + self._turns[self._step, i]
        self._turns[self._step, i] += 1
        received = np.zeros(0, np.int64)
        if self._reader is not None:
            received = self._reader(i, question)
            if len(received) < question.size:  # the bytes end here; later questions have no certain answers
                self._reader = None
        chances = randomness.raw(self._seed, stream, question.size)
        if self._share < 1 << 16:
            chances = (((chances.astype(np.int64) - (1 << 31)) * self._share >> 16) + (1 << 31)).astype(np.uint32)
        return np.concatenate(
            [received, *(question.draw(part, chances[part]) for part in _blocks(len(received), question.size))]
        )


class Estimator:
    """Answers from pictures, and adds up the ideal code length: `bits` (N, steps).

    `values` (N, C, H, W): see `Walk.values`.
    """

    def __init__(self, values: NDArray[np.int16], steps: int) -> None:
        self._values, self._step = values, 0
        self.bits = np.zeros((len(values), steps))

    def side(self, model: Walk, state: Any) -> list[bytes]:
        """As the model chooses it."""
        self._step = state.step
        return model.side(state)

    def __call__(self, i: int, question: Question) -> Symbols:
        """All symbols, which are counted."""
        answers = [np.zeros(0, np.int64)]
        for part in _blocks(0, question.size):
            symbols, table = question.symbols(self._values[i], part), question.table(part)
            found = coder.bits_cells(symbols, table) if isinstance(table, Cells) else coder.bits(symbols, table)
            self.bits[i, self._step] += found
            answers.append(symbols)
        return np.concatenate(answers)


def after(model: Walk, state: Any, reader: Reader, progress: Progress | None = None, blind: bool = False) -> Any:
    """The state after what the reader holds of one more chunk; `state` itself where not even one
    symbol is certain. `blind`: see `walk`.
    """
    if reader.empty:
        return state
    return learned(reader, state, next(walk(model, state, reader, state.step + 1, progress, blind=blind)))


def learned(reader: Reader, before: Any, found: Any) -> Any:
    """The state `found` by the answers of a reader, which are checked; `before` itself where there
    were none.
    """
    reader.finish()
    return found if reader.whole or reader.received else before
