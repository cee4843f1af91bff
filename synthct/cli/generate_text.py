"""What `generate` prints when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def report_text(found: Mapping[str, Any], output: Path, verbose: bool) -> str:
    """A few lines a case: verdict, organs judged, files."""
    lines: list[str] = []
    for case in found["cases"]:
        lines += _case(case, output, verbose)
    parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in found["seconds"].items())
    return "\n".join([*lines, f"time: {parts}"])


def _case(case: Mapping[str, Any], output: Path, verbose: bool) -> list[str]:
    qc = case["qc"]
    judged = f"{qc['checked']} organs judged, {qc['failed']} checks failed" if qc else ""
    verdict = {
        "passed": "QC passed",
        "rejected": "QC FAILED",
        "failed": "FAILED",
        "kept": "kept from an earlier run",
    }[case["status"]]
    lines = [f"{case['case']}: {verdict} (try {case['attempt']}) {judged}".rstrip()]
    if case["message"]:
        lines.append(f"  {case['message']}")
    if verbose and qc:
        lines += [_finding(one) for one in qc["findings"]]
    folder = output / case["folder"]
    return lines + [f"  {folder / name}" for name in case["files"].values()]


def _finding(one: Mapping[str, Any]) -> str:
    value = "" if one.get("value") is None else f" {one['value']:.0f}"
    return f"  {one['status']:<12} {one['structure']}{value}"
