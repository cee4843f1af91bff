"""How long work tells where it is, without knowing who listens.

A workflow takes a `Progress` and opens a stage for each part of the work:

>>> from synthct.workflows.progress import SilentProgress
>>> with SilentProgress().stage("sampling step", 12) as advance:
...     for _ in range(12):
...         advance()
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO


class Advance(Protocol):
    """Says that `n` more units of the stage are done."""

    def __call__(self, n: int = 1) -> None: ...


class Progress(Protocol):
    """Whoever wants to know how far the work is."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Open the stage `name` of `total` units (None: of unknown length)."""
        ...

    def say(self, line: str) -> None:
        """One line that the user should see while the work goes on."""
        ...


class SilentProgress:
    """Nobody listens: for tests, for `-q`, and for the Python API."""

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        yield _nothing

    def say(self, line: str) -> None:
        pass


class LineProgress:
    """No bar, only the lines: where stderr is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        yield _nothing

    def say(self, line: str) -> None:
        print(line, file=self._stream or sys.stderr, flush=True)


class RichProgress:
    """A bar per stage on stderr, with what is done and the time left. Use as a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        self._console = Console(stderr=True, highlight=False)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> RichProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        task = self._bars.add_task(name, total=total)
        try:
            yield lambda n=1: self._bars.advance(task, n)
        finally:
            self._bars.remove_task(task)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


@contextmanager
def progress_on_stderr(quiet: bool = False) -> Iterator[Progress]:
    """The fitting one: silent when asked, bars on a terminal, plain lines otherwise."""
    if quiet:
        yield SilentProgress()
    elif sys.stderr.isatty():
        with RichProgress() as bars:
            yield bars
    else:
        yield LineProgress()


def _nothing(n: int = 1) -> None:
    pass
