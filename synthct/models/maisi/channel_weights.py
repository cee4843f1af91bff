"""What an error in each channel of the latent costs in the image.

Channels of unit deviation are equal to the diffusion model's loss and unequal to the eye: the one
that carries the level moves whole organs by tens of HU, those of the finest detail a few voxels.
"""

from __future__ import annotations

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi

SIDE = 16
"""Latent voxels per axis of the piece that is decoded."""
CHANGE = 0.25
"""Deviation of the noise that a channel is changed by."""


@torch.no_grad()
def channel_weights(
    autoencoder: AutoencoderKlMaisi, latent: torch.Tensor, scale_factor: float
) -> torch.Tensor:
    """Root mean square change of the image when one channel changes; their mean is 1.

    Args:
        latent: one that occurs, as the diffusion model sees it: (1, C, x, y, z), times
            `scale_factor`; its middle is decoded.

    Returns:
        (1, C, 1, 1, 1).
    """
    i, j, k = (_middle(n) for n in latent.shape[2:])
    middle = latent[..., i, j, k] / scale_factor
    plain = autoencoder.decode(middle)
    noise = torch.randn(middle.shape[2:], generator=torch.Generator().manual_seed(0))
    costs = []
    for channel in range(middle.shape[1]):
        other = middle.clone()
        other[:, channel] += (noise * CHANGE / scale_factor).to(other)
        costs.append((autoencoder.decode(other) - plain).square().mean().sqrt())
    found = torch.stack(costs).float()
    return (found / found.mean()).view(1, -1, 1, 1, 1)


def _middle(voxels: int) -> slice:
    first = max(0, (voxels - SIDE) // 2)
    return slice(first, first + SIDE)
