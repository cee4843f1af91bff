"""One grid to another. Images keep their edges soft, labels keep their small structures.

Grids that share their axes (every grid derived by `Geometry.with_spacing`, any flip or
permutation of it) are resampled one axis at a time; others go through SimpleITK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from synthct.geometry import FloatArray, Geometry
from synthct.volume.intensity import AIR_HU
from synthct.volume.volume import LabelVolume, Volume

AnyVolume = TypeVar("AnyVolume", Volume, LabelVolume)
_DRIFT_VOXELS = 1e-2  # off-axis drift over the whole grid below which axes count as shared


@dataclass(frozen=True, eq=False)
class _AxisMap:
    """Along one target axis: the `source` axis and the source coordinate of each target voxel."""

    source: int
    coordinates: FloatArray
    length: int  # of the source axis

    @property
    def step(self) -> float:
        """Source voxels per target voxel."""
        c = self.coordinates
        return abs(float(c[1] - c[0])) if len(c) > 1 else 1.0

    @property
    def outside(self) -> npt.NDArray[np.bool_]:
        c = self.coordinates
        return np.asarray((c < -0.5 - 1e-6) | (c > self.length - 0.5 + 1e-6))

    def nearest(self) -> npt.NDArray[np.intp]:
        rounded = np.floor(self.coordinates + 0.5 + 1e-9).astype(np.intp)
        return np.clip(rounded, 0, self.length - 1)


def resample_image(
    volume: Volume, geometry: Geometry, order: int = 1, *, cval: float | None = None
) -> Volume:
    """`volume` on `geometry`, float32: linear (order 1) or nearest (order 0).

    Where the target is coarser, the linear kernel widens with it, so that nothing aliases.
    Voxels outside the source's field of view get `cval` (default -1000 HU; 0 for MR).
    """
    fill = (AIR_HU if volume.modality == "CT" else 0.0) if cval is None else cval
    maps = _shared_axes(volume.geometry, geometry)
    if maps is None:
        array = _resample_oblique(volume.array, volume.geometry, geometry, order, fill)
    elif order == 0:
        array = _pick(volume.array, maps, fill).astype(np.float32, copy=False)
    else:
        array = _interpolate(volume.array, maps, fill)
    return Volume(array, geometry, volume.modality)


def _shared_axes(source: Geometry, target: Geometry) -> tuple[_AxisMap, ...] | None:
    """The three axis maps from target to source, or None where the axes are not parallel."""
    to_source = source.voxel_map_from(target)
    matrix = to_source[:3, :3]
    partner = np.argmax(np.abs(matrix), axis=0)
    if sorted(partner) != [0, 1, 2]:
        return None
    off_axis = np.abs(matrix).copy()
    off_axis[partner, np.arange(3)] = 0.0
    if float((off_axis @ np.asarray(target.shape)).max()) > _DRIFT_VOXELS:
        return None
    return tuple(
        _AxisMap(
            source=int(s),
            coordinates=matrix[s, t] * np.arange(target.shape[t]) + to_source[s, 3],
            length=source.shape[s],
        )
        for t, s in enumerate(partner)
    )


def _pick(array: npt.NDArray[Any], maps: tuple[_AxisMap, ...], fill: float) -> npt.NDArray[Any]:
    """The nearest source voxel for every target voxel (of the target's shape)."""
    picked = array.transpose([m.source for m in maps])
    for axis in _cheapest_first(maps):
        picked = np.take(picked, maps[axis].nearest(), axis=axis)
    return _fill_outside(np.ascontiguousarray(picked), maps, fill)


def _interpolate(
    array: npt.NDArray[Any], maps: tuple[_AxisMap, ...], fill: float
) -> npt.NDArray[np.float32]:
    mixed = array.transpose([m.source for m in maps])
    for axis in _cheapest_first(maps):
        mixed = _along(mixed, maps[axis], axis)
    return _fill_outside(mixed, maps, fill)


def _cheapest_first(maps: tuple[_AxisMap, ...]) -> list[int]:
    """Shrink before growing; of equals the last axis first, as the first is the fastest."""
    return sorted(range(3), key=lambda t: (len(maps[t].coordinates) / maps[t].length, -t))


def _along(array: npt.NDArray[Any], axis_map: _AxisMap, axis: int) -> npt.NDArray[np.float32]:
    """Multiply one axis of `array` by the interpolation matrix, slice by slice."""
    weights = _linear_weights(axis_map)
    shape = list(array.shape)
    shape[axis] = len(axis_map.coordinates)
    out = np.empty(shape, dtype=np.float32)
    if axis == 0:
        for j in range(shape[1]):
            out[:, j] = weights @ np.asarray(array[:, j], dtype=np.float32)
        return out
    for i in range(shape[0]):
        plane = np.asarray(array[i], dtype=np.float32)
        out[i] = weights @ plane if axis == 1 else (weights @ plane.T).T
    return out


def _linear_weights(axis_map: _AxisMap) -> Any:
    """Sparse (target, source) float32: triangles as wide as the coarser of the two grids."""
    from scipy import sparse

    width = max(1.0, axis_map.step)
    reach = int(np.ceil(width))
    centre = np.clip(axis_map.coordinates, 0.0, axis_map.length - 1.0)
    taps = np.floor(centre).astype(np.intp)[:, None] + np.arange(-reach + 1, reach + 1)
    weights = np.clip(1.0 - np.abs(taps - centre[:, None]) / width, 0.0, None)
    weights[(taps < 0) | (taps >= axis_map.length)] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(centre)), taps.shape[1])
    keep = weights.ravel() > 0
    entries = (weights.ravel()[keep], (rows[keep], taps.ravel()[keep]))
    shape = (len(centre), axis_map.length)
    return sparse.csr_matrix(entries, shape=shape, dtype=np.float32)


def _fill_outside(
    array: npt.NDArray[Any], maps: tuple[_AxisMap, ...], fill: float
) -> npt.NDArray[Any]:
    for axis, axis_map in enumerate(maps):
        if axis_map.outside.any():
            array[(slice(None),) * axis + (axis_map.outside,)] = fill
    return array


def _resample_oblique(
    array: npt.NDArray[Any], source: Geometry, target: Geometry, order: int, fill: float
) -> npt.NDArray[Any]:
    """Through SimpleITK, in voxel coordinates: axes that are not parallel."""
    import SimpleITK

    to_source = source.voxel_map_from(target)
    if order > 0:
        array = _smooth_for(array, to_source)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(to_source[:3, :3].ravel().tolist())
    transform.SetTranslation(to_source[:3, 3].tolist())
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize(list(target.shape))
    resampler.SetTransform(transform)
    resampler.SetInterpolator(SimpleITK.sitkLinear if order > 0 else SimpleITK.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(fill)
    result = SimpleITK.GetArrayFromImage(resampler.Execute(image))
    return np.ascontiguousarray(result.T)


def _smooth_for(array: npt.NDArray[Any], to_source: FloatArray) -> npt.NDArray[np.float32]:
    from scipy import ndimage

    smooth = np.asarray(array, dtype=np.float32)
    for axis, step in enumerate(np.linalg.norm(to_source[:3, :3], axis=1)):
        if step > 1.2:
            sigma = 0.42 * float(np.sqrt(step**2 - 1.0))
            smooth = ndimage.gaussian_filter1d(smooth, sigma, axis=axis, mode="nearest")
    return smooth


def resample_labels(labels: LabelVolume, geometry: Geometry) -> tuple[LabelVolume, tuple[int, ...]]:
    """`labels` on `geometry` (same dtype), and the ids that could not be kept.

    Each target voxel takes the label at its centre. A structure that no centre meets is then
    put into the voxel that it covers best, unless that would erase another structure.
    """
    maps = _shared_axes(labels.geometry, geometry)
    if maps is None:
        array = _resample_oblique(labels.array, labels.geometry, geometry, 0, 0.0)
    else:
        array = _pick(labels.array, maps, 0)
    moved = LabelVolume(array, geometry, labels.scheme, labels.names)
    before, after = labels.counts(), moved.counts()
    missing = sorted((i for i in before if i not in after), key=lambda i: before[i])
    lost = tuple(i for i in missing if not _rescue(i, labels, moved, after))
    return moved, tuple(sorted(lost))


def _rescue(label: int, source: LabelVolume, target: LabelVolume, counts: dict[int, int]) -> bool:
    """Write `label` into its best covered voxel of `target.array`; keep `counts` true."""
    where = np.argwhere(source.array == label)
    to_target = target.geometry.voxel_map_from(source.geometry)
    reached = np.floor(where @ to_target[:3, :3].T + to_target[:3, 3] + 0.5).astype(np.intp)
    reached = reached[np.all((reached >= 0) & (reached < target.geometry.shape), axis=1)]
    voxels, coverage = np.unique(reached, axis=0, return_counts=True)
    for voxel in voxels[np.argsort(-coverage, kind="stable")]:
        at = tuple(int(v) for v in voxel)
        occupant = int(target.array[at])
        if occupant == 0 or counts[occupant] > 1:
            target.array[at] = label
            counts[label] = 1
            if occupant:
                counts[occupant] -= 1
            return True
    return False


def to_ras(volume: AnyVolume) -> AnyVolume:
    """The same voxels with i, j, k growing towards right, anterior, superior: flips only."""
    axes, flips = volume.geometry.to_ras()
    array = np.flip(volume.array.transpose(axes), _flipped(flips))
    return _moved(volume, np.ascontiguousarray(array), volume.geometry.as_ras())


def from_ras(volume: AnyVolume, original: Geometry) -> AnyVolume:
    """The inverse of `to_ras`: `volume` lies on `original.as_ras()` and goes back to `original`."""
    seen = ras_as(volume, original)
    return _moved(seen, np.ascontiguousarray(seen.array), original)


def ras_as(volume: AnyVolume, original: Geometry) -> AnyVolume:
    """`from_ras` without a copy: the same memory, seen in the order of `original`."""
    axes, flips = original.to_ras()
    array = np.flip(volume.array, _flipped(flips)).transpose(np.argsort(axes))
    return _moved(volume, array, original)


def _flipped(flips: tuple[bool, bool, bool]) -> tuple[int, ...]:
    return tuple(axis for axis, flip in enumerate(flips) if flip)


def _moved(volume: AnyVolume, array: npt.NDArray[Any], geometry: Geometry) -> AnyVolume:
    if isinstance(volume, Volume):
        return Volume(array, geometry, volume.modality)
    return LabelVolume(array, geometry, volume.scheme, volume.names)
