"""The networks of the published models, built from our specs: every key and shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synthct.models.maisi import networks
from synthct.models.maisi.latent_task import copy_encoder
from synthct.models.maisi.spec import preset

# MAISI.md section 2: parameters of the published networks, counted.
PUBLISHED = {
    ("ct-rflow", "unet"): 180_500_868,
    ("ct-rflow", "controlnet"): 72_037_072,
    ("ct-ddpm", "unet"): 169_370_884,
    ("ct-ddpm", "controlnet"): 68_644_944,
    ("ct-ddpm", "vae"): 20_944_897,
}


@pytest.mark.parametrize(("name", "role"), PUBLISHED)
def test_published_networks_have_their_published_size(name: str, role: str) -> None:
    with torch.device("meta"):
        network = _build(name, role)
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name, role]


def test_the_controlnet_begins_with_the_encoder_of_the_unet() -> None:
    spec = preset("tiny")
    unet, controlnet = networks.build_unet(spec), networks.build_controlnet(spec)
    copied = copy_encoder(unet, controlnet)
    assert any(key.startswith("down_blocks") for key in copied)
    for key in copied:
        assert torch.equal(controlnet.state_dict()[key], unet.state_dict()[key])


def _build(name: str, role: str) -> nn.Module:
    spec = preset(name)
    if role == "vae":
        return networks.build_autoencoder(spec.autoencoder)
    return networks.build_unet(spec) if role == "unet" else networks.build_controlnet(spec)
