"""What a run came to: one HTML page with its figures as curves (SVG, no plotting library)."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from synthct.atomic import write_text
from synthct.training.log import read_rows

WIDTH, HEIGHT, MARGIN = 460, 180, 8
_LEFT_OUT = ("step",)
_STYLE = (
    "body{font:14px sans-serif;margin:2em;max-width:1000px}figure{display:inline-block;margin:8px}"
    "svg{background:#f6f6f4}td{padding:1px 12px 1px 0;vertical-align:top}img{max-width:100%}"
)


def write_summary(folder: Path, title: str, facts: Mapping[str, object]) -> Path:
    """`summary.html` in `folder`, from its `log.csv`, `validation.csv` and `pictures/`."""
    path = folder / "summary.html"
    body = [f"<h1>{html.escape(title)}</h1>", _table(facts)]
    for name in ("validation.csv", "log.csv"):
        rows = read_rows(folder / name)
        body += [_curve(column, rows) for column in (rows[0] if rows else ())
                 if column not in _LEFT_OUT]  # fmt: skip
    pictures = sorted((folder / "pictures").glob("*.png"))[-1:]
    body += [f'<h2>{p.stem}</h2><img src="pictures/{p.name}">' for p in pictures]
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>"
    write_text(path, f"{page}<style>{_STYLE}</style>{''.join(body)}\n", overwrite=True)
    return path


def points(column: str, rows: Sequence[Mapping[str, str]]) -> list[tuple[float, float]]:
    """(step, value) wherever the column has a finite number."""
    found = []
    for row in rows:
        try:
            pair = float(row["step"]), float(row.get(column) or "nan")
        except ValueError:
            continue
        if math.isfinite(pair[1]):
            found.append(pair)
    return found


def _curve(column: str, rows: Sequence[Mapping[str, str]]) -> str:
    found = points(column, rows)
    if len(found) < 2:
        return ""
    low, high = (f([y for _, y in found]) for f in (min, max))
    first, last = found[0][0], found[-1][0]
    line = " ".join(
        f"{_placed(x, first, last, WIDTH):.1f},{HEIGHT - _placed(y, low, high, HEIGHT):.1f}"
        for x, y in found
    )
    told = f"{html.escape(column)}: {low:.4g} to {high:.4g}, last {found[-1][1]:.4g}"
    return (
        f'<figure><svg width="{WIDTH}" height="{HEIGHT}"><polyline fill="none" stroke="#246" '
        f'stroke-width="1.5" points="{line}"/></svg>'
        f"<figcaption>{told} (steps {first:.0f} to {last:.0f})</figcaption></figure>"
    )


def _placed(value: float, low: float, high: float, size: int) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return MARGIN + share * (size - 2 * MARGIN)


def _table(facts: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"
