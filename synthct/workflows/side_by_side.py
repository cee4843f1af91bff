"""Work on many cases in this process, or in several, each with a worker of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
_worker: Callable[[str], Any] | None = None
"""Of a process of the pool."""


class SideBySide(Generic[Result]):
    """Who works: `begin` makes a worker (case → result), here or in each of `jobs` processes.

    `begin` and the results must be picklable. Results come in the order of the cases.
    """

    def __init__(self, jobs: int, begin: Callable[[], Callable[[str], Result]]) -> None:
        self.jobs, self.begin = jobs, begin
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Callable[[Iterable[str]], Iterator[Result]]:
        if self.jobs == 1:
            return partial(map, self.begin())
        self.pool = ProcessPoolExecutor(
            self.jobs,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(self.begin,),
        )
        return partial(self.pool.map, _work)

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def _begin(begin: Callable[[], Callable[[str], Any]]) -> None:
    global _worker
    _worker = begin()


def _work(case: str) -> Any:
    assert _worker is not None
    return _worker(case)
