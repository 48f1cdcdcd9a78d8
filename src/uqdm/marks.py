"""Places inside steps of which an encoder finds out what a file shows that ends there. Knows symbols
and their coder; no files, and no family.

A decoder knows of a cut step the symbols that its bytes make certain. The encoder has the networks'
results of a step only while it writes it. So it chooses places on the way, by what is written by
then, and looks at once. What is certain at a place follows from the coder's interval there and from
the next 8 bytes; reading them needs no network.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy.coder import Mark
from uqdm.entropy.tables import Cells
from uqdm.families.base import Question
from uqdm.walk import CHECK, Symbols, Writer

FIRST = 2048  # bytes of steps before which there is no place
APART = 9 / 8  # there are at least so many times as many bytes before a place as before the one before
LEAST = 1024  # symbols of a question in which there may be places
AHEAD = 128  # symbols read at once

Judge = Callable[[int, NDArray[np.uint8]], float]  # picture i, its preview (3, H, W): the PSNR


class Marker(Writer):
    """A writer that looks at places on its way. `look` is for `walk`. `model`: a `Walk` that has
    `glimpse`.

    `inside`: of the step taken last, for each picture, bytes of its payload and the PSNR of what
    they show, in order. They do not depend on the other pictures of a batch.
    """

    def __init__(self, model: Any, values: NDArray[np.int16], kind: str | None, judge: Judge) -> None:
        super().__init__(values, kind)
        self._model, self._judge = model, judge
        self._before, self._last = [0] * len(values), [FIRST] * len(values)  # bytes: of whole steps, at the last place
        self._marks: list[list[tuple[int, Mark]]] = [[] for _ in values]  # in a question: symbols before a place
        self._found: list[list[tuple[int, float]]] = [[] for _ in values]
        self.inside = self._found

    def _pieces(self, i: int, size: int) -> Iterator[slice]:
        self._marks[i] = []
        for part in super()._pieces(i, size):
            if size >= LEAST and (mark := self._wanted(i)):
                self._marks[i].append((part.start, mark))
            yield part

    def _wanted(self, i: int) -> Mark | None:
        """Where a picture's coder stands, if that is far enough behind the last place."""
        mark = self._coders[i].mark()
        now = self._before[i] + mark.size
        if now < APART * self._last[i]:
            return None
        self._last[i] = now
        return mark

    def look(self, state: Any, part: int, questions: Sequence[Question], given: Sequence[Symbols]) -> None:
        """What files show that end at the places in this part; one place of each picture at a time."""
        for some in itertools.zip_longest(*self._marks):
            certain = [one and self._certain(i, one[0], one[1], questions[i]) for i, one in enumerate(some)]
            if all(count is None for count in certain):
                continue
            short = [answers if count is None else answers[:count] for answers, count in zip(given, certain)]
            seen = self._model.denoise(self._model.glimpse(state, part, questions, short))
            for i, (one, count) in enumerate(zip(some, certain)):
                if one is not None and count is not None:
                    self._found[i].append((one[1].size, self._judge(i, seen[i])))

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
        self._before = [before + len(payload) for before, payload in zip(self._before, payloads)]
        self._last = [max(last, before) for last, before in zip(self._last, self._before)]
        self.inside = [
            [(head + at, psnr) for at, psnr in found if head + at < len(payload)]
            for head, payload, found in zip(heads, payloads, self._found)
        ]
        self._found = [[] for _ in payloads]
        return payloads
