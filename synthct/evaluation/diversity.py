"""Diversity (`ms-ssim`: are synthetic volumes as unlike one another as real ones?) and distribution
(`mmd`), on whole volumes of one small grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.errors import UsageError
from synthct.evaluation import mmd, ms_ssim
from synthct.evaluation.bootstrap import bootstrap
from synthct.evaluation.case import Case, Role
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
from synthct.evaluation.mmd import Gram
from synthct.evaluation.slices import Slicing, fitted, sliced

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

VARIANTS = ("published", "correct", "monai")
_IN_WORDS = {
    "published": "3dbraingen's code: last SSIM four times in the product, data range 1",
    "correct": "Wang 2003 in 3D: Gaussian windows of sigma 1.5, reflected",
    "monai": f"MONAI MultiScaleSSIMMetric, kernel {ms_ssim.MONAI_KERNEL}, valid windows",
}
_SSIM_NEEDS = Needs(real=0, synthetic=2)
_MMD_NEEDS = Needs(real=2, synthetic=2)
_BATCH, _REPEATS = 8, 100
_DRAWS = 200


@dataclass(frozen=True)
class Cube:
    """The grid on which volumes are compared: isotropic, padded and cropped at the centre."""

    spacing_mm: float = 3.0
    side: int = 128

    def of(self, case: Case, study: Study) -> npt.NDArray[np.float16]:
        """(side, side, side) in 0..1."""
        known = {"spacing_mm": self.spacing_mm, "side": self.side, "modality": case.modality}
        return study.cache.arrays(case, "cubes", known, lambda: self._computed(case))["unit"]

    def conditions(self, variant: str, modality: str, seed: int, **more: Any) -> Conditions:
        return Conditions(
            variant,
            spacing_mm=(self.spacing_mm,) * 3,
            slices=f"whole volumes, padded and cropped to {self.side}³",
            window=(-1000.0, 1000.0) if modality == "CT" else None,
            seed=seed,
            more=more,
        )

    def _computed(self, case: Case) -> dict[str, npt.NDArray[Any]]:
        unit = sliced(case, Slicing(self.spacing_mm, self.side, 1.0)).unit
        return {"unit": fitted(unit, self.side).astype(np.float16)}


_SSIM_CUBE, _MMD_CUBE = Cube(3.0, 128), Cube(6.0, 64)


@dataclass(frozen=True)
class MultiScaleSsim:
    """Mean MS-SSIM over pairs of synthetic volumes, and of real ones to hold it against."""

    cube: Cube = _SSIM_CUBE
    variants: tuple[str, ...] = ("published", "correct")
    pairs: int = 60
    resamples: int = _DRAWS
    name: str = "ms-ssim"
    title: str = "MS-SSIM between pairs (diversity)"
    needs: Needs = _SSIM_NEEDS

    @classmethod
    def from_settings(cls, settings: Settings) -> MultiScaleSsim:
        options = settings.options
        asked = options.get("ms-ssim.variants", "published,correct").split(",")
        unknown = [v for v in asked if v not in VARIANTS]
        if unknown:
            raise UsageError(
                f"no MS-SSIM variant {', '.join(unknown)}", f"variants: {', '.join(VARIANTS)}"
            )
        return cls(
            _cube(options, "ms-ssim", 128),
            tuple(asked),
            _number(options, "ms-ssim.pairs", 60),
            _DRAWS if settings.resamples is None else settings.resamples,
        )

    def roles(self) -> tuple[Role, ...]:
        return "real", "synthetic"

    def prepare(self, case: Case, study: Study) -> None:
        self.cube.of(case, study)

    def measure(self, study: Study, progress: Progress) -> Result:
        numbers: list[Number] = []
        rows: list[Row] = []
        for role in ("synthetic", "real"):
            cases = study.of(role)
            if len(cases) >= 2:
                table = self._table(cases, study, progress)
                numbers += [self._mean(table, v, role, study) for v in range(len(self.variants))]
                rows += _likest(cases, table, self.variants)
        return Result(tuple(numbers), tuple(rows))

    def _table(self, cases: Sequence[Case], study: Study, progress: Progress) -> Floats:
        """(variants, n, n): each pair measured, NaN where it was not."""
        n, scales = len(cases), ms_ssim.scales_for(self.cube.side)
        chosen = _chosen(n, self.pairs, study.seed)
        table = np.full((len(self.variants), n, n), np.nan)
        with progress.stage(f"MS-SSIM of {cases[0].role} pairs", len(chosen)) as advance:
            for a, b in chosen:
                table[:, a, b] = table[:, b, a] = self._pair(cases[a], cases[b], study, scales)
                advance()
        return table

    def _pair(self, first: Case, second: Case, study: Study, scales: int) -> list[float]:
        known = {"other": second.sha256, "scales": scales, "variants": self.variants}
        known |= {"side": self.cube.side, "spacing_mm": self.cube.spacing_mm}

        def made() -> Mapping[str, npt.NDArray[Any]]:
            x, y = (self.cube.of(case, study).astype(np.float32) for case in (first, second))
            found = dict(zip(("published", "correct"), ms_ssim.both(x, y, scales), strict=True))
            if "monai" in self.variants:
                found["monai"] = ms_ssim.monai(x, y, scales)
            return {"values": np.array([found[v] for v in self.variants])}

        values = study.cache.arrays(first, "pairs", known, made)["values"]
        return [float(v) for v in values]

    def _mean(self, table: Floats, variant: int, role: str, study: Study) -> Number:
        values, name = table[variant], self.variants[variant]
        n = len(values)
        measured = int(np.isfinite(values[np.triu_indices(n, 1)]).sum())
        interval = _interval(values, self.resamples, study.seed)
        scales = ms_ssim.scales_for(self.cube.side)
        conditions = self.cube.conditions(
            f"{name}: {_IN_WORDS[name]}",
            study.synthetic[0].modality,
            study.seed,
            scales=scales,
            weights=[round(w, 4) for w in ms_ssim.weights_of(scales)],
            pairs="all" if measured == n * (n - 1) // 2 else "drawn at random",
        )
        return Number(
            f"{role}/{name}",
            float(np.nanmean(values[np.triu_indices(n, 1)])),
            conditions,
            n={role: n, "pairs": measured},
            better="closer",
            interval=interval,
        )


@dataclass(frozen=True)
class Discrepancy:
    """MMD between real and synthetic volumes: linear in three ways, RBF in two."""

    cube: Cube = _MMD_CUBE
    resamples: int = _DRAWS
    name: str = "mmd"
    title: str = "Maximum mean discrepancy of voxels"
    needs: Needs = _MMD_NEEDS

    @classmethod
    def from_settings(cls, settings: Settings) -> Discrepancy:
        drawn = _DRAWS if settings.resamples is None else settings.resamples
        return cls(_cube(settings.options, "mmd", 64), drawn)

    def roles(self) -> tuple[Role, ...]:
        return "real", "synthetic"

    def prepare(self, case: Case, study: Study) -> None:
        self.cube.of(case, study)

    def measure(self, study: Study, progress: Progress) -> Result:
        gram = self._gram(study, progress)
        bandwidth = mmd.bandwidth_of(gram)

        def values(one: Indices, two: Indices) -> list[float]:
            return [float(v) for v in _variants(gram.drawn(one, two), bandwidth, study.seed)]

        n_real, n_synthetic = len(study.real), len(study.synthetic)
        whole = values(np.arange(n_real), np.arange(n_synthetic))
        intervals = bootstrap(
            values,
            (n_real, n_synthetic),
            whole,
            resamples=self.resamples,
            seed=study.seed,
            floor=None,
        )
        numbers = tuple(
            Number(
                name,
                value,
                self._conditions(words, study, bandwidth if name.startswith("rbf") else None),
                n={"real": n_real, "synthetic": n_synthetic},
                better="lower",
                interval=interval,
            )
            for (name, words), value, interval in zip(_MMD.items(), whole, intervals, strict=True)
        )
        return Result(numbers)

    def _conditions(self, words: str, study: Study, bandwidth: float | None) -> Conditions:
        more = {"voxels": self.cube.side**3}
        known = more if bandwidth is None else {**more, "bandwidth": bandwidth}
        return self.cube.conditions(words, study.real[0].modality, study.seed, **known)

    def _gram(self, study: Study, progress: Progress) -> Gram:
        cases = (*study.real, *study.synthetic)
        flat = np.empty((len(cases), self.cube.side**3), dtype=np.float32)
        with progress.stage("volumes for MMD", len(cases)) as advance:
            for row, case in zip(flat, cases, strict=True):
                row[:] = self.cube.of(case, study).ravel()
                advance()
        products = _products(flat)
        real = len(study.real)
        return Gram(products[:real, :real], products[real:, real:], products[:real, real:])


_MMD = {
    "linear biased": "linear kernel, biased: |difference of means|², summed over voxels",
    "linear unbiased": "linear kernel, unbiased, summed over voxels (as MONAI's MMDMetric)",
    "linear batches": f"linear kernel, biased, batches of {_BATCH}, mean of {_REPEATS} orders "
    "(as 3dbraingen)",
    "linear pairs": "linear kernel, mean of |x - y|² over all pairs of one real and one synthetic",
    "rbf biased": "RBF kernel, bandwidth the median distance of all volumes, biased",
    "rbf unbiased": "RBF kernel, bandwidth the median distance of all volumes, unbiased",
}


def _variants(gram: Gram, bandwidth: float, seed: int) -> tuple[float, ...]:
    """In the order of `_MMD`."""
    return (
        mmd.linear_biased(gram),
        mmd.linear_unbiased(gram),
        mmd.linear_batches(gram, _BATCH, _REPEATS, seed),
        mmd.linear_pairs(gram),
        mmd.rbf(gram, bandwidth, unbiased=False),
        mmd.rbf(gram, bandwidth, unbiased=True),
    )


def _products(flat: npt.NDArray[np.float32]) -> Floats:
    """Inner products of the rows in float64, by pieces of columns."""
    total = np.zeros((len(flat), len(flat)))
    for start in range(0, flat.shape[1], 1 << 16):
        piece = flat[:, start : start + (1 << 16)].astype(np.float64)
        total += piece @ piece.T
    return total


def _chosen(n: int, most: int, seed: int) -> list[tuple[int, int]]:
    """All pairs, or `most` of them at random: the same for the same seed."""
    every = list(combinations(range(n), 2))
    if len(every) <= most:
        return every
    picked = np.random.default_rng([seed, 3]).choice(len(every), most, replace=False)
    return [every[i] for i in sorted(picked)]


def _interval(values: Floats, resamples: int, seed: int) -> Interval | None:
    mean = float(np.nanmean(values[np.triu_indices(len(values), 1)]))

    def drawn(one: Indices) -> float:
        part = values[np.ix_(one, one)][np.triu_indices(len(one), 1)]
        return float(np.nanmean(part)) if np.isfinite(part).any() else mean

    return bootstrap(
        drawn, (len(values),), [mean], resamples=resamples, seed=seed, floor=None, ceiling=1.0
    )[0]


def _likest(cases: Sequence[Case], table: Floats, variants: tuple[str, ...]) -> list[Row]:
    """Per case its likest other of the same role; the likest synthetic ones rank worst."""
    rows = []
    for i, case in enumerate(cases):
        if not np.isfinite(table[0, i]).any():
            continue
        other = int(np.nanargmax(table[0, i]))
        values = {v: float(table[n, i, other]) for n, v in enumerate(variants)}
        badness = float(table[0, i, other]) if case.role == "synthetic" else None
        note = f"likest: {cases[other].name}"
        rows.append(Row(case.name, case.role, dict(values), badness=badness, note=note))
    return rows


def _cube(options: Mapping[str, str], metric: str, side: int) -> Cube:
    """`METRIC.side` voxels over 384 mm, or `METRIC.spacing_mm` as well."""
    cells = _number(options, f"{metric}.side", side)
    text = options.get(f"{metric}.spacing_mm", str(384 / cells))
    try:
        spacing = float(text)
    except ValueError:
        raise UsageError(f"--option {metric}.spacing_mm={text}: no number") from None
    if cells < 16 or not 0.2 <= spacing <= 50:
        raise UsageError(f"--option {metric}: side from 16, spacing_mm from 0.2 to 50")
    return Cube(spacing, cells)


def _number(options: Mapping[str, str], key: str, default: int) -> int:
    text = options.get(key, str(default))
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--option {key}={text}: a whole number from 1 is needed")
    return int(text)
