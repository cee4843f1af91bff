"""The opponent of an autoencoder: a patch discriminator, its log loss, and its features.

The discriminator and its loss are MONAI's (PatchDiscriminator, PatchAdversarialLoss with the `bce`
criterion: the log loss of the MAISI paper). The features of its inner layers serve as the
perceptual distance where no network trained on natural images is at hand (feature matching,
Wang et al., arXiv 1711.11585, equation 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from monai.losses.adversarial_loss import PatchAdversarialLoss
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import nn
from torch.nn import functional

LAYERS = 3
LEAST_SIDE = 32
"""Voxels along a side below which the last layers have nothing left to look at."""


class Adversary(nn.Module):
    """Tells real images from reconstructions, patch by patch.

    Args:
        in_channels: of the images it is shown.
        channels: of its first layer; each further one has twice as many.
    """

    def __init__(self, in_channels: int = 1, channels: int = 16) -> None:
        super().__init__()
        self.network = PatchDiscriminator(
            spatial_dims=3,
            channels=channels,
            in_channels=in_channels,
            out_channels=1,
            num_layers_d=LAYERS,
            norm="INSTANCE",  # batches hold one crop
        )
        self._log_loss = PatchAdversarialLoss(criterion="bce")

    def judge(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features of every layer, and last the scores of the patches (before the sigmoid)."""
        outputs: list[torch.Tensor] = self.network(_at_least(image, LEAST_SIDE))
        return [out.float() for out in outputs]

    def fooled(self, judged: list[torch.Tensor]) -> torch.Tensor:
        """The generator's loss: small where the reconstruction is taken for real."""
        return self._score(judged, real=True, own=False)

    def errors(self, real: list[torch.Tensor], made: list[torch.Tensor]) -> torch.Tensor:
        """The discriminator's own loss, the mean over a real image and a reconstruction."""
        seen = self._score(real, real=True, own=True)
        return 0.5 * (seen + self._score(made, real=False, own=True))

    def _score(self, judged: list[torch.Tensor], *, real: bool, own: bool) -> torch.Tensor:
        loss = self._log_loss(judged[-1], target_is_real=real, for_discriminator=own)
        assert isinstance(loss, torch.Tensor)
        return loss


def feature_distance(made: list[torch.Tensor], real: list[torch.Tensor]) -> torch.Tensor:
    """Mean absolute difference of inner features, each layer in units of its own mean size.

    The scores, which come last, are left out; `real` is held fixed.
    """
    parts = [
        functional.l1_loss(a, b.detach()) / b.detach().abs().mean().clamp_min(1e-6)
        for a, b in zip(made[:-1], real[:-1], strict=True)
    ]
    return torch.stack(parts).mean()


@contextmanager
def held(network: nn.Module) -> Iterator[None]:
    """Let gradients pass through `network` but not into its parameters."""
    moving = [p for p in network.parameters() if p.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)


def _at_least(image: torch.Tensor, side: int) -> torch.Tensor:
    """`image` (N, C, i, j, k) with its last voxels repeated up to `side` along every axis."""
    missing = [max(0, side - n) for n in image.shape[2:]]
    if not any(missing):
        return image
    return functional.pad(image, [n for m in reversed(missing) for n in (0, m)], mode="replicate")
