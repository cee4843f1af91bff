"""The published layouts at small width, with random weights in every layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from synthct.models.maisi import networks
from synthct.models.maisi.spec import MaisiSpec, preset

LAYOUTS = ("mini-ct", "ct-ddpm", "ct-rflow")


def narrow(name: str) -> MaisiSpec:
    """The spec `name` with few channels; levels, attention and conditions are its own."""
    spec = preset(name)
    if name == "mini-ct":
        return spec
    unet = replace(
        spec.unet,
        num_channels=(32, 32, 64, 64),
        num_head_channels=(0, 0, 32, 32),
        norm_num_groups=8,
    )
    return replace(spec, unet=unet, embedding_channels=(4, 8, 16))


def pair(spec: MaisiSpec) -> tuple[nn.Module, nn.Module]:
    """U-Net and ControlNet; MONAI's zero layers are filled too, at a gain of about one."""
    torch.manual_seed(0)
    made = networks.build_unet(spec).eval(), networks.build_controlnet(spec).eval()
    with torch.no_grad():
        for parameter in (p for network in made for p in network.parameters() if p.ndim > 1):
            parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
    return made
