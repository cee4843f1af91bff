"""What guidance compares: the networks told everything, and told less, each an own branch.

The reference has one scale for the modality class and the lesions of the mask; here each has its
own, and one scale for both gives the reference's numbers (MAISI.md section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

from synthct.diffusion.denoiser import Denoiser, Guided, worth_running
from synthct.labels.groups import GUIDED_LESIONS, LESION_HOSTS
from synthct.models.maisi.conditions import Conditions
from synthct.models.maisi.control import MaskEmbedding
from synthct.models.maisi.prediction import predict
from synthct.models.settings import Execution, Sampling

MODALITY, LESIONS = "modality", "lesions"
UNKNOWN_MODALITY = 0

Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class Branch:
    """What one branch is told; `scale` is of its difference from the branch before."""

    modality: bool
    lesions: bool
    scale: float = 1.0


@dataclass(frozen=True)
class Bound:
    """U-Net and ControlNet with everything bound but the noisy latent and the time."""

    unet: DiffusionModelUNetMaisi
    told: Conditions
    mask: MaskEmbedding | None
    how: Execution

    def __call__(self, latent: torch.Tensor, timestep: float) -> torch.Tensor:
        time = torch.tensor([timestep], dtype=torch.float32, device=latent.device)
        with autocast(self.how, latent.device):
            return predict(self.unet, self.mask, self.told, latent, time).float()


def branches(sampling: Sampling, labels: Labels | None) -> tuple[Branch, ...]:
    """The branches that change something, from the one that is told least to the one told all."""
    tumours = sampling.tumor_guidance if _has_lesions(labels) else 0.0
    groups = worth_running([(MODALITY, sampling.modality_guidance), (LESIONS, tumours)])
    left = frozenset[str]().union(*(names for _, names in groups))
    found = [Branch(MODALITY not in left, LESIONS not in left)]
    for scale, names in groups:
        left -= names
        found.append(Branch(MODALITY not in left, LESIONS not in left, scale))
    return tuple(found)


def denoiser(
    asked: tuple[Branch, ...],
    labels: Labels | None,
    *,
    bind: Callable[[bool, MaskEmbedding | None], Denoiser],
    embed: Callable[[Labels | None], MaskEmbedding | None],
) -> Denoiser:
    """The branches put together; branches of the same mask share its embedding.

    Args:
        bind: (modality told, mask) → the networks with their conditions.
        embed: computes the embedding of a mask.
    """
    masks: dict[bool, MaskEmbedding | None] = {}
    bound: list[Denoiser] = []
    for one in asked:
        if one.lesions not in masks:
            shown = labels if one.lesions or labels is None else without_lesions(labels)
            masks[one.lesions] = embed(shown)
        bound.append(bind(one.modality, masks[one.lesions]))
    if len(bound) == 1:
        return bound[0]
    scales = [one.scale for one in asked[1:]]
    return Guided(bound[0], *zip(scales, bound[1:], strict=True))


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
