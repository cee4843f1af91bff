"""What the loop trains: networks by name, and a loss per batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn


class Task(Protocol):
    """One training task. The loop knows nothing else of the model."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks whose parameters move, by role; they are saved under these names."""
        ...

    def batch(self, step: int) -> Any:
        """The batch of `step`, a function of the step and the seed alone (so that runs resume)."""
        ...

    def loss(self, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """A scalar loss and the figures to log."""
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
    ema_decay: float = 0.999
    weight_decay: float = 0.0
    save_every: int = 200
    log_every: int = 50
    seed: int = 0
    bfloat16: bool = True
    """Autocast to bfloat16 where the machine has instructions for it."""
    cost: str = ""
    score: str = ""
