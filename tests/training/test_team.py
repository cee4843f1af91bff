"""Two processes over gloo take the step that one takes on the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from synthct.errors import UsageError
from synthct.training.sharding import require_shardable
from synthct.training.state import State
from synthct.training.team import Team, own_device
from tests.training.data_parallel import OWN_WAYS, RECIPE, Smooth, run, run_apart, run_whole


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left. gloo aborts one now and then; torchrun then starts both again."""
    folder = tmp_path_factory.mktemp("team")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "--max-restarts", "2"]
    command += ["-m", "tests.training.data_parallel", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_their_gradients_are_those_of_the_joined_batch(pair: Path, tmp_path: Path) -> None:
    """One process with the same batches, two a step; unused layers included."""
    alone = run(tmp_path, Team(), steps=3, accumulate=2)
    for rank in (0, 1):
        found = torch.load(pair / f"rank-{rank}.pt")
        for one, other in zip(found["gradients"], alone.parameters, strict=True):
            assert other.grad is not None
            assert torch.allclose(one, other.grad, rtol=1e-4, atol=1e-7)
        for one, other in zip(found["weights"], alone.parameters, strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_split_unet_takes_the_same_steps_and_resumes(pair: Path, tmp_path: Path) -> None:
    """FSDP over two processes, saved and taken up halfway, against one whole process."""
    alone = run_whole(tmp_path, Team(), steps=4, accumulate=2, split=False)
    found = torch.load(pair / "rank-0.pt")
    for states, networks in zip(found["split"], (alone.networks, alone.averages), strict=True):
        wanted = networks["unet"].state_dict()
        assert states["unet"].keys() == wanted.keys()
        for key, value in wanted.items():
            assert torch.allclose(states["unet"][key], value, rtol=1e-4, atol=1e-6), key
    everything = sum(p.numel() for p in alone.parameters)
    halves = [torch.load(pair / f"rank-{rank}.pt")["held"] for rank in (0, 1)]
    assert sum(halves) == everything and max(halves) < everything


def test_only_the_unet_is_split() -> None:
    with pytest.raises(UsageError, match="U-Net alone"):
        require_shardable({"vae": torch.nn.Identity()})


def test_both_end_with_the_same_weights_to_the_bit(pair: Path) -> None:
    first, second = (torch.load(pair / f"rank-{rank}.pt") for rank in (0, 1))
    for name in ("weights", "gradients"):
        assert all(torch.equal(a, b) for a, b in zip(first[name], second[name], strict=True))
    for one, other in zip(first["averages"], second["averages"], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_they_may_go_apart_and_meet_every_few_steps(pair: Path, tmp_path: Path) -> None:
    """Weights and moments are the means of two lone runs; between two meetings they differ."""
    lone = [run_apart(tmp_path, Team(), ways[:2]) for ways in OWN_WAYS]
    found = [torch.load(pair / f"rank-{rank}.pt") for rank in (0, 1)]
    for n, (a, b) in enumerate(zip(*(state.parameters for state in lone), strict=True)):
        assert not torch.equal(a, b)
        held = [run.optimiser.state[p] for run, p in zip(lone, (a, b), strict=True)]
        moments = [one.get("exp_avg", torch.zeros_like(a)) for one in held]
        for one in found:
            assert torch.allclose(one["apart 2"][n], (a + b) / 2, rtol=1e-5, atol=1e-7)
            assert torch.allclose(one["moments 2"][n], sum(moments) / 2, rtol=1e-5, atol=1e-7)


def test_what_is_saved_is_what_all_have(pair: Path) -> None:
    """Between two meetings they meet to save: a resumed run begins with the same everywhere."""
    first, second = (torch.load(pair / f"rank-{rank}.pt") for rank in (0, 1))
    for name in ("apart 3", "moments 3"):
        assert all(torch.equal(a, b) for a, b in zip(first[name], second[name], strict=True))
    saved = torch.load(pair / "apart" / "checkpoint.pt")
    kept = [p for net in saved["networks"].values() for p in net.values()]
    assert all(torch.equal(a, b) for a, b in zip(kept, first["apart 3"], strict=True))


def test_split_weights_meet_in_every_step(tmp_path: Path) -> None:
    recipe = replace(RECIPE, shard=True, sync_every=2)
    with pytest.raises(UsageError, match="sync_every"):
        State(Smooth(0), recipe, tmp_path, team=Team(0, 2))


def test_a_step_is_that_of_batches_laid_side_by_side(tmp_path: Path) -> None:
    """Accumulating two batches gives the gradient of one of twice the size (no noise in it)."""

    class Bare(Smooth):
        def loss(
            self, batch: tuple[int, torch.Tensor], step: int
        ) -> tuple[torch.Tensor, dict[str, float]]:
            image = batch[1]
            out = self.last(self.net["seldom"](self.net["always"](image)))
            return (out - image[:, :, 1:-1, 1:-1, 1:-1]).square().mean(), {}

    task = Bare(0)
    one, two = task.batch(1)[1], task.batch(2)[1]
    parameters = [p for net in task.networks.values() for p in net.parameters()]
    joined = torch.autograd.grad(task.loss((1, torch.cat([one, two])), 0)[0], parameters)
    halves = [torch.autograd.grad(task.loss((1, x), 0)[0], parameters) for x in (one, two)]
    for whole, a, b in zip(joined, *halves, strict=True):
        assert torch.allclose(whole, (a + b) / 2, rtol=1e-4, atol=1e-7)


def test_alone_nothing_is_sent() -> None:
    us = Team()
    assert us.leads and us.any(True, torch.device("cpu"))
    assert us.mean({"loss": 2.0}, "loss", torch.device("cpu")) == {"loss": 2.0}


def test_each_process_takes_its_own_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device(torch.device("cuda")) == torch.device("cuda", 3)
    assert own_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert own_device(torch.device("cpu")) == torch.device("cpu")
