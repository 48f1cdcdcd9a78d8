"""Random integers by seed, stream and position, the same on every machine. Knows nothing of what
they are for.

The generator is Philox 4x64-10 (Salmon et al. 2011). It is counter-based: the block at counter i is
a function of key and i alone. Only its raw integers are used, because floating-point transforms of
them would differ between libraries.
"""

import numpy as np
from numpy.typing import NDArray

PRIOR = 0  # stream of z_T; stream s of 1 .. T is the dither of step s
SAMPLING = 1 << 32  # streams from here on are for choices of a decoder that samples


def raw(seed: int, stream: int, count: int, start: int = 0) -> NDArray[np.uint32]:
    """Uniform 32-bit integers start .. start + count - 1 of stream `stream` under `seed` (both 0 ..
    2**64 - 1).

    Each 64-bit output of Philox gives two, low half first. A block is four outputs. The first is
    that of counter 1.
    """
    block, skipped = divmod(start, 8)
    words = np.random.Philox(counter=block, key=np.array([seed, stream], np.uint64)).random_raw(
        (skipped + count + 1) // 2
    )
    halves = words.astype("<u8", copy=False).view("<u4").astype(np.uint32, copy=False)
    return halves[skipped : skipped + count]


def below(limit: NDArray[np.int64] | int, integers: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Uniform integers 0 .. limit - 1, one for each of `integers`, as floor(r * limit / 2**32).
    limit is at most 2**31.
    """
    return (integers.astype(np.int64) * limit) >> 32
