"""What the networks are told: label bits, body regions, spacing (MAISI.md section 2)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from synthct.labels.groups import regions_present
from synthct.models.maisi.networks import LABEL_BITS
from synthct.models.maisi.spec import MaisiSpec

REGIONS = ("head", "chest", "abdomen", "pelvis")


@dataclass(frozen=True)
class Conditions:
    """Tensors, a row for each prediction: regions (N, 4), spacing (N, 3), modality class (N,)."""

    top_region: torch.Tensor | None
    bottom_region: torch.Tensor | None
    spacing: torch.Tensor
    modality_class: torch.Tensor | None

    def unet_arguments(self) -> dict[str, torch.Tensor | None]:
        return {
            "top_region_index_tensor": self.top_region,
            "bottom_region_index_tensor": self.bottom_region,
            "spacing_tensor": self.spacing,
            "class_labels": self.modality_class,
        }


def joined(rows: Sequence[Conditions]) -> Conditions:
    """Conditions of several predictions as one batch; all of one model."""

    def together(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        told = [part for part in parts if part is not None]
        return torch.cat(told) if told else None

    return Conditions(
        together([row.top_region for row in rows]),
        together([row.bottom_region for row in rows]),
        torch.cat([row.spacing for row in rows]),
        together([row.modality_class for row in rows]),
    )


def label_bits(labels: npt.NDArray[Any]) -> torch.Tensor:
    """Label map (X, Y, Z), ids 0-255 → (1, 8, X, Y, Z) uint8; channel k is bit k."""
    ids = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.uint8))
    return torch.stack([(ids >> bit) & 1 for bit in range(LABEL_BITS)])[None]


def conditions(
    spec: MaisiSpec,
    *,
    regions: Collection[str],
    spacing_mm: tuple[float, float, float],
    modality_class: int = 1,
    device: torch.device | None = None,
) -> Conditions:
    """Conditions from the regions that are seen, head first; none known: a zero vector."""
    present = [name for name in REGIONS if name in regions]
    top = bottom = None
    if spec.unet.regions:
        top = _one_hot(present[:1], spec.condition_scale, device)
        bottom = _one_hot(present[-1:], spec.condition_scale, device)
    spacing = torch.tensor([spacing_mm], dtype=torch.float32, device=device) * spec.condition_scale
    label = None
    if spec.unet.num_class_embeds is not None:
        label = torch.tensor([modality_class], dtype=torch.long, device=device)
    return Conditions(top, bottom, spacing, label)


def regions_of(labels: npt.NDArray[Any]) -> tuple[str, ...]:
    """The body regions that a MAISI label map shows, head first."""
    return regions_present(tuple(int(v) for v in np.unique(labels)))


def _one_hot(names: list[str], scale: float, device: torch.device | None) -> torch.Tensor:
    vector = torch.zeros(1, len(REGIONS), device=device)
    for name in names:
        vector[0, REGIONS.index(name)] = scale
    return vector
