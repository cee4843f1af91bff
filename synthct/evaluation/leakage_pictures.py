"""A synthetic case over the training case that it is closest to, turned the way it matched."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from synthct.evaluation.leakage_volumes import GRID_MM, WINDOW_HU, Match, flipped, rotate
from synthct.volume.resample import resample_image
from synthct.volume.volume import Volume

Array = npt.NDArray[Any]

PICTURE_MM = 3.0
_HEIGHT, _TITLE, _GAP = 190, 18, 8
_BACK, _TEXT = (18, 20, 24), (228, 231, 236)


def pair_png(synthetic: Volume, training: Volume, match: Match, titles: Sequence[str]) -> bytes:
    """PNG: three planes through the middle of the synthetic case, below them the training case's.

    Args:
        synthetic, training: in RAS.
        match: of the synthetic case with the training case.
        titles: of the two rows.
    """
    above = _shown(synthetic)
    below = laid_on(_shown(training), match, above.shape)
    centre = [n // 2 for n in above.shape]
    rows = [_row(volume, centre) for volume in (above, below)]
    width = max(row.width for row in rows)
    sheet = Image.new("RGB", (width, 2 * (_HEIGHT + _TITLE + _GAP)), _BACK)
    draw = ImageDraw.Draw(sheet)
    for number, (row, title) in enumerate(zip(rows, titles, strict=True)):
        top = number * (_HEIGHT + _TITLE + _GAP)
        draw.text((4, top + 2), title, fill=_TEXT, font=ImageFont.load_default(13))
        sheet.paste(row, (0, top + _TITLE))
    stream = io.BytesIO()
    sheet.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def laid_on(array: Array, match: Match, shape: tuple[int, ...]) -> Array:
    """The training volume (3 mm, 0..1) flipped, turned and shifted onto a grid of `shape`."""
    moved = rotate(flipped(array, match.flips), match.degrees)
    scale = GRID_MM / PICTURE_MM
    out = np.zeros(shape, np.float32)
    takes, puts = [], []
    for have, want, shift in zip(moved.shape, shape, match.shift, strict=True):
        start = round(shift * scale)
        low, high = max(0, start), min(want, start + have)
        if high <= low:
            return out
        puts.append(slice(low, high))
        takes.append(slice(low - start, high - start))
    out[tuple(puts)] = moved[tuple(takes)]
    return out


def _shown(volume: Volume) -> Array:
    """On the pictures' grid, its window at 0..1."""
    grid = volume.geometry.with_spacing((PICTURE_MM,) * 3)
    low, high = WINDOW_HU
    if volume.modality != "CT":
        low, high = 0.0, max(1e-6, float(np.percentile(volume.array, 99.5)))
    array = resample_image(volume, grid, cval=low).array
    return np.clip((array - low) / (high - low), 0, 1)


def _row(volume: Array, centre: Sequence[int]) -> Image.Image:
    i, j, k = centre
    planes = (volume[::-1, ::-1, k].T, volume[::-1, j, ::-1].T, volume[i, ::-1, ::-1].T)
    pictures = [_picture(plane) for plane in planes]
    width = sum(p.width for p in pictures) + _GAP * (len(pictures) - 1)
    row = Image.new("RGB", (width, _HEIGHT), _BACK)
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + _GAP
    return row


def _picture(plane: Array) -> Image.Image:
    image = Image.fromarray((255 * plane).round().astype(np.uint8))
    width = max(1, round(image.width * _HEIGHT / image.height))
    return image.resize((width, _HEIGHT), Image.Resampling.BILINEAR)
