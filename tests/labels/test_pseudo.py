from __future__ import annotations

import numpy as np
import pytest

from synthct.labels.groups import BODY
from synthct.labels.pseudo import label_bones, label_gas, label_head, label_lungs, pseudo_labels

SPACING = (3.0, 3.0, 3.0)
LIVER, AORTA, T12, LOBE, OTHER_LOBE, COLON, KIDNEY = 1, 6, 38, 28, 30, 62, 14


def box(shape: tuple[int, int, int], *spans: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in spans)] = True
    return mask


@pytest.fixture
def scene() -> dict[str, np.ndarray]:
    """A body of fat with a liver, a vertebra, two lungs; the prior is everything 2 voxels off."""
    shape = (56, 44, 40)
    rng = np.random.default_rng(0)
    parts = {
        LIVER: box(shape, (6, 22), (12, 36), (2, 18)),
        T12: box(shape, (24, 32), (5, 13), (2, 38)),
        LOBE: box(shape, (33, 50), (10, 36), (14, 36)),
        OTHER_LOBE: box(shape, (5, 22), (10, 36), (22, 37)),
    }
    body = box(shape, (2, 54), (2, 42), (0, 40))
    hu = np.full(shape, -1000.0)
    hu[body] = -100
    for label, value in ((LIVER, 60), (T12, 300), (LOBE, -830), (OTHER_LOBE, -830)):
        hu[parts[label]] = value
    hu[body] += rng.normal(0, 8, int(body.sum()))
    prior = np.zeros(shape, np.uint8)
    for label, mask in parts.items():
        prior[np.roll(mask, 2, axis=0)] = label
    truth = np.where(body, BODY, 0).astype(np.uint8)
    for label, mask in parts.items():
        truth[mask] = label
    return {"hu": hu, "body": body, "prior": prior, "truth": truth}


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_the_scan_corrects_the_atlas(scene: dict[str, np.ndarray]) -> None:
    covered = np.ones_like(scene["body"])
    found = pseudo_labels(scene["hu"], scene["body"], scene["prior"], covered, SPACING)
    for label in (LIVER, T12, LOBE, OTHER_LOBE):
        there = scene["truth"] == label
        assert dice(found.labels == label, there) > 0.93, label
        assert dice(scene["prior"] == label, there) < 0.91, label
    assert ((found.labels > 0) == scene["body"]).all()
    assert set(np.unique(found.known)) <= {0, 1}


def test_an_organ_of_the_wrong_brightness_is_dropped(scene: dict[str, np.ndarray]) -> None:
    hu = scene["hu"].copy()
    hu[scene["truth"] == LIVER] -= 160  # fat where the atlas has the liver
    covered = np.ones_like(scene["body"])
    found = pseudo_labels(hu, scene["body"], scene["prior"], covered, SPACING)
    assert LIVER in found.dropped
    assert not (found.labels == LIVER).any()
    assert found.known[scene["prior"] == LIVER].mean() < 0.3


def test_what_the_atlas_does_not_cover_is_not_known(scene: dict[str, np.ndarray]) -> None:
    covered = np.ones_like(scene["body"])
    covered[:, :, :2] = False
    found = pseudo_labels(scene["hu"], scene["body"], scene["prior"], covered, SPACING)
    uncovered_body = scene["body"] & ~covered & (found.labels == BODY)
    assert (found.known[uncovered_body] == 0).all()
    assert found.known[~scene["body"]].all()


def test_contrast_in_a_vessel_is_no_bone(scene: dict[str, np.ndarray]) -> None:
    smooth, prior = scene["hu"].copy(), scene["prior"].copy()
    aorta = box(smooth.shape, (26, 31), (17, 22), (2, 38))
    smooth[aorta] = 320
    prior[aorta] = AORTA
    bones, _ = label_bones(smooth, scene["body"], prior, SPACING)
    assert not bones[aorta].any()
    assert dice(bones == T12, scene["truth"] == T12) > 0.9


def test_fatty_marrow_is_bone_and_the_spinal_canal_is_not(scene: dict[str, np.ndarray]) -> None:
    shape = scene["body"].shape
    hu = np.full(shape, -100.0)
    femur, marrow = box(shape, (20, 30), (20, 30), (4, 36)), box(shape, (23, 27), (23, 27), (4, 36))
    hu[femur], hu[marrow] = 600, -60
    for label, inside in ((93, True), (T12, False)):
        prior = np.where(femur, label, 0).astype(np.uint8)
        bones, _ = label_bones(hu, scene["body"], prior, SPACING)
        assert bool((bones[marrow] == label).mean() > 0.9) is inside


def test_what_closes_a_notch_gives_the_bone_no_dark_border(scene: dict[str, np.ndarray]) -> None:
    shape = scene["body"].shape
    hu = np.full(shape, 40.0)
    femur, notch = box(shape, (20, 30), (20, 30), (4, 36)), box(shape, (20, 22), (25, 26), (4, 36))
    hu[femur] = 600
    hu[notch] = 40
    bones, _ = label_bones(hu, scene["body"], np.where(femur, 93, 0).astype(np.uint8), SPACING)
    assert (bones[femur & ~notch] == 93).all()
    assert not bones[notch].any()


def test_bowel_gas_is_no_lung(scene: dict[str, np.ndarray]) -> None:
    hu, prior = scene["hu"].copy(), scene["prior"].copy()
    gas = box(hu.shape, (36, 46), (16, 26), (3, 10))
    hu[gas] = -980
    prior[np.roll(gas, 3, axis=1)] = COLON
    lungs = label_lungs(hu, scene["body"], prior, SPACING)
    assert not lungs[gas].any()
    taken = np.where(scene["body"], BODY, 0).astype(np.uint8)
    taken[lungs > 0] = lungs[lungs > 0]
    named, _ = label_gas(hu, scene["body"], prior, taken, SPACING)
    assert (named[gas] == COLON).all()
    far = np.where(prior == COLON, 0, prior).astype(np.uint8)
    named, stray = label_gas(hu, scene["body"], far, taken, SPACING)
    assert not named.any()
    assert stray[gas].all()


def test_a_kidney_without_fat_around_it_is_none(scene: dict[str, np.ndarray]) -> None:
    hu, prior = scene["hu"].copy(), scene["prior"].copy()
    muscle = box(hu.shape, (24, 52), (14, 40), (0, 13))
    inner = box(hu.shape, (32, 42), (20, 32), (2, 11))
    hu[muscle] = hu[inner] = 45
    prior[inner] = KIDNEY
    covered = np.ones_like(scene["body"])
    found = pseudo_labels(hu, scene["body"], prior, covered, SPACING)
    assert KIDNEY in found.dropped


def test_a_head_by_threshold() -> None:
    i, j, k = np.indices((44, 44, 36))
    radius = np.sqrt((i - 22.0) ** 2 + (j - 22.0) ** 2 + (k - 16.0) ** 2)
    hu = np.full(radius.shape, -1000.0)
    hu[radius < 15.5] = 40
    hu[(radius < 14) & (radius >= 11)] = 900
    hu[radius < 11] = 35
    found = label_head(hu, radius < 15.5, SPACING)
    assert dice(found.labels == 120, (radius < 14) & (radius >= 11)) > 0.85
    assert dice(found.labels == 22, radius < 11) > 0.9
