"""Generated masks tidied up: what stands alone goes, what is wished for stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthct.labels.groups import TUMOURS
from synthct.labels.refine import refine

Labels = npt.NDArray[np.uint8]


@pytest.fixture
def body() -> Labels:
    """A body with a liver, a spleen, two lobes of a lung, stomach and colon that touch."""
    array = np.zeros((40, 36, 32), np.uint8)
    array[2:38, 2:34, 1:31] = 200
    array[22:34, 8:24, 6:16] = 1
    array[6:12, 8:16, 6:14] = 3
    array[24:34, 8:24, 18:29] = 31
    array[6:16, 8:24, 18:29] = 28
    array[14:20, 10:16, 8:14] = 12
    array[14:20, 16:26, 8:14] = 62
    return array


def test_what_is_in_order_stays_as_it_is(body: Labels) -> None:
    np.testing.assert_array_equal(refine(body), body)


def test_the_argument_is_left_alone(body: Labels) -> None:
    body[4, 4, 4] = 1
    before = body.copy()
    refine(body)
    np.testing.assert_array_equal(body, before)


def test_islands_of_organs_become_body_and_islands_of_body_air(body: Labels) -> None:
    order = body.copy()
    body[4:6, 28:31, 20:23] = 1  # in the body, away from the liver
    np.testing.assert_array_equal(refine(body), order)
    body[0, 0, 0:3] = 1  # outside it
    np.testing.assert_array_equal(refine(body), order)


def test_a_hole_and_a_notch_in_an_organ_are_closed_but_no_neighbour_is_eaten(body: Labels) -> None:
    order = body.copy()
    body[27:29, 15:17, 10:12] = 200
    body[27, 8, 10] = 200
    np.testing.assert_array_equal(refine(body), order)
    body[27, 12:16, 10] = 6  # a vessel in it
    assert (refine(body)[27, 12:16, 10] == 6).all()


def test_a_lesion_that_nobody_wished_for_is_the_organ_around_it(body: Labels) -> None:
    order = body.copy()
    body[26:29, 12:15, 9:12] = 26
    body[27:29, 12:15, 21:24] = 23  # in the right lobe
    body[9:11, 12:15, 21:24] = 23  # and in the left one
    np.testing.assert_array_equal(refine(body), order)


def test_the_wished_lesion_stays_in_one_piece_or_in_several(body: Labels) -> None:
    body[26:30, 12:16, 9:13] = 26
    body[23:25, 20:22, 8:10] = 26
    assert set(np.unique(refine(body, 26))) == set(np.unique(body))
    assert (refine(body, 26)[23:25, 20:22, 8:10] == 26).all(), "liver tumours come in pieces"
    body[27:31, 12:16, 21:25] = 23
    body[9:11, 12:14, 21:23] = 23
    found = refine(body, 23)
    assert (found[27:31, 12:16, 21:25] == 23).all()
    assert not (found[9:11, 12:14, 21:23] == 23).any(), "a lung tumour is one"
    assert not (found == 26).any()


def test_bowel_that_hangs_on_nothing_is_body(body: Labels) -> None:
    body[4:7, 26:32, 3:6] = 62
    found = refine(body)
    assert (found[4:7, 26:32, 3:6] == 200).all()
    assert (found[14:20, 16:26, 8:14] == 62).all()


def test_vessels_of_the_liver_are_liver_and_the_airway_stays(body: Labels) -> None:
    body[26:30, 12, 9] = 25
    body[18:22, 12:16, 18:29] = 132
    found = refine(body)
    assert not (found == 25).any() and (found[26:30, 12, 9] == 1).all()
    assert (found == 132).sum() == (body == 132).sum()


def test_nothing_stays_nothing() -> None:
    empty = np.zeros((8, 8, 8), np.uint8)
    assert not refine(empty).any()


@given(
    labels=arrays(np.uint8, (9, 8, 7), elements=st.sampled_from([0, 1, 3, 12, 26, 62, 132, 200])),
    lesion=st.sampled_from([None, *TUMOURS]),
)
def test_no_id_appears_that_was_neither_there_nor_a_host(
    labels: Labels, lesion: int | None
) -> None:
    found = refine(labels, lesion)
    assert set(np.unique(found)) <= set(np.unique(labels)) | {0, 1, 62, 200}
    assert not (found[labels == 0]).any(), "nothing grows out of the body"
    others = [one for one in TUMOURS if one != lesion]
    assert not np.isin(found, others).any()
