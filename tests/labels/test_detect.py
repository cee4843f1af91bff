"""A mask's scheme is certain or refused: names decide, small ids never do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthct.errors import MaskError, UsageError
from synthct.labels.detect import counterpart, detect
from synthct.labels.scheme import load_scheme, maisi_id, scheme_names

TOTAL = load_scheme("totalsegmentator")
BUILTIN = scheme_names()


# ---- by names ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILTIN)
def test_a_mask_with_the_names_of_a_scheme_follows_it(name: str) -> None:
    scheme = load_scheme(name)
    found = detect(scheme.labels.keys(), scheme.labels)
    assert found.scheme.name == name
    assert dict(found.scheme.maisi) == dict(scheme.maisi)
    assert name in found.reason


@given(ids=st.sets(st.sampled_from(sorted(TOTAL.labels)), min_size=1))
def test_header_names_of_totalsegmentator_decide_whatever_is_present(ids: set[int]) -> None:
    found = detect(ids, TOTAL.labels)  # the header names all classes, also absent ones
    assert found.scheme.name == "totalsegmentator"
    assert found.scheme.knows(ids)


@pytest.mark.parametrize("name", BUILTIN)
def test_names_may_stand_at_any_ids_as_in_a_folder_of_files(name: str) -> None:
    own = load_scheme(name).labels
    names = {i: own[label] for i, label in enumerate(sorted(own, reverse=True), start=1)}
    scheme = detect(names.keys(), names).scheme
    home = {organ: label for label, organ in own.items()}
    for label, organ in names.items():
        assert scheme.maisi[label] == load_scheme(name).maisi[home[organ]]


def test_v1_and_v2_of_totalsegmentator_are_told_apart_by_their_headers() -> None:
    first = load_scheme("totalsegmentator-v1").labels
    shared = {1, 2, 3, 4, 5, 6}  # the same organs in both
    assert detect(shared, first).scheme.name == "totalsegmentator-v1"
    assert detect(shared, TOTAL.labels).scheme.name == "totalsegmentator"
    assert detect({7}, {7: first[7]}).scheme.maisi[7] == maisi_id("aorta")


def test_other_spellings_are_looked_up_one_by_one_and_strangers_have_no_counterpart() -> None:
    names = {1: "Liver", 2: "Kidney(R)", 3: "catheter"}
    found = detect([1, 2, 3], names)
    assert dict(found.scheme.maisi) == {1: 1, 2: 5, 3: 0}
    assert "2 of 3" in found.reason


def test_an_id_without_a_name_is_not_guessed_from_the_others() -> None:
    found = detect([5, 9], {5: "liver"})
    assert dict(found.scheme.labels) == {5: "liver"}


def test_known_names_without_a_counterpart_do_not_become_something_else() -> None:
    assert counterpart("pulmonary_artery") == 0
    assert counterpart("Kidney Left") == 14
    assert counterpart("catheter") is None


def test_names_that_say_nothing_known_are_refused() -> None:
    with pytest.raises(MaskError, match=r"none of the 2 names.*wire, drain"):
        detect([1, 2], {1: "wire", 2: "drain"})


def test_what_a_header_says_does_not_reach_the_terminal_raw() -> None:
    for names in ({1: "\x1b[2Jwire\n" * 90}, {1: "liver", 2: "\x1b]0;x\x07" * 90}):
        try:
            labels = detect([1, 2], names).scheme.labels
        except MaskError as error:
            assert error.message.isprintable() and len(error.message) < 400
        else:
            assert all(name.isprintable() and len(name) <= 200 for name in labels.values())


def test_background_at_another_id_than_zero_is_refused() -> None:
    with pytest.raises(MaskError, match="background"):
        detect([1, 2], {1: "background", 2: "liver"})


# ---- by ids --------------------------------------------------------------------------------


def assert_refused_with_flag(ids: set[int], names: dict[int, str] | None = None) -> MaskError:
    with pytest.raises(MaskError) as caught:
        detect(ids, names or {})
    assert caught.value.exit_code == 3
    assert "--labels" in caught.value.hint
    return caught.value


@given(ids=st.sets(st.integers(1, 117), min_size=1))
def test_a_raw_totalsegmentator_mask_is_never_taken_for_anything(ids: set[int]) -> None:
    error = assert_refused_with_flag(ids)
    assert "totalsegmentator" in error.hint


def test_labels_that_somebody_appended_do_not_make_it_maisi() -> None:
    everything = set(TOTAL.labels)
    assert_refused_with_flag(everything | {118})
    assert_refused_with_flag(everything | {200})
    assert_refused_with_flag({5, 118})
    assert_refused_with_flag({2, 118})  # only VISTA3D knows both, and anybody may have meant them


def test_generic_names_are_no_names() -> None:
    assert_refused_with_flag({1, 2}, {1: "Label 1", 2: "2"})


def test_names_of_absent_ids_alone_do_not_decide() -> None:
    assert_refused_with_flag({1, 2}, {5: "liver"})


def test_the_body_envelope_tells_maisi() -> None:
    found = detect([0, 1, 28, 132, 200], {})
    assert found.scheme.name == "maisi"
    assert "200" in found.reason


@given(ids=st.sets(st.integers(1, 117), min_size=1))
def test_an_envelope_that_was_added_by_hand_does_not_make_it_maisi(ids: set[int]) -> None:
    error = assert_refused_with_flag(ids | {200})
    assert "totalsegmentator" in error.hint and "maisi" in error.hint


@given(
    known=st.sets(st.sampled_from(sorted(load_scheme("maisi").labels)), min_size=1),
    beyond=st.sampled_from([i for i in load_scheme("maisi").labels if 117 < i < 200]),
)
def test_with_an_id_that_only_maisi_and_those_who_agree_with_it_have_it_is_maisi(
    known: set[int], beyond: int
) -> None:
    assert detect(known | {beyond, 200}, {}).scheme.name == "maisi"


def test_with_the_names_that_we_write_few_ids_are_enough() -> None:
    maisi = load_scheme("maisi")
    assert detect({1, 200}, {i: maisi.labels[i] for i in (1, 200)}).scheme.name == "maisi"
    assert detect({1, 200}, {}, "maisi").scheme.name == "maisi"


def test_free_numbers_of_maisi_are_not_maisi() -> None:
    assert_refused_with_flag({1, 2, 200})


def test_ids_that_nobody_knows() -> None:
    error = assert_refused_with_flag({1, 500})
    assert "no known labelling scheme" in error.message


def test_candidates_are_named() -> None:
    error = assert_refused_with_flag({1, 4, 14})
    for name in ("maisi", "totalsegmentator", "totalsegmentator-v1", "vista3d", "amos", "word"):
        assert name in error.hint
    assert "btcv" not in error.hint  # 13 organs


@pytest.mark.parametrize("ids", [[], [0]])
def test_an_empty_mask(ids: list[int]) -> None:
    with pytest.raises(MaskError, match="empty"):
        detect(ids, {})


# ---- by --labels ---------------------------------------------------------------------------


def test_a_named_scheme_is_taken_where_no_name_contradicts() -> None:
    found = detect([1, 2, 3], {}, "totalsegmentator")
    assert found.scheme is TOTAL
    assert "--labels totalsegmentator" in found.reason
    assert detect([1], {1: "Milz"}, "totalsegmentator").scheme is TOTAL
    assert detect([2], {2: "right kidney"}, "totalsegmentator").scheme is TOTAL
    assert detect([1], {1: "Label 1"}, "totalsegmentator").scheme is TOTAL


def test_auto_is_the_same_as_no_hint() -> None:
    assert detect([200], {}, "auto").scheme.name == "maisi"


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (TOTAL.labels, "maisi"),
        (load_scheme("totalsegmentator-v1").labels, "totalsegmentator"),
        (load_scheme("amos").labels, "btcv"),
        ({93: "face", 50: "brain"}, "totalsegmentator"),
        ({1: "background"}, "totalsegmentator"),
    ],
)
def test_a_named_scheme_that_the_file_contradicts_is_refused(
    names: dict[int, str], hint: str
) -> None:
    with pytest.raises(MaskError, match="contradict") as caught:
        detect(names.keys(), names, hint)
    assert "--labels" in caught.value.hint


def test_a_folder_numbered_in_its_own_way_is_read_by_names_of_the_named_scheme() -> None:
    names = {1: "liver", 2: "spleen"}
    found = detect([1, 2], names, "totalsegmentator")
    assert dict(found.scheme.maisi) == {1: 1, 2: 3}
    assert found.scheme.name == "totalsegmentator"


def test_a_file_of_the_user_s_is_a_hint_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(
        json.dumps({"labels": {"background": 0, "spleen": 1, "liver": 2}}), encoding="utf-8"
    )
    assert dict(detect([1, 2], {}, str(path)).scheme.maisi) == {1: 3, 2: 1}
    with pytest.raises(MaskError, match="contradict"):
        detect([1, 2], {1: "aorta", 2: "colon"}, str(path))


def test_an_unknown_scheme_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        detect([1], {}, "nobody")


def test_a_number_that_the_named_scheme_lacks_is_read_by_its_name_too() -> None:
    found = detect([1, 2], {1: "liver", 2: "spleen"}, hint="maisi")
    assert found.scheme.maisi == {1: 1, 2: 3}
    assert "own way" in found.reason
