"""The next step is begun on a thread of its own while one is told. Knows no family, and no bytes.

A step has its own stream. What it asks first may need only the first of what the step before makes
known. A pyramid's coarse levels need no finer ones. So much of what one thread has to do alone is
done beside the networks of another step. A family that allows it has two more functions besides
those of `families.base.Walk`:

    promised(state)     the state after the chunk that is being told from `state`, as far as it is
                        known; None: it does not pay here
    ready(state, part)  whether all that a part needs of a promised state is known

Once the step before has been told, the caller's thread goes on where the other one stopped. No bit
depends on how far that came.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from uqdm.families.base import State, Walk
from uqdm.walk import Progress, Reader, StepTold, learned, tell


class Beside:
    """The next step, told on a thread of its own as far as the step before has come. What goes wrong
    is raised by `taken`.
    """

    def __init__(self, begin: Callable[[], StepTold]) -> None:
        """Raises `RuntimeError` where the system gives no thread."""
        self._begin, self._change, self._stopped = begin, threading.Condition(), False
        self._told: StepTold | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="uqdm beside", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            told = self._told = self._begin()
            while not told.done and not told.short:
                with self._change:
                    self._change.wait_for(lambda: self._stopped or told.ready)
                    if self._stopped:
                        return
                told.ask()
                if not told.short:  # what then follows needs all of the step before
                    told.take()
        except BaseException as error:
            self._error = error

    def changed(self) -> None:
        """The step before has come further."""
        with self._change:
            self._change.notify()

    def stop(self) -> None:
        """After the part in hand."""
        with self._change:
            self._stopped = True
            self._change.notify()
        self._thread.join()

    def taken(self) -> StepTold:
        """The step, as far as it was told."""
        self.stop()
        if self._error is not None:
            raise self._error
        assert self._told is not None
        return self._told


def _begun(model: Any, state: Any, make: Callable[[], Reader], blind: bool) -> Beside | None:
    """What tells the step after the one that is told from `state`, where that can be."""
    promised = model.promised(state)
    if promised is None:
        return None
    try:
        return Beside(lambda: StepTold(model, promised, make(), blind=blind))
    except RuntimeError:  # there are no more threads
        return None


def following(
    model: Walk,
    state: Any,
    makers: Sequence[Callable[[], Reader]],
    progress: Progress | None = None,
    blind: Sequence[bool] = (),
) -> Iterator[State]:
    """What is known after one more chunk, and one more, as `walk.after` gives it. `makers` make the
    readers of these chunks. `blind`: for each, see `walk.walk`; by default of none.
    """
    blind = blind or [False] * len(makers)
    beside: Beside | None = None
    allowed = hasattr(model, "promised")
    try:
        for k, make in enumerate(makers):
            if beside is None:
                told = StepTold(model, state, make(), blind=blind[k])
            else:
                told, beside = beside.taken(), None
            if progress is not None:
                for part in range(told.part):
                    progress(told.step, part + 1, told.parts)
            reader: Any = told.answers

            def further(k: int = k, told: StepTold = told) -> None:
                nonlocal beside, allowed
                if beside is not None:
                    beside.changed()
                elif allowed and k + 1 < len(makers) and not told.done:
                    beside = _begun(model, told.state, makers[k + 1], blind[k + 1])
                    allowed = beside is not None

            if not reader.empty:
                tell(told, progress, further)
                state = learned(reader, state, told.state)
            yield state
    finally:
        if beside is not None:
            beside.stop()
