"""Pictures to files: the encoder's side of a codec. Knows the walk and the format, and nothing of
what a family does.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm import format, goals, rate
from uqdm.batches import together
from uqdm.errors import LimitError
from uqdm.families.base import State, Walk
from uqdm.format import Header
from uqdm.format.alpha import pack_alpha
from uqdm.goals import Goal
from uqdm.measured import Measured
from uqdm.picture import Picture, stacked
from uqdm.walk import Estimator, Progress, Reader, Writer, after, walk


def start(family: Walk, pictures: Sequence[Picture], seed: int) -> State:
    """Pictures of one size before the first step."""
    h, w, _ = pictures[0].pixels.shape
    found: State = family.start((h, w), [seed] * len(pictures), pictures[0].grey)
    return found


def alike(keys: Iterable[tuple[Any, ...]]) -> Iterator[list[int]]:
    """Numbers of pictures with equal keys (height, width, ...), as `together` has them."""
    return together((key, i) for i, key in enumerate(keys))


@dataclasses.dataclass(frozen=True)
class PictureEncoder:
    """`header`: that of a file, but for what belongs to the picture. `exact`: see
    `families.base.Networks`.
    """

    family: Walk
    header: Header
    coder: str | None
    exact: bool
    index: bool = True  # whether long files of families whose previews are measured get an index

    def files(self, pictures: list[Picture], goal: Goal, progress: Progress | None) -> list[bytes]:
        """A file for each picture, up to what the goal says. Pictures of one size share network
        calls.
        """
        out = [b""] * len(pictures)
        for members in alike((*p.pixels.shape, self._compact(p, goal)) for p in pictures):
            # The search for a PSNR belongs to one picture.
            for group in [[i] for i in members] if goal.psnr is not None else [members]:
                for i, file in zip(group, self._group([pictures[i] for i in group], goal, progress)):
                    out[i] = file
        return out

    def estimate(self, pictures: Sequence[Picture]) -> NDArray[np.float64]:
        """The model's ideal code length of each chunk, in bits: (N, chunks)."""
        family, bits = self.family, np.zeros((len(pictures), self.family.chunks))
        for members in alike(p.pixels.shape for p in pictures):
            some = [pictures[i] for i in members]
            estimator = Estimator(family.values(stacked(some)), family.chunks)
            begin = start(family, some, self.header.seed)
            collections.deque(walk(family, begin, estimator, spend=True, blind=True), maxlen=0)
            bits[members] = estimator.bits
        return bits

    def _group(self, some: list[Picture], goal: Goal, progress: Progress | None) -> list[bytes]:
        """Files of pictures of one size and one form."""
        family, last = self.family, self._last(goal, some[0].grey)
        pixels = some[0].pixels[:, :, 0].size
        headers = [self._headed(p, goal) for p in some]
        carried = [_carried(p) for p in some]
        heads = [len(_written(header, chunks)) for header, chunks in zip(headers, carried)]  # bytes before step 1
        found = [Measured(p, goal.max_error, family.measured) for p in some]
        states = [start(family, some, self.header.seed)]
        if self.index and found[0].promising:
            for one, preview in zip(found, family.denoise(states[0])):
                one.begin(preview)
        writer = Writer(family.values(stacked(some)), self.coder)
        unseen = goal.psnr is None and not found[0].wants_previews
        walked = walk(family, states[0], writer, last, progress, spend=goal.psnr is None, blind=unseen)
        reached = [] if goal.psnr is None else [found[0].psnr(family.denoise(states[0])[0])]
        for state in walked if last != 0 else ():
            states = [] if goal.psnr is None else [states[-1], state]  # only a search goes back, by one
            wanted = found[0].wants_previews and state.step < family.chunks
            shown = family.denoise(state) if wanted or goal.psnr is not None else None
            previews = shown if wanted and shown is not None else [None] * len(some)
            payloads = writer.take(headers[0].symbol_check(state.step))
            for one, payload, preview in zip(found, payloads, previews):
                one.step(payload, preview)
            if goal.psnr is not None and shown is not None:
                reached.append(found[0].psnr(shown[0]))
                if reached[-1] >= goal.psnr:
                    break
            size = goal.size(pixels)
            if size is not None and all(head + one.size >= size for head, one in zip(heads, found)):
                break

        def cut(data: bytes) -> bytes:
            if goal.psnr is None:
                return goals.within(data, goal, pixels)
            return goals.reaching(
                data,
                goal.psnr,
                lambda size: found[0].psnr(family.denoise(self._after(states[0], data[:size]))[0]),
                reached,
            )

        out = []
        for header, before, one in zip(headers, carried, found):
            chunks = [*before, *one.chunks(family.chunks)]
            data = _written(header, chunks)
            kept = len(cut(data))
            if (index := one.index(data, kept)) is not None:
                longer = _written(header, [(format.INDEX, 0, index), *chunks])
                kept, data = kept + len(longer) - len(data), longer
            size = goal.size(pixels)
            out.append(data[: kept if size is None else min(kept, size)])
        return out

    def _last(self, goal: Goal, grey: bool) -> int | None:
        """The last step that is written; None: of all that there are."""
        if goal.max_error is not None:
            return rate.step_within(self.family.guarantees(grey), goal.max_error)
        if goal.step is not None and goal.step > self.family.chunks:
            raise LimitError(
                f"step {goal.step} was asked for; the model {self.header.model} has steps 0 to {self.family.chunks}"
            )
        return goal.step

    def _after(self, before: State, data: bytes) -> State:
        """What a cut file shows, from the state before the step in which it is cut."""
        contents = format.parse(data, max_pixels=None)
        part = contents.steps[before.step] if len(contents.steps) > before.step else contents.partial
        if part is None:
            return before
        number, own = before.step + 1, self.family.side_size
        size = contents.header.symbol_check(number)
        reader = Reader(number, [part.payload], part.whole, own, self.coder, self.exact, size=size)
        found: State = after(self.family, before, reader)
        return found

    def _compact(self, picture: Picture, goal: Goal) -> bool:
        """Whether the file has the compact form: for a small picture of which nothing is told but
        its steps.
        """
        h, w, _ = picture.pixels.shape
        more = picture.alpha is not None or picture.icc or picture.exif or picture.xmp or goal.max_error is not None
        return self.header.minor > 0 and self.exact and h * w <= format.MAX_COMPACT and not more

    def _headed(self, picture: Picture, goal: Goal) -> Header:
        """The header of a picture's file."""
        h, w, _ = picture.pixels.shape
        header = dataclasses.replace(self.header, width=w, height=h, grey=picture.grey, alpha=picture.alpha is not None)
        return header.compacted() if self._compact(picture, goal) else header


def _carried(picture: Picture) -> list[tuple[int, int, bytes]]:
    """Kind, index and payload of what a picture's file carries besides its steps."""
    found = {format.ICC: picture.icc, format.EXIF: picture.exif, format.XMP: picture.xmp}
    if picture.alpha is not None:
        found[format.ALPHA] = pack_alpha(picture.alpha)
    return [(kind, 0, payload) for kind, payload in found.items() if payload]


def _written(header: Header, chunks: Iterable[tuple[int, int, bytes]]) -> bytes:
    """A file of chunks: kind, index and payload of each."""
    file = bytearray(format.write_header(header))
    for kind, index, payload in chunks:
        if header.compact:
            file += format.write_compact_step(payload, file)
        else:
            file += format.write_chunk(kind, index, payload, file)
    return bytes(file)
