"""Previews of many beginnings of one file of ours, from one walk. Knows no metric and no codec
under evaluation.

A beginning ends after a whole step or inside one. Each whole step is decoded once. A step that is
cut is decoded anew for each cut, from the state before it, because a model's walk goes on from
whole steps only. The pictures are those of `Codec.decode`, value for value.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.codec import Codec
from uqdm.evaluation.codecs import Pixels, timed
from uqdm.families.base import State, Walk
from uqdm.format import Chunk, Contents, Header, parse
from uqdm.previews import Way, drawn, shown
from uqdm.walk import Guesser, after


@dataclass(frozen=True, eq=False)
class Preview:
    """What the first `size` bytes of a file show. `seconds`: what decoding them from the start
    takes.
    """

    size: int
    pixels: Pixels
    seconds: float


def previews(model: Codec, data: bytes, sizes: Sequence[int], way: Way) -> Iterator[Preview]:
    """The previews of `data[:size]` for ascending sizes; none may end inside the header.

    The seconds of a beginning are those of its whole steps, each measured once, and of its own part
    of the next step and preview. `data` is a file of three channels, without alpha and correction.
    """
    header = parse(data, steps=0).header
    family = model.match(header)
    state, spent = timed(family.start, (header.height, header.width), [header.seed], header.grey)
    last: Preview | None = None
    for size in sizes:
        if last is None or size != last.size:
            contents, seconds = timed(parse, data[:size])
            for chunk in contents.steps[state.step :]:
                state, more = timed(_after, model, family, state, header, chunk)
                spent += more
            rgb, more = timed(_shown, model, family, state, contents, way)
            last = Preview(size, np.ascontiguousarray(rgb[0].transpose(1, 2, 0)), spent + seconds + more)
        yield last


def _after(model: Codec, family: Walk, state: State, header: Header, chunk: Chunk) -> Any:
    """The state after one more chunk."""
    return after(family, state, model.answers(family, header, state, [chunk.payload], chunk.whole))


def _shown(model: Codec, family: Walk, state: State, contents: Contents, way: Way) -> NDArray[np.uint8]:
    """A preview (1, 3, H, W) after a state and what is there of the next step."""
    if contents.partial is None or way.method == "flow":
        return shown(family, state, way)
    reader = model.answers(family, contents.header, state, [contents.partial.payload], False)
    if way.method == "ancestral" and not reader.empty:  # all but what is certain is drawn
        return drawn(family, state, Guesser(way.seed, way.temperature, reader))
    return shown(family, after(family, state, reader), way)
