"""DDPM and DDIM with the published noise schedule, through MONAI's schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from synthct.diffusion.denoiser import Denoiser

TRAIN_TIMESTEPS = 1000
_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAIN_TIMESTEPS,
    "schedule": "scaled_linear_beta",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "prediction_type": "epsilon",
    "clip_sample": False,
}


def sample_ddpm(
    denoiser: Denoiser,
    noise: torch.Tensor,
    steps: int,
    *,
    generator: torch.Generator,
    advance: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Ancestral sampling (Ho et al. 2020, algorithm 2); variance "fixed small"."""
    scheduler = DDPMScheduler(**_SCHEDULE)
    scheduler.set_timesteps(steps)
    latent = noise
    for timestep in scheduler.timesteps.tolist():
        prediction = denoiser(latent, float(timestep))
        # noise is drawn on the CPU, so that a sample does not depend on the device
        latent, _ = scheduler.step(prediction.cpu(), timestep, latent.cpu(), generator=generator)
        latent = latent.to(noise.device)
        advance()
    return latent


def sample_ddim(
    denoiser: Denoiser,
    noise: torch.Tensor,
    steps: int,
    *,
    advance: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Deterministic sampling (Song et al. 2021, eq. 12 with eta 0)."""
    scheduler = DDIMScheduler(**_SCHEDULE)
    scheduler.set_timesteps(steps)
    latent = noise
    for timestep in scheduler.timesteps.tolist():
        latent, _ = scheduler.step(denoiser(latent, float(timestep)), timestep, latent)
        advance()
    return latent
