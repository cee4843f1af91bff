"""Laws of place: the grid rule, and that left stays left whatever the file's axes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.errors import GridError
from synthct.geometry import Geometry, grid_shape

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

sizes = st.tuples(*[st.integers(1, 600)] * 3)
spacings = st.tuples(*[st.floats(0.3, 8.0)] * 3)


def orientations() -> list[np.ndarray]:
    """All 48 signed permutations, as 3x3 matrices."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            found.append(np.eye(3)[:, list(order)] * signs)
    return found


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


@st.composite
def geometries(draw: st.DrawFn, largest: int = 40) -> Geometry:
    shape = draw(st.tuples(*[st.integers(1, largest)] * 3))
    matrix = draw(st.sampled_from(orientations()))
    tilt = draw(st.tuples(*[st.floats(-0.35, 0.35)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt) @ matrix * np.asarray(draw(spacings))
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Geometry(shape, affine)


@given(sizes, spacings, spacings)
def test_the_grid_covers_the_field_of_view_and_is_not_larger_than_needed(n, before, after):
    shape = grid_shape(n, before, after)
    for count, old, new, size in zip(n, before, after, shape, strict=True):
        assert size >= 1
        assert size * new >= count * old - 1.01e-3 * new
        assert size == 1 or (size - 1) * new < count * old


@given(sizes, spacings)
def test_the_same_spacing_keeps_the_shape(n, spacing):
    assert grid_shape(n, spacing, spacing) == n


def test_the_rule_on_known_numbers():
    assert grid_shape((122, 101, 112), (3, 3, 3), (0.8, 0.8, 1.0)) == (458, 379, 336)
    assert grid_shape((10, 10, 10), (1, 1, 1), (3, 5, 100)) == (4, 2, 1)


@given(geometries(), spacings)
def test_a_new_spacing_keeps_the_outer_corner_and_is_exact(geometry, spacing):
    resampled = geometry.with_spacing(spacing)
    corner = geometry.affine @ [-0.5, -0.5, -0.5, 1]
    assert np.allclose(resampled.affine @ [-0.5, -0.5, -0.5, 1], corner, atol=1e-9)
    assert np.allclose(resampled.spacing_mm, spacing, rtol=1e-12)
    assert resampled.orientation == geometry.orientation


@given(geometries())
def test_every_voxel_keeps_its_place_in_ras(geometry):
    """A marker at any corner of the grid is found at the same point of the patient."""
    axes, flips = geometry.to_ras()
    ras = geometry.as_ras()
    assert ras.orientation == "RAS"
    for corner in itertools.product(*[(0, n - 1) for n in geometry.shape]):
        seen = [corner[a] for a in axes]
        seen = [ras.shape[n] - 1 - v if flips[n] else v for n, v in enumerate(seen)]
        assert np.allclose(ras.affine @ [*seen, 1], geometry.affine @ [*corner, 1], atol=1e-6)


@pytest.mark.parametrize("matrix", orientations(), ids=str)
def test_orientation_names_follow_the_affine(matrix):
    affine = np.eye(4)
    affine[:3, :3] = matrix
    letters = Geometry((2, 3, 4), affine).orientation
    for axis, letter in enumerate(letters):
        patient = int(np.argmax(np.abs(matrix[:, axis])))
        assert letter == ("LR", "PA", "IS")[patient][int(matrix[patient, axis] > 0)]


def test_lps_axes_in_words():
    names = Geometry((2, 2, 2), np.diag([-1.0, -1.0, 1.0, 1.0])).axis_names
    assert names == ("right to left", "anterior to posterior", "inferior to superior")


@given(geometries(), geometries())
def test_the_voxel_map_goes_through_the_patient(source, target):
    through = source.affine @ source.voxel_map_from(target) @ [1, 2, 3, 1]
    assert np.allclose(through, target.affine @ [1, 2, 3, 1], atol=1e-6)


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_an_affine_that_places_nothing_is_refused(affine):
    with pytest.raises(GridError):
        Geometry((2, 2, 2), affine)


def test_a_geometry_cannot_be_changed_behind_its_back():
    affine = np.eye(4)
    geometry = Geometry((2, 2, 2), affine)
    affine[0, 0] = 7
    assert geometry.spacing_mm == (1, 1, 1)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 7
