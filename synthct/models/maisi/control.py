"""The ControlNet with its view of the mask computed once.

MONAI embeds the mask anew at every step (20-31 % of a step's time, MAISI.md section 5), though it
does not depend on the time. Here the embedding is kept, and the rest of MONAI's forward pass is
walked by its own methods: nothing of it is edited.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi


@dataclass
class MaskEmbedding:
    """`embedding` (1, C, x, y, z) of one mask, and the network that it is for."""

    controlnet: ControlNetMaisi
    embedding: torch.Tensor

    @classmethod
    def of(cls, controlnet: ControlNetMaisi, bits: torch.Tensor) -> MaskEmbedding:
        """Embed label bits (1, 8, X, Y, Z)."""
        return cls(controlnet, controlnet.controlnet_cond_embedding(bits))

    def residuals(
        self, latent: torch.Tensor, timestep: torch.Tensor, classes: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """What ControlNetMaisi.forward gives for this mask, conditioning scale 1."""
        net = self.controlnet
        emb = net._prepare_time_and_class_embedding(latent, timestep, classes)
        hidden = net._apply_initial_convolution(latent) + self.embedding
        down, hidden = net._apply_down_blocks(emb, None, hidden)
        hidden = net._apply_mid_block(emb, None, hidden)
        residuals: tuple[list[torch.Tensor], torch.Tensor] = net._apply_controlnet_blocks(
            hidden, down
        )
        return residuals
