"""Fields of any size go through networks that want a fixed size, or through bounded memory. NumPy
only; knows no network.

Where arithmetic is not exact, the rule is part of what a file means: writer and reader cut the same
field into the same tiles.
"""

import ctypes
import functools
import math
import mmap
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from uqdm.exact.workers import Workers

LEAST = 4096  # pixels that are worth a thread of their own: below, halos and handing over cost more than they bring

LARGE = 1 << 20  # bytes of an array that has pages of its own

Arrays = tuple[NDArray[Any], ...]


def room(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array to be filled. A large one has pages of its own, which go back to the system with it.

    The C library keeps the place of much that is let go, between what stays.
    """
    count = math.prod(shape)
    if count < LARGE >> 4 or (size := count * np.dtype(dtype).itemsize) < LARGE:  # no number takes more than 16 bytes
        return np.empty(shape, dtype)
    if sys.platform == "win32":
        pages = mmap.mmap(-1, size)
    else:
        pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype).reshape(shape)


def swept() -> None:
    """What the C library keeps of memory that was let go, on any thread, goes back to the system.

    That is a third of what a large picture takes. Only the C library of most Linux systems can be
    told so, and only there is it needed.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


def _starts(length: int, tile: int) -> list[int]:
    """Tiles side by side; the last one is moved back so that it ends with the field."""
    return [min(i, max(length - tile, 0)) for i in range(0, length, tile)]


def fixed(call: Callable[..., Arrays], fields: Arrays, tile: int, batch: int) -> Arrays:
    """`call` on tiles of exactly tile x tile, at most `batch` at once. fields: (N, C, H, W) each;
    results likewise.

    A field smaller than a tile is mirrored at its edges to fill one. Tiles do not overlap but for
    the last of a row or column, which is moved back into the field and gives only what no other
    tile covers.
    """
    n, _, h, w = fields[0].shape
    # Tile by tile: a picture of one row must not become 64 of them in memory.
    pad = ((0, 0), (0, max(tile - h, 0)), (0, max(tile - w, 0)))
    places = [(i, y, x) for i in range(n) for y in _starts(h, tile) for x in _starts(w, tile)]
    out: Arrays = ()
    for begin in range(0, len(places), batch):
        some = places[begin : begin + batch]
        results = call(
            *(
                np.stack([np.pad(f[i, :, y : y + tile, x : x + tile], pad, "symmetric") for i, y, x in some])
                for f in fields
            )
        )
        out = out or tuple(np.empty((n, r.shape[1], h, w), r.dtype) for r in results)
        for whole, result in zip(out, results):
            for (i, y, x), piece in zip(some, result):
                top, left = -y % tile, -x % tile  # rows and columns that the tile before has given already
                whole[i, :, y + top : y + tile, x + left : x + tile] = piece[:, top : h - y, left : w - x]
    return out


class Field(Protocol):
    """What pieces are cut from: an array (N, C, H, W), or what makes a piece when it is asked
    for.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)"""

    def __getitem__(self, at: tuple[slice, slice, slice, slice], /) -> NDArray[Any]:
        """The piece between the slices' ends, which are given for all axes but the second."""


def overlapping(
    call: Callable[..., Arrays],
    fields: Sequence[Field],
    tile: int,
    halo: int,
    scale: int = 1,
    workers: Workers | None = None,
) -> Arrays:
    """`call`, a convolutional network that sees `halo` pixels around a pixel, on tiles with that
    much around them.

    fields: (N, C, H, W) each, or after the first at half that resolution, H and W even; results
    (N, C, H / scale, W / scale, ...): what one call on the whole field would give, up to the order
    of sums. Small fields go together, as many as have a tile's area. tile and halo are even, so
    that networks at half resolution see the same phase everywhere. With several `workers` tiles are
    smaller and side by side.
    """
    n, _, h, w = fields[0].shape
    batch, rows, columns = _cut(n, h, w, tile, halo, workers.threads if workers else 1)
    if n <= batch and h <= rows and w <= columns:
        return call(*(f[:n, :, 0 : f.shape[2], 0 : f.shape[3]] for f in fields))
    out: list[NDArray[Any]] = []
    lock = threading.Lock()

    def fill(place: tuple[int, int, int]) -> None:
        i, y, x = place
        some, (top, left) = slice(i, i + batch), (max(y - halo, 0), max(x - halo, 0))
        bottom, right = min(y + rows, h), min(x + columns, w)
        pieces = []
        for f in fields:
            k = h // f.shape[2]
            beside = slice(top // k, min(bottom + halo, h) // k), slice(left // k, min(right + halo, w) // k)
            pieces.append(f[some, :, *beside])
        results = call(*pieces)
        with lock:
            if not out:
                out.extend(room((n, r.shape[1], h // scale, w // scale, *r.shape[4:]), r.dtype) for r in results)
        for whole, result in zip(out, results):
            inner = result[
                :, :, (y - top) // scale : (bottom - top) // scale, (x - left) // scale : (right - left) // scale
            ]
            whole[some, :, y // scale : bottom // scale, x // scale : right // scale] = inner

    places = [(i, y, x) for i in range(0, n, batch) for y in range(0, h, rows) for x in range(0, w, columns)]
    if workers is None:
        for place in places:
            fill(place)
    else:
        workers.each(fill, places)
    return tuple(out)


def _cut(n: int, h: int, w: int, tile: int, halo: int, threads: int) -> tuple[int, int, int]:
    """Pictures, rows and columns of a piece of work: tile x tile for one thread, or as many small
    pictures as have that area.

    For several threads less, down to a quarter, so that all have something to do and the pieces at
    work take little more memory than one tile; but no less than LEAST pixels.
    """
    if threads == 1:
        return max(1, tile * tile // (min(h, tile) * min(w, tile))), tile, tile
    area = min(max(tile * tile // threads, tile * tile // 4), max(n * h * w // threads, LEAST))
    if h * w <= area:
        return area // (h * w), h, w
    count = -(-h * w // area)
    grids = [
        (_part(h, i), _part(w, -(-count // i))) for i in range(1, min(count, h // 2) + 1) if -(-count // i) <= w // 2
    ]

    def work(size: tuple[int, int]) -> int:
        return -(-h // size[0]) * -(-w // size[1]) * (size[0] + 2 * halo) * (size[1] + 2 * halo)

    return 1, *min(grids, key=work, default=(tile, tile))


def _part(length: int, count: int) -> int:
    """The even length of `count` parts."""
    found = -(-length // count)
    return found + found % 2


def even(*fields: NDArray[Any]) -> Arrays:
    """Fields of any size with even sides: a last row or column that has no partner is there
    twice.
    """
    h, w = fields[0].shape[2:]
    if h % 2 == 0 and w % 2 == 0:
        return fields
    return tuple(np.pad(f, ((0, 0), (0, 0), (0, h % 2), (0, w % 2)), mode="edge") for f in fields)


def evened(call: Callable[..., Arrays]) -> Callable[..., Arrays]:
    """`call`, a network of even sizes, on fields of any (see `even`)."""

    def wider(*fields: NDArray[Any]) -> Arrays:
        h, w = fields[0].shape[2:]
        return tuple(r[:, :, :h, :w] for r in call(*even(*fields)))

    return wider
