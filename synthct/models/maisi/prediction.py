"""One prediction of U-Net and ControlNet, walked block by block so that little is alive at once.

The same sums as MONAI's two forward passes, by MONAI's own blocks; nothing of them is edited. What
differs is when a map is let go: each residual of the ControlNet is added to its skip connection at
once (MONAI keeps the lists of all of them), and a skip connection ends with the block that reads it
(MONAI's U-Net keeps every one to the end).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from torch import nn

from synthct.models.maisi.conditions import Conditions
from synthct.models.maisi.control import MaskEmbedding


def predict(
    unet: DiffusionModelUNetMaisi,
    mask: MaskEmbedding | None,
    told: Conditions,
    latent: torch.Tensor,
    timestep: torch.Tensor,
) -> torch.Tensor:
    """What the U-Net makes of `latent` (1, C, x, y, z) at `timestep` (1,), steered by the mask.

    Equals `unet(latent, timestep, …)` with the residuals of the ControlNet at scale 1.
    """
    time = unet._get_time_and_class_embedding(latent, timestep, told.modality_class)
    time = unet._get_input_embeddings(time, told.top_region, told.bottom_region, told.spacing)
    hidden, skips = unet._apply_down_blocks(unet.conv_in(latent), time, None, None)
    middle = None
    if mask is not None:
        middle = _add_residuals(mask, skips, latent, timestep, told.modality_class)
    # The last skip is `hidden` itself, as in MONAI: what was added to the one is in the other.
    hidden = unet.middle_block(hidden, time, None)
    if middle is not None:
        hidden += middle
    for block in unet.up_blocks:
        first = len(skips) - len(cast(nn.ModuleList, block.resnets))
        read = skips[first:]
        del skips[first:]
        hidden = block(hidden_states=hidden, res_hidden_states_list=read, temb=time, context=None)
    out: torch.Tensor = unet.out(hidden)
    return out


def _add_residuals(
    mask: MaskEmbedding,
    skips: list[torch.Tensor],
    latent: torch.Tensor,
    timestep: torch.Tensor,
    classes: torch.Tensor | None,
) -> torch.Tensor:
    """Add the ControlNet's residuals to the U-Net's skips in place; return that of the middle."""
    net = mask.controlnet
    time = net._prepare_time_and_class_embedding(latent, timestep, classes)
    hidden = net._apply_initial_convolution(latent)
    hidden += mask.embedding
    onto = zip(skips, net.controlnet_down_blocks, strict=True)
    _add_one(onto, hidden)
    for block in net.down_blocks:
        hidden, maps = block(hidden_states=hidden, temb=time, context=None)
        while maps:
            _add_one(onto, maps.pop(0))
    hidden = net.middle_block(hidden_states=hidden, temb=time, context=None)
    middle: torch.Tensor = net.controlnet_mid_block(hidden)
    return middle


def _add_one(onto: Iterator[tuple[torch.Tensor, nn.Module]], hidden: torch.Tensor) -> None:
    skip, block = next(onto)
    skip += block(hidden)
