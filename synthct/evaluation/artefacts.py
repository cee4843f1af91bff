"""Seams and slices that do not belong: planes that differ from the planes beside them.

A tile's border, a bed position or a lost slice shows as a step that much of one plane shares,
while anatomy steps here and there. So the plane is cut into blocks, every block's step across two
neighbouring planes is held against the steps of the same block a few planes before and after, and
what most blocks share is the seam. Arrays (i, j, k) are HU; a seam "at p" lies between planes p and
p + 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.geometry import Spacing

Hu = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

AXES = "ijk"
TISSUE_HU = (-200.0, 300.0)
"""Steps are looked for in soft tissue: edges of lung and bone are larger than any seam."""
BLOCK_MM = 24.0
SKIN_MM = 28.0  # skin, fat and the wall of muscle, which lie flat in front and behind
_LEAST_BLOCK = 6  # voxels a side
_STEP_HU = 100.0  # a voxel's step counts for no more
_REACH = 4  # planes on either side that a plane is held against
_LEAST_BLOCKS = 12
_LEAST_SHARE = 0.3  # of the blocks that the axis's fullest plane has
_USUAL_REACH = 8
_FLOOR_HU = 1.0
_ERROR_OF_MEDIAN = 1.4826 * 1.2533  # from the median deviation to the median's own error
SEAM_HU = 4.0
SEAM_SCORE = 4.0
"""A seam: a step of at least `SEAM_HU` that most blocks share, at least `SEAM_SCORE` times what is
usual around it and what chance among the blocks leaves open."""


@dataclass(frozen=True)
class Seam:
    """A plane pair of an axis.

    Attributes:
        axis: i, j or k.
        plane: the seam lies between this plane and the next.
        step_hu: median over blocks of the step, the neighbours' taken off; signed.
        usual_hu: size of the same at the planes around (median).
        error_hu: standard error of the step, from its spread over blocks.
    """

    axis: str
    plane: int
    step_hu: float
    usual_hu: float
    error_hu: float

    @property
    def score(self) -> float:
        """How far the step stands out."""
        return abs(self.step_hu) / hypot(self.usual_hu, self.error_hu, _FLOOR_HU)

    @property
    def flagged(self) -> bool:
        return abs(self.step_hu) >= SEAM_HU and self.score >= SEAM_SCORE


def worst_seams(hu: Hu, inside: Mask, spacing_mm: Spacing) -> tuple[Seam, ...]:
    """Per axis, the seam that stands out most; axes without enough tissue are left out.

    Args:
        hu: (i, j, k).
        inside: the patient, without table.
        spacing_mm: voxel size.
    """
    found = (seams_along(hu, inside, spacing_mm, axis) for axis in range(3))
    return tuple(max(seams, key=lambda seam: seam.score) for seams in found if seams)


def seams_along(hu: Hu, inside: Mask, spacing_mm: Spacing, axis: int) -> list[Seam]:
    """Every plane pair of an axis that has enough tissue, in order."""
    steps = block_steps(hu, inside, spacing_mm, axis)
    excess = steps - _around(steps, range(1, _REACH + 1))
    blocks = np.isfinite(excess).sum(axis=1)
    enough = blocks >= max(_LEAST_BLOCKS, _LEAST_SHARE * blocks.max(initial=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # planes of air: all NaN
        shared = np.nanmedian(excess, axis=1)
        spread = np.nanmedian(np.abs(excess - shared[:, None]), axis=1)
    shared[~enough] = np.nan
    usual = _around(np.abs(shared)[:, None], range(2, _USUAL_REACH + 1))[:, 0]
    error = _ERROR_OF_MEDIAN * spread / np.sqrt(np.maximum(blocks, 1))
    return [
        Seam(AXES[axis], int(p), float(shared[p]), float(usual[p]), float(error[p]))
        for p in np.flatnonzero(enough & np.isfinite(usual))
    ]


def block_steps(hu: Hu, inside: Mask, spacing_mm: Spacing, axis: int) -> Floats:
    """Mean step of soft tissue from each plane to the next, per block: (planes − 1, blocks).

    NaN where less than half of a block is soft tissue on both planes.
    """
    volume = np.moveaxis(hu, axis, 0)
    patient = _without_skin(np.moveaxis(inside, axis, 0), spacing_mm[axis])
    across = [s for n, s in enumerate(spacing_mm) if n != axis]
    rows, columns = (max(_LEAST_BLOCK, round(BLOCK_MM / s)) for s in across)
    steps = []
    before, was_tissue = _plane(volume[0], patient[0])
    for plane, body in zip(volume[1:], patient[1:], strict=True):
        after, is_tissue = _plane(plane, body)
        both = was_tissue & is_tissue
        step = np.where(both, np.clip(after - before, -_STEP_HU, _STEP_HU), 0.0)
        total, count = _blocked(step, rows, columns), _blocked(both, rows, columns)
        known = count >= 0.5 * rows * columns
        steps.append(np.where(known, total / np.maximum(count, 1), np.nan))
        before, was_tissue = after, is_tissue
    return np.asarray(steps, np.float64).reshape(len(steps), -1)


def _without_skin(inside: Mask, spacing_mm: float) -> Mask:
    """The patient without what lies within `SKIN_MM` of air along the first axis.

    Where skin, fat and muscle lie flat in a plane, they are steps that a whole plane shares.
    """
    reach = max(1, round(SKIN_MM / spacing_mm))
    line = np.ones((2 * reach + 1, 1, 1), dtype=bool)
    inner: Mask = ndimage.binary_erosion(inside, line, border_value=1)
    return inner


def _plane(plane: Hu, body: Mask) -> tuple[Hu, Mask]:
    values = plane.astype(np.float32)
    return values, body & (values > TISSUE_HU[0]) & (values < TISSUE_HU[1])


def _blocked(plane: Hu, rows: int, columns: int) -> Floats:
    """Sums over blocks of rows × columns; the last ones may be smaller."""
    starts = np.arange(0, plane.shape[0], rows), np.arange(0, plane.shape[1], columns)
    summed = np.add.reduceat(plane.astype(np.float64), starts[0], axis=0)
    total: Floats = np.add.reduceat(summed, starts[1], axis=1)
    return total


def _around(steps: Floats, distances: Sequence[int]) -> Floats:
    """Median of the planes at these distances on either side."""
    reach = max(distances)
    padded = np.pad(steps, ((reach, reach), (0, 0)), constant_values=np.nan)
    offsets = [sign * n for n in distances for sign in (-1, 1)]
    beside = [padded[reach + n : reach + n + len(steps)] for n in offsets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        middle: Floats = np.nanmedian(beside, axis=0)
    return middle
