"""Cuts cover every plane once, whatever the size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthct.tiling import cuts


@given(planes=st.integers(1, 300), count=st.integers(1, 400))
def test_even_cuts_cover_every_plane_once(planes: int, count: int) -> None:
    slabs = cuts.even(planes, count)
    assert [p for start, stop in slabs for p in range(start, stop)] == list(range(planes))
    sizes = [stop - start for start, stop in slabs]
    assert len(sizes) == min(planes, count)
    assert max(sizes) - min(sizes) <= 1


@given(planes=st.integers(1, 300), thickness=st.integers(1, 400))
def test_slabs_are_no_thicker_than_asked(planes: int, thickness: int) -> None:
    slabs = cuts.at_most(planes, thickness)
    assert max(stop - start for start, stop in slabs) <= thickness
    assert slabs[0][0] == 0
    assert slabs[-1][1] == planes


@pytest.mark.parametrize(("planes", "count"), [(0, 1), (5, 0), (5, -2)])
def test_nothing_to_cut_is_refused(planes: int, count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        cuts.even(planes, count)


def test_a_slab_without_planes_is_refused() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        cuts.at_most(5, 0)
