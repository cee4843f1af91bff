"""Shapes: distances with the right sign and size, boxes that hold what is inside."""

from __future__ import annotations

import numpy as np
import pytest

from synthct.phantom.part import ball
from synthct.phantom.person import Person
from synthct.phantom.shapes import (
    Drum,
    Ellipsoid,
    Grown,
    Half,
    Intersection,
    Segment,
    Shape,
    Union,
    rotation,
    sheet,
    smooth_curve,
    tube,
)
from synthct.phantom.torso import Torso

SHAPES: dict[str, Shape] = {
    "ball": ball((3, -4, 5), 12),
    "ellipsoid": Ellipsoid((0, 0, 0), (30, 12, 18), (20, -35, 50)),
    "segment": Segment((-10, 0, 0), (20, 15, 5), 6, 9),
    "flat segment": Segment((0, 0, -15), (0, 5, 15), 10, 8, (1.5, 0.5, 1.0)),
    "drum": Drum((0, 5, 0), 20, 15, 12, 25),
    "tube": tube([(-20, 0, 0), (0, 20, 5), (20, 0, 10)], [5, 8, 4]),
    "sheet": sheet([(-20, 0, 0), (20, 0, 0)], [(-20, 0, 20), (20, 8, 20)], 4),
    "cut ball": Intersection(
        (ball((0, 0, 0), 20), Half((0, 0, 1), 0)), without=(ball((0, 0, 0), 8),)
    ),
    "grown": Grown(Union((ball((0, 0, 0), 8), ball((20, 0, 0), 6))), 4),
    "trunk": Torso(Person.from_seed(1)).inner_cage,
}


def cloud(shape: Shape, count: int = 4000) -> tuple[np.ndarray, ...]:
    low, high = np.clip(np.asarray(shape.bounds), -500, 500)
    rng = np.random.default_rng(0)
    points = rng.uniform(low - 15, high + 15, (count, 3)).astype(np.float32)
    return points[:, 0], points[:, 1], points[:, 2]


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_of_a_shape_lies_outside_of_its_box(name: str) -> None:
    shape = SHAPES[name]
    points = cloud(shape)
    inside = shape.distance(*points) < 0
    assert inside.any()
    low, high = np.asarray(shape.bounds)
    held = np.stack(points, axis=1)[inside]
    assert (held >= low - 1e-3).all()
    assert (held <= high + 1e-3).all()


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_the_union_of_its_pieces(name: str) -> None:
    shape = SHAPES[name]
    points = cloud(shape)
    pieces = np.min([piece.distance(*points) for piece in shape.pieces], axis=0)
    np.testing.assert_array_equal(pieces < 0, shape.distance(*points) < 0)


def test_the_distance_to_a_ball_is_exact() -> None:
    x, y, z = cloud(SHAPES["ball"])
    expected = np.sqrt((x - 3) ** 2 + (y + 4) ** 2 + (z - 5) ** 2) - 12
    np.testing.assert_allclose(SHAPES["ball"].distance(x, y, z), expected, atol=1e-3)
    assert ball((3, -4, 5), 12).contains((3, -4, 5))
    assert not ball((3, -4, 5), 12).contains((3, -4, 5), margin_mm=12.5)


def test_the_distance_to_an_ellipsoid_is_about_right_near_its_surface() -> None:
    shape = Ellipsoid((0, 0, 0), (40, 20, 30))
    on_axis = np.array([44.0, 36.0], dtype=np.float32)
    zero = np.zeros(2, dtype=np.float32)
    np.testing.assert_allclose(shape.distance(on_axis, zero, zero), [4, -4], atol=0.6)


def test_turning_is_right_handed() -> None:
    np.testing.assert_allclose(rotation((90, 0, 0)) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation((0, 90, 0)) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation((0, 0, 90)) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_a_curve_passes_through_its_knots_in_short_steps() -> None:
    knots = np.array([[0.0, 0, 0], [30, 10, 0], [40, 40, 10], [0, 60, 20]])
    curve = smooth_curve(knots, step_mm=5.0)
    for knot in knots:
        assert np.linalg.norm(curve - knot, axis=1).min() < 1e-9
    assert np.linalg.norm(np.diff(curve, axis=0), axis=1).max() < 8


def test_the_rib_cage_surface_is_where_its_distance_is_zero() -> None:
    cage = Torso(Person.from_seed(0)).cage
    for angle in (10, 60, 90, 130, 175):
        x, y, z = cage.on_surface(angle, 250.0, -1)
        assert x < 0
        at = [np.array([v], dtype=np.float32) for v in (x, y, z)]
        assert abs(float(cage.distance(*at)[0])) < 0.5
