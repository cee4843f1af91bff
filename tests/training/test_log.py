"""Figures of a run: the CSV, and TensorBoard where it is installed."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from synthct.training import log as module
from synthct.training.log import Log, read_rows


def figures(path: Path, *, leads: bool = True) -> Log:
    log = Log(path / "log.csv", 2, 0, lambda line: None, leads=leads)
    for step, loss in enumerate((4.0, 2.0, 1.0, 3.0), start=1):
        log.add(step, {"loss": loss})
    return log


class Board:
    """Stands for `SummaryWriter`: keeps what it is told."""

    def __init__(self, folder: str) -> None:
        self.folder, self.told = folder, list[tuple[str, float, int]]()
        self.flushed = 0

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.told.append((name, value, step))

    def flush(self) -> None:
        self.flushed += 1


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = Board  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    found = module.importlib.util.find_spec

    def find_spec(name: str) -> ModuleSpec | None:
        return ModuleSpec(name, None) if name == "tensorboard" else found(name)

    monkeypatch.setattr(module.importlib.util, "find_spec", find_spec)


def test_tensorboard_is_told_the_means_of_the_csv(installed: None, tmp_path: Path) -> None:
    log = figures(tmp_path)
    assert [row["loss"] for row in read_rows(tmp_path / "log.csv")] == ["3", "2"]
    assert log.board.folder == str(tmp_path / "tensorboard")
    assert log.board.told == [("loss", 3.0, 2), ("loss", 2.0, 4)]
    assert log.board.flushed == 2


def test_only_the_process_that_leads_opens_one(installed: None, tmp_path: Path) -> None:
    assert Log(tmp_path / "log.csv", 2, 0, lambda line: None, leads=False).board is None


def test_a_real_board_holds_the_same(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    figures(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(2, 3.0), (4, 2.0)]
