"""The body envelope (MAISI label 200): from a CT, or guarded when the user brings one.

From labels alone it is drawn in `envelope`, and offered here as `body_from_labels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import MaskError
from synthct.geometry import Spacing
from synthct.labels.envelope import body_from_labels
from synthct.labels.groups import BODY

__all__ = ["body_from_ct", "body_from_labels", "touches_body", "with_body"]

Mask = npt.NDArray[np.bool_]

SKIN_HU = -300.0  # half-way from air to fat-rich skin, with partial volume
_WORK_MM = 3.0
_TABLE_MM = 5.0  # shells and cushions thinner than twice this vanish by opening
_WALL_MM = 7.0  # the thinnest chest wall, lost to that opening, is closed again
_REACH_MM = 6.0  # skin lies within this of the opened body
_SMALLEST_PART = 0.2  # of the largest component: a second leg stays, a table does not


def body_from_ct(hu: npt.NDArray[Any], spacing_mm: Spacing, superior_axis: int) -> Mask:
    """The patient in a CT (i, j, k) of HU: threshold, largest component, holes filled per slice.

    Table, cushions and clothes are cut off by an opening of 10 mm.

    Raises:
        MaskError: nothing in the image is as dense as a body.
    """
    from scipy import ndimage

    axial = np.moveaxis(np.asarray(hu), superior_axis, 0)
    a, b, c = (spacing_mm[axis] for axis in _axial_order(superior_axis))
    tissue: Mask = axial > SKIN_HU
    steps = tuple(max(1, int(_WORK_MM / s + 0.5)) for s in (a, b, c))
    coarse = tissue[:: steps[0], :: steps[1], :: steps[2]]
    coarse_mm = (a * steps[0], b * steps[1], c * steps[2])
    trunk = _without_table(coarse, coarse_mm)
    near = _within(trunk, _REACH_MM, coarse_mm)
    for axis, step in enumerate(steps):
        near = near.repeat(step, axis=axis).take(range(tissue.shape[axis]), axis=axis)
    body = np.empty_like(tissue)
    for index, plane in enumerate(tissue & near):
        body[index] = ndimage.binary_fill_holes(plane)
    return np.ascontiguousarray(np.moveaxis(body, 0, superior_axis))


def _axial_order(superior_axis: int) -> tuple[int, int, int]:
    first, second = (axis for axis in range(3) if axis != superior_axis)
    return superior_axis, first, second


def _without_table(tissue: Mask, spacing_mm: Spacing) -> Mask:
    """The bulky parts of `tissue` (superior axis first), filled, without thin shells."""
    core = _parts(_within(~_within(~tissue, _TABLE_MM, spacing_mm), _TABLE_MM, spacing_mm))
    return _fill_slices(_closed(core, _WALL_MM, spacing_mm))


def _parts(mask: Mask) -> Mask:
    from scipy import ndimage

    parts, n = ndimage.label(mask)
    if n == 0:
        raise MaskError("no body in the CT: nothing bulky is denser than -300 HU", "is it in HU?")
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= _SMALLEST_PART * sizes.max())[parts])


def _within(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Voxels within `radius_mm` of `mask`."""
    from scipy import ndimage

    if not mask.any():
        return mask.copy()
    return np.asarray(ndimage.distance_transform_edt(~mask, spacing_mm) <= radius_mm)


def _closed(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Morphological closing by a ball; the border of the array counts as outside."""
    pad = [int(radius_mm / s) + 1 for s in spacing_mm]
    wide = np.pad(mask, [(p, p) for p in pad])
    closed = ~_within(~_within(wide, radius_mm, spacing_mm), radius_mm, spacing_mm)
    inner = tuple(slice(p, p + n) for p, n in zip(pad, mask.shape, strict=True))
    return closed[inner] | mask


def _fill_slices(mask: Mask) -> Mask:
    from scipy import ndimage

    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])


def with_body(maisi: npt.NDArray[Any], envelope: Mask) -> npt.NDArray[np.uint8]:
    """A copy of the MAISI label map with 200 wherever `envelope` holds and no label stands."""
    return np.where((maisi == 0) & envelope, np.uint8(BODY), maisi).astype(np.uint8, copy=False)


def touches_body(maisi: npt.NDArray[Any], envelope: Mask | None = None) -> None:
    """Pass where the body covers, or lies face to face with, some organ of the map.

    Args:
        maisi: MAISI ids (i, j, k), 200 where the map has a body of its own.
        envelope: a body given apart from the map, (i, j, k); else the map's 200 is meant.

    Raises:
        MaskError: the body touches nothing: another patient's, or in another place.
    """
    body = maisi == BODY if envelope is None else envelope
    organs = (maisi != 0) & (maisi != BODY)
    if body.any() and not (bool((body & organs).any()) or _adjacent(body, organs)):
        own = envelope is None
        what = "the body (label 200)" if own else "the body mask"
        other = "set label 200 to 0 and let --body auto draw one" if own else "use --body auto"
        raise MaskError(
            f"{what} touches no labelled organ; a body around the organs is accepted",
            f"check that both come from one scan, or {other}",
        )


def _adjacent(one: Mask, other: Mask) -> bool:
    for axis in range(one.ndim):
        a, b = np.moveaxis(one, axis, 0), np.moveaxis(other, axis, 0)
        if bool((a[1:] & b[:-1]).any()) or bool((a[:-1] & b[1:]).any()):
            return True
    return False
