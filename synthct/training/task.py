"""What the loop trains: networks by name, and a loss per batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import nn

if TYPE_CHECKING:
    from synthct.training.validation import Validation

Figures = dict[str, float]


class Task(Protocol):
    """One training task. The loop knows nothing else of the model."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks whose parameters move, by role; they are saved under these names.

        Parameters that do not require a gradient stay as they are.
        """
        ...

    def batch(self, index: int) -> Any:
        """Batch number `index`, a function of the index and the seed alone (so that runs resume).

        Without accumulation on one process the index is the step.
        """
        ...

    def loss(self, batch: Any, step: int) -> tuple[torch.Tensor, Figures]:
        """A scalar loss and the figures to log."""
        ...


@runtime_checkable
class Adversarial(Protocol):
    """A task with an opponent, which learns from what the networks last made."""

    @property
    def critic(self) -> nn.Module | None:
        """None where this run has no opponent."""
        ...

    def critic_loss(self) -> tuple[torch.Tensor, Figures]:
        """The opponent's loss on the last batch that `loss` saw."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A task with a state of its own that a resumed run needs."""

    @property
    def beside(self) -> Mapping[str, nn.Module]:
        """Modules (parameters and buffers) that are saved with the checkpoint."""
        ...


@runtime_checkable
class Validated(Protocol):
    """A task that can judge its networks on cases that are not trained on."""

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation | None:
        """Judge these networks (the averaged ones); None where there is nothing to judge by."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How long and how fast. `cost` and `score` say what a run took and reached."""

    steps: int
    learning_rate: float
    warmup_steps: int = 100
    power: float = 0.9
    """Exponent of the polynomial decay to zero."""
    clip_norm: float = 1.0
    accumulate: int = 1
    """Batches whose gradients are averaged for one step."""
    ema_decay: float = 0.999
    weight_decay: float = 0.0
    trainable: str = "all"
    """What moves: see `training/parameters.py`."""
    critic_rate: float = 2e-4
    """Learning rate of the opponent in adversarial training; it follows the same schedule."""
    epochs: int = 0
    """Where not 0, `steps` follows from it and the number of training cases."""
    validate_every: int = 0
    """Steps between two looks at the validation cases; 0: none."""
    patience: int = 0
    """Looks without a better score after which the run stops; 0: it never does."""
    shard: bool = False
    """Split the networks' weights over the processes (FSDP) instead of copying them."""
    sync_every: int = 1
    """Of several processes: 1 averages gradients in every step; n lets each go its own way and
    averages weights and moments every n steps (local SGD, Stich 2019), so that none waits for the
    larger crop of another. Signals are heeded then, too.
    """
    save_every: int = 200
    log_every: int = 50
    seed: int = 0
    bfloat16: bool = True
    """Autocast to bfloat16 where the machine has instructions for it."""
    cost: str = ""
    score: str = ""
