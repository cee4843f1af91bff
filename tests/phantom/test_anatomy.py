"""What a radiologist would check: everything there, on its side, in one piece, of its size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synthct.labels.groups import BODY, LEFT_RIBS, LUNG_LOBES, RIBS, RIGHT_RIBS, regions_present
from synthct.labels.scheme import load_scheme, maisi_id, maisi_name
from synthct.phantom.phantom import SCATTERED
from synthct.volume.volume import LabelVolume
from tests.phantom.people import Make

SEEDS = (0, 1)
EXPECTED = {
    "head": {22, 120, 121, 52, 53, 54, 55, 56},
    "chest": {*LUNG_LOBES, *RIBS, *range(40, 50), 6, 11, 57, 115, 122, 125, 132, *range(87, 93)},
    "abdomen": {1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 17, 19, 62, *range(34, 40), 104, 105},
    "chest-abdomen": {*LUNG_LOBES, *RIBS, *range(34, 50), 1, 3, 4, 5, 6, 7, 12, 14, 57, 115, 122},
    "pelvis": {15, 19, 33, 62, *range(93, 108), *range(58, 62), 127},
}
MARKS = {
    "head": ("head",),
    "chest": ("chest",),
    "abdomen": ("abdomen",),
    "chest-abdomen": ("chest", "abdomen"),
    "pelvis": ("pelvis",),
}
VOLUMES_ML = {
    1: (850, 2000), 3: (80, 350), 4: (35, 120), 5: (90, 260), 14: (90, 260), 6: (100, 330),
    7: (45, 130), 10: (8, 60), 11: (18, 50), 12: (100, 600), 13: (35, 110), 17: (10, 40),
    28: (500, 1500), 29: (600, 1700), 30: (350, 1200), 31: (200, 650), 32: (550, 1700),
    36: (30, 95), 44: (15, 50), 57: (25, 70), 68: (14, 40), 80: (14, 40), 104: (180, 600),
    115: (450, 1000), 121: (35, 90), 122: (25, 80), 125: (12, 45),
}  # fmt: skip
"""Structures wholly within chest-abdomen → plausible volumes of adults (ml)."""


def centroid_mm(labels: LabelVolume, label: int) -> np.ndarray:
    voxels = np.argwhere(labels.array == label)
    assert len(voxels), f"{maisi_name(label)} is missing"
    return labels.geometry.affine[:3, :3] @ voxels.mean(axis=0) + labels.geometry.affine[:3, 3]


def volume_ml(labels: LabelVolume, label: int) -> float:
    return float((labels.array == label).sum() * labels.geometry.voxel_mm3 / 1000)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("region", EXPECTED)
def test_every_region_shows_what_belongs_to_it(phantom: Make, region: str, seed: int) -> None:
    labels, _ = phantom(region, seed=seed)
    ids = set(labels.ids())
    assert EXPECTED[region] <= ids
    assert BODY in ids
    assert ids <= set(load_scheme("maisi").labels)
    assert set(MARKS[region]) <= set(regions_present(ids))


@pytest.mark.parametrize("seed", SEEDS)
def test_chest_and_abdomen_show_far_more_than_forty_structures(phantom: Make, seed: int) -> None:
    assert len(phantom(seed=seed)[0].ids()) >= 80


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("region", ["chest-abdomen", "pelvis"])
def test_left_is_left(phantom: Make, region: str, seed: int) -> None:
    """RAS: x grows to the right, so whatever is left has the smaller x."""
    labels, _ = phantom(region, seed=seed)
    pairs = 0
    for label in labels.ids():
        name = maisi_name(label)
        twin = maisi_id(name.replace("left", "right"))
        if name.startswith("left ") and twin in labels.ids():
            assert centroid_mm(labels, label)[0] < centroid_mm(labels, twin)[0] - 8, name
            pairs += 1
    assert pairs >= (20 if region == "chest-abdomen" else 8)


@pytest.mark.parametrize("seed", SEEDS)
def test_single_organs_lie_on_their_side(phantom: Make, seed: int) -> None:
    labels, _ = phantom(seed=seed)
    spine = centroid_mm(labels, 38)[0]
    for left in (3, 12, 115, 28, 29):
        assert centroid_mm(labels, left)[0] < spine - 5, maisi_name(left)
    for right in (1, 10, 7, 30, 31, 32):
        assert centroid_mm(labels, right)[0] > spine + 5, maisi_name(right)


@pytest.mark.parametrize("seed", SEEDS)
def test_order_from_back_to_front_and_from_foot_to_head(phantom: Make, seed: int) -> None:
    labels, _ = phantom(seed=seed)
    y = {i: centroid_mm(labels, i)[1] for i in labels.ids()}
    z = {i: centroid_mm(labels, i)[2] for i in labels.ids()}
    assert y[104] < y[121] < y[11] < y[115] < y[122]  # back muscle … sternum
    assert y[5] < y[1] and y[14] < y[12]  # kidneys behind liver and stomach
    assert y[57] > y[11]  # trachea in front of the esophagus
    vertebrae = [z[i] for i in range(34, 50)]
    assert vertebrae == sorted(vertebrae)
    for ribs in (LEFT_RIBS, RIGHT_RIBS):
        heights = [z[i] for i in ribs]
        assert heights == sorted(heights, reverse=True)
    assert z[29] < z[28] and z[32] < z[31] < z[30]  # lobes
    assert z[1] < z[32] and z[3] < z[29]  # the diaphragm lies between


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("region", EXPECTED)
def test_a_structure_is_one_piece_unless_the_border_cuts_it(
    phantom: Make, region: str, seed: int
) -> None:
    labels, _ = phantom(region, seed=seed)
    for label in set(labels.ids()) - SCATTERED - {BODY}:
        pieces, count = ndimage.label(labels.array == label, np.ones((3, 3, 3)))
        border = np.ones(pieces.shape, dtype=bool)
        border[1:-1, 1:-1, 1:-1] = False
        whole = set(range(1, count + 1)) - set(np.unique(pieces[border]))
        assert len(whole) <= 1, maisi_name(label)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_body_is_one_piece_with_air_around(phantom: Make, seed: int) -> None:
    labels, _ = phantom("abdomen", seed=seed)
    inside = labels.array > 0
    sizes = np.bincount(ndimage.label(inside)[0].ravel())[1:]
    middle = inside[:, :, inside.shape[2] // 2]
    assert sizes.max() > 0.8 * sizes.sum()  # arms that hang down may be cut off
    assert not middle[:, [0, -1]].any()
    assert 0.3 < middle.mean() < 0.85


@pytest.mark.parametrize("seed", SEEDS)
def test_volumes_are_those_of_people(phantom: Make, seed: int) -> None:
    labels, _ = phantom(seed=seed)
    for label, (low, high) in VOLUMES_ML.items():
        assert low <= volume_ml(labels, label) <= high, maisi_name(label)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_brain_fills_a_closed_skull(phantom: Make, seed: int) -> None:
    labels, _ = phantom("head", seed=seed)
    brain = labels.array == 22
    assert 1000 < volume_ml(labels, 22) < 1900
    rim = ndimage.binary_dilation(brain) & ~brain
    assert np.isin(labels.array[rim], (120, 121)).mean() > 0.98


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cord_runs_through_every_vertebra(phantom: Make, seed: int) -> None:
    labels, _ = phantom("chest", seed=seed)
    for vertebra in range(40, 49):
        bone = np.argwhere(labels.array == vertebra)
        k = int(np.median(bone[:, 2]))
        cord = np.argwhere(labels.array[:, :, k] == 121)
        assert len(cord), maisi_name(vertebra)
        assert bone[:, 1].min() < cord[:, 1].mean() < bone[:, 1].max()


def test_only_men_have_a_prostate(phantom: Make) -> None:
    from synthct.phantom.person import Person

    for seed in range(6):
        labels, _ = phantom("pelvis", 8.0, seed)
        assert (118 in labels.ids()) == Person.from_seed(seed).male


def test_lesions_grow_in_their_organs(phantom: Make) -> None:
    labels, _ = phantom(lesions=True)
    for label in (23, 24, 25, 26, 27, 116, 117, 128):
        assert label in labels.ids(), maisi_name(label)
    for label, host in ((23, LUNG_LOBES), (26, (1, 25)), (128, tuple(range(33, 50)))):
        lesion = labels.array == label
        rim = ndimage.binary_dilation(lesion) & ~lesion
        assert np.isin(labels.array[rim], host).mean() > 0.7, maisi_name(label)
    assert not {23, 24, 25, 26, 27, 116, 117, 128} & set(phantom()[0].ids())
