"""Judge a volume that has no labels: is it a patient in air, CT in Hounsfield units?

No organ can be named, so none is checked; a sampler that ran wild is caught all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.quality.checks import AIR_BELOW_HU, FAR_HIGH_HU, FAR_LOW_HU, whole_image
from synthct.quality.histogram import HU_LOW, label_histogram, median_of, share_above
from synthct.quality.verdict import Finding, Status, Verdict
from synthct.volume.volume import Volume

# Rules, with a margin around 33 openly licensed scans of head and trunk: 19-82 % tissue, with a
# median of -76 to 66 HU, 78-98 % of it between fat and contrast-filled organs.
TISSUE_SHARE = (0.05, 0.98)
TISSUE_MEDIAN_HU = (-130.0, 130.0)
SOFT_HU = (-200, 250)
SOFT_SHARE = (0.5, 1.0)

# Rules for MR; a skull-stripped brain in a wide view has the least tissue.
MR_AIR_BELOW = 0.1  # of the bright end: the 99.5th percentile
MR_TISSUE_SHARE = (0.03, 0.97)
MR_CONTRAST = (0.1, 3.0)


def judge_unlabelled(volume: Volume) -> Verdict:
    """Checks that need no labels; each counts as checked."""
    nothing = np.zeros(volume.array.shape, dtype=np.uint8)
    histogram = label_histogram(volume.array, nothing, far_low=FAR_LOW_HU, far_high=FAR_HIGH_HU)
    findings = [*whole_image(histogram)]
    counts = histogram.counts[0]
    if counts.any():
        share = share_above(counts, AIR_BELOW_HU)
        findings.append(_within("tissue_share", share, TISSUE_SHARE, "share of tissue in the view"))
        tissue = counts.copy()
        tissue[: int(AIR_BELOW_HU) - HU_LOW] = 0
        if tissue.any():
            message = "median HU of all tissue"
            findings.append(
                _within("tissue_median_hu", median_of(tissue), TISSUE_MEDIAN_HU, message)
            )
            low, high = SOFT_HU
            soft = float(tissue[low - HU_LOW : high - HU_LOW].sum() / tissue.sum())
            message = f"share of tissue between {low} and {high} HU"
            findings.append(_within("soft_share", soft, SOFT_SHARE, message))
    return Verdict(tuple(findings), checked=len(findings), norms="volumes without labels")


def judge_mr(volume: Volume) -> Verdict:
    """Checks of an MR image without labels: values, air, tissue, and structure in it.

    MR has no unit, so everything is held against the image's own bright end.
    """
    array = volume.array
    finite = all(bool(np.isfinite(plane).all()) for plane in array)
    findings = [Finding("finite", "pass" if finite else "fail", message="every value is a number")]
    if finite:
        bright = float(np.percentile(array[::2, ::2, ::2], 99.5))
        count, mean, spread = _tissue(array, MR_AIR_BELOW * bright) if bright > 0 else (0, 0.0, 0.0)
        share = count / array.size
        findings.append(_within("tissue_share", share, MR_TISSUE_SHARE, "share of tissue"))
        varies = spread / max(mean, 1e-6)
        message = "spread of the tissue's intensity, of its mean"
        findings.append(_within("contrast", varies, MR_CONTRAST, message))
    return Verdict(tuple(findings), checked=len(findings), norms="volumes without labels")


def _tissue(array: npt.NDArray[Any], above: float) -> tuple[int, float, float]:
    """Voxels above a value, their mean and standard deviation; plane by plane, for memory's sake.

    Sums of squares are in float64: values of 16 bits lose nothing in them.
    """
    count, total, squares = 0, 0.0, 0.0
    for plane in array:
        values = plane[plane > above].astype(np.float64)
        count += values.size
        total += float(values.sum())
        squares += float(np.square(values).sum())
    mean = total / max(count, 1)
    return count, mean, max(squares / max(count, 1) - mean**2, 0.0) ** 0.5


def _within(check: str, value: float, accepted: tuple[float, float], message: str) -> Finding:
    low, high = accepted
    status: Status = "pass" if low <= value <= high else "fail"
    return Finding(check, status, value=round(value, 4), low=low, high=high, message=message)
