"""Pictures for the page: real beside synthetic, and the cases that rank worst."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from synthct.errors import SynthctError
from synthct.evaluation.case import Case
from synthct.evaluation.metric import Figure, worst
from synthct.evaluation.report import Report
from synthct.preview.render import SOFT_TISSUE_HU, bright_window
from synthct.preview.slices import Slice, three_slices

_HEIGHT = 150
_WIDTH = 3 * 190
_TITLE = 18
_GAP = 10
_BACK, _TEXT = (18, 20, 24), (228, 231, 236)
MOST = 6
_WORST = 4


def montages(report: Report) -> tuple[Figure, ...]:
    """Up to six real beside six synthetic, and the worst four of each metric that ranks cases."""
    study = report.study
    pairs = beside(study.real, study.synthetic)[:MOST]
    figures = [
        Figure(
            "Real beside synthetic",
            _sheet([[(f"real: {a.name}", a), (f"synthetic: {b.name}", b)] for a, b in pairs]),
            "Axial, coronal and sagittal through the centre. CT: -160 to 240 HU. Cases of one name "
            "stand side by side, others in their order.",
        )
    ]
    seen: list[list[str]] = []  # metrics may share a ranking
    known = {(case.role, case.name): case for case in (*study.real, *study.synthetic)}
    for measured in report.measured:
        rows = [r for r in worst(measured.result.rows, 8) if (r.role, r.case) in known]
        named = {r.case: r for r in rows[::-1]}
        cells = [
            (f"{r.case}: {r.badness:.3g} {r.group}", known[r.role, r.case])
            for r in sorted(named.values(), key=lambda r: -(r.badness or 0))[:_WORST]
        ]
        ranking = [title for title, _ in cells]
        if cells and len(study.synthetic) > 1 and ranking not in seen:
            seen.append(ranking)
            title = f"Worst cases by {measured.name}"
            figures.append(
                Figure(title, _sheet([cells[i : i + 2] for i in (0, 2)]), "Worst first.")
            )
    return tuple(figures)


def beside(real: Sequence[Case], synthetic: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Cases of one name together first, then the others as they come."""
    by_name = {case.name: case for case in real}
    paired = [(by_name[case.name], case) for case in synthetic if case.name in by_name]
    used = {case.name for case, _ in paired}
    others = zip(
        (case for case in real if case.name not in used),
        (case for case in synthetic if case.name not in used),
        strict=False,
    )
    return [*paired, *others]


def _sheet(rows: Sequence[Sequence[tuple[str, Case]]]) -> bytes:
    rows = [row for row in rows if row]
    wide = max(len(row) for row in rows)
    width = wide * (_WIDTH + _GAP) + _GAP
    sheet = Image.new("RGB", (width, len(rows) * (_TITLE + _HEIGHT + _GAP) + _GAP), _BACK)
    draw = ImageDraw.Draw(sheet)
    for line, row in enumerate(rows):
        top = _GAP + line * (_TITLE + _HEIGHT + _GAP)
        for column, (title, case) in enumerate(row):
            left = _GAP + column * (_WIDTH + _GAP)
            draw.text((left, top), _cut(title), fill=_TEXT, font=ImageFont.load_default(12))
            sheet.paste(_planes(case), (left, top + _TITLE))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _planes(case: Case) -> Image.Image:
    """Three planes in a row; what cannot be read is left black, the report says why."""
    strip = Image.new("RGB", (_WIDTH, _HEIGHT))
    try:
        volume = case.volume()
    except SynthctError:
        return strip
    window = SOFT_TISSUE_HU if volume.modality == "CT" else bright_window(volume)
    for number, plane in enumerate(three_slices(volume, None)):
        picture = _grey(plane, window)
        left = number * (_WIDTH // 3) + (_WIDTH // 3 - picture.width) // 2
        strip.paste(picture, (left, (_HEIGHT - picture.height) // 2))
    return strip


def _grey(plane: Slice, window: tuple[float, float]) -> Image.Image:
    low, high = window
    shown = np.clip((plane.image - low) / (high - low), 0, 1) * 255
    rows, columns = plane.extent_mm
    scale = min(_HEIGHT / rows, (_WIDTH / 3 - 4) / columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return Image.fromarray(shown.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def _cut(text: str) -> str:
    return text if len(text) <= 70 else f"{text[:67]}..."
