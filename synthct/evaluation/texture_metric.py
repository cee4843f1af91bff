"""The figures of `texture` for a whole study: does what was generated look like CT?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from synthct.errors import UsageError
from synthct.evaluation.case import Case
from synthct.evaluation.medians import median_number
from synthct.evaluation.metric import (
    Conditions,
    Needs,
    Number,
    Progress,
    Result,
    Role,
    Row,
    Settings,
    Study,
)
from synthct.evaluation.texture import CLIP_HU, KNOWN, SEEDS_BAR, residual_correlation, texture
from synthct.volume.resample import resample_image, resample_labels
from synthct.volume.volume import LabelVolume, Volume

SPACING_MM = 3.0
"""The grid of the known figures."""
_NEEDS = Needs(real=0, synthetic=1, synthetic_labels=True, warn_below=5)


@dataclass(frozen=True)
class TextureMetric:
    """Figures of texture, synthetic beside real, on one grid of `spacing_mm`."""

    spacing_mm: float = SPACING_MM
    name: str = "texture"
    title: str = "Texture: a CT, or a painted label map?"
    needs: Needs = _NEEDS

    @classmethod
    def from_settings(cls, settings: Settings) -> TextureMetric:
        text = settings.options.get("texture.spacing_mm", str(SPACING_MM))
        try:
            spacing = float(text)
        except ValueError:
            spacing = 0.0
        if not 0.2 <= spacing <= 20:
            raise UsageError(f"--option texture.spacing_mm={text}: millimetres, from 0.2 to 20")
        return cls(spacing)

    def measure(self, study: Study, progress: Progress) -> Result:
        cases = [c for c in (*study.real, *study.synthetic) if c.labels and c.modality == "CT"]
        rows = []
        with progress.stage("texture", len(cases)) as advance:
            for case in cases:
                rows.append(_row(case, self._figures(study, case)))
                advance()
        numbers = [*self._medians(rows), *self._between_seeds(study)]
        return Result(tuple(numbers), tuple(rows), tuple(_missed(rows)))

    def roles(self) -> tuple[Role, ...]:
        return ("real", "synthetic")

    def prepare(self, case: Case, study: Study) -> None:
        """The slow part of one case, kept in the study's cache."""
        if case.labels and case.modality == "CT":
            self._figures(study, case)

    def _figures(self, study: Study, case: Case) -> dict[str, float]:
        found = study.cache.arrays(
            case, "texture", {"spacing_mm": self.spacing_mm}, lambda: self._computed(case)
        )
        return {name: float(value) for name, value in found.items()}

    def _computed(self, case: Case) -> dict[str, npt.NDArray[np.float64]]:
        volume, labels = on_grid(case, self.spacing_mm)
        figures = texture(volume.array, labels.array, volume.geometry.spacing_mm)
        return {name: np.asarray(value) for name, value in figures.items()}

    def _medians(self, rows: list[Row]) -> list[Number]:
        conditions = Conditions(
            "synthct.texture", (self.spacing_mm,) * 3, window=CLIP_HU, more={"eroded": "by faces"}
        )
        numbers = []
        for name in rows[0].values if rows else ():
            for role in ("synthetic", "real"):
                values = [row.values[name] for row in rows if row.role == role]
                if values:
                    more = _bar(name) if role == "synthetic" else {}
                    numbers.append(
                        median_number(
                            f"{role}/{name}",
                            values,
                            replace(conditions, more={**conditions.more, **more}),
                            unit="HU" if name.endswith("_hu") else "",
                            better="closer",
                            role=role,
                        )
                    )
        return numbers

    def _between_seeds(self, study: Study) -> list[Number]:
        """Of every two synthetic cases that share a mask."""
        values = []
        for first, second in combinations(study.synthetic, 2):
            if first.labels_sha256 and first.labels_sha256 == second.labels_sha256:
                one, labels = on_grid(first, self.spacing_mm)
                other, _ = on_grid(second, self.spacing_mm)
                values.append(residual_correlation(one.array, other.array, labels.array))
        conditions = Conditions(
            "Pearson, eroded liver, each volume's mean removed",
            (self.spacing_mm,) * 3,
            more={"bar": f"under {SEEDS_BAR}"},
        )
        name = "synthetic/residual_correlation_of_seeds"
        return [median_number(name, values, conditions, better="lower", role="pairs")]


def on_grid(case: Case, spacing_mm: float) -> tuple[Volume, LabelVolume]:
    """Image and MAISI ids of a case in RAS at `spacing_mm`; as stored where it is that already.

    Raises:
        InputError: as `Case.volume` and `Case.label_map`.
    """
    volume, labels = case.volume(), case.label_map()
    if np.allclose(volume.geometry.spacing_mm, spacing_mm, rtol=0, atol=0.01):
        return volume, labels
    grid = volume.geometry.with_spacing((spacing_mm,) * 3)
    return resample_image(volume, grid), resample_labels(labels, grid)[0]


def _row(case: Case, figures: dict[str, float]) -> Row:
    values = {name: None if math.isnan(value) else value for name, value in figures.items()}
    short = _short(values)
    note = f"under the bar: {', '.join(short)}" if short else ""
    bad = float(len(short)) if case.role == "synthetic" else None
    return Row(case.name, case.role, values, group="texture", badness=bad, note=note)


def _short(values: Mapping[str, float | None]) -> list[str]:
    """Figures under their bar."""
    found = ((name, values.get(name), known.bar) for name, known in KNOWN.items())
    return [name for name, value, bar in found if value is not None and value < bar]


def _bar(name: str) -> dict[str, object]:
    known = KNOWN.get(name)
    if known is None:
        return {}
    return {"bar": f"at least {known.bar:g}", "real scan at 3 mm": known.real, "poor": known.poor}


def _missed(rows: list[Row]) -> list[str]:
    bad = [row for row in rows if row.role == "synthetic" and row.note]
    return [f"{row.case}: {row.note}" for row in bad[:10]]
