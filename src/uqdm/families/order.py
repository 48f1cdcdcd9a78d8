"""In which order a step's coordinates are sent; knows no model.

Both ends know what the network predicts, so the most uncertain coordinates go first: each byte then
buys the most. Coordinates of one priority go from coarse grids to fine ones. A large picture is
taken in runs, each a grid over the whole of it, so that what has to be sorted at once stays
bounded.
"""

import functools

import numpy as np
from numpy.typing import NDArray

RUN = 1 << 20  # pixels sorted at once; part of the format


@functools.lru_cache(maxsize=4)
def lattice(height: int, width: int) -> NDArray[np.int32]:
    """Flat positions (height * width,) of a field, coarse grids before fine ones.

    Position (y, x) comes in the order of the number whose bits are y_0 x_0 y_1 x_1 ..., lowest bits
    of y and x first: all even positions before the odd ones, and of these all that are multiples of
    four first, and so on.
    """
    bits_y, bits_x = (height - 1).bit_length(), (width - 1).bit_length()
    y = x = np.zeros(1, np.int32)
    for bit in range(max(bits_y, bits_x) - 1, -1, -1):
        if bit < bits_x:
            y, x = np.concatenate([y, y]), np.concatenate([2 * x, 2 * x + 1])
        if bit < bits_y:
            y, x = np.concatenate([2 * y, 2 * y + 1]), np.concatenate([x, x])
        inside = (y <= (height - 1) >> bit) & (x <= (width - 1) >> bit)
        y, x = y[inside], x[inside]
    found: NDArray[np.int32] = y * np.int32(width) + x
    found.flags.writeable = False
    return found


def runs(size: tuple[int, int]) -> int:
    """How many runs a field (height, width) is taken in."""
    return -(-size[0] * size[1] // RUN)


def run(size: tuple[int, int], number: int) -> NDArray[np.int32]:
    """Flat positions of run `number`."""
    return lattice(*size)[number * RUN : (number + 1) * RUN]


def by_priority(priority: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Places of the coordinates with a priority above 0, highest first; equals keep their order.
    priority (M,).
    """
    # Descending and stable: ascending in 255 - priority, where what is not asked for comes last.
    order = np.argsort(np.uint8(255) - priority, kind="stable")
    return order[: int(np.count_nonzero(priority))]
