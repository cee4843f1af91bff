"""A mask's labels on the grids of a run: the network's own, and the one that is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from synthct.geometry import Geometry
from synthct.labels.scheme import maisi_name
from synthct.volume.intensity import AIR_HU
from synthct.volume.resample import from_ras, ras_as, resample_image, resample_labels, to_ras
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.grid import GridPlan
from synthct.workflows.mask import UnderstoodMask

_BEYOND = 8  # planes: further than the networks' blur reaches


@dataclass(frozen=True, eq=False)
class Placement:
    """Attributes:
    inner: what is sampled: labels on the network's grid, or that grid where there is no mask.
    written: the labels on the grid asked for, to judge and to write.
    lost: MAISI ids that no voxel of the grid asked for holds.
    notes: one-line remarks for the user.
    """

    inner: LabelVolume | Geometry
    written: LabelVolume | None = None
    lost: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelsOut:
    """What goes into the label file: the map (None without a mask), its names, its scheme."""

    labels: LabelVolume | None
    names: dict[int, str]
    scheme: str


def place(mask: UnderstoodMask | None, grid: GridPlan) -> Placement:
    """The labels of `mask` on both grids."""
    if mask is None:
        return Placement(grid.inner)
    own = to_ras(mask.labels)
    inner, missed = resample_labels(own, grid.inner)
    _go_on_beyond(own.geometry, inner)
    written, lost = resample_labels(mask.labels, grid.asked)
    notes = []
    if missed:
        notes.append(f"too small for the network's grid: {_names_of(missed)}")
    if lost:
        notes.append(f"lost on the grid asked for: {_names_of(lost)}")
    return Placement(inner, written, lost, tuple(notes))


def _go_on_beyond(seen: Geometry, inner: LabelVolume) -> None:
    """Repeat the last planes of the field of view `seen` where `inner` reaches past it, in place.

    The sides of the network's grid are rounded up. A patient who is cut off by the field of view
    would end there in a plane of skin, which the network draws, and which would show as a seam.
    Both grids are RAS, with the same corner.
    """
    for axis, (count, own, new) in enumerate(
        zip(seen.shape, seen.spacing_mm, inner.geometry.spacing_mm, strict=True)
    ):
        planes = np.moveaxis(inner.array, axis, 0)
        held = min(len(planes), max(1, round(count * own / new - 1e-6)))  # centres inside
        planes[held : held + _BEYOND] = planes[held - 1]


def on_asked_grid(inner: Volume, grid: GridPlan, written: LabelVolume | None) -> Volume:
    """A sampled volume on the grid asked for; −1000 where the label is 0, nothing else."""
    if inner.array.dtype == np.int16:
        return _where_it_lies(inner, grid.asked, written)
    target = grid.asked.as_ras()
    moved = inner if inner.geometry.same_as(target) else resample_image(inner, target)
    rounded = np.rint(from_ras(moved, grid.asked).array)
    hu = np.clip(rounded, -32768, 32767, out=rounded).astype(np.int16)
    if written is not None:
        hu[written.array == 0] = int(AIR_HU)
    return Volume(hu, grid.asked, inner.modality)


def _where_it_lies(inner: Volume, asked: Geometry, written: LabelVolume | None) -> Volume:
    """The same for a volume that is rounded and streamed: its own file, seen in another order."""
    seen = ras_as(inner, asked)
    if written is not None:
        for plane, ids in zip(seen.array, written.array, strict=True):
            plane[ids == 0] = int(AIR_HU)
    return seen


def labels_out(
    placement: Placement,
    mask: UnderstoodMask | None,
    grid: GridPlan,
    ids: Literal["model", "input"],
) -> LabelsOut:
    """The label file in MAISI ids, or in those that came in."""
    if mask is None or placement.written is None:
        return LabelsOut(None, {}, "maisi")
    if ids == "model":
        written = placement.written
        return LabelsOut(written, {i: maisi_name(i) for i in written.ids()}, "maisi")
    own, _ = resample_labels(mask.original, grid.asked)
    names = mask.scheme.labels
    return LabelsOut(own, {i: names.get(i, str(i)) for i in own.ids()}, mask.scheme.name)


def _names_of(ids: tuple[int, ...]) -> str:
    return ", ".join(maisi_name(i) for i in ids)
