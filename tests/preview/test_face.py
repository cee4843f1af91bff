"""Previews of heads leave the face out, whatever the orientation of the array."""

from __future__ import annotations

import numpy as np
import pytest

from synthct.geometry import Geometry
from synthct.preview.face import without_face
from synthct.volume.volume import Volume

SIDES = (20, 40, 40)


@pytest.mark.parametrize(("axes", "flip"), [((0, 1, 2), False), ((2, 0, 1), True)])
def test_the_lower_front_is_blank_and_the_brain_is_not(
    axes: tuple[int, int, int], flip: bool
) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, :3] = affine[:3, :3][:, list(axes)] * (-1 if flip else 1)
    head = np.ones(SIDES, np.float32).transpose(axes)
    volume = Volume(head, Geometry(head.shape, affine), modality="MR")
    order, flips = volume.geometry.to_ras()
    shown = without_face(volume).array.transpose(order)
    shown = np.flip(shown, [axis for axis, one in enumerate(flips) if one])
    assert shown.shape == SIDES
    assert not shown[:, 36:, :16].any()  # nose, mouth
    assert shown[:, :24].all()  # back of the head
    assert shown[:, :, 30:].all()  # above the eyes
    assert volume.array.all()
