from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from scipy import ndimage

from synthct.evaluation import ms_ssim


@pytest.fixture(scope="module")
def volumes() -> np.ndarray:
    """Four smooth volumes (4, 40, 40, 40) in 0..1 that share their coarse shape."""
    rng = np.random.default_rng(0)
    coarse = ndimage.gaussian_filter(rng.random((40, 40, 40)), 5)
    made = [coarse + 0.3 * ndimage.gaussian_filter(rng.random((40,) * 3), 2) for _ in range(4)]
    stack = np.stack(made)
    unit = (stack - stack.min()) / (stack.max() - stack.min())
    return unit.astype(np.float32)


def _reference(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    """The published computation told again: 5D arrays, every axis blurred, the slip at the end."""
    a, b = torch.from_numpy(x)[:, None], torch.from_numpy(y)[:, None]
    terms = []
    for _ in range(scales):
        p, q = a.numpy(), b.numpy()
        smooth = {
            key: ndimage.gaussian_filter(value, 1.5)
            for key, value in {"p": p, "q": q, "pp": p * p, "qq": q * q, "pq": p * q}.items()
        }
        var = smooth["pp"] - smooth["p"] ** 2 + smooth["qq"] - smooth["q"] ** 2
        cov = smooth["pq"] - smooth["p"] * smooth["q"]
        light = (2 * smooth["p"] * smooth["q"] + 1e-4) / (
            smooth["p"] ** 2 + smooth["q"] ** 2 + 1e-4
        )
        cs = (2 * cov + 9e-4) / (var + 9e-4)
        terms.append(((light * cs).mean(), cs.mean()))
        a, b = (torch.nn.functional.avg_pool3d(t, 2) for t in (a, b))
    weights = ms_ssim.weights_of(scales)
    factors = [
        cs**w * terms[-1][0] ** weights[-1]
        for (_, cs), w in zip(terms[:-1], weights[:-1], strict=True)
    ]
    return float(np.prod(factors))


@pytest.mark.parametrize("batch", [1, 2])
def test_published_is_the_published_computation(volumes: np.ndarray, batch: int) -> None:
    x, y = volumes[:batch], volumes[2 : 2 + batch]
    # four factors of the last SSIM belong to five scales
    assert ms_ssim.published(x, y) == pytest.approx(_reference(x, y, 5), abs=2e-5)


def test_the_batch_axis_changes_the_published_number(volumes: np.ndarray) -> None:
    alone = [ms_ssim.published(volumes[i], volumes[i + 2]) for i in (0, 1)]
    together = ms_ssim.published(volumes[:2], volumes[2:])
    assert abs(together - np.mean(alone)) > 1e-3


def test_the_slip_lowers_the_number_and_the_range_matters(volumes: np.ndarray) -> None:
    x, y = volumes[0], volumes[1]
    published, correct = ms_ssim.both(x, y)
    assert (published, correct) == (
        pytest.approx(ms_ssim.published(x, y)),
        pytest.approx(ms_ssim.correct(x, y)),
    )
    assert published < correct < 1
    wide = ms_ssim.published(2 * x - 1, 2 * y - 1)
    assert wide < published  # its constants stay those of a range of 1
    assert ms_ssim.correct(255 * x, 255 * y, 255.0) == pytest.approx(correct, abs=1e-4)


def test_of_a_volume_with_itself_every_variant_is_one(volumes: np.ndarray) -> None:
    x = volumes[0]
    assert ms_ssim.both(x, x) == (pytest.approx(1, abs=1e-5), pytest.approx(1, abs=1e-5))
    assert ms_ssim.monai(x, x, 3) == pytest.approx(1, abs=1e-5)


def test_monais_is_monais(volumes: np.ndarray) -> None:
    x, y = (torch.from_numpy(v)[None, None] for v in volumes[:2])
    metric = MultiScaleSSIMMetric(3, data_range=1.0, kernel_size=7, weights=ms_ssim.weights_of(3))
    expected = float(metric(x, y))
    assert ms_ssim.monai(volumes[0], volumes[1], 3) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("side", [7, 13, 30, 112])
def test_the_scales_that_fit_are_those_that_monai_takes(side: int) -> None:
    volume = np.random.default_rng(0).random((side,) * 3).astype(np.float32)
    scales = ms_ssim.scales_for(side)
    assert sum(ms_ssim.weights_of(scales)) == pytest.approx(1, abs=1e-3)
    if side < 64:
        assert ms_ssim.monai(volume, volume, scales) == pytest.approx(1, abs=1e-4)
