"""How a sample is drawn: the same words for every family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SamplerName = Literal["rflow", "ddpm", "ddim"]


@dataclass(frozen=True)
class Sampling:
    """Noise and its removal. `[seed, attempt]` alone determines the noise."""

    seed: int
    attempt: int
    steps: int
    sampler: SamplerName
    guidance: float = 0.0
    reference_times: bool = False
    """The reference's truncated time steps instead of the exact ones (rectified flow)."""
