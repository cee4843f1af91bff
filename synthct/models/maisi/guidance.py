"""What guidance compares: the networks told everything, and told less, each an own branch.

The reference has one scale for the modality class and the lesions of the mask; here each has its
own, and one scale for both gives the reference's numbers (MAISI.md section 2). The whole mask,
which the reference does not strengthen, is held against the U-Net alone: classifier-free guidance
(Ho & Salimans 2022), for which training without the mask now and then prepares the U-Net. Lesions
are part of the mask: beside its scale theirs is a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

from synthct.diffusion.denoiser import Denoiser, Guided, apart
from synthct.diffusion.scales import within, worth_running
from synthct.labels.groups import GUIDED_LESIONS, LESION_HOSTS
from synthct.models.maisi.conditions import Conditions
from synthct.models.maisi.control import MaskEmbedding
from synthct.models.maisi.prediction import ALONE, predict
from synthct.models.maisi.small_maps import small_maps
from synthct.models.settings import Execution, Sampling

MASK, MODALITY, LESIONS = "mask", "modality", "lesions"
UNKNOWN_MODALITY = 0

Labels = npt.NDArray[Any]
Told = tuple[bool, MaskEmbedding | None]
"""Whether a branch is told the modality, and the mask that it looks at."""


@dataclass(frozen=True)
class Branch:
    """What one branch is told; `scale` is of its difference from the branch before."""

    modality: bool
    lesions: bool
    scale: float = 1.0
    mask: bool = True
    """Whether it looks at the mask at all."""


@dataclass(frozen=True)
class Bound:
    """U-Net and ControlNet with everything bound but the noisy latent and the time.

    Attributes:
        told: a row for each prediction.
        masks: of each prediction its own; None: the U-Net alone.
        ways: see `prediction.predict`.
    """

    unet: DiffusionModelUNetMaisi
    told: Conditions
    masks: tuple[MaskEmbedding | None, ...]
    how: Execution
    ways: tuple[int, ...] = ALONE

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        """(N, C, x, y, z), N predictions, float32."""
        time = torch.tensor([timestep], dtype=torch.float32, device=latent.device)
        device, precision = latent.device, self.how.sampling
        with autocast(self.how, device), small_maps(device, precision):
            return predict(self.unet, self.masks, self.told, latent, time, self.ways).float()

    def each(self, latent: torch.Tensor, timestep: float) -> Sequence[torch.Tensor]:
        """The predictions one by one, from one pass."""
        return list(self(latent, timestep).split(1))


def branches(sampling: Sampling, labels: Labels | None) -> tuple[Branch, ...]:
    """The branches that change something, from the one that is told least to the one told all."""
    mask = 0.0 if labels is None else sampling.mask_guidance
    tumours = within(sampling.tumor_guidance, mask) if _has_lesions(labels) else 0.0
    asked = [(MASK, mask), (MODALITY, sampling.modality_guidance), (LESIONS, tumours)]
    groups = worth_running(asked)
    left = frozenset[str]().union(*(names for _, names in groups))
    found = [_branch(left, 1.0)]
    for scale, names in groups:
        left -= names
        found.append(_branch(left, scale))
    return tuple(found)


def _branch(left: frozenset[str], scale: float) -> Branch:
    """That is told everything but what is left."""
    return Branch(MODALITY not in left, LESIONS not in left, scale, MASK not in left)


def denoiser(
    asked: tuple[Branch, ...],
    labels: Labels | None,
    *,
    bind: Callable[[Sequence[Told]], Bound],
    embed: Callable[[Labels | None], MaskEmbedding | None],
    together: bool = False,
) -> Denoiser:
    """The branches put together; branches of the same mask share its embedding.

    Args:
        bind: the networks with the conditions of these branches, as one batch.
        embed: computes the embedding of a mask.
        together: run the branches as one batch, instead of one after the other.
    """
    masks: dict[bool, MaskEmbedding | None] = {}
    told: list[Told] = []
    for one in asked:
        if one.mask and one.lesions not in masks:
            shown = labels if one.lesions or labels is None else without_lesions(labels)
            masks[one.lesions] = embed(shown)
        told.append((one.modality, masks[one.lesions] if one.mask else None))
    if len(told) == 1:
        return bind(told)
    scales = [one.scale for one in asked[1:]]
    return Guided(bind(told).each if together else apart([bind([one]) for one in told]), scales)


def ways_down(told: Sequence[Told]) -> tuple[int, ...]:
    """Of each branch, which modality it is told, numbered in the order of their first branches."""
    modalities = [modality for modality, _ in told]
    numbers = {one: number for number, one in enumerate(dict.fromkeys(modalities))}
    return tuple(numbers[one] for one in modalities)


def autocast(how: Execution, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=how.sampling == "bfloat16")


def without_lesions(labels: Labels) -> Labels:
    """The mask with every lesion as the organ it grows in: what guidance pushes away from.

    A lung tumour becomes the lobe that most of the lung in the mask is (MAISI.md section 2).
    """
    healthy = labels.copy()
    for lesion in GUIDED_LESIONS:
        hosts = LESION_HOSTS[lesion]
        present = [int((labels == host).sum()) for host in hosts]
        healthy[labels == lesion] = hosts[int(np.argmax(present))]
    return healthy


def _has_lesions(labels: Labels | None) -> bool:
    """Of those that `without_lesions` turns into an organ."""
    if labels is None:
        return False
    return bool(np.isin(labels, GUIDED_LESIONS).any())
