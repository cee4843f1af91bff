"""One pass over a volume: how often each HU stands under each label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import MaskError

HU_LOW, HU_HIGH = -1024, 3071  # the 12-bit range of a scanner; beyond it values are clipped
_BINS = HU_HIGH - HU_LOW + 1
_LABELS = 256
_CHUNK_VOXELS = 1 << 20

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelHistogram:
    """`counts` (256 labels, 4096 bins of 1 HU from −1024), and what was seen on the way.

    `not_finite`: voxels that are NaN or infinite (they are in no bin); `minimum` and `maximum`
    of the finite ones, before clipping; `far_out`: voxels beyond `far_low`..`far_high`.
    """

    counts: IntArray
    not_finite: int
    minimum: float
    maximum: float
    far_out: int

    @property
    def voxels(self) -> int:
        return int(self.counts.sum()) + self.not_finite

    def sizes(self) -> IntArray:
        """Voxels per label, (256,)."""
        return np.asarray(self.counts.sum(axis=1))

    def pooled(self, ids: tuple[int, ...]) -> IntArray:
        """Histogram (4096,) of several labels together."""
        return np.asarray(self.counts[list(ids)].sum(axis=0))


def label_histogram(
    hu: Array,
    labels: Array,
    *,
    far_low: float,
    far_high: float,
) -> LabelHistogram:
    """Count HU (rounded, clipped to −1024..3071) per label in chunks: 8 MiB and a few more.

    Args:
        hu: (i, j, k) HU.
        labels: (i, j, k) integer ids in 0..255.

    Raises:
        MaskError: ids outside 0..255.
    """
    counts = np.zeros(_LABELS * _BINS, dtype=np.int64)
    not_finite = far_out = 0
    minimum, maximum = np.inf, -np.inf
    for values, ids in _chunks(hu, labels):
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                not_finite += int(values.size - np.count_nonzero(finite))
                values, ids = values[finite], ids[finite]
        if values.size == 0:
            continue
        low, high = float(values.min()), float(values.max())
        minimum, maximum = min(minimum, low), max(maximum, high)
        if low < far_low or high > far_high:
            far_out += int(np.count_nonzero((values < far_low) | (values > far_high)))
        counts += np.bincount(_keys(values, ids), minlength=counts.size)
    return LabelHistogram(counts.reshape(_LABELS, _BINS), not_finite, minimum, maximum, far_out)


def median_of(histogram: IntArray) -> float:
    """The median in HU of a histogram (4096,); the mean of the middle two where even."""
    return (quantile_of(histogram, 0.5) + quantile_of(histogram, 0.5, upper=True)) / 2


def quantile_of(histogram: IntArray, q: float, *, upper: bool = False) -> float:
    """The HU at quantile `q`: the lower of two neighbours, or the `upper` one."""
    total = int(histogram.sum())
    rank = q * (total - 1)
    position = int(np.ceil(rank)) if upper else int(np.floor(rank))
    return float(np.searchsorted(np.cumsum(histogram), position + 1) + HU_LOW)


def share_above(histogram: IntArray, threshold_hu: float) -> float:
    """The share of voxels above a threshold; 0 where there are none."""
    total = int(histogram.sum())
    first = int(np.clip(np.floor(threshold_hu) + 1 - HU_LOW, 0, _BINS))
    return float(histogram[first:].sum()) / total if total else 0.0


def _keys(values: Array, ids: Array) -> IntArray:
    if ids.min() < 0 or ids.max() >= _LABELS:
        wrong = int(ids.max()) if ids.max() >= _LABELS else int(ids.min())
        raise MaskError(
            f"label id {wrong} is no MAISI id (0 to 255)", "name the scheme with --labels"
        )
    if values.dtype.kind == "f":
        values = np.rint(np.clip(values, HU_LOW, HU_HIGH))
    bins = np.clip(values.astype(np.int32), HU_LOW, HU_HIGH)
    bins -= HU_LOW
    return np.asarray(ids.astype(np.int32) * _BINS + bins)


def _chunks(hu: Array, labels: Array) -> Iterator[tuple[Array, Array]]:
    """Flat pieces of both in one order: the order in which `hu` lies in memory."""
    fortran = hu.flags.f_contiguous and not hu.flags.c_contiguous
    if fortran:
        hu, labels = hu.T, labels.T
    rows = max(1, _CHUNK_VOXELS // max(1, int(np.prod(hu.shape[1:]))))
    for start in range(0, hu.shape[0], rows):
        stop = start + rows
        yield hu[start:stop].ravel(), labels[start:stop].ravel()
