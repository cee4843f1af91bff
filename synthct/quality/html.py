"""The report as one HTML file: nothing is fetched, the pictures are inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

from synthct.quality.report import Case, Report
from synthct.quality.verdict import Finding

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color: #1c2430; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #dfe4ea; }
th { font-weight: 600; } td.number { text-align: right; }
img { max-width: 100%; background: #000; margin: .6rem 0; }
.pass { color: #18794e; } .fail, .unreadable { color: #c62a2f; font-weight: 600; }
.not-checked { color: #687585; } .meta { color: #687585; }
details { margin: .5rem 0; } summary { cursor: pointer; }
"""


def to_html(report: Report, *, title: str = "Quality check") -> str:
    """The whole report as a page that stands alone."""
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(report.summary)}. "
        f'<span class="meta">Ranges: {escape(report.norms)}.</span></p>',
        _overview(report),
        *(_section(number, case) for number, case in enumerate(report.cases)),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _overview(report: Report) -> str:
    rows = (
        (
            f'<a href="#case-{number}">{escape(case.name)}</a>',
            _status(case.status),
            str(case.verdict.checked) if case.verdict else "",
            str(len(case.verdict.failures)) if case.verdict else "",
            escape(case.why),
        )
        for number, case in enumerate(report.cases)
    )
    return _table(("case", "status", "checked", "failed", "why"), rows)


def _section(number: int, case: Case) -> str:
    parts = [
        f'<h2 id="case-{number}">{escape(case.name)}: {_status(case.status)}</h2>',
        f'<p class="meta">{escape(case.image)} with {escape(case.labels)}'
        f"{escape(f' ({case.scheme})') if case.scheme else ''}</p>",
    ]
    parts += [f'<p class="meta">{escape(note)}</p>' for note in case.notes]
    if case.error is not None:
        parts.append(f"<p>{escape(case.error.message)}</p>")
    if case.picture:
        data = base64.b64encode(case.picture).decode("ascii")
        alt = escape(f"Three planes of {case.name}", quote=True)
        parts.append(f'<img alt="{alt}" src="data:image/png;base64,{data}">')
    parts += _findings(case)
    return "\n".join(parts)


def _findings(case: Case) -> list[str]:
    findings = case.verdict.findings if case.verdict else ()
    failed = [f for f in findings if f.status == "fail"]
    rest = [f for f in findings if f.status != "fail" and not f.absent]
    absent = [escape(f.structure) for f in findings if f.absent]
    parts = [_finding_table(failed)] if failed else []
    if rest:
        words = f"{len(rest)} more checks"
        parts.append(f"<details><summary>{words}</summary>{_finding_table(rest)}</details>")
    if absent:
        words = f"{len(absent)} structures absent, not checked"
        parts.append(f"<details><summary>{words}</summary><p>{', '.join(absent)}</p></details>")
    return parts


def _finding_table(findings: Iterable[Finding]) -> str:
    rows = (
        (
            escape(f.structure or f.check.replace("_", " ")),
            "" if f.voxels is None else str(f.voxels),
            "" if f.value is None else f"{f.value:g}",
            escape(f.accepted),
            _status(f.status),
            escape(f.message or f.source),
        )
        for f in findings
    )
    return _table(("structure or check", "voxels", "value", "accepted", "", "source"), rows)


def _status(status: str) -> str:
    return f'<span class="{status.replace(" ", "-")}">{status}</span>'


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    numeric = {"voxels", "value", "checked", "failed"}
    lines = []
    for row in rows:
        cells = (
            f'<td class="number">{cell}</td>' if column in numeric else f"<td>{cell}</td>"
            for column, cell in zip(columns, row, strict=True)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
