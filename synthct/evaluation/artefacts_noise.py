"""Noise and brightness of whole volumes: noise power spectrum, neighbouring slices, HU histogram.

The noise power spectrum is that of ICRU report 87: the mean squared transform of square patches of
homogeneous tissue, their trend taken off, times pixel area over the number of pixels; its integral
over frequency is the variance. Arrays (i, j, k) are HU in RAS, so that slices are axial.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from synthct.geometry import Spacing

Hu = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

PATCH = 16
QUIET_HU = (-50.0, 200.0)
_MOST_PATCHES = 400
_LEAST_PATCHES = 8
_QUIET_SHARE = 0.25
HISTOGRAM_HU = (-1000, 1000, 10)
"""From, to, width of a bin."""


def quiet_patches(hu: Hu, inside: Mask) -> Floats:
    """Axial patches (n, 16, 16) of homogeneous soft tissue: those whose trend is the flattest.

    Of all patches on a grid that lie whole in the patient and between −50 and 200 HU in the mean,
    the quarter with the least structure at large (steps between their quarters) is taken.
    """
    corners = _corners(inside)
    if not len(corners):
        return np.empty((0, PATCH, PATCH))
    patches = np.stack([hu[i : i + PATCH, j : j + PATCH, k] for i, j, k in corners])
    patches = patches.astype(np.float64)
    means = patches.mean(axis=(1, 2))
    soft = patches[(means > QUIET_HU[0]) & (means < QUIET_HU[1])]
    quarters = soft.reshape(-1, 2, PATCH // 2, 2, PATCH // 2).mean(axis=(2, 4)).reshape(-1, 4)
    order = np.argsort(np.ptp(quarters, axis=1), kind="stable")
    quiet: Floats = soft[order[: min(_MOST_PATCHES, int(_QUIET_SHARE * len(order)))]]
    return quiet


def _corners(inside: Mask) -> npt.NDArray[np.intp]:
    """Corners of the patches of a grid that lie in the patient whole."""
    rows, columns = (n // PATCH for n in inside.shape[:2])
    cut = inside[: rows * PATCH, : columns * PATCH]
    tiles = cut.reshape(rows, PATCH, columns, PATCH, -1).all(axis=(1, 3))
    corners: npt.NDArray[np.intp] = np.argwhere(tiles) * np.array([PATCH, PATCH, 1])
    return corners


def noise_power_spectrum(patches: Floats, spacing_mm: Spacing) -> tuple[Floats, Floats]:
    """Radial noise power (HU² mm²) and its frequencies (cycles a mm), 0 to Nyquist.

    Args:
        patches: (n, 16, 16), HU.
        spacing_mm: of the volume; both axial spacings enter.
    """
    i_mm, j_mm = spacing_mm[:2]
    flat = patches - _trend(patches)
    power = (np.abs(np.fft.fft2(flat)) ** 2).mean(axis=0) * i_mm * j_mm / PATCH**2
    first, second = np.fft.fftfreq(PATCH, i_mm), np.fft.fftfreq(PATCH, j_mm)
    frequency = np.hypot(first[:, None], second[None])
    edges = np.linspace(0, 0.5 / max(i_mm, j_mm), PATCH // 2 + 1)
    shell = np.digitize(frequency.ravel(), edges) - 1
    wanted = (shell >= 0) & (shell < len(edges) - 1) & (frequency.ravel() > 0)
    total = np.bincount(shell[wanted], power.ravel()[wanted], len(edges) - 1)
    count = np.bincount(shell[wanted], minlength=len(edges) - 1)
    return total / np.maximum(count, 1), (edges[1:] + edges[:-1]) / 2


def _trend(patches: Floats) -> Floats:
    """The plane of least squares through each patch."""
    line = np.arange(PATCH) - (PATCH - 1) / 2
    scale = PATCH * (line**2).sum()
    rows = (patches * line[:, None]).sum(axis=(1, 2), keepdims=True) / scale * line[:, None]
    columns = (patches * line).sum(axis=(1, 2), keepdims=True) / scale * line
    trend: Floats = patches.mean(axis=(1, 2), keepdims=True) + rows + columns
    return trend


def noise_figures(hu: Hu, inside: Mask, spacing_mm: Spacing) -> dict[str, float]:
    """Noise of quiet tissue: standard deviation, mean frequency of its power; NaN with too little.

    Returns:
        noise_hu: standard deviation within patches, the trend taken off.
        noise_frequency: mean over the power spectrum, cycles a voxel (0.38 for white noise).
    """
    patches = quiet_patches(hu, inside)
    if len(patches) < _LEAST_PATCHES:
        return {"noise_hu": float("nan"), "noise_frequency": float("nan")}
    flat = patches - _trend(patches)
    power = (np.abs(np.fft.fft2(flat)) ** 2).mean(axis=0)
    line = np.fft.fftfreq(PATCH)
    frequency = np.hypot(line[:, None], line[None])
    mean = float((power * frequency).sum() / power.sum()) if power.sum() else float("nan")
    return {"noise_hu": float(flat.std()), "noise_frequency": mean}


def slice_figures(hu: Hu, inside: Mask) -> dict[str, float]:
    """How one axial slice follows the other, in the patient.

    Returns:
        slice_correlation: median over neighbouring slices of the Pearson correlation.
        slice_correlation_lowest: the lowest of them.
        slice_over_plane: mean absolute difference along k over that along i and j.
    """
    values = np.clip(hu, -1000, 1000)
    found = [_slice_correlation(values, inside, k) for k in range(hu.shape[2] - 1)]
    known = [value for value in found if value is not None]
    steps = [_mean_step(values, inside, axis) for axis in range(3)]
    across = steps[2] / ((steps[0] + steps[1]) / 2) if steps[0] + steps[1] > 0 else float("nan")
    return {
        "slice_correlation": float(np.median(known)) if known else float("nan"),
        "slice_correlation_lowest": min(known, default=float("nan")),
        "slice_over_plane": across,
    }


def _slice_correlation(hu: Hu, inside: Mask, k: int) -> float | None:
    both = inside[:, :, k] & inside[:, :, k + 1]
    if both.sum() < PATCH**2:
        return None
    first, second = hu[:, :, k][both], hu[:, :, k + 1][both]
    if first.std() == 0 or second.std() == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _mean_step(hu: Hu, inside: Mask, axis: int) -> float:
    values, mask = np.moveaxis(hu, axis, 0), np.moveaxis(inside, axis, 0)
    total, count = 0.0, 0
    for before, after, was, now in zip(values, values[1:], mask, mask[1:], strict=False):
        both = was & now
        total += float(np.abs(after[both] - before[both]).sum(dtype=np.float64))
        count += int(both.sum())
    return total / count if count else float("nan")


def hu_histogram(hu: Hu, inside: Mask) -> Floats:
    """Share of the patient's voxels per bin of `HISTOGRAM_HU`; what is beyond, at the ends."""
    low, high, width = HISTOGRAM_HU
    counts, _ = np.histogram(np.clip(hu[inside], low, high - 1e-3), np.arange(low, high + 1, width))
    share: Floats = counts / max(1, counts.sum())
    return share


def histogram_distance_hu(first: Floats, second: Floats) -> float:
    """Wasserstein-1 distance of two histograms: how far, in HU, brightness must be moved."""
    low, _, width = HISTOGRAM_HU
    middles = low + width * (np.arange(len(first)) + 0.5)
    return float(stats.wasserstein_distance(middles, middles, first, second))
