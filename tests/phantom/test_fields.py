"""A random field is a function of place: bounded, smooth, the same on every grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.phantom.fields import SmoothField


def axis(start: float, step: float, count: int) -> np.ndarray:
    return (start + step * np.arange(count)).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(10, 90), st.floats(-500, 800))
def test_a_field_stays_within_one_also_beyond_its_domain(
    seed: int, cell: float, start: float
) -> None:
    values = SmoothField((seed,), cell).on_grid(
        axis(-400, 61, 13), axis(-350, 63, 12), axis(start, 40, 9)
    )
    assert values.shape == (13, 12, 9)
    assert np.abs(values).max() <= 1 + 1e-5
    assert values.std() > 0.01


def test_a_field_does_not_know_the_grid() -> None:
    field = SmoothField((3, 4), 30.0)
    fine = field.on_grid(axis(-50, 2, 50), axis(-40, 2, 40), axis(0, 2, 60))
    coarse = field.on_grid(axis(-50, 4, 25), axis(-40, 4, 20), axis(0, 4, 30))
    np.testing.assert_allclose(fine[::2, ::2, ::2], coarse, atol=1e-5)


def test_a_field_is_smooth_at_the_scale_of_its_cell() -> None:
    values = SmoothField((1,), 60.0).on_grid(axis(0, 1, 80), axis(0, 1, 2), axis(0, 1, 2))
    assert np.abs(np.diff(values, axis=0)).max() < 2.5 / 60
