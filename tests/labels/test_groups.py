"""Groups are a partition of MAISI's labels, and say what their names say."""

from __future__ import annotations

from itertools import chain

import pytest

from synthct.labels import groups
from synthct.labels.scheme import load_scheme, maisi_name


def test_every_maisi_label_stands_in_exactly_one_group() -> None:
    members = list(chain.from_iterable(groups.ORGAN_GROUPS.values()))
    assert len(members) == len(set(members))
    assert set(members) == set(load_scheme("maisi").labels)


@pytest.mark.parametrize(
    ("members", "word"),
    [
        (groups.LUNG_LOBES, "lobe"),
        (groups.LEFT_LUNG_LOBES, "left lung"),
        (groups.RIGHT_LUNG_LOBES, "right lung"),
        (groups.VERTEBRAE, "vertebrae"),
        (groups.LEFT_RIBS, "left rib"),
        (groups.RIGHT_RIBS, "right rib"),
        (groups.KIDNEYS + groups.CYSTS, "kidney"),
        (groups.ADRENAL_GLANDS, "adrenal"),
        (groups.CYSTS, "cyst"),
        ((groups.LIVER,), "liver"),
        ((groups.SPLEEN,), "spleen"),
        ((groups.PANCREAS,), "pancreas"),
    ],
)
def test_members_are_all_labels_of_that_name(members: tuple[int, ...], word: str) -> None:
    named = {i for i, name in load_scheme("maisi").labels.items() if word in name}
    assert set(members) == named


def test_bones_are_the_skeleton() -> None:
    bone_words = ("vertebrae", "rib ", "humerus", "scapula", "clavicula", "femur", "hip")
    named = {
        i
        for i, name in load_scheme("maisi").labels.items()
        if any(w in name for w in bone_words) or name in {"sacrum", "skull", "sternum"}
    }
    assert set(groups.BONES) == named


def test_every_lesion_has_a_host_of_its_own_side_that_is_no_lesion() -> None:
    assert set(groups.LESION_HOSTS) == set(groups.LESIONS)
    for lesion, hosts in groups.LESION_HOSTS.items():
        assert hosts and not set(hosts) & set(groups.LESIONS)
        for side in ("left", "right"):
            if side in maisi_name(lesion):
                assert all(side in maisi_name(host) for host in hosts)


def test_regions_are_told_in_order_from_the_top() -> None:
    assert groups.regions_present([93, 1, 200, 28, 22]) == ("head", "chest", "abdomen", "pelvis")
    assert groups.regions_present([200, 62]) == ()
    assert groups.regions_present([32, 5]) == ("chest", "abdomen")


def test_group_of() -> None:
    assert groups.group_of(28) == "lung"
    assert groups.group_of(groups.BODY) == "body"
    assert groups.group_of(2) is None  # a free number of MAISI's
