"""Pseudo-labels: what an atlas suggests, kept only where the scan itself agrees.

Arrays (i, j, k) RAS; labels are MAISI ids. `prior` is the label map an atlas registration brought
over, 0 where it says nothing. Air and bone are found by threshold and only named by the prior;
soft organs are decided voxel by voxel from prior and brightness (maximum a posteriori), and dropped
where their brightness is not theirs. Better few labels that are right: a wrong one teaches a
generator to disobey. What is dropped or doubtful is body (200) and marked as not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthct.geometry import Spacing
from synthct.labels.groups import BODY, BONES, HEART, KIDNEYS, LUNG_LOBES, SOLID_ORGANS, VESSELS

HuArray = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

TRACHEA, COLON, STOMACH, CARTILAGE, SPINAL_CORD, BRAIN, SKULL = 57, 62, 12, 114, 121, 22, 120
LUNG_HU = -400.0
GAS_HU = -600.0
BONE_HU = 170.0
MARROW_HU = 90.0

SOFT_HU: Mapping[int, tuple[float, float]] = {
    1: (20, 180), 3: (20, 200), 5: (5, 260), 14: (5, 260), 6: (10, 450), 7: (10, 260),
    115: (10, 380), 15: (-15, 60), 104: (-10, 90), 105: (-10, 90), 106: (-10, 90),
    107: (-10, 90), 98: (-20, 90), 99: (-20, 90), 100: (-20, 90), 101: (-20, 90),
    102: (-20, 90), 103: (-20, 90), SPINAL_CORD: (-10, 80),
}  # fmt: skip
"""Soft organs worth transferring → range of their median HU, without and with contrast."""

_REACH_MM = 14.0  # a bone voxel may lie this far from the bone that the atlas suggests
_PRIOR_MM = 4.0  # uncertainty of a transferred border
_SURE = 0.6  # posterior below which a voxel is not labelled
_LEAST_LEFT = 0.45  # an organ of which less than this is left is dropped
_HIST = (-150.0, 500.0, 65)


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """`labels` (MAISI ids and 200), `known` (1 where the label may be trusted), ids `dropped`."""

    labels: Labels
    known: npt.NDArray[np.uint8]
    dropped: tuple[int, ...]


def pseudo_labels(
    hu: HuArray, body: Mask, prior: Labels, covered: Mask, spacing_mm: Spacing
) -> PseudoLabels:
    """Labels for a scan (HU, 3D) from the labels that an atlas brought over.

    Args:
        body: the patient, without table.
        prior: MAISI ids from the registration.
        covered: where the atlas has an image at all; outside of it nothing soft is known.
    """
    smooth = ndimage.gaussian_filter(np.asarray(hu, np.float32), [0.8 / s for s in spacing_mm])
    out = np.where(body, np.uint8(BODY), np.uint8(0)).astype(np.uint8)
    soft, doubtful, dropped = label_soft(smooth, body, prior, spacing_mm)
    out[soft > 0] = soft[soft > 0]
    cartilage = (prior == CARTILAGE) & (smooth > 50) & (smooth < 260) & body
    out[cartilage] = CARTILAGE
    bones, stray = label_bones(smooth, body, prior, spacing_mm)
    out[bones > 0] = bones[bones > 0]
    beside = _grown(_oral_contrast(smooth, body, out, prior, spacing_mm), 12.0, spacing_mm)
    beside &= np.isin(out, SOLID_ORGANS)
    out[beside] = BODY
    lungs = label_lungs(hu, body, prior, spacing_mm)
    out[lungs > 0] = lungs[lungs > 0]
    gas, gas_stray = label_gas(hu, body, prior, out, spacing_mm)
    out[gas > 0] = gas[gas > 0]
    airway = label_trachea(hu, body, prior, out, spacing_mm)
    out[airway] = TRACHEA
    named = (out > 0) & (out != BODY)
    unsure = (doubtful | (body & ~covered) | stray | gas_stray | beside) & ~named
    return PseudoLabels(out, (~unsure).astype(np.uint8), dropped)


# ── air ───────────────────────────────────────────────────────────────────────────────────────


def label_lungs(hu: HuArray, body: Mask, prior: Labels, spacing_mm: Spacing) -> Labels:
    """Lobes 28..32: air in the body that meets the transferred lungs, named by the nearest."""
    lobes = np.isin(prior, LUNG_LOBES)
    out = np.zeros(hu.shape, np.uint8)
    if not lobes.any():
        return out
    airway = _grown(prior == TRACHEA, 3.0, spacing_mm)
    air = (hu < LUNG_HU) & body & ~airway
    lung = np.zeros_like(body)
    parts, n = ndimage.label(air)
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, np.arange(1, n + 1))
    shared = ndimage.sum_labels(lobes, parts, np.arange(1, n + 1))
    wanted = 1 + np.flatnonzero((shared > 0.3 * sizes) & (sizes * _ml(spacing_mm) > 5.0))
    lung = np.isin(parts, wanted)
    vessels = _shrunk(_grown(lung, 5.0, spacing_mm), 5.0, spacing_mm)
    lung = (vessels & body & (hu < 120) & (lobes | lung)) | lung
    out[lung] = _nearest(prior, lobes, spacing_mm)[0][lung]
    return out


def label_trachea(
    hu: HuArray, body: Mask, prior: Labels, taken: Labels, spacing_mm: Spacing
) -> Mask:
    """The trachea: the largest piece of air close to where the atlas has it, outside the lungs."""
    near = _grown(prior == TRACHEA, 8.0, spacing_mm)
    air = (hu < -500) & near & body & ~np.isin(taken, LUNG_LOBES)
    return _largest(air) if air.any() else air


def label_gas(
    hu: HuArray, body: Mask, prior: Labels, taken: Labels, spacing_mm: Spacing
) -> tuple[Labels, Mask]:
    """Gas with a 3 mm wall, as colon or stomach when the atlas has it near; and gas unnamed."""
    gas = (hu < GAS_HU) & body & ~np.isin(taken, LUNG_LOBES) & ~_grown(prior == 57, 8, spacing_mm)
    gas &= ~_grown(np.isin(taken, LUNG_LOBES), 4.0, spacing_mm)
    out, stray = np.zeros(hu.shape, np.uint8), np.zeros_like(gas)
    parts, n = ndimage.label(gas)
    if n == 0:
        return out, stray
    hollow = np.isin(prior, (COLON, STOMACH))
    inside = _grown(~body, 12.0, spacing_mm)
    nearest, far_mm = _nearest(prior, hollow, spacing_mm) if hollow.any() else (prior, None)
    for part, box in enumerate(ndimage.find_objects(parts), start=1):
        here = parts[box] == part
        if here.sum() * _ml(spacing_mm) < 0.8:
            continue
        close = far_mm is not None and float(far_mm[box][here].min()) < 12.0
        if close and not (inside[box] & here).mean() > 0.5:
            out[box][here] = np.bincount(nearest[box][here]).argmax()
        else:
            stray[box] |= here
    wall = _nearest(out, out > 0, spacing_mm) if (out > 0).any() else None
    if wall is not None:
        rim = (wall[1] <= 3.0) & body & ((taken == BODY) | (taken == COLON) | (taken == STOMACH))
        out[rim] = wall[0][rim]
    return out, _grown(stray, 3.0, spacing_mm) if stray.any() else stray


# ── bone ──────────────────────────────────────────────────────────────────────────────────────


def label_bones(
    smooth: HuArray, body: Mask, prior: Labels, spacing_mm: Spacing
) -> tuple[Labels, Mask]:
    """Bones by threshold with their marrow, each voxel named by the nearest transferred bone.

    Bright voxels nearer to a transferred soft organ (contrast in vessels, kidneys, bowel) are left.
    Returns the labels and the bright voxels that stay unnamed.
    """
    bone_prior = np.isin(prior, BONES)
    out = np.zeros(prior.shape, np.uint8)
    bright = (smooth > BONE_HU) & body
    if not bone_prior.any():
        return out, bright
    name, far_mm = _nearest(prior, bone_prior, spacing_mm)
    soft = (prior > 0) & ~bone_prior & (prior != CARTILAGE) & ~np.isin(prior, LUNG_LOBES)
    organ_mm = _nearest(prior, soft, spacing_mm)[1] if soft.any() else np.full(prior.shape, 1e3)
    muscle = np.isin(prior, range(98, 108))
    near = (far_mm < _REACH_MM) & ((far_mm <= organ_mm) | muscle | (far_mm < 2.0))
    core = bright & near
    core = core | ((smooth > MARROW_HU) & bone_prior & _grown(core, 4.0, spacing_mm) & body)
    core = _without_crumbs(core, 0.15, spacing_mm)
    closed = _shrunk(_grown(core, 3.0, spacing_mm), 3.0, spacing_mm)
    filled = np.stack([ndimage.binary_fill_holes(p) for p in np.moveaxis(closed, 2, 0)], axis=2)
    cord = (prior == SPINAL_CORD) | (np.isin(name, range(33, 57)) & (smooth < MARROW_HU))
    solid = core | (filled & ~cord & (smooth > -150) & (far_mm < 8.0) & body)
    rim = solid & ~ndimage.binary_erosion(solid, border_value=1)
    solid &= ~(rim & (smooth < BONE_HU))  # what closing added would teach bones a dark border
    out[solid] = name[solid]
    stray = _grown(bright & ~solid & (far_mm >= 2.0), 2.0, spacing_mm)
    return out, stray & (out == 0)


def _oral_contrast(
    smooth: HuArray, body: Mask, taken: Labels, prior: Labels, spacing_mm: Spacing
) -> Mask:
    """Bright lakes that are neither bone nor anything that blood makes bright."""
    blood = _grown(np.isin(prior, (*HEART, *KIDNEYS, *VESSELS)), 8.0, spacing_mm)
    lakes = (smooth > 200) & body & ~_grown(np.isin(taken, BONES), 6.0, spacing_mm) & ~blood
    return _without_crumbs(lakes, 1.0, spacing_mm)


# ── soft organs ───────────────────────────────────────────────────────────────────────────────


def label_soft(
    smooth: HuArray, body: Mask, prior: Labels, spacing_mm: Spacing
) -> tuple[Labels, Mask, tuple[int, ...]]:
    """Soft organs by maximum a posteriori; returns labels, doubtful voxels, ids dropped."""
    candidates = [int(i) for i in np.unique(prior) if int(i) in SOFT_HU]
    ids = [i for i in candidates if _plausible(smooth, prior == i, i, spacing_mm)]
    best = np.full(prior.shape, 1e-6, np.float32)
    total = np.zeros(prior.shape, np.float32)
    label = np.zeros(prior.shape, np.uint8)
    mass = np.zeros(prior.shape, np.float32)
    for i in ids:
        share = _blurred(prior == i, spacing_mm)
        mass += share
        score = share * _likelihood(smooth, _typical(smooth, _core(prior == i, spacing_mm)))
        total += score
        label[score > best] = i
        best = np.maximum(best, score)
    rest = body & ~np.isin(prior, ids)
    background = np.clip(1 - mass, 0.0, 1) * _likelihood(smooth, rest)
    sure = (best > background) & (best / (total + background + 1e-9) > _SURE) & body
    label[~sure] = 0
    out, dropped = _tidy(label, prior, ids, smooth, spacing_mm)
    doubtful = np.isin(prior, [i for i in np.unique(prior) if i not in (0, BODY)]) & (out == 0)
    gone = tuple(sorted((set(candidates) - set(ids)) | set(dropped)))
    return out, doubtful | ((mass > 0.15) & (out == 0) & body), gone


def _tidy(
    label: Labels, prior: Labels, ids: list[int], smooth: HuArray, spacing_mm: Spacing
) -> tuple[Labels, list[int]]:
    """Each organ smoothed and in one piece; those that lost too much are dropped."""
    out, dropped = np.zeros_like(label), []
    for i in ids:
        mine = label == i
        mine = _largest(ndimage.median_filter(mine, 3)) if mine.any() else mine
        expected = int((prior == i).sum())
        lost = mine.sum() < _LEAST_LEFT * expected or mine.sum() * _ml(spacing_mm) < 1.0
        if lost or (i in KIDNEYS and not _lies_in_fat(mine, smooth, spacing_mm)):
            dropped.append(i)
        else:
            out[mine] = i
    return out, dropped


def _lies_in_fat(mask: Mask, smooth: HuArray, spacing_mm: Spacing) -> bool:
    """A kidney has fat around it; a piece of spleen or muscle that was taken for one has not."""
    rim = _grown(mask, 6.0, spacing_mm) & ~_grown(mask, 2.5, spacing_mm)
    return bool(rim.any() and (smooth[rim] < -15).mean() > 0.3)


def _plausible(smooth: HuArray, mask: Mask, maisi_id: int, spacing_mm: Spacing) -> bool:
    core = smooth[_core(mask, spacing_mm)]
    low, high = SOFT_HU[maisi_id]
    return core.size > 30 and low <= float(np.median(core)) <= high


def _typical(smooth: HuArray, core: Mask) -> Mask:
    """`core` without what is far from its median: what the registration let slip in."""
    values = smooth[core]
    middle = float(np.median(values))
    sd = max(10.0, 1.48 * float(np.median(np.abs(values - middle))))
    return np.asarray(core & (np.abs(smooth - middle) < 3.0 * sd))


def _core(mask: Mask, spacing_mm: Spacing) -> Mask:
    inner = _shrunk(mask, 4.0, spacing_mm)
    return inner if inner.sum() > 0.1 * mask.sum() else mask


def _likelihood(smooth: HuArray, sample: Mask) -> Floats:
    """Density of each voxel's HU among the HU of `sample`: a smoothed histogram."""
    low, high, bins = _HIST
    counts, _ = np.histogram(np.clip(smooth[sample], low, high - 1e-3), bins, (low, high))
    density = ndimage.gaussian_filter1d(counts.astype(np.float32), 1.2)
    density = density / max(float(density.sum()), 1.0) + 1e-5
    index = ((np.clip(smooth, low, high - 1e-3) - low) * (bins / (high - low))).astype(np.intp)
    return np.asarray(density[index], np.float32)


def _blurred(mask: Mask, spacing_mm: Spacing) -> Floats:
    sigma = [_PRIOR_MM / s for s in spacing_mm]
    return np.asarray(ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.5))


# ── heads ─────────────────────────────────────────────────────────────────────────────────────


def label_head(hu: HuArray, body: Mask, spacing_mm: Spacing) -> PseudoLabels:
    """Skull and brain of a head scan by threshold: bone, and the soft tissue that it encloses."""
    smooth = ndimage.gaussian_filter(np.asarray(hu, np.float32), [0.8 / s for s in spacing_mm])
    bone = _largest((smooth > 250) & body)
    shell = _shrunk(_grown(bone, 8.0, spacing_mm), 8.0, spacing_mm)
    planes = [ndimage.binary_fill_holes(p) for p in np.moveaxis(shell, 2, 0)]
    inside = np.stack(planes, axis=2) & ~bone & (smooth > -20) & (smooth < 110)
    brain = _grown(_largest(_shrunk(inside, 5.0, spacing_mm)), 6.0, spacing_mm) & inside
    out = np.where(body, np.uint8(BODY), np.uint8(0)).astype(np.uint8)
    out[bone] = SKULL
    out[brain] = BRAIN
    below = np.maximum.accumulate(brain[:, :, ::-1], axis=2)[:, :, ::-1]  # where the skull is open
    stray = _grown(((smooth > 250) | (hu < -300)) & body & ~bone, 3.0, spacing_mm) | below
    stray &= out == BODY
    return PseudoLabels(out, (~stray).astype(np.uint8), ())


# ── morphology in millimetres ─────────────────────────────────────────────────────────────────


def _nearest(labels: Labels, mask: Mask, spacing_mm: Spacing) -> tuple[Labels, Floats]:
    """For every voxel the label of the nearest voxel of `mask`, and its distance in mm."""
    far, at = ndimage.distance_transform_edt(~mask, spacing_mm, return_indices=True)
    return labels[tuple(at)], far.astype(np.float32)


def _grown(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    if not mask.any():
        return mask.copy()
    return np.asarray(ndimage.distance_transform_edt(~mask, spacing_mm) <= radius_mm)


def _shrunk(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Erosion; the border of the array counts as inside."""
    if mask.all():
        return mask.copy()
    return np.asarray(ndimage.distance_transform_edt(mask, spacing_mm) > radius_mm)


def _largest(mask: Mask) -> Mask:
    parts, n = ndimage.label(mask)
    if n == 0:
        return mask.copy()
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _without_crumbs(mask: Mask, least_ml: float, spacing_mm: Spacing) -> Mask:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel()) * _ml(spacing_mm)
    keep = sizes >= least_ml
    keep[0] = False
    return np.asarray(keep[parts])


def _ml(spacing_mm: Spacing) -> float:
    return float(np.prod(spacing_mm)) / 1000.0
