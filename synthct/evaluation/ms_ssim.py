"""MS-SSIM of two volumes, in the three ways that the literature calls by one name.

`published`: the code that papers on 3D brain generation use (3dbraingen): windows of sigma 1.5
through scipy.ndimage over every axis of the array, the batch axis too, constants of a data range of
1 whatever the values are, and the SSIM of the last scale four times in the product. `correct`: the
same windows over the volume's axes, the constants of the range, and that SSIM once, as Wang (2003)
has it. `monai`: MONAI's MultiScaleSSIMMetric, with windows of 7 voxels that stay inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Float32 = npt.NDArray[np.float32]

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SIGMA_VOXELS = 1.5
MONAI_KERNEL = 7
_REPEATS = len(WEIGHTS) - 1  # of the last SSIM in the published product


@dataclass(frozen=True)
class Scales:
    """Per scale, from fine to coarse: mean SSIM, and mean of its contrast-structure term."""

    ssim: tuple[float, ...]
    contrast: tuple[float, ...]

    def product(self, times: int = 1) -> float:
        """The contrast terms of all scales but the last, and `times` its SSIM, by their weights.

        Terms below 0 count as 0: they have no such power.
        """
        weights = weights_of(len(self.ssim))
        terms = [max(c, 0.0) ** w for c, w in zip(self.contrast[:-1], weights[:-1], strict=True)]
        return float(np.prod(terms) * max(self.ssim[-1], 0.0) ** (times * weights[-1]))


def weights_of(scales: int) -> tuple[float, ...]:
    """The first of the five weights; where they are fewer, scaled so that they sum to 1."""
    if scales == len(WEIGHTS):
        return WEIGHTS
    total = sum(WEIGHTS[:scales])
    return tuple(w / total for w in WEIGHTS[:scales])


def scales_for(side: int, kernel: int = MONAI_KERNEL) -> int:
    """How many of the five scales a volume of this shortest side has room for.

    >>> scales_for(128), scales_for(64), scales_for(160, 11)
    (5, 4, 4)
    """
    return max(1, sum(side >> scale >= kernel for scale in range(len(WEIGHTS))))


def published(first: Array, second: Array, scales: int = len(WEIGHTS)) -> float:
    """3dbraingen's number for two arrays (i, j, k), or batches of them (n, i, j, k)."""
    return _scales(_batched(first), _batched(second), 1.0, scales, batch_axis=True).product(
        _REPEATS
    )


def correct(
    first: Array, second: Array, data_range: float = 1.0, scales: int = len(WEIGHTS)
) -> float:
    """Wang's product in 3D, of two volumes (i, j, k)."""
    return _scales(first[None], second[None], data_range, scales, batch_axis=False).product()


def both(first: Array, second: Array, scales: int = len(WEIGHTS)) -> tuple[float, float]:
    """`published` and `correct` of two volumes in 0..1 from one pass over them."""
    found = _scales(first[None], second[None], 1.0, scales, batch_axis=False)
    return found.product(_REPEATS), found.product()


def monai(first: Array, second: Array, scales: int = len(WEIGHTS)) -> float:
    """MONAI's, of two volumes in 0..1 whose sides have room for the scales."""
    import torch
    from monai.metrics.regression import MultiScaleSSIMMetric

    metric = MultiScaleSSIMMetric(
        spatial_dims=3, data_range=1.0, kernel_size=MONAI_KERNEL, weights=weights_of(scales)
    )
    pair = (
        torch.from_numpy(np.ascontiguousarray(a, np.float32))[None, None] for a in (first, second)
    )
    with torch.inference_mode():
        return float(torch.as_tensor(metric(*pair)))


def _scales(
    first: Array, second: Array, data_range: float, scales: int, *, batch_axis: bool
) -> Scales:
    """Arrays (n, i, j, k); blurred along n too where `batch_axis` says so."""
    sigmas = (SIGMA_VOXELS if batch_axis and len(first) > 1 else 0.0, *(SIGMA_VOXELS,) * 3)
    found = []
    for scale in range(scales):
        if scale:
            first, second = _halved(first), _halved(second)
        found.append(_terms(first, second, data_range, sigmas))
    return Scales(tuple(s for s, _ in found), tuple(c for _, c in found))


def _terms(x: Array, y: Array, data_range: float, sigmas: Sequence[float]) -> tuple[float, float]:
    from scipy import ndimage

    def blurred(array: Array) -> Array:
        smooth: Array = ndimage.gaussian_filter(array, sigmas)
        return smooth

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = blurred(x), blurred(y)
    both_means = mean_x * mean_y
    squares = mean_x**2 + mean_y**2
    variances = blurred(x * x) + blurred(y * y) - squares
    contrast = (2 * (blurred(x * y) - both_means) + c2) / (variances + c2)
    luminance = (2 * both_means + c1) / (squares + c1)
    return float((luminance * contrast).mean(dtype=np.float64)), float(
        contrast.mean(dtype=np.float64)
    )


def _halved(array: Array) -> Array:
    """Means of 2 x 2 x 2 voxels; an odd last plane is left out."""
    n, *sides = array.shape
    i, j, k = (s // 2 for s in sides)
    even = array[:, : 2 * i, : 2 * j, : 2 * k].reshape(n, i, 2, j, 2, k, 2)
    mean: Array = even.mean(axis=(2, 4, 6))
    return mean


def _batched(array: Array) -> Array:
    return array[None] if array.ndim == 3 else array
