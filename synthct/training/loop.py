"""The one loop: any task, any recipe; resumes from its checkpoint as if it had never stopped."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthct.atomic import replacing
from synthct.errors import TrainingError, UsageError
from synthct.training.task import Recipe, Task

Advance = Callable[[int], None]
MAX_OVERFLOWS = 3
"""Steps in a row whose gradient may overflow before the run stops."""


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

    `folder` receives `checkpoint.pt` (networks, averages, optimiser, step) and `log.csv`.

    Raises:
        TrainingError: the loss became NaN or infinite, or the gradient did several times in a row.
        UsageError: `folder` holds a checkpoint and `resume` is false, or of another recipe.
    """
    state = _State(task, recipe, folder)
    state.restore(resume)
    advance(state.step)
    log = _Log(folder / "log.csv", recipe.log_every, state.step, say)
    for batch in _batches(task, state.step, recipe.steps):
        figures = state.train_step(batch)
        if state.overflowed:
            say(f"step {state.step}: left out, gradient not finite in {state.overflowed}")
        log.add(state.step, figures)
        advance(1)
        if state.step % recipe.save_every == 0 or state.step == recipe.steps:
            state.save()
    return state.averages


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then polynomial decay to zero at `recipe.steps`."""
    warm = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    left = max(0.0, 1.0 - step / recipe.steps)
    return float(recipe.learning_rate * warm * left**recipe.power)


class _State:
    """Everything that a checkpoint holds."""

    def __init__(self, task: Task, recipe: Recipe, folder: Path) -> None:
        self.task, self.recipe, self.folder = task, recipe, folder
        self.step = self.overflows = 0
        self.overflowed = ""
        """Where the last step's gradient was not finite; empty where it was."""
        self.networks = dict(task.networks)
        self.averages = {role: deepcopy(net).eval() for role, net in self.networks.items()}
        for net in self.averages.values():
            net.requires_grad_(False)
        self.parameters = [
            p for net in self.networks.values() for p in net.parameters() if p.requires_grad
        ]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def train_step(self, batch: Any) -> dict[str, float]:
        rate = learning_rate(self.recipe, self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss, figures = self.task.loss(batch, self.step)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        good = self._guard(loss, norm)
        if good:
            nn.utils.clip_grads_with_norm_(self.parameters, self.recipe.clip_norm, norm)
            self.optimiser.step()
        self.step += 1
        self._average()
        skipped = {"skipped": 1.0 - good, "gradient": float(norm) if good else 0.0}
        return {"loss": float(loss.detach()), "rate": rate, **skipped, **figures}

    def _guard(self, loss: torch.Tensor, norm: torch.Tensor) -> bool:
        """Whether the step may be taken. A lone overflow in bfloat16 is left out, and logged."""
        finite = math.isfinite(float(norm))
        self.overflows = 0 if finite else self.overflows + 1
        self.overflowed = "" if finite else self._not_finite()
        if not math.isfinite(float(loss.detach())) or self.overflows > MAX_OVERFLOWS:
            raise TrainingError(
                f"step {self.step}: loss {float(loss.detach())}, gradient norm {float(norm)}",
                "lower learning_rate, or resume with --set bfloat16=false",
            )
        return finite

    def _not_finite(self) -> str:
        """Where the gradient is largest (or no number), the first three, with that value."""
        largest = {
            f"{role}.{name}": float(p.grad.abs().max())
            for role, net in self.networks.items()
            for name, p in net.named_parameters()
            if p.grad is not None
        }
        worst = sorted(
            largest, key=lambda name: -math.inf if math.isnan(largest[name]) else -largest[name]
        )
        return ", ".join(f"{name} ({largest[name]:.3g})" for name in worst[:3])

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        for role, net in self.networks.items():
            for mean, now in zip(
                self.averages[role].state_dict().values(), net.state_dict().values(), strict=True
            ):
                mean.lerp_(now, 1 - decay) if mean.is_floating_point() else mean.copy_(now)

    def save(self) -> None:
        states = {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "networks": {role: net.state_dict() for role, net in self.networks.items()},
            "averages": {role: net.state_dict() for role, net in self.averages.items()},
            "optimiser": self.optimiser.state_dict(),
        }
        with replacing(self.path, overwrite=True) as temporary:
            torch.save(states, temporary)

    def restore(self, resume: bool) -> None:
        if not self.path.exists():
            return
        if not resume:
            raise UsageError(f"{self.path} exists already", "pass --resume, or another -o")
        states = torch.load(self.path, weights_only=True, map_location="cpu")
        seed = states["recipe"]["seed"]
        if seed != self.recipe.seed:
            raise UsageError(
                f"{self.path} was made with seed {seed}, not {self.recipe.seed}",
                "resume with the recipe that began the run",
            )
        for role, net in self.networks.items():
            net.load_state_dict(states["networks"][role])
            self.averages[role].load_state_dict(states["averages"][role])
        self.optimiser.load_state_dict(states["optimiser"])
        self.step = states["step"]


def _batches(task: Task, first: int, last: int) -> Iterator[Any]:
    """Batches in order, each made in the background while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Any]] = [
            pool.submit(task.batch, step) for step in range(first, min(first + 2, last))
        ]
        for step in range(first, last):
            batch = waiting.pop(0).result()
            if step + 2 < last:
                waiting.append(pool.submit(task.batch, step + 2))
            yield batch


class _Log:
    """Means over `every` steps, to a CSV and to whoever listens."""

    def __init__(self, path: Path, every: int, step: int, say: Callable[[str], None]) -> None:
        self.path, self.every, self.say = path, every, say
        self.sums: dict[str, list[float]] = {}
        self.began, self.first = time.monotonic(), step
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.sums.setdefault(name, []).append(value)
        if step % self.every == 0:
            self._write(step)

    def _write(self, step: int) -> None:
        means = {name: sum(v) / len(v) for name, v in self.sums.items()}
        seconds = (time.monotonic() - self.began) / max(1, step - self.first)
        row: dict[str, object] = {"step": step, "seconds_a_step": round(seconds, 3)}
        row |= {name: f"{value:.5g}" for name, value in means.items()}
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row, extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(row)
        self.say(" ".join(f"{k} {v}" for k, v in row.items()))
        self.sums = {}


@contextmanager
def autocast(enabled: bool, device: torch.device) -> Iterator[None]:
    """bfloat16 autocast, where asked for and where the machine has instructions for it."""
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled and fast_bfloat16(device)):
        yield


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 here, from what the device says of itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return False
