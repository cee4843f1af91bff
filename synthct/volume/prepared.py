"""One prepared case: arrays on a RAS grid in an `.npz`, whole or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.atomic import replacing
from synthct.errors import GridError, InputError, UsageError
from synthct.geometry import Geometry, Spacing
from synthct.volume.intensity import HU_MAX, HU_MIN, MR_SCALE, percentile_units
from synthct.volume.resample import resample_image, to_ras
from synthct.volume.volume import Volume

LEAST_SPACING_MM = 2.0
_MOST_LEAST_MM = 10.0  # coarser than any scan's slices: no length, but a slip of the keyboard
_TOLERANCE = 0.98
_DARKEST_HU = -50.0  # a crop inside the body still has fat; stored values begin at 0
_LEAST_RANGE_HU = 80.0
_OBLIQUE = 0.45  # direction cosine off axis: a tilted gantry (up to 26 degrees) stays as scanned


def require_hu(array: npt.NDArray[Any]) -> None:
    """Refuse a CT whose values cannot be HU.

    Raises:
        InputError: nothing is as dark as air or fat, or nothing is denser than water.
    """
    finite = array[np.isfinite(array)]
    low, high = (float(v) for v in np.percentile(finite, (0.1, 99.9))) if finite.size else (0, 0)
    if low > _DARKEST_HU or high < 0 or high - low < _LEAST_RANGE_HU:
        raise InputError(
            f"values from {low:g} to {high:g} are no Hounsfield units",
            "apply the scanner's slope and intercept; is it MR? then --modality MR",
        )


def require_finest(finest_mm: float) -> None:
    """Refuse a finest spacing that cannot be one.

    Raises:
        UsageError: no finite length from above 0 to 10 mm.
    """
    if not 0 < finest_mm <= _MOST_LEAST_MM:  # NaN is in no range
        raise UsageError(
            f"finest spacing {finest_mm:g} mm: expected a length above 0, "
            f"up to {_MOST_LEAST_MM:g} mm",
            f"--finest {LEAST_SPACING_MM:g} is the default",
        )


def conform(volume: Volume, least_mm: float = LEAST_SPACING_MM) -> Volume:
    """A scan as training wants it: RAS, HU in [-1000, 1000], no axis finer than `least_mm`.

    NaN and padding below -1024 (outside of the scanner's field of view) become air.

    Raises:
        GridError: the scan lies oblique in the patient (more than a gantry tilts).
    """
    _check_upright(volume.geometry)
    array = np.nan_to_num(volume.array.astype(np.float32), nan=HU_MIN, posinf=HU_MAX, neginf=HU_MIN)
    clipped = to_ras(volume.with_array(np.clip(array, HU_MIN, HU_MAX)))
    return _coarsened(clipped, least_mm)


def conform_mr(volume: Volume, least_mm: float = LEAST_SPACING_MM) -> Volume:
    """An MR scan as training wants it: RAS, 0 to 1000 between its 0th and 99.5th percentile.

    Raises:
        GridError: as `conform`.
        InputError: every voxel has the same value.
    """
    _check_upright(volume.geometry)
    unit = percentile_units(volume.array)
    if not unit.any():
        raise InputError("every voxel has the same value", "is it the right file?")
    scaled = np.clip(unit * np.float32(MR_SCALE), 0, np.iinfo(np.int16).max)
    return _coarsened(to_ras(volume.with_array(scaled)), least_mm)


def is_skull_stripped(image: npt.NDArray[Any]) -> bool:
    """Whether a prepared head is brain alone: nothing on any side, and zeros all around.

    A whole head meets the lower side with its neck, and most scanners leave noise in the air.
    """
    sides = [image[0], image[-1], image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]]
    empty = all(float((side > 0).mean()) < 0.01 for side in sides)
    return empty and float((image == 0).mean()) > 0.5


def _coarsened(volume: Volume, least_mm: float) -> Volume:
    grid = conformed(volume.geometry, least_mm)
    if grid.spacing_mm == volume.geometry.spacing_mm:
        return volume
    return resample_image(volume, grid)


def conformed(geometry: Geometry, least_mm: float = LEAST_SPACING_MM) -> Geometry:
    """The grid that `conform` puts a scan of this `geometry` on."""
    ras = geometry.as_ras()
    spacing = coarse_enough(ras.spacing_mm, least_mm)
    return ras if spacing == ras.spacing_mm else ras.with_spacing(spacing)


def coarse_enough(spacing_mm: Spacing, least_mm: float) -> Spacing:
    """`spacing_mm` with every axis that is finer than `least_mm` set to it."""
    i, j, k = (least_mm if s < least_mm * _TOLERANCE else s for s in spacing_mm)
    return i, j, k


def without_table(hu: npt.NDArray[Any], body: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
    """HU as int16, air everywhere but in the body and one voxel around it."""
    from scipy import ndimage

    near = ndimage.binary_dilation(body)
    return np.where(near, np.rint(hu), HU_MIN).astype(np.int16)


def is_cut_out(body: npt.NDArray[np.bool_]) -> bool:
    """Whether the image's sides cut through the body on most of their area: a crop of a scan."""
    sides = [body[0], body[-1], body[:, 0], body[:, -1]]
    return sum(float(side.mean()) for side in sides) / len(sides) > 0.35


def save_case(
    path: Path,
    arrays: Mapping[str, npt.NDArray[Any]],
    spacing_mm: Spacing,
    meta: Mapping[str, object],
    *,
    overwrite: bool,
) -> None:
    """Write `arrays` (3D, of one shape), `spacing_mm` (float32) and `meta` (JSON) as `.npz`."""
    shapes = {a.shape for a in arrays.values()}
    if len(shapes) != 1:
        raise InputError(f"{path.name}: arrays of different shapes {sorted(shapes)}")
    with replacing(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            spacing_mm=np.asarray(spacing_mm, np.float32),
            meta=np.array(json.dumps(dict(meta), sort_keys=True)),
            **arrays,
        )


def _check_upright(geometry: Geometry) -> None:
    axes, _ = geometry.to_ras()
    directions = geometry.affine[:3, :3] / np.asarray(geometry.spacing_mm)
    off = np.abs(directions[:, list(axes)])
    np.fill_diagonal(off, 0.0)
    if off.max() > _OBLIQUE:
        raise GridError(
            f"the scan lies oblique in the patient (direction cosine {off.max():.2f} off axis)",
            "resample it to an upright grid first",
        )
