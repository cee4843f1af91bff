"""The body envelope: closed around the organs, cut from its table, and never of another patient."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synthct.errors import MaskError
from synthct.labels.body import body_from_ct, body_from_labels, touches_body, with_body
from synthct.labels.remap import remap
from synthct.labels.scheme import load_scheme
from synthct.volume.reading import read_image, read_labels

LIVER, SPLEEN, SPINE, BACK = 1, 3, 36, 104


def ellipse(shape, centre, radii) -> np.ndarray:
    i, j = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return ((i - centre[0]) / radii[0]) ** 2 + ((j - centre[1]) / radii[1]) ** 2 <= 1


def torso(slices: int = 40) -> np.ndarray:
    """Organs with wide gaps on a 4 mm grid (i right, j anterior, k up): no wall, no fat."""
    maisi = np.zeros((100, 80, slices), np.uint8)
    maisi[ellipse((100, 80), (50, 25), (5, 5))] = SPINE
    maisi[ellipse((100, 80), (42, 17), (5, 4))] = BACK
    maisi[ellipse((100, 80), (58, 17), (5, 4))] = BACK + 1
    maisi[ellipse((100, 80), (70, 45), (10, 10)), 10:30] = LIVER
    maisi[ellipse((100, 80), (30, 40), (8, 8)), 15:35] = SPLEEN
    return maisi


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def test_the_envelope_holds_every_label_and_has_no_holes():
    maisi = torso()
    body = body_from_labels(maisi, (4.0, 4.0, 4.0), 2)
    assert body.dtype == bool
    assert body[maisi > 0].all()
    for k in range(maisi.shape[2]):
        assert np.array_equal(ndimage.binary_fill_holes(body[:, :, k]), body[:, :, k])
    for k in range(10, 30):  # where there are organs besides the spine
        assert ndimage.label(body[:, :, k])[1] == 1


def test_gaps_between_organs_are_closed_and_the_outside_is_not():
    body = body_from_labels(torso(), (4.0, 4.0, 4.0), 2)
    assert body[50, 45, 20]  # between liver and spleen
    assert not body[5, 5].any()
    assert not body[95, 75].any()


def test_skin_lies_one_to_five_centimetres_outside_the_organs():
    maisi = torso()
    body = body_from_labels(maisi, (4.0, 4.0, 4.0), 2)
    depth = ndimage.distance_transform_edt(maisi == 0, 4.0)[surface(body)]
    assert np.percentile(depth, 1) > 10
    assert np.median(depth) < 50


def test_slices_without_labels_are_filled_from_their_neighbours_only():
    maisi = torso(60)
    maisi[:, :, 28:32] = 0
    maisi[:, :, 45:] = 0
    body = body_from_labels(maisi, (4.0, 4.0, 4.0), 2)
    assert body[50, 25, 28:32].all()
    assert not body[:, :, 55:].any()


def test_thighs_far_apart_stay_two():
    maisi = np.zeros((130, 60, 30), np.uint8)
    maisi[ellipse((130, 60), (30, 30), (4, 4))] = 93
    maisi[ellipse((130, 60), (100, 30), (4, 4))] = 94
    body = body_from_labels(maisi, (4.0, 4.0, 4.0), 2)
    assert ndimage.label(body)[1] == 2


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_superior_axis_may_be_any(axis):
    maisi = torso()
    expected = body_from_labels(maisi, (4.0, 4.0, 4.0), 2)
    turned = np.moveaxis(maisi, 2, axis)
    found = body_from_labels(turned, (4.0, 4.0, 4.0), axis)
    assert np.array_equal(np.moveaxis(found, axis, 2), expected)


def test_spacing_changes_the_sampling_and_not_the_body():
    maisi = torso()
    coarse = body_from_labels(maisi, (4.0, 4.0, 4.0), 2)
    fine = body_from_labels(maisi.repeat(2, 0).repeat(2, 1).repeat(2, 2), (2.0, 2.0, 2.0), 2)
    assert dice(fine, coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)) > 0.97


@pytest.mark.parametrize("label", [0, 200])
def test_nothing_to_draw_around_is_refused(label):
    with pytest.raises(MaskError, match="no organ"):
        body_from_labels(np.full((8, 8, 8), label, np.uint8), (3.0, 3.0, 3.0), 2)


def scan() -> tuple[np.ndarray, np.ndarray]:
    """A chest of 3 mm voxels on a thin table, lungs of air, and the body it has."""
    body = np.repeat(ellipse((120, 100), (60, 50), (45, 30))[:, :, None], 20, 2)
    hu = np.where(body, 40.0, -1000.0)
    for side in (40, 80):
        hu[ellipse((120, 100), (side, 52), (13, 20))] = -850
    hu[10:110, 12:14] = 300  # a table's shell below the back
    hu[58:62, 14:20] = 100  # and a strap that ties the two
    return hu, body


def test_a_ct_gives_its_body_without_table_and_with_lungs():
    hu, body = scan()
    found = body_from_ct(hu, (3.0, 3.0, 3.0), 2)
    assert dice(found, body) > 0.995
    assert not found[:, :14].any()
    assert found[40, 52].all()


def test_two_legs_are_both_the_body():
    legs = ellipse((120, 60), (30, 30), (20, 20)) | ellipse((120, 60), (90, 30), (18, 18))
    hu = np.where(np.repeat(legs[:, :, None], 12, 2), 40.0, -1000.0)
    assert ndimage.label(body_from_ct(hu, (3.0, 3.0, 3.0), 2))[1] == 2


@pytest.mark.parametrize("axis", [0, 1])
def test_a_ct_with_other_axes(axis):
    hu, _ = scan()
    expected = body_from_ct(hu, (3.0, 3.0, 3.0), 2)
    found = body_from_ct(np.moveaxis(hu, 2, axis), (3.0, 3.0, 3.0), axis)
    assert np.array_equal(np.moveaxis(found, axis, 2), expected)


def test_a_ct_without_a_body_is_refused():
    with pytest.raises(MaskError, match="no body"):
        body_from_ct(np.full((20, 20, 20), -1000.0), (3.0, 3.0, 3.0), 2)


def test_body_fills_only_what_has_no_label():
    maisi = np.array([[[0, 1, 0, 200]]], np.uint8)
    envelope = np.array([[[True, True, False, False]]])
    filled = with_body(maisi, envelope)
    assert filled.ravel().tolist() == [200, 1, 0, 200]
    assert filled.dtype == np.uint8
    assert maisi.ravel().tolist() == [0, 1, 0, 200]


def test_a_body_of_another_place_is_refused():
    maisi = np.zeros((10, 10, 10), np.uint8)
    maisi[1:3, 1:3, 1:3] = LIVER
    apart = np.zeros(maisi.shape, bool)
    apart[6:9, 6:9, 6:9] = True
    with pytest.raises(MaskError, match="touches no labelled organ"):
        touches_body(maisi, apart)
    with pytest.raises(MaskError, match="200"):
        touches_body(np.where(apart, 200, maisi))


def test_a_body_beside_or_over_an_organ_passes():
    maisi = np.zeros((10, 10, 10), np.uint8)
    maisi[1:3, 1:3, 1:3] = LIVER
    around = maisi.copy()
    around[3:6, 1:3, 1:3] = 200
    touches_body(around)
    touches_body(maisi, maisi > 0)
    touches_body(maisi)  # no body at all: nothing to object to


@pytest.mark.parametrize("case", ["ts-example", "lidc-0001"])
def test_on_real_scans_the_envelope_follows_the_skin(shared_data, case):
    folder = shared_data / "ct" / case
    labels = read_labels(folder / "labels.nii.gz").labels
    maisi, _ = remap(labels.array, load_scheme("totalsegmentator"))
    truth = body_from_ct(read_image(folder / "image.nii.gz").array, labels.geometry.spacing_mm, 2)
    body = body_from_labels(maisi, labels.geometry.spacing_mm, 2)
    to_skin = ndimage.distance_transform_edt(~surface(truth), labels.geometry.spacing_mm)
    assert dice(body, truth) > 0.945
    assert to_skin[surface(body)].mean() < 8.0
    assert truth[maisi > 0].mean() > 0.999


def test_a_long_real_map_is_closed_slice_by_slice(shared_data):
    labels = read_labels(shared_data / "ct_labels_only" / "ts-s0327" / "labels.nii.gz").labels
    maisi, _ = remap(labels.array, load_scheme("totalsegmentator"))
    body = body_from_labels(maisi, labels.geometry.spacing_mm, 2)
    assert body[maisi > 0].all()
    for k in range(0, body.shape[2], 20):
        assert body[:, :, k].mean() > 0.4
        filled = ndimage.binary_fill_holes(body[:, :, k])
        assert (filled & ~body[:, :, k]).sum() < 20
