"""The loop: resumes bit-equal, stops at NaN, keeps what is there."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from synthct.errors import TrainingError, UsageError
from synthct.training.loop import fit, learning_rate
from synthct.training.state import State
from synthct.training.task import Recipe
from synthct.training.validation import Validation


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
    assert (tmp_path / "log.csv").read_text(encoding="utf-8").count("\n") == 61


def test_twenty_steps_are_ten_and_ten_resumed(tmp_path: Path) -> None:
    whole, halves = Line(), Line()
    straight = fit(whole, _recipe(20), tmp_path / "whole")

    stopped = Line(poison=10)  # dies in step 10, after the checkpoint of step 10
    with pytest.raises(TrainingError):
        fit(stopped, _recipe(20), tmp_path / "halves")
    resumed = fit(halves, _recipe(20), tmp_path / "halves", resume=True)

    assert torch.equal(whole.net.weight, halves.net.weight)
    for key, value in straight.networks["line"].state_dict().items():
        assert torch.equal(value, resumed.networks["line"].state_dict()[key])


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


def test_accumulated_gradients_are_those_of_the_joined_batch(tmp_path: Path) -> None:
    """Mean over 4 batches of 16 = one batch of 64, for a loss without noise."""

    class Plain(Line):
        def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            return (self.net(batch) - 2 * batch - 1).pow(2).mean(), {}

    task, joined = Plain(), Plain()
    state = State(task, replace(_recipe(5), accumulate=4), tmp_path)
    batches = [task.batch(n) for n in range(4)]
    state.train_step(batches)
    joined.loss(torch.cat(batches), 0)[0].backward()
    norm = joined.net.weight.grad.norm()
    scale = min(1.0, 1.0 / torch.cat([p.grad.flatten() for p in joined.net.parameters()]).norm())
    assert norm > 0
    for one, other in zip(task.net.parameters(), joined.net.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad * scale, rtol=1e-5)


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path) -> None:
    task = Line()
    state = State(task, replace(_recipe(5), clip_norm=0.01), tmp_path)
    figures = state.train_step([task.batch(0)])
    left = torch.cat([p.grad.flatten() for p in task.net.parameters()]).norm()
    assert figures["gradient"] > 0.1
    assert left == pytest.approx(0.01, rel=1e-3)


def test_averages_follow_by_the_decay(tmp_path: Path) -> None:
    task = Line()
    state = State(task, replace(_recipe(5), ema_decay=0.5), tmp_path)
    want = task.net.weight.detach().clone()
    for step in range(5):
        state.train_step([task.batch(step)])
        decay = min(0.5, (2 + step) / (11 + step))
        want = decay * want + (1 - decay) * task.net.weight.detach()
    assert torch.allclose(state.averages["line"].weight, want)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_and_the_rest_is_as_if_nothing_was(
    tmp_path: Path, number: signal.Signals
) -> None:
    class Signalled(Line):
        def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
            if step == 6:
                os.kill(os.getpid(), number)
            return super().loss(batch, step)

    whole = Line()
    fit(whole, _recipe(20), tmp_path / "whole")
    before = signal.getsignal(number)
    ended = fit(Signalled(), _recipe(20), tmp_path / "halves")
    assert (ended.stopped, ended.step) == (True, 7)
    assert signal.getsignal(number) is before
    again = Line()
    assert not fit(again, _recipe(20), tmp_path / "halves", resume=True).stopped
    assert torch.equal(whole.net.weight, again.net.weight)


class Judged(Line):
    """Its validation error falls for three looks, then rises."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation:
        assert not averages["line"].training
        torch.randn(3)  # must not change what the run draws
        self.looks += 1
        picture = np.full((4, 6), 0.5, np.float32)
        return Validation({"score": abs(3.0 - self.looks)}, abs(3.0 - self.looks), picture)


def test_it_stops_early_when_nothing_gets_better(tmp_path: Path) -> None:
    task = Judged()
    ended = fit(task, replace(_recipe(100), validate_every=5, patience=2), tmp_path)
    assert (ended.early, ended.step, task.looks) == (True, 25, 5)
    with (tmp_path / "validation.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [2, 1, 0, 1, 2]
    with Image.open(tmp_path / "pictures/step-0000025.png") as picture:
        assert picture.size == (6, 4) and picture.getpixel((0, 0)) == 128


def test_validation_changes_nothing_of_the_run(tmp_path: Path) -> None:
    plain, judged = Line(), Judged()
    fit(plain, _recipe(20), tmp_path / "a")
    fit(judged, replace(_recipe(20), validate_every=5), tmp_path / "b")
    assert torch.equal(plain.net.weight, judged.net.weight)


def test_patience_is_remembered_over_a_stop(tmp_path: Path) -> None:
    recipe = replace(_recipe(100), validate_every=5, patience=2)
    first = State(Judged(), recipe, tmp_path)
    first.patience.spent(1.0)
    first.patience.spent(2.0)
    first.save()
    second = State(Judged(), recipe, tmp_path)
    second.restore(resume=True)
    assert (second.patience.best, second.patience.since) == (1.0, 1)


def test_a_summary_with_curves_stands_at_the_end(tmp_path: Path) -> None:
    fit(Judged(), replace(_recipe(20), validate_every=5), tmp_path)
    page = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert page.count("<polyline") >= 4
    assert "pictures/step-0000020.png" in page
    last = (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()[-1].split(",")
    assert f"last {float(last[2]):.4g}" in page
