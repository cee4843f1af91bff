"""Leakage: nearest training cases of what was generated, and of scans that were held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from synthct.errors import UsageError
from synthct.evaluation.bootstrap import bootstrap, share_interval
from synthct.evaluation.case import Case
from synthct.evaluation.features import FeatureSource
from synthct.evaluation.leakage import (
    COPY_RATIO,
    Distances,
    Level,
    closer_to_training,
    euclidean,
    membership_auc,
    nearest,
    standardised,
)
from synthct.evaluation.leakage_patches import Patches, asked, smoothed
from synthct.evaluation.leakage_patches import nearest as nearest_patches
from synthct.evaluation.leakage_pictures import pair_png
from synthct.evaluation.leakage_volumes import Floats, Match, coarse, matches
from synthct.evaluation.medians import median_number
from synthct.evaluation.metric import (
    Conditions,
    Figure,
    Needs,
    Number,
    Progress,
    Result,
    Role,
    Row,
    Settings,
    Study,
)

_NEEDS = Needs(real=1, synthetic=1, training=1, warn_below=10)
_VERSION = {"version": 1}
_PICTURES = 3
_RESAMPLES = 200
_VARIANTS = {
    "volume": Conditions(
        "distance of band-passed volumes, best of shifts, flips and small turns",
        (6.0, 6.0, 6.0),
        more={"distance": "sqrt(2 - 2 correlation)"},
    ),
    "patch": Conditions(
        "median over 24 patches of 60 mm of the distance to the closest place, flips tried",
        (5.0, 5.0, 5.0),
        more={"distance": "sqrt(2 - 2 correlation)"},
    ),
}


@dataclass(frozen=True)
class LeakageMetric:
    """Copies and membership, at three levels. The real cases are the held-out ones."""

    source: FeatureSource | None = field(default_factory=FeatureSource)
    seed: int = 0
    name: str = "leakage"
    title: str = "Leakage: does it copy its training cases?"
    needs: Needs = _NEEDS

    @classmethod
    def from_settings(cls, settings: Settings) -> LeakageMetric:
        """Option `leakage.features=no` leaves the feature network out."""
        text = settings.options.get("leakage.features", "yes")
        if text not in ("yes", "no"):
            raise UsageError(f"--option leakage.features={text}: yes or no")
        return cls(FeatureSource(settings) if text == "yes" else None, settings.seed)

    def roles(self) -> tuple[Role, ...]:
        return ("real", "synthetic", "training")

    def prepare(self, case: Case, study: Study) -> None:
        """The slow part of one case, kept in the study's cache."""
        _coarse(case, study)
        _smoothed(case, study)
        if self.source is not None:
            self.source.of(case, study.cache)

    def measure(self, study: Study, progress: Progress) -> Result:
        known = {case.sha256 for case in study.training}
        held_out = tuple(case for case in study.real if case.sha256 not in known)
        found = _matches(study, held_out, progress)
        levels = [_volume_level(found, study, held_out), self._patches(study, held_out, progress)]
        if self.source is not None:
            levels.append(self._features(study, held_out))
        every: dict[Role, tuple[Case, ...]]
        every = {"synthetic": study.synthetic, "real": held_out, "training": study.training}
        told = {role: tuple(case.name for case in cases) for role, cases in every.items()}
        numbers = [
            replace(number, cases=told) for level in levels for number in self._numbers(level)
        ]
        rows = _rows(study, levels, found[0])
        thin = [c.name for c in study.synthetic if self._too_thin(c, study)]
        return Result(
            tuple(numbers),
            rows,
            tuple([*_thin(thin), *_warnings(study, held_out, levels)]),
            _pictures(study, found[0]),
        )

    def _patches(self, study: Study, held_out: tuple[Case, ...], progress: Progress) -> Level:
        """Held-out scans too thin for a patch do not tell what is usual."""
        held_out = tuple(case for case in held_out if not self._too_thin(case, study))
        questions = [self._asked(case, study) for case in (*study.synthetic, *held_out)]
        count = len(study.synthetic)
        with progress.stage("patches", len(study.training) + len(held_out)) as advance:
            trained = nearest_patches(questions, _arrays(study.training, study), advance)
            others = nearest_patches(questions[:count], _arrays(held_out, study), advance)
        training = _medians(trained, len(study.training))
        return Level("patch", training[:count], _medians(others, len(held_out)), training[count:])

    def _asked(self, case: Case, study: Study) -> Patches:
        return asked(_smoothed(case, study), self.seed)

    def _too_thin(self, case: Case, study: Study) -> bool:
        return not len(self._asked(case, study).rows)

    def _features(self, study: Study, held_out: tuple[Case, ...]) -> Level:
        sets = [self._pooled(cases, study) for cases in (study.training, study.synthetic, held_out)]
        training, synthetic, others = standardised(*sets)
        return Level(
            "feature",
            euclidean(synthetic, training),
            euclidean(synthetic, others),
            euclidean(others, training),
        )

    def _pooled(self, cases: Sequence[Case], study: Study) -> Distances:
        """One vector per case: the mean over the slices of each plane, joined."""
        assert self.source is not None
        found = [self.source.of(case, study.cache) for case in cases]
        rows = [np.concatenate([of[plane].mean(axis=0) for plane in sorted(of)]) for of in found]
        width = len(rows[0]) if rows else 0
        return np.asarray(rows, np.float64).reshape(len(rows), width)

    def _numbers(self, level: Level) -> list[Number]:
        conditions = _VARIANTS.get(level.name) or self._feature_conditions()
        count = {"synthetic": len(level.training), "training": level.training.shape[1]}
        held_out = len(level.usual)
        every = {**count, "held-out": held_out}
        ours, usual = level.nearest(), nearest(level.usual)
        numbers = [
            median_number(
                f"{level.name}/nearest_training",
                ours.tolist(),
                conditions,
                role="synthetic",
            ),
            median_number(
                f"{level.name}/nearest_training_of_held_out",
                usual.tolist(),
                conditions,
                role="held-out",
            ),
        ]
        if held_out:
            auc = membership_auc(ours, usual)
            interval = bootstrap(
                lambda a, b: membership_auc(ours[a], usual[b]),
                (len(ours), len(usual)), auc, resamples=_RESAMPLES, seed=self.seed, ceiling=1.0,
            )[0]  # fmt: skip
            closer = closer_to_training(level, self.seed)
            spread = bootstrap(
                lambda a: closer[a].mean(), (len(closer),), closer.mean(),
                resamples=_RESAMPLES, seed=self.seed, ceiling=1.0,
            )[0]  # fmt: skip
            numbers += [
                Number(
                    f"{level.name}/membership",
                    auc,
                    conditions,
                    every,
                    better="lower",
                    interval=interval,
                ),
                Number(
                    f"{level.name}/closer_to_training",
                    float(closer.mean()),
                    conditions,
                    every,
                    "share",
                    "lower",
                    spread,
                ),
            ]
        if level.name in COPY_RATIO:
            numbers.append(_share(f"{level.name}/copies", level.copies(), conditions, count))
            if held_out:
                alarms = level.usual_ratios() < COPY_RATIO[level.name]
                numbers.append(_share(f"{level.name}/false_alarms", alarms, conditions, every))
        return numbers

    def _feature_conditions(self) -> Conditions:
        assert self.source is not None
        variant = "root mean squared difference of mean features, each scaled by the training set's"
        return self.source.conditions(variant, "CT")


def _share(
    name: str, flags: npt.NDArray[np.bool_], conditions: Conditions, n: Mapping[str, int]
) -> Number:
    interval = share_interval(int(flags.sum()), len(flags))
    return Number(name, float(flags.mean()), conditions, n, "share", "lower", interval)


def _coarse(case: Case, study: Study) -> Floats:
    found = study.cache.arrays(
        case, "leakage-volumes", _VERSION, lambda: {"v": coarse(case.volume())}
    )
    return found["v"]


def _smoothed(case: Case, study: Study) -> Floats:
    found = study.cache.arrays(
        case, "leakage-patches", _VERSION, lambda: {"v": smoothed(case.volume())}
    )
    return found["v"]


def _arrays(cases: Sequence[Case], study: Study) -> list[Callable[[], Floats]]:
    return [partial(_smoothed, case, study) for case in cases]


def _matches(
    study: Study, held_out: tuple[Case, ...], progress: Progress
) -> tuple[list[list[Match]], list[list[Match]], list[list[Match]]]:
    """Synthetic with training, synthetic with held-out, held-out with training."""
    cases = {case: _coarse(case, study) for case in (*study.synthetic, *study.training, *held_out)}
    synthetic = [cases[case] for case in study.synthetic]
    training = [cases[case] for case in study.training]
    others = [cases[case] for case in held_out]
    with progress.stage("nearest cases", len(training) + len(others)) as advance:
        both = matches([*synthetic, *others], training, advance)
        across = matches(synthetic, others, advance)
    return both[: len(synthetic)], across, both[len(synthetic) :]


def _volume_level(
    found: tuple[list[list[Match]], ...], study: Study, held_out: tuple[Case, ...]
) -> Level:
    training, others = len(study.training), len(held_out)
    return Level(
        "volume",
        _distances(found[0], training),
        _distances(found[1], others),
        _distances(found[2], training),
    )


def _distances(rows: list[list[Match]], targets: int) -> Distances:
    table = np.zeros((len(rows), targets))
    for row, found in zip(table, rows, strict=True):
        for match in found:
            row[match.target] = match.distance
    return table


def _medians(found: Sequence[Distances], targets: int) -> Distances:
    """Per query and target the median over patches; far (√2) where there was nothing to ask."""
    rows = [np.median(of, axis=1) if of.size else np.full(targets, math.sqrt(2)) for of in found]
    return np.asarray(rows, np.float64).reshape(len(found), targets)


def _rows(study: Study, levels: list[Level], found: list[list[Match]]) -> tuple[Row, ...]:
    rows = []
    for n, case in enumerate(study.synthetic):
        values: dict[str, float | None] = {}
        for level in levels:
            values[f"{level.name}_distance"] = float(level.nearest()[n])
            values[f"{level.name}_ratio"] = float(level.ratios()[n])
        worst = min(float(level.ratios()[n]) for level in levels if level.name in COPY_RATIO)
        note = _as_words(study.training[found[n][0].target].name, found[n][0])
        rows.append(Row(case.name, "synthetic", values, badness=1 - worst, note=note))
    return tuple(rows)


def _as_words(name: str, match: Match) -> str:
    how = [f"flipped along {a}" for a, on in zip("ijk", match.flips, strict=True) if on]
    if any(match.degrees):
        how.append("turned by {:g}, {:g}, {:g} degrees".format(*match.degrees))
    if any(match.shift):
        how.append("shifted by {}, {}, {} mm".format(*(6 * s for s in match.shift)))
    return f"nearest: {name}" + (f" ({', '.join(how)})" if how else "")


def _warnings(study: Study, held_out: tuple[Case, ...], levels: list[Level]) -> list[str]:
    said = []
    if len(held_out) < len(study.real):
        count = len(study.real) - len(held_out)
        said.append(f"{count} real cases are training cases (same file): left out as held-out")
    for level in levels:
        for n in np.flatnonzero(level.copies()):
            said.append(_copied(study, level, int(n)))
    if said and any("copy" in line for line in said):
        said.append(
            "a case made from a training case's mask shares its anatomy, and counts here too"
        )
    return said


def _thin(names: Sequence[str]) -> list[str]:
    """What a level that cannot ask says must not pass for an answer."""
    if not names:
        return []
    count = f"{len(names)} synthetic cases are" if len(names) > 1 else "1 synthetic case is"
    return [f"{count} too thin for patches of 60 mm ({names[0]}): judged by whole volumes alone"]


def _copied(study: Study, level: Level, n: int) -> str:
    name = study.training[int(level.training[n].argmin())].name
    times = f"{level.ratios()[n]:.2f} of the usual distance"
    return f"{study.synthetic[n].name}: a copy of {name} by {level.name} ({times})"


def _pictures(study: Study, found: list[list[Match]]) -> tuple[Figure, ...]:
    """The closest pairs."""
    closest = sorted(range(len(found)), key=lambda n: found[n][0].distance)[:_PICTURES]
    figures = []
    for n in closest:
        match, case = found[n][0], study.synthetic[n]
        partner = study.training[match.target]
        titles = (f"synthetic: {case.name}", f"training: {partner.name}")
        png = pair_png(case.volume(), partner.volume(), match, titles)
        caption = f"{_as_words(partner.name, match)}; distance {match.distance:.2f}"
        figures.append(Figure(f"{case.name} and its nearest training case", png, caption))
    return tuple(figures)
