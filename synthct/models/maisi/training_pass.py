"""The U-Net with the ControlNet's residuals, so that both can learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from synthct.models.maisi.conditions import Conditions


def controlled_prediction(
    networks: Mapping[str, nn.Module],
    noisy: torch.Tensor,
    timestep: torch.Tensor,
    bits: torch.Tensor | None,
    told: Conditions,
) -> torch.Tensor:
    """What the U-Net makes of noisy latents of one mask, (N, C, x, y, z).

    Args:
        networks: `unet`, and `controlnet` where `bits` are given.
        bits: of the label map, (1, 8, X, Y, Z), embedded once for all; None: the U-Net alone.
        told: what is told beside, a row for each.
    """
    extra: dict[str, Any] = {}
    if bits is not None:
        down, middle = networks["controlnet"](
            noisy, timestep, bits.float(), class_labels=told.modality_class
        )
        extra = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    with _copies_saved():
        out: torch.Tensor = networks["unet"](noisy, timestep, **told.unet_arguments(), **extra)
    return out


def _copies_saved() -> torch.autograd.graph.saved_tensors_hooks:
    """Let backward see what forward saw.

    MONAI's U-Net adds the ControlNet's residuals in place, to maps that its backward needs.
    torch's `allow_mutation_on_saved_tensors` is meant for this, but under it one step in 1,200
    ended with a map of a wrong shape.
    """
    return torch.autograd.graph.saved_tensors_hooks(
        lambda saved: saved.detach() if saved.is_leaf else saved.clone(), lambda kept: kept
    )
