"""Judge a CT that has no labels: is it a patient in air, in Hounsfield units?

No organ can be named, so none is checked; a sampler that ran wild is caught all the same.
"""

from __future__ import annotations

import numpy as np

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


def _within(check: str, value: float, accepted: tuple[float, float], message: str) -> Finding:
    low, high = accepted
    status: Status = "pass" if low <= value <= high else "fail"
    return Finding(check, status, value=round(value, 4), low=low, high=high, message=message)
