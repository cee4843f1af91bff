"""The sheet on which the planes are laid out: titles, letters, scale bar, legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from synthct.preview.contours import Rgb
from synthct.preview.slices import LETTERS, Slice

_MARGIN = 14
_GAP = 8
_HEADER = 46
_ROW_TITLE = 24
_LEGEND_LINE = 19
_LEGEND_COLUMN = 200
_LEGEND_MAX = 40

_SHEET: Rgb = (18, 20, 24)
_FRAME: Rgb = (0, 0, 0)
_TEXT: Rgb = (228, 231, 236)
_DIM: Rgb = (146, 153, 164)
_WARNING: Rgb = (255, 178, 70)
_LETTER: Rgb = (140, 210, 255)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the sheet: its title, and a picture per plane."""

    title: str
    pictures: tuple[Image.Image, ...]


@dataclass(frozen=True)
class LegendItem:
    name: str
    colour: Rgb


def compose(
    rows: Sequence[Row],
    slices: Sequence[Slice],
    px_per_mm: float,
    *,
    legend: Sequence[LegendItem] = (),
    title: str = "",
    mark: str = "",
    facts: str = "",
) -> Image.Image:
    """Lay out `rows` (of equal picture sizes) under a header and over the legend."""
    columns = [picture.width for picture in rows[0].pictures]
    height = max(picture.height for picture in rows[0].pictures)
    width = sum(columns) + _GAP * (len(columns) - 1) + 2 * _MARGIN
    below = _HEADER + len(rows) * (_ROW_TITLE + height + _GAP)
    sheet = Image.new("RGB", (width, below + _legend_height(legend, width) + _MARGIN), _SHEET)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, width, title, mark, facts)
    for number, row in enumerate(rows):
        top = _HEADER + number * (_ROW_TITLE + height + _GAP)
        draw.text((_MARGIN, top + 4), row.title, fill=_TEXT, font=_font(13))
        _draw_row(sheet, row, slices, (top + _ROW_TITLE, height), number == 0)
    _draw_scale_bar(draw, (_MARGIN + columns[0], _HEADER + _ROW_TITLE + height), px_per_mm)
    _draw_legend(draw, legend, below, width)
    return sheet


def _draw_header(draw: ImageDraw.ImageDraw, width: int, title: str, mark: str, facts: str) -> None:
    left: float = _MARGIN
    if mark:
        draw.text((left, 13), mark, fill=_WARNING, font=_font(19))
        left += draw.textlength(mark, font=_font(19)) + 14
    right = width - _MARGIN - draw.textlength(facts, font=_font(13))
    draw.text((right, 18), facts, fill=_DIM, font=_font(13))
    draw.text((left, 15), _fit(draw, title, right - left - 14, 16), fill=_TEXT, font=_font(16))


def _draw_row(
    sheet: Image.Image, row: Row, slices: Sequence[Slice], rows_px: tuple[int, int], first: bool
) -> None:
    draw = ImageDraw.Draw(sheet)
    top, height = rows_px
    left = _MARGIN
    for picture, plane in zip(row.pictures, slices, strict=True):
        draw.rectangle((left, top, left + picture.width - 1, top + height - 1), fill=_FRAME)
        sheet.paste(picture, (left, top + (height - picture.height) // 2))
        _draw_letters(draw, (left, top), (picture.width, height), LETTERS[plane.plane])
        if first:
            caption = f"{plane.plane} {plane.index + 1}/{plane.count}"
            _over_picture(draw, (left + 6, top + 5), caption, "la", _TEXT)
        left += picture.width + _GAP


def _draw_letters(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    size: tuple[int, int],
    letters: tuple[str, str, str, str],
) -> None:
    """Left, right, top, bottom: the patient's directions at the edges of one frame."""
    (x, y), (width, height) = corner, size
    places = (
        ((x + 5, y + height / 2), "lm"),
        ((x + width - 5, y + height / 2), "rm"),
        ((x + width / 2, y + 4), "mt"),
        ((x + width / 2, y + height - 5), "mb"),
    )
    for letter, (place, anchor) in zip(letters, places, strict=True):
        _over_picture(draw, place, letter, anchor, _LETTER)


def _over_picture(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, anchor: str, colour: Rgb
) -> None:
    """Small text that stays legible on white bone as on black air."""
    draw.text(
        place,
        text,
        fill=colour,
        font=_font(13),
        anchor=anchor,
        stroke_width=2,
        stroke_fill=_FRAME,
    )


def _draw_scale_bar(draw: ImageDraw.ImageDraw, corner: tuple[int, int], px_per_mm: float) -> None:
    """A bar of a round length in the lower right of the first picture."""
    right, bottom = corner[0] - 10, corner[1] - 10
    length_mm = next((mm for mm in (100, 50, 20, 10) if mm * px_per_mm <= 110), 5)
    left = right - length_mm * px_per_mm
    draw.rectangle((left, bottom - 3, right, bottom), fill=_TEXT, outline=_FRAME)
    text = f"{length_mm // 10} cm" if length_mm >= 10 else f"{length_mm} mm"
    _over_picture(draw, ((left + right) / 2, bottom - 5), text, "mb", _TEXT)


def _draw_legend(
    draw: ImageDraw.ImageDraw, legend: Sequence[LegendItem], top: int, width: int
) -> None:
    columns = _legend_columns(width)
    for number, item in enumerate(_legend_items(legend)):
        x = _MARGIN + (number % columns) * ((width - 2 * _MARGIN) // columns)
        y = top + 4 + (number // columns) * _LEGEND_LINE
        draw.rounded_rectangle((x, y + 3, x + 11, y + 13), radius=2, fill=item.colour)
        name = _fit(draw, item.name, _LEGEND_COLUMN - 24, 12)
        draw.text((x + 18, y + 1), name, fill=_DIM, font=_font(12))


def _legend_height(legend: Sequence[LegendItem], width: int) -> int:
    return -(-len(_legend_items(legend)) // _legend_columns(width)) * _LEGEND_LINE


def _legend_items(legend: Sequence[LegendItem]) -> list[LegendItem]:
    items = list(legend[:_LEGEND_MAX])
    if len(legend) > _LEGEND_MAX:
        items[-1] = LegendItem(f"and {len(legend) - _LEGEND_MAX + 1} more", _SHEET)
    return items


def _legend_columns(width: int) -> int:
    return max(1, (width - 2 * _MARGIN) // _LEGEND_COLUMN)


def _fit(draw: ImageDraw.ImageDraw, text: str, width: float, size: int) -> str:
    """`text` on one line, shortened where it is wider than `width` pixels."""
    text = " ".join(text.split())
    if draw.textlength(text, font=_font(size)) <= width:
        return text
    while text and draw.textlength(text + "...", font=_font(size)) > width:
        text = text[:-1]
    return text + "..." if text else ""


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size)
