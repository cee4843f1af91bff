"""Labels of a scan on its prepared grid: from their file by where it lies, and the planes they are
good for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import GridError, InputError
from synthct.geometry import Geometry
from synthct.labels.body import with_body
from synthct.labels.detect import detect
from synthct.labels.groups import BODY
from synthct.labels.pseudo import PseudoLabels
from synthct.labels.remap import remap
from synthct.volume.prepared import conformed
from synthct.volume.reading import read_labels
from synthct.volume.resample import resample_labels, to_ras
from synthct.volume.volume import LabelVolume
from synthct.workflows.cases import CasePlan

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
_SAME_VOXELS = 0.1  # corners of two grids nearer than this share of a voxel: rounded headers
_LEAST_SHARED = 0.1  # of the smaller field of view
_BRAIN_SHARE = 0.3  # of the largest plane
_COVERED = 0.5  # planes of which labels or atlas cover less than this are cut off a pair


@dataclass(frozen=True, eq=False)
class GridLabels:
    """`labels` (i, j, k) in MAISI ids, and where their file had a field of view at all."""

    labels: Labels
    covered: Mask

    def planes(self, body: npt.NDArray[Any]) -> slice:
        """The axial planes worth keeping: all where the file covers the scan."""
        if self.covered.all():
            return slice(0, self.covered.shape[2])
        return covered_planes(self.covered, body)


def own_labels(plan: CasePlan, grid: Geometry, finest_mm: float) -> GridLabels:
    """Complete labels of a case in MAISI ids on its `grid`, prepared with `finest_mm`.

    Raises:
        InputError: no label file, ids that nobody knows, or labels of another place.
    """
    volume = _read(plan)
    scheme = detect(volume.ids(), volume.names, plan.scheme or None).scheme
    labels, _ = remap(volume.array, scheme, unknown="body")
    return on_grid(volume.with_array(np.where(labels == BODY, 0, labels)), grid, finest_mm)


def real_labels(
    plan: CasePlan,
    body: npt.NDArray[Any],
    grid: Geometry,
    finest_mm: float,
) -> tuple[PseudoLabels, slice]:
    """The file's complete labels, known where it covers the body, and the planes worth keeping."""
    own = own_labels(plan, grid, finest_mm)
    known = (own.covered | ~body).astype(np.uint8)
    return PseudoLabels(with_body(own.labels, body), known, ()), own.planes(body)


def unseen_labels(
    plan: CasePlan, body: npt.NDArray[Any], grid: Geometry, finest_mm: float
) -> Labels:
    """The mask to judge an unseen scan by, on its whole `grid`: as its pair would have it.

    Planes that a pair would leave out are 0: nothing is known there, not even that it is body.
    """
    found, planes = real_labels(plan, body, grid, finest_mm)
    labels = np.zeros_like(found.labels)
    labels[:, :, planes] = found.labels[:, :, planes]
    return labels


def file_labels(plan: CasePlan, grid: Geometry, finest_mm: float) -> Labels:
    """Partial labels of a case, its `ids` translated, on its prepared `grid`.

    Raises:
        InputError: no label file, or labels of another place.
    """
    volume = _read(plan)
    table = np.zeros(max(256, int(volume.array.max()) + 1), np.uint8)
    for own, maisi in plan.ids.items():
        table[own] = maisi
    return on_grid(volume.with_array(table[volume.array]), grid, finest_mm).labels


def _read(plan: CasePlan) -> LabelVolume:
    if plan.label_file is None:
        raise InputError(f"{plan.case}: no label file")
    return read_labels(plan.label_file).labels


def on_grid(labels: LabelVolume, grid: Geometry, finest_mm: float) -> GridLabels:
    """`labels` resampled to the `grid` of their scan, prepared with `finest_mm`, by their place.

    Where the files' geometries agree but for rounding, voxels stay with their voxels.

    Raises:
        GridError: the two have hardly any place in common.
    """
    upright = to_ras(labels)
    own = conformed(upright.geometry, finest_mm)
    agreed = _agree(own, grid)
    target = own if agreed else grid
    if target.same_as(upright.geometry):
        moved = upright.array
    else:
        moved = resample_labels(upright, target)[0].array
    covered = np.ones(grid.shape, np.bool_) if agreed else _covered(upright, grid)
    _require_overlap(upright, moved, covered, grid)
    return GridLabels(np.ascontiguousarray(moved, dtype=np.uint8), covered)


def _agree(one: Geometry, other: Geometry) -> bool:
    """Whether two grids are one, to a tenth of a voxel at every corner."""
    if one.shape != other.shape:
        return False
    corners = np.array(list(product(*((0.0, n - 1.0) for n in one.shape))))
    there = other.voxel_map_from(one)
    moved = corners @ there[:3, :3].T + there[:3, 3]
    return float(np.abs(moved - corners).max()) < _SAME_VOXELS


def _covered(labels: LabelVolume, grid: Geometry) -> Mask:
    """Voxels of `grid` whose centre lies in the field of view of `labels`."""
    everywhere = labels.with_array(np.ones(labels.array.shape, np.uint8))
    return np.asarray(resample_labels(everywhere, grid)[0].array > 0)


def _require_overlap(
    labels: LabelVolume, moved: npt.NDArray[Any], covered: Mask, grid: Geometry
) -> None:
    smaller = min(float(np.prod(g.extent_mm)) for g in (grid, labels.geometry))
    share = float(covered.sum()) * grid.voxel_mm3 / smaller
    if share < _LEAST_SHARED:
        raise GridError(
            f"the labels lie elsewhere than the scan: their fields of view share {share:.0%}",
            "are they of this scan? compare origin and orientation of both files",
        )
    if labels.array.any() and not moved.any():
        raise GridError(
            "no labelled voxel lies in the scan's field of view",
            "are they of this scan? compare origin and orientation of both files",
        )


def drawn_over(found: PseudoLabels, own: Labels, plan: CasePlan) -> PseudoLabels:
    """The file's partial labels over the pseudo-labels, known where they stand."""
    there = own > 0
    labels = np.where(there, own, found.labels).astype(np.uint8)
    known = np.where(there, np.uint8(1), found.known).astype(np.uint8)
    dropped = tuple(i for i in found.dropped if i not in set(plan.ids.values()))
    return PseudoLabels(labels, known, dropped)


def covered_planes(covered: npt.NDArray[Any], body: npt.NDArray[Any]) -> slice:
    """The axial planes of whose body labels or an atlas cover most."""
    share = (covered & body).sum(axis=(0, 1)) / np.maximum(body.sum(axis=(0, 1)), 1)
    return _span(share > _COVERED, "the labels or the atlas cover no plane of the scan")


def brain_planes(mask: npt.NDArray[Any]) -> slice:
    """The axial planes with much of the brain: below them, bone is not only skull."""
    area = np.asarray(mask.sum(axis=(0, 1)))
    return _span((area > 0) & (area > _BRAIN_SHARE * area.max()), "no brain was found in the scan")


def _span(planes: npt.NDArray[Any], otherwise: str) -> slice:
    where = np.flatnonzero(planes)
    if where.size == 0:
        raise InputError(otherwise)
    return slice(int(where[0]), int(where[-1]) + 1)
