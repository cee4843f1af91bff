"""Training the U-Net of an image-only model: the flow from noise to latents of whole scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import nn

from synthct.models.maisi import data
from synthct.models.maisi.channel_weights import channel_weights
from synthct.models.maisi.conditions import Conditions, conditions
from synthct.models.maisi.latent_validation import denoised, unseen
from synthct.models.maisi.latents import encoded_cases
from synthct.models.maisi.modality import UNKNOWN, modality_class
from synthct.models.maisi.networks import build_unet
from synthct.models.maisi.objective import error, noised
from synthct.models.maisi.small_maps import bfloat16_is_wrong, step_precision
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.maisi.unet_blocks import checkpointed
from synthct.training.precision import autocast
from synthct.training.task import Figures
from synthct.training.validation import Validation

UNTOLD_SHARE = 0.1
"""Of the examples come without their contrast, so that guidance has something to lead away from."""


@dataclass(frozen=True)
class ImageBatch:
    """Latent (1, C, x, y, z), and what is told beside."""

    latent: torch.Tensor
    conditions: Conditions


@dataclass
class ImageTask:
    """Whole scans, encoded beforehand (`latents`) or anew for every batch (`images`)."""

    spec: MaisiSpec
    images: Path
    latents: Path
    autoencoder: AutoencoderKlMaisi
    vae_sha256: str
    scale_factor: float
    seed: int = 0
    spacing_range_mm: tuple[float, float] = (2.0, 2.0)
    bfloat16: bool = True
    checkpointing: bool = False
    """Make inner maps again in backward: less memory, a third more time."""
    by_image: bool = False
    """Let a channel of the latent count by what its errors cost in the image."""
    l1: bool = False
    """Mean absolute error, as in the paper, instead of the squared one."""
    validation: Path | None = None
    """Whole scans to judge by."""
    unet: nn.Module = field(init=False)
    _unseen: list[ImageBatch] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed + 1)
        self.unet = build_unet(self.spec)
        if self.checkpointing:
            checkpointed(self.unet)
        self.autoencoder.eval().requires_grad_(False)
        self.encoded = encoded_cases(self.latents, self.vae_sha256)
        self.cases = [] if self.encoded else data.cases_in(self.images)
        if self.by_image:
            self._channels = channel_weights(
                self.autoencoder, self.batch(0).latent, self.scale_factor
            )

    def begin_from(self, unet: Mapping[str, torch.Tensor]) -> None:
        self.unet.load_state_dict(unet)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"unet": self.unet}

    @property
    def examples(self) -> int:
        """How many make an epoch."""
        return len(self.encoded) or len(self.cases)

    @property
    def notes(self) -> tuple[str, ...]:
        how = f"{len(self.encoded)} encoded volumes" if self.encoded else "encoded batch by batch"
        return (f"latents: {how}",)

    def batch(self, index: int) -> ImageBatch:
        rng = np.random.default_rng([self.seed, 4, index])
        if self.encoded:
            case = self.encoded[rng.integers(len(self.encoded))]
            latent, spacing_mm, meta = case.sample(rng), case.spacing_mm, case.meta
        else:
            latent, spacing_mm, meta = self._encoded_now(rng)
        told = self._told(meta, spacing_mm, untold=rng.random() < UNTOLD_SHARE)
        return ImageBatch(latent * self.scale_factor, told)

    def loss(self, batch: ImageBatch, step: int) -> tuple[torch.Tensor, Figures]:
        drawn = noised(batch.latent, self.spec)
        levels = len(self.spec.unet.num_channels)
        half = self.bfloat16 and not bfloat16_is_wrong(batch.latent.shape[2:], levels)
        with (autocast if self.checkpointing else step_precision)(half, batch.latent.device):
            predicted = _predict(self.unet, drawn.noisy, drawn.timestep, batch)
        off = error(predicted, drawn.target, l1=self.l1)
        loss = (off * self._channels.to(off.device)).mean() if self.by_image else off.mean()
        return loss, {"blind": float(off.detach().mean())}

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation | None:
        """Noise taken off whole unseen scans: its error at fixed times, and pictures."""
        if self._unseen is None:
            self._unseen = [
                ImageBatch(one.latent * self.scale_factor, self._told(one.meta, one.spacing_mm))
                for one in unseen(self.validation, self.autoencoder, self.spec)
            ]
        return denoised(
            partial(_predict, averages["unet"]),
            self._unseen,
            self.spec,
            self.autoencoder,
            self.scale_factor,
            device=next(averages["unet"].parameters()).device,
        )

    def _told(
        self,
        meta: Mapping[str, Any],
        spacing_mm: tuple[float, float, float],
        *,
        untold: bool = False,
    ) -> Conditions:
        code = modality_class(
            str(meta.get("modality", "CT")),
            str(meta.get("contrast", "")),
            skull_stripped=bool(meta.get("skull_stripped")),
        )
        return conditions(
            self.spec,
            regions=tuple(meta.get("regions", ())),
            spacing_mm=spacing_mm,
            modality_class=UNKNOWN if untold else code,
        )

    def _encoded_now(
        self, rng: np.random.Generator
    ) -> tuple[torch.Tensor, tuple[float, float, float], dict[str, object]]:
        case = self.cases[rng.integers(len(self.cases))]
        crop = data.random_crop(
            case,
            rng,
            voxels=int(np.prod(case.shape)) * 8,
            spacing_range_mm=self.spacing_range_mm,
            multiple=self.spec.grid_multiple,
        )
        image = data.image_of(case, crop)
        if rng.random() < 0.5:
            image = image.flip(2)
        with torch.no_grad(), autocast(self.bfloat16, image.device):
            mean, sigma = self.autoencoder.encode(data.unit_image(image, case.modality))
        noise = torch.from_numpy(rng.standard_normal(mean.shape, dtype=np.float32))
        return mean.float() + sigma.float() * noise, crop.spacing_mm, case.meta


def _predict(
    unet: nn.Module, noisy: torch.Tensor, timestep: torch.Tensor, batch: ImageBatch
) -> torch.Tensor:
    out: torch.Tensor = unet(noisy, timestep, **batch.conditions.unet_arguments())
    return out
