"""Are pieces of a volume copied? Its telling patches against every place of the training volumes.

Volumes come to a 5 mm grid, band-passed; a patch is 60 mm wide, its mean removed and its
length one, so that neither brightness nor contrast matters. All eight mirrored forms of the asked
patches are compared with patches at every second voxel, and around the best with every one; over so
short a distance small turns change little. Distance is √(2 − 2ρ).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from synthct.evaluation.leakage_volumes import FLIPS, WINDOW_HU
from synthct.volume.resample import resample_image
from synthct.volume.volume import Volume

Floats = npt.NDArray[np.float32]

GRID_MM = 5.0
SIDE = 12
_THIN = 2  # every second voxel of a patch is compared
_STRIDE = 2
_FINE, _BROAD = 1.5, 4.0  # voxels: the blurs of the band
_ASKED = 24
_TELLING = 0.5  # patches are drawn from the half that varies most
_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of one volume: rows (n, 216) of mean 0 and length 1, and the corners (n, 3)."""

    rows: Floats
    corners: npt.NDArray[np.int32]
    spread: Floats
    """Standard deviation of each before it was scaled."""


def smoothed(volume: Volume) -> Floats:
    """The volume (RAS) on the patches' grid, windowed to −200..300 HU (MR: to its bright end).

    Band-passed: noise and single voxels go, and so does the large outline that bodies share.
    """
    grid = volume.geometry.with_spacing((GRID_MM,) * 3)
    low, high = WINDOW_HU
    if volume.modality != "CT":
        low, high = 0.0, float(np.percentile(volume.array, 99.5))
    fine: Floats = np.clip(resample_image(volume, grid, cval=low).array, low, high)
    sharp = ndimage.gaussian_filter(fine, _FINE, mode="nearest")
    band: Floats = sharp - ndimage.gaussian_filter(fine, _BROAD, mode="nearest")
    return band


def patches_of(array: Floats, stride: int = _STRIDE) -> Patches:
    """All patches on a grid of `stride` that vary at all. Volumes under 60 mm have none."""
    if min(array.shape) < SIDE:
        nothing = np.empty((0, (SIDE // _THIN) ** 3), np.float32)
        return Patches(nothing, np.empty((0, 3), np.int32), np.empty(0, np.float32))
    windows = sliding_window_view(array, (SIDE,) * 3)[::stride, ::stride, ::stride]
    thin = windows[..., ::_THIN, ::_THIN, ::_THIN]
    rows = thin.reshape(-1, (SIDE // _THIN) ** 3).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    spread = rows.std(axis=1)
    varied = spread > max(1.0, 0.05 * float(spread.max(initial=0)))
    corners = np.indices(windows.shape[:3]).reshape(3, -1).T * stride
    rows = rows[varied]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Patches(rows, corners[varied].astype(np.int32), spread[varied])


def asked(array: Floats, seed: int, count: int = _ASKED) -> Patches:
    """Patches to look up: drawn among the half of all that varies most."""
    every = patches_of(array, stride=3)
    if not len(every.rows):
        return every
    telling = np.flatnonzero(every.spread >= np.quantile(every.spread, 1 - _TELLING))
    rng = np.random.default_rng([seed, len(telling)])
    chosen = np.sort(rng.permutation(telling)[:count])
    return Patches(every.rows[chosen], every.corners[chosen], every.spread[chosen])


def nearest(
    queries: Sequence[Patches],
    targets: Sequence[Callable[[], Floats]],
    told: Callable[[], None] = lambda: None,
) -> list[npt.NDArray[np.float64]]:
    """Per query an array (targets, patches) of distances to the closest place of each target.

    Args:
        queries: from `asked`.
        targets: each returns a volume from `smoothed`; one at a time is held.
        told: called after every target.
    """
    forms = [_mirrored(query.rows) for query in queries]
    found: list[list[npt.NDArray[np.float64]]] = [[] for _ in queries]
    for target in targets:
        array = target()
        library = patches_of(array)
        for row, form in zip(found, forms, strict=True):
            row.append(_distances(form, library, array))
        told()
    return [
        np.array(rows, np.float64).reshape(len(targets), len(query.rows))
        for rows, query in zip(found, queries, strict=True)
    ]


def _mirrored(rows: Floats) -> Floats:
    """All eight mirrored forms: (8, n, 216)."""
    n = SIDE // _THIN
    cubes = rows.reshape(-1, n, n, n)
    forms = [np.flip(cubes, tuple(1 + a for a, on in enumerate(flips) if on)) for flips in FLIPS]
    return np.stack(forms).reshape(len(FLIPS), -1, n**3)


def _distances(forms: Floats, library: Patches, array: Floats) -> npt.NDArray[np.float64]:
    """Of every asked patch to the closest place: on the grid first, then a voxel around."""
    count = forms.shape[1]
    if not count or not len(library.rows):
        return np.full(count, sqrt(2))
    best, where = _best(forms.reshape(-1, forms.shape[2]), library.rows)
    form = best.reshape(len(FLIPS), count).argmax(axis=0)
    each = np.arange(count)
    corners = library.corners[where.reshape(len(FLIPS), count)[form, each]]
    closest = _around(forms[form, each], corners, array)
    return np.asarray(np.sqrt(np.maximum(0.0, 2 - 2 * np.minimum(closest, 1.0))), np.float64)


def _best(rows: Floats, library: Floats) -> tuple[npt.NDArray[Any], npt.NDArray[np.intp]]:
    """The highest correlation of each row with any of the library, and with which."""
    best = np.full(len(rows), -1.0, np.float32)
    where = np.zeros(len(rows), np.intp)
    for start in range(0, len(library), _CHUNK):
        found = rows @ library[start : start + _CHUNK].T
        place = found.argmax(axis=1)
        value = found[np.arange(len(rows)), place]
        better = value > best
        best[better], where[better] = value[better], start + place[better]
    return best, where


def _around(rows: Floats, corners: npt.NDArray[np.int32], array: Floats) -> npt.NDArray[Any]:
    """The highest correlation of each row among the 27 places a voxel around its corner."""
    windows = sliding_window_view(array, (SIDE,) * 3)
    best = np.full(len(rows), -1.0, np.float32)
    for offset in np.ndindex(3, 3, 3):
        i, j, k = np.clip(corners + np.asarray(offset) - 1, 0, np.asarray(windows.shape[:3]) - 1).T
        thin = windows[i, j, k][:, ::_THIN, ::_THIN, ::_THIN].reshape(len(rows), -1)
        thin = thin - thin.mean(axis=1, keepdims=True)
        length = np.maximum(np.linalg.norm(thin, axis=1), 1e-6)
        np.maximum(best, (rows * thin).sum(axis=1) / length, out=best)
    return best
