"""Threads that share out pieces of work. They are few, belong to one owner, and no forked child
inherits them. Knows no network.

ONNX Runtime would start its own threads for every network. They do not survive a fork, and where
the system refuses it a thread, it waits for ever. So its networks run on the thread that calls
them, and pieces of a picture run side by side here.
"""

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_forks = 0  # between the process that was started as a program and this one, as far as this module has seen them


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def forks() -> int:
    """A number that is another in a forked child: what was made under another one belongs to
    another process.
    """
    return _forks


class Workers:
    """At most `threads` threads for one caller, its own among them; several callers share those
    that are not.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._begin()

    def _begin(self) -> None:
        self._forks, self._lock = forks(), threading.Lock()
        self._pool = ThreadPoolExecutor(self.threads - 1, "uqdm") if self.threads > 1 else None

    def each(self, work: Callable[[T], None], items: Sequence[T]) -> None:
        """`work` on every item, once, in any order. Raises what one of them raised; the rest is
        then left out.
        """
        if len(items) == 1 or self.threads == 1:  # nothing to share out: small pictures are many such calls
            for one in items:
                work(one)
            return
        if forks() != self._forks:  # a forked child has the object, but no threads
            self._begin()
        waiting, lock = list(reversed(items)), threading.Lock()

        def drain() -> None:
            try:
                while True:
                    with lock:
                        if not waiting:
                            return
                        one = waiting.pop()
                    work(one)
            except BaseException:
                waiting.clear()
                raise

        helpers = self._start(drain, min(self.threads, len(items)) - 1)
        try:
            drain()
        finally:
            # Those that have not begun, because others keep the threads busy, are not needed any
            # more.
            begun = [helper for helper in helpers if not helper.cancel()]
            errors = [helper.exception() for helper in begun]
        for error in errors:
            if error is not None:
                raise error

    def _start(self, drain: Callable[[], None], count: int) -> list["Future[None]"]:
        """Up to `count` helpers; fewer where the system gives no more threads, said once."""
        found: list[Future[None]] = []
        with self._lock:
            pool = self._pool
            if pool is None:
                return found
            try:
                found.extend(pool.submit(drain) for _ in range(count))
            except RuntimeError as error:
                # There are no more threads (a limit of processes or of memory), or the interpreter
                # is shutting down.
                self._pool = None
                pool.shutdown(wait=False)
                warnings.warn(
                    f"uqdm computes on fewer than {self.threads} threads: {error}; the results are the same",
                    stacklevel=2,
                )
        return found
