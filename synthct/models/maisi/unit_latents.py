"""Latents of unit deviation, shared out over the channels, without another number to store.

The diffusion model's noise and its errors have one size for all channels of the latent, but what an
error costs in the image differs: the channel that carries the level moves whole organs. With equal
errors e, costs w and deviations s the image is off by sum (e w / s)^2, which is least, for a fixed
sum of s^2, where s^2 is proportional to w. A scale and a shift per channel are linear, and so are
the 1x1x1 convolutions on either side of the latent: they take them up, and the decoded image stays
the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import nn

from synthct.models.maisi.channel_weights import channel_weights

LEAST = 1e-3
"""A channel of less deviation carries nothing; it is not blown up."""


@torch.no_grad()
def unit_latents(
    autoencoder: AutoencoderKlMaisi,
    images: Iterable[torch.Tensor],
    advance: Callable[[], None] = lambda: None,
) -> list[float]:
    """Change `autoencoder` so that the latents of `images` have mean 0 and, over all, deviation 1.

    Args:
        autoencoder: with its 1x1x1 convolutions before and after the latent; changed in place.
        images: (1, 1, X, Y, Z) each, in network units.
        advance: called twice for each image.

    Returns:
        The deviation of each channel: the root of its share in what errors cost in the image.

    Raises:
        ValueError: no image was given.
    """
    latents = []
    for image in images:
        latents.append(autoencoder.encode(image)[0].float())
        advance()
    if not latents:
        raise ValueError("no image to measure latents of")
    flat = torch.cat([latent.flatten(2)[0] for latent in latents], dim=1)
    middle = flat.mean(dim=1)
    factor = 1 / flat.std(dim=1).clamp_min(LEAST)
    _rescale(autoencoder, middle, factor)
    scaled = [(latent - _channels(middle)) * _channels(factor) for latent in latents]
    costs = []
    for latent in scaled:
        costs.append(channel_weights(autoencoder, latent, 1.0).flatten())
        advance()
    deviation = torch.stack(costs).mean(dim=0).sqrt()
    _rescale(autoencoder, torch.zeros_like(middle), deviation)
    return [float(one) for one in deviation]


def _rescale(autoencoder: AutoencoderKlMaisi, middle: torch.Tensor, factor: torch.Tensor) -> None:
    """Latents become (latent - middle) * factor, per channel, on either side of the latent."""
    mean = _convolution(autoencoder.quant_conv_mu)
    spread = _convolution(autoencoder.quant_conv_log_sigma)
    after = _convolution(autoencoder.post_quant_conv)
    assert mean.bias is not None and spread.bias is not None and after.bias is not None
    mean.weight.mul_(factor.view(-1, 1, 1, 1, 1))
    mean.bias.sub_(middle).mul_(factor)
    spread.bias.add_(2 * factor.log())
    after.bias.add_(after.weight.flatten(1) @ middle)
    after.weight.div_(_channels(factor))


def _channels(values: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, 1, 1, 1)


def _convolution(module: nn.Module) -> nn.Conv3d:
    found = next(m for m in module.modules() if isinstance(m, nn.Conv3d))
    assert math.prod(found.kernel_size) == 1, "a shift would be wrong at the border"
    return found
