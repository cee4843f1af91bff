"""Did the model keep its training cases? From distances to what was said of copies and membership.

A copy lies much closer to one training case than to any other, or than held-out scans lie to the
training cases. Membership compares whole sets: synthetic cases of a model that kept nothing are as
far from its training cases as from others of the same kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Distances = npt.NDArray[np.float64]
"""(queries, targets)"""

COPY_RATIO: Mapping[str, float] = MappingProxyType({"volume": 0.8, "patch": 0.85})
"""A case closer than this times what is usual is a copy. How often that errs, over phantoms, real
CT and real MR: docs/evaluation.md, by benchmarks/leakage.py. Features are too coarse to tell."""
LEAST_HELD_OUT = 3
_DRAWS = 200


@dataclass(frozen=True, eq=False)
class Level:
    """Distances at one level (whole volumes, patches, features); each (queries, targets).

    Attributes:
        name: of the level.
        training: synthetic cases to training cases.
        held_out: synthetic cases to held-out real cases.
        usual: held-out real cases to training cases.
    """

    name: str
    training: Distances
    held_out: Distances
    usual: Distances

    def nearest(self) -> Distances:
        """Of every synthetic case to its nearest training case."""
        return nearest(self.training)

    def ratios(self) -> Distances:
        return copy_ratios(self.training, nearest(self.usual))

    def copies(self) -> npt.NDArray[np.bool_]:
        """Which synthetic cases are copies; none where the level cannot tell."""
        return self.ratios() < COPY_RATIO.get(self.name, 0.0)

    def usual_ratios(self) -> Distances:
        """The same of held-out cases, against each other: under the bar is a false alarm."""
        others = nearest(self.usual)
        return np.array(
            [copy_ratios(row[None], np.delete(others, n))[0] for n, row in enumerate(self.usual)]
        ).reshape(-1)


def nearest(distances: Distances) -> Distances:
    """Per query the least distance; infinite without targets."""
    if not distances.size:
        return np.full(len(distances), np.inf)
    return np.asarray(distances.min(axis=1), np.float64)


def copy_ratios(training: Distances, usual: Distances) -> Distances:
    """Nearest distance over the usual one: under `COPY_RATIO` is a copy.

    Usual is the second nearest training case, or the least that any of at least three held-out
    scans is away from its nearest: whichever makes the ratio smaller. Where the training set has
    one chest and many legs, every chest has a far second: with held-out scans the ratio is never
    less than to what half of them come to. One without reference is 1.
    """
    if not training.size:
        return np.ones(len(training))
    ordered = np.sort(training, axis=1)
    reference = np.zeros(len(training))
    if ordered.shape[1] > 1:
        reference = ordered[:, 1]
    if len(usual) >= LEAST_HELD_OUT:
        reference = np.maximum(reference, usual.min())
    known = reference > 0
    ratio = np.ones(len(training))
    ratio[known] = ordered[known, 0] / reference[known]
    if len(usual) >= LEAST_HELD_OUT and (middle := float(np.median(usual))) > 0:
        ratio[known] = np.maximum(ratio[known], ordered[known, 0] / middle)
    ratio[~known & (ordered[:, 0] == 0) & (ordered.shape[1] > 1)] = 0.0  # a copy of twins
    return ratio


def membership_auc(synthetic: Distances, held_out: Distances) -> float:
    """Chance that a synthetic case lies closer to the training set than a held-out scan does.

    0.5: like scans the model never saw; 1: all of them closer (ties count half).
    """
    closer = (synthetic[:, None] < held_out[None]).mean()
    return float(closer + (synthetic[:, None] == held_out[None]).mean() / 2)


def closer_to_training(level: Level, seed: int) -> Distances:
    """Per synthetic case, the chance that training is closer than as many held-out cases.

    The larger set would win for being larger: both are drawn to the smaller one's size.
    """
    size = min(level.training.shape[1], level.held_out.shape[1])
    if not size or not len(level.training):
        return np.full(len(level.training), np.nan)
    rng = np.random.default_rng([seed, size])
    won = np.zeros(len(level.training))
    for _ in range(_DRAWS):
        ours = _drawn_nearest(level.training, size, rng)
        others = _drawn_nearest(level.held_out, size, rng)
        won += (ours < others) + 0.5 * (ours == others)
    return won / _DRAWS


def _drawn_nearest(distances: Distances, size: int, rng: np.random.Generator) -> Any:
    return distances[:, rng.permutation(distances.shape[1])[:size]].min(axis=1)


def standardised(training: Distances, *others: Distances) -> list[Distances]:
    """Feature vectors (cases, d) scaled by the training set's spread, so that none outweighs."""
    spread = training.std(axis=0)
    usable = spread > 1e-6 * max(float(spread.max(initial=0.0)), 1e-12)
    middle = training.mean(axis=0)
    return [(x - middle)[:, usable] / spread[usable] for x in (training, *others)]


def euclidean(queries: Distances, targets: Distances) -> Distances:
    """Root mean squared difference per feature: (queries, targets)."""
    if not queries.size or not targets.size:
        return np.zeros((len(queries), len(targets)))
    gaps = [np.sqrt(((q[None] - targets) ** 2).mean(axis=1)) for q in queries]
    return np.asarray(gaps, np.float64)
