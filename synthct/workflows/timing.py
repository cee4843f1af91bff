"""How long each part of a run takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from synthct.workflows.progress import Advance, Progress


class Clock:
    """Seconds by part, added up.

    >>> clock = Clock()
    >>> with clock("decoding"):
    ...     pass
    >>> list(clock.seconds)
    ['decoding']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.note(part, time.perf_counter() - began)

    def note(self, part: str, seconds: float) -> None:
        self.seconds[part] = round(self.seconds.get(part, 0.0) + seconds, 3)

    def add(self, other: Clock) -> None:
        for part, seconds in other.seconds.items():
            self.note(part, seconds)


class TimedStages:
    """Turns a generator's (name, done, total) into stages of the progress and of the clock."""

    def __init__(self, progress: Progress, clock: Clock) -> None:
        self.progress, self.clock = progress, clock
        self.name, self.done, self.began = "", 0, time.perf_counter()
        self.advance: Advance | None = None
        self.open: AbstractContextManager[Advance] | None = None

    def __call__(self, name: str, done: int, total: int) -> None:
        if name != self.name:
            self.close()
            self.name, self.done = name, 0
            self.open = self.progress.stage(name, total)
            self.advance = self.open.__enter__()
        if self.advance is not None:
            self.advance(done - self.done)
        self.done = done
        self.clock.note(name.split(maxsplit=1)[0], time.perf_counter() - self.began)
        self.began = time.perf_counter()

    def close(self) -> None:
        """End the stage that is open, if any."""
        if self.open is not None:
            self.open.__exit__(None, None, None)
            self.open = None
