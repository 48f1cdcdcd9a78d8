"""Exact networks on a runtime. They are made when they are first asked for, and proved before their
results are used. Knows no runtime.

The promise is the same integers for every runtime, precision, number of threads, batch and tile. It
rests on convolutions that only multiply and add. Transforms (Winograd) and shortened products
(TF32, bfloat16) break it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uqdm.errors import BackendError
from uqdm.exact import network as exact
from uqdm.exact.network import LIMIT, Net, Runner
from uqdm.exact.workers import Workers, forks

TILE = 384  # pixels a side: some 100 MB in float32, a sixth more work than without halos


# Batch, height and width (halved) of what a runtime proves itself on, some milliseconds: NNPACK
# begins at a batch of 16, and other libraries choose their algorithm by size.
PROOFS = ((16, 2, 2), (1, 20, 20))


Runtime = Callable[[Net], Runner]


class Runners:
    """Networks on a runtime: each is made and proved when it is first asked for, and anew in a
    forked child.

    A lock inside the runtime may have been held by another thread when the process was forked;
    nobody would ever open it in the child.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.name, self.runtime = name, runtime
        self._made: dict[int, Runner] = {}
        self._forks = forks()

    def __call__(self, net: Net, edge: NDArray[Any]) -> Runner:
        """The runner of a network, whose features are at most `edge` in size. `net` lives as long
        as this. Raises as `proved`.
        """
        if forks() != self._forks:
            self._made, self._forks = {}, forks()
        made = self._made.get(id(net))
        if made is None:  # two threads may both make one; they compute the same
            made = self._made.setdefault(id(net), proved(self.runtime(net), net, edge, self.name))
        return made


def proved(runner: Runner, net: Net, edge: NDArray[Any], name: str) -> Runner:
    """The runner, if it computes random features of at most `edge` in size as NumPy does in
    float64. Raises `BackendError`.
    """
    for n, h, w in PROOFS:
        random = np.random.default_rng(0)
        given = [random.integers(-edge, edge + 1, (n, h, w, len(edge)))]
        if net.join is not None:
            given.append(random.integers(net.least, LIMIT + 1, (n, h, w, net.join.weight.shape[1])))
        fields = [a.transpose(0, 3, 1, 2) for a in given]
        expected = exact.run(net, *(np.ascontiguousarray(a, np.float64) for a in fields))
        found = runner(*(np.ascontiguousarray(a, np.float32) for a in fields))
        if not np.array_equal(found, expected):
            raise BackendError(
                f"{name} does not compute integers exactly on this machine ({np.mean(found != expected):.1%} of a test"
                " differ from NumPy), so files would not decode elsewhere: switch off reduced precision (TF32,"
                " bfloat16 'fast math'), or give another backend"
            )
    return runner


class Opened(NamedTuple):
    """A runtime for exact networks, its name, and the threads that share out pieces of pictures;
    None where it has its own.
    """

    runtime: Runtime
    name: str
    workers: Workers | None = None
