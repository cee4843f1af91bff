"""All that a run is at one moment: networks, averages, optimisers, step. It takes steps, is saved
and comes back bit-equal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synthct.atomic import replacing
from synthct.errors import TrainingError, UsageError
from synthct.training import sharding
from synthct.training.device import moved
from synthct.training.parameters import choose
from synthct.training.schedule import learning_rate, share
from synthct.training.task import Adversarial, Figures, Recipe, Remembering, Task
from synthct.training.team import Team
from synthct.training.validation import Patience

MAX_OVERFLOWS = 3
"""Steps in a row whose gradient may overflow before the run stops."""


class State:
    """Everything that a checkpoint holds."""

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        folder: Path,
        *,
        team: Team | None = None,
        device: torch.device | None = None,
    ) -> None:
        if recipe.shard and recipe.sync_every > 1:
            hint = "leave one of them out"
            raise UsageError("shard=true with sync_every: split weights meet in every step", hint)
        self.task, self.recipe, self.folder = task, recipe, folder
        self.team, self.device = team or Team(), device or torch.device("cpu")
        self.patience = Patience(recipe.patience)
        self.step = self.overflows = 0
        self.overflowed = ""
        """Where the last step's gradient was not finite; empty where it was."""
        self.networks = dict(task.networks)
        choose(self.networks, recipe.trainable)
        for module in (*self.networks.values(), *self._beside().values()):
            module.to(self.device)
        self.team.start_alike((*self.networks.values(), *self._beside().values()))
        self.averages = {role: deepcopy(net).eval() for role, net in self.networks.items()}
        for net in self.averages.values():
            net.requires_grad_(False)
        self.sharded = recipe.shard and self.team.size > 1
        if self.sharded:
            sharding.require_shardable(self.networks)
            for net in (*self.networks.values(), *self.averages.values()):
                sharding.shard(net, self.device)
        self.parameters = [
            p for net in self.networks.values() for p in net.parameters() if p.requires_grad
        ]
        self.optimiser = _adam(
            self.parameters, recipe.learning_rate, recipe.weight_decay, fused=not self.sharded
        )
        critic = task.critic if isinstance(task, Adversarial) else None
        self.critic = None if critic is None else Opponent(critic, recipe)

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def together(self) -> bool:
        """Whether the processes stand at the same weights, and may be asked something in common."""
        return self.step % self.recipe.sync_every == 0 or self.step == self.recipe.steps

    def train_step(self, batches: Sequence[Any]) -> Figures:
        """One step of the optimiser on the mean gradient of `batches`."""
        rate = learning_rate(self.recipe, self.step)
        _set_rate(self.optimiser, rate)
        self.optimiser.zero_grad(set_to_none=True)
        seen = [
            self._gradients(batch, number, len(batches)) for number, batch in enumerate(batches)
        ]
        figures = _means(seen)
        if self.recipe.sync_every == 1:
            figures = self.team.mean(figures, "loss", self.device)
            self._average_gradients()
        norm = sharding.whole(
            nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        )
        good = self._guard(figures["loss"], norm)
        if good:
            nn.utils.clip_grads_with_norm_(self.parameters, self.recipe.clip_norm, norm)
            self.optimiser.step()
            if self.critic is not None:
                self.critic.step(share(self.recipe, self.step))
        self.step += 1
        self._average()
        if self.together and self.recipe.sync_every > 1:
            self._come_together()
        skipped = {"skipped": 1.0 - good, "gradient": float(norm) if good else 0.0}
        return {"loss": figures.pop("loss"), "rate": rate, **skipped, **figures}

    def _gradients(self, batch: Any, number: int, count: int) -> Figures:
        """Add one batch's gradients, those of the opponent included."""
        index = (self.step * count + number) * self.team.size + self.team.rank
        torch.manual_seed(self.recipe.seed * 1_000_003 + index)
        batch = moved(batch, self.device)
        loss, figures = self.task.loss(batch, self.step)
        (loss / count).backward()
        if self.critic is not None:
            assert isinstance(self.task, Adversarial)
            against, told = self.task.critic_loss()
            (against / count).backward()
            figures = figures | told
        return {"loss": float(loss.detach()), **figures}

    def _average_gradients(self) -> None:
        """Make gradients and running figures those of all processes."""
        if not self.sharded:  # else backward has done it
            self.team.average_gradients(self.parameters)
        if self.critic is not None:
            self.team.average_gradients(self.critic.parameters)
        self.team.average(b for module in self._beside().values() for b in module.buffers())

    @torch.no_grad()
    def _come_together(self) -> None:
        """Replace weights, averages and moments by their means over the processes."""
        modules = (*self.networks.values(), *self.averages.values(), *self._beside().values())
        self.team.average(tensor for net in modules for tensor in net.state_dict().values())
        self.team.average(_moments(self.optimiser))
        if self.critic is not None:
            self.team.average(p.detach() for p in self.critic.parameters)
            self.team.average(_moments(self.critic.optimiser))

    def _guard(self, loss: float, norm: torch.Tensor) -> bool:
        """Whether the step may be taken. A lone overflow in bfloat16 is left out, and logged."""
        finite = math.isfinite(float(norm))
        self.overflows = 0 if finite else self.overflows + 1
        self.overflowed = "" if finite else self._not_finite()
        if not math.isfinite(loss) or self.overflows > MAX_OVERFLOWS:
            raise TrainingError(
                f"step {self.step}: loss {loss}, gradient norm {float(norm)}",
                "lower learning_rate, or resume with --set bfloat16=false",
            )
        return finite

    def _not_finite(self) -> str:
        """Where the gradient is largest (or no number), the first three, with that value."""
        largest = {
            f"{role}.{name}": float(sharding.whole(p.grad).abs().max())
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

    # ── on disk ───────────────────────────────────────────────────────────────────────────────

    def save(self) -> None:
        """Write the checkpoint; every process has to call it."""
        if not self.together:
            self._come_together()
        weights = self.weights(self.networks), self.weights(self.averages)
        optimiser = self._optimiser_state()
        if not self.team.leads:
            return
        states = {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "networks": weights[0],
            "averages": weights[1],
            "optimiser": optimiser,
            "beside": _states(self._beside()),
            "patience": [self.patience.best, self.patience.since],
            "critic": None if self.critic is None else self.critic.optimiser.state_dict(),
        }
        with replacing(self.path, overwrite=True) as temporary:
            torch.save(states, temporary)

    def restore(self, resume: bool) -> None:
        """Take up the checkpoint where there is one.

        Raises:
            UsageError: there is one and `resume` is false, or it is of another seed or choice of
                parameters.
        """
        if not self.path.exists():
            return
        if not resume:
            raise UsageError(f"{self.path} exists already", "pass --resume, or another -o")
        states = torch.load(self.path, weights_only=True, map_location="cpu")
        for word, usual in (("seed", 0), ("trainable", "all"), ("shard", False)):
            was, now = states["recipe"].get(word, usual), getattr(self.recipe, word)
            if was != now:
                raise UsageError(
                    f"{self.path} was made with {word} {was}, not {now}",
                    "resume with the recipe that began the run",
                )
        for role, net in self.networks.items():
            self._load(net, self.averages[role], states, role)
        for name, module in self._beside().items():
            if name in states.get("beside", {}):
                module.load_state_dict(states["beside"][name])
        if self.critic is not None and states.get("critic"):
            self.critic.optimiser.load_state_dict(states["critic"])
        self.patience.best, self.patience.since = states.get("patience", (math.inf, 0))
        self.step = states["step"]

    def weights(self, networks: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
        """States by role, put together where they are split (all processes have to ask)."""
        if not self.sharded:
            return _states(networks)
        return {role: sharding.whole_weights(net) for role, net in networks.items()}

    def _optimiser_state(self) -> dict[str, Any]:
        if not self.sharded:
            return self.optimiser.state_dict()
        return sharding.whole_optimiser(self.networks[sharding.SHARDED], self.optimiser)

    def _load(
        self, net: nn.Module, average: nn.Module, states: Mapping[str, Any], role: str
    ) -> None:
        if self.sharded:
            now, mean = states["networks"][role], states["averages"][role]
            sharding.load_whole(net, now, self.optimiser, states["optimiser"])
            sharding.load_whole(average, mean)
            return
        net.load_state_dict(states["networks"][role])
        average.load_state_dict(states["averages"][role])
        if role == next(iter(self.networks)):  # one optimiser for all of them
            self.optimiser.load_state_dict(states["optimiser"])

    def _beside(self) -> dict[str, nn.Module]:
        return dict(self.task.beside) if isinstance(self.task, Remembering) else {}


class Opponent:
    """The discriminator's own optimiser."""

    def __init__(self, critic: nn.Module, recipe: Recipe) -> None:
        self.recipe, self.parameters = recipe, list(critic.parameters())
        self.optimiser = _adam(self.parameters, recipe.critic_rate, 0.0)

    def step(self, scale: float) -> None:
        """Move against the gradients gathered since the last step; `scale` times its rate."""
        _set_rate(self.optimiser, self.recipe.critic_rate * scale)
        found = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(found)
        if bool(torch.isfinite(norm)):
            nn.utils.clip_grads_with_norm_(self.parameters, self.recipe.clip_norm, norm)
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def _adam(
    parameters: list[nn.Parameter], rate: float, decay: float, *, fused: bool = True
) -> torch.optim.Optimizer:
    """`fused` goes over the weights once instead of ten times: a quarter of the time."""
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=fused)


def _moments(optimiser: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """Adam's moments and counts, in one order in every process: of a parameter that has not had a
    gradient yet, zeros."""
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            held = optimiser.state[parameter]
            if not held:
                held["step"] = torch.zeros((), device=parameter.device)
                held["exp_avg"] = torch.zeros_like(parameter)
                held["exp_avg_sq"] = torch.zeros_like(parameter)
            yield from (held["step"], held["exp_avg"], held["exp_avg_sq"])


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _states(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    return {role: module.state_dict() for role, module in modules.items()}


def _means(rows: Sequence[Figures]) -> Figures:
    """Of each figure over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}
