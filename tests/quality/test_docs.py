"""The table in docs/qc.md says what the ranges are."""

from __future__ import annotations

from pathlib import Path

from synthct.quality.norms import load_norms

PAGE = Path(__file__).resolve().parents[2] / "docs" / "qc.md"


def test_the_page_lists_the_ranges_as_they_are() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    for group in load_norms().group:
        if group.low is None or group.high is None:
            row = f"| {group.name} | not judged | {group.informational} |"
        else:
            kinds = f"{group.low.kind}, {group.high.kind}"
            row = f"| {group.name} | {group.low.hu:g} to {group.high.hu:g} | {kinds} |"
        assert row in rows
