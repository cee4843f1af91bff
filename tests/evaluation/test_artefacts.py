"""Seams, slices and noise: what is planted is found, what is not there is not."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage, stats

from synthct.evaluation.artefacts import Seam, seams_along, worst_seams
from synthct.evaluation.artefacts_metric import ArtefactsMetric
from synthct.evaluation.artefacts_noise import (
    PATCH,
    histogram_distance_hu,
    hu_histogram,
    noise_figures,
    noise_power_spectrum,
    quiet_patches,
    slice_figures,
)
from synthct.evaluation.case import Case
from synthct.evaluation.metric import Study
from synthct.geometry import Geometry
from synthct.labels.body import body_from_ct
from synthct.labels.render import render_hu
from synthct.phantom import make_phantom_with_tissues
from synthct.volume.nifti import write_volume
from synthct.volume.volume import Volume
from synthct.workflows.progress import SilentProgress

Array = npt.NDArray[Any]
SHAPE = (64, 64, 48)
SPACING = (3.0, 3.0, 3.0)
BODY = np.zeros(SHAPE, dtype=bool)
BODY[6:58, 6:58] = True


def patient(seed: int = 0, noise_hu: float = 15.0) -> Array:
    """Smooth soft tissue with noise, in air."""
    rng = np.random.default_rng(seed)
    tissue = 40 + 200 * ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 4)
    hu = np.where(BODY, tissue + rng.normal(0, noise_hu, SHAPE), -1000.0)
    return hu.astype(np.float32)


def planted(hu: Array, axis: int, plane: int, step_hu: float) -> Array:
    beyond = [slice(None)] * 3
    beyond[axis] = slice(plane + 1, None)
    hu = hu.copy()
    hu[tuple(beyond)] += step_hu
    return hu


def found(seams: tuple[Seam, ...]) -> list[tuple[str, int]]:
    return [(seam.axis, seam.plane) for seam in seams if seam.flagged]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_planted_nothing_found(seed: int) -> None:
    assert found(worst_seams(patient(seed), BODY, SPACING)) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("plane", "step"), [(20, 15.0), (31, -15.0)])
def test_a_seam_of_15_hu_is_found_where_it_is(axis: int, plane: int, step: float) -> None:
    seams = worst_seams(planted(patient(), axis, plane, step), BODY, SPACING)
    assert found(seams) == [("ijk"[axis], plane)]
    worst = next(seam for seam in seams if seam.flagged)
    assert worst.step_hu == pytest.approx(step, abs=2.0)


@pytest.mark.parametrize("seed", [500, 504])
def test_a_flat_wall_of_fat_and_muscle_is_no_seam_and_a_seam_beside_it_is(seed: int) -> None:
    """Phantoms whose wall is flat in front; without a margin it was a step of 40 HU and more."""
    spacing = (4.0, 4.0, 4.0)
    labels, tissues = make_phantom_with_tissues("abdomen", spacing, seed)
    hu = render_hu(labels.array, tissues, spacing, np.random.default_rng([seed, 1]))
    inside = body_from_ct(hu, spacing, superior_axis=2)
    assert not any(seam.flagged for seam in worst_seams(hu, inside, spacing))
    middle = hu.shape[1] // 2
    stepped = planted(hu, 1, middle, 15.0)
    (seam,) = [s for s in worst_seams(stepped, inside, spacing) if s.axis == "j"]
    assert seam.flagged and seam.plane == middle


def test_one_odd_slice_is_two_seams() -> None:
    hu = patient()
    hu[:, :, 20] += 15
    flagged = [s.plane for s in seams_along(hu, BODY, SPACING, 2) if s.flagged]
    assert flagged == [19, 20]


def test_a_slope_is_no_seam() -> None:
    hu = patient() + np.linspace(0, 300, SHAPE[2], dtype=np.float32)
    assert found(worst_seams(np.where(BODY, hu, -1000), BODY, SPACING)) == []


def test_air_has_no_seams() -> None:
    assert worst_seams(np.full(SHAPE, -1000.0), np.zeros(SHAPE, bool), SPACING) == ()


@pytest.mark.parametrize("name", ["ts-example", "tcga-coad-ay-4070", "pancct-cb-001"])
def test_real_scans_with_and_without_a_seam(shared_data: Path, name: str) -> None:
    """On three whole scans, all axes and three places. All scans: `docs/evaluation.md`."""
    volume = Case(name, shared_data / "ct" / name / "image.nii.gz").volume()
    hu, spacing = np.clip(volume.array, -1000, 1000), volume.geometry.spacing_mm
    body = body_from_ct(hu, spacing, 2)
    assert found(worst_seams(hu, body, spacing)) == []
    for axis in range(3):
        planes = [seam.plane for seam in seams_along(hu, body, spacing, axis)]
        for plane in (planes[len(planes) // 3], planes[len(planes) // 2]):
            seams = seams_along(planted(hu, axis, plane, 15.0), body, spacing, axis)
            assert [s.plane for s in seams if s.flagged] == [plane]


# ── noise ─────────────────────────────────────────────────────────────────────────────────────


def test_white_noise_has_a_flat_spectrum_of_its_variance() -> None:
    """NPS of white noise: variance times pixel area, at every frequency."""
    patches = np.random.default_rng(1).normal(0, 20, (400, PATCH, PATCH))
    power, frequency = noise_power_spectrum(patches, (0.8, 0.8, 2.0))
    expected = np.full(len(power) - 3, 400 * 0.8**2)  # the trend took from the lowest
    assert power[3:] == pytest.approx(expected, rel=0.05)
    assert frequency.max() < 0.5 / 0.8


def test_a_plane_through_a_patch_is_no_noise() -> None:
    i, j = np.meshgrid(np.arange(PATCH), np.arange(PATCH), indexing="ij")
    power, _ = noise_power_spectrum((3.0 * i - 2.0 * j + 50)[None], SPACING)
    assert power == pytest.approx(np.zeros(len(power)), abs=1e-9)


@pytest.mark.parametrize("sd", [5.0, 20.0])
def test_noise_of_quiet_tissue(sd: float) -> None:
    hu = np.where(BODY, np.random.default_rng(2).normal(40, sd, SHAPE), -1000.0)
    figures = noise_figures(hu, BODY, SPACING)
    assert figures["noise_hu"] == pytest.approx(sd, rel=0.03)
    assert figures["noise_frequency"] == pytest.approx(0.38, abs=0.01)
    smooth = np.where(BODY, ndimage.gaussian_filter(np.where(BODY, hu, 40.0), 1.0), -1000)
    assert noise_figures(smooth, BODY, SPACING)["noise_frequency"] < 0.25


def test_patches_lie_in_the_body() -> None:
    hu = patient()
    patches = quiet_patches(hu, BODY)
    assert patches.shape[1:] == (PATCH, PATCH)
    assert patches.min() > -500
    assert len(quiet_patches(hu, np.zeros(SHAPE, bool))) == 0


def test_a_lost_slice_shows() -> None:
    hu = patient(noise_hu=2.0)
    whole = slice_figures(hu, BODY)
    hu[:, :, 20] = patient(seed=9)[:, :, 40]
    spoiled = slice_figures(hu, BODY)
    assert spoiled["slice_correlation_lowest"] < 0.5 < whole["slice_correlation_lowest"]
    assert spoiled["slice_correlation"] == pytest.approx(whole["slice_correlation"], abs=0.05)


def test_thicker_slices_step_more() -> None:
    hu = patient(noise_hu=0.0)
    assert slice_figures(hu, BODY)["slice_over_plane"] == pytest.approx(1.0, abs=0.15)
    thick, body = hu[:, :, ::3], BODY[:, :, ::3]
    assert slice_figures(thick, body)["slice_over_plane"] > 1.8


def test_the_histogram_distance_of_a_shift_is_the_shift() -> None:
    hu = np.random.default_rng(3).normal(40, 60, SHAPE)
    first, second = hu_histogram(hu, BODY), hu_histogram(hu + 30, BODY)
    assert histogram_distance_hu(first, second) == pytest.approx(30.0, abs=0.5)
    direct = stats.wasserstein_distance(hu[BODY][::50], hu[BODY][::50] + 30)
    assert histogram_distance_hu(first, second) == pytest.approx(direct, abs=0.5)
    assert histogram_distance_hu(first, first) == 0.0


# ── the metric ────────────────────────────────────────────────────────────────────────────────


def _case(folder: Path, name: str, hu: Array, role: str) -> Case:
    path = folder / f"{name}.nii.gz"
    write_volume(path, Volume(hu, Geometry.from_spacing(SHAPE, SPACING)))
    return Case(name, path, role=role)  # type: ignore[arg-type]


def test_a_study_flags_the_case_with_the_seam(tmp_path: Path) -> None:
    real = tuple(_case(tmp_path, f"real{n}", patient(n), "real") for n in range(3))
    good = _case(tmp_path, "good", patient(7), "synthetic")
    bad = _case(tmp_path, "bad", planted(patient(8), 1, 30, 15.0), "synthetic")
    result = ArtefactsMetric().measure(Study(real, (good, bad)), SilentProgress())
    numbers = {number.name: number for number in result.numbers}
    assert numbers["synthetic/cases_with_a_seam"].value == 0.5
    assert numbers["real/cases_with_a_seam"].value == 0.0
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("bad: a seam")
    assert "between planes 30 and 31 of j" in result.warnings[0]
    worst = max(result.rows, key=lambda row: row.badness or 0.0)
    assert worst.case == "bad"
    distance = numbers["hu_histogram_distance"].value
    assert distance is not None
    assert distance < 20
    assert numbers["synthetic/noise_hu"].value == pytest.approx(15, rel=0.3)


def test_air_is_a_case_without_figures(tmp_path: Path) -> None:
    real = _case(tmp_path, "real", patient(), "real")
    air = _case(tmp_path, "air", np.full(SHAPE, -1000.0), "synthetic")
    result = ArtefactsMetric().measure(Study((real,), (air,)), SilentProgress())
    row = next(row for row in result.rows if row.case == "air")
    assert row.values["noise_hu"] is None
    assert all(n.value is None or not isnan(n.value) for n in result.numbers)
