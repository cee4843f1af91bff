"""PSNR and SSIM: known values, symmetry, and slabs that change nothing."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from synthct.evaluation import similarity as module
from synthct.evaluation.similarity import RADIUS_VOXELS, SIGMA_VOXELS, similarity, ssim

RNG = np.random.default_rng(3)
TRUE = RNG.normal(40, 200, (24, 18, 20)).astype(np.float32)
ALL = np.ones(TRUE.shape, dtype=bool)


def test_the_same_is_perfect() -> None:
    found = similarity(TRUE, TRUE, ALL, 2000.0)
    assert found.psnr_db == inf
    assert found.ssim == pytest.approx(1.0)
    assert (found.mean_error, found.mean_absolute_error) == (0.0, 0.0)


@pytest.mark.parametrize(("shift", "decibels"), [(20.0, 40.0), (200.0, 20.0), (-20.0, 40.0)])
def test_a_constant_error_has_the_psnr_of_its_size(shift: float, decibels: float) -> None:
    found = similarity(TRUE + np.float32(shift), TRUE, ALL, 2000.0)
    assert found.psnr_db == pytest.approx(decibels, abs=1e-4)
    assert found.mean_error == pytest.approx(shift, abs=1e-3)


def test_only_the_mask_counts() -> None:
    mask = np.zeros(TRUE.shape, dtype=bool)
    mask[:12] = True
    spoiled = TRUE.copy()
    spoiled[12 + RADIUS_VOXELS :] = 1000
    assert similarity(spoiled, TRUE, mask, 2000.0).psnr_db == inf
    assert similarity(spoiled, TRUE, mask, 2000.0).ssim == pytest.approx(1.0)
    assert similarity(spoiled, TRUE, ~mask, 2000.0).ssim < 0.9


def test_the_map_is_wangs_formula_at_a_voxel() -> None:
    """Weighted sums over one window, written out."""
    other = TRUE + RNG.normal(0, 50, TRUE.shape).astype(np.float32)
    centre = (12, 9, 10)
    offsets = np.arange(-RADIUS_VOXELS, RADIUS_VOXELS + 1)
    line = np.exp(-0.5 * (offsets / SIGMA_VOXELS) ** 2)
    line /= line.sum()
    weight = np.einsum("i,j,k->ijk", line, line, line)
    window = tuple(slice(c - RADIUS_VOXELS, c + RADIUS_VOXELS + 1) for c in centre)
    x, y = other[window].astype(float), TRUE[window].astype(float)
    mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
    var_x, var_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
    both = (weight * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = (0.01 * 2000) ** 2, (0.03 * 2000) ** 2
    expected = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    mask = np.zeros(TRUE.shape, dtype=bool)
    mask[centre] = True
    assert ssim(other, TRUE, mask, 2000.0) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("voxels", [1, 18 * 20 * 7])
def test_slabs_change_nothing(voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    other = TRUE + RNG.normal(0, 80, TRUE.shape).astype(np.float32)
    mask = RNG.random(TRUE.shape) > 0.5
    whole = ssim(other, TRUE, mask, 2000.0)
    monkeypatch.setattr(module, "_SLAB_VOXELS", voxels)
    assert ssim(other, TRUE, mask, 2000.0) == pytest.approx(whole, rel=1e-12)


def test_more_noise_is_less_like() -> None:
    noise = RNG.normal(0, 1, TRUE.shape)
    scores = [similarity(TRUE + s * noise, TRUE, ALL, 2000.0) for s in (10, 40, 160)]
    assert scores[0].psnr_db > scores[1].psnr_db > scores[2].psnr_db
    assert scores[0].ssim > scores[1].ssim > scores[2].ssim


@pytest.mark.parametrize("case", ["shape", "mask", "range"])
def test_what_cannot_be_compared(case: str) -> None:
    found = TRUE[:-1] if case == "shape" else TRUE
    mask = ~ALL if case == "mask" else ALL
    with pytest.raises(ValueError, match=r"differ|empty"):
        similarity(found, TRUE, mask, 0.0 if case == "range" else 1.0)
