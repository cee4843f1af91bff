from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synthct.errors import InputError
from synthct.volume.atlas import Atlas, Transfer, features, fuse, transfer

SPACING = (4.0, 4.0, 4.0)


def person(scale: float = 1.0, shift: float = 0.0, planes: int = 48) -> tuple[np.ndarray, ...]:
    """HU and labels of a torso: lungs (28, 30), heart, a spine of alternating vertebrae, liver."""
    i, j, k = np.indices((88, 62, planes)).astype(float)
    x, y, z = (i - 44) / scale, (j - 31) / scale, (k - shift) / scale
    hu = np.full(i.shape, -1000.0)
    labels = np.zeros(i.shape, np.uint8)
    hu[(x / 36) ** 2 + (y / 24) ** 2 < 1] = -100
    hu[(x / 31) ** 2 + (y / 19) ** 2 < 1] = 40
    parts = [
        (1, 60.0, (x + 12, y - 2, z - 6), (14, 13, 9)),
        (28, -830.0, (x - 15, y, z - 30), (11, 15, 17)),
        (30, -830.0, (x + 15, y, z - 30), (11, 15, 17)),
        (115, 45.0, (x - 3, y - 5, z - 26), (8, 8, 9)),
    ]
    for label, value, at, size in parts:
        inside = sum((a / s) ** 2 for a, s in zip(at, size, strict=True)) < 1
        hu[inside], labels[inside] = value, label
    spine = (x**2 + (y + 15) ** 2) < 16
    hu[spine], labels[spine] = 320, 40
    return ndimage.gaussian_filter(hu, 0.6), labels


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_labels_come_over_to_another_person() -> None:
    hu, labels = person()
    target, truth = person(scale=0.9, shift=4.0)
    moved = transfer(target, SPACING, Atlas("one", hu, labels, SPACING))
    assert moved.similarity > 0.9
    for label in (1, 28, 30, 40):
        assert dice(moved.labels == label, (truth == label) & moved.covered) > 0.85, label


def test_a_scan_of_part_of_the_body_finds_its_place() -> None:
    hu, labels = person()
    target, truth = hu[:, :, 20:], labels[:, :, 20:]
    moved = transfer(target, SPACING, Atlas("one", hu, labels, SPACING))
    assert dice(moved.labels == 28, truth == 28) > 0.9
    assert dice(moved.labels == 40, truth == 40) > 0.85


def test_too_little_in_common() -> None:
    hu, labels = person(planes=6)
    with pytest.raises(InputError, match="40 mm"):
        transfer(hu, SPACING, Atlas("slab", hu, labels, SPACING))


def test_image_and_labels_of_an_atlas_share_their_shape() -> None:
    hu, labels = person(planes=8)
    with pytest.raises(InputError, match="atlas one"):
        Atlas("one", hu, labels[1:], SPACING)


def test_features_rise_with_hu_and_hardly_beyond_contrast() -> None:
    hu = np.arange(-1000, 1001, 10)
    values = features(hu)
    assert (np.diff(values) >= 0).all()
    fat, muscle, blood, enhanced = features(np.array([-100, 50, 45, 145]))
    assert muscle - fat > 2 * (enhanced - blood)


def test_the_upper_atlas_rules_above_the_middle_of_the_overlap() -> None:
    shape = (4, 4, 20)
    upper, lower = np.zeros(shape, bool), np.zeros(shape, bool)
    upper[:, :, 8:], lower[:, :, :14] = True, True
    a = Transfer(np.where(upper, 1, 0).astype(np.uint8), upper, 0.9)
    b = Transfer(np.where(lower, 2, 0).astype(np.uint8), lower, 0.7)
    for order in ((a, b), (b, a)):
        both = fuse(order)
        assert both.labels[0, 0].tolist() == [2] * 11 + [1] * 9
        assert both.covered.all()
        assert both.similarity == 0.7
    with pytest.raises(InputError):
        fuse([])
