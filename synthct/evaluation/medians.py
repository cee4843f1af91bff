"""The middle of a figure over cases, and how far cases spread, as numbers of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synthct.evaluation.metric import Better, Conditions, Interval, Number

_RESAMPLES = 1000
_LEAST = 3  # cases from which an interval is drawn


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
    seed: int = 0,
) -> Number:
    """Median over cases, with quartiles in the conditions and a bootstrap interval.

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
        bootstrap_median(found, seed) if len(found) >= _LEAST else None,
    )


def bootstrap_median(values: Sequence[float], seed: int) -> Interval:
    """95 % percentile interval of the median, cases drawn with replacement."""
    drawn = np.random.default_rng([seed, len(values)]).integers(
        0, len(values), (_RESAMPLES, len(values))
    )
    low, high = np.percentile(np.median(np.asarray(values)[drawn], axis=1), [2.5, 97.5])
    return Interval(float(low), float(high), resamples=_RESAMPLES)
