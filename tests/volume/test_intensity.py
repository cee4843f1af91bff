"""HU and the networks' range are two views of one number."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.volume.intensity import HU_MAX, HU_MIN, hu_to_unit, unit_to_hu

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@given(st.lists(st.floats(HU_MIN, HU_MAX, width=32), min_size=1))
def test_there_and_back(values):
    hu = np.asarray(values, dtype=np.float32)
    assert np.allclose(unit_to_hu(hu_to_unit(hu)), hu, atol=1e-3)


@given(st.lists(st.integers(-32768, 32767), min_size=1))
def test_whatever_comes_in_stays_in_range(values):
    unit = hu_to_unit(np.asarray(values, dtype=np.int16))
    assert unit.dtype == np.float32
    assert unit.min() >= 0
    assert unit.max() <= 1
    hu = unit_to_hu(np.asarray(values) / 1000)
    assert hu.min() >= HU_MIN
    assert hu.max() <= HU_MAX


def test_known_points():
    assert hu_to_unit(np.array([-1000, 0, 1000])).tolist() == [0.0, 0.5, 1.0]
    assert unit_to_hu(np.array([0.0, 0.5, 1.0])).tolist() == [-1000.0, 0.0, 1000.0]


def test_the_input_is_left_alone():
    hu = np.array([-2000.0, 2000.0], dtype=np.float32)
    hu_to_unit(hu)
    assert hu.tolist() == [-2000.0, 2000.0]
