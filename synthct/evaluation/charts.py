"""Distributions per organ as SVG: real above, synthetic below, a tick at each median.

Each organ has a scale of its own, named at its right end, but none narrower than a twentieth of
what all organs span: differences that mean nothing look like nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from synthct.evaluation.metric import Row

_LINE, _LABEL, _WIDE, _SCALE, _HEAD = 26, 190, 500, 110, 24
_NARROWEST = 0.05
_SHIFTS = {"real": (-5.0, "#2563a8"), "synthetic": (5.0, "#d9730d")}
MOST_GROUPS = 60


def distributions(rows: Sequence[Row]) -> list[str]:
    """One chart for every key that rows with a group have values for."""
    grouped = [row for row in rows if row.group]
    keys = dict.fromkeys(key for row in grouped for key, v in row.values.items() if v is not None)
    return [_chart(key, [r for r in grouped if r.values.get(key) is not None]) for key in keys]


def _chart(key: str, rows: Sequence[Row]) -> str:
    groups = list(dict.fromkeys(row.group for row in rows))[:MOST_GROUPS]
    every = [_value(row, key) for row in rows]
    least = _NARROWEST * (max(every) - min(every)) or 1.0
    parts = [f'<text x="{_LABEL}" y="15" class="key">{escape(key)}</text>']
    for number, group in enumerate(groups):
        inside = [row for row in rows if row.group == group]
        parts.append(_line(group, inside, key, _HEAD + (number + 0.5) * _LINE, least))
    width, height = _LABEL + _WIDE + _SCALE, _HEAD + len(groups) * _LINE + 8
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(key, quote=True)} per group">{"".join(parts)}</svg>'
    )


def _line(group: str, rows: Sequence[Row], key: str, y: float, least: float) -> str:
    """One organ: its name, its two strips, and what the ends of its scale stand for."""
    values = [_value(row, key) for row in rows]
    span = max(max(values) - min(values), least)
    low = (max(values) + min(values) - span) / 2
    right = _LABEL + _WIDE
    parts = [
        f'<text x="{_LABEL - 6}" y="{y + 4:.0f}" text-anchor="end">{escape(group)}</text>'
        f'<line x1="{_LABEL}" x2="{right}" y1="{y:.0f}" y2="{y:.0f}" stroke="#dfe4ea"/>'
        f'<text x="{right + 6}" y="{y + 4:.0f}" fill="#687585">{low:.4g} to {low + span:.4g}</text>'
    ]
    for role, (shift, colour) in _SHIFTS.items():
        places = [
            _LABEL + 10 + (_value(row, key) - low) / span * (_WIDE - 20)
            for row in rows
            if row.role == role
        ]
        parts += _strip(places, y + shift, colour)
    return "".join(parts)


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


def _value(row: Row, key: str) -> float:
    value = row.values[key]
    return 0.0 if value is None else float(value)
