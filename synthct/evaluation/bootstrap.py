"""Confidence by drawing cases again. A case brings all its slices: they are not independent.

Distances between samples grow when cases are drawn twice, so the plain percentiles of such draws
lie beside the value. What is reported is the spread of the draws around their own mean, laid around
the value: how much it would vary with other cases, not its bias with few.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from synthct.evaluation.metric import Advance, Interval

Indices = npt.NDArray[np.intp]
METHOD = "bootstrap over cases, centred on the value (spread, not small-sample bias)"


def bootstrap(
    statistic: Callable[..., npt.ArrayLike],
    counts: tuple[int, ...],
    values: npt.ArrayLike,
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
    floor: float | None = 0.0,
    ceiling: float | None = None,
    advance: Advance | None = None,
) -> list[Interval | None]:
    """An interval for each of `values`.

    Args:
        statistic: from one array of drawn case numbers per group to as many numbers as `values`.
        counts: cases in each group; groups are drawn independently, with replacement.
        values: the statistic of all cases.
        resamples: draws; fewer than 20 give no interval (None).
        seed: of the draws.
        level: confidence.
        floor, ceiling: the smallest and largest possible value; None: there is none.
        advance: told after each draw.
    """
    found = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if resamples < 20 or min(counts) < 2:
        return [None] * len(found)
    rng = np.random.default_rng([seed, 0xB007])
    draws = np.empty((resamples, len(found)))
    for row in draws:
        row[:] = statistic(*(rng.integers(n, size=n) for n in counts))
        if advance is not None:
            advance()
    return [_centred(v, draws[:, i], level, floor, ceiling) for i, v in enumerate(found)]


def share_interval(hits: int, cases: int, level: float = 0.95) -> Interval:
    """Of a share of cases, exact (Clopper and Pearson 1934): none of three may be 0 to 0.71."""
    from scipy.stats import binomtest

    found = binomtest(hits, cases).proportion_ci(level, method="exact")
    return Interval(float(found.low), float(found.high), level, "Clopper-Pearson over cases")


def _centred(
    value: float,
    draws: npt.NDArray[np.float64],
    level: float,
    floor: float | None,
    ceiling: float | None,
) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]) - draws.mean() + value
    if floor is not None:
        low = max(low, floor)
    if ceiling is not None:
        high = min(high, ceiling)
    return Interval(
        float(min(low, value)), float(max(high, value)), level, METHOD, resamples=len(draws)
    )
