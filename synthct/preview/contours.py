"""Outlines of label maps, each structure in a colour of its own."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import numpy.typing as npt

from synthct.labels.groups import BODY

Rgb = tuple[int, int, int]
_GOLDEN = 0.6180339887498949  # steps of the golden ratio round the hue circle never come near
_BODY_COLOUR: Rgb = (150, 158, 168)


def colour_of(label: int) -> Rgb:
    """A bright colour, the same for an id in every picture; neighbouring ids differ clearly."""
    if label == BODY:
        return _BODY_COLOUR
    hue = (label * _GOLDEN) % 1.0
    saturation = (0.85, 0.60, 0.75)[label % 3]
    lightness = (0.60, 0.70, 0.52)[(label // 3) % 3]
    r, g, b = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * r), round(255 * g), round(255 * b)


def outline(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels of a structure that touch another id to the left or above, or that it ends at."""
    edge = np.zeros(labels.shape, dtype=bool)
    across = labels[:, 1:] != labels[:, :-1]
    down = labels[1:, :] != labels[:-1, :]
    edge[:, 1:] |= across
    edge[:, :-1] |= across & (labels[:, 1:] == 0)
    edge[1:, :] |= down
    edge[:-1, :] |= down & (labels[1:, :] == 0)
    inside: npt.NDArray[np.bool_] = edge & (labels != 0)
    return inside


def draw_contours(
    grey: npt.NDArray[np.uint8], labels: npt.NDArray[Any], tint: float = 0.18
) -> npt.NDArray[np.uint8]:
    """The grey picture (rows, columns) as RGB, structures lightly tinted and outlined."""
    colours = _colour_table(labels)
    present = (labels != 0) & (labels != BODY)
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    painted = colours[labels]
    rgb[present] = (1 - tint) * rgb[present] + tint * painted[present]
    edge = outline(labels)
    rgb[edge] = painted[edge]
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _colour_table(labels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    table = np.zeros((int(labels.max(initial=0)) + 1, 3), dtype=np.float32)
    for label in np.unique(labels):
        table[label] = colour_of(int(label))
    return table
