"""Which blocks of MONAI's U-Net and ControlNet may be checkpointed, and when."""

from __future__ import annotations

from typing import cast

from torch import nn

from synthct.training.checkpointing import checkpoint_blocks


def checkpointed(
    unet: nn.Module, controlnet: nn.Module | None = None, *, unet_moves: bool = True
) -> None:
    """Checkpoint the blocks of the U-Net, and of a ControlNet that trains with it.

    MONAI adds a ControlNet's residuals in place to what the U-Net's down blocks gave on to one
    another, so that these cannot be made again while they learn beside a ControlNet.
    """
    blocks = [cast(nn.Module, unet.middle_block), *cast(nn.ModuleList, unet.up_blocks)]
    if controlnet is None or not unet_moves:
        blocks += list(cast(nn.ModuleList, unet.down_blocks))
    if controlnet is not None:
        blocks += [cast(nn.Module, controlnet.middle_block)]
        blocks += list(cast(nn.ModuleList, controlnet.down_blocks))
    checkpoint_blocks(blocks)
