"""The pyramid as a walk over integers (`torch/model.py` says what it is); knows nothing of bytes.
`chunk.py` is a step in progress; bands and fields have files of their own.

A picture is the coefficients of a wavelet (`lattice`). Both ends draw one offset for each detail,
uniform below its first width. Its cell after step k is the interval of w_k integers, counted from
the offset, that holds it. The first step tells the last low-pass as it is.

A step goes from the coarsest level to the finest, and at each level over HL, LH, HH, and in each
over Y, Co, Cg. A part tells in which child of its known cell each detail of one band and channel
lies, under a mixture of logistics truncated to that cell. The most uncertain come first. A detail
whose predicted scale is below `threshold` widths is not asked for, and keeps its cell. Every number
here is an integer. So nothing has to be told besides symbols, and every preview is the same
everywhere.

Details are kept by level, (N, 9, h, w) of the size of the level's low-pass image: HL, LH, HH, of
each Y, Co, Cg. A band that is shorter repeats its edge there; these places are never asked for.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import tables
from uqdm.entropy.tables import FRACTION
from uqdm.errors import LimitError
from uqdm.families import colour, order
from uqdm.families.boxes import Integers
from uqdm.families.pyramid import lattice
from uqdm.families.pyramid.band import NOTHING
from uqdm.families.pyramid.chunk import (
    BANDS,
    CHANNELS,
    DETAILS,
    Constants,
    Networks,
    PyramidChunk,
    PyramidPart,
    PyramidState,
    Values,
    bands,
    places,
)
from uqdm.families.pyramid.correcting import BITS, CORRECTED, SIZES
from uqdm.families.pyramid.fields import Offsets, Planes, strips
from uqdm.families.pyramid.networks import VALUE_BITS
from uqdm.families.pyramid.tuning import LEAST

SPACE = "ycocg-r"
# pixels with which two chunks are worked at, one beside the other: it is no faster with fewer, and
# takes 20 bytes a pixel; no bit depends on it
BESIDE = range(1 << 16, 1 << 22)
PREVIEW_BITS = 8  # behind the point of what previews are made from


class PyramidWalk:
    """The walk. Implements `families.Family`."""

    side_size = 0
    bounded = True
    measured = True

    def __init__(self, constants: Constants, networks: Networks, halvings: int = 0) -> None:
        """`halvings`: so many of the finest levels are left out."""
        self.constants, self.networks, self.halvings = constants, networks, halvings
        self._parts: dict[tuple[int, tuple[int, int], bool], list[PyramidPart]] = {}

    @property
    def chunks(self) -> int:
        """T."""
        return self.constants.steps

    def reduced(self, halvings: int) -> "PyramidWalk":
        """A step's coarse levels come first and know nothing of the finer ones, so these need not
        be read.
        """
        return PyramidWalk(self.constants, self.networks, halvings)

    def start(self, shape: tuple[int, int], seeds: Sequence[int], grey: bool = False) -> PyramidState:
        """Before the first chunk: all coefficients anywhere in their ranges. The chroma of a grey
        picture is 0 and never asked for.
        """
        h, w = shape
        if 3 * h * w >= 2**31:
            raise LimitError(
                f"{w} x {h} is {h * w:,} pixels; places of coefficients are numbers below 2**31: "
                "at most 715,827,882 pixels"
            )
        count, n = lattice.levels(h, w), len(seeds)
        shapes = lattice.shapes(h, w, count)
        ground = np.zeros((n, CHANNELS, *shapes[-1]), np.int16)
        ground[:, 0] = sum(lattice.low_range(count, 0)) // 2
        limits = [self.constants.widths(0, level).tolist() for level in range(1, count + 1)]
        state = PyramidState(0, shape, grey, ground, [], [], [], [], Offsets(seeds, limits, shapes[1:]))
        for level in range(1, count + 1):
            size = (n, *shapes[level])
            there = [all(lattice.sides(shapes[level - 1], band)) for band in range(BANDS)]
            ranges = [lattice.detail_range(level, *divmod(k, CHANNELS)) * there[k // CHANNELS] for k in range(DETAILS)]
            # All places of a plane are one number in memory.
            low, high = ([np.broadcast_to(np.int16(sign * most), size) for most in ranges] for sign in (-1, 1))
            nothing = [np.broadcast_to(np.int16(0), size)] * DETAILS
            for known, planes in zip((state.low, state.high, state.value, state.mean), (low, high, nothing, nothing)):
                known.append(Planes(planes))
        return state

    def values(self, pixels: NDArray[np.uint8]) -> Values:
        """Pixels (N, 3, H, W) as the integers that are coded: (N, D), the last low-pass, then the
        details of level 1, 2, ...
        """
        v, (h, w) = np.empty(pixels.shape, np.int16), pixels.shape[2:]
        for rows in strips(v.shape):
            v[:, :, rows] = colour.forward(pixels[:, :, rows], SPACE)
        count = lattice.levels(h, w)
        shapes = lattice.shapes(h, w, count)
        begins = [0, *places(shapes)]
        found = np.empty(
            (len(v), begins[-1] + DETAILS * shapes[-1][0] * shapes[-1][1] if count else v[0].size), np.int16
        )
        for c in range(CHANNELS):
            low, details = lattice.forward(v[:, c : c + 1], count)
            found[:, c * low[0].size : (c + 1) * low[0].size] = low.reshape(len(v), -1)
            for begin, one in zip(begins[1:], details):
                for k, band in enumerate(lattice.side_by_side(one).transpose(1, 0, 2, 3)):
                    at = begin + (CHANNELS * k + c) * band[0].size
                    found[:, at : at + band[0].size] = band.reshape(len(v), -1)
        return found

    def side(self, state: PyramidState) -> list[bytes]:
        """Nothing is told besides symbols."""
        return [b""] * len(state.ground)

    def parts(self, state: PyramidState) -> int:
        """A part is a run of a digit of a channel of a band of a level."""
        return len(self._list(state))

    def _list(self, state: PyramidState) -> list[PyramidPart]:
        key = state.step, state.size, state.grey
        if key not in self._parts:
            self._parts[key] = list(self._all(*key)) or [PyramidPart(0, 0, 0, NOTHING, 0)]
        return self._parts[key]

    def _all(self, step: int, size: tuple[int, int], grey: bool) -> Iterator[PyramidPart]:
        count = lattice.levels(*size)
        shapes = lattice.shapes(*size, count)
        if step == 0:
            yield from (PyramidPart(0, 0, c, digit, 0) for c in range(1 if grey else CHANNELS) for digit in range(2))
        for level in range(count, min(self.halvings, count), -1):
            if not self.networks.visited(step, level):
                break
            for k, width in enumerate(self.constants.widths(step, level).tolist()):
                band, channel = divmod(k, CHANNELS)
                rows, columns = lattice.sides(shapes[level - 1], band)
                if rows * columns >= LEAST and not (grey and channel):
                    yield from (PyramidPart(level, band, channel, digit, 0) for digit in (CORRECTED, SIZES, BITS))
                most = 2 * lattice.detail_range(level, band, channel) // width + 2  # children
                for digit in range(0 if most > tables.MOST else 1, 2):
                    for run in range(max(1, order.runs((rows, columns)))):
                        yield PyramidPart(level, band, channel, digit, run)

    def spending(self, state: PyramidState) -> None:
        """Says of a state that nobody looks at it once the next chunk has begun."""
        state.work["spent"] = True

    def blinded(self, state: PyramidState) -> None:
        """Says of a state that nobody makes a preview of what the next chunk, a whole one, makes of it."""
        state.work["blind"] = True

    def question(self, state: PyramidState, part: int, side: Sequence[bytes]) -> list[Any]:
        """What part `part` of the next chunk asks, one record for each picture."""
        if part == 0:
            state.work["chunk"] = PyramidChunk(self.constants, self.networks, self._list(state), state)
        found: list[Any] = state.work["chunk"].question(part)
        return found

    def update(
        self, state: PyramidState, part: int, questions: Sequence[Any], answers: Sequence[Integers]
    ) -> PyramidState:
        """What is known after the answers, which may fall short."""
        chunk: PyramidChunk = state.work["chunk"]
        chunk.answered(part, questions, answers)
        if any(len(a) < q.size for a, q in zip(answers, questions)):
            del state.work["chunk"]
            chunk.predict(part)
            return chunk.become(state.step, True)
        if part + 1 == len(chunk.parts):
            del state.work["chunk"]
            return chunk.become(state.step + 1, False)
        return state

    # --- the next chunk, beside one that is told (see `ahead`)

    def promised(self, state: PyramidState) -> PyramidState | None:
        """The state after the chunk that is told. It pays for pictures of several tiles, on several
        threads.
        """
        chunk: PyramidChunk | None = state.work.get("chunk")
        workers, pixels = getattr(self.networks, "workers", None), len(state.ground) * math.prod(state.size)
        if chunk is None or workers is None or workers.threads == 1 or pixels not in BESIDE:
            return None
        known = chunk.low, chunk.high, chunk.value, chunk.mean
        work = {"before": chunk}
        return PyramidState(state.step + 1, state.size, state.grey, chunk.ground, *known, state.offset, work=work)

    def ready(self, state: PyramidState, part: int) -> bool:
        """Whether what a part of the chunk after a promised state needs has been told."""
        before: PyramidChunk | None = state.work.get("before")
        parts = self._list(state)
        return before is None or before.through <= (parts[part].level if part + 1 < len(parts) else 0)

    # --- previews

    def denoise(self, state: PyramidState) -> NDArray[np.uint8]:
        """The `denoise` reconstruction: posterior means from what each step's own networks said, with
        all answers that were there (see `PyramidChunk.predict`). uint8 (N, 3, H, W); exact at the end.
        """
        least = min(self.halvings, len(state.low))
        shapes = lattice.shapes(*state.size, len(state.low))[least:]
        whole = state.step >= self.chunks
        count = 1 if state.grey and not whole else CHANNELS
        v = np.empty((len(state.ground), count, *shapes[0]), np.int16 if whole else np.int32)
        for c in range(count):
            v[:, c] = self._channel(state, c, whole, shapes)[:, 0]
        found = np.empty((len(v), CHANNELS, *shapes[0]), np.uint8)
        for rows in strips(v.shape):
            some = v[:, :, rows]
            if whole:
                found[:, :, rows] = colour.inverse(some, SPACE)
            elif state.grey:  # luma is the pixel: the transform's floors took nothing off it
                found[:, :, rows] = colour.preview(some, "rgb")
            else:
                found[:, :, rows] = colour.preview(some, SPACE)
        return found

    def _channel(self, state: PyramidState, c: int, whole: bool, shapes: list[tuple[int, int]]) -> NDArray[np.int32]:
        """(N, 1, H, W): one channel as it is known, within 16 bits; before the end its mean, in
        2**-FRACTION.
        """
        v = state.ground[:, c : c + 1].astype(np.int32) << (0 if whole else PREVIEW_BITS)
        for number in range(len(state.low), self.halvings, -1):
            finer = shapes[number - 1 - self.halvings]
            if whole:
                v = lattice.level_up(v, bands(state.low[number - 1], c, finer))
                continue
            hl, lh, hh = (one << (PREVIEW_BITS - VALUE_BITS) for one in bands(state.mean[number - 1], c, finer))
            v = lattice.level_up_values(v, (hl, lh, hh), PREVIEW_BITS)
        if whole:
            return np.clip(v, -32768, 32767, out=v)
        np.clip(v, -(1 << 13) << PREVIEW_BITS, ((1 << 13) - 1) << PREVIEW_BITS, out=v)
        v <<= FRACTION - PREVIEW_BITS
        return v

    def flow(self, state: PyramidState) -> NDArray[np.uint8]:
        """The same as `denoise`: a mean has no noise to follow."""
        return self.denoise(state)

    def bound(self, state: PyramidState) -> list[int]:
        """Cells of a wavelet bound nothing useful: 255 before the end, 0 there."""
        return [0 if state.step >= self.chunks else 255] * len(state.ground)

    def guarantees(self, grey: bool = False) -> list[tuple[int, int, int]]:
        """Before the first chunk, after it, ..., after the last."""
        return [(255, 255, 255)] * self.chunks + [(0, 0, 0)]
