"""From the field of view and the spacing asked for to the grids: written, and the network's."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from synthct.checkpoints.catalogue import Entry
from synthct.errors import GridError
from synthct.geometry import Geometry, Shape, Spacing
from synthct.models.settings import BODY_MARGIN
from synthct.volume.resample import to_ras
from synthct.volume.volume import LabelVolume
from synthct.workflows.telling import trained_shape

SPACING_MM = (0.1, 20.0)
"""What may be asked for; nothing finer is measured, nothing coarser is a volume."""

_AXES = ("left-right", "front-back", "head-foot")


@dataclass(frozen=True, eq=False)
class GridPlan:
    """Attributes:
    asked: the grid that is written: the mask's orientation.
    inner: the network's own: RAS, a spacing that it was trained on, the same corner. It covers
        the field of view; what is sampled is the box of the body in it, padded to the stride.
    notes: one-line remarks for the user.
    """

    asked: Geometry
    inner: Geometry
    notes: tuple[str, ...]

    @property
    def resampled(self) -> bool:
        return not np.allclose(self.asked.as_ras().spacing_mm, self.inner.spacing_mm, atol=1e-6)


def plan_grid(
    source: Geometry,
    spacing_mm: Spacing,
    entry: Entry,
    *,
    grid: Literal["asked", "input"] = "asked",
    force: bool = False,
) -> GridPlan:
    """The grids for the field of view of `source` at `spacing_mm` along its own voxel axes.

    Raises:
        GridError: the field of view is outside what the model was trained on, and not `force`.
    """
    low, high = SPACING_MM
    if not all(low <= spacing <= high for spacing in spacing_mm):
        raise GridError(
            f"a spacing of {_mm(spacing_mm)}: {low:g} to {high:g} mm is accepted",
            "spacing is in millimetres",
        )
    wanted = source.with_spacing(spacing_mm)
    written = source if grid == "input" else wanted
    ras = wanted.as_ras()
    notes = _judge_view(ras, entry, force)
    spacing = _nearest(ras, entry)
    if not np.allclose(spacing, ras.spacing_mm, atol=1e-6):
        finer = "coarser" if max(spacing) > max(ras.spacing_mm) else "finer"
        notes.append(
            f"{entry.name} was not trained at {_mm(ras.spacing_mm)}: sampled at {_mm(spacing)} "
            f"(R A S), {finer} than asked, and resampled"
        )
    elif grid == "input":
        notes.append(f"sampled at {_mm(spacing)} (R A S), written on the mask's own grid")
    return GridPlan(written, _trained(ras.with_spacing(spacing), entry), tuple(notes))


def padded(shape: Shape, multiple: int) -> Shape:
    """The shape that the network is fed: sides rounded up to `multiple`."""
    i, j, k = (ceil(n / multiple) * multiple for n in shape)
    return i, j, k


def body_box(labels: LabelVolume, inner: Geometry) -> Shape:
    """Voxels of `inner` that are sampled: the box of everything labelled with its margin.

    To a voxel: where exactly labels fall on the other grid is known once they are resampled.
    """
    ras = to_ras(labels)
    sides = []
    for axis, spacing in enumerate(ras.geometry.spacing_mm):
        hit = np.flatnonzero(ras.array.any(axis=tuple(a for a in range(3) if a != axis)))
        extent = (int(hit[-1]) + 1 - int(hit[0])) * spacing / inner.spacing_mm[axis]
        sides.append(min(ceil(extent) + 1 + 2 * BODY_MARGIN, inner.shape[axis]))
    return sides[0], sides[1], sides[2]


def _nearest(ras: Geometry, entry: Entry) -> Spacing:
    """Inside the trained range; where only certain sizes are trained, so coarse that one fits."""
    i, j, k = (
        min(max(s, low), high)
        for s, (low, high) in zip(ras.spacing_mm, entry.spacing_range_mm, strict=True)
    )
    if entry.sizes is None:
        return i, j, k
    least = [mm / n for mm, n in zip(ras.extent_mm, entry.shape_max, strict=True)]
    i = j = max(i, j, least[0], least[1]) if entry.sizes.square else max(i, least[0])
    return i, j, max(k, least[2])


def _trained(inner: Geometry, entry: Entry) -> Geometry:
    """With voxels of air beyond its far sides, up to a size that the model was trained on."""
    return Geometry(trained_shape(inner.shape, entry), inner.affine)


def _judge_view(ras: Geometry, entry: Entry, force: bool) -> list[str]:
    wrong = [
        f"{axis} {extent:.0f} mm (trained on {low:g} to {high:g})"
        for axis, extent, voxel, low, high in zip(
            _AXES, ras.extent_mm, ras.spacing_mm, entry.fov_min_mm, entry.fov_max_mm, strict=True
        )
        if not low - voxel < extent < high + voxel  # a view is covered by whole voxels
    ]
    if wrong and not force:
        nearest = _mm(
            tuple(  # type: ignore[arg-type]
                min(max(extent, low), high)
                for extent, low, high in zip(
                    ras.extent_mm, entry.fov_min_mm, entry.fov_max_mm, strict=True
                )
            )
        )
        raise GridError(
            f"field of view outside what {entry.name} was trained on: {'; '.join(wrong)}",
            f"the nearest valid one is {nearest} (R A S); --force goes on regardless",
        )
    return [f"field of view outside the training, forced: {'; '.join(wrong)}"] if wrong else []


def _mm(values: Spacing) -> str:
    return " x ".join(f"{v:.4g}" for v in values) + " mm"
