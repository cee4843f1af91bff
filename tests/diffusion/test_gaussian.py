"""DDPM and DDIM: with a perfect denoiser both end at the data."""

from __future__ import annotations

import torch
from monai.networks.schedulers import DDPMScheduler

from synthct.diffusion.denoiser import Denoiser
from synthct.diffusion.gaussian import sample_ddim, sample_ddpm

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
