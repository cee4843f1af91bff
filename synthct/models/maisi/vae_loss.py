"""What the autoencoder's reconstruction costs, term by term."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from synthct.models.maisi.vae_texture import texture_distance
from synthct.training.task import Figures


@dataclass(frozen=True)
class VaeLoss:
    """Weights of the loss. Intensities are in network units: 1 = 2000 HU.

    The published recipe is `l1` with `perceptual` 0.3, `adversarial` 0.1 and a KL weight that the
    controller sets; `soft_window` and `gradient` are ours, for small networks trained in minutes.
    """

    soft_window: float = 0.5
    gradient: float = 0.5
    squared: float = 0.0
    """Of the mean squared error, which PSNR is made of; 0.01 where voxels are off by 10 %."""
    perceptual: float = 0.0
    adversarial: float = 0.0
    adversarial_from: int = 0
    """Step at which the opponent's verdict begins to count; it learns from the first step on."""
    critic_channels: int = 16
    kl: float = 5e-5
    kl_controlled: bool = False
    """Adjust `kl` so that the latent's standard deviation stays between 0.9 and 1.1."""
    texture: float = 0.0
    """How strongly the decoder is held to the scan's local texture (`vae_texture.py`)."""
    window_low: float = 0.4
    window_high: float = 0.65
    """The soft-tissue window in network units: −200..300 HU."""

    @property
    def opposed(self) -> bool:
        """Whether a discriminator is needed."""
        return self.adversarial > 0 or self.perceptual > 0

    def reconstruction(
        self, out: torch.Tensor, image: torch.Tensor
    ) -> tuple[torch.Tensor, Figures]:
        """L1 over everything, over the soft-tissue window, and of neighbour differences."""
        l1 = functional.l1_loss(out, image)
        soft = functional.l1_loss(self.windowed(out), self.windowed(image))
        edges = gradient_l1(out, image)
        loss = l1 + self.soft_window * soft + self.gradient * edges
        if self.squared:
            loss = loss + self.squared * functional.mse_loss(out, image)
        terms = {"l1": l1, "soft": soft, "edges": edges}
        return loss, {name: float(value.detach()) for name, value in terms.items()}

    def local_texture(
        self, out: torch.Tensor, image: torch.Tensor, cell: int
    ) -> tuple[torch.Tensor, Figures]:
        """Texture in the image and its soft-tissue window, times its weight."""
        ratio, lattice = texture_distance(self.views(out), self.views(image), cell)
        figures = {"texture": float(ratio.detach()), "lattice": float(lattice.detach())}
        return self.texture * (ratio + lattice), figures

    def windowed(self, image: torch.Tensor) -> torch.Tensor:
        """Into [0, 1] with a little slope outside, so that no voxel is without a gradient."""
        inside = image.clamp(self.window_low, self.window_high)
        rest = 0.02 * (image - inside)
        return (inside + rest - self.window_low) / (self.window_high - self.window_low)

    def views(self, image: torch.Tensor) -> torch.Tensor:
        """What the opponent sees, (N, C, i, j, k): the image, and beside it the window."""
        return torch.cat([image, self.windowed(image)], dim=1) if self.soft_window else image

    @property
    def channels(self) -> int:
        """Of `views`."""
        return 2 if self.soft_window else 1


def gradient_l1(out: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the neighbour differences along i, j, k."""
    parts = [
        functional.l1_loss(torch.diff(out, dim=dim), torch.diff(image, dim=dim))
        for dim in (2, 3, 4)
    ]
    return torch.stack(parts).mean()


def kl_divergence(mu: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Of N(mu, sigma²) from N(0, 1), summed over channels, mean over latent voxels."""
    per_value = 0.5 * (mu.pow(2) + sigma.pow(2) - 2 * torch.log(sigma.clamp_min(1e-8)) - 1)
    return per_value.sum(dim=1).mean()
