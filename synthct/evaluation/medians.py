"""The middle of a figure over cases, and how far cases spread, as numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synthct.evaluation.metric import Better, Conditions, Interval, Number


def known(values: Sequence[float | None]) -> list[float]:
    """The values that are numbers."""
    return [v for v in values if v is not None and not math.isnan(v)]


def median_number(
    name: str,
    values: Sequence[float | None],
    conditions: Conditions,
    *,
    unit: str = "",
    better: Better = "",
    role: str = "cases",
) -> Number:
    """Median over cases, with quartiles in the conditions and an interval from two cases on.

    None and NaN are cases that the figure does not apply to; they are left out and not counted.
    """
    found = known(values)
    if not found:
        return Number(name, None, conditions, {role: 0}, unit, better, why="no case has it")
    low, high = (float(v) for v in np.percentile(found, [25, 75]))
    spread = {**conditions.more, "summary": "median over cases", "quartiles": [low, high]}
    return Number(
        name,
        float(np.median(found)),
        replace(conditions, more=spread),
        {role: len(found)},
        unit,
        better,
        median_interval(found),
    )


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Between two of the sorted values, by the sign test: exact whatever the distribution.

    Fewer than six values cannot hold a median with 95 %: then their range, with the level that it
    has (two values: 0.5, three: 0.75). One value has none.
    """
    ordered, n = sorted(values), len(values)
    if n < 2:
        return None
    inner = max((k for k in range(2, n // 2 + 1) if _held(k, n) >= level), default=1)
    return Interval(
        ordered[inner - 1],
        ordered[n - inner],
        min(level, _held(inner, n)),
        "sign test: between two of the sorted cases",
    )


def _held(inner: int, n: int) -> float:
    """Chance that the median lies between the `inner`-th smallest and largest of n values."""
    from scipy.stats import binom

    return float(1 - 2 * binom.cdf(inner - 1, n, 0.5))
