"""What the networks of a step see of boxes, and where their locations start, in NumPy's integers;
knows no network.

Boxes are int16 (N, C, H, W), ends included, H and W even. Features are the centre, the high-pass
and the width of every box. Networks run at half resolution: four pixels of 2 x 2 are four channels.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from uqdm.exact.bound import MOST_SHIFT, ranged
from uqdm.exact.network import EXACT, Array

DETAIL_LIMIT = 2047  # of the high-pass as a feature
LOCATION_BITS = 10  # a raw location counts in 2**-10 of the nominal width
LEVEL_BITS = 6  # a raw level in 2**-6 of a level
FARTHEST = 1 << 30  # |location| in 2**-16 pixel values
LEVELS = 128
COORDINATES = 3  # of a pixel
FAR = 1 << 40  # what is added to locations, and skips, so that sums stay far inside 64 bits
RANGES = {  # of a step's constants: the least and the largest value that a model may have
    "middle": (0, 255),
    "width": (1, (1 << 31) - 1),
    "offset": (-FAR, FAR),
    "level": (-EXACT, EXACT),
    "detail": (0, MOST_SHIFT),
    "wide": (1, 511),  # no box is wider
    "skip": (-FAR, FAR),
}

Boxes = NDArray[np.int16]  # (N, C, H, W) the lower or the upper ends, of all boxes


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxFeatures:
    """What a step's features follow from. C coordinates a pixel."""

    middle: Array  # (C,) twice the middle of the range
    width: Array  # (C,) nominal box width, 2**-16 pixel values
    detail: Array  # (), in files (1,): as a feature the high-pass, in 2**-5 pixel values, is shifted right by so much
    wide: Array  # (C,) box widths are limited to it as a feature

    def check_constants(self, name: str, *fields: str) -> None:
        """Raises `PackageError` where a constant is out of its range; `fields`: of (C,), besides
        those above.
        """
        for field in ("middle", "width", "detail", "wide", *fields):
            ranged(
                f"{name}: {field}", getattr(self, field), () if field == "detail" else (COORDINATES,), *RANGES[field]
            )

    def limits(self) -> Array:
        """(12 C,) what the features cannot exceed in size."""
        centre = np.where(self.middle == 255, 255, 510)  # coordinates are 0 .. 255 or -255 .. 255
        return np.repeat(np.concatenate([centre, [DETAIL_LIMIT] * len(self.middle), self.wide]).astype(np.int64), 4)

    def features(self, low: Boxes, high: Boxes) -> NDArray[np.float32]:
        """All of them: (N, 12 C, H/2, W/2), integers as float32."""
        return self.features_given(low, high, high_pass(low.astype(np.int32) + high))

    def features_given(self, low: Boxes, high: Boxes, high_passed: NDArray[np.int32]) -> NDArray[np.float32]:
        """The same, where the high-pass (N, C, H, W) is known already."""
        twice = low.astype(np.int32) + high
        # From below too: only damaged or sampled streams make empty boxes, but the bound must hold
        # for them.
        wide = np.clip(high.astype(np.int32) - low + 1, 0, self.wide[:, None, None].astype(np.int32))
        return gathered(
            np.concatenate([twice - self.middle[:, None, None].astype(np.int32), self.details(high_passed), wide], 1)
        )

    def details(self, high_passed: NDArray[np.int32]) -> NDArray[np.int32]:
        """The high-pass as a feature, (N, C, H, W)."""
        shift = self.detail.item()
        found: NDArray[np.int32] = np.clip((high_passed + (1 << shift >> 1)) >> shift, -DETAIL_LIMIT, DETAIL_LIMIT)
        return found

    def base(self, twice: NDArray[np.int32], high_passed: NDArray[np.int32], skip: Array) -> NDArray[np.int64]:
        """Where locations start: of each box the centre, and the skip term. (N, C, h, w), 2**-16
        pixel values.

        The skip term is width * d / (|s| + |d|) with the sign of s, where d is the high-pass in
        2**-5 pixel values. skip (C,): s; where it is 0, the term is 0.
        """
        width, s = (a.astype(np.int64).reshape(-1, 1, 1) for a in (self.width, skip))
        detail = high_passed.astype(np.int64)
        found: NDArray[np.int64] = np.where(s < 0, -width, width) * detail
        np.abs(detail, out=detail)
        detail += np.maximum(np.abs(s), 1)
        found //= detail
        found *= s != 0
        found += twice.astype(np.int64) << 15
        return found


def high_pass(twice: NDArray[np.int32]) -> NDArray[np.int32]:
    """16 x less its 3 x 3 binomial sum (1 2 1; 2 4 2; 1 2 1), edges replicated; of twice the
    centre: the high-pass in 2**-5.
    """
    n, c, h, w = twice.shape
    rows = np.empty((n, c, h, w + 2), np.int32)  # np.pad would take most of the time at 64 x 64
    inner = rows[..., 1:-1]
    np.multiply(twice, 2, out=inner)
    inner[:, :, 1:] += twice[:, :, :-1]
    inner[:, :, :1] += twice[:, :, :1]
    inner[:, :, :-1] += twice[:, :, 1:]
    inner[:, :, -1:] += twice[:, :, -1:]
    rows[..., 0], rows[..., -1] = rows[..., 1], rows[..., -2]
    found: NDArray[np.int32] = 16 * twice
    found -= rows[..., :-2]
    found -= rows[..., 2:]
    inner *= 2
    found -= inner
    return found


def gathered(field: Array) -> NDArray[np.float32]:
    """(N, C, H, W) -> (N, 4 C, H/2, W/2): the four pixels of 2 x 2 as channels."""
    n, c, h, w = field.shape
    halves = field.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4)
    return np.ascontiguousarray(halves.reshape(n, 4 * c, h // 2, w // 2), np.float32)
