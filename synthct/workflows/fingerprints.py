"""What decides on the arrays of an entry of a dataset: another fingerprint makes it anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from synthct.record import fingerprint, sha256_of
from synthct.volume.prepared import LEAST_SPACING_MM
from synthct.workflows.cases import MORE_COLUMNS, CasePlan

FORMAT = 3
"""Raised whenever preparing the same scan gives other arrays: older entries are then made anew."""
LABELS_FORMAT = 4
"""The same, of entries that read a file of labels: since 4 they lie where its geometry says."""
UNSEEN_LABELS_FORMAT = 5
"""The same, of CT that are kept for validation and have complete labels: since 5 these go along."""


def of_scan(plan: CasePlan, atlases: Sequence[CasePlan], *, pseudo: bool, finest_mm: float) -> str:
    """Of a scan: its plan, the bytes that it reads, and the words of the request."""
    files = [*_slices(plan), plan.label_file]
    if pseudo:
        files += [file for atlas in atlases for file in _slices(atlas)]
    words: dict[str, Any] = {
        "format": _format(plan, pseudo),
        "plan": _of_plan(plan),
        "files": [sha256_of(file) for file in files if file],
        "pseudo": pseudo,
    }
    if finest_mm != LEAST_SPACING_MM:  # entries that were made before there was a choice stay
        words["finest_mm"] = float(finest_mm)
    return fingerprint(words)


def of_phantom(seed: int, number: int) -> str:
    """Of the phantom of this number in a dataset of this seed."""
    return fingerprint({"format": FORMAT, "seed": seed, "number": number})


def _slices(plan: CasePlan) -> tuple[Path, ...]:
    return (plan.image,) if plan.series is None else plan.series.files


def _of_plan(plan: CasePlan) -> dict[str, object]:
    left_out = ["image", "label_file", "series"]
    if plan.modality == "CT":  # entries that were made before there was MR stay
        left_out += MORE_COLUMNS
    return {k: v for k, v in asdict(plan).items() if k not in left_out}


def _format(plan: CasePlan, pseudo: bool) -> int:
    if (plan.use, plan.labels, plan.modality) == ("validation", "complete", "CT"):
        return UNSEEN_LABELS_FORMAT
    return LABELS_FORMAT if plan.labels != "none" or (pseudo and plan.atlas) else FORMAT
