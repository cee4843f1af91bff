"""Rectified flow: straight paths from noise to data, and how they are walked.

x_t = (1 − t)·data + t·noise for t in [0, 1]; the network is told 1000·t and predicts
v = data − noise (Liu et al., "Flow Straight and Fast"; the sign as in the published MAISI code).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from synthct.diffusion.denoiser import Denoiser
from synthct.diffusion.solvers import Solver, walk

TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class RectifiedFlow:
    """The schedule: how time is shifted for a latent of `numel` voxels.

    Large volumes spend more of their steps near noise: t' = r·t / (1 + (r − 1)·t) with
    r = (numel / base_numel)^(1/3) (MAISI.md section 2).
    """

    numel: int
    base_numel: int = 32**3

    @property
    def ratio(self) -> float:
        return float((self.numel / self.base_numel) ** (1 / 3))

    def shift(self, t: torch.Tensor) -> torch.Tensor:
        """Uniform time in [0, 1] → shifted time in [0, 1]."""
        return self.ratio * t / (1 + (self.ratio - 1) * t)

    def times(self, steps: int) -> torch.Tensor:
        """The steps + 1 shifted times from 1 (noise) to 0 (data), float64."""
        return self.shift(torch.linspace(1, 0, steps + 1, dtype=torch.float64))

    def reference_times(self, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(timesteps 0-1000, dt) of the reference: float16 timesteps, next one truncated to int.

        The dt sum to about 1.01 instead of 1; kept for parity with published results. The shift is
        worked out in float32 as there, so that rounding to float16 falls to the same side.
        """
        ratio = torch.pow(torch.tensor(self.numel) / self.base_numel, 1 / 3)
        grid = [(1.0 - i / steps) * TRAIN_TIMESTEPS / TRAIN_TIMESTEPS for i in range(steps)]
        shifted = torch.stack([ratio * t / (1 + (ratio - 1) * t) for t in grid])
        timesteps = (shifted * TRAIN_TIMESTEPS).to(torch.float16).double()
        following = torch.cat([timesteps[1:], torch.zeros(1, dtype=torch.float64)]).trunc()
        return timesteps, (timesteps - following) / TRAIN_TIMESTEPS

    def add_noise(self, data: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t for shifted times `t` of shape (N,)."""
        t = t.view(-1, *[1] * (data.ndim - 1)).to(data.dtype)
        return (1 - t) * data + t * noise


def velocity(data: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What the network learns to predict."""
    return data - noise


def sample(
    denoiser: Denoiser,
    noise: torch.Tensor,
    schedule: RectifiedFlow,
    steps: int,
    *,
    reference: bool = False,
    solver: Solver = "euler",
    advance: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Walk from `noise` (N, C, X, Y, Z) to data in `steps` steps.

    `reference` takes the published code's Euler steps, with its truncated times, instead of exact
    ones. Solvers of second order get nearer to the path's end in as many predictions.
    """
    if reference:
        return _reference_walk(denoiser, noise, schedule, steps, advance)

    def slope(latent: torch.Tensor, t: float) -> torch.Tensor:
        return -denoiser(latent, t * TRAIN_TIMESTEPS)

    latent = noise
    for state in walk(slope, noise, schedule.times(steps).tolist(), solver):
        latent = state
        advance()
    return latent


def _reference_walk(
    denoiser: Denoiser,
    latent: torch.Tensor,
    schedule: RectifiedFlow,
    steps: int,
    advance: Callable[[], None],
) -> torch.Tensor:
    timesteps, widths = schedule.reference_times(steps)
    for timestep, width in zip(timesteps.tolist(), widths.tolist(), strict=True):
        latent = latent + denoiser(latent, timestep) * width
        advance()
    return latent
