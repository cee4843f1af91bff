"""The weight of the KL term, adjusted so that the latent keeps about unit spread.

As in MAISI (Guo et al., arXiv 2409.11169): the standard deviation of the latent is kept between 0.9
and 1.1. A latent that is too wide raises the weight, one too narrow lowers it.
"""

from __future__ import annotations

import torch
from torch import nn

LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1.0


class KlControl(nn.Module):
    """Multiplies the weight step by step while a running standard deviation is out of range.

    Args:
        weight: where it starts.
        low, high: the range of the latent's standard deviation.
        rate: largest relative change a step, reached where the spread is off by a factor e.
        memory: share of the running mean that a step keeps.
    """

    weight: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self,
        weight: float,
        low: float = 0.9,
        high: float = 1.1,
        *,
        rate: float = 0.1,
        memory: float = 0.95,
    ) -> None:
        super().__init__()
        self.low, self.high, self.rate, self.memory = low, high, rate, memory
        self.register_buffer("weight", torch.tensor(float(weight)))
        self.register_buffer("spread", torch.tensor(float("nan")))

    @torch.no_grad()
    def observe(self, latent_std: float) -> float:
        """Take note of a batch's spread; return the weight for its KL term."""
        now = torch.tensor(latent_std, device=self.spread.device)
        known = bool(torch.isfinite(self.spread))
        self.spread.copy_(torch.lerp(now, self.spread, self.memory) if known else now)
        outside = self.spread / self.spread.clamp(self.low, self.high)
        change = (self.rate * torch.log(outside)).clamp(-self.rate, self.rate)
        self.weight.mul_(torch.exp(change)).clamp_(LEAST_WEIGHT, MOST_WEIGHT)
        return float(self.weight)
