"""Small MAISI autoencoders with weights that let every layer matter."""

from __future__ import annotations

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import nn


def autoencoder(seed: int = 0, **options: object) -> AutoencoderKlMaisi:
    """Evaluation mode, unsplit, on the CPU; norms and biases away from one and zero."""
    channels = tuple(options.pop("num_channels", (8, 16)))  # type: ignore[call-overload]
    settings: dict[str, object] = {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "num_channels": channels,
        "num_res_blocks": (1,) * len(channels),
        "attention_levels": (False,) * len(channels),
        "latent_channels": 4,
        "norm_num_groups": 4,
        "num_splits": 1,
        **options,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AutoencoderKlMaisi(**settings).eval()
        for module in network.modules():
            _randomise(module)
    return network


def _randomise(module: nn.Module) -> None:
    """Weights that keep a signal's size (gain of SiLU), biases and norms with some spread."""
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.normal_(module.weight, 0.0, (1.4 / module.weight[0].numel()) ** 0.5)
        nn.init.normal_(module.bias, 0.0, 0.1)
    if isinstance(module, nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, 0.1)
        nn.init.normal_(module.bias, 0.0, 0.1)


def relative_l2(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    return float((got.double() - expected.double()).norm() / expected.double().norm())
