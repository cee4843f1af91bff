"""Training the U-Net and the ControlNet: predict the flow between noise and latents of scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from torch import nn
from torch.nn import functional

from synthct.diffusion.contrast import MARGIN, region_contrast
from synthct.errors import InputError
from synthct.labels.groups import HEART, HOLLOW_ORGANS, MUSCLES, SOLID_ORGANS, VESSELS
from synthct.models.maisi import data
from synthct.models.maisi.channel_weights import channel_weights
from synthct.models.maisi.conditions import Conditions, conditions, joined, label_bits, regions_of
from synthct.models.maisi.guidance import without_lesions
from synthct.models.maisi.latent_validation import Unseen, denoised, unseen
from synthct.models.maisi.latents import encoded_cases
from synthct.models.maisi.mask_start import start_mask_encoder
from synthct.models.maisi.networks import build_controlnet, build_unet
from synthct.models.maisi.objective import error, noised
from synthct.models.maisi.small_maps import bfloat16_is_wrong, step_precision
from synthct.models.maisi.spec import MaisiSpec
from synthct.models.maisi.training_pass import controlled_prediction
from synthct.models.maisi.unet_blocks import checkpointed
from synthct.training.precision import autocast
from synthct.training.validation import Validation

BODY = 200
Example = tuple[
    torch.Tensor,
    npt.NDArray[np.uint8],
    npt.NDArray[np.uint8] | None,
    tuple[float, float, float],
]
"""Image or latent, labels (X, Y, Z), where these are sure, spacing in mm."""
ROUND = 64
"""Crops that are held encoded at a time, where each is looked at more than once."""
DROPPABLE = (*SOLID_ORGANS, *HOLLOW_ORGANS, *VESSELS, *HEART, *MUSCLES)
"""Labels that a mask with fewer classes lacks; never lung, airway, bone or brain."""


@dataclass(frozen=True)
class LatentBatch:
    """One example.

    Latent (1, C, x, y, z), weight of its voxels in the loss (1, 1, x, y, z), label bits
    (1, 8, X, Y, Z), and what is told beside.
    """

    latent: torch.Tensor
    weight: torch.Tensor
    bits: torch.Tensor
    conditions: Conditions
    other_bits: torch.Tensor | None = None
    """The same mask with something taken away, for the contrastive loss."""
    region: torch.Tensor | None = None
    """Where the two masks differ, as a share of each latent voxel, (1, 1, x, y, z)."""


@dataclass(frozen=True)
class EncodedCrop:
    """A crop's latent, (1, C, x, y, z) each, with its labels and spacing as in `Example`."""

    mean: torch.Tensor
    sigma: torch.Tensor
    labels: npt.NDArray[np.uint8]
    known: npt.NDArray[np.uint8] | None
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class LossWeights:
    """What a voxel counts in the loss, by its label.

    A voxel of a structure of n voxels counts sqrt(`reference_voxels` / n), from 1 to `most`, so
    that ribs and adrenals are heard beside liver and lungs. A pseudo-label that may be wrong counts
    nothing, and neither does it teach; air outside the patient, which generation overwrites,
    counts `air`.
    """

    reference_voxels: float = 6000.0
    most: float = 4.0
    air: float = 0.4

    def __call__(
        self, labels: npt.NDArray[np.uint8], known: npt.NDArray[np.uint8] | None, factor: int
    ) -> torch.Tensor:
        """Weights on the latent's grid, (1, 1, x, y, z), from labels (X, Y, Z)."""
        count = np.bincount(labels.ravel(), minlength=256)
        table = np.sqrt(self.reference_voxels / np.maximum(count, 1)).clip(1.0, self.most)
        table[0] = self.air
        weight = table[labels]
        if known is not None:
            weight = weight * known
        tensor = torch.from_numpy(weight.astype(np.float32))[None, None]
        return functional.avg_pool3d(tensor, factor)


@dataclass
class LatentTask:
    """Shared by both stages: `controlled` is the ControlNet stage.

    In the ControlNet stage the U-Net goes on learning unless the recipe says
    `trainable=controlnet`, as the published one does: a small U-Net has no capacity to spare for
    what it never uses.
    """

    spec: MaisiSpec
    pairs: Path
    autoencoder: AutoencoderKlMaisi
    scale_factor: float
    controlled: bool
    seed: int = 0
    voxels: int = 64 * 64 * 60
    size_factors: tuple[float, ...] = (0.5, 0.5, 1.0, 1.0, 3.0)
    """Crops hold `voxels` times one of these, up to whole volumes: GroupNorm must meet both."""
    weights: LossWeights = LossWeights()
    spacing_range_mm: tuple[float, float] = (2.0, 5.0)
    phantom_share: float = 0.35
    blind_share: float = 0.1
    """Share of ControlNet steps without the mask, so that the U-Net stays good alone."""
    bfloat16: bool = True
    unet_moves: bool = True
    """Whether the U-Net learns beside the ControlNet (the recipe's `trainable` decides)."""
    contrast: float = 0.0
    """Weight of the region-specific contrastive loss; 0: it is not computed."""
    contrast_margin: float = MARGIN
    checkpointing: bool = False
    """Make inner maps again in backward: less memory, a third more time."""
    by_image: bool = False
    """Let a channel of the latent count by what its errors cost in the image."""
    looks: int = 1
    """How often a crop is used once it is encoded, with other noise and masks each time."""
    draws: int = 1
    """Noises put on a crop in one step, at times spread over 0 to 1; its mask is embedded once."""
    l1: bool = False
    """Mean absolute error, as in the paper, instead of the squared one."""
    validation: Path | None = None
    """Whole scans to judge by, with labels where they have some."""
    latents: Path | None = None
    """Pairs encoded whole beforehand, instead of crops encoded batch by batch."""
    vae_sha256: str = ""
    unet: nn.Module = field(init=False)
    controlnet: nn.Module | None = field(init=False, default=None)
    _unseen: list[LatentBatch] | None = field(init=False, default=None)
    _round: tuple[int, dict[int, EncodedCrop]] = field(init=False, default_factory=lambda: (-1, {}))

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed + 1)
        self.unet = build_unet(self.spec)
        self.autoencoder.eval().requires_grad_(False)
        self.encoded = encoded_cases(self.latents, self.vae_sha256) if self.latents else []
        if self.latents is not None and not self.encoded:
            raise InputError(
                f"no encoded pairs in {self.latents}", "synthct prepare … --encode DIR makes them"
            )
        cases = [] if self.encoded else data.cases_in(self.pairs)
        self.phantoms = [case for case in cases if "tissues" in case.arrays]
        self.scans = [case for case in cases if "tissues" not in case.arrays]
        if self.by_image:
            self._channels = channel_weights(
                self.autoencoder, self.batch(0).latent, self.scale_factor
            )
        if self.controlled:
            self.controlnet = build_controlnet(self.spec)
        if self.checkpointing:
            checkpointed(self.unet, self.controlnet, unet_moves=self.unet_moves)

    def begin_from(
        self,
        unet: Mapping[str, torch.Tensor],
        controlnet: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Start the ControlNet stage from the U-Net as trained.

        The ControlNet begins with a copy of its encoder, or goes on from weights of its own.
        """
        self.unet.load_state_dict(unet)
        if self.controlnet is not None and controlnet is not None:
            self.controlnet.load_state_dict(controlnet)
        elif self.controlnet is not None:
            copy_encoder(self.unet, self.controlnet)
            start_mask_encoder(self.controlnet.get_submodule("controlnet_cond_embedding"))

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        networks: dict[str, nn.Module] = {"unet": self.unet}
        return networks | ({"controlnet": self.controlnet} if self.controlnet else {})

    @property
    def examples(self) -> int:
        """How many make an epoch."""
        return len(self.encoded) or len(self.scans) + len(self.phantoms)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a run's record has to say of the data."""
        if self.encoded:
            return (f"pairs: {len(self.encoded)} encoded whole",)
        return (f"pairs: {len(self.scans)} scans, {len(self.phantoms)} phantoms",)

    def batch(self, index: int) -> LatentBatch:
        rng = np.random.default_rng([self.seed, 2 + self.controlled, index])
        if self.encoded:
            latent, labels, known, spacing_mm = self._whole(rng)
        else:
            latent, labels, known, spacing_mm = self._crop(index, rng)
        latent = latent * self.scale_factor
        regions = () if rng.random() < 0.1 else regions_of(labels)
        told = conditions(self.spec, regions=regions, spacing_mm=spacing_mm)
        weight = self.weights(labels, known, self.spec.autoencoder.factor)
        shown = self._thinned(labels, rng)
        other = self._taken_away(shown, rng) if self.contrast and self.controlled else None
        if other is None:
            return LatentBatch(latent, weight, label_bits(shown), told)
        changed = torch.from_numpy((other != shown).astype(np.float32))[None, None]
        region = functional.avg_pool3d(changed, self.spec.autoencoder.factor)
        return LatentBatch(latent, weight, label_bits(shown), told, label_bits(other), region)

    def _whole(self, rng: np.random.Generator) -> Example:
        """A draw from an encoded case, its labels, where these are sure, its spacing."""
        case = self.encoded[rng.integers(len(self.encoded))]
        if case.labels is None:
            raise InputError(f"{case.path} was encoded without labels", "encode the pairs again")
        return case.sample(rng), case.labels, case.known, case.spacing_mm

    def _crop(self, index: int, rng: np.random.Generator) -> Example:
        """The same of a random crop, encoded for this batch or, with more `looks`, in its round.

        A round is of `ROUND` crops, each used `looks` times in an order of its own, so that a batch
        still depends on nothing but its index.
        """
        if self.looks == 1:
            crop = self._encoded_crop(rng)
        else:
            number, place = divmod(index, ROUND * self.looks)
            if self._round[0] != number:
                self._round = number, {}
            order = np.random.default_rng([self.seed, 6, number]).permutation(ROUND * self.looks)
            found, which = self._round[1], int(order[place]) % ROUND
            if which not in found:
                own = [self.seed, 8 + self.controlled, number * ROUND + which]
                found[which] = self._encoded_crop(np.random.default_rng(own))
            crop = found[which]
        noise = torch.from_numpy(rng.standard_normal(crop.mean.shape, dtype=np.float32))
        return crop.mean + crop.sigma * noise, crop.labels, crop.known, crop.spacing_mm

    def _encoded_crop(self, rng: np.random.Generator) -> EncodedCrop:
        hu, labels, known, spacing_mm = self._pair(rng)
        image = data.unit_image(hu)
        with torch.no_grad(), autocast(self.bfloat16, image.device):
            mean, sigma = (out.float() for out in self.autoencoder.encode(image))
        return EncodedCrop(mean, sigma, labels, known, spacing_mm)

    def _taken_away(
        self, labels: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.uint8] | None:
        """The mask without its lesions, or where it has none without one organ; None: neither."""
        healthy = without_lesions(labels)
        if (healthy != labels).any():
            return healthy
        there = np.intersect1d(labels, DROPPABLE)
        if not there.size:
            return None
        return np.where(labels == rng.choice(there), np.uint8(BODY), labels)

    def loss(self, batch: LatentBatch, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        latent = batch.latent
        count = self.draws
        times = (torch.arange(count) + torch.rand(count)) / count
        drawn = noised(latent.expand(count, *latent.shape[1:]), self.spec, times)
        told = joined([batch.conditions] * count)
        blind = self.controlnet is None or bool(torch.rand(()) < self.blind_share)
        levels = len(self.spec.unet.num_channels)
        half = self.bfloat16 and not bfloat16_is_wrong(latent.shape[2:], levels)
        with (autocast if self.checkpointing else step_precision)(half, latent.device):
            predict = partial(controlled_prediction, self.networks, drawn.noisy, drawn.timestep)
            predicted = predict(None if blind else batch.bits, told)
            against = None
            if batch.region is not None and batch.other_bits is not None and not blind:
                against = predict(batch.other_bits, told)
        off = error(predicted, drawn.target, l1=self.l1)
        weighted = off * self._channels.to(off.device) if self.by_image else off
        loss = (weighted * batch.weight).mean() / batch.weight.mean().clamp_min(1e-3)
        figures = {("blind" if blind else "seen"): float(off.detach().mean())}
        if against is not None and batch.region is not None:
            apart = region_contrast(
                predicted.float(), against.float(), batch.region, self.contrast_margin
            )
            loss = loss + self.contrast * apart
            figures["contrast"] = float(apart.detach())
        return loss, figures

    def validate(self, averages: Mapping[str, nn.Module]) -> Validation | None:
        """Noise taken off whole unseen scans, with their masks: its error, and pictures."""
        if self._unseen is None:
            scans = unseen(self.validation, self.autoencoder, self.spec)
            self._unseen = [self._example(one) for one in scans]

        def predict(
            noisy: torch.Tensor, timestep: torch.Tensor, batch: LatentBatch
        ) -> torch.Tensor:
            bits = batch.bits if "controlnet" in averages and bool(batch.bits.any()) else None
            return controlled_prediction(averages, noisy, timestep, bits, batch.conditions)

        device = next(averages["unet"].parameters()).device
        return denoised(
            predict, self._unseen, self.spec, self.autoencoder, self.scale_factor, device=device
        )

    def _example(self, one: Unseen) -> LatentBatch:
        """Without a label map its mask is empty, and no region is told."""
        latent = one.latent * self.scale_factor
        sides = [n * self.spec.autoencoder.factor for n in latent.shape[2:]]
        labels = np.zeros(sides, np.uint8) if one.labels is None else one.labels
        regions = () if one.labels is None else regions_of(labels)
        told = conditions(self.spec, regions=regions, spacing_mm=one.spacing_mm)
        return LatentBatch(latent, torch.ones_like(latent[:, :1]), label_bits(labels), told)

    def _pair(self, rng: np.random.Generator) -> Example:
        """HU (1, 1, X, Y, Z), labels (X, Y, Z), where these are sure, spacing: a random crop."""
        phantom = not self.scans or (bool(self.phantoms) and rng.random() < self.phantom_share)
        cases = self.phantoms if phantom else self.scans
        case = cases[rng.choice(len(cases), p=_shares(cases))]
        crop = data.random_crop(
            case,
            rng,
            voxels=int(self.voxels * rng.choice(self.size_factors)),
            spacing_range_mm=self.spacing_range_mm,
            multiple=self.spec.grid_multiple,
        )
        known = None
        if phantom:
            hu, labels = data.phantom_image(case, crop, rng)
        else:
            if "known" in case.arrays:
                known = data.resize_labels(data.cut(case.arrays["known"], crop, 1), crop.shape)
            labels = data.resize_labels(data.cut(case.arrays["labels"], crop, 0), crop.shape)
            hu = data.resize_image(data.cut(case.arrays["image"], crop, data.AIR_HU), crop.shape)
        hu = torch.where(torch.from_numpy(labels == 0), torch.tensor(float(data.AIR_HU)), hu)
        return hu, labels, known, crop.spacing_mm

    def _thinned(
        self, labels: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        """Sometimes some soft organs are unlabelled, as in masks with fewer classes."""
        if rng.random() > 0.3:
            return labels
        gone = [organ for organ in DROPPABLE if rng.random() < 0.3]
        return np.where(np.isin(labels, gone), np.uint8(BODY), labels)


def _shares(cases: list[data.Case]) -> npt.NDArray[np.float64]:
    """How often each case is drawn: those with true labels four times as often."""
    weights = np.array([4.0 if case.meta.get("kind") == "real" else 1.0 for case in cases])
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def copy_encoder(unet: nn.Module, controlnet: nn.Module) -> tuple[str, ...]:
    """Copy every tensor of the U-Net that the ControlNet has under the same name and shape."""
    source = unet.state_dict()
    target = controlnet.state_dict()
    shared = {k: v for k, v in source.items() if k in target and target[k].shape == v.shape}
    controlnet.load_state_dict(target | shared)
    return tuple(shared)
