"""What the U-Net learns: from noise on a latent to a velocity, or to the noise itself.

The second version of MAISI is a rectified flow (velocity), the first one DDPM (noise). The spec's
sampler says which.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from synthct.diffusion import gaussian
from synthct.diffusion.rectified_flow import (
    TRAIN_TIMESTEPS,
    RectifiedFlow,
    linear_share,
    velocity,
)
from synthct.models.maisi.spec import MaisiSpec


@dataclass(frozen=True)
class Noised:
    """Latents with noise: (N, C, x, y, z) maps, and the timesteps (N,), 0 to 1000."""

    noisy: torch.Tensor
    timestep: torch.Tensor
    target: torch.Tensor
    """What a prediction should be."""
    flow: bool
    share: torch.Tensor | None = None
    """Of `noisy` in the velocity, (N, 1, 1, 1, 1), where the network learns the rest only."""

    def latent(self, predicted: torch.Tensor) -> torch.Tensor:
        """The latent without noise, if `predicted` is right."""
        if not self.flow:
            return gaussian.without_noise(self.noisy, predicted, self.timestep.long())
        whole = predicted if self.share is None else predicted + self.share * self.noisy
        return self.noisy + self.timestep.view(-1, 1, 1, 1, 1) / TRAIN_TIMESTEPS * whole


def noised(
    latent: torch.Tensor,
    spec: MaisiSpec,
    time: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
) -> Noised:
    """Put noise on a latent, on the latent's device.

    Args:
        latent: (N, C, x, y, z), scaled.
        time: (N,) in 0 to 1, before the shift of rectified flow; one for all drawn where None.
        noise: as `latent`; drawn where None.
    """
    # time is drawn on the CPU: the same on every device
    time = (torch.rand(1) if time is None else time).to(latent.device)
    noise = torch.randn_like(latent) if noise is None else noise
    if spec.sampler == "rflow":
        flow = RectifiedFlow(latent[0, 0].numel(), spec.base_numel)
        shifted = flow.shift(time)
        noisy = flow.add_noise(latent, noise, shifted)
        target, share = velocity(latent, noise), None
        if spec.skip:
            share = linear_share(shifted).view(-1, 1, 1, 1, 1).to(latent.dtype)
            target = target - share * noisy
        return Noised(noisy, shifted * TRAIN_TIMESTEPS, target, True, share)
    timestep = (time * TRAIN_TIMESTEPS).long().clamp_max(TRAIN_TIMESTEPS - 1)
    return Noised(gaussian.add_noise(latent, noise, timestep), timestep.float(), noise, False)


def error(predicted: torch.Tensor, target: torch.Tensor, *, l1: bool) -> torch.Tensor:
    """Of each value: its square, or its size as in the paper."""
    apart = predicted.float() - target
    return apart.abs() if l1 else apart.square()
