"""Artefacts of a whole study: seams, slices, noise, and brightness beside the real scans'."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from synthct.errors import MaskError
from synthct.evaluation.artefacts import (
    BLOCK_MM,
    SEAM_HU,
    SEAM_SCORE,
    SKIN_MM,
    Seam,
    worst_seams,
)
from synthct.evaluation.artefacts_noise import (
    HISTOGRAM_HU,
    histogram_distance_hu,
    hu_histogram,
    noise_figures,
    noise_power_spectrum,
    quiet_patches,
    slice_figures,
)
from synthct.evaluation.bootstrap import bootstrap, share_interval
from synthct.evaluation.case import Case, Role
from synthct.evaluation.medians import median_number
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
from synthct.labels.body import body_from_ct
from synthct.volume.volume import Volume

Figures = npt.NDArray[np.float64]
Arrays = dict[str, Figures]
Distance = Callable[[Figures, Figures], float]
_NEEDS = Needs(real=1, synthetic=1, warn_below=5)
_RESAMPLES = 200
_VERSION = 2  # of what is kept per case
_FIGURES = {
    "noise_hu": "HU",
    "noise_frequency": "cycles a voxel",
    "slice_correlation": "",
    "slice_correlation_lowest": "",
    "slice_over_plane": "",
}
_SEAM_CONDITIONS = Conditions(
    "synthct.seams",
    more={
        "flagged": f"a step of at least {SEAM_HU:g} HU, {SEAM_SCORE:g} times what is usual around",
        "blocks_mm": BLOCK_MM,
        "skin_left_out_mm": SKIN_MM,
    },
)
_VARIANTS = {
    "noise": Conditions(
        "ICRU 87, axial patches of 16 × 16", more={"patches": "the flattest quarter of soft tissue"}
    ),
    "slice": Conditions("Pearson of neighbouring axial slices in the body", window=(-1000, 1000)),
}


@dataclass(frozen=True)
class ArtefactsMetric:
    """Seams per case; noise, slices and HU histogram, synthetic beside real. CT only."""

    seed: int = 0
    name: str = "artefacts"
    title: str = "Artefacts: seams, slices, noise, brightness"
    needs: Needs = _NEEDS

    @classmethod
    def from_settings(cls, settings: Settings) -> ArtefactsMetric:
        return cls(settings.seed)

    def measure(self, study: Study, progress: Progress) -> Result:
        cases = [c for c in (*study.real, *study.synthetic) if c.modality == "CT"]
        found: list[tuple[Case, Arrays]] = []
        with progress.stage("artefacts", len(cases)) as advance:
            for case in cases:
                found.append((case, self._kept(case, study)))
                advance()
        numbers = [*_seam_numbers(found), *self._figures(found), *self._distances(found)]
        return Result(tuple(numbers), tuple(_row(*pair) for pair in found), tuple(_told(found)))

    def roles(self) -> tuple[Role, ...]:
        return ("real", "synthetic")

    def prepare(self, case: Case, study: Study) -> None:
        """The slow part of one case, kept in the study's cache."""
        if case.modality == "CT":
            self._kept(case, study)

    def _kept(self, case: Case, study: Study) -> Arrays:
        settings = {"version": _VERSION}
        return study.cache.arrays(case, "artefacts", settings, lambda: examined(case))

    def _figures(self, found: list[tuple[Case, Arrays]]) -> list[Number]:
        return [
            median_number(
                f"{role}/{name}",
                [float(kept[name]) for case, kept in found if case.role == role],
                _VARIANTS[name.split("_")[0]],
                unit=unit,
                better="closer",
                role=role,
            )
            for name, unit in _FIGURES.items()
            for role in ("synthetic", "real")
        ]

    def _distances(self, found: list[tuple[Case, Arrays]]) -> list[Number]:
        """Of the pooled histograms and noise spectra; and of each real case to the other real."""
        low, high, width = HISTOGRAM_HU
        variant = Conditions(
            "Wasserstein-1 of HU in the body, every case weighs the same",
            window=(low, high),
            more={"bin_hu": width},
        )
        real, synthetic = (_histograms(found, role) for role in ("real", "synthetic"))
        counts = {"real": len(real), "synthetic": len(synthetic)}
        distance, interval = _between(real, synthetic, histogram_distance_hu, self.seed)
        others = [
            histogram_distance_hu(one, np.mean([*real[:n], *real[n + 1 :]], axis=0))
            for n, one in enumerate(real)
            if len(real) > 1
        ]
        return [
            Number(
                "hu_histogram_distance",
                distance,
                variant,
                counts,
                "HU",
                "lower",
                interval,
                why="" if distance is not None else "no case",
            ),
            median_number(
                "real/hu_histogram_distance_to_the_other_real",
                others,
                variant,
                unit="HU",
                role="real",
            ),
            _spectrum_distance(found, self.seed),
        ]


def examined(case: Case) -> Arrays:
    """Everything that is kept of a case. Without a body in view all of it is NaN."""
    volume = case.volume()
    inside = _patient(volume)
    spacing_mm = volume.geometry.spacing_mm
    patches = quiet_patches(volume.array, inside)
    power, frequency = noise_power_spectrum(patches, spacing_mm) if len(patches) else _nothing()
    seams = worst_seams(volume.array, inside, spacing_mm)
    figures = {
        **noise_figures(volume.array, inside, spacing_mm),
        **slice_figures(volume.array, inside),
    }
    return {
        **{name: np.asarray(value) for name, value in figures.items()},
        "histogram": hu_histogram(volume.array, inside),
        "power": power,
        "frequency": frequency,
        "seams": np.array([_packed(seam) for seam in seams]).reshape(-1, 5),
    }


def _patient(volume: Volume) -> npt.NDArray[np.bool_]:
    try:
        return body_from_ct(volume.array, volume.geometry.spacing_mm, superior_axis=2)
    except MaskError:
        return np.zeros(volume.array.shape, dtype=bool)


def _nothing() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return np.empty(0), np.empty(0)


def _packed(seam: Seam) -> tuple[float, ...]:
    return (
        float("ijk".index(seam.axis)),
        float(seam.plane),
        seam.step_hu,
        seam.usual_hu,
        seam.error_hu,
    )


def _seams(kept: Arrays) -> list[Seam]:
    return [
        Seam("ijk"[int(axis)], int(plane), float(step), float(usual), float(error))
        for axis, plane, step, usual, error in kept["seams"]
    ]


def _seam_numbers(found: list[tuple[Case, Arrays]]) -> list[Number]:
    numbers = []
    roles: tuple[Role, ...] = ("synthetic", "real")
    for role in roles:
        cases = [_seams(kept) for case, kept in found if case.role == role]
        if cases:
            flagged = sum(any(seam.flagged for seam in seams) for seams in cases)
            share, interval = flagged / len(cases), share_interval(flagged, len(cases))
            count: dict[str, int] = {role: len(cases)}
            name = f"{role}/cases_with_a_seam"
            numbers.append(Number(name, share, _SEAM_CONDITIONS, count, "share", "lower", interval))
    return numbers


def _between(
    real: Sequence[Figures], synthetic: Sequence[Figures], distance: Distance, seed: int
) -> tuple[float | None, Interval | None]:
    """Distance of the two means and its interval over cases; None where a side has no case."""
    if not (real and synthetic):
        return None, None
    one, two = np.array(real), np.array(synthetic)
    value = distance(one.mean(axis=0), two.mean(axis=0))
    interval = bootstrap(
        lambda a, b: distance(one[a].mean(axis=0), two[b].mean(axis=0)),
        (len(one), len(two)), value, resamples=_RESAMPLES, seed=seed,
    )[0]  # fmt: skip
    return value, interval


def _half_difference(one: Figures, other: Figures) -> float:
    return float(np.abs(one - other).sum() / 2)


def _spectrum_distance(found: list[tuple[Case, Arrays]], seed: int) -> Number:
    """How differently noise power is spread over frequency, its amount left aside."""
    variant = Conditions(
        "half the summed difference of noise power spectra of area one",
        more={"frequencies": "8 shells up to Nyquist of each case's own axial grid"},
    )
    shapes: dict[str, list[npt.NDArray[np.float64]]] = {"real": [], "synthetic": []}
    for case, kept in found:
        if kept["power"].size and kept["power"].sum() > 0:
            shapes[case.role].append(kept["power"] / kept["power"].sum())
    counts = {role: len(of) for role, of in shapes.items()}
    name = "noise_spectrum_distance"
    if not all(counts.values()):
        why = "no case with enough quiet tissue"
        return Number(name, None, variant, counts, better="lower", why=why)
    sides = shapes["real"], shapes["synthetic"]
    distance, interval = _between(*sides, _half_difference, seed)
    return Number(name, distance, variant, counts, better="lower", interval=interval)


def _histograms(found: Sequence[tuple[Case, Arrays]], role: str) -> list[npt.NDArray[np.float64]]:
    return [k["histogram"] for case, k in found if case.role == role and k["histogram"].sum() > 0]


def _row(case: Case, kept: Arrays) -> Row:
    values = {name: _or_none(float(kept[name])) for name in _FIGURES}
    seams = _seams(kept)
    worst = max(seams, key=lambda seam: seam.score, default=None)
    if worst is None:
        return Row(case.name, case.role, values, group="volume", note="too little tissue for seams")
    values |= {"seam_score": worst.score, "seam_step_hu": worst.step_hu}
    badness = worst.score if case.role == "synthetic" else None
    return Row(case.name, case.role, values, "volume", badness, _where(worst))


def _where(seam: Seam) -> str:
    planes = f"planes {seam.plane} and {seam.plane + 1} of {seam.axis}"
    return f"step of {seam.step_hu:+.1f} HU between {planes}"


def _told(found: list[tuple[Case, Arrays]]) -> list[str]:
    """A line for every flagged synthetic case."""
    return [
        f"{case.name}: a seam, {_where(seam)} (score {seam.score:.1f})"
        for case, kept in found
        if case.role == "synthetic"
        for seam in _seams(kept)
        if seam.flagged
    ]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
