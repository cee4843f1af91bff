"""What became of the cases of a run, and what exit code they add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from synthct.errors import BatchError, QualityError, SynthctError
from synthct.outputs.names import REJECTED, CaseNames
from synthct.outputs.sidecar import CaseSummary, Sidecar
from synthct.volume.volume import LabelVolume, Volume

PASSED, QC_FAILED, SOME_FAILED = 0, 4, 7


@dataclass(frozen=True, eq=False)
class Case:
    """One finished case as the Python API returns it."""

    names: CaseNames
    volume: Volume | None
    labels: LabelVolume | None
    sidecar: Sidecar | None
    summary: CaseSummary

    def as_dict(self) -> dict[str, object]:
        qc = {} if self.sidecar is None else self.sidecar.qc
        return {**self.summary.model_dump(), "qc": qc}


@dataclass(frozen=True, eq=False)
class GenerateReport:
    """Every case of a run, and the exit code that they add up to."""

    cases: tuple[Case, ...]
    exit_code: int
    notes: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        return {
            "exit_code": self.exit_code,
            "cases": [case.as_dict() for case in self.cases],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def exit_code(summaries: Iterable[CaseSummary]) -> int:
    """7 where a case failed, else 4 where one was rejected by QC, else 0."""
    summaries = tuple(summaries)
    if any(one.status == "failed" for one in summaries):
        return SOME_FAILED
    rejected = any(one.status == "rejected" or one.folder == REJECTED for one in summaries)
    return QC_FAILED if rejected else PASSED


def unsuccessful(report: GenerateReport) -> SynthctError | None:
    """What an exit code other than 0 means, None for 0."""
    summaries = [case.summary for case in report.cases]
    if report.exit_code == SOME_FAILED:
        failed = [one for one in summaries if one.status == "failed"]
        return BatchError(
            f"{len(failed)} of {len(summaries)} cases failed, first {failed[0].case}: "
            f"{failed[0].message}",
            "the others are whole; --resume does what is missing",
        )
    if report.exit_code == QC_FAILED:
        wrong = [one for one in summaries if one.folder == REJECTED]
        return QualityError(
            f"{len(wrong)} of {len(summaries)} cases failed QC, first {wrong[0].case}: "
            f"{wrong[0].message}",
            "the best tries are in rejected/; another --seed or more --retries may pass",
        )
    return None


def summary_of(
    names: CaseNames,
    sidecar: Sidecar,
    status: Literal["passed", "rejected", "kept"],
    message: str,
) -> CaseSummary:
    """The line of `run.json` about a case that is on disk."""
    return CaseSummary(
        case=names.case,
        seed=names.seed,
        attempt=sidecar.sampling.attempt,
        status=status,
        message=message,
        folder=REJECTED if names.is_rejected else ".",
        files={role: record.name for role, record in sidecar.files.items()},
    )
