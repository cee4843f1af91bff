"""How much one volume is like another, voxel by voxel: PSNR and SSIM, over a mask.

PSNR is 10 log10(range² / mean squared error) over the mask's voxels. SSIM is Wang's (2004) in three
dimensions: Gaussian windows of sigma 1.5 voxels cut at 5 voxels, K1 = 0.01, K2 = 0.03, population
variances; its map is averaged over the mask. Published figures differ by windows and masks, so a
number is only worth something beside another of the same kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import inf, log10
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

SIGMA_VOXELS = 1.5
RADIUS_VOXELS = 5
_K1, _K2 = 0.01, 0.03
_SLAB_VOXELS = 1 << 22


@dataclass(frozen=True)
class Similarity:
    """One volume against another, over a mask.

    `mean_error` (signed), `mean_absolute_error` and `range` are in the unit of the volumes.
    """

    psnr_db: float
    ssim: float
    mean_error: float
    mean_absolute_error: float
    voxels: int
    range: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def similarity(found: Array, true: Array, mask: Mask, data_range: float) -> Similarity:
    """Hold `found` against `true` (i, j, k) over the voxels of `mask`.

    Raises:
        ValueError: shapes differ, the mask is empty, or the range is not positive.
    """
    if found.shape != true.shape or mask.shape != true.shape:
        raise ValueError(f"shapes {found.shape}, {true.shape} and {mask.shape} differ")
    if not mask.any() or data_range <= 0:
        raise ValueError("an empty mask, or a range that is not positive")
    error = found[mask].astype(np.float64) - true[mask]
    squared = float(np.mean(error**2))
    return Similarity(
        psnr_db=inf if squared == 0 else 10 * log10(data_range**2 / squared),
        ssim=ssim(found, true, mask, data_range),
        mean_error=float(error.mean()),
        mean_absolute_error=float(np.abs(error).mean()),
        voxels=int(error.size),
        range=data_range,
    )


def ssim(found: Array, true: Array, mask: Mask, data_range: float) -> float:
    """Mean of the SSIM map over the mask; slab by slab, so that memory stays small."""
    total, count = 0.0, 0
    for inner, outer in _slabs(true.shape):
        part = mask[inner]
        if part.any():
            start = inner.start - outer.start
            local = _ssim_map(found[outer], true[outer], data_range)
            total += float(local[start : start + len(part)][part].sum())
            count += int(part.sum())
    return total / count


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Planes to judge, and the same with those that their windows reach."""
    step = max(1, _SLAB_VOXELS // int(np.prod(shape[1:])))
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        reach = slice(max(0, start - RADIUS_VOXELS), min(shape[0], stop + RADIUS_VOXELS))
        yield slice(start, stop), reach


def _ssim_map(found: Array, true: Array, data_range: float) -> npt.NDArray[np.float64]:
    x, y = found.astype(np.float64), true.astype(np.float64)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x) - mean_x**2 + _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    result: npt.NDArray[np.float64] = above / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))
    return result


def _blurred(array: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    from scipy import ndimage

    cut = RADIUS_VOXELS / SIGMA_VOXELS
    blurred: npt.NDArray[np.float64] = ndimage.gaussian_filter(array, SIGMA_VOXELS, truncate=cut)
    return blurred
