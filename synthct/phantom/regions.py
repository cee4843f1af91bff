"""Which box of the body each region shows, air around it included."""

from __future__ import annotations

import math

import numpy as np

from synthct.errors import GridError, UsageError
from synthct.geometry import Geometry, Shape, Spacing
from synthct.phantom.tissue import breasts
from synthct.phantom.torso import FAT, Profile, Torso

HEIGHTS_MM = {
    "head": (462.0, 738.0),
    "chest": (152.0, 438.0),
    "abdomen": (-34.0, 246.0),
    "chest-abdomen": (12.0, 436.0),
    "abdomen-pelvis": (-214.0, 246.0),
    "chest-abdomen-pelvis": (-214.0, 436.0),
    "pelvis": (-214.0, 56.0),
}
"""Lowest and highest z of each region in the model body."""
REGIONS = tuple(HEIGHTS_MM)
MAX_HALF_WIDTH_MM = 212.0
MAX_VOXELS = 400_000_000
MIN_SPACING_MM, MAX_SPACING_MM = 0.4, 10.0

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def region_box(region: str, torso: Torso) -> Box:
    """The box (low, high) along x, y, z in mm of the patient.

    Raises:
        UsageError: no such region.
    """
    if region not in HEIGHTS_MM:
        raise UsageError(f"no region {region!r}; there are: {', '.join(REGIONS)}")
    person = torso.person
    low, high = HEIGHTS_MM[region]
    sx, sy, sz = person.scale
    margin = float(person.rng("margin").uniform(15, 25))
    if region == "head":
        x, y = (-94.0, 94.0), (-48.0, 170.0)
    else:
        x, y = _trunk_box(torso, low, high)
    return (
        (x[0] * sx - margin, x[1] * sx + margin),
        (y[0] * sy - margin, y[1] * sy + margin),
        (low * sz, high * sz),
    )


def _trunk_box(torso: Torso, low: float, high: float) -> tuple[tuple[float, float], ...]:
    z = np.arange(low, high, 5.0).astype(np.float32)
    fat = Profile(FAT)(z) * np.float32(torso.person.fat_mm)
    half = float((torso.lean.half_width(z) + fat).max())
    if high > 400:
        half = max(half, 196.0)
    half = min(half, MAX_HALF_WIDTH_MM)
    belly = np.maximum(torso.person.belly_mm, 0) * np.exp(-(((z - 70) / 75) ** 2))
    front = float((torso.lean.front(z) + 1.3 * fat + belly).max())
    if low < 290 < high and not torso.person.male:
        front = max(front, *(b.bounds[1][1] for b in breasts(torso)))
    back = float((torso.lean.back(z) - fat).min())
    return (-half, half), (back, front)


def region_grid(
    region: str, torso: Torso, spacing_mm: Spacing, shape: Shape | None = None
) -> Geometry:
    """An RAS grid over the region; a `shape` that is given is laid around the same centre.

    Raises:
        UsageError: no such region.
        GridError: a spacing or size outside of what is possible.
    """
    _check(spacing_mm, shape)
    box = region_box(region, torso)
    if shape is None:
        i, j, k = (math.ceil((b - a) / s) for (a, b), s in zip(box, spacing_mm, strict=True))
        shape = (i, j, k)
    if math.prod(shape) > MAX_VOXELS:
        raise GridError(
            f"{' x '.join(map(str, shape))} voxels are more than {MAX_VOXELS:,}",
            "ask for a coarser --spacing or a smaller --size",
        )
    affine = np.diag([*spacing_mm, 1.0])
    for axis, ((a, b), n, s) in enumerate(zip(box, shape, spacing_mm, strict=True)):
        affine[axis, 3] = (a + b) / 2 - (n - 1) / 2 * s
    return Geometry(shape, affine)


def _check(spacing_mm: Spacing, shape: Shape | None) -> None:
    if len(spacing_mm) != 3 or not all(MIN_SPACING_MM <= s <= MAX_SPACING_MM for s in spacing_mm):
        raise GridError(
            f"spacing {' '.join(f'{s:g}' for s in spacing_mm)} mm; "
            f"three values from {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} are accepted"
        )
    if shape is not None and (len(shape) != 3 or min(shape) < 1):
        raise GridError(f"size {shape}; three positive numbers of voxels are accepted")
