"""Figures of a run: means over some steps, to a CSV, to TensorBoard where it is installed, and to
whoever listens."""

from __future__ import annotations

import csv
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from synthct.training.task import Figures

Say = Callable[[str], None]


class Log:
    """Means over `every` steps; `leads` is false in a process that leaves logging to another."""

    def __init__(self, path: Path, every: int, step: int, say: Say, *, leads: bool = True) -> None:
        self.path, self.every, self.say = path, every, say
        self.board = board(path.parent) if leads else None
        self.sums: dict[str, list[float]] = {}
        self.began, self.first = time.monotonic(), step
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, step: int, figures: Figures) -> None:
        for name, value in figures.items():
            self.sums.setdefault(name, []).append(value)
        if step % self.every == 0:
            self._write(step)

    def _write(self, step: int) -> None:
        means = {name: sum(v) / len(v) for name, v in self.sums.items()}
        seconds = (time.monotonic() - self.began) / max(1, step - self.first)
        row: dict[str, object] = {"step": step, "seconds_a_step": round(seconds, 3)}
        row |= {name: f"{value:.5g}" for name, value in means.items()}
        append_row(self.path, row)
        self.say(" ".join(f"{k} {v}" for k, v in row.items()))
        to_board(self.board, step, means)
        self.sums = {}


def board(folder: Path) -> Any | None:
    """TensorBoard's writer where the package is installed; None where it is not."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


def to_board(board: Any | None, step: int, figures: Mapping[str, float]) -> None:
    if board is not None:
        for name, value in figures.items():
            board.add_scalar(name, value, step)
        board.flush()


def append_row(path: Path, row: dict[str, object]) -> None:
    """Add a row to a CSV; a column that the file does not have yet is added to all its rows."""
    old = read_rows(path)
    columns = list(dict.fromkeys([*(old[0] if old else ()), *row]))
    if old and columns == list(old[0]):
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, columns).writerow(row)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows([*old, row])


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
