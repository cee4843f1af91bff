"""What an evaluation found, as data: every number with its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthct.evaluation.case import Case, Role
from synthct.evaluation.metric import Number, Result, Study, number_as_dict, worst
from synthct.record import fingerprint

FORMAT = 1


@dataclass(frozen=True)
class Measured:
    """One metric's result under its name and title."""

    name: str
    title: str
    result: Result


@dataclass(frozen=True)
class Report:
    """The whole: `left_out` names metrics that could not run, with the reason."""

    study: Study
    measured: tuple[Measured, ...]
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able. Each number names its cases by role and the hash of all their files."""
        study = self.study
        roles: tuple[Role, ...] = ("real", "synthetic", "training")
        return {
            "format": FORMAT,
            "versions": dict(self.versions),
            "settings": dict(self.settings),
            "seed": study.seed,
            "cases": {r: [c.as_dict() for c in study.of(r)] for r in roles if study.of(r)},
            "metrics": {m.name: self._metric(m) for m in self.measured},
            "left_out": dict(self.left_out),
            "warnings": list(self.warnings),
        }

    def _metric(self, measured: Measured) -> dict[str, Any]:
        result = measured.result
        return {
            "title": measured.title,
            "numbers": [self._number(number) for number in result.numbers],
            "rows": [_row(row) for row in result.rows],
            "worst": [_row(row) for row in worst(result.rows)],
            "warnings": list(result.warnings),
        }

    def _number(self, number: Number) -> dict[str, Any]:
        return {**number_as_dict(number), "cases": cases_of(number, self.study)}


def cases_of(number: Number, study: Study) -> dict[str, Any]:
    """Role → how many cases, and one hash of the hashes of their files; names where not all."""
    found: dict[str, Any] = {}
    for role in ("real", "synthetic", "training"):
        cases = study.of(role)
        named = None if number.cases is None else number.cases.get(role)
        if number.cases is not None:
            cases = tuple(case for case in cases if case.name in (named or ()))
        elif role not in number.n and not any(key.startswith(role) for key in number.n):
            continue
        if cases:
            found[role] = {"n": len(cases), "sha256": digest(cases)}
            if number.cases is not None:
                found[role]["names"] = [case.name for case in cases]
    return found


def digest(cases: Sequence[Case]) -> str:
    """One hash of the images and labels of some cases, whatever their order."""
    return fingerprint({"files": sorted(f"{c.sha256} {c.labels_sha256}" for c in cases)})


def _row(row: Any) -> dict[str, Any]:
    known = {"case": row.case, "role": row.role, "group": row.group, "values": dict(row.values)}
    known |= {"badness": row.badness, "note": row.note}
    return {key: value for key, value in known.items() if value not in (None, "")}
