"""Heads are shown without their face: the lower front of the picture is left blank.

A model that was trained on heads with faces may draw one that a person would know. The volume stays
whole; only what the preview shows is cut, by a plane from the mouth to the forehead.
"""

from __future__ import annotations

import numpy as np

from synthct.volume.volume import Volume

FRONT = 0.62
"""Share of the field of view, from the back, behind which nothing is taken away."""
LOWEST, RISE = 0.36, 0.95
"""Height of the plane at `FRONT`, as a share from below, and how it rises towards the front."""


def without_face(head: Volume) -> Volume:
    """`head`, a whole head in its field of view, with 0 in the lower front."""
    axes, flips = head.geometry.to_ras()
    ras = head.array.transpose(axes)
    front, height = (
        (np.arange(n) + 0.5) / n if not flip else 1 - (np.arange(n) + 0.5) / n
        for n, flip in zip(ras.shape[1:], flips[1:], strict=True)
    )
    plane = LOWEST + RISE * (front - FRONT)
    face = (front > FRONT)[:, None] & (height < plane[:, None])
    blank = np.where(face[None], np.zeros((), ras.dtype), ras)
    return head.with_array(blank.transpose(np.argsort(axes)))
