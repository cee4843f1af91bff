"""The built-in schemes: complete, frozen, and left stays left."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from synthct.errors import UsageError
from synthct.labels.groups import group_of
from synthct.labels.names import spelling, words
from synthct.labels.scheme import BODY, Scheme, load_scheme, maisi_id, maisi_name, scheme_names

BUILTIN = scheme_names()
SIZES = {
    "maisi": 125,
    "totalsegmentator": 117,
    "totalsegmentator-v1": 104,
    "vista3d": 132,
    "btcv": 13,
    "amos": 15,
    "flare22": 13,
    "word": 16,
    "totalsegmentator-body": 2,
    "totalsegmentator-lung-nodules": 2,
    "totalsegmentator-liver-vessels": 2,
}
WITHOUT_COUNTERPART = {
    "totalsegmentator-v1": {"pulmonary_artery", "face"},
    "vista3d": {"kidney", "prostate or uterus", "lung", "bone", "kidney mass"},
    "amos": {"prostate/uterus"},
    "word": {"adrenal"},
    "totalsegmentator-lung-nodules": {"lung"},
}
RENAMED = {"intestine": "small bowel"}  # WORD's word for it, too vague to be a synonym


def test_the_table_above_covers_every_scheme() -> None:
    assert set(SIZES) == set(BUILTIN)


@pytest.mark.parametrize("name", BUILTIN)
def test_size_and_ids(name: str) -> None:
    scheme = load_scheme(name)
    assert scheme.name == name and scheme.title and scheme.source
    assert len(scheme.labels) == SIZES[name]
    assert set(scheme.maisi) == set(scheme.labels)
    if name != "maisi":
        assert sorted(scheme.labels) == list(range(1, SIZES[name] + 1))


@pytest.mark.parametrize("name", BUILTIN)
def test_no_label_is_called_as_another(name: str) -> None:
    labels = load_scheme(name).labels
    assert len({spelling(label) for label in labels.values()}) == len(labels)


@pytest.mark.parametrize("name", BUILTIN)
def test_counterparts_are_organs_and_follow_from_the_names(name: str) -> None:
    scheme = load_scheme(name)
    for label, organ in scheme.labels.items():
        target = scheme.maisi[label]
        if organ in WITHOUT_COUNTERPART.get(name, set()):
            assert target == 0
            continue
        assert group_of(target) is not None
        assert maisi_id(RENAMED.get(organ, organ)) == target


@pytest.mark.parametrize("name", BUILTIN)
def test_left_stays_left_and_right_stays_right(name: str) -> None:
    scheme = load_scheme(name)
    sides = {"left", "right"}
    for label, target in scheme.maisi.items():
        if target and maisi_name(target) != "heart":  # its chambers lose their side
            assert words(scheme.labels[label]) & sides == words(maisi_name(target)) & sides


@pytest.mark.parametrize("name", BUILTIN)
def test_inverse_leads_back(name: str) -> None:
    scheme = load_scheme(name)
    back = scheme.inverse()
    assert set(back) == set(scheme.maisi.values()) - {0}
    for target, label in back.items():
        assert scheme.maisi[label] == target
        assert label == min(i for i, m in scheme.maisi.items() if m == target)


def test_all_117_classes_of_totalsegmentator_have_a_maisi_label_of_their_own() -> None:
    scheme = load_scheme("totalsegmentator")
    assert len(set(scheme.maisi.values()) - {0}) == 117
    same = [label for label, target in scheme.maisi.items() if label == target]
    assert len(same) == 2  # by id alone 115 of 117 organs would be wrong


def test_the_same_name_is_the_same_organ_in_every_scheme() -> None:
    seen: dict[str, int] = {}
    for name in BUILTIN:
        scheme = load_scheme(name)
        for label, organ in scheme.labels.items():
            assert seen.setdefault(spelling(organ), scheme.maisi[label]) == scheme.maisi[label]


def test_vista3d_is_maisi_without_the_body() -> None:
    maisi, vista = load_scheme("maisi"), load_scheme("vista3d")
    assert BODY not in vista.labels
    for label, organ in maisi.labels.items():
        if label != BODY:
            assert vista.labels[label] == organ and vista.maisi[label] == label


def test_free_numbers_of_maisi_are_no_labels() -> None:
    scheme = load_scheme("maisi")
    assert set(scheme.reserved) == {2, 16, 18, 20, 21, 129, 130, 131}
    assert not set(scheme.reserved) & set(scheme.labels)
    assert set(scheme.reserved) | set(scheme.labels) == {*range(1, 133), BODY}


@pytest.mark.parametrize(
    ("name", "organs"),
    [
        ("btcv", {1: 3, 2: 5, 3: 14, 6: 1, 7: 12, 8: 6, 9: 7, 10: 17, 11: 4, 12: 8, 13: 9}),
        ("amos", {1: 3, 2: 5, 3: 14, 6: 1, 9: 7, 10: 4, 11: 8, 12: 9, 13: 13, 14: 15, 15: 0}),
        ("flare22", {1: 1, 2: 5, 3: 3, 4: 4, 5: 6, 6: 7, 7: 8, 8: 9, 9: 10, 12: 13, 13: 14}),
        ("word", {1: 1, 2: 3, 3: 14, 4: 5, 8: 4, 10: 62, 11: 19, 12: 0, 13: 62, 15: 93, 16: 94}),
        ("vista3d", {1: 1, 2: 0, 14: 14, 18: 62, 20: 0, 128: 128, 130: 26, 131: 33, 132: 132}),
    ],
)
def test_order_of_ids_as_published(name: str, organs: dict[int, int]) -> None:
    scheme = load_scheme(name)
    assert {label: scheme.maisi[label] for label in organs} == organs


def test_sources_of_body_nodules_and_hepatic_labels() -> None:
    targets = {
        task: set(load_scheme(f"totalsegmentator-{task}").maisi.values()) - {0}
        for task in ("body", "lung-nodules", "liver-vessels")
    }
    assert targets == {"body": {200}, "lung-nodules": {23}, "liver-vessels": {25, 26}}


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("totalsegmentator", "## TotalSegmentator v2 `total`"),
        ("totalsegmentator-v1", "## TotalSegmentator v1 `total_v1`"),
    ],
)
def test_ids_are_those_that_came_with_the_shared_scans(
    shared_data: Path, name: str, heading: str
) -> None:
    section = (
        (shared_data / "LABELS.md").read_text(encoding="utf-8").split(heading)[1].split("\n## ")[0]
    )
    published = {int(i): n for i, n in re.findall(r"^(\d+) (\S+)$", section, re.MULTILINE)}
    assert dict(load_scheme(name).labels) == published


def test_a_scheme_is_frozen() -> None:
    scheme = load_scheme("btcv")
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.name = "mine"  # type: ignore[misc]
    with pytest.raises(TypeError):
        scheme.labels[1] = "liver"  # type: ignore[index]


def test_a_scheme_does_not_share_its_maker_s_tables() -> None:
    labels, maisi = {1: "liver"}, {1: 1}
    scheme = Scheme("mine", "", "", labels, maisi)
    labels[2] = "spleen"
    assert dict(scheme.labels) == {1: "liver"}


def test_rekeyed_and_restricted_keep_names_and_organs() -> None:
    scheme = load_scheme("totalsegmentator")
    other = scheme.rekeyed({1: "liver", 2: "KIDNEY LEFT"})
    assert dict(other.labels) == {1: "liver", 2: "kidney_left"}
    assert dict(other.maisi) == {1: 1, 2: 14}
    few = scheme.restricted([5, 1, 500])
    assert dict(few.labels) == {1: "spleen", 5: "liver"}
    with pytest.raises(KeyError):
        scheme.rekeyed({1: "face"})


def test_an_unknown_scheme_is_a_usage_error_that_lists_what_exists() -> None:
    with pytest.raises(UsageError) as caught:
        load_scheme("totalsegmentater")
    assert all(name in caught.value.message for name in BUILTIN)
    assert "totalsegmentator" in caught.value.hint
