"""An organ is known under many spellings, and never under another's name."""

from __future__ import annotations

import pytest

from synthct.labels.names import is_background, is_generic, one_line, spelling, synonyms, words
from synthct.labels.scheme import load_scheme, maisi_id, maisi_name


@pytest.mark.parametrize(
    ("name", "organ"),
    [
        ("kidney_left", "left kidney"),
        ("Left Kidney", "left kidney"),
        ("LeftKidney", "left kidney"),
        ("KIDNEY-LT", "left kidney"),
        ("Kidney(R)", "right kidney"),
        ("Adrenal(L)", "left adrenal gland"),
        ("urinary_bladder", "bladder"),
        ("IVC", "inferior vena cava"),
        ("postcava", "inferior vena cava"),
        ("gall_bladder", "gallbladder"),
        ("Oesophagus", "esophagus"),
        ("portal vein and splenic vein", "portal vein and splenic vein"),
        ("portal_vein_and_splenic_vein", "portal vein and splenic vein"),
        ("liver tumour", "hepatic tumor"),
        ("lung_nodules", "lung tumor"),
        ("rib_left_7", "left rib 7"),
        ("gluteus maximus muscle left", "left gluteus maximus"),
        ("Head_of_femur_L", "left femur"),
        ("heart_atrium_left", "heart"),
        ("atrial_appendage_left", "left atrial appendage"),
        ("body", "body"),
    ],
)
def test_spellings(name: str, organ: str) -> None:
    found = maisi_id(name)
    assert found is not None
    assert maisi_name(found) == organ


@pytest.mark.parametrize(
    "name",
    [
        "kidney",
        "lung",
        "left lung",
        "adrenal",
        "prostate/uterus",
        "pulmonary_artery",
        "left",
        "liver and spleen",
        "left kidney tumor",
        "not liver at all",
        "dummy1",
        "rib_left_13",
        "",
        "肝臓",
    ],
)
def test_what_maisi_does_not_know_is_nobody(name: str) -> None:
    assert maisi_id(name) is None


def test_every_maisi_label_is_found_under_its_own_name_and_no_two_look_alike() -> None:
    labels = load_scheme("maisi").labels
    assert {maisi_id(name) for name in labels.values()} == set(labels)
    assert len({words(name) for name in labels.values()}) == len(labels)


def test_no_synonym_shadows_a_label_or_another_synonym() -> None:
    own = {words(name): name for name in load_scheme("maisi").labels.values()}
    seen: dict[frozenset[str], str] = {}
    for other, organ in synonyms().names.items():
        assert own.get(words(other), organ) == organ
        assert seen.setdefault(words(other), organ) == organ


def test_no_synonym_changes_sides() -> None:
    for other, organ in synonyms().names.items():
        for side in ("left", "right"):
            assert side not in organ or side in other


def test_maisi_name_knows_free_numbers_and_refuses_others() -> None:
    assert maisi_name(2) == "dummy1"
    assert maisi_name(200) == "body"
    with pytest.raises(KeyError):
        maisi_name(133)


def test_what_is_shown_of_a_stranger_s_name_is_one_short_line() -> None:
    assert one_line("liver\x1b[31m\n") == "liver?[31m?"
    assert len(one_line("x" * 500)) == 40 and one_line("x" * 40) == "x" * 40


def test_small_judgements() -> None:
    assert spelling(" Kidney__Left-") == spelling("kidney left ") == "kidney left"
    assert is_background("Background") and is_background("Clear Label")
    assert not is_background("back muscle")
    assert all(is_generic(name) for name in ("", "7", "Label 3", "Segment_1", "label"))
    assert not any(is_generic(name) for name in ("liver", "rib 3", "segment of liver"))
