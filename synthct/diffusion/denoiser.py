"""The one protocol between samplers and networks."""

from __future__ import annotations

from typing import Protocol

import torch


class Denoiser(Protocol):
    """A network with its conditions bound: what it makes of a noisy latent at a timestep."""

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        """`latent` (N, C, X, Y, Z) and a timestep in 0..1000 → prediction of the same shape."""
        ...


class Guided:
    """Classifier-free guidance: unconditional + scale · (conditional − unconditional)."""

    def __init__(self, conditional: Denoiser, unconditional: Denoiser, scale: float) -> None:
        self.conditional, self.unconditional, self.scale = conditional, unconditional, scale

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        without = self.unconditional(latent, timestep)
        return without + self.scale * (self.conditional(latent, timestep) - without)
