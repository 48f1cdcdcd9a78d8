"""What beginnings of one file show: as `Codec.decode` has it, value for value, but each goes on
from a state that is kept. Knows no page and no metric.

A state is what is known after a whole step. The last step of a photograph takes most of the time,
so a beginning that ends inside it costs a fraction of a decode.
"""

import collections
import functools
from typing import Any

from uqdm import format
from uqdm.ahead import following
from uqdm.codec import Codec, Decoded
from uqdm.families.base import Walk
from uqdm.format import Contents
from uqdm.previews import Way
from uqdm.walk import Progress, after

STATES = 256 << 20  # bytes of states that are kept of one file
STATE = 32  # bytes of a state for each pixel, about

DENOISE = Way("denoise")


class Prefixes:
    """Previews of the beginnings of one file, one at a time: for one thread.

    `codec`: of the file's model. `way`: how previews are made. `room`: how many bytes of states are
    kept, about; the latest one always is.
    """

    def __init__(self, codec: Codec, way: Way = DENOISE, room: int = STATES) -> None:
        self._codec, self._way, self._room = codec, way, room
        self._states: collections.OrderedDict[int, Any] = collections.OrderedDict()  # by step; the latest used last

    def decode(self, data: bytes, progress: Progress | None = None) -> Decoded:
        """What the beginning `data` shows. What `progress` raises ends it; the states that were
        reached stay.

        Raises what `Codec.decode` raises.
        """
        contents, family, before = self._reached(data, progress)
        state = before
        if contents.partial is not None and self._way.method != "flow":
            payloads = [contents.partial.payload]
            answers = self._codec.answers(family, contents.header, before.step + 1, payloads, False)
            state = after(family, before, answers, progress)
        return self._codec.previews([contents], family, before, state, self._way, progress)[0]

    def advance(self, data: bytes, progress: Progress | None = None) -> None:
        """Decodes the whole steps of the beginning `data`, so that `decode` goes on from there."""
        self._reached(data, progress)

    def reduced(self, data: bytes, halvings: int, progress: Progress | None = None) -> Decoded:
        """As `decode`, with the sides halved so often. Raises `LimitError` where the model cannot."""
        return self._codec.decode_many([data], reduce=halvings, progress=progress)[0]

    def _reached(self, data: bytes, progress: Progress | None) -> tuple[Contents, Walk, Any]:
        """The parts of a beginning, and the state after its whole steps."""
        contents = format.parse(data, max_pixels=self._codec.max_pixels)
        header, steps = contents.header, contents.steps
        family = self._codec.match(header)
        begin = max((step for step in self._states if step <= len(steps)), default=0)
        state = self._states.get(begin)
        if state is None:
            state = family.start((header.height, header.width), [header.seed], header.grey)
        readers = [
            functools.partial(self._codec.answers, family, header, number, [chunk.payload], True)
            for number, chunk in enumerate(steps[begin:], begin + 1)
        ]
        for now in following(family, state, readers, progress):
            self._keep(state := now, header.height * header.width)
        if state.step:
            self._states.move_to_end(state.step)
        return contents, family, state

    def _keep(self, state: Any, pixels: int) -> None:
        self._states[state.step] = state
        while len(self._states) > max(1, self._room // (STATE * pixels)):
            self._states.popitem(last=False)
