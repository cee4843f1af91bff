"""DDPM and DDIM: with a perfect denoiser both end at the data."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from synthct.diffusion.denoiser import Denoiser
from synthct.diffusion.gaussian import sample_ddim, sample_ddpm, sample_dpm

_DATA = torch.full((1, 1, 2, 2, 2), 0.7)


def _perfect() -> Denoiser:
    """Knows the data, so knows the noise in any latent."""
    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        schedule="scaled_linear_beta",
        beta_start=0.0015,
        beta_end=0.0195,
    )

    def denoise(latent: torch.Tensor, timestep: float) -> torch.Tensor:
        kept = scheduler.alphas_cumprod[int(timestep)]
        return (latent - kept.sqrt() * _DATA) / (1 - kept).sqrt()

    return denoise


def test_ddim_ends_at_the_data() -> None:
    noise = torch.randn(_DATA.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample_ddim(_perfect(), noise, 20), _DATA, atol=0.05, rtol=0)


def test_ddpm_ends_at_the_data_and_repeats_with_its_generator() -> None:
    noise = torch.randn(_DATA.shape, generator=torch.Generator().manual_seed(0))
    runs = [
        sample_ddpm(_perfect(), noise, 1000, generator=torch.Generator().manual_seed(1))
        for _ in range(2)
    ]
    torch.testing.assert_close(runs[0], _DATA, atol=0.1, rtol=0)
    assert torch.equal(runs[0], runs[1])


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_dpm_ends_at_the_data(steps: int) -> None:
    noise = torch.randn(_DATA.shape, generator=torch.Generator().manual_seed(0))
    kept = _kept(999.0)  # a latent that holds what is left of the data at the first timestep
    start = kept.sqrt() * _DATA + (1 - kept).sqrt() * noise
    end = sample_dpm(_gaussian(0.0, 0.7), start.double(), steps)
    torch.testing.assert_close(end, _DATA.double(), atol=1e-6, rtol=0)


def test_dpm_is_of_second_order() -> None:
    """On Gaussian data the path is known: what is left of the noise shrinks with its spread."""
    spread = 0.5
    start = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    first, last = _kept(999.0), _kept(0.0)
    width = [(k * spread**2 + 1 - k).sqrt() for k in (first, last)]
    at_zero = start * width[1] / width[0]
    sigma = (1 - last).sqrt()
    exact = (at_zero - sigma * sigma * at_zero / width[1] ** 2) / last.sqrt()
    denoiser = _gaussian(spread, 0.0)
    errors = [abs(float(sample_dpm(denoiser, start, n) - exact)) for n in (20, 40, 80)]
    assert 3.4 < errors[0] / errors[1] < 4.8
    assert 3.4 < errors[1] / errors[2] < 4.8


def _kept(timestep: float) -> torch.Tensor:
    """ᾱ, log-linear between whole timesteps."""
    scheduler = DDPMScheduler(
        num_train_timesteps=1000, schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.0195
    )
    logs = torch.log(scheduler.alphas_cumprod.double())
    low = min(int(timestep), 998)
    return torch.exp(torch.lerp(logs[low], logs[low + 1], timestep - low))


def _gaussian(spread: float, mean: float) -> Denoiser:
    """The best denoiser of data that are Gaussian, voxel by voxel."""

    def denoise(latent: torch.Tensor, timestep: float) -> torch.Tensor:
        kept = _kept(timestep)
        noisy = latent - kept.sqrt() * mean
        return (1 - kept).sqrt() * noisy / (kept * spread**2 + 1 - kept)

    return denoise
