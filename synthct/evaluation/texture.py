"""Is it a CT or a painted label map? Figures that tell the two apart.

Arrays (i, j, k) are RAS; HU are clipped to [−1000, 1000]; labels are MAISI ids. Everything counts
in voxels, so figures compare at one spacing only: the known ones, of a real scan of 3 mm, of the
same labels painted with white noise, and of a blurred reconstruction stand in `KNOWN`.
Eroded means by voxels that share faces: the liver by two, bones and body by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.evaluation.spectrum import power_between
from synthct.geometry import Spacing
from synthct.labels.body import body_from_ct
from synthct.labels.groups import BODY, LIVER, VERTEBRAE

Hu = npt.NDArray[Any]
Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

CLIP_HU = (-1000.0, 1000.0)
WINDOW_HU = (-200.0, 300.0)
SACRUM, FEMORA, HIPS, COLON = 97, (93, 94), (95, 96), 62
TRUNK_BONES = (*VERTEBRAE, SACRUM, *FEMORA, *HIPS)
"""Vertebrae with the sacrum (five of them, fused), hips, femora."""
GAS_HU = -300.0
HIGH_BAND = (0.3, 0.5)
CUBE_VOXELS = 64
FAT_HU = (-150.0, -50.0)
MUSCLE_HU = (0.0, 60.0)
SPLIT_HU = -45.0
"""Half-way from fat (−100 HU) to what is neither fat nor bright (10 HU)."""
SEEDS_BAR = 0.3
"""Residuals of two seeds correlate by less than this."""
_FEW = 50  # voxels or pairs under which nothing is said


@dataclass(frozen=True)
class Known:
    """A figure of the real scan and of what must not pass for one, and the bar between them."""

    real: float
    poor: float
    bar: float


KNOWN: Mapping[str, Known] = MappingProxyType(
    {
        "liver_correlation": Known(0.19, 0.0, 0.08),
        "bone_std_hu": Known(178.0, 29.0, 70.0),
        "cortex_minus_marrow_hu": Known(112.0, 5.0, 40.0),
        "colon_gas_share": Known(0.24, 0.0, 0.05),
        "sharpness_hu": Known(30.7, 13.6, 20.0),
        "high_frequency_share": Known(0.107, 0.015, 0.05),
    }
)
"""At 3 mm. `poor`: a painted map, but of sharpness and frequencies: a blurred reconstruction."""


def texture(volume_hu: Hu, labels: Labels, spacing: Spacing) -> dict[str, float]:
    """Every figure of one volume; NaN where the structure is not in view.

    Args:
        volume_hu: HU (i, j, k) in RAS.
        labels: MAISI ids on the same grid. Without the body (200), it is found in the image.
        spacing: voxel size in mm.

    Returns:
        liver_correlation_i, _j, _k, liver_correlation: Pearson, of face neighbours in the liver,
            and the mean of the three.
        bone_std_hu: standard deviation inside vertebrae, hips and femora.
        cortex_minus_marrow_hu: median of those bones' outer voxels minus that of their inside.
        colon_gas_share: of the colon under −300 HU.
        sharpness_hu: mean absolute difference of face neighbours in the body, HU cut at the
            window −200..300.
        high_frequency_share: of the power in the volume's middle 64³ voxels, the part between
            0.3 and 0.5 cycles a voxel, same window.
        fat_*, muscle_*, between_*: see `unlabelled_tissue`.

    Raises:
        ValueError: shapes differ.
        MaskError: neither labels nor image have a body.
    """
    if volume_hu.shape != labels.shape:
        raise ValueError(f"shapes {volume_hu.shape} and {labels.shape} differ")
    hu = np.clip(np.asarray(volume_hu, np.float32), *CLIP_HU)
    body = body_of(hu, labels, spacing)
    return {
        **liver_correlation(hu, labels),
        **bone_structure(hu, np.isin(labels, TRUNK_BONES)),
        "colon_gas_share": share_under(hu, labels == COLON, GAS_HU),
        "sharpness_hu": sharpness(hu, body),
        "high_frequency_share": high_frequency_share(hu, body),
        **unlabelled_tissue(hu, body & ((labels == BODY) | (labels == 0))),
    }


def body_of(hu: Hu, labels: Labels, spacing: Spacing) -> Mask:
    """The patient: whatever is labelled where the labels have an envelope, else by threshold."""
    if bool((labels == BODY).any()):
        inside: Mask = labels > 0
        return inside
    return body_from_ct(hu, spacing, superior_axis=2)


def liver_correlation(hu: Hu, labels: Labels) -> dict[str, float]:
    """Correlation of neighbouring voxels in the liver, its border left out."""
    inside = eroded(labels == LIVER, 2)
    along = {
        f"liver_correlation_{axis}": neighbour_correlation(hu, inside, n)
        for n, axis in enumerate("ijk")
    }
    return {**along, "liver_correlation": float(np.mean(list(along.values())))}


def neighbour_correlation(hu: Hu, inside: Mask, axis: int) -> float:
    """Pearson correlation of voxels and their next along `axis`, both inside."""
    first, second = _neighbours(hu, inside, axis)
    return _correlation(first, second)


def residual_correlation(first_hu: Hu, second_hu: Hu, labels: Labels) -> float:
    """Correlation in the liver of two volumes made from one mask with two seeds.

    What is left after each volume's own mean is its residual; independent texture gives 0, a
    texture that hangs on the mask gives 1. NaN without a liver.
    """
    inside = eroded(labels == LIVER, 2)
    return _correlation(first_hu[inside], second_hu[inside])


def bone_structure(hu: Hu, bone: Mask) -> dict[str, float]:
    """How much a bone varies inside, and how much brighter its outer voxels are."""
    marrow = eroded(bone, 1)
    inside, outside = hu[marrow], hu[bone & ~marrow]
    if min(inside.size, outside.size) < _FEW:
        return {"bone_std_hu": float("nan"), "cortex_minus_marrow_hu": float("nan")}
    brighter = float(np.median(outside)) - float(np.median(inside))
    spread = float(inside.std(dtype=np.float64))
    return {"bone_std_hu": spread, "cortex_minus_marrow_hu": brighter}


def share_under(hu: Hu, inside: Mask, limit: float) -> float:
    values = hu[inside]
    return float((values < limit).mean()) if values.size >= _FEW else float("nan")


def sharpness(hu: Hu, body: Mask) -> float:
    """Mean absolute difference of face neighbours in the eroded body, over the three axes, HU."""
    windowed = np.clip(hu, *WINDOW_HU)
    inside = eroded(body, 1)
    total, count = 0.0, 0
    for axis in range(3):
        first, second = _neighbours(windowed, inside, axis)
        total += float(np.abs(first - second).sum(dtype=np.float64))
        count += first.size
    return total / count if count else float("nan")


def high_frequency_share(hu: Hu, body: Mask) -> float:
    """Share of power between 0.3 and 0.5 cycles a voxel, of the middle 64³ voxels (or all).

    No taper. NaN where less than half of the cube is body.
    """
    cube = tuple(
        slice(max(0, n // 2 - CUBE_VOXELS // 2), n // 2 + CUBE_VOXELS // 2) for n in hu.shape
    )
    if body[cube].mean() < 0.5:
        return float("nan")
    return power_between(np.clip(hu[cube], *WINDOW_HU), *HIGH_BAND)


def unlabelled_tissue(hu: Hu, tissue: Mask) -> dict[str, float]:
    """Does tissue without a label fall into fat and muscle (or fluid), with edges between them?

    Returns:
        fat_share, muscle_share, between_share: of −150..−50, 0..60, and −50..0 HU.
        fat_hu, muscle_hu: median below and above −45 HU (gas and bone left out).
        edge_hu: mean step between face neighbours on either side of −45 HU.
    """
    inside = eroded(tissue, 1)
    values = hu[inside & (hu > -200) & (hu < 150)]
    if values.size < _FEW:
        names = ("fat_share", "muscle_share", "between_share", "fat_hu", "muscle_hu", "edge_hu")
        return dict.fromkeys(names, float("nan"))
    return {
        "fat_share": _between(values, *FAT_HU),
        "muscle_share": _between(values, *MUSCLE_HU),
        "between_share": _between(values, FAT_HU[1], MUSCLE_HU[0]),
        "fat_hu": _median(values[values < SPLIT_HU]),
        "muscle_hu": _median(values[values >= SPLIT_HU]),
        "edge_hu": _edge(hu, inside & (hu > -200) & (hu < 150)),
    }


def eroded(mask: Mask, voxels: int) -> Mask:
    """`mask` without the voxels within `voxels` faces of its border (the array's border too)."""
    cross = ndimage.generate_binary_structure(3, 1)
    inner: Mask = ndimage.binary_erosion(mask, cross, iterations=voxels)
    return inner


def _edge(hu: Hu, inside: Mask) -> float:
    steps = []
    for axis in range(3):
        first, second = _neighbours(hu, inside, axis)
        across = (first < SPLIT_HU) != (second < SPLIT_HU)
        steps.append(np.abs(first - second)[across])
    return _mean(np.concatenate(steps))


def _neighbours(hu: Hu, inside: Mask, axis: int) -> tuple[Hu, Hu]:
    values, mask = np.moveaxis(hu, axis, 0), np.moveaxis(inside, axis, 0)
    both = mask[1:] & mask[:-1]
    return values[:-1][both], values[1:][both]


def _correlation(first: Hu, second: Hu) -> float:
    if first.size < _FEW or first.std() == 0 or second.std() == 0:
        return float("nan")
    return float(np.corrcoef(first.astype(np.float64), second.astype(np.float64))[0, 1])


def _between(values: Hu, low: float, high: float) -> float:
    return float(((values >= low) & (values < high)).mean())


def _median(values: Hu) -> float:
    return float(np.median(values)) if values.size >= _FEW else float("nan")


def _mean(values: Hu) -> float:
    return float(values.mean(dtype=np.float64)) if values.size >= _FEW else float("nan")
