"""Is synthetic data of use? Arms of a training study, folds by subject, and the test between arms.

Every arm trains the same network for as long on other cases and is tested on the same held-out
real cases: real only, synthetic only, and real with synthetic at given ratios (MAISI, Table S4 and
figure 6). Arms are compared case by case with Wilcoxon's signed rank test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from synthct.errors import InputError

Thing = TypeVar("Thing")

REAL, SYNTHETIC = "real", "synthetic"
LEAST_PAIRS = 6
"""Under this many pairs a two-sided signed rank test cannot reach 0.05 whatever they say."""


@dataclass(frozen=True)
class Arm:
    """What an arm trains on: shares of the real training cases' number.

    Attributes:
        name: `real`, `synthetic`, `real+0.5`.
        real: whether the real training cases are in it.
        ratio: synthetic cases per real training case; None: all there are.
    """

    name: str
    real: bool
    ratio: float | None


@dataclass(frozen=True)
class Comparison:
    """An arm against the real one, over test cases that both scored.

    `p` is two-sided, None with fewer than six pairs or without any difference.
    """

    arm: str
    pairs: int
    mean: float
    mean_real: float
    difference: float
    p: float | None


def arms_of(ratios: Sequence[float]) -> tuple[Arm, ...]:
    """Real only, synthetic only, and both at each ratio.

    >>> [arm.name for arm in arms_of([0.5, 1])]
    ['real', 'synthetic', 'real+0.5', 'real+1']

    Raises:
        InputError: a ratio that is not positive.
    """
    if any(ratio <= 0 for ratio in ratios):
        raise InputError(f"ratios {list(ratios)}: synthetic per real case, over 0", "--ratio 1")
    mixed = [Arm(f"{REAL}+{ratio:g}", True, ratio) for ratio in dict.fromkeys(ratios)]
    return (Arm(REAL, True, 0.0), Arm(SYNTHETIC, False, None), *mixed)


def folds_by_subject(subjects: Sequence[str], folds: int, seed: int) -> list[list[int]]:
    """Test cases of each fold, by number: all cases of a subject in one fold, folds of like size.

    Raises:
        InputError: fewer subjects than folds.
    """
    names = sorted(set(subjects))
    if len(names) < folds or folds < 2:
        raise InputError(
            f"{len(names)} subjects for {folds} folds; at least {max(2, folds)} subjects needed",
            "give more real cases, or fewer folds (--folds, at least 2)",
        )
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    counts = {name: sum(s == name for s in subjects) for name in names}
    members: list[list[str]] = [[] for _ in range(folds)]
    for index in sorted(order, key=lambda n: -counts[names[n]]):
        smallest = min(members, key=lambda fold: sum(counts[name] for name in fold))
        smallest.append(names[index])
    return [[n for n, s in enumerate(subjects) if s in fold] for fold in members]


def training_set(
    arm: Arm, real: Sequence[Thing], synthetic: Sequence[Thing], seed: int
) -> list[Thing]:
    """The cases that an arm trains on. A larger ratio contains the smaller one's draw.

    With fewer synthetic cases than the ratio asks for, all of them; the caller tells.
    """
    order = np.random.default_rng([seed, len(synthetic)]).permutation(len(synthetic))
    count = len(synthetic) if arm.ratio is None else round(arm.ratio * len(real))
    drawn = [synthetic[n] for n in order[:count]]
    return [*(real if arm.real else []), *drawn]


def compared(scores: Mapping[str, Sequence[float]]) -> list[Comparison]:
    """Every arm against `real`; scores are by arm and test case, NaN where there is none.

    Raises:
        KeyError: there is no arm `real`.
    """
    return [
        _comparison(arm, np.asarray(values, np.float64), np.asarray(scores[REAL], np.float64))
        for arm, values in scores.items()
    ]


def _comparison(
    arm: str, values: npt.NDArray[np.float64], real: npt.NDArray[np.float64]
) -> Comparison:
    both = ~np.isnan(values) & ~np.isnan(real)
    ours, theirs = values[both], real[both]
    p: float | None = None
    if arm != REAL and len(ours) >= LEAST_PAIRS and np.any(ours != theirs):
        p = float(stats.wilcoxon(ours, theirs, alternative="two-sided").pvalue)
    mean, other = (float(x.mean()) if x.size else nan for x in (ours, theirs))
    return Comparison(arm, len(ours), mean, other, mean - other, p)


def mean_of(values: Sequence[float]) -> float:
    """Over what is a number; NaN where nothing is."""
    known = [value for value in values if not isnan(value)]
    return float(np.mean(known)) if known else nan
