"""Judge a volume against its labels: medians of organs against ranges, and what surrounds them.

verdict = judge(volume, labels)
verdict.passed, verdict.reason, verdict.findings
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from synthct.geometry import Geometry
from synthct.labels.scheme import BODY, maisi_name
from synthct.quality.histogram import (
    LabelHistogram,
    label_histogram,
    median_of,
    quantile_of,
    share_above,
)
from synthct.quality.norms import Group, Norms, load_norms
from synthct.quality.verdict import Finding, Status, Verdict
from synthct.volume.volume import LabelVolume, Volume

# Rules, not measurements; real scans of every kind at hand keep them with a wide margin.
AIR_BELOW_HU = -300.0  # between lung or air and any tissue
BACKGROUND_MEDIAN_HU = -500.0  # outside the body: air, with a table and clothes in it
MIN_BACKGROUND_VOXELS = 500
MIN_TISSUE_SHARE = 0.8  # of voxels labelled as an organ without air
MIN_BODY_SHARE = 0.5  # of the envelope, in which lungs may lie unlabelled
FAR_LOW_HU, FAR_HIGH_HU = -3100.0, 4100.0  # padding of scanners, and 12 bits; beyond: no HU
MAX_FAR_SHARE = 0.01  # metal on an extended scale
MIN_SPREAD_HU = 50.0  # between the 0.5th and 99.5th percentile of the whole volume
MAX_SHIFT_VOXELS = 0.1  # between the corners of image and label


def judge(volume: Volume, labels: LabelVolume, norms: Norms | None = None) -> Verdict:
    """Judge `volume` (HU) against `labels` (MAISI ids, 200 the body envelope).

    One pass over the voxels (58 million in a few seconds on one core, a few MiB of memory).
    Only organs count as checked; a volume in which no organ could be judged does not pass.

    Raises:
        MaskError: ids that cannot be MAISI ids.
    """
    norms = norms or load_norms()
    place = _geometry(volume.geometry, labels.geometry)
    if volume.geometry.shape != labels.geometry.shape:
        return Verdict((place,), checked=0, norms=norms.title)
    histogram = label_histogram(
        volume.array, labels.array, far_low=FAR_LOW_HU, far_high=FAR_HIGH_HU
    )
    whole = (place, *_whole_volume(histogram, norms))
    if volume.modality != norms.modality:
        medians = [_unjudged(g, i, f"no ranges for {volume.modality}") for g, i in _members(norms)]
    else:
        medians = list(_medians(histogram, norms, math.prod(volume.geometry.spacing_mm)))
    checked = sum(f.check == "median_hu" and f.status != "not checked" for f in medians)
    return Verdict((*whole, *medians), checked=checked, norms=norms.title)


def _medians(histogram: LabelHistogram, norms: Norms, voxel_mm3: float) -> Iterator[Finding]:
    sizes = histogram.sizes()
    for group, id_ in _members(norms):
        voxels = int(sizes[id_])
        if voxels == 0:
            yield _unjudged(group, id_, "absent", voxels=0)
            continue
        small = _too_small(voxels, voxel_mm3, norms)
        yield _median(group, id_, voxels, median_of(histogram.counts[id_]), small)
    known = set(norms.ids())
    for id_ in np.flatnonzero(sizes).tolist():
        if id_ != 0 and id_ not in known:
            yield Finding(
                "median_hu",
                "not checked",
                structure=structure_name(id_),
                maisi_id=id_,
                voxels=int(sizes[id_]),
                value=median_of(histogram.counts[id_]),
                message="no range known",
            )


def _too_small(voxels: int, voxel_mm3: float, norms: Norms) -> str:
    """Why a fragment is not judged; empty where it is large enough."""
    if voxels < norms.min_voxels:
        return f"{voxels} voxels, {norms.min_voxels} needed"
    if voxels * voxel_mm3 < norms.min_volume_mm3:
        return f"{voxels * voxel_mm3:.3g} mm³, {norms.min_volume_mm3:g} needed"
    return ""


def _median(group: Group, id_: int, voxels: int, value: float, small: str) -> Finding:
    message = group.informational or small
    if message or group.low is None or group.high is None:
        return _unjudged(group, id_, message, voxels=voxels, value=value)
    status: Status = "pass" if group.low.hu <= value <= group.high.hu else "fail"
    nearer = group.low if value - group.low.hu < group.high.hu - value else group.high
    return Finding(
        check="body_median_hu" if group.envelope else "median_hu",
        status=status,
        structure=structure_name(id_),
        group=group.name,
        maisi_id=id_,
        voxels=voxels,
        value=value,
        low=group.low.hu,
        high=group.high.hu,
        source=f"{nearer.kind}: {nearer.source}",
    )


def _unjudged(
    group: Group, id_: int, message: str, *, voxels: int | None = None, value: float | None = None
) -> Finding:
    return Finding(
        check="body_median_hu" if group.envelope else "median_hu",
        status="not checked",
        structure=structure_name(id_),
        group=group.name,
        maisi_id=id_,
        voxels=voxels,
        value=value,
        low=group.low.hu if group.low else None,
        high=group.high.hu if group.high else None,
        message=message,
    )


def structure_name(maisi_id: int) -> str:
    """The MAISI name of an id, or `label 250` for one that MAISI does not have."""
    try:
        return maisi_name(maisi_id)
    except KeyError:
        return f"label {maisi_id}"


def _members(norms: Norms) -> Iterator[tuple[Group, int]]:
    return ((group, id_) for group in norms.group for id_ in group.ids)


def whole_image(histogram: LabelHistogram) -> Iterator[Finding]:
    """What can be said of any image: finite, in the range of HU, not constant."""
    yield _finite(histogram)
    if histogram.counts.any():
        yield _range(histogram)
        yield _spread(histogram)


def _whole_volume(histogram: LabelHistogram, norms: Norms) -> Iterator[Finding]:
    yield from whole_image(histogram)
    if histogram.counts.any():
        yield _tissue(histogram, norms)
        yield _body(histogram)
        yield _background(histogram)


def _geometry(image: Geometry, label: Geometry) -> Finding:
    """Image and label on one grid: equal shapes, corners nearer than a tenth of a voxel."""
    if image.shape != label.shape:
        message = f"image {_by(image.shape)}, label {_by(label.shape)} voxels"
        return Finding("geometry", "fail", message=message)
    ends = ((-0.5, n - 0.5) for n in image.shape)
    corners = np.array([[*corner, 1.0] for corner in itertools.product(*ends)])
    apart_mm = np.linalg.norm((corners @ (image.affine - label.affine).T)[:, :3], axis=1).max()
    apart = float(apart_mm) / min(image.spacing_mm)
    status: Status = "pass" if apart <= MAX_SHIFT_VOXELS else "fail"
    message = "largest distance between corners of image and label, in voxels"
    return Finding(
        "geometry", status, value=round(apart, 4), low=0.0, high=MAX_SHIFT_VOXELS, message=message
    )


def _finite(histogram: LabelHistogram) -> Finding:
    status: Status = "fail" if histogram.not_finite else "pass"
    message = "voxels that are NaN or infinite"
    return Finding(
        "finite", status, value=float(histogram.not_finite), low=0.0, high=0.0, message=message
    )


def _range(histogram: LabelHistogram) -> Finding:
    share = histogram.far_out / histogram.voxels
    message = (
        f"share of voxels beyond {FAR_LOW_HU:g}..{FAR_HIGH_HU:g} HU "
        f"(values {histogram.minimum:g}..{histogram.maximum:g})"
    )
    return _shared("value_range", share, 0.0, MAX_FAR_SHARE, message)


def _spread(histogram: LabelHistogram) -> Finding:
    together = np.asarray(histogram.counts.sum(axis=0))
    spread = quantile_of(together, 0.995) - quantile_of(together, 0.005)
    if histogram.minimum == histogram.maximum:
        spread = 0.0
    message = "HU between the 0.5th and 99.5th percentile: a constant image is no scan"
    status: Status = "pass" if spread >= MIN_SPREAD_HU else "fail"
    return Finding("contrast", status, value=spread, low=MIN_SPREAD_HU, message=message)


def _tissue(histogram: LabelHistogram, norms: Norms) -> Finding:
    """Are there organs where organs are labelled? Those that may hold air are left out."""
    ids = tuple(
        id_
        for group, id_ in _members(norms)
        if not (group.informational or group.envelope or group.may_hold_air)
    )
    pool = histogram.pooled(ids)
    message = f"share of voxels labelled as solid organ, muscle or bone over {AIR_BELOW_HU:g} HU"
    if pool.sum() < norms.min_voxels:
        return Finding("tissue_present", "not checked", message=f"{message}: none labelled")
    return _shared(
        "tissue_present", share_above(pool, AIR_BELOW_HU), MIN_TISSUE_SHARE, 1.0, message
    )


def _body(histogram: LabelHistogram) -> Finding:
    pool = histogram.counts[BODY]
    message = f"share of the body envelope over {AIR_BELOW_HU:g} HU"
    if not pool.any():
        return Finding("body_present", "not checked", message="no body envelope among the labels")
    return _shared("body_present", share_above(pool, AIR_BELOW_HU), MIN_BODY_SHARE, 1.0, message)


def _background(histogram: LabelHistogram) -> Finding:
    """Without an envelope label 0 holds skin and fat too, and says nothing."""
    outside = histogram.counts[0]
    if not histogram.counts[BODY].any():
        message = "no body envelope among the labels, so label 0 is not only air"
        return Finding("background_air", "not checked", message=message)
    if outside.sum() < MIN_BACKGROUND_VOXELS:
        return Finding(
            "background_air", "not checked", message="no background in the field of view"
        )
    value = median_of(outside)
    status: Status = "pass" if value <= BACKGROUND_MEDIAN_HU else "fail"
    message = "median HU outside the body"
    return Finding(
        "background_air", status, value=value, high=BACKGROUND_MEDIAN_HU, message=message
    )


def _shared(check: str, share: float, low: float, high: float, message: str) -> Finding:
    status: Status = "pass" if low <= share <= high else "fail"
    return Finding(check, status, value=round(share, 4), low=low, high=high, message=message)


def _by(shape: tuple[int, int, int]) -> str:
    return "×".join(str(n) for n in shape)
