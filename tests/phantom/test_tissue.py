"""What hides behind the label 200: fat under skin, muscle in the wall, fat between organs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synthct.labels.groups import BODY
from synthct.phantom import TISSUE_NAMES
from synthct.phantom.person import Person
from synthct.phantom.tissue import FAT_TISSUE, GAS, MUSCLE, SKIN, VISCERAL_FAT
from tests.phantom.people import Make

REGIONS = ("head", "chest-abdomen", "pelvis")


@pytest.mark.parametrize("region", REGIONS)
def test_all_of_the_body_and_nothing_else_has_a_tissue(phantom: Make, region: str) -> None:
    labels, tissue = phantom(region)
    assert tissue.shape == labels.array.shape
    assert tissue.dtype == np.uint8
    assert tissue.max() < len(TISSUE_NAMES)
    assert (tissue[labels.array == BODY] > 0).all()
    hollow = np.isin(labels.array, (12, 19, 62)) & (tissue == GAS)
    assert (tissue[(labels.array != BODY) & ~hollow] == 0).all()


@pytest.mark.parametrize("region", REGIONS)
def test_the_skin_is_closed_around_the_body(phantom: Make, region: str) -> None:
    labels, tissue = phantom(region)
    inside = labels.array > 0
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[:, 1, 1] = cross[1, :, 1] = True
    rim = inside & ~ndimage.binary_erosion(inside, cross, border_value=1)
    assert (tissue[rim] == SKIN).mean() > 0.99


def test_layers_lie_in_order_from_the_flank_inwards(phantom: Make) -> None:
    labels, tissue = phantom("abdomen", 3.0)
    k = labels.array.shape[2] // 3
    j = int(np.argwhere(labels.array[:, :, k] > 0)[:, 1].mean())
    line = tissue[:, j, k][labels.array[:, j, k] > 0]
    first = [int(np.argmax(line == t)) for t in (SKIN, FAT_TISSUE, MUSCLE, VISCERAL_FAT)]
    assert first[0] == 0
    assert first == sorted(first)


def test_shares_of_fat_and_muscle_are_those_of_people(phantom: Make) -> None:
    people = sorted((Person.from_seed(seed).fat_mm, seed) for seed in range(30))
    fat_shares = []
    for _, seed in (people[0], people[15], people[-1]):
        labels, tissue = phantom("abdomen", 6.0, seed)
        body = (labels.array > 0).sum()
        fat_shares.append(((tissue == FAT_TISSUE) | (tissue == SKIN)).sum() / body)
        assert 0.08 < (tissue == MUSCLE).sum() / body < 0.5
        assert 0.05 < (tissue == VISCERAL_FAT).sum() / body < 0.45
    assert 0.08 < fat_shares[0] < fat_shares[1] < fat_shares[2] < 0.65


def test_the_throat_holds_air(phantom: Make) -> None:
    labels, tissue = phantom("head", 3.0)
    gas = (tissue == GAS) & (labels.array == BODY)
    assert 10 < gas.sum() * labels.geometry.voxel_mm3 / 1000 < 80
