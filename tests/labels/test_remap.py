"""Remapping: right organs, everything listed, and the way back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthct.errors import MaskError
from synthct.labels.remap import RemapReport, ids_present, remap, unmap
from synthct.labels.scheme import BODY, Scheme, load_scheme, maisi_id, maisi_name, scheme_names

BUILTIN = scheme_names()
INJECTIVE = tuple(
    name
    for name in BUILTIN
    if 0 not in load_scheme(name).maisi.values()
    and len(set(load_scheme(name).maisi.values())) == len(load_scheme(name).maisi)
)
DTYPES = (np.uint8, np.int16, np.uint16, np.int32, np.int64)


def all_labels(name: str) -> np.ndarray:
    ids = [0, *load_scheme(name).labels]
    return np.array(ids, dtype=np.uint8).reshape(-1, 1, 1)


def test_every_totalsegmentator_class_goes_to_its_namesake_and_back() -> None:
    scheme = load_scheme("totalsegmentator")
    mask = all_labels("totalsegmentator")
    mapped, report = remap(mask, scheme)
    assert mapped.dtype == np.uint8
    for label, target in zip(mask.ravel(), mapped.ravel(), strict=True):
        if label:
            assert target == maisi_id(scheme.labels[int(label)])
    assert np.array_equal(unmap(mapped, scheme), mask)
    assert len(report.mapped) == 117
    assert not (report.dropped or report.merged or report.unknown or report.has_envelope)


def test_injective_schemes_are_the_ones_expected() -> None:
    assert set(INJECTIVE) == {
        "maisi",
        "totalsegmentator",
        "btcv",
        "flare22",
        "totalsegmentator-liver-vessels",
    }


@given(data=st.data(), name=st.sampled_from(INJECTIVE), dtype=st.sampled_from(DTYPES))
def test_unmap_undoes_remap_where_no_two_labels_merge(
    data: st.DataObject, name: str, dtype: type[np.integer]
) -> None:
    scheme = load_scheme(name)
    ids = st.sampled_from([0, *scheme.labels])
    shape = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
    mask = data.draw(hnp.arrays(dtype, shape, elements=ids))
    mapped, report = remap(mask, scheme)
    assert np.array_equal(unmap(mapped, scheme), mask)
    assert {label for label, *_ in report.mapped} == set(ids_present(mask))


@given(data=st.data(), name=st.sampled_from(BUILTIN))
def test_every_id_present_is_reported_once_and_becomes_what_is_said(
    data: st.DataObject, name: str
) -> None:
    scheme = load_scheme(name)
    ids = st.sampled_from([0, *scheme.labels, 230, 240])
    mask = data.draw(hnp.arrays(np.uint8, (3, 4, 2), elements=ids))
    mapped, report = remap(mask, scheme, unknown="drop")
    said = {label: target for label, _, target, _ in report.mapped}
    said.update(dict.fromkeys((label for label, _ in report.dropped), BODY))
    said.update(dict.fromkeys(report.unknown, 0))
    assert set(said) == set(ids_present(mask))
    assert len(said) == len(report.mapped) + len(report.dropped) + len(report.unknown)
    expected = np.vectorize(lambda v: said.get(v, 0), otypes=[np.uint8])(mask)
    assert np.array_equal(mapped, expected)


def test_merged_and_dropped_labels_are_listed_with_names() -> None:
    scheme = load_scheme("totalsegmentator-v1")
    mapped, report = remap(np.array([[[44, 45, 49, 5]]]), scheme)
    assert mapped.tolist() == [[[115, 115, BODY, 1]]]
    assert report.merged == ((115, "heart", (44, 45)),)
    assert report.dropped == ((49, "pulmonary_artery"),)
    assert (5, "liver", 1, "liver") in report.mapped
    assert not report.has_envelope  # 200 stands for one vessel here, not for the body
    told = json.loads(json.dumps(report.as_dict()))
    assert told["merged"] == [{"maisi_id": 115, "maisi_name": "heart", "ids": [44, 45]}]
    assert told["dropped"] == [{"id": 49, "name": "pulmonary_artery"}]


def test_an_envelope_is_noticed_where_the_mask_has_one() -> None:
    assert remap(np.array([[[1, 200]]]), load_scheme("maisi"))[1].has_envelope
    assert not remap(np.array([[[1, 3]]]), load_scheme("maisi"))[1].has_envelope
    assert remap(np.array([[[1, 2]]]), load_scheme("totalsegmentator-body"))[1].has_envelope


def test_unknown_ids_are_refused_by_number_or_go_where_told() -> None:
    scheme = load_scheme("btcv")
    mask = np.array([[[0, 6, 99, 300]]])
    with pytest.raises(MaskError, match="99, 300") as caught:
        remap(mask, scheme)
    assert "--unknown body" in caught.value.hint
    body, report = remap(mask, scheme, unknown="body")
    assert body.tolist() == [[[0, 1, BODY, BODY]]]
    assert report.unknown == (99, 300) and not report.has_envelope
    assert remap(mask, scheme, unknown="drop")[0].tolist() == [[[0, 1, 0, 0]]]


def test_many_unknown_ids_are_counted_not_poured_out() -> None:
    with pytest.raises(MaskError) as caught:
        remap(np.arange(1, 3001).reshape(-1, 1, 1), load_scheme("btcv"))
    assert len(caught.value.message) < 200


def test_free_numbers_of_maisi_are_unknown_and_called_by_their_name() -> None:
    with pytest.raises(MaskError, match=r"2 \(dummy1\)"):
        remap(np.array([[[1, 2]]]), load_scheme("maisi"))


def test_a_raw_totalsegmentator_mask_is_refused_even_when_called_maisi() -> None:
    with pytest.raises(MaskError):
        remap(all_labels("totalsegmentator"), load_scheme("maisi"))


def test_unmap_leaves_out_what_the_scheme_does_not_have() -> None:
    maisi = np.array([[[1, 62, 200, 132]]], dtype=np.uint8)
    assert unmap(maisi, load_scheme("btcv")).tolist() == [[[6, 0, 0, 0]]]
    assert unmap(maisi, load_scheme("totalsegmentator-body")).tolist() == [[[0, 0, 1, 0]]]
    assert unmap(maisi, load_scheme("word")).tolist() == [[[1, 10, 0, 0]]]  # colon, not rectum


def test_unmap_widens_where_ids_do_not_fit_a_byte() -> None:
    scheme = Scheme("wide", "", "", {1000: "liver"}, {1000: 1})
    back = unmap(np.array([[[0, 1]]], dtype=np.uint8), scheme)
    assert back.dtype == np.uint16 and back.tolist() == [[[0, 1000]]]


@pytest.mark.parametrize("bad", [np.array([[[-1]]]), np.array([[[70_000]]]), np.ones((1, 1, 1))])
def test_what_cannot_be_labels(bad: np.ndarray) -> None:
    with pytest.raises(MaskError):
        remap(bad, load_scheme("maisi"))


@pytest.mark.parametrize("view", ["C", "F", "permuted", "flipped", "strided"])
def test_memory_order_does_not_matter(view: str) -> None:
    scheme = load_scheme("totalsegmentator")
    base = np.random.default_rng(0).integers(0, 118, (130, 121, 140)).astype(np.int16)
    mask = {
        "C": base,
        "F": np.asfortranarray(base),
        "permuted": base.transpose(2, 0, 1),
        "flipped": base[::-1, :, ::-1],
        "strided": base[::2, 1::3],
    }[view]
    table = np.array([0, *(scheme.maisi[i] for i in range(1, 118))])
    assert np.array_equal(remap(mask, scheme)[0], table[mask])


def test_the_input_is_not_written_to_and_empty_masks_pass() -> None:
    mask = np.array([[[5]]], dtype=np.uint8)
    mask.flags.writeable = False
    remap(mask, load_scheme("totalsegmentator"))
    assert remap(np.zeros((0, 3, 2), np.uint8), load_scheme("maisi"))[0].shape == (0, 3, 2)
    assert ids_present(np.array([[[True, False]]])) == (1,)
    assert maisi_name(int(remap(mask, load_scheme("totalsegmentator"))[0][0, 0, 0])) == "liver"


def test_notes_list_what_changed_its_meaning_and_nothing_else() -> None:
    scheme = load_scheme("maisi")
    _, plain = remap(np.array([[[0, 1, 3]]], np.uint8), scheme)
    assert plain.notes() == ()
    report = RemapReport(dropped=((7, "skin"),), merged=((9, "heart", (2, 4)),), unknown=(250, 251))
    assert report.notes() == (
        "labels that the model does not know, made body: 7 skin",
        "labels merged: 2, 4 into heart",
        "ids unknown to the scheme: 250, 251",
    )
