"""A bar on stderr while someone waits. It appears after a second, and only on a terminal."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from uqdm.cli.jobs import Job
from uqdm.entropy import choice

SECOND = 1.0
# progress of the pictures at work: step, part of the step, number of steps; see `codec.Progress`
Tick = Callable[[int, int, int], None]


class Bar:
    """Shows how many jobs are done, and how far those at work are; a context. Its own thread moves
    the clock.

    If stderr is no terminal, nothing is shown. Nothing is shown in the first second either: most
    single pictures take no longer.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs, self._total = jobs, len(jobs)
        self._before = self._finished = sum(job.over for job in jobs)
        self._share, self._text = 0.0, ""
        self._bar: Any = None
        self._end, self._lock = threading.Event(), threading.RLock()
        self._clock = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Bar":
        if sys.stderr is not None and sys.stderr.isatty() and self._finished < self._total:
            self._begun = time.time()
            self._clock.start()
            for job in self._jobs:
                job.bar = self
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        if self._clock.ident is not None:
            self._clock.join()
        if self._bar is not None:
            self._bar.close()
        for job in self._jobs:
            job.bar = None

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """A context to print a line in, so that it does not run into the bar."""
        with self._lock:
            if self._bar is not None:
                self._bar.clear()
            yield
            self._show()

    def tick(self, pictures: int, steps: int) -> Tick:
        """The function to call while so many pictures of so many steps are at work."""

        def tick(step: int, part: int, parts: int) -> None:
            self._share = pictures * (step - 1 + part / parts) / steps
            self._text = f"step {step} of {steps}, part {part} of {parts}"
            self._show()

        return tick

    def done(self) -> None:
        """Counts one job as over."""
        with self._lock:
            self._finished += 1
            self._share = max(0.0, self._share - 1)
            self._show()

    def _show(self) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.n = min(self._finished + self._share, self._total)
                self._bar.set_postfix_str(self._text, refresh=False)
                self._bar.refresh()

    def _watch(self) -> None:
        """Begins the bar after a second, and moves its clock."""
        if self._end.wait(SECOND):
            return
        from tqdm import tqdm

        if choice.compiles():
            self._text = self._text or "compiling, this once"
        form = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        if self._total > 1:
            form = "{percentage:3.0f}%|{bar}| {n:.1f}/{total} files [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
        with self._lock:
            self._bar = tqdm(
                total=self._total,
                unit=" pictures",
                initial=self._before,
                file=sys.stderr,
                bar_format=form,
                leave=self._total > 1,
                dynamic_ncols=True,
            )
            self._bar.start_t = self._begun
        while True:
            self._show()
            if self._end.wait(SECOND):
                return
