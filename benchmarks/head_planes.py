"""Pictures of heads that were not defaced, without a face: axial planes of the brain alone."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from synthct.evaluation.case import Case
from synthct.evaluation.slices import fitted

Picture = npt.NDArray[np.uint8]

DEPTHS_MM = (38.0, 48.0, 58.0)
"""Below the vertex: the brain above the orbits, whose roofs lie some 80 mm below it."""
_SIDE = 128
_OUTSIDE, _LEAST = 0.15, 0.02  # of the bright end; of a plane's voxels


def beside(real: Sequence[Case], synthetic: Sequence[Case], rows: int = 4) -> bytes:
    """PNG: real heads on the left, synthetic ones on the right, three planes of each."""
    halves = [
        [strip for case in cases if (strip := brain_planes(case)) is not None][:rows]
        for cases in (real, synthetic)
    ]
    sheet = np.concatenate([_column(half, rows) for half in halves], axis=1)
    buffer = BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def brain_planes(case: Case) -> Picture | None:
    """Three axial planes side by side, (128, 384); None where no vertex is in view.

    A head that meets the upper side of its image hides how far below the vertex a plane lies:
    nothing of it is shown.
    """
    volume = case.volume()
    high = max(float(np.percentile(volume.array, 99.5)), 1e-6)
    vertex = vertex_plane(volume.array / high)
    if vertex is None:
        return None
    places = [round(vertex - depth / volume.geometry.spacing_mm[2]) for depth in DEPTHS_MM]
    if min(places) < 0:
        return None
    return np.concatenate([_square(volume.array[:, :, k] / high) for k in places], axis=1)


def vertex_plane(unit: npt.NDArray[Any]) -> int | None:
    """The highest axial plane (RAS) with a head in it; None where that is the image's upper end."""
    share = (unit > _OUTSIDE).mean(axis=(0, 1))
    inside = np.flatnonzero(share > _LEAST)
    if not inside.size or inside[-1] >= unit.shape[2] - 2:
        return None
    return int(inside[-1])


def _square(plane: npt.NDArray[Any]) -> Picture:
    """As radiologists look at it: anterior at the top, the patient's right on the left."""
    shown = np.clip(plane.T[::-1, ::-1], 0, 1)
    return (fitted(shown, _SIDE) * 255).astype(np.uint8)


def _column(strips: Sequence[Picture], rows: int) -> Picture:
    empty = np.zeros((_SIDE, _SIDE * len(DEPTHS_MM)), np.uint8)
    filled = [*strips, *[empty] * (rows - len(strips))]
    return np.pad(np.concatenate(filled), [(0, 0), (0, 8)], constant_values=90)
