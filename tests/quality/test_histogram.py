"""Medians from a histogram are the medians of the voxels."""

from __future__ import annotations

import numpy as np
import pytest

from synthct.quality.histogram import (
    HU_HIGH,
    HU_LOW,
    label_histogram,
    median_of,
    quantile_of,
    share_above,
)


def counted(hu: np.ndarray, labels: np.ndarray):  # type: ignore[no-untyped-def,type-arg]
    return label_histogram(hu, labels, far_low=-3000.0, far_high=4000.0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("order", ["C", "F"])
def test_medians_equal_numpy(seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 60, 3))
    hu = np.array(rng.normal(0, 400, shape).round(), order=order)  # type: ignore[call-overload]
    labels = rng.integers(0, 9, shape, dtype=np.uint8)
    histogram = counted(hu, labels)
    assert histogram.voxels == hu.size
    for label in np.unique(labels):
        inside = np.clip(hu[labels == label], HU_LOW, HU_HIGH)
        assert histogram.sizes()[label] == inside.size
        assert median_of(histogram.counts[label]) == np.median(inside)


def test_more_voxels_than_one_chunk() -> None:
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 1000, (3, 1100, 700), dtype=np.int16)
    labels = rng.integers(0, 3, hu.shape, dtype=np.uint8)
    histogram = counted(hu, labels)
    assert histogram.voxels == hu.size
    assert median_of(histogram.counts[2]) == np.median(hu[labels == 2])


def test_quantiles_and_shares() -> None:
    hu = np.arange(-50, 51, dtype=np.int16).reshape(1, 1, -1)
    histogram = counted(hu, np.ones(hu.shape, dtype=np.uint8)).counts[1]
    assert quantile_of(histogram, 0.0) == -50
    assert quantile_of(histogram, 1.0) == 50
    assert quantile_of(histogram, 0.25) == -25
    assert share_above(histogram, 0) == pytest.approx(50 / 101)
    assert share_above(histogram, -2000) == 1
    assert share_above(histogram, 5000) == 0


def test_extremes_are_clipped_but_remembered() -> None:
    hu = np.array([[[-9000.0, 0.0, 40000.0, np.nan]]])
    histogram = counted(hu, np.ones(hu.shape, dtype=np.uint8))
    assert (histogram.minimum, histogram.maximum) == (-9000.0, 40000.0)
    assert histogram.far_out == 2 and histogram.not_finite == 1
    assert histogram.counts[1, 0] == histogram.counts[1, -1] == 1
