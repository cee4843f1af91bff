"""Planes as radiologists look at them, whichever way the array lies."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Literal

import numpy as np
import pytest

from synthct.geometry import Geometry
from synthct.preview.slices import centre_of, richest, three_slices
from synthct.volume.volume import LabelVolume, Volume

SHAPE = (20, 24, 28)
SPACING = (1.0, 2.0, 3.0)


def _ras() -> tuple[Volume, LabelVolume]:
    """A box of tissue with a bright corner: right, anterior, superior."""
    geometry = Geometry.from_spacing(SHAPE, SPACING)
    hu = np.full(SHAPE, -1000.0, dtype=np.float32)
    hu[4:16, 4:20, 4:24] = 40
    hu[12:16, 16:20, 20:24] = 1000
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4:16, 4:20, 4:24] = 1
    labels[12:16, 16:20, 20:24] = 2
    return Volume(hu, geometry), LabelVolume(labels, geometry, "maisi")


def _reoriented(
    volume: Volume, labels: LabelVolume, axes: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[Volume, LabelVolume]:
    matrix = np.eye(4)
    matrix[:3, :3] = volume.geometry.affine[:3, list(axes)]
    shape = [SHAPE[a] for a in axes]
    for new, flip in enumerate(flips):
        if flip:
            matrix[:3, 3] += matrix[:3, new] * (shape[new] - 1)
            matrix[:3, new] *= -1
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    geometry = Geometry((shape[0], shape[1], shape[2]), matrix)
    return (
        Volume(volume.array.transpose(axes)[turn], geometry),
        LabelVolume(labels.array.transpose(axes)[turn], geometry, "maisi"),
    )


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(False,) * 3, (True, True, False), (True,) * 3])
def test_every_orientation_shows_the_same_picture(
    axes: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    expected = three_slices(*_ras())
    found = three_slices(*_reoriented(*_ras(), axes, flips))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.labels, b.labels)
        assert (a.plane, a.index, a.extent_mm) == (b.plane, b.index, b.extent_mm)


def test_the_right_is_on_the_left_and_front_and_head_are_up() -> None:
    volume, labels = _ras()
    axial, coronal, sagittal = three_slices(volume, labels)
    for plane in (axial, coronal, sagittal):
        assert plane.labels is not None
        rows, columns = np.nonzero(plane.labels == 2)
        assert rows.size, "the planes with most structures go through the corner"
        assert rows.mean() < plane.labels.shape[0] / 2
        assert columns.mean() < plane.labels.shape[1] / 2


def test_pixels_keep_their_millimetres() -> None:
    axial, coronal, sagittal = three_slices(*_ras())
    assert axial.extent_mm == (48, 20)
    assert coronal.extent_mm == (84, 20)
    assert sagittal.extent_mm == (84, 48)


def test_without_labels_the_planes_go_through_the_body() -> None:
    volume, _ = _ras()
    assert centre_of(volume.array) == pytest.approx((9.5, 11.5, 13.5), abs=0.51)


def test_an_empty_volume_is_cut_in_the_middle() -> None:
    assert centre_of(np.full(SHAPE, -1000.0)) == (10, 12, 14)


def test_richest_prefers_the_centre_among_equals() -> None:
    labels = np.zeros((9, 9, 9), dtype=np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    assert richest(labels) == (4, 4, 4)


def test_a_single_slice_volume_is_shown() -> None:
    geometry = Geometry.from_spacing((8, 8, 1), SPACING)
    planes = three_slices(Volume(np.zeros((8, 8, 1)), geometry), None)
    assert [plane.image.shape for plane in planes] == [(8, 8), (1, 8), (1, 8)]


def test_nan_becomes_a_number() -> None:
    volume, labels = _ras()
    volume.array[:] = np.nan
    assert all(np.isfinite(plane.image).all() for plane in three_slices(volume, labels))


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_volumes_are_not_copied(order: Literal["C", "F"]) -> None:
    shape = (200, 200, 200)
    geometry = Geometry(shape, np.diag([-1.0, 1.0, -1.0, 1.0]))
    volume = Volume(np.zeros(shape, dtype=np.int16, order=order), geometry)
    labels = LabelVolume(np.ones(shape, dtype=np.uint8, order=order), geometry)
    tracemalloc.start()
    three_slices(volume, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < volume.array.nbytes / 2
