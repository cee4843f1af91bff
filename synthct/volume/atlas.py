"""Carry the labels of one scan over to another: affine, then demons, with SimpleITK.

Arrays are RAS, indexed (i, j, k), with a spacing in mm; the origin is the first voxel's centre.
Registration looks at *features*, HU squeezed so that fat, soft tissue and bone lie at even
steps and a contrast bolus counts little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.errors import InputError
from synthct.geometry import Spacing

HuArray = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Features = npt.NDArray[np.float32]

_FEATURE_HU = (-1000.0, -850.0, -250.0, -100.0, 30.0, 150.0, 350.0, 1000.0)
_FEATURE_AT = (0.0, 0.12, 0.30, 0.45, 0.70, 0.80, 1.0, 1.05)
_WORK_MM = 4.0
_SEARCH_MM = 8.0
_LEAST_OVERLAP_MM = 40.0


@dataclass(frozen=True, eq=False)
class Atlas:
    """A labelled scan: `hu` and `labels` (MAISI ids) of one shape, air outside the body."""

    name: str
    hu: HuArray
    labels: Labels
    spacing_mm: Spacing

    def __post_init__(self) -> None:
        if self.hu.shape != self.labels.shape:
            raise InputError(
                f"atlas {self.name}: image {self.hu.shape}, labels {self.labels.shape}"
            )


@dataclass(frozen=True, eq=False)
class Transfer:
    """What came over: `labels` on the target's grid, `covered` where the atlas had anything to
    say, and `similarity`, the correlation of both scans' features there (1: the same)."""

    labels: Labels
    covered: Mask
    similarity: float


def features(hu: HuArray) -> Features:
    """HU → [0, 1.05], piecewise linear."""
    return np.interp(hu, _FEATURE_HU, _FEATURE_AT).astype(np.float32)


def transfer(hu: HuArray, spacing_mm: Spacing, atlas: Atlas, *, threads: int = 1) -> Transfer:
    """Register `atlas` to the scan `hu` and bring its labels over.

    Raises:
        InputError: the two scans share less than 40 mm of the body's length.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    fixed = _image(_at(features(hu), spacing_mm, _WORK_MM), _WORK_MM)
    moving = _image(_at(features(atlas.hu), atlas.spacing_mm, _WORK_MM), _WORK_MM)
    start = _coarse_alignment(hu, spacing_mm, atlas)
    affine = _affine(fixed, moving, start)
    whole = _demons(fixed, moving, affine)
    return _bring_over(hu, spacing_mm, atlas, whole)


def fuse(transfers: Sequence[Transfer]) -> Transfer:
    """Several transfers onto one grid as one: from the top of the body down, each up to the
    middle of its overlap with the next."""
    if not transfers:
        raise InputError("no atlas could be transferred")
    order = sorted(transfers, key=lambda t: -float(np.flatnonzero(_planes(t)).mean()))
    labels, covered = order[0].labels.copy(), order[0].covered.copy()
    for lower in order[1:]:
        bottom = int(np.flatnonzero(covered.any(axis=(0, 1)))[0])
        top = int(np.flatnonzero(_planes(lower))[-1])
        border = (bottom + top) // 2 + 1
        labels[:, :, :border] = lower.labels[:, :, :border]
        covered |= lower.covered
    return Transfer(labels, covered, min(t.similarity for t in order))


def _planes(transferred: Transfer) -> Mask:
    """Per axial plane: does the atlas cover any of it?"""
    planes = transferred.covered.any(axis=(0, 1))
    if not planes.any():
        raise InputError("an atlas covers nothing of the scan")
    return np.asarray(planes)


# ── coarse: body size, then a search along the body ──────────────────────────────────────────


def _coarse_alignment(hu: HuArray, spacing_mm: Spacing, atlas: Atlas) -> Any:
    """An affine (target mm → atlas mm): body width and depth matched, best shift along k."""
    import SimpleITK as sitk

    target = _at(features(hu), spacing_mm, _SEARCH_MM)
    source = _at(features(atlas.hu), atlas.spacing_mm, _SEARCH_MM)
    best = (np.inf, np.eye(3), np.zeros(3))
    for stretch in (0.9, 1.0, 1.1):
        for shift_mm in np.arange(-source.shape[2], target.shape[2]) * _SEARCH_MM:
            trial = _trial(target, source, float(shift_mm), stretch)
            if trial is not None and trial[0] < best[0]:
                best = trial
    if not np.isfinite(best[0]):
        raise InputError(f"atlas {atlas.name} and the scan share no {_LEAST_OVERLAP_MM:g} mm")
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(best[1].ravel().tolist())
    affine.SetTranslation(best[2].tolist())
    return affine


def _trial(
    target: Features, source: Features, shift_mm: float, stretch: float
) -> tuple[float, npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Mean squared difference over the slices shared when the atlas starts at `shift_mm`."""
    step = _SEARCH_MM * stretch
    low = max(0, int(np.ceil(shift_mm / _SEARCH_MM)))
    high = min(target.shape[2], int((shift_mm + source.shape[2] * step) / _SEARCH_MM))
    least = min(0.6 * min(target.shape[2], source.shape[2] * stretch), 20)
    if high - low < max(least, _LEAST_OVERLAP_MM / _SEARCH_MM):
        return None
    fixed = target[:, :, low:high]
    at_k = (np.arange(low, high) * _SEARCH_MM - shift_mm) / step
    there = source[:, :, np.clip(np.rint(at_k).astype(int), 0, source.shape[2] - 1)]
    (centre, size), (centre_there, size_there) = _body_box(fixed), _body_box(there)
    scale = np.array([*(size_there / size), 1.0 / stretch])
    offset = np.array([*(centre_there - scale[:2] * centre), 0.0])
    moved = ndimage.affine_transform(
        there, [*scale[:2], 1.0], offset=offset, output_shape=fixed.shape, order=1
    )
    error = float(np.mean((moved - fixed) ** 2)) / max(float(fixed.mean()), 1e-3)
    translation = np.array([*(offset[:2] * _SEARCH_MM), -shift_mm / stretch])
    return error - 0.0001 * (high - low), np.diag(scale), translation


def _body_box(part: Features) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Centre and size (voxels, i and j) of what is denser than lung in the median slice."""
    inside = part > 0.3
    centres, sizes = [], []
    for axis in (0, 1):
        profile = inside.any(axis=1 - axis).astype(bool)
        first = np.argmax(profile, axis=0)
        last = profile.shape[0] - 1 - np.argmax(profile[::-1], axis=0)
        centres.append(float(np.median((first + last) / 2)))
        sizes.append(max(float(np.median(last - first + 1)), 1.0))
    return np.array(centres), np.array(sizes)


# ── fine ──────────────────────────────────────────────────────────────────────────────────────


def _affine(fixed: Any, moving: Any, start: Any) -> Any:
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.15)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 80, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([3, 2])
    method.SetSmoothingSigmasPerLevel([1.5, 1.0])
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def _demons(fixed: Any, moving: Any, affine: Any) -> Any:
    """The affine followed by a smooth displacement found by demons, coarse to fine."""
    import SimpleITK as sitk

    part = _covered_slab(fixed, moving, affine)
    moved = sitk.Resample(moving, part, affine, sitk.sitkLinear, 0.0)
    field = None
    for shrink, rounds, smooth in ((2, 60, 1.5), (1, 40, 1.8)):
        small = [_smaller(image, shrink) for image in (part, moved)]
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfIterations(rounds)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(smooth)
        if field is None:
            field = demons.Execute(*small)
        else:
            field = demons.Execute(*small, sitk.Resample(field, small[0]))
    displacement = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    return sitk.CompositeTransform([affine, displacement])


def _covered_slab(fixed: Any, moving: Any, affine: Any) -> Any:
    """`fixed` cut to the slices for which the atlas has an image."""
    import SimpleITK as sitk

    ones = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(moving)
    there = sitk.GetArrayViewFromImage(sitk.Resample(ones, fixed, affine, sitk.sitkNearestNeighbor))
    rows = np.flatnonzero(there.mean(axis=(1, 2)) > 0.2)
    if rows.size * _WORK_MM < _LEAST_OVERLAP_MM:
        raise InputError(f"the atlas and the scan share less than {_LEAST_OVERLAP_MM:g} mm")
    return fixed[:, :, int(rows[0]) : int(rows[-1]) + 1]


def _smaller(image: Any, shrink: int) -> Any:
    import SimpleITK as sitk

    smooth = sitk.SmoothingRecursiveGaussian(image, 0.5 * shrink * _WORK_MM)
    return sitk.Shrink(smooth, [shrink] * 3) if shrink > 1 else smooth


def _bring_over(hu: HuArray, spacing_mm: Spacing, atlas: Atlas, whole: Any) -> Transfer:
    import SimpleITK as sitk

    grid = _image(np.zeros(hu.shape, np.float32), spacing_mm)
    labels = sitk.Resample(
        _image(atlas.labels, atlas.spacing_mm), grid, whole, sitk.sitkNearestNeighbor, 0.0
    )
    there = sitk.Resample(
        _image(features(atlas.hu), atlas.spacing_mm), grid, whole, sitk.sitkLinear, -1.0
    )
    moved, seen = _array(there), features(hu)
    covered = moved >= 0
    inside = covered & ((seen > 0.05) | (moved > 0.05))
    similarity = float(np.corrcoef(seen[inside], moved[inside])[0, 1]) if inside.any() else 0.0
    return Transfer(_array(labels).astype(np.uint8), covered, similarity)


# ── arrays and ITK images ─────────────────────────────────────────────────────────────────────


def _at(array: Features, spacing_mm: Spacing, wanted_mm: float) -> Features:
    """`array` averaged and resampled to cubic voxels; voxel (0, 0, 0) keeps its centre."""
    ratio = np.array([wanted_mm / s for s in spacing_mm])
    smooth = ndimage.gaussian_filter(array, np.maximum(0.0, 0.4 * (ratio - 1)))
    shape = [max(1, int((n - 1) / r) + 1) for n, r in zip(array.shape, ratio, strict=True)]
    return np.asarray(ndimage.affine_transform(smooth, ratio, output_shape=shape, order=1))


def _image(array: npt.NDArray[Any], spacing_mm: Spacing | float) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    spacing = (spacing_mm,) * 3 if isinstance(spacing_mm, float) else spacing_mm
    image.SetSpacing([float(s) for s in spacing])
    return image


def _array(image: Any) -> npt.NDArray[Any]:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(image).T)
