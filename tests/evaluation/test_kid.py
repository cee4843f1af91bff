from __future__ import annotations

import numpy as np
import pytest

from synthct.evaluation.kid import KernelSums, kernel_distance


def _brute(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimator of Gretton (2012), equation 3, by loops."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    first = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    second = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return first + second - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.fixture
def sets() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(3)
    return (
        [rng.normal(size=(n, 5)) for n in (3, 1, 4)],
        [rng.normal(0.5, 1.2, size=(n, 5)) for n in (2, 5)],
    )


def test_it_is_the_unbiased_estimator(sets: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    first, second = sets
    expected = _brute(np.concatenate(first), np.concatenate(second))
    assert kernel_distance(first, second) == pytest.approx(expected, rel=1e-12)


def test_cases_drawn_once_are_as_all(sets: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    sums = KernelSums.of(*sets)
    assert sums.distance(np.array([2, 0, 1]), np.array([1, 0])) == pytest.approx(sums.distance())


def test_a_subset_is_that_subsets_distance(
    sets: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    first, second = sets
    drawn = KernelSums.of(first, second).distance(np.array([0, 2]), np.array([1, 0]))
    assert drawn == pytest.approx(kernel_distance([first[0], first[2]], second))


def test_it_has_no_bias() -> None:
    """Of the same distribution its mean is 0, though each value is not."""
    rng = np.random.default_rng(0)
    values = [
        kernel_distance([rng.normal(size=(6, 4))], [rng.normal(size=(6, 4))]) for _ in range(600)
    ]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(600)
    assert np.std(values) > 0.05
