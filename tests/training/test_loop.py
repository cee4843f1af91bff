"""The loop: resumes bit-equal, stops at NaN, keeps what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from synthct.errors import TrainingError, UsageError
from synthct.training.loop import fit, learning_rate
from synthct.training.task import Recipe


class Line:
    """Fit y = 2x + 1 with a linear layer; the batch hangs on the step alone."""

    def __init__(self, poison: int | None = None) -> None:
        torch.manual_seed(0)
        self.net = nn.Linear(1, 1)
        self.poison = poison

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"line": self.net}

    def batch(self, step: int) -> torch.Tensor:
        return torch.randn(16, 1, generator=torch.Generator().manual_seed(step))

    def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        noise = 0.01 * torch.randn(16, 1)  # from the loop's own seed: resuming must repeat it
        loss = (self.net(batch) - 2 * batch - 1 + noise).pow(2).mean()
        if step == self.poison:
            loss = loss * float("nan")
        return loss, {"error": float(loss.detach())}


def _recipe(steps: int) -> Recipe:
    return Recipe(steps=steps, learning_rate=0.05, warmup_steps=2, save_every=10, log_every=5)


def test_it_learns(tmp_path: Path) -> None:
    task = Line()
    fit(task, _recipe(300), tmp_path)
    assert task.net.weight.item() == pytest.approx(2, abs=0.1)
    assert (tmp_path / "log.csv").read_text().count("\n") == 61


def test_twenty_steps_are_ten_and_ten_resumed(tmp_path: Path) -> None:
    whole, halves = Line(), Line()
    straight = fit(whole, _recipe(20), tmp_path / "whole")

    stopped = Line(poison=10)  # dies in step 10, after the checkpoint of step 10
    with pytest.raises(TrainingError):
        fit(stopped, _recipe(20), tmp_path / "halves")
    resumed = fit(halves, _recipe(20), tmp_path / "halves", resume=True)

    assert torch.equal(whole.net.weight, halves.net.weight)
    for key, value in straight["line"].state_dict().items():
        assert torch.equal(value, resumed["line"].state_dict()[key])


def test_nan_stops_with_the_step(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="step 3"):
        fit(Line(poison=3), _recipe(20), tmp_path)


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path: Path) -> None:
    fit(Line(), _recipe(10), tmp_path)
    with pytest.raises(UsageError, match="exists"):
        fit(Line(), _recipe(10), tmp_path)


def test_the_rate_warms_up_and_decays_to_zero() -> None:
    recipe = Recipe(steps=100, learning_rate=1.0, warmup_steps=10, power=1.0)
    rates = [learning_rate(recipe, step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9], abs=0.02)
    assert rates[100] == 0


def test_one_overflow_is_left_out_and_named(tmp_path: Path) -> None:
    class Overflowing(Line):
        def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            loss, figures = super().loss(batch, step)
            return (loss * 1e30 if step == 3 else loss), figures

    said: list[str] = []
    task = Overflowing()
    fit(task, _recipe(300), tmp_path, say=said.append)
    assert [line for line in said if "left out" in line] == [said[0]]
    assert "step 4" in said[0]
    assert "line.weight" in said[0]
    assert task.net.weight.item() == pytest.approx(2, abs=0.1)
