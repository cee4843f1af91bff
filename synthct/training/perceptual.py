"""MONAI's perceptual loss where its weights lie on this machine; nothing is fetched."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn

BACKBONE = "squeezenet1_1-b8a52dc0.pth"
"""torchvision's file of the network that LPIPS (`squeeze`) looks with."""
SLICES_SHARE = 0.25
"""Of the planes along each axis are looked at (MONAI's `is_fake_3d`)."""


def weights_at_hand() -> bool:
    """Whether the package `lpips` is installed and its backbone in torch's own cache."""
    cache = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    return importlib.util.find_spec("lpips") is not None and cache.is_file()


def pretrained_loss() -> nn.Module | None:
    """LPIPS on planes of the volume, or None where its weights are absent."""
    if not weights_at_hand():
        return None
    from monai.losses.perceptual import PerceptualLoss

    loss = PerceptualLoss(
        spatial_dims=3, network_type="squeeze", is_fake_3d=True, fake_3d_ratio=SLICES_SHARE
    )
    return loss.eval().requires_grad_(False)
