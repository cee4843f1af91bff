"""Verdicts on many cases: as a table, as a document, as rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from synthct.errors import SynthctError
from synthct.quality.verdict import Finding, Verdict

COLUMNS = (
    "case",
    "image",
    "labels",
    "check",
    "status",
    "structure",
    "group",
    "maisi_id",
    "voxels",
    "value",
    "low",
    "high",
    "source",
    "message",
)
_STYLE = {"pass": "green", "fail": "bold red", "not checked": "dim", "unreadable": "bold red"}


@dataclass(frozen=True)
class Case:
    """One volume and its labels: a verdict, or the error that kept it from being judged."""

    name: str
    image: str
    labels: str
    scheme: str = ""
    reason: str = ""
    verdict: Verdict | None = None
    error: SynthctError | None = None
    notes: tuple[str, ...] = ()
    picture: bytes = field(default=b"", repr=False)

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.passed

    @property
    def status(self) -> str:
        if self.verdict is None:
            return "unreadable"
        if self.verdict.failures:
            return "fail"
        return "pass" if self.verdict.passed else "not checked"

    @property
    def why(self) -> str:
        """One line: why it did not pass; empty if it did."""
        if self.error is not None:
            return self.error.message
        return self.verdict.reason if self.verdict else ""

    def as_dict(self) -> dict[str, object]:
        document: dict[str, object] = {
            "case": self.name,
            "image": self.image,
            "labels": self.labels,
            "scheme": self.scheme,
            "scheme_reason": self.reason,
            "status": self.status,
            "notes": list(self.notes),
        }
        if self.verdict is not None:
            document |= self.verdict.as_dict()
        if self.error is not None:
            document |= {"passed": False, "error": self.error.as_dict()}
        return document


@dataclass(frozen=True)
class Report:
    """All cases of one run, and the exit code that they make (INTERFACE, "Exit codes")."""

    cases: tuple[Case, ...]
    norms: str
    skipped: tuple[str, ...] = ()

    def count(self, status: str) -> int:
        return sum(case.status == status for case in self.cases)

    @property
    def passed(self) -> bool:
        return bool(self.cases) and all(case.passed for case in self.cases)

    @property
    def exit_code(self) -> int:
        if any(case.error is not None for case in self.cases):
            return 7
        return 0 if self.passed else 4

    @property
    def summary(self) -> str:
        parts = [f"{self.count('pass')} of {len(self.cases)} passed"]
        for status, words in (
            ("fail", "failed"),
            ("not checked", "could not be checked"),
            ("unreadable", "could not be read"),
        ):
            if self.count(status):
                parts.append(f"{self.count(status)} {words}")
        return ", ".join(parts)

    def as_dict(self) -> dict[str, object]:
        return {
            "passed": self.passed,
            "exit_code": self.exit_code,
            "summary": self.summary,
            "norms": self.norms,
            "cases": [case.as_dict() for case in self.cases],
            "skipped": list(self.skipped),
        }


def to_csv(report: Report) -> str:
    """One row per check, absent organs included; a case that could not be read is one row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for case in report.cases:
        writer.writerows(_rows(case))
    return text.getvalue()


def _rows(case: Case) -> Iterator[dict[str, object]]:
    place = {"case": case.name, "image": case.image, "labels": case.labels}
    if case.error is not None:
        yield {**place, "check": "readable", "status": "fail", "message": case.error.message}
    for finding in case.verdict.findings if case.verdict else ():
        yield {**place, **finding.as_dict()}


def print_report(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Each case's table where there is one case or `verbose`; else only what failed."""
    single = len(report.cases) == 1
    for case in report.cases:
        if case.verdict is not None and (single or verbose or case.verdict.failures):
            console.print(_case_table(case, everything=verbose, failures_only=not single))
    if not single:
        console.print(_cases_table(report))
    for case in report.cases:
        colour = _STYLE[case.status]
        if single or case.status in ("unreadable", "not checked"):
            why = f": {escape(case.why)}" if case.why else ""
            console.print(f"[{colour}]{case.status}[/] {escape(case.name)}{why}")
    console.print(f"{escape(report.summary)} [dim]({escape(report.norms)})[/]")


def _case_table(case: Case, *, everything: bool, failures_only: bool) -> Table:
    table = Table(title=case.name, title_justify="left", box=None, pad_edge=False)
    columns: tuple[tuple[str, Literal["left", "right"]], ...] = (
        ("structure or check", "left"),
        ("voxels", "right"),
        ("value", "right"),
        ("accepted", "left"),
        ("", "left"),
    )
    for column, justify in columns:
        table.add_column(column, justify=justify)
    findings = case.verdict.findings if case.verdict else ()
    for finding in findings:
        if everything or _shown(finding, failures_only):
            table.add_row(*_cells(finding))
    absent = sum(finding.absent for finding in findings)
    if absent and not everything:
        table.caption = f"{absent} structures absent, not checked"
        table.caption_justify = "left"
    return table


def _shown(finding: Finding, failures_only: bool) -> bool:
    return finding.status == "fail" if failures_only else not finding.absent


def _cells(finding: Finding) -> tuple[str, ...]:
    name = finding.structure or finding.check.replace("_", " ")
    colour = _STYLE[finding.status]
    tail = f" ({finding.message})" if finding.status == "not checked" and finding.message else ""
    return (
        escape(name),
        "" if finding.voxels is None else f"{finding.voxels}",
        "" if finding.value is None else f"{finding.value:g}",
        finding.accepted,
        f"[{colour}]{finding.status}[/]{escape(tail)}",
    )


def _cases_table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("case", "checked", "failed", "status", "why"):
        table.add_column(column)
    for case in report.cases:
        verdict = case.verdict
        table.add_row(
            escape(case.name),
            str(verdict.checked) if verdict else "",
            str(len(verdict.failures)) if verdict else "",
            f"[{_STYLE[case.status]}]{case.status}[/]",
            escape(case.why),
        )
    return table
