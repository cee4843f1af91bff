"""The one loop: any task, any recipe; resumes from its checkpoint as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthct.training.log import Log, append_row, to_board
from synthct.training.precision import autocast, fast_bfloat16
from synthct.training.schedule import learning_rate
from synthct.training.state import State
from synthct.training.stop import Stop, stop_when_asked
from synthct.training.summary import write_summary
from synthct.training.task import Recipe, Task, Validated
from synthct.training.team import Team
from synthct.training.validation import save_picture

__all__ = ["Fitted", "autocast", "fast_bfloat16", "fit", "learning_rate"]

Advance = Callable[[int], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """The networks with their averaged (EMA) weights, the step they stand at, and how it ended."""

    networks: dict[str, nn.Module]
    weights: dict[str, dict[str, Any]]
    """Their states by role, whole on the first process even where the networks are split."""
    step: int
    stopped: bool = False
    """By a signal: the checkpoint is there, the run is not at its end."""
    early: bool = False
    """By the validation score: the run is at its end before its last step."""


def fit(
    task: Task,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    advance: Advance = lambda n: None,
    say: Say = lambda line: None,
    team: Team | None = None,
    device: torch.device | None = None,
) -> Fitted:
    """Train `task` by `recipe`.

    `folder` receives `checkpoint.pt` (networks, averages, optimisers, step), `log.csv`,
    `validation.csv`, `pictures/` and at the end `summary.html`; with TensorBoard installed also
    `tensorboard/`. SIGTERM and Ctrl-C end the run after the current step, saved.

    Args:
        team: the processes that train together; only the first logs and saves.
        device: where the networks are; the CPU by default.

    Raises:
        TrainingError: the loss became NaN or infinite, or the gradient did several times in a row.
        UsageError: `folder` holds a checkpoint and `resume` is false, or of another recipe.
    """
    state = State(task, recipe, folder, team=team, device=device)
    state.restore(resume)
    advance(state.step)
    with stop_when_asked() as stop:
        end = _run(state, stop, advance, say)
    if state.team.leads and end != "stopped":
        facts = {"ended": end, "best validation score": state.patience.best}
        write_summary(folder, f"{folder.name}, {state.step} steps", facts)
    weights = state.weights(state.averages)
    return Fitted(state.averages, weights, state.step, end == "stopped", end == "early")


def _run(state: State, stop: Stop, advance: Advance, say: Say) -> str:
    """Steps until the run is `whole`, `stopped` by a signal, or ended `early` by its score."""
    recipe = state.recipe
    leads = state.team.leads
    log = Log(state.folder / "log.csv", recipe.log_every, state.step, say, leads=leads)
    for batches in _batches(state):
        figures = state.train_step(batches)
        if state.overflowed:
            say(f"step {state.step}: left out, gradient not finite in {state.overflowed}")
        if leads:
            log.add(state.step, figures)
        advance(1)
        spent = _validated(state, log, say)
        asked = state.together and state.team.any(stop.asked, state.device)
        last = state.step == recipe.steps
        if last or spent or asked or state.step % recipe.save_every == 0:
            state.save()
        if spent and not last:
            return "early"
        if asked and not last:
            return "stopped"
    return "whole"


def _validated(state: State, log: Log, say: Say) -> bool:
    """Look at the validation cases if it is time; whether the patience is spent."""
    recipe, task = state.recipe, state.task
    if not recipe.validate_every or state.step % recipe.validate_every:
        return False
    spent = False
    # networks that are split need every process to run them
    if isinstance(task, Validated) and (state.team.leads or state.sharded):
        with torch.random.fork_rng(), torch.no_grad():
            seen = task.validate(state.averages)
        if seen is not None and state.team.leads:
            rounded = {name: f"{value:.5g}" for name, value in seen.figures.items()}
            append_row(state.folder / "validation.csv", {"step": state.step, **rounded})
            to_board(log.board, state.step, seen.figures)
            if seen.picture is not None:
                save_picture(state.folder / f"pictures/step-{state.step:07d}.png", seen.picture)
            say(f"validation {state.step}: " + " ".join(f"{k} {v}" for k, v in rounded.items()))
            spent = state.patience.spent(seen.score)
    return state.team.any(spent, state.device)


def _batches(state: State) -> Iterator[list[Any]]:
    """Those of each step, made in the background while the ones before are used."""
    count, team, task = state.recipe.accumulate, state.team, state.task
    begin, end = state.step * count, state.recipe.steps * count

    def make(number: int) -> Any:
        return task.batch(number * team.size + team.rank)

    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Any]] = [
            pool.submit(make, n) for n in range(begin, min(begin + count + 1, end))
        ]
        try:
            for index in range(begin, end, count):
                batches = []
                for n in range(index, index + count):
                    batches.append(waiting.pop(0).result())
                    if n + count + 1 < end:
                        waiting.append(pool.submit(make, n + count + 1))
                yield batches
        finally:
            for future in waiting:
                future.cancel()
