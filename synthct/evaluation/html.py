"""The evaluation as one HTML file: nothing is fetched, the pictures are inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from synthct.evaluation.charts import distributions
from synthct.evaluation.metric import Figure, Interval, Number, worst
from synthct.evaluation.report import Measured, Report

_LEVEL = 0.95
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  color: #1c2430; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }
th, td { text-align: left; padding: .2rem .7rem; border-bottom: 1px solid #dfe4ea; }
td.number { text-align: right; } .meta { color: #687585; } .warning { color: #8a5300; }
img { max-width: 100%; } svg { max-width: 56rem; width: 100%; font: 12px system-ui, sans-serif; }
svg .key { font-weight: 600; } .real { color: #2563a8; } .synthetic { color: #d9730d; }
details { margin: .3rem 0; } summary { cursor: pointer; } pre { white-space: pre-wrap; }
figure { margin: 1rem 0; } figcaption { color: #687585; }
"""


def to_html(report: Report, figures: Sequence[Figure] = (), *, title: str = "Evaluation") -> str:
    """The whole report as a page that stands alone; `figures` come after the tables."""
    body = [
        f"<h1>{escape(title)}: real against synthetic</h1>",
        _summary(report),
        *(f'<p class="warning">{escape(line)}.</p>' for line in report.warnings),
        *(_section(measured, report) for measured in report.measured),
        *(_figure(figure) for figure in figures),
        _cases(report),
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


def _summary(report: Report) -> str:
    counts = ", ".join(f"{n} {role}" for role, n in report.study.n().items())
    tool = report.versions.get("synthct", "")
    lines = [
        f'<p class="meta">{counts} cases; synthct {escape(tool)}; seed {report.study.seed}.</p>'
    ]
    lines += [f'<p class="meta">Left out: {escape(why)}.</p>' for why in report.left_out.values()]
    return "\n".join(lines)


def _section(measured: Measured, report: Report) -> str:
    result = measured.result
    parts = [f"<h2>{escape(measured.title)} ({escape(measured.name)})</h2>"]
    parts += [f'<p class="warning">{escape(line)}.</p>' for line in result.warnings]
    parts.append(_table(("", "value", "95 % interval", "n", "better"), map(_line, result.numbers)))
    parts.append(_protocols(result.numbers))
    charts = distributions(result.rows)
    if charts:
        key = '<p><span class="real">real</span> above, <span class="synthetic">synthetic</span> '
        parts += [f"<h3>Distributions</h3>{key}below; a tick at each median.</p>", *charts]
    parts += [_figure(figure) for figure in result.figures]
    ranked = worst(result.rows)
    if ranked:
        rows = (
            (escape(r.case), r.role, escape(r.group), _values(r.values), escape(r.note))
            for r in ranked
        )
        parts.append("<h3>Worst cases</h3>")
        parts.append(_table(("case", "", "group", "values", "note"), rows))
    return "\n".join(parts)


def _line(number: Number) -> tuple[str, ...]:
    value = "not defined" if number.value is None else _text(number.value)
    unit = f" {escape(number.unit)}" if number.unit else ""
    interval = "" if number.interval is None else _interval(number.interval)
    n = ", ".join(f"{count} {key.replace('_', ' ')}" for key, count in number.n.items())
    reading = number.why or {"closer": "close to real", "": ""}.get(number.better, number.better)
    return escape(number.name), f"{value}{unit}", interval, escape(n), escape(reading)


def _interval(interval: Interval) -> str:
    """With its level where so few cases cannot reach 95 %."""
    level = "" if interval.level >= _LEVEL else f" ({interval.level:.0%})"
    return f"{_text(interval.low)} to {_text(interval.high)}{level}"


def _protocols(numbers: Iterable[Number]) -> str:
    """The protocols, each once, with the numbers that share it."""
    shared: dict[str, list[str]] = {}
    for number in numbers:
        shared.setdefault(_protocol(number), []).append(number.name)
    lines = [
        f"<p>{escape(', '.join(names))}</p><pre>{text}</pre>" for text, names in shared.items()
    ]
    return f"<details><summary>Protocol</summary>{''.join(lines)}</details>"


def _protocol(number: Number) -> str:
    conditions = number.conditions
    known: dict[str, Any] = {
        "variant": conditions.variant,
        "grid": conditions.spacing_mm
        and " x ".join(f"{s:g}" for s in conditions.spacing_mm) + " mm",
        "planes": ", ".join(conditions.planes),
        "slices": conditions.slices,
        "window": conditions.window and f"{conditions.window[0]:g} to {conditions.window[1]:g}",
        "extractor": conditions.extractor,
        "sha256": conditions.extractor_sha256,
        "seed": conditions.seed,
        **conditions.more,
    }
    if number.interval is not None:
        draws = f", {number.interval.resamples} draws" if number.interval.resamples else ""
        known["interval"] = f"{number.interval.method}{draws}"
    return escape("\n".join(f"{k}: {v}" for k, v in known.items() if v not in (None, "", ())))


def _figure(figure: Figure) -> str:
    data = base64.b64encode(figure.png).decode("ascii")
    alt = escape(figure.title, quote=True)
    return (
        f'<figure><h3>{escape(figure.title)}</h3><img alt="{alt}" '
        f'src="data:image/png;base64,{data}"><figcaption>{escape(figure.caption)}</figcaption></figure>'
    )


def _cases(report: Report) -> str:
    rows = [
        (case.role, escape(case.name), escape(case.image.name), case.sha256[:16])
        for role in ("real", "synthetic", "training")
        for case in report.study.of(role)
    ]
    table = _table(("", "case", "file", "sha256"), rows)
    return f"<details><summary>{len(rows)} cases</summary>{table}</details>"


def _values(values: Mapping[str, float | None]) -> str:
    return escape(", ".join(f"{k} {_text(v)}" for k, v in values.items() if v is not None))


def _text(value: float) -> str:
    return f"{value:.4g}"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{column}</th>" for column in columns)
    lines = (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
