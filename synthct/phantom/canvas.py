"""A slab of the voxel grid in the coordinates of the model body, and painting on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from synthct.labels.groups import BODY
from synthct.phantom.fields import Array, SmoothField
from synthct.phantom.part import Part
from synthct.phantom.person import Person
from synthct.phantom.shapes import Shape

Slices = tuple[slice, slice, slice]
Mask = npt.NDArray[np.bool_]


BEND_MM = (14.0, 14.0, 12.0)
"""Largest slow displacement of a point along x, y, z; a typical one is a fifth of it."""
RIPPLE_MM = 6.0
"""The same for the quicker displacement."""


@dataclass(eq=False)
class Canvas:
    """Voxel centres `world` (three axes, mm), where they lie in the model body, and labels."""

    person: Person
    world: tuple[Array, Array, Array]

    def __post_init__(self) -> None:
        shape = tuple(len(axis) for axis in self.world)
        self.labels = np.zeros(shape, dtype=np.uint8)

    @cached_property
    def model(self) -> tuple[Array, Array, Array]:
        """Model coordinates x, y, z of every voxel, each (i, j, k), mm."""
        x, y, z = (
            (axis.reshape([-1 if a == i else 1 for i in range(3)]) + self._bend(a))
            / np.float32(self.person.scale[a])
            for a, axis in enumerate(self.world)
        )
        bulge = np.exp(-(((z - 70) / 75) ** 2)) * np.clip((y + 10) / 110, 0, 1.2)
        return x, np.asarray(y - np.float32(self.person.belly_mm) * bulge, dtype=np.float32), z

    def _bend(self, axis: int) -> Array:
        slow = SmoothField(self.person.entropy(f"bend {axis}"), 95.0).on_grid(*self.world)
        quick = SmoothField(self.person.entropy(f"ripple {axis}"), 42.0).on_grid(*self.world)
        return np.asarray(BEND_MM[axis] * slow + RIPPLE_MM * quick, dtype=np.float32)

    @cached_property
    def noise(self) -> Array:
        """A bumpy field of spread about 1 for the roughness of surfaces."""
        coarse = SmoothField(self.person.entropy("coarse noise"), 26.0).on_grid(*self.world)
        fine = SmoothField(self.person.entropy("fine noise"), 11.0).on_grid(*self.world)
        return np.asarray(3.6 * coarse + 2.8 * fine, dtype=np.float32)

    @cached_property
    def _boxes(self) -> list[tuple[Array, Array]]:
        """Per axis, the least and greatest model coordinate in each plane of the grid."""
        out = []
        for axis, values in enumerate(self.model):
            others = tuple(a for a in range(3) if a != axis)
            out.append((values.min(axis=others), values.max(axis=others)))
        return out

    def slices(self, shape: Shape, margin_mm: float) -> Slices | None:
        """The planes that can hold a voxel of `shape`, or None."""
        low, high = shape.bounds
        found = []
        for axis, (least, greatest) in enumerate(self._boxes):
            touched = (greatest >= low[axis] - margin_mm) & (least <= high[axis] + margin_mm)
            planes = np.flatnonzero(touched)
            if not len(planes):
                return None
            found.append(slice(int(planes[0]), int(planes[-1]) + 1))
        return found[0], found[1], found[2]

    def inside(
        self, shape: Shape, *, grow_mm: float = 0.0, rough_mm: float = 0.0
    ) -> tuple[Slices, Mask] | None:
        """A box and the voxels of `shape` in it, its surface moved out by `grow_mm`."""
        margin = grow_mm + 3 * rough_mm
        whole = self.slices(shape, margin)
        if whole is None:
            return None
        mask = np.zeros(tuple(s.stop - s.start for s in whole), dtype=bool)
        for piece in shape.pieces:
            at = self.slices(piece, margin)
            if at is None:
                continue
            near = piece.distance(*(c[at] for c in self.model))
            limit = grow_mm + rough_mm * self.noise[at] if rough_mm else np.float32(grow_mm)
            within = tuple(
                slice(a.start - w.start, a.stop - w.start) for a, w in zip(at, whole, strict=True)
            )
            mask[within] |= near < limit
        return whole, mask

    def paint(self, part: Part) -> None:
        """Label the voxels of `part` that are in the body."""
        if part.halo_mm:
            self._fill(part, BODY, part.halo_mm)
        self._fill(part, part.id, 0.0)

    def _fill(self, part: Part, value: int, grow_mm: float) -> None:
        found = self.inside(part.shape, grow_mm=grow_mm, rough_mm=part.rough_mm)
        if found is None:
            return
        at, mask = found
        view = self.labels[at]
        if part.over is None:
            mask &= view > 0
        else:
            mask &= np.isin(view, list(part.over))
        if part.clip is not None:
            self._keep_inside(at, mask, part.clip)
        view[mask] = value

    def _keep_inside(self, at: Slices, mask: Mask, clip: Shape) -> None:
        x, y, z = (c[at][mask] for c in self.model)
        if x.size:
            mask[mask] = clip.distance(x, y, z) < 0
