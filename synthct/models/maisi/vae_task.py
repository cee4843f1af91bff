"""Training the autoencoder: reconstruct crops of scans through a latent of unit scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from synthct.errors import TrainingError
from synthct.models.maisi import data
from synthct.models.maisi.augment import Augment
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.small_maps import step_precision
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.maisi.start import can_start_linear, hold_constants, nearly_linear
from synthct.models.maisi.vae_loss import VaeLoss, kl_divergence
from synthct.models.maisi.vae_validation import reconstructions
from synthct.training.adversary import Adversary, feature_distance, held
from synthct.training.kl_control import KlControl
from synthct.training.perceptual import pretrained_loss
from synthct.training.precision import autocast
from synthct.training.task import Figures
from synthct.training.validation import Validation

MULTIPLE = 16
"""Of the sides of crops, at most: the grid's own may be larger for the U-Net's sake."""
WIDEST = 8.0
"""Deviation of a crop's latent past which the run has broken: it ought to be about 1."""


@dataclass
class VaeTask:
    """Batches of one crop of about `voxels` voxels."""

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
    loss_weights: VaeLoss = field(default_factory=VaeLoss)
    augment: Augment = field(default_factory=Augment)
    cubes: bool = False
    sides: tuple[int, int, int] = (0, 0, 0)
    """Of every crop, as far as the scan goes, whatever `voxels` says; zeros: as that says."""
    later_voxels: int = 0
    """Size of the crops from batch `later_from` on; 0: as before."""
    later_from: int = 0
    validation: Path | None = None
    """Whole scans to judge by."""
    critic: Adversary | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        self.autoencoder = build_autoencoder(self.spec.autoencoder)
        if can_start_linear(self.autoencoder):
            nearly_linear(self.autoencoder)
            hold_constants(self.autoencoder)
        weights = self.loss_weights
        if weights.opposed:
            self.critic = Adversary(weights.channels, weights.critic_channels)
        self._pretrained = pretrained_loss() if weights.perceptual else None
        self._control = KlControl(weights.kl)
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None
        self.cases = data.cases_in(self.scans)
        pairs = data.cases_in(self.phantoms) if self.phantoms else []
        self.drawn = [case for case in pairs if "tissues" in case.arrays]

    def begin_from(self, autoencoder: Mapping[str, torch.Tensor]) -> None:
        """Go on from weights of the same network instead of the linear start."""
        self.autoencoder.load_state_dict(autoencoder)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"vae": self.autoencoder}

    @property
    def beside(self) -> Mapping[str, nn.Module]:
        found: dict[str, nn.Module] = {"kl": self._control}
        return found | ({"critic": self.critic} if self.critic is not None else {})

    @property
    def examples(self) -> int:
        """How many make an epoch."""
        return len(self.cases) + len(self.drawn)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a run's record has to say of the loss."""
        if not self.loss_weights.perceptual:
            return ("no perceptual loss",)
        if self._pretrained is not None:
            return ("perceptual loss: LPIPS (squeeze), MONAI's PerceptualLoss",)
        return (
            "perceptual loss: features of the run's own discriminator, as the weights of MONAI's "
            "PerceptualLoss are not on this machine",
        )

    def batch(self, index: int) -> torch.Tensor:
        """Image in network units, (1, 1, X, Y, Z)."""
        rng = np.random.default_rng([self.seed, 1, index])
        phantom = bool(self.drawn) and rng.random() < self.phantom_share
        cases = self.drawn if phantom else self.cases
        case = cases[rng.integers(len(cases))]
        crop = data.random_crop(
            case,
            rng,
            voxels=int(self._voxels(index) * rng.choice(self.size_factors)),
            spacing_range_mm=self.spacing_range_mm,
            multiple=min(MULTIPLE, self.spec.grid_multiple),
            cube=self.cubes,
            sides=self.sides,
        )
        image = data.phantom_image(case, crop, rng)[0] if phantom else data.image_of(case, crop)
        flips = [axis for axis in (2, 3, 4) if rng.random() < 0.5]
        unit = data.unit_image(image.flip(flips), case.modality)
        return self.augment(unit, rng, case.modality)

    def _voxels(self, index: int) -> int:
        return self.later_voxels if self.later_voxels and index >= self.later_from else self.voxels

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation | None:
        """Whole unseen scans there and back: error, PSNR, bias; the first ones as pictures."""
        if self.validation is None or not any(self.validation.glob("*.npz")):
            return None
        return reconstructions(averages["vae"], data.cases_in(self.validation), self.spec)

    def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, Figures]:
        weights = self.loss_weights
        with step_precision(self.bfloat16, batch.device):
            mu, sigma = self._encoded(batch)
            out = self.autoencoder.decode(self.autoencoder.sampling(mu, sigma)).float()
        mu, sigma = mu.float(), sigma.float()
        loss, figures = weights.reconstruction(out, batch)
        if weights.texture:
            more, seen = weights.local_texture(out, batch, self.spec.autoencoder.factor)
            loss, figures = loss + more, figures | seen
        latent_std = float(mu.detach().std())
        if latent_std > WIDEST:
            raise TrainingError(
                f"step {step}: the latent's deviation is {latent_std:.3g}, where about 1 belongs",
                "lower learning_rate and begin again: the last checkpoint may be broken already",
            )
        kl = kl_divergence(mu, sigma)
        kl_weight = self._control.observe(latent_std) if weights.kl_controlled else weights.kl
        loss = loss + kl_weight * kl
        figures |= {"kl": float(kl.detach()), "kl_weight": kl_weight, "latent_std": latent_std}
        if self.critic is not None:
            more, judged = self._judged(out, batch, step)
            loss, figures = loss + more, figures | judged
        return loss, figures

    def critic_loss(self) -> tuple[torch.Tensor, Figures]:
        assert self.critic is not None and self._last is not None
        made, real = self._last
        with autocast(self.bfloat16, made.device):
            loss = self.critic.errors(self.critic.judge(real), self.critic.judge(made))
        return loss, {"critic": float(loss.detach())}

    def _encoded(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and sigma; without a graph where nothing of the encoder moves."""
        moves = any(
            p.requires_grad
            for name, p in self.autoencoder.named_parameters()
            if name.startswith(("encoder.", "quant_conv"))
        )
        with torch.set_grad_enabled(moves):
            mu, sigma = self.autoencoder.encode(batch)
        return mu, sigma

    def _judged(
        self, out: torch.Tensor, image: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Figures]:
        """The adversarial and the perceptual term, each times its weight."""
        assert self.critic is not None
        weights = self.loss_weights
        made, real = weights.views(out), weights.views(image)
        self._last = made.detach(), real
        loss, figures = out.new_zeros(()), {}
        with held(self.critic), autocast(self.bfloat16, out.device):
            seen = self.critic.judge(made)
            with torch.no_grad():
                wanted = self.critic.judge(real)
        if weights.adversarial and step >= weights.adversarial_from:
            fooled = self.critic.fooled(seen)
            loss = loss + weights.adversarial * fooled
            figures["adversarial"] = float(fooled.detach())
        if weights.perceptual:
            near = feature_distance(seen, wanted)
            if self._pretrained is not None:
                near = self._pretrained.to(out.device)(out, image)
            loss = loss + weights.perceptual * near
            figures["perceptual"] = float(near.detach())
        return loss, figures
