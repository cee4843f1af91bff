from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.mmd import MMDMetric

from synthct.evaluation import mmd
from synthct.evaluation.mmd import Gram


@pytest.fixture
def sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.random((6, 40)), rng.random((6, 40)) + 0.2


def test_linear_biased_is_the_distance_of_the_means(sets: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = sets
    expected = np.square(x.mean(0) - y.mean(0)).sum()
    assert mmd.linear_biased(Gram.of(x, y)) == pytest.approx(expected)


def test_linear_unbiased_is_monais(sets: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (torch.from_numpy(a).view(6, 1, 2, 4, 5) for a in sets)
    assert mmd.linear_unbiased(Gram.of(*sets)) == pytest.approx(float(MMDMetric()(x, y)))


def test_pairs_are_batches_of_one(sets: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = sets
    expected = np.mean([np.square(a - b).sum() for a in x for b in y])
    assert mmd.linear_pairs(Gram.of(x, y)) == pytest.approx(expected)
    of_one = mmd.linear_batches(Gram.of(x, y), 1, 400, seed=0)
    assert of_one == pytest.approx(expected, rel=0.02)


def test_one_batch_of_all_is_the_biased_one(sets: tuple[np.ndarray, np.ndarray]) -> None:
    gram = Gram.of(*sets)
    assert mmd.linear_batches(gram, 6, 3, seed=0) == pytest.approx(mmd.linear_biased(gram))


def test_smaller_batches_are_further_apart(sets: tuple[np.ndarray, np.ndarray]) -> None:
    """The bias of a batch falls with its size: a number without it means nothing."""
    gram = Gram.of(*sets)
    sizes = [mmd.linear_batches(gram, size, 200, seed=0) for size in (1, 2, 3, 6)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("unbiased", [False, True])
def test_rbf_by_loops(sets: tuple[np.ndarray, np.ndarray], unbiased: bool) -> None:
    x, y = sets

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        values = [
            np.exp(-np.square(p - q).sum() / (2 * 2.5**2))
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (same and i == j)
        ]
        return float(np.mean(values))

    expected = mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)
    assert mmd.rbf(Gram.of(x, y), 2.5, unbiased=unbiased) == pytest.approx(expected)


def test_the_bandwidth_is_the_median_distance() -> None:
    points = np.array([[0.0], [1.0]]), np.array([[3.0]])
    assert mmd.bandwidth_of(Gram.of(*points)) == pytest.approx(2.0)
