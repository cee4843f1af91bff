"""Mask agreement of a whole study: thresholds, organs beside the real ones, a segmenter's view."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from synthct.evaluation.agreement import AIR_HU, BONE_HU, organs, thresholds
from synthct.evaluation.agreement_organs import TOLERANCE_MM, scored
from synthct.evaluation.case import Case, Role
from synthct.evaluation.medians import median_number
from synthct.evaluation.metric import (
    Conditions,
    Needs,
    Number,
    Progress,
    Result,
    Row,
    Settings,
    Study,
)
from synthct.evaluation.segmenters import Segmenter, load_segmenter
from synthct.labels.scheme import maisi_name
from synthct.volume.volume import LabelVolume, Volume

_NEEDS = Needs(real=0, synthetic=1, synthetic_labels=True, warn_below=5)
_VERSION = {"version": 1}
_ROLES: tuple[Role, ...] = ("synthetic", "real")
_THRESHOLDS = Conditions(
    "synthct.thresholds",
    more={"air_hu": AIR_HU, "bone_hu": BONE_HU, "absent_classes": "left out"},
)
_ORGANS = Conditions(
    "median HU over the organ's voxels", more={"spread": "half of the 16th to 84th percentile"}
)


@dataclass(frozen=True)
class AgreementMetric:
    """Per-organ HU and volume, agreement by thresholds, and Dice of a segmenter where one is given.

    `segmenter` is what `load_segmenter` takes: a word, a path, or a callable.
    """

    segmenter: str | Segmenter | Callable[[Volume], LabelVolume] | None = None
    device: str = "cpu"
    name: str = "agreement"
    title: str = "Mask agreement: does the image follow its mask?"
    needs: Needs = _NEEDS

    @classmethod
    def from_settings(cls, settings: Settings) -> AgreementMetric:
        return cls(settings.segmenter, settings.device)

    def measure(self, study: Study, progress: Progress) -> Result:
        segmenter = None if self.segmenter is None else load_segmenter(self.segmenter, self.device)
        cases = [c for c in (*study.synthetic, *study.real) if c.labels]
        rows: list[Row] = []
        with progress.stage("mask agreement", len(cases)) as advance:
            for case in cases:
                rows += _looks(case, study)
                if segmenter is not None:
                    rows += _segmented(case, study, segmenter)
                advance()
        numbers = self._numbers(rows, segmenter)
        return Result(tuple(numbers), tuple(_merged(rows)), tuple(_told(study, rows)))

    def _numbers(self, rows: list[Row], segmenter: Segmenter | None) -> list[Number]:
        numbers = []
        for (group, key), role_values in _collected(rows).items():
            conditions, unit = _protocol(group, key, segmenter)
            for role in _ROLES:
                if role in role_values:
                    name = "/".join(part for part in (role, group, key) if part)
                    better = "higher" if "dice" in key or key.startswith("lung") else "closer"
                    numbers.append(
                        median_number(
                            name,
                            role_values[role],
                            conditions,
                            unit=unit,
                            better="lower" if key.startswith("solid") else better,  # type: ignore[arg-type]
                            role=role,
                        )
                    )
        return numbers


def _looks(case: Case, study: Study) -> list[Row]:
    """What needs no network: a row for the case, and one per organ."""
    kept = study.cache.arrays(case, "agreement", _VERSION, lambda: _examined(case))
    whole = {str(k): _or_none(float(v)) for k, v in zip(kept["names"], kept["shares"], strict=True)}
    rows = [Row(case.name, case.role, whole, badness=_badness(case, whole))]
    for label, median, spread, ml in kept["organs"]:
        values: dict[str, float | None] = {
            "median_hu": median,
            "spread_hu": spread,
            "volume_ml": ml,
        }
        if case.modality != "CT":
            values = {"volume_ml": ml}
        rows.append(Row(case.name, case.role, values, group=maisi_name(int(label))))
    return rows


def _examined(case: Case) -> Mapping[str, Any]:
    volume, labels = case.volume(), case.label_map().array
    spacing_mm = volume.geometry.spacing_mm
    shares = thresholds(volume.array, labels, spacing_mm) if case.modality == "CT" else {}
    found = organs(volume.array, labels, spacing_mm)
    table = [(o.label, o.median_hu, o.spread_hu, o.volume_ml) for o in found]
    return {
        "names": np.array(list(shares), dtype=np.str_),
        "shares": np.array(list(shares.values()), dtype=np.float64),
        "organs": np.array(table, dtype=np.float64).reshape(-1, 4),
    }


def _segmented(case: Case, study: Study, segmenter: Segmenter) -> list[Row]:
    """A row per organ that mask and segmenter have; a note of those only the segmenter sees."""
    settings = {**_VERSION, "segmenter": segmenter.name, "sha256": segmenter.sha256}

    def make() -> Mapping[str, Any]:
        volume, mask = case.volume(), case.label_map().array
        found = segmenter.run(volume).array
        scores, extra = scored(found, mask, segmenter.known, volume.geometry.spacing_mm)
        table = [(s.label, s.dice, s.surface_dice, s.mask_ml, s.found_ml) for s in scores]
        return {"scores": np.array(table, np.float64).reshape(-1, 5), "extra": np.array(extra)}

    kept = study.cache.arrays(case, "segmented", settings, make) if segmenter.sha256 else make()
    rows = []
    for label, dice, surface, mask_ml, found_ml in kept["scores"]:
        values: dict[str, float | None] = {"dice": dice, "surface_dice": surface}
        values |= {"segmented_ml": found_ml, "volume_ratio": found_ml / mask_ml}
        worst = 1 - dice if case.role == "synthetic" else None
        rows.append(Row(case.name, case.role, values, maisi_name(int(label)), badness=worst))
    if len(kept["extra"]):
        names = ", ".join(maisi_name(int(label)) for label in kept["extra"][:5])
        seen: dict[str, float | None] = {"organs_seen_outside_the_mask": float(len(kept["extra"]))}
        rows.append(Row(case.name, case.role, seen, note=f"segmented but not in the mask: {names}"))
    return rows


def _merged(rows: Iterable[Row]) -> list[Row]:
    """One row per case and organ: what two looks found stands side by side."""
    merged: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        key = (row.role, row.case, row.group)
        known = merged.get(key)
        if known is None:
            merged[key] = row
        else:
            badness = row.badness if known.badness is None else known.badness
            note = "; ".join(text for text in (known.note, row.note) if text)
            values = {**known.values, **row.values}
            merged[key] = replace(known, values=values, badness=badness, note=note)
    return list(merged.values())


def _collected(rows: Iterable[Row]) -> dict[tuple[str, str], dict[str, list[float | None]]]:
    """(organ, figure) → role → values; only what some synthetic case has."""
    found: dict[tuple[str, str], dict[str, list[float | None]]] = {}
    for row in rows:
        for key, value in row.values.items():
            found.setdefault((row.group, key), {}).setdefault(row.role, []).append(value)
    return {key: roles for key, roles in found.items() if "synthetic" in roles}


def _protocol(group: str, key: str, segmenter: Segmenter | None) -> tuple[Conditions, str]:
    if segmenter is not None and key in _SEGMENTED:
        more: dict[str, Any] = {
            "segmenter": segmenter.name,
            "absent_classes": "neither has it: skipped; the mask lacks it: not scored, counted",
            "the ceiling": "the same segmenter on the real cases",
        }
        if key == "surface_dice":
            more["tolerance_mm"] = TOLERANCE_MM
        variant = _SEGMENTED[key]
        unit = "ml" if key.endswith("_ml") else ""
        return Conditions(
            variant, extractor=segmenter.name, extractor_sha256=segmenter.sha256, more=more
        ), unit
    if not group:
        return _THRESHOLDS, ""
    return _ORGANS, "ml" if key.endswith("_ml") else "HU"


_SEGMENTED = {
    "dice": "Dice of the re-segmented image with its mask (MONAI)",
    "surface_dice": "surface Dice (MONAI)",
    "segmented_ml": "volume of the re-segmented organ",
    "volume_ratio": "re-segmented over the mask's volume",
    "organs_seen_outside_the_mask": "count per case",
}


def _badness(case: Case, shares: Mapping[str, float | None]) -> float | None:
    """How far lungs and solid organs are from what they should be."""
    if case.role != "synthetic" or not shares:
        return None
    lung, solid = shares.get("lung_under_-400"), shares.get("solid_under_-400")
    return (0.0 if lung is None else 1 - lung) + (solid or 0.0)


def _told(study: Study, rows: list[Row]) -> list[str]:
    if not any(row.role == "real" for row in rows):
        return ["no real case has labels: organs stand alone, and the segmenter has no ceiling"]
    return []


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
