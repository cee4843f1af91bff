"""Rectified flow: straight paths from noise to data, and how they are walked.

x_t = (1 − t)·data + t·noise for t in [0, 1]; the network is told 1000·t and predicts
v = data − noise (Liu et al., "Flow Straight and Fast"; the sign as in the published MAISI code).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

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


def linear_share(t: torch.Tensor) -> torch.Tensor:
    """Share of x_t in the velocity, were data and noise white and of variance 1.

    (1 − 2t) / ((1 − t)² + t²): the skip connection of Karras et al. 2022 (table 1, c_skip) for this
    flow; 1 where x_t is data, −1 where it is noise.

    Args:
        t: shifted times in [0, 1].
    """
    return (1 - 2 * t) / ((1 - t).square() + t.square())


def with_linear_share(denoiser: Denoiser) -> Denoiser:
    """The velocity, from networks that learned what `linear_share` leaves of it."""

    def whole(latent: torch.Tensor, timestep: float) -> torch.Tensor:
        share = linear_share(torch.tensor(timestep / TRAIN_TIMESTEPS))
        return denoiser(latent, timestep) + float(share) * latent

    return whole


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


def sample_ancestral(
    denoiser: Denoiser,
    noise: torch.Tensor,
    schedule: RectifiedFlow,
    steps: int,
    *,
    fresh: Callable[[int], torch.Tensor],
    advance: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Walk as `sample` does, but replace part of the noise in each step by noise drawn anew.

    What a network gets wrong hangs on the noise that it sees. Along the path of `sample` that noise
    stays the same, and the errors of all steps add up; with other noise they cancel (Karras et al.
    2022, "Elucidating the Design Space of Diffusion-Based Generative Models", section 4). With a
    perfect network and many steps both end in the distribution of the data.

    The share is that of DDPM's posterior (Song et al. 2021, "Denoising Diffusion Implicit Models",
    eq. 16 with η = 1), in terms of σ = t / (1 − t), the noise per unit of data: of the noise after
    a step, the part √(1 − (σ'/σ)²) is new.

    Args:
        fresh: new noise of step n, as `noise`.
    """
    latent = noise
    for step, (now, after) in enumerate(pairwise(schedule.times(steps).tolist())):
        slope = denoiser(latent, now * TRAIN_TIMESTEPS)
        data, left = latent + now * slope, latent - (1 - now) * slope
        kept = after * (1 - now) / (now * (1 - after))  # σ'/σ
        if after > 0:
            left = kept * left + math.sqrt(1 - kept**2) * fresh(step)
        latent = (1 - after) * data + after * left
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
