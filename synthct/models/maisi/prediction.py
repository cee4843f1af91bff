"""Predictions of U-Net and ControlNet, walked block by block so that little is alive at once.

The same sums as MONAI's two forward passes, by MONAI's own blocks; nothing of them is edited. What
differs is when a map is let go: each residual of the ControlNet is added to its skip connection at
once (MONAI keeps the lists of all of them), and a skip connection ends with the block that reads it
(MONAI's U-Net keeps every one to the end). And predictions of one modality share the U-Net's way
down, which has not met the mask yet; a prediction without a mask takes no part in the ControlNet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from torch import nn

from synthct.models.maisi.conditions import Conditions
from synthct.models.maisi.control import MaskEmbedding

ALONE = (0,)


def predict(
    unet: DiffusionModelUNetMaisi,
    masks: Sequence[MaskEmbedding | None],
    told: Conditions,
    latent: torch.Tensor,
    timestep: torch.Tensor,
    ways: Sequence[int] = ALONE,
) -> torch.Tensor:
    """What the U-Net makes of `latent` (1, C, x, y, z) at `timestep` (1,), steered by the masks.

    Equals `unet(latent, timestep, …)` with the residuals of the ControlNet at scale 1.

    Args:
        masks: of each prediction its own; None: what the U-Net makes of it alone.
        told: a row for each prediction.
        ways: of each prediction, which way down the U-Net it has, numbered from 0 in the order of
            their first predictions. Those that share one differ in nothing but their masks.

    Returns:
        (N, C, x, y, z), N predictions.
    """
    timestep = timestep.expand(len(ways))
    time = unet._get_time_and_class_embedding(latent, timestep, told.modality_class)
    time = unet._get_input_embeddings(time, told.top_region, told.bottom_region, told.spacing)
    firsts = [ways.index(way) for way in range(max(ways) + 1)]
    skips = _down(unet, latent, time[firsts])
    steered = [row for row, mask in enumerate(masks) if mask is not None]
    middle = None
    if steered:
        seen = [mask for mask in masks if mask is not None]
        classes = None if told.modality_class is None else told.modality_class[steered]
        middle = _add_residuals(seen, skips, latent, timestep[steered], classes, ways, steered)
    # The last skip is the hidden map too, as in MONAI: what was added to the one is in the other.
    hidden = unet.middle_block(skips[-1], time, None)
    if middle is not None:
        _add_to(hidden, middle, steered)
    for block in unet.up_blocks:
        first = len(skips) - len(cast(nn.ModuleList, block.resnets))
        read = skips[first:]
        del skips[first:]
        hidden = block(hidden_states=hidden, res_hidden_states_list=read, temb=time, context=None)
    out: torch.Tensor = unet.out(hidden)
    return out


def _down(
    unet: DiffusionModelUNetMaisi, latent: torch.Tensor, time: torch.Tensor
) -> list[torch.Tensor]:
    """The skip connections, a row for each row of `time`."""
    hidden = unet.conv_in(_repeated(latent, len(time)))
    skips: list[torch.Tensor] = unet._apply_down_blocks(hidden, time, None, None)[1]
    return skips


def _add_residuals(
    masks: Sequence[MaskEmbedding],
    skips: list[torch.Tensor],
    latent: torch.Tensor,
    timestep: torch.Tensor,
    classes: torch.Tensor | None,
    ways: Sequence[int],
    rows: Sequence[int],
) -> torch.Tensor:
    """Add the ControlNet's residuals to these rows of the U-Net's skips; return the middle's."""
    net = masks[0].controlnet
    time = net._prepare_time_and_class_embedding(latent, timestep, classes)
    hidden = net._apply_initial_convolution(_repeated(latent, len(masks)))
    for row, mask in enumerate(masks):
        hidden[row : row + 1] += mask.embedding
    blocks = enumerate(net.controlnet_down_blocks)
    _add_one(skips, blocks, hidden, ways, rows)
    for block in net.down_blocks:
        hidden, maps = block(hidden_states=hidden, temb=time, context=None)
        while maps:
            _add_one(skips, blocks, maps.pop(0), ways, rows)
    hidden = net.middle_block(hidden_states=hidden, temb=time, context=None)
    middle: torch.Tensor = net.controlnet_mid_block(hidden)
    return middle


def _add_one(
    skips: list[torch.Tensor],
    blocks: Iterator[tuple[int, nn.Module]],
    hidden: torch.Tensor,
    ways: Sequence[int],
    rows: Sequence[int],
) -> None:
    """Each prediction's residual to its skip; where a skip is shared, to a copy of its own."""
    at, block = next(blocks)
    residual = block(hidden)
    if len(skips[at]) < len(ways):
        skips[at] = torch.cat([skips[at][way : way + 1] for way in ways])
    _add_to(skips[at], residual, rows)


def _add_to(whole: torch.Tensor, residuals: torch.Tensor, rows: Sequence[int]) -> None:
    """Add in place, row by row: an index would make a copy of `whole`."""
    for row, residual in zip(rows, residuals, strict=True):
        whole[row] += residual


def _repeated(latent: torch.Tensor, rows: int) -> torch.Tensor:
    return latent if rows == 1 else latent.expand(rows, *latent.shape[1:])
