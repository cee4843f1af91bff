from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from synthct.evaluation.gaussians import Gaussian, frechet_distance


def _covariance(rng: np.random.Generator, d: int) -> np.ndarray:
    a = rng.normal(size=(d, d))
    return a @ a.T / d


def test_one_dimension_has_its_closed_form() -> None:
    first = Gaussian.of_moments(np.array([1.0]), [[4.0]])
    second = Gaussian.of_moments(np.array([-2.0]), [[9.0]])
    assert frechet_distance(first, second) == pytest.approx((1 + 2) ** 2 + (2 - 3) ** 2)


@given(seed=st.integers(0, 50), d=st.integers(1, 12))
def test_commuting_covariances_have_their_closed_form(seed: int, d: int) -> None:
    """For A and B with the same axes: the sum of (√a − √b)² over them."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    a, b = rng.uniform(0, 3, d), rng.uniform(0, 3, d)
    shift = rng.normal(size=d)
    first = Gaussian.of_moments(np.zeros(d), axes * a @ axes.T)
    second = Gaussian.of_moments(shift, axes * b @ axes.T)
    expected = shift @ shift + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 50))
def test_it_agrees_with_scipys_root_of_the_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, shift = _covariance(rng, 8), _covariance(rng, 8), rng.normal(size=8)
    root = linalg.sqrtm(a @ b).real
    expected = shift @ shift + np.trace(a + b - 2 * root)
    found = frechet_distance(Gaussian.of_moments(np.zeros(8), a), Gaussian.of_moments(shift, b))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 60, 8), (6, 5, 30), (6, 200, 30)])
def test_samples_agree_with_monai_where_scipy_still_has_its_option(n: int, m: int, d: int) -> None:
    """Few samples (no full rank) included: there the root of the product is taken by scipy."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, d)), rng.normal(0.3, 1.4, size=(m, d))
    root = linalg.sqrtm(np.cov(x.T) @ np.cov(y.T) + 1e-12 * np.eye(d)).real
    shift = x.mean(0) - y.mean(0)
    expected = shift @ shift + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    found = frechet_distance(Gaussian.of_samples(x), Gaussian.of_samples(y))
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("n", [5, 400])
def test_a_set_against_itself_is_at_no_distance(n: int) -> None:
    rows = np.random.default_rng(0).normal(size=(n, 40))
    assert frechet_distance(Gaussian.of_samples(rows), Gaussian.of_samples(rows)) < 1e-9


def test_one_row_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="2 are needed"):
        Gaussian.of_samples(np.zeros((1, 3)))
