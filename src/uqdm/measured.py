"""Errors of previews that an encoder measures, for families whose previews promise nothing by
themselves. Knows pixels and chunks.

The encoder sees every preview that a decoder will show after a whole step, for previews are the
same bits everywhere. So it can tell how far each is off, in a chunk before the first step. Where an
error is asked for, it takes the cheapest step, and corrects its preview. It also tells, in an index
at the beginning, what the PSNR is after each step.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uqdm import format, nearlossless, quality
from uqdm.format import Chunk, Header, Place
from uqdm.picture import Picture

LEAST = format.MAX_COMPACT + 1  # pixels from which the errors are told without being asked for
LEAST_INDEXED = 1 << 15  # bytes of a file from which it has an index

Pixels = NDArray[np.uint8]


class Measured:
    """What an encoder finds out about the previews of one picture.

    `most`: the error that is asked for, if one is. `measured`: see `families.base.Walk`; else there
    is nothing to find out.
    """

    def __init__(self, picture: Picture, most: int | None, measured: bool) -> None:
        self._pixels = np.ascontiguousarray(picture.pixels.transpose(2, 0, 1))
        self._most = most
        self._told = measured and (most is not None or self._pixels[0].size >= LEAST)
        self._errors: list[int] = []
        self._steps: list[bytes] = []
        self._psnr: list[float] = []  # before the first step, after it, ...
        self._best: tuple[int, int, bytes | None] | None = (
            None  # bytes in all, steps, and the correction, if one is needed
        )

    @property
    def wants_previews(self) -> bool:
        """Whether there is anything to find out."""
        return self._told

    @property
    def promising(self) -> bool:
        """Whether the file may get an index: the PSNR of beginnings is wanted."""
        return self._told and self._pixels.size >= LEAST_INDEXED

    def psnr(self, preview: Pixels) -> float:
        """Of a preview (3, H, W), over all values, in decibels."""
        return quality.psnr(quality.mse(self._own(preview), self._pixels))

    def begin(self, preview: Pixels) -> None:
        """Nothing has been written. `preview` (3, H, W): what is shown then."""
        self._psnr.append(self.psnr(preview))

    def _own(self, preview: Pixels) -> Pixels:
        return preview[1:2] if len(self._pixels) == 1 else preview

    def step(self, payload: bytes, preview: Pixels | None) -> None:
        """One more step has been written. `preview` (3, H, W): after it; None after the last
        one.
        """
        self._steps.append(payload)
        if self._psnr:
            self._psnr.append(math.inf if preview is None else self.psnr(preview))
        if preview is None:
            return
        shown = self._own(preview)
        rows = zip(
            shown.swapaxes(0, 1), self._pixels.swapaxes(0, 1)
        )  # one at a time: differences take twice the memory of pixels
        self._errors.append(max(int(np.abs(a.astype(np.int16) - b).max()) for a, b in rows))
        if self._most:
            near = self._errors[-1] <= self._most
            correction = None if near else nearlossless.written(shown, self._pixels, self._most)
            if near or correction is not None:
                size = self.size + len(correction or b"")
                if self._best is None or size < self._best[0]:
                    self._best = size, len(self._steps), correction

    @property
    def size(self) -> int:
        """Bytes of the steps so far, without what a file puts around them."""
        return sum(map(len, self._steps))

    def chunks(self, count: int) -> list[tuple[int, int, bytes]]:
        """Kind, index and payload of what a file holds after its metadata. `count`: steps of a
        whole file.

        Of steps that were not written nothing is known: 255.
        """
        steps, correction = self._steps, None
        if self._best is not None and self._best[0] < self.size:
            steps, correction = steps[: self._best[1]], self._best[2]
        errors = bytes(self._errors).ljust(count - 1, b"\xff")
        found = [(format.ERRORS, 0, errors)] if self._told else []
        found += [(format.STEP, k, payload) for k, payload in enumerate(steps, 1)]
        return found if correction is None else [*found, (format.CORRECTION, 0, correction)]

    def index(self, file: bytes, size: int) -> bytes | None:
        """The payload of the index of a file that has none yet, about its first `size` bytes. None:
        nobody asked for one, or the file is short.
        """
        if not self._psnr or size < LEAST_INDEXED:
            return None
        contents = format.parse(file, max_pixels=None)
        places = [Place(end, psnr, step) for step, (end, psnr) in enumerate(zip(format.ends(contents), self._psnr))]
        return format.write_index([place for place in places if place.bytes <= size], contents.header_size)


def known(header: Header, chunks: Sequence[Chunk], preview: Pixels, step: int, bound: int) -> tuple[Pixels, int]:
    """A preview (3, H, W) after a whole step, and how far it is off at most, by what a file tells
    besides its steps.

    `bound`: what is promised anyway. Raises `DamagedError`.
    """
    told = {chunk.kind: chunk.payload for chunk in chunks}
    if format.CORRECTION in told:
        own = preview[1:2] if header.grey else preview
        corrected, most = nearlossless.applied(own, told[format.CORRECTION])
        return np.broadcast_to(corrected, preview.shape), min(bound, most)
    if format.ERRORS in told and 0 < step < header.chunks:
        bound = min(bound, told[format.ERRORS][step - 1])
    return preview, bound
