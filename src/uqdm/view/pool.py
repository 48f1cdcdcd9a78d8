"""Work in the background, bounded. Knows nothing of what the work is.

1. At most `workers` things are done at once, and at most `waiting` wait. More are refused.
2. Who asks again in the same lane, such as a slider, has changed his mind. What he asked before is
   dropped, even while it is done, unless somebody else wants it too.
3. Results are kept, at most `room` bytes of them; the one that was used longest ago goes first.
4. What nobody has asked for (`spare`) is done while nothing else is. It stops for what is asked,
   and is tried again.
"""

import collections
import contextlib
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from typing import Any

from uqdm.errors import UqdmError
from uqdm.walk import Progress

Work = Callable[[Progress], Any]  # it calls what it is given now and then, which raises where the work is to stop


class SupersededError(UqdmError):
    """A newer wish has taken the place of this one."""


class BusyError(UqdmError):
    """So much is waiting that no more is taken."""


class _Job:
    """Work that somebody waits for. `lanes`: who; None for those who never ask for something
    else.
    """

    def __init__(self, key: Hashable, work: Work) -> None:
        self.key, self.work = key, work
        self.lanes: set[str | None] = set()
        self.future: Future[Any] = Future()

    def drop(self) -> None:
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(SupersededError("a newer request has taken the place of this one"))


class WorkPool:
    """See above. `sized` tells how many bytes a result takes."""

    def __init__(self, workers: int, waiting: int, room: int, sized: Callable[[Any], int]) -> None:
        self._most, self._room, self._sized = waiting, room, sized
        self._change = threading.Condition()
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._spare: dict[Hashable, Callable[[Progress], bool]] = {}  # the one that was done longest ago first
        self._idling: set[Hashable] = set()  # those of them that a thread is at
        self._kept: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._taken, self._closed = 0, False
        self.doing: tuple[int, int, int] | None = None  # where the work is: its step, the part of it, of how many
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(workers)]
        for thread in self._threads:
            thread.start()

    def ask(self, key: Hashable, work: Work, lane: str | None = None) -> "Future[Any]":
        """The result of `work`, which is what `key` names; it may be there already.

        Raises `BusyError`. The future raises what the work raises, or `SupersededError`.
        """
        with self._change:
            if self._closed:
                raise BusyError("the server has ended")
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            same = next((task for task in (*self._running, *self._waiting) if task.key == key and task.lanes), None)
            if lane is not None:
                self._leave(lane, same)
            if found is not None:
                done: Future[Any] = Future()
                done.set_result(found)
                return done
            if same is None:
                if len(self._waiting) >= self._most:
                    raise BusyError(f"{self._most} requests are waiting already; try again later")
                same = _Job(key, work)
                self._waiting.append(same)
            same.lanes.add(lane)
            self._change.notify()
            return same.future

    def _leave(self, lane: str, but: _Job | None) -> None:
        """Nobody in that lane waits any more, but for one task."""
        for task in (*self._running, *self._waiting):
            if task is but or lane not in task.lanes:
                continue
            task.lanes.discard(lane)
            if not task.lanes:
                task.drop()
        self._waiting = [task for task in self._waiting if task.lanes or task is but]

    def spare(self, name: Hashable, work: Callable[[Progress], bool] | None) -> None:
        """What to do while nothing is asked, again and again as long as it returns True. None: no
        more.
        """
        with self._change:
            self._spare.pop(name, None)
            if work is not None:
                self._spare[name] = work
            self._change.notify_all()

    def kept(self, key: Hashable) -> Any:
        """A result that is there, or None."""
        with self._change:
            return self._kept.get(key)

    def put(self, key: Hashable, result: Any) -> None:
        """Keeps a result, within the bound."""
        size = self._sized(result)
        with self._change:
            if size > self._room or key in self._kept:
                return
            self._kept[key] = result
            self._taken += size
            while self._taken > self._room:
                self._taken -= self._sized(self._kept.popitem(last=False)[1])

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Ends the threads; what is waiting is dropped."""
        with self._change:
            self._closed = True
            for task in (*self._waiting, *self._running):
                task.lanes.clear()
                task.drop()
            self._waiting.clear()
            self._change.notify_all()
        for thread in self._threads:
            thread.join()

    # --- the threads

    def _run(self) -> None:
        while True:
            with self._change:
                while not (self._closed or self._waiting or self._free()):
                    self._change.wait()
                if self._closed:
                    return
                task = self._waiting.pop(0) if self._waiting else None
                if task is not None:
                    self._running.append(task)
                else:
                    name = self._free()[0]
                    self._idling.add(name)
            if task is not None:
                self._do(task)
            else:
                self._idle(name)
            self.doing = None

    def _free(self) -> list[Hashable]:
        return [name for name in self._spare if name not in self._idling]

    def _do(self, task: _Job) -> None:
        def progress(step: int, part: int, parts: int) -> None:
            self.doing = step, part, parts
            if not task.lanes:
                raise SupersededError("a newer request has taken the place of this one")

        try:
            result, error = task.work(progress), None
        except Exception as found:  # whoever waits gets it
            result, error = None, found
        if error is None:
            self.put(task.key, result)
        with self._change:
            self._running.remove(task)
        with contextlib.suppress(InvalidStateError):  # it was dropped
            if error is None:
                task.future.set_result(result)
            else:
                task.future.set_exception(error)

    def _idle(self, name: Hashable) -> None:
        def progress(step: int, part: int, parts: int) -> None:
            if self._waiting or self._closed or name not in self._spare:
                raise SupersededError("something was asked for")

        with self._change:
            work = self._spare.get(name)
        more = False
        try:
            more = work is not None and work(progress)
        except SupersededError:
            more = True
        except Exception:  # nobody waits for it; whoever asks for the same gets the error
            more = False
        with self._change:
            self._idling.discard(name)
            if self._spare.get(name) is work and work is not None:
                del self._spare[name]
                if more:
                    self._spare[name] = work
