"""Training the autoencoder: reconstruct crops of scans through a latent of unit scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from synthct.models.maisi import data
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.maisi.start import hold_constants, nearly_linear
from synthct.training.loop import autocast


@dataclass(frozen=True)
class VaeLoss:
    """Weights of the loss. Intensities are in network units: 1 = 2000 HU."""

    soft_window: float = 0.5
    gradient: float = 0.5
    kl: float = 5e-5
    window_unit: tuple[float, float] = (0.4, 0.65)
    """The soft-tissue window, −200..300 HU."""

    def __call__(
        self, out: torch.Tensor, image: torch.Tensor, mu: torch.Tensor, sigma: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        l1 = functional.l1_loss(out, image)
        low, high = self.window_unit
        soft = functional.l1_loss(_window(out, low, high), _window(image, low, high))
        edges = gradient_l1(out, image)
        kl = kl_divergence(mu, sigma)
        loss = l1 + self.soft_window * soft + self.gradient * edges + self.kl * kl
        figures = {"l1": l1, "soft": soft, "edges": edges, "kl": kl, "latent_std": mu.std()}
        return loss, {name: float(value.detach()) for name, value in figures.items()}


@dataclass
class VaeTask:
    """Batches of `batch_size` crops of about `voxels` voxels each, one at a time on the CPU."""

    spec: MaisiSpec
    scans: Path
    seed: int = 0
    voxels: int = 48 * 48 * 32
    size_factors: tuple[float, ...] = (0.5, 1.0, 1.0, 2.0, 4.0)
    """Crops hold `voxels` times one of these: GroupNorm must meet whole volumes in training."""
    phantoms: Path | None = None
    """Pairs among which are phantoms; they are `phantom_share` of the batches."""
    phantom_share: float = 0.2
    spacing_range_mm: tuple[float, float] = (2.0, 5.0)
    bfloat16: bool = True
    loss_weights: VaeLoss = VaeLoss()

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.autoencoder = build_autoencoder(self.spec.autoencoder)
        nearly_linear(self.autoencoder)
        hold_constants(self.autoencoder)
        self.cases = data.cases_in(self.scans)
        pairs = data.cases_in(self.phantoms) if self.phantoms else []
        self.drawn = [case for case in pairs if "tissues" in case.arrays]

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"vae": self.autoencoder}

    def batch(self, step: int) -> torch.Tensor:
        """Image in network units, (1, 1, X, Y, Z)."""
        rng = np.random.default_rng([self.seed, 1, step])
        phantom = bool(self.drawn) and rng.random() < self.phantom_share
        cases = self.drawn if phantom else self.cases
        case = cases[rng.integers(len(cases))]
        crop = data.random_crop(
            case,
            rng,
            voxels=int(self.voxels * rng.choice(self.size_factors)),
            spacing_range_mm=self.spacing_range_mm,
            multiple=self.spec.grid_multiple,
        )
        if phantom:
            hu = data.phantom_image(case, crop, rng)[0]
        else:
            hu = data.resize_image(data.cut(case.arrays["image"], crop, data.AIR_HU), crop.shape)
        flips = [axis for axis in (2, 3, 4) if rng.random() < 0.5]
        return data.unit_image(hu.flip(flips))

    def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        with autocast(self.bfloat16, batch.device):
            out, mu, sigma = self.autoencoder(batch)
        return self.loss_weights(out.float(), batch, mu.float(), sigma.float())


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


def _window(image: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Into [0, 1] with a little slope outside, so that no voxel is without a gradient."""
    inside = image.clamp(low, high)
    return (inside + 0.02 * (image - inside) - low) / (high - low)
