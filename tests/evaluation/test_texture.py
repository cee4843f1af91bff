"""Texture: closed forms, and a real scan against what must not pass for one."""

from __future__ import annotations

from math import isnan, pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from synthct.evaluation import texture as module
from synthct.evaluation.case import Case
from synthct.evaluation.texture import KNOWN, residual_correlation, texture
from synthct.labels.body import body_from_ct, with_body

Array = npt.NDArray[Any]
RNG = np.random.default_rng(11)
SHAPE = (40, 40, 40)
ALL = np.ones(SHAPE, dtype=bool)
SPACING = (3.0, 3.0, 3.0)
LIVER = np.where(ndimage.binary_erosion(ALL, iterations=3), 1, 200).astype(np.uint8)


def noise(sd: float) -> Array:
    return RNG.normal(0, sd, SHAPE).astype(np.float32)


def test_white_noise_knows_nothing_of_its_neighbours() -> None:
    found = texture(50 + noise(12), LIVER, SPACING)
    assert abs(found["liver_correlation"]) < 0.02
    assert found["sharpness_hu"] == pytest.approx(2 * 12 / sqrt(pi), rel=0.01)


def test_the_mean_of_two_neighbours_correlates_by_half() -> None:
    """A moving sum of two shares half of its variance with the next one, along its axis only."""
    source = noise(12)
    found = texture(50 + (source + np.roll(source, 1, axis=1)) / 2, LIVER, SPACING)
    assert found["liver_correlation_j"] == pytest.approx(0.5, abs=0.02)
    assert abs(found["liver_correlation_i"]) < 0.02
    assert found["liver_correlation"] == pytest.approx(0.5 / 3, abs=0.02)


def test_cortex_and_marrow_of_a_box() -> None:
    labels = np.full(SHAPE, 200, np.uint8)
    labels[10:30, 10:30, 10:30] = 33
    hu = np.full(SHAPE, 20.0)
    hu[labels == 33] = 500.0
    hu[11:29, 11:29, 11:29] = 200.0
    hu[11:20, 11:29, 11:29] = 100.0  # half the marrow
    found = texture(hu, labels, SPACING)
    assert found["bone_std_hu"] == pytest.approx(50.0, rel=1e-6)
    assert found["cortex_minus_marrow_hu"] == pytest.approx(500.0 - 150.0)


def test_metal_counts_as_a_thousand() -> None:
    labels = np.full(SHAPE, 95, np.uint8)
    hu = np.full(SHAPE, 0.0)
    hu[20:] = 3000.0
    assert texture(hu, labels, SPACING)["bone_std_hu"] == pytest.approx(500.0, rel=1e-2)


def test_gas_of_the_colon() -> None:
    labels = np.full(SHAPE, 200, np.uint8)
    labels[:10, :10, :10] = 62
    hu = np.full(SHAPE, 20.0)
    hu[:10, :10, :3] = -800.0
    assert texture(hu, labels, SPACING)["colon_gas_share"] == pytest.approx(0.3)


def test_unlabelled_tissue_split_by_a_plane() -> None:
    hu = np.full(SHAPE, -100.0)
    hu[20:] = 40.0
    found = texture(hu, np.full(SHAPE, 200, np.uint8), SPACING)
    assert (found["fat_hu"], found["muscle_hu"], found["edge_hu"]) == (-100.0, 40.0, 140.0)
    assert (found["fat_share"], found["muscle_share"]) == (0.5, 0.5)
    soft = texture(ndimage.gaussian_filter(hu, 2.0), np.full(SHAPE, 200, np.uint8), SPACING)
    assert soft["edge_hu"] < 50.0
    assert soft["between_share"] > 0.04


def test_what_two_seeds_share() -> None:
    """A shared part of the variance of each is their correlation."""
    shared = noise(10)
    first, second = shared + noise(10), 30 + shared + noise(10)
    assert residual_correlation(first, second, LIVER) == pytest.approx(0.5, abs=0.02)
    assert abs(residual_correlation(noise(9), noise(9), LIVER)) < 0.02


def test_what_is_not_there_is_not_a_number() -> None:
    found = texture(noise(10), np.full(SHAPE, 200, np.uint8), SPACING)
    for name in ("liver_correlation", "bone_std_hu", "cortex_minus_marrow_hu", "colon_gas_share"):
        assert isnan(found[name])
    assert isnan(residual_correlation(noise(1), noise(1), np.zeros(SHAPE)))


def test_a_cube_of_air_has_no_texture() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[:15] = 200
    assert isnan(texture(noise(10), labels, SPACING)["high_frequency_share"])


def test_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match="differ"):
        texture(noise(1), LIVER[1:], SPACING)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> tuple[Array, Array]:
    """The scan at 3 mm and its MAISI ids, body envelope included."""
    folder = shared_data / "ct" / "ts-example"
    case = Case(
        "real", folder / "image.nii.gz", folder / "labels.nii.gz", scheme="totalsegmentator"
    )
    hu = case.volume().array
    return hu, with_body(case.label_map().array, body_from_ct(hu, SPACING, 2))


def test_the_real_scan_has_the_figures_of_issue_5(real: tuple[Array, Array]) -> None:
    found = texture(*real, SPACING)
    along = sorted(found[f"liver_correlation_{axis}"] for axis in "ijk")
    assert 0.165 <= along[0] <= along[-1] <= 0.215
    assert found["bone_std_hu"] == pytest.approx(178.0, abs=0.5)
    assert found["cortex_minus_marrow_hu"] == pytest.approx(112.0, abs=0.5)
    assert found["colon_gas_share"] == pytest.approx(0.24, abs=0.005)
    assert found["sharpness_hu"] == pytest.approx(30.7, abs=0.15)
    assert found["high_frequency_share"] == pytest.approx(0.107, abs=0.0005)
    assert found["fat_hu"] == pytest.approx(-100, abs=5)
    assert 0 <= found["muscle_hu"] <= 60
    assert all(found[name] >= known.bar for name, known in KNOWN.items())


def test_a_painted_map_fails_where_it_must(real: tuple[Array, Array]) -> None:
    hu, labels = real
    painted = np.full(hu.shape, -1000.0)
    for label in np.unique(labels[labels > 0]):
        painted[labels == label] = np.median(hu[labels == label])
    found = texture(painted + (labels > 0) * RNG.normal(0, 13, hu.shape), labels, SPACING)
    assert found["liver_correlation"] == pytest.approx(0.0, abs=0.02)
    assert found["bone_std_hu"] < 40
    assert found["cortex_minus_marrow_hu"] < 10
    assert found["colon_gas_share"] == 0


def test_a_blurred_scan_fails_where_it_must(real: tuple[Array, Array]) -> None:
    hu, labels = real
    blurred = ndimage.gaussian_filter(np.clip(hu, *module.CLIP_HU), 0.85)
    found = texture(blurred, labels, SPACING)
    assert found["sharpness_hu"] == pytest.approx(13.6, abs=0.5)
    assert found["high_frequency_share"] == pytest.approx(0.015, abs=0.003)
