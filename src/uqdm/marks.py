"""Places inside steps of which an encoder finds out what a file shows that ends there. Knows symbols
and their coder; no files, and no family.

A decoder knows of a cut step the symbols that its bytes make certain. The encoder has the networks'
results of a step only while it writes it. So it chooses places on the way, by what is written by
then, and looks at once. What is certain at a place follows from the coder's interval there and from
the next 8 bytes; reading them needs no network.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.coder import Mark
from uqdm.entropy.tables import Cells
from uqdm.families.base import Question, Walk
from uqdm.walk import BLOCK, CHECK, Symbols, Writer

FIRST = 2048  # bytes of steps before which there is no place
APART = 9 / 8  # there are at least so many times as many bytes before a place as before the one before
LEAST = 1024  # symbols of a question in which there may be places
AHEAD = 128  # symbols read at once

Judge = Callable[[int, NDArray[np.uint8]], float]  # picture i, its preview (3, H, W): the PSNR


class Marker(Writer):
    """A writer that looks at places on its way. `look` is for `walk`.

    `inside`: of the step taken last, for each picture, bytes of its payload and the PSNR of what
    they show, in order. Pictures of a batch have their places in the same questions, as the first
    picture chooses them.
    """

    def __init__(self, model: Walk, values: NDArray[np.int16], kind: str | None, judge: Judge) -> None:
        super().__init__(values, kind)
        self._model, self._judge = model, judge
        self._before, self._last = 0, FIRST  # bytes of the first picture: of whole steps, up to the last place
        self._shares: list[float] = []  # where in a question there are places
        self._marks: list[dict[int, Mark]] = [{} for _ in values]  # there, by the number of symbols before
        self._found: list[list[tuple[int, float]]] = [[] for _ in values]
        self.inside = self._found

    def _pieces(self, i: int, size: int) -> Iterator[slice]:
        if i == 0:
            self._shares = []
        marks = self._marks[i] = {}
        own = {round(share * size) for share in self._shares} if i else set()
        begins = sorted({*range(0, size, BLOCK), *own})
        for begin, end in zip(begins, [*begins[1:], size]):
            if i == 0 and size >= LEAST and self._wanted():
                self._shares.append(begin / size)
                own.add(begin)
            if begin in own:
                marks[begin] = self._coders[i].mark()
            yield slice(begin, end)

    def _wanted(self) -> bool:
        now = self._before + 4 * self._coders[0].mark().words
        if now < APART * self._last:
            return False
        self._last = now
        return True

    def look(self, state: Any, part: int, questions: Sequence[Question], given: Sequence[Symbols]) -> None:
        """What files show that end at the places in this part."""
        for share in self._shares:
            marks = [self._marks[i].get(round(share * question.size)) for i, question in enumerate(questions)]
            certain = [
                mark and self._certain(i, round(share * question.size), mark, question)
                for i, (mark, question) in enumerate(zip(marks, questions))
            ]
            if all(count is None for count in certain):
                continue
            short = [answers if count is None else answers[:count] for answers, count in zip(given, certain)]
            seen = self._model.denoise(self._model.glimpse(state, part, questions, short))
            for i, (mark, count) in enumerate(zip(marks, certain)):
                if mark is not None and count is not None:
                    self._found[i].append((mark.size, self._judge(i, seen[i])))
        self._shares = []

    def _certain(self, i: int, count: int, mark: Mark, question: Question) -> int | None:
        """How many symbols of a question are certain at a place, `count` and those that follow. None:
        that is not known, or all are.
        """
        reader = self._coders[i].ahead(mark)
        while reader is not None and count < question.size:
            part = slice(count, min(count + AHEAD, question.size))
            table = question.table(part)
            found = len(reader.take_cells(table) if isinstance(table, Cells) else reader.take(table))
            count += found
            if count < part.stop:
                return count
        return None

    def take(self, size: int = CHECK) -> list[bytes]:
        """See `Writer`."""
        heads = [len(side) + size for side in self._sides]
        payloads = super().take(size)
        self._before += len(payloads[0])
        self._last = max(self._last, self._before)
        self.inside = [
            [(head + at, psnr) for at, psnr in found if head + at < len(payload)]
            for head, payload, found in zip(heads, payloads, self._found)
        ]
        self._found = [[] for _ in payloads]
        return payloads
