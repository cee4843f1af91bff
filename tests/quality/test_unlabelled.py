"""Without labels: a patient in air passes, noise and constants do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthct.geometry import Geometry
from synthct.quality.unlabelled import judge_unlabelled
from synthct.volume.reading import read_image
from synthct.volume.volume import Volume

GRID = Geometry.from_spacing((40, 40, 20), (4.0, 4.0, 4.0))


def _patient() -> np.ndarray:
    rng = np.random.default_rng(0)
    hu = np.full(GRID.shape, -1000.0)
    hu[5:35, 8:32] = -100
    hu[10:30, 12:28] = 40
    return hu + rng.normal(0, 10, hu.shape)


def test_a_patient_in_air_passes() -> None:
    verdict = judge_unlabelled(Volume(_patient(), GRID))
    assert verdict.passed and verdict.checked == 6


@pytest.mark.parametrize(
    "image",
    [
        np.full(GRID.shape, 40.0),
        np.full(GRID.shape, -1000.0),
        np.random.default_rng(0).uniform(-1000, 1000, GRID.shape),
        _patient() + 400,
        np.where(_patient() > 0, np.nan, _patient()),
    ],
)
def test_what_is_no_patient_fails(image: np.ndarray) -> None:
    assert not judge_unlabelled(Volume(image, GRID)).passed


@pytest.mark.parametrize(
    "case", ["ts-example", "ts-dicom-slab", "lidc-0001", "tcga-thca-a4ma", "pancct-cb-001"]
)
def test_real_scans_pass(case: str, shared_data: Path) -> None:
    verdict = judge_unlabelled(read_image(shared_data / "ct" / case / "image.nii.gz"))
    assert verdict.passed, verdict.reason
