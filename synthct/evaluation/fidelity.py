"""Fidelity: how far synthetic slices lie from real ones in the space of a feature network.

Two distances over three planes: Fréchet (`fid`, which few cases bias upwards) and kernel (`kid`,
which has no bias). Each is that of one network, slicing and window, and of no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.evaluation.bootstrap import bootstrap
from synthct.evaluation.case import Case, Role
from synthct.evaluation.extractors import MINI_SLICES, Features
from synthct.evaluation.features import FeatureSource, rows_of
from synthct.evaluation.gaussians import Gaussian, frechet_distance
from synthct.evaluation.kid import KernelSums
from synthct.evaluation.metric import (
    Conditions,
    Interval,
    Needs,
    Number,
    Progress,
    Result,
    Row,
    Settings,
    Study,
)
from synthct.evaluation.slices import PLANES

Sets = tuple[list[dict[str, Features]], list[dict[str, Features]]]
_FRECHET_NEEDS, _KERNEL_NEEDS = Needs(real=3, synthetic=3), Needs(real=2, synthetic=2)
_DRAWS, _DRAWS_WIDE = 200, 25
_WIDE = 512  # features; wider ones take seconds a draw
_NAMES = (*PLANES, "average")


@dataclass(frozen=True)
class Frechet:
    """The Fréchet distance, per plane and averaged (FID 2.5D of MAISI, with the network named)."""

    source: FeatureSource = field(default_factory=FeatureSource)
    name: str = "fid"
    title: str = "Fréchet distance over three planes"
    needs: Needs = _FRECHET_NEEDS

    @classmethod
    def from_settings(cls, settings: Settings) -> Frechet:
        return cls(source_of(settings))

    def roles(self) -> tuple[Role, ...]:
        return "real", "synthetic"

    def prepare(self, case: Case, study: Study) -> None:
        self.source.of(case, study.cache)

    def measure(self, study: Study, progress: Progress) -> Result:
        sets = _features(self.source, study, progress)
        variant = "Fréchet distance of Gaussians, covariance / (n - 1)"
        conditions = self.source.conditions(variant, _modality(study))
        draws = _draws(self.source, sets)
        values = _per_plane(sets, lambda plane: _frechet(sets, plane))
        with progress.stage("bootstrap of the Fréchet distance", draws) as advance:
            intervals = bootstrap(
                lambda one, two: _per_plane(sets, lambda p: _frechet(sets, p, one, two)),
                (len(sets[0]), len(sets[1])),
                values,
                resamples=draws,
                seed=study.seed,
                advance=advance,
            )
        numbers = _numbers(sets, values, intervals, conditions)
        return Result(
            numbers=(*numbers, *_floor(sets[0], conditions, study.seed)),
            rows=_rows(study, sets),
            warnings=_warnings(self.source, sets),
        )


@dataclass(frozen=True)
class Kernel:
    """KID, per plane and averaged: unbiased, of all slices, without subsets."""

    source: FeatureSource = field(default_factory=FeatureSource)
    name: str = "kid"
    title: str = "Kernel distance (KID) over three planes"
    needs: Needs = _KERNEL_NEEDS

    @classmethod
    def from_settings(cls, settings: Settings) -> Kernel:
        return cls(source_of(settings))

    def roles(self) -> tuple[Role, ...]:
        return "real", "synthetic"

    def prepare(self, case: Case, study: Study) -> None:
        self.source.of(case, study.cache)

    def measure(self, study: Study, progress: Progress) -> Result:
        sets = _features(self.source, study, progress)
        with progress.stage("kernel sums", len(PLANES)) as advance:
            sums = {}
            for plane in PLANES:
                sums[plane] = KernelSums.of(rows_of(sets[0], plane), rows_of(sets[1], plane))
                advance()
        values = _per_plane(sets, lambda plane: sums[plane].distance())
        intervals = bootstrap(
            lambda one, two: _per_plane(sets, lambda p: sums[p].distance(one, two)),
            (len(sets[0]), len(sets[1])),
            values,
            resamples=_DRAWS if (asked := self.source.settings.resamples) is None else asked,
            seed=study.seed,
            floor=None,
        )
        variant = "MMD² with kernel (x·y/d + 1)³, unbiased, all slices"
        conditions = self.source.conditions(variant, _modality(study))
        return Result(_numbers(sets, values, intervals, conditions), rows=_rows(study, sets))


_LAST: list[tuple[Settings, FeatureSource]] = []


def source_of(settings: Settings) -> FeatureSource:
    """One source for the metrics of one run: the network is loaded once."""
    for known, source in _LAST:
        if known is settings:
            return source
    source = FeatureSource(settings)
    _LAST[:] = [(settings, source)]
    return source


def _features(source: FeatureSource, study: Study, progress: Progress) -> Sets:
    return source.all_of(study, "real", progress), source.all_of(study, "synthetic", progress)


def _modality(study: Study) -> str:
    return study.real[0].modality


def _draws(source: FeatureSource, sets: Sets) -> int:
    if source.settings.resamples is not None:
        return source.settings.resamples
    return _DRAWS if sets[0][0]["axial"].shape[1] <= _WIDE else _DRAWS_WIDE


def _per_plane(sets: Sets, distance: Callable[[str], float]) -> list[float]:
    values = [distance(plane) for plane in PLANES]
    return [*values, float(np.mean(values))]


def _frechet(
    sets: Sets,
    plane: str,
    one: npt.NDArray[np.intp] | None = None,
    two: npt.NDArray[np.intp] | None = None,
) -> float:
    return frechet_distance(_gaussian(sets[0], plane, one), _gaussian(sets[1], plane, two))


def _gaussian(
    features: Sequence[dict[str, Features]], plane: str, drawn: npt.NDArray[np.intp] | None = None
) -> Gaussian:
    chosen = range(len(features)) if drawn is None else drawn
    return Gaussian.of_samples(np.concatenate([features[int(i)][plane] for i in chosen]))


def _numbers(
    sets: Sets, values: list[float], intervals: list[Interval | None], conditions: Conditions
) -> tuple[Number, ...]:
    counts = {"real": len(sets[0]), "synthetic": len(sets[1])}
    slices = [
        {f"{role}_slices": sum(len(case[p]) for case in found for p in planes)}
        for planes in (*((plane,) for plane in PLANES), PLANES)
        for role, found in zip(("real", "synthetic"), sets, strict=True)
    ]
    return tuple(
        Number(
            name,
            value,
            conditions if name == "average" else replace(conditions, planes=(name,)),
            n={**counts, **slices[2 * i], **slices[2 * i + 1]},
            better="lower",
            interval=interval,
        )
        for i, (name, value, interval) in enumerate(zip(_NAMES, values, intervals, strict=True))
    )


def _floor(
    real: list[dict[str, Features]], conditions: Conditions, seed: int
) -> tuple[Number, ...]:
    """Half of the real cases against the other half: what nothing can be expected to beat."""
    name, n = "real against real, average", {"real": len(real)}
    if len(real) < 6:
        return (
            Number(name, None, conditions, n, why="needs 6 real cases, to be split into halves"),
        )
    order = np.random.default_rng([seed, 2]).permutation(len(real))
    halves: Sets = (
        [real[i] for i in order[: len(real) // 2]],
        [real[i] for i in order[len(real) // 2 :]],
    )
    value = _per_plane(halves, lambda plane: _frechet(halves, plane))[-1]
    return (Number(name, value, conditions, n),)


def _rows(study: Study, sets: Sets) -> tuple[Row, ...]:
    """How far the mean of each case lies from that of all real slices, in their spread."""
    centre = {p: np.concatenate([case[p] for case in sets[0]]) for p in PLANES}
    spread = {p: np.maximum(rows.std(axis=0), 1e-6) for p, rows in centre.items()}

    def away(case: dict[str, Features], plane: str) -> float:
        shift = (case[plane].mean(axis=0) - centre[plane].mean(axis=0)) / spread[plane]
        return float(np.sqrt(np.mean(np.square(shift, dtype=np.float64))))

    rows = []
    for role, cases, found in zip(
        ("real", "synthetic"), (study.real, study.synthetic), sets, strict=True
    ):
        for case, features in zip(cases, found, strict=True):
            known: dict[str, Any] = {plane: away(features, plane) for plane in PLANES}
            mean = float(np.mean([*known.values()]))
            badness = mean if role == "synthetic" else None
            rows.append(Row(case.name, case.role, {**known, "mean": mean}, badness=badness))
    return tuple(rows)


def _warnings(source: FeatureSource, sets: Sets) -> tuple[str, ...]:
    lines = []
    width = sets[0][0]["axial"].shape[1]
    fewest = min(sum(len(case[p]) for case in found) for found in sets for p in PLANES)
    if fewest <= width:
        lines.append(
            f"{fewest} slices of a plane for {width} features: the covariance has no full rank, "
            "and the Fréchet distance is biased upwards; read the kernel distance beside it"
        )
    if source.extractor.name == MINI_SLICES:
        lines.append(
            "features of mini-slices, a small network of this project: no Inception or RadImageNet "
            "FID, comparable with numbers of the same network and protocol alone"
        )
    return tuple(lines)
