"""A segmentation against a mask, organ by organ: Dice, surface Dice, volume (MONAI's).

Scored are the organs that the segmenter knows and the mask has. An organ that neither has is
skipped, never counted as 1; one that only the segmenter sees is not scored, since masks are often
incomplete, but listed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.geometry import Spacing
from synthct.labels.groups import BODY

Labels = npt.NDArray[Any]

TOLERANCE_MM = 3.0
"""Of the surface Dice; TotalSegmentator's normalised surface distance has the same."""
_PAD = 2


@dataclass(frozen=True)
class OrganScore:
    """One organ, segmented again."""

    label: int
    dice: float
    surface_dice: float
    mask_ml: float
    found_ml: float


def scored(
    found: Labels, mask: Labels, known: Collection[int], spacing_mm: Spacing
) -> tuple[list[OrganScore], tuple[int, ...]]:
    """Scores of the organs that are known and in the mask; ids that only the segmenter sees.

    Args:
        found, mask: MAISI ids (i, j, k) on one grid.
        known: MAISI ids that the segmenter can give.
        spacing_mm: voxel size.
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    in_mask, seen = set(np.unique(mask).tolist()), set(np.unique(found).tolist())
    scores = []
    for label in sorted(set(known) & in_mask - {0, BODY}):
        one, other = _cropped(found == label, mask == label)
        dice, surface = _overlap(one, other, spacing_mm)
        volumes = float(other.sum()) * voxel_ml, float(one.sum()) * voxel_ml
        scores.append(OrganScore(label, dice, surface, *volumes))
    return scores, tuple(sorted((seen & set(known)) - in_mask - {0, BODY}))


def _cropped(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
    """Both, cut to where either is; room around, for surfaces."""
    box = ndimage.find_objects((one | other).astype(np.uint8))[0]
    wide = tuple(slice(max(0, s.start - _PAD), s.stop + _PAD) for s in box)
    return np.pad(one[wide], 1), np.pad(other[wide], 1)


def _overlap(
    found: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_], spacing_mm: Spacing
) -> tuple[float, float]:
    import torch
    from monai.metrics import compute_dice, compute_surface_dice

    if not found.any():
        return 0.0, 0.0
    one, other = (
        torch.from_numpy(np.ascontiguousarray(m, np.uint8))[None, None] for m in (found, mask)
    )
    dice = compute_dice(one, other, include_background=True, num_classes=1)
    surface = compute_surface_dice(
        one, other, [TOLERANCE_MM], include_background=True, spacing=list(spacing_mm)
    )
    return float(dice), float(surface)
