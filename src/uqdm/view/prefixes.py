"""What beginnings of one file show: as `Codec.decode` has it, value for value, but each goes on
from a state that is kept. Knows no page.

A state is what is known after a whole step. The last step of a photograph takes most of the time,
so a beginning that ends inside it costs a fraction of a decode.
"""

import collections
from typing import Any

from uqdm import format
from uqdm.codec import Codec, Decoded, finished
from uqdm.measured import known
from uqdm.previews import Way, bounds, shown
from uqdm.walk import Progress, after

STATES = 256 << 20  # bytes of states that are kept of one file
STATE = 32  # bytes of a state for each pixel, about

WAY = Way("denoise")


class Prefixes:
    """Previews of the beginnings of one file, one at a time: for one thread.

    `codec`: of the file's model.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._states: collections.OrderedDict[int, Any] = collections.OrderedDict()  # by step; the latest used last

    def decode(self, data: bytes, progress: Progress | None = None) -> Decoded:
        """What the beginning `data` shows. What `progress` raises ends it; the states that were
        reached stay.

        Raises what `Codec.decode` raises.
        """
        contents = format.parse(data, max_pixels=self._codec.max_pixels)
        header, steps = contents.header, contents.steps
        family = self._codec.match(header)
        begin = max((step for step in self._states if step <= len(steps)), default=0)
        state = self._states.get(begin)
        if state is None:
            state = family.start((header.height, header.width), [header.seed], header.grey)
        for chunk in steps[begin:]:
            answers = self._codec.answers(family, header, state, [chunk.payload], True)
            state = after(family, state, answers, progress)
            self._keep(state, header.height * header.width)
        if state.step:
            self._states.move_to_end(state.step)
        if contents.partial is not None:
            answers = self._codec.answers(family, header, state, [contents.partial.payload], False)
            state = after(family, state, answers, progress)
        further = state.cut or state.step > len(steps)
        pixels, bound = shown(family, state, WAY)[0], bounds(family, state, "denoise", 1)[0]
        if not further:
            pixels, bound = known(header, contents.chunks, pixels, len(steps), bound)
        corrected = not further and contents.payload(format.CORRECTION) is not None
        picture = finished(header, contents.chunks, pixels)
        return Decoded(picture, len(steps), family.chunks, further, bound, contents.tail, None, corrected)

    def reduced(self, data: bytes, halvings: int, progress: Progress | None = None) -> Decoded:
        """As `decode`, with the sides halved so often. Raises `LimitError` where the model cannot."""
        return self._codec.decode_many([data], reduce=halvings, progress=progress)[0]

    def _keep(self, state: Any, pixels: int) -> None:
        self._states[state.step] = state
        while len(self._states) > max(1, STATES // (STATE * pixels)):
            self._states.popitem(last=False)
