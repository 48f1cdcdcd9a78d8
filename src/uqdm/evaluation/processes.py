"""Processes that measure, of one thread each. Knows no codec and no picture."""

import concurrent.futures
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from uqdm.cpus import one_thread
from uqdm.families import registry

_SPAWN = multiprocessing.get_context("spawn")  # Forks of a process with threads may hang.


class Workers:
    """Worker processes of one thread each. They end with the block; after an error or an interrupt
    they end at once.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool = self._new()

    def _new(self) -> concurrent.futures.ProcessPoolExecutor:
        return concurrent.futures.ProcessPoolExecutor(self._jobs, _SPAWN, _begin, (registry.modules(),))

    def submit(self, function: Callable[..., Any], *given: Any) -> "concurrent.futures.Future[Any]":
        """See `Executor`. Processes start here."""
        with one_thread():
            return self._pool.submit(function, *given)

    def renew(self) -> None:
        """New processes, after one has died."""
        self._stop()
        self._pool = self._new()

    def _stop(self) -> None:
        workers = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._pool.shutdown()
        else:
            self._stop()


def alone(function: Callable[..., Any], *given: Any) -> Any:
    """What a function returns, or raises, in a new process of its own, which then ends. Raises
    `EOFError` if the process dies.
    """
    here, there = _SPAWN.Pipe(duplex=False)
    child = _SPAWN.Process(target=_tell, args=(there, registry.modules(), function, given), daemon=True)
    with here, there, one_thread():
        child.start()
        there.close()  # the child has its own; when that is closed too, nothing more can come
        found, error = here.recv()
    child.join()
    if error is not None:
        raise error
    return found


def _tell(
    there: "multiprocessing.connection.Connection", families: Sequence[str], function: Callable[..., Any], given: Any
) -> None:
    _begin(families)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        told: tuple[Any, Exception | None] = function(*given), None
    except Exception as error:
        told = None, error
    there.send(told)


def _begin(families: Sequence[str]) -> None:
    """What a worker does first. `families` names the modules that register families."""
    from PIL import AvifImagePlugin

    for name in families:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers interrupts
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
