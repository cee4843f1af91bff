"""Distributions per organ as SVG: real above, synthetic below, a tick at each median."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from synthct.evaluation.metric import Row

_LINE, _LABEL, _WIDE, _HEAD = 26, 190, 560, 24
_COLOURS = {"real": "#2563a8", "synthetic": "#d9730d"}
MOST_GROUPS = 60


def distributions(rows: Sequence[Row]) -> list[str]:
    """One chart for every key that rows with a group have values for."""
    grouped = [row for row in rows if row.group]
    keys = dict.fromkeys(key for row in grouped for key, v in row.values.items() if v is not None)
    return [_chart(key, [r for r in grouped if r.values.get(key) is not None]) for key in keys]


def _chart(key: str, rows: Sequence[Row]) -> str:
    groups = list(dict.fromkeys(row.group for row in rows))[:MOST_GROUPS]
    values = [float(row.values[key] or 0.0) for row in rows if row.group in set(groups)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    height = _HEAD + len(groups) * _LINE + 8

    def x(value: float) -> float:
        return _LABEL + 10 + (value - low) / span * (_WIDE - 20)

    parts = [f'<text x="{_LABEL}" y="15" class="key">{escape(key)}: {low:.3g} to {high:.3g}</text>']
    for number, group in enumerate(groups):
        middle = _HEAD + number * _LINE + _LINE / 2
        parts.append(
            f'<text x="{_LABEL - 6}" y="{middle + 4:.0f}" text-anchor="end">{escape(group)}</text>'
            f'<line x1="{_LABEL}" x2="{_LABEL + _WIDE}" y1="{middle:.0f}" y2="{middle:.0f}" '
            'stroke="#dfe4ea"/>'
        )
        for role, shift in (("real", -5.0), ("synthetic", 5.0)):
            found = [
                float(row.values[key] or 0.0)
                for row in rows
                if row.group == group and row.role == role
            ]
            parts += _strip([x(v) for v in found], middle + shift, _COLOURS[role])
    return (
        f'<svg viewBox="0 0 {_LABEL + _WIDE + 10} {height}" role="img" '
        f'aria-label="{escape(key, quote=True)} per group">{"".join(parts)}</svg>'
    )


def _strip(places: Sequence[float], y: float, colour: str) -> list[str]:
    if not places:
        return []
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x in places]
    median = float(np.median(places))
    tick = (
        f'<line x1="{median:.1f}" x2="{median:.1f}" y1="{y - 5:.1f}" y2="{y + 5:.1f}" '
        f'stroke="{colour}" stroke-width="2"/>'
    )
    return [*dots, tick]
