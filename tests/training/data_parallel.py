"""One of two processes: takes a step of a small convolution and writes its gradients and weights.

Run by `test_team.py` through torchrun.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from synthct.training.state import State
from synthct.training.task import Recipe
from synthct.training.team import Team, team

RECIPE = Recipe(steps=4, learning_rate=0.01, warmup_steps=1, clip_norm=1e9)


class Smooth:
    """Learns to blur noise; every third example leaves one of its two layers out."""

    noise = 0.1
    """Of what it has to make."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.net = nn.ModuleDict({"always": nn.Conv3d(1, 4, 3), "seldom": nn.Conv3d(4, 4, 1)})
        self.last = nn.Conv3d(4, 1, 1)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"net": self.net, "last": self.last}

    def batch(self, index: int) -> tuple[int, torch.Tensor]:
        return index, torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(index))

    def loss(
        self, batch: tuple[int, torch.Tensor], step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        index, image = batch
        hidden = self.net["always"](image)
        if index % 3:
            hidden = self.net["seldom"](hidden.relu())
        noise = self.noise * torch.randn(image.shape[0], 1, 6, 6, 6)
        wanted = image[:, :, 1:-1, 1:-1, 1:-1] + noise
        return (self.last(hidden) - wanted).square().mean(), {}


def run(folder: Path, us: Team, steps: int, accumulate: int) -> State:
    """The state after `steps` steps on `accumulate` batches a process."""
    task = Smooth(seed=us.rank)  # the first one's weights count
    state = State(task, RECIPE, folder, team=us)
    for step in range(steps):
        first = step * accumulate
        numbers = range(first, first + accumulate)
        state.train_step([task.batch(n * us.size + us.rank) for n in numbers])
    return state


class Quiet(Smooth):
    """Without noise: what a step does hangs on its batch and the weights alone."""

    noise = 0.0


OWN_WAYS = ((0, 3, 5), (1, 2, 4))
"""The batches of each process; the first one meets `seldom` after they came together."""


def run_apart(folder: Path, us: Team, numbers: Sequence[int], *, save: bool = False) -> State:
    """The state after steps on `numbers`, where processes come together every two steps."""
    recipe = replace(RECIPE, sync_every=2)
    state = State(Quiet(seed=0), recipe, folder, team=us)
    for number in numbers:
        state.train_step([state.task.batch(number)])
    if save:
        state.save()
    return state


class Whole(nn.Module):
    """A network that is called as a whole, as FSDP wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 1, 3, padding=1)])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            image = block(image).sin()
        return image


class WholeTask(Smooth):
    """The same noise, one U-Net."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.unet = Whole()

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"unet": self.unet}

    def loss(
        self, batch: tuple[int, torch.Tensor], step: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        return (self.unet(batch[1]) - batch[1].roll(1, 2)).square().mean(), {}


def run_whole(folder: Path, us: Team, steps: int, accumulate: int, *, split: bool) -> State:
    """Steps of `WholeTask`; halfway it is saved and taken up by a fresh state."""
    recipe = replace(RECIPE, shard=split, clip_norm=0.05)
    state = State(WholeTask(us.rank), recipe, folder, team=us)
    for step in range(steps):
        if step == 2:
            state.save()
            if us.size > 1:
                torch.distributed.barrier()
            state = State(WholeTask(us.rank + 7), recipe, folder, team=us)
            state.restore(resume=True)
        numbers = range(step * accumulate, (step + 1) * accumulate)
        state.train_step([state.task.batch(n * us.size + us.rank) for n in numbers])
    return state


if __name__ == "__main__":
    torch.set_num_threads(1)
    with team(torch.device("cpu")) as us:
        state = run(Path(sys.argv[1]), us, steps=3, accumulate=1)
        found = {
            "weights": [p.detach() for p in state.parameters],
            "gradients": [p.grad for p in state.parameters],
            "averages": [list(net.state_dict().values()) for net in state.averages.values()],
        }
        split = run_whole(Path(sys.argv[1]), us, steps=4, accumulate=1, split=True)
        found["held"] = sum(p.to_local().numel() for p in split.parameters)
        found["split"] = split.weights(split.networks), split.weights(split.averages)
        apart = Path(sys.argv[1]) / "apart"
        for count in (2, 3):
            state = run_apart(apart, us, OWN_WAYS[us.rank][:count], save=count == 3)
            found[f"apart {count}"] = [p.detach() for p in state.parameters]
            found[f"moments {count}"] = [
                state.optimiser.state[p]["exp_avg"].clone() for p in state.parameters
            ]
        torch.save(found, Path(sys.argv[1]) / f"rank-{us.rank}.pt")
