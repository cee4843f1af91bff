"""DDPM and DDIM with the published noise schedule, through MONAI's schedulers; DPM-Solver++."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
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


def add_noise(data: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """x_t of the forward process (Ho et al. 2020, eq. 4).

    Args:
        data, noise: (N, ...).
        timestep: (N,), whole numbers from 0 to 999.
    """
    signal = _signal(data, timestep)
    return signal.sqrt() * data + (1 - signal).sqrt() * noise


def without_noise(noisy: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """x_0, where `noise` is what `add_noise` put on it."""
    signal = _signal(noisy, timestep)
    return (noisy - (1 - signal).sqrt() * noise) / signal.sqrt()


def _signal(maps: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """The signal's share of the power, (N, 1, ...)."""
    kept: torch.Tensor = DDPMScheduler(**_SCHEDULE).alphas_cumprod.to(maps.device)
    return kept[timestep].view(-1, *[1] * (maps.ndim - 1))


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


def sample_dpm(
    denoiser: Denoiser,
    noise: torch.Tensor,
    steps: int,
    *,
    advance: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """DPM-Solver++(2M): second order, one prediction a step (Lu et al. 2022, algorithm 2).

    The last step, to data, is of first order, as there. Steps are even in log(signal / noise).
    """
    timesteps, kept = _even_in_snr(steps)
    alpha, sigma = np.sqrt(kept), np.sqrt(1 - kept)
    widths = np.diff(np.log(alpha / sigma))
    latent, before = noise, noise
    for n, timestep in enumerate(timesteps):
        clean = (latent - float(sigma[n]) * denoiser(latent, float(timestep))) / float(alpha[n])
        if n == steps - 1:
            latent = clean
        else:
            ratio = widths[n - 1] / widths[n] if n else 0.0
            ahead = clean if n == 0 else clean + (clean - before) / (2 * float(ratio))
            shrink = float(np.expm1(-widths[n]) * alpha[n + 1])
            latent = float(sigma[n + 1] / sigma[n]) * latent - shrink * ahead
        before = clean
        advance()
    return latent


def _even_in_snr(steps: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """`steps` timesteps from the noisiest to 0 and their ᾱ; between whole ones log ᾱ is linear."""
    log_kept = torch.log(DDPMScheduler(**_SCHEDULE).alphas_cumprod.double()).numpy()
    snr = (log_kept - np.log(-np.expm1(log_kept))) / 2
    whole = np.arange(TRAIN_TIMESTEPS, dtype=np.float64)
    wanted = np.linspace(snr[-1], snr[0], steps)
    timesteps = np.interp(wanted, snr[::-1], whole[::-1])
    return timesteps, np.exp(np.interp(timesteps, whole, log_kept))
