"""Three planes out of a volume, turned the way radiologists look at them. Views, no full copies.

Display: the patient's right is on the left of axial and coronal pictures, anterior is at the top
of axial and at the left of sagittal pictures, superior is at the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from synthct.geometry import Geometry
from synthct.volume.volume import LabelVolume, Volume

PlaneName = Literal["axial", "coronal", "sagittal"]
Centre = tuple[int, int, int]

_NORMAL: dict[PlaneName, int] = {"axial": 2, "coronal": 1, "sagittal": 0}
PLANES: tuple[PlaneName, ...] = ("axial", "coronal", "sagittal")
LETTERS: dict[PlaneName, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
"""Left, right, top and bottom of each picture."""

_SAMPLES_PER_AXIS = 96
_AIR_HU = -500.0
_RICH = 0.85


@dataclass(frozen=True, eq=False)
class Slice:
    """One plane: `image` and `labels` (rows down, columns right), the size of a pixel in mm."""

    plane: PlaneName
    index: int
    """Voxel along R, A or S, counted in the volume turned to RAS."""
    count: int
    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None
    row_mm: float
    column_mm: float

    @property
    def extent_mm(self) -> tuple[float, float]:
        """Height and width."""
        return self.image.shape[0] * self.row_mm, self.image.shape[1] * self.column_mm


def three_slices(volume: Volume, labels: LabelVolume | None) -> tuple[Slice, ...]:
    """Axial, coronal and sagittal: where most structures are, else at the body's centre."""
    image = ras_view(volume.array, volume.geometry)
    ids = None if labels is None else ras_view(labels.array, volume.geometry)
    centre = centre_of(image) if ids is None or not _sample(ids).any() else richest(ids)
    spacing = volume.geometry.as_ras().spacing_mm
    return tuple(_cut(plane, centre, image, ids, spacing) for plane in PLANES)


def ras_view(array: npt.NDArray[Any], geometry: Geometry) -> npt.NDArray[Any]:
    """`array` with its axes towards R, A, S: the same memory, seen otherwise."""
    axes, flips = geometry.to_ras()
    view = array.transpose(axes)
    return view[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def centre_of(image: npt.NDArray[Any]) -> Centre:
    """Centre of mass of what is denser than air, found on a sparse sample; else the middle."""
    steps = _steps(image.shape)
    return _centre(_sample(image) > _AIR_HU, steps, image.shape)


def richest(ids: npt.NDArray[Any]) -> Centre:
    """Per axis a slice with many structures: nearest to the labels' centre of those that hold at
    least 85 % of the most that any slice holds."""
    steps = _steps(ids.shape)
    sample = _sample(ids)
    centre = _centre(sample > 0, steps, ids.shape)
    found = []
    for axis in range(3):
        planes = np.moveaxis(sample, axis, 0)
        counts = np.array([len(np.unique(plane)) for plane in planes])
        at = np.arange(len(planes)) * steps[axis]
        rich = at[counts >= _RICH * counts.max()]
        found.append(int(rich[np.abs(rich - centre[axis]).argmin()]))
    return found[0], found[1], found[2]


def _steps(shape: tuple[int, ...]) -> tuple[int, int, int]:
    i, j, k = (max(1, n // _SAMPLES_PER_AXIS) for n in shape)
    return i, j, k


def _sample(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Every so many voxels along each axis: a view of at most 200 to a side."""
    return array[tuple(slice(None, None, step) for step in _steps(array.shape))]


def _centre(
    inside: npt.NDArray[np.bool_], steps: tuple[int, int, int], shape: tuple[int, ...]
) -> Centre:
    total = int(inside.sum())
    if not total:
        return shape[0] // 2, shape[1] // 2, shape[2] // 2
    means = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        profile = inside.sum(axis=others)
        mean = float((profile * np.arange(len(profile))).sum()) / total
        means.append(min(round(mean * steps[axis]), shape[axis] - 1))
    return means[0], means[1], means[2]


def _cut(
    plane: PlaneName,
    centre: Centre,
    image: npt.NDArray[Any],
    ids: npt.NDArray[Any] | None,
    spacing_mm: tuple[float, float, float],
) -> Slice:
    normal = _NORMAL[plane]
    columns, rows = (axis for axis in range(3) if axis != normal)
    at = tuple(centre[a] if a == normal else slice(None) for a in range(3))  # take() would copy
    shown = np.nan_to_num(_turn(image[at]).astype(np.float32))
    drawn = None
    if ids is not None:
        drawn = _turn(ids[at]).astype(np.int64)
    return Slice(
        plane,
        centre[normal],
        image.shape[normal],
        shown,
        drawn,
        row_mm=spacing_mm[rows],
        column_mm=spacing_mm[columns],
    )


def _turn(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Axes (towards R or A, towards A or S) → rows down, columns right, as displayed.

    Columns run against R (right on the left) and against A (anterior on the left).
    """
    return picture.T[::-1, ::-1]
