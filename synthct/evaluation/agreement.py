"""Does the image follow its mask? By thresholds, and by what every organ looks like.

Arrays (i, j, k): HU, and MAISI ids with the body as 200 where it is known. No network is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.errors import MaskError
from synthct.geometry import Spacing
from synthct.labels.body import body_from_ct
from synthct.labels.groups import AIRWAYS, BODY, BONES, LUNG_LOBES, MUSCLES, SOLID_ORGANS
from synthct.labels.groups import HOLLOW_ORGANS as HOLLOW

Hu = npt.NDArray[Any]
Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

AIR_HU = -400.0
BONE_HU = 100.0


@dataclass(frozen=True)
class Organ:
    """What a labelled structure looks like."""

    label: int
    median_hu: float
    spread_hu: float
    """Half the way from the 16th to the 84th percentile: a deviation that metal leaves alone."""
    volume_ml: float


def thresholds(
    hu: Hu, labels: Labels, spacing_mm: Spacing, *, body: bool = True
) -> dict[str, float]:
    """Shares and Dice of what thresholds find with what the labels say; NaN where not in view.

    Returns:
        lung_under_-400, solid_under_-400: share of lung, and of solid organs, muscle and bone.
        bone_dice: voxels over 100 HU, among bone, muscle and bare body, with the bones.
        air_dice: voxels under −400 HU in the patient, hollow organs left out, with lungs and
            airways.
        body_dice: the patient found in the image with all that is labelled, 200 included; the
            arrays must be RAS for it. NaN where it is not asked for (`body`).
    """
    lung, bone = np.isin(labels, LUNG_LOBES), np.isin(labels, BONES)
    solid = bone | np.isin(labels, (*SOLID_ORGANS, *MUSCLES))
    bright = (hu > BONE_HU) & (bone | np.isin(labels, (*MUSCLES, BODY)))
    found = {
        "lung_under_-400": _share(hu[lung] < AIR_HU),
        "solid_under_-400": _share(hu[solid] < AIR_HU),
        "bone_dice": dice(bright, bone),
    }
    if not (labels == BODY).any():
        return {**found, "air_dice": nan, "body_dice": nan}
    inside = labels > 0
    airy = lung | np.isin(labels, AIRWAYS)
    gas = (hu < AIR_HU) & inside & ~np.isin(labels, HOLLOW)
    return {
        **found,
        "air_dice": dice(gas, airy) if lung.any() else nan,
        "body_dice": dice(_patient(hu, spacing_mm), inside) if body else nan,
    }


def dice(one: Mask, other: Mask) -> float:
    """2 |A ∩ B| / (|A| + |B|); NaN where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else nan


def organs(hu: Hu, labels: Labels, spacing_mm: Spacing) -> list[Organ]:
    """Every labelled structure but the body, by id."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None and label != BODY:
            values = hu[box][labels[box] == label]
            low, middle, high = np.percentile(values, [15.87, 50, 84.13])
            spread = float(high - low) / 2
            found.append(Organ(label, float(middle), spread, values.size * voxel_ml))
    return found


def _patient(hu: Hu, spacing_mm: Spacing) -> Mask:
    try:
        return body_from_ct(hu, spacing_mm, superior_axis=2)
    except MaskError:
        return np.zeros(hu.shape, dtype=bool)


def _share(hits: npt.NDArray[np.bool_]) -> float:
    return float(hits.mean()) if hits.size else nan
