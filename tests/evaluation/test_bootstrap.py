from __future__ import annotations

from math import comb

import numpy as np
import pytest

from synthct.evaluation.bootstrap import bootstrap, share_interval


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    sample = np.random.default_rng(0).normal(10, 2, size=100)
    (interval,) = bootstrap(
        lambda drawn: [sample[drawn].mean()], (100,), [sample.mean()], resamples=2000, seed=0
    )
    assert interval is not None
    half = 1.96 * sample.std() / 10
    assert interval.low == pytest.approx(sample.mean() - half, abs=0.06)
    assert interval.high == pytest.approx(sample.mean() + half, abs=0.06)


def test_no_interval_leaves_what_is_possible() -> None:
    """Draws that lie below a share of 0.9 reach over 1 once they are laid around it."""
    plain, within = (
        bootstrap(lambda d: [float(d[0] % 2)], (10,), [0.9], resamples=200, seed=0, ceiling=top)[0]
        for top in (None, 1.0)
    )
    assert plain is not None and within is not None
    assert within.high == min(1.0, plain.high) and within.low == plain.low
    assert plain.high > 1.0


@pytest.mark.parametrize(("hits", "cases"), [(0, 3), (1, 4), (5, 5), (2, 20)])
def test_the_interval_of_a_share_is_exact(hits: int, cases: int) -> None:
    """Its ends are the shares at which so few, or so many, are seen in 2.5 % of studies."""
    found = share_interval(hits, cases)
    assert found.low <= hits / cases <= found.high
    few = sum(
        comb(cases, k) * found.high**k * (1 - found.high) ** (cases - k) for k in range(hits + 1)
    )
    many = sum(
        comb(cases, k) * found.low**k * (1 - found.low) ** (cases - k)
        for k in range(hits, cases + 1)
    )
    assert found.high == 1 if hits == cases else few == pytest.approx(0.025)
    assert found.low == 0 if hits == 0 else many == pytest.approx(0.025)


def test_the_same_seed_gives_the_same_interval() -> None:
    sample = np.arange(8.0)
    first, second, other = (
        bootstrap(lambda d: [sample[d].mean()], (8,), [3.5], resamples=50, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == second != other


@pytest.mark.parametrize(("counts", "resamples"), [((1, 5), 100), ((5, 5), 0)])
def test_too_little_gives_no_interval(counts: tuple[int, int], resamples: int) -> None:
    found = bootstrap(lambda a, b: [0.0, 0.0], counts, [0.0, 0.0], resamples=resamples, seed=0)
    assert found == [None, None]
