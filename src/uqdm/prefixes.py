"""What beginnings of one file show: as `Codec.decode` has it, value for value, but each goes on
from a state that is kept. Knows no page and no metric.

A state is what is known after a whole step. The last step of a photograph takes most of the time,
so a beginning that ends inside it costs a fraction of a decode.
"""

import collections
from typing import Any

from uqdm import format
from uqdm.codec import Codec, Decoded, finished
from uqdm.families.base import Walk
from uqdm.format import Contents
from uqdm.measured import known
from uqdm.previews import Way, bounds, drawn, shown
from uqdm.walk import Guesser, Progress, after

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
        contents, family, state = self._reached(data, progress)
        header, plain, reached = contents.header, self._way.method == "denoise", len(contents.steps)
        further = False
        if contents.partial is None or self._way.method == "flow":
            pixels = shown(family, state, self._way, progress)[0]
        else:
            reader = self._codec.answers(family, header, state.step + 1, [contents.partial.payload], False)
            if plain or reader.empty:
                state = after(family, state, reader, progress)
                further = state.cut or state.step > reached
                pixels = shown(family, state, self._way, progress)[0]
            else:  # all but what is certain of the step that was cut is drawn
                further = True
                pixels = drawn(family, state, Guesser(self._way.seed, self._way.temperature, reader), progress)[0]
        bound = bounds(family, state, self._way.method, 1)[0]
        if plain and not further:
            pixels, bound = known(header, contents.chunks, pixels, reached, bound)
        corrected = plain and not further and contents.payload(format.CORRECTION) is not None
        picture = finished(header, contents.chunks, pixels)
        return Decoded(picture, reached, family.chunks, further, bound, contents.tail, None, corrected)

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
        for chunk in steps[begin:]:
            answers = self._codec.answers(family, header, state.step + 1, [chunk.payload], True)
            state = after(family, state, answers, progress)
            self._keep(state, header.height * header.width)
        if state.step:
            self._states.move_to_end(state.step)
        return contents, family, state

    def _keep(self, state: Any, pixels: int) -> None:
        self._states[state.step] = state
        while len(self._states) > max(1, self._room // (STATE * pixels)):
            self._states.popitem(last=False)
