"""Draw docs/images/decoding.svg: the sweeps of three plans of the published decoder.

    python benchmarks/decode_figure.py docs/images/decoding.svg

Everything in it is read off the schedules that the planner makes for 256x256x128 in float32.
"""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path

from synthct.models.maisi.plans import decode_plan
from synthct.models.maisi.spec import preset
from synthct.tiling.budget import Plan
from synthct.tiling.schedule import Schedule

LATENT = (64, 64, 32)
MAP_BYTES = 4 * 128 * 256 * 256 * 128
LEFT, STEP, TOP, BAR, ROW = 150, 40, 40, 110, 9


def plans() -> list[tuple[str, Plan]]:
    spec = preset("ct-rflow").autoencoder
    found = [decode_plan(spec, LATENT, None)]
    found += [decode_plan(spec, LATENT, int(share * MAP_BYTES)) for share in (0.75, 0.25)]
    return [
        (f"{plan.peak_bytes / MAP_BYTES:.2f} maps, {plan.work:.1f}× work", plan) for plan in found
    ]


def drawing() -> str:
    rows = plans()
    boundaries = len(rows[0][1].schedule.network.maps)
    body, y = _maps(rows[0][1].schedule), TOP + BAR + 34
    for title, plan in rows:
        body += [_text(10, y + 4, title, "start")]
        for step in plan.schedule.steps:
            if step.passes:
                body.append(_sweep(_x(step.first), _x(step.end), y, kept=step.target is not None))
                y += ROW
        y += 18
    width = LEFT + STEP * boundaries
    body += _legend(y)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 40}" '
        'font-family="sans-serif" font-size="11">'
    )
    frame = f'<rect width="{width}" height="{y + 40}" fill="white"/>'
    return "\n".join([head, frame, *body, "</svg>"]) + "\n"


def _x(boundary: int) -> int:
    return LEFT + STEP * boundary


def _maps(schedule: Schedule) -> list[str]:
    """A bar for the map at every boundary, its height the cube root of its size."""
    maps = schedule.network.maps
    largest = max(channels * prod(size) for channels, size in maps)
    parts = [_text(10, TOP + BAR, "maps between passes", "start")]
    for number, (channels, size) in enumerate(maps):
        height = BAR * (channels * prod(size) / largest) ** (1 / 3)
        x, y = _x(number), TOP + BAR - height
        parts.append(
            f'<rect x="{x - 8}" y="{y:.1f}" width="16" height="{height:.1f}" fill="#9db8d2"/>'
        )
        parts.append(_text(x, TOP + BAR + 14, str(channels)))
    return [*parts, _text(10, TOP + BAR + 14, "channels", "start")]


def _sweep(first: int, last: int, y: int, *, kept: bool) -> str:
    colour, dash = ("#1f5f99", "") if kept else ("#d9822b", ' stroke-dasharray="3 2"')
    fill = colour if kept else "white"
    end = f'<circle cx="{last}" cy="{y}" r="3" fill="{fill}" stroke="{colour}"/>'
    line = f'<line x1="{first}" y1="{y}" x2="{last}" y2="{y}" stroke="{colour}"{dash}/>'
    return line + end


def _legend(y: int) -> list[str]:
    return [
        _sweep(20, 60, y + 10, kept=True),
        _text(70, y + 14, "a sweep that keeps its map", "start"),
        _sweep(260, 300, y + 10, kept=False),
        _text(310, y + 14, "a sweep that only measures it for the next group norm", "start"),
    ]


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(drawing(), encoding="utf-8")
