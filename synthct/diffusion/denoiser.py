"""The one protocol between samplers and networks, and guidance between several of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import torch


class Denoiser(Protocol):
    """A network with its conditions bound: what it makes of a noisy latent at a timestep."""

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        """`latent` (N, C, X, Y, Z) and a timestep in 0..1000 → prediction of the same shape."""
        ...


Branches = Callable[[torch.Tensor, float], Iterable[torch.Tensor]]
"""What each branch of guidance makes of a noisy latent at a timestep."""


class Guided:
    """Classifier-free guidance, one term for each thing that is told on top of what came before.

    base + Σ scaleᵢ · (branchᵢ − branchᵢ₋₁), branch₀ = base (Ho & Salimans 2022; several conditions
    as in Brooks et al. 2023, eq. 3). With one term it is the usual formula. Every branch given is
    run, so leave out those that cancel (`scales.worth_running`).

    Args:
        branches: the predictions of all branches, base first (`apart`, or one pass for all).
        scales: of each branch after the base.
    """

    def __init__(self, branches: Branches, scales: Sequence[float]) -> None:
        self.branches, self.scales = branches, scales

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        predictions = iter(self.branches(latent, timestep))
        before = guided = next(predictions)
        for scale, told in zip(self.scales, predictions, strict=True):
            guided = guided + scale * (told - before)
            before = told
        return guided


def apart(denoisers: Sequence[Denoiser]) -> Branches:
    """Branches that are run one after the other, each when it is asked for."""

    def run(latent: torch.Tensor, timestep: float) -> Iterator[torch.Tensor]:
        for one in denoisers:
            yield one(latent, timestep)

    return run
