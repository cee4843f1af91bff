"""The one loop: any task, any recipe; resumes from its checkpoint as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import nn

from synthct.training.log import Log
from synthct.training.precision import autocast, fast_bfloat16
from synthct.training.schedule import learning_rate
from synthct.training.state import State
from synthct.training.task import Recipe, Task

__all__ = ["autocast", "fast_bfloat16", "fit", "learning_rate"]

Advance = Callable[[int], None]


def fit(
    task: Task,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    advance: Advance = lambda n: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, nn.Module]:
    """Train `task` and return its networks with their averaged (EMA) weights.

    `folder` receives `checkpoint.pt` (networks, averages, optimisers, step) and `log.csv`.

    Raises:
        TrainingError: the loss became NaN or infinite, or the gradient did several times in a row.
        UsageError: `folder` holds a checkpoint and `resume` is false, or of another recipe.
    """
    state = State(task, recipe, folder)
    state.restore(resume)
    advance(state.step)
    log = Log(folder / "log.csv", recipe.log_every, state.step, say)
    for batches in _batches(task, recipe, state.step):
        figures = state.train_step(batches)
        if state.overflowed:
            say(f"step {state.step}: left out, gradient not finite in {state.overflowed}")
        log.add(state.step, figures)
        advance(1)
        if state.step % recipe.save_every == 0 or state.step == recipe.steps:
            state.save()
    return state.averages


def _batches(task: Task, recipe: Recipe, first: int) -> Iterator[list[Any]]:
    """Those of each step from `first`, made in the background while the ones before are used."""
    count = recipe.accumulate
    begin, end = first * count, recipe.steps * count
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Any]] = [
            pool.submit(task.batch, n) for n in range(begin, min(begin + count + 1, end))
        ]
        for index in range(begin, end, count):
            batches = []
            for n in range(index, index + count):
                batches.append(waiting.pop(0).result())
                if n + count + 1 < end:
                    waiting.append(pool.submit(task.batch, n + count + 1))
            yield batches
