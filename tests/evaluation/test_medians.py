"""Medians over cases, and what few cases can say of them."""

from __future__ import annotations

import numpy as np
import pytest

from synthct.evaluation.medians import median_interval, median_number
from synthct.evaluation.metric import Conditions


@pytest.mark.parametrize(("count", "level"), [(2, 0.5), (3, 0.75), (5, 0.9375)])
def test_few_cases_give_their_range_with_the_level_that_it_has(count: int, level: float) -> None:
    found = median_interval([float(n) for n in range(count)])
    assert found is not None
    assert (found.low, found.high) == (0.0, count - 1.0)
    assert found.level == pytest.approx(level)


def test_one_case_has_no_interval() -> None:
    assert median_number("liver", [50.0], Conditions("median")).interval is None
    assert median_interval([1.0]) is None


@pytest.mark.parametrize(
    ("count", "places"), [(6, (0, 5)), (9, (1, 7)), (20, (5, 14)), (100, (39, 60))]
)
def test_enough_cases_give_the_textbook_order_statistics(
    count: int, places: tuple[int, int]
) -> None:
    found = median_interval([float(n) for n in range(count)])
    assert found is not None
    assert (found.low, found.high) == places
    assert found.level == 0.95


@pytest.mark.parametrize("count", [2, 3, 5, 6, 11, 25])
def test_the_interval_holds_the_median_as_often_as_it_says(count: int) -> None:
    """Of skewed values, whose median is known."""
    rng = np.random.default_rng(count)
    median, held, level, draws = np.log(2.0), 0, 0.0, 2000
    for row in rng.exponential(size=(draws, count)):
        found = median_interval(row.tolist())
        assert found is not None
        held += found.low <= median <= found.high
        level = found.level
    assert held / draws > level - 0.03
