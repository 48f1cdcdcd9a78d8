"""Corrections of a preview: what brings every value of a pixel within an error of the true one.
Knows pixels, and no model.

A preview of some models promises nothing by itself. Its encoder knows the picture, so it can say
where the preview is too far off. A correction tells for every value the multiple of 2 E + 1 nearest
to its error: 0 in most places. How likely each multiple is depends on how lively the preview is
there, and on the multiples of the channels before. The odds of each such class are told first.

    u8     E, at least 1
    u8     M, the largest multiple
    CLASSES times: u8, how rare it is that a multiple is not 0;
                   u8, how each larger multiple compares with the one before
    the range coder's bytes: values channel by channel, row by row
"""

import functools
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from uqdm.entropy import coder, tables
from uqdm.errors import DamagedError

# classes by how lively the preview is: a range of 0, 1, 2 to 3, 4 to 7, ..., 64 and more in the 3 x
# 3 neighbourhood
LIVELY = 8
CLASSES = 3 * LIVELY  # and by the largest multiple of the channels before: 0, 1, more
MOST = 31  # a multiple
RARE = 16  # steps of an octave in which it is told how rare a multiple is
BLOCK = 1 << 14

Pixels = NDArray[np.uint8]  # (C, H, W)


def multiples(preview: Pixels, pixels: Pixels, most: int) -> NDArray[np.int64]:
    """(C, H, W): of 2 `most` + 1, nearest to the errors."""
    error = pixels.astype(np.int64) - preview
    found: NDArray[np.int64] = np.sign(error) * ((np.abs(error) + most) // (2 * most + 1))
    return found


def written(preview: Pixels, pixels: Pixels, most: int) -> bytes | None:
    """The correction that brings all values within `most` >= 1, or None where the preview is too
    far off for one.
    """
    found = multiples(preview, pixels, most)
    largest = int(np.abs(found).max(initial=0))
    if largest > MOST:
        return None
    classes = [_classes(preview[c], found[:c]) for c in range(len(preview))]
    odds = [_odds(found, classes, k) for k in range(CLASSES)]
    encoder = coder.RangeEncoder()
    rows = np.stack([_masses(rare, ratio, largest) for rare, ratio in odds])
    for one, its in zip(found.reshape(len(found), -1), classes):
        for part in _blocks(one.size):
            encoder.encode(one[part] + largest, rows[its[part]])
    return bytes([most, largest]) + bytes(byte for pair in odds for byte in pair) + encoder.finish()


def applied(preview: Pixels, correction: bytes) -> tuple[Pixels, int]:
    """The corrected preview, and how far its values can be from the true ones. Raises
    `DamagedError` for what no encoder writes.
    """
    head = 2 + 2 * CLASSES
    if len(correction) < head or not 1 <= correction[0] <= 254 or correction[1] > MOST:
        raise DamagedError("the correction is not one that an encoder writes")
    most, largest = correction[0], correction[1]
    rows = np.stack([_masses(correction[2 + 2 * k], correction[3 + 2 * k], largest) for k in range(CLASSES)])
    decoder = coder.RangeDecoder(correction[head:])
    found = np.zeros(preview.shape, np.int64)
    for c, one in enumerate(found.reshape(len(found), -1)):
        its = _classes(preview[c], found[:c])
        for part in _blocks(one.size):
            symbols = decoder.decode(rows[its[part]])
            if (symbols > 2 * largest).any():
                raise DamagedError("the correction leaves its tables")
            one[part] = symbols - largest
    return np.clip(preview + (2 * most + 1) * found, 0, 255).astype(np.uint8), most


def _blocks(count: int) -> list[slice]:
    return [slice(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]


def _classes(preview: NDArray[np.uint8], before: NDArray[np.int64]) -> NDArray[np.int64]:
    """(H * W,) the class of each value of a channel (H, W); `before` (c, H, W): multiples of the
    channels before.
    """
    padded = np.pad(preview, 1, "edge")
    h, w = preview.shape
    around = [padded[y : y + h, x : x + w] for y in range(3) for x in range(3)]
    span = functools.reduce(np.maximum, around) - functools.reduce(np.minimum, around)
    lively = np.minimum(np.array([int(i).bit_length() for i in range(256)])[span], LIVELY - 1)
    told = np.minimum(np.abs(before).max(0, initial=0), 2) if len(before) else 0
    return (LIVELY * told + lively).reshape(-1)  # type: ignore[no-any-return]


def _odds(found: NDArray[np.int64], classes: list[NDArray[np.int64]], k: int) -> tuple[int, int]:
    """What is told of a class: the odds that fit it best."""
    own = np.concatenate([np.abs(one.reshape(-1)[its == k]) for one, its in zip(found, classes)])
    some, total = int(np.count_nonzero(own)), int(own.sum())
    rare = round(-RARE * np.log2((some + 0.5) / (len(own) + 1)))
    ratio = round(256 * (1 - some / total)) if total else 0
    return min(max(rare, 0), 255), min(max(ratio, 0), 255)


@functools.cache
def _masses(rare: int, ratio: int, largest: int) -> NDArray[np.int64]:
    """A row of masses of the multiples -largest .. largest; the last one is no multiple."""
    with localcontext() as context:
        context.prec = 50
        some = int(
            (Decimal(2) ** (24 - Decimal(rare + 1) / RARE)).to_integral_value()
        )  # never all: 0 can always be told
    shares = [1 << 20]
    for _ in range(largest - 1):
        shares.append(max(1, shares[-1] * ratio >> 8))
    spread = tables.PRECISION
    room = (1 << spread) - 1 - (2 * largest + 1)
    some = min(some, room)
    sides = [some * share // (2 * sum(shares)) + 1 for share in shares] if largest else []
    row = [*reversed(sides), 0, *sides, 1]
    row[largest] = (1 << spread) - sum(row)
    found = np.array(row, np.int64)
    found.flags.writeable = False
    return found
