"""The picture of a utility study: the score of every test case, arm beside arm."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import isnan

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT = 110, 320
_LEFT, _TOP, _BOTTOM = 56, 34, 44
_PAPER, _INK, _GRID = (255, 255, 255), (30, 32, 36), (222, 224, 228)
_DOT, _MEAN = (66, 120, 186), (200, 72, 48)


def plot_png(scores: Mapping[str, Sequence[float]], title: str) -> bytes:
    """PNG: a column per arm, a dot per test case (those of one case joined), the mean as a bar.

    Args:
        scores: arm → Dice per test case, NaN where there is none.
        title: over the picture.
    """
    width = _LEFT + _WIDTH * len(scores) + 10
    sheet = Image.new("RGB", (width, _TOP + _HEIGHT + _BOTTOM), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    draw.text((_LEFT, 8), title, fill=_INK, font=font)
    for step in range(0, 11, 2):
        y = _y(step / 10)
        draw.line([(_LEFT, y), (width - 10, y)], fill=_GRID)
        draw.text((20, y - 8), f"{step / 10:.1f}", fill=_INK, font=font)
    _joined(draw, list(scores.values()))
    for number, (arm, values) in enumerate(scores.items()):
        _column(draw, _x(number), values)
        text = f"{arm}"
        left = _x(number) - draw.textlength(text, font=font) / 2
        draw.text((left, _TOP + _HEIGHT + 12), text, fill=_INK, font=font)
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _x(number: int) -> float:
    return _LEFT + _WIDTH * (number + 0.5)


def _y(score: float) -> float:
    return _TOP + _HEIGHT * (1 - score)


def _joined(draw: ImageDraw.ImageDraw, columns: Sequence[Sequence[float]]) -> None:
    for case in zip(*columns, strict=True):
        known = [(_x(n), _y(v)) for n, v in enumerate(case) if not isnan(v)]
        if len(known) > 1:
            draw.line(known, fill=_GRID)


def _column(draw: ImageDraw.ImageDraw, x: float, values: Sequence[float]) -> None:
    known = [value for value in values if not isnan(value)]
    for value in known:
        draw.ellipse([x - 3, _y(value) - 3, x + 3, _y(value) + 3], fill=_DOT)
    if known:
        mean = _y(float(np.mean(known)))
        draw.line([(x - 24, mean), (x + 24, mean)], fill=_MEAN, width=3)
