"""What a check found, and what follows from all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "fail", "not checked"]


@dataclass(frozen=True)
class Finding:
    """One check of one structure, or of the volume as a whole.

    `value`, `low`, `high` share a unit: HU for `median_hu`, else what `message` says. `voxels` is
    the size of what was looked at, where that matters; 0 means absent.
    """

    check: str
    status: Status
    structure: str = ""
    group: str = ""
    maisi_id: int | None = None
    voxels: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    source: str = ""
    message: str = ""

    @property
    def absent(self) -> bool:
        return self.maisi_id is not None and self.voxels == 0

    @property
    def accepted(self) -> str:
        """The range in words: `-22..162`, `<= -500`; empty where there is none."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g}..{self.high:g}"
        if self.low is not None:
            return f">= {self.low:g}"
        return f"<= {self.high:g}" if self.high is not None else ""

    def line(self) -> str:
        """In words, one line: what was found and what is accepted."""
        what = self.check.replace("_", " ").replace(" hu", " HU")
        subject = f"{self.structure}, {what}" if self.structure else what
        if self.status == "not checked" or self.value is None or not self.accepted:
            return f"{subject}: {self.message or self.status}"
        return f"{subject}: {self.value:g}, accepted {self.accepted}"

    def as_dict(self) -> dict[str, object]:
        return {
            "check": self.check,
            "status": self.status,
            "structure": self.structure,
            "group": self.group,
            "maisi_id": self.maisi_id,
            "voxels": self.voxels,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "source": self.source,
            "message": self.message,
        }


@dataclass(frozen=True)
class Verdict:
    """All findings on one volume. `passed`: nothing failed, and at least one organ was judged."""

    findings: tuple[Finding, ...]
    checked: int
    norms: str = ""

    @property
    def passed(self) -> bool:
        return self.checked > 0 and not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        return self._where(lambda f: f.status == "fail")

    @property
    def reason(self) -> str:
        """One line: why it did not pass; empty if it did."""
        if self.failures:
            first = "; ".join(f.line() for f in self.failures[:2])
            more = len(self.failures) - 2
            return f"{first}; and {more} more" if more > 0 else first
        return "" if self.checked else "no organ could be checked"

    @property
    def badness(self) -> float:
        """To order tries that failed: failed checks, the share of organs out of range as tie."""
        organs = [f for f in self.findings if f.check == "median_hu" and f.status != "not checked"]
        wrong = sum(f.status == "fail" for f in organs)
        share = wrong / len(organs) if organs else 1.0
        return len(self.failures) + share

    def as_dict(self) -> dict[str, object]:
        return {
            "passed": self.passed,
            "checked": self.checked,
            "failed": len(self.failures),
            "reason": self.reason,
            "norms": self.norms,
            "findings": [f.as_dict() for f in self.findings if not f.absent],
            "absent": [f.structure for f in self.findings if f.absent],
        }

    def _where(self, keep: Callable[[Finding], bool]) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if keep(f))
