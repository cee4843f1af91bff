"""Fréchet and kernel distances of the embedded network: ordered as anybody would order them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from synthct.evaluation.case import Case
from synthct.evaluation.features import FeatureSource
from synthct.evaluation.fidelity import Frechet, Kernel
from synthct.evaluation.metric import Result, Settings
from synthct.workflows.progress import SilentProgress
from tests.evaluation.studies import person, study_of, write_case, write_people

SETTINGS = Settings(spacing_mm=4.0, side=48, share=0.3, resamples=0)
STRENGTHS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def real(folder: Path) -> tuple[Case, ...]:
    return write_people(folder, range(3))


def _value(result: Result, name: str = "average") -> float:
    (value,) = (number.value for number in result.numbers if number.name == name)
    assert value is not None
    return value


def _measure(
    metric: Frechet | Kernel, real: tuple[Case, ...], synthetic: tuple[Case, ...], cache: Path
) -> Result:
    others = tuple(replace(case, role="synthetic") for case in synthetic)
    return metric.measure(study_of(real, others, cache), SilentProgress())


def test_real_against_itself_is_nothing(real: tuple[Case, ...], folder: Path) -> None:
    source = FeatureSource(SETTINGS)
    assert _value(_measure(Frechet(source), real, real, folder / "cache")) < 1e-9
    # without bias: pairs of a slice with itself count across the sets, but not within them
    assert _value(_measure(Kernel(source), real, real, folder / "cache")) <= 0


def _blur(hu: np.ndarray, strength: int) -> np.ndarray:
    return ndimage.gaussian_filter(hu, 0.4 * strength)


def _noise(hu: np.ndarray, strength: int) -> np.ndarray:
    return hu + np.random.default_rng(7).normal(0, 25.0 * strength, hu.shape)


def _shift(hu: np.ndarray, strength: int) -> np.ndarray:
    return np.where(hu > -950, hu + 40.0 * strength, hu)


@pytest.mark.parametrize("spoil", [_blur, _noise, _shift])
def test_the_stronger_the_further(
    spoil: Callable[[np.ndarray, int], np.ndarray],
    real: tuple[Case, ...],
    folder: Path,
    tmp_path: Path,
) -> None:
    source = FeatureSource(SETTINGS)
    values: dict[str, list[float]] = {"fid": [], "kid": []}
    for strength in STRENGTHS:
        spoilt = []
        for seed in range(3):
            hu = spoil(person(seed)[0], strength).astype(np.float32)
            image, _ = write_case(tmp_path, f"s{strength}-{seed}", hu)
            spoilt.append(Case(f"s{seed}", image, role="synthetic"))
        for metric in (Frechet(source), Kernel(source)):
            result = _measure(metric, real, tuple(spoilt), folder / "cache")
            values[metric.name].append(_value(result))
    for name, found in values.items():
        assert found == sorted(found), name
    assert values["fid"][0] > 0 and values["fid"][-1] > 1.5 * values["fid"][0]
    assert values["kid"][-1] > 0 and values["kid"][-1] > 2 * values["kid"][0]


def test_numbers_carry_their_protocol(real: tuple[Case, ...], folder: Path) -> None:
    source = FeatureSource(replace(SETTINGS, resamples=30))
    result = _measure(Frechet(source), real, real, folder / "cache")
    number = result.numbers[0]
    conditions = number.conditions
    assert conditions.extractor == "mini-slices" and len(conditions.extractor_sha256) == 64
    assert conditions.spacing_mm == (4.0, 4.0, 4.0) and "0.3" in conditions.slices
    assert number.n["real_slices"] == sum(
        len(source.of(case, study_of(real, ()).cache)["axial"]) for case in real
    )
    assert number.interval is not None and number.interval.resamples == 30
    assert number.interval.low <= (number.value or 0) <= number.interval.high
    assert any("no Inception" in line for line in result.warnings)
    assert any("no full rank" in line for line in result.warnings)
    assert [row.badness is None for row in result.rows] == [True] * 3 + [False] * 3
