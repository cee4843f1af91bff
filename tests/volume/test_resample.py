"""Resampling keeps every structure where it is in the patient, and small ones alive."""

from __future__ import annotations

import itertools
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from synthct.geometry import Geometry
from synthct.volume import resample
from synthct.volume.resample import from_ras, resample_image, resample_labels, to_ras
from synthct.volume.volume import LabelVolume, Volume

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

SIGNED_PERMUTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


@st.composite
def grids(draw: st.DrawFn, tilt: float = 0.0) -> Geometry:
    shape = draw(st.tuples(*[st.integers(6, 14)] * 3))
    matrix = draw(st.sampled_from(SIGNED_PERMUTATIONS))
    angle = draw(st.floats(-tilt, tilt)) if tilt else 0.0
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    affine = np.eye(4)
    spacing = draw(st.tuples(*[st.floats(0.8, 4.0)] * 3))
    affine[:3, :3] = np.vstack([turn, [0, 0, 1]]) @ matrix * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-100, 100)] * 3))
    return Geometry(shape, affine)


def plane(geometry: Geometry) -> np.ndarray:
    """A function linear in the patient's mm, sampled on the grid."""
    voxels = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1)
    points = voxels @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    return points @ [1.0, -2.0, 0.5] + 7.0


@given(grids(), st.tuples(*[st.floats(0.5, 1.0)] * 3))
def test_a_linear_ramp_is_interpolated_exactly(geometry, ratio):
    target = geometry.with_spacing(
        tuple(s * r for s, r in zip(geometry.spacing_mm, ratio, strict=True))
    )
    moved = resample_image(Volume(plane(geometry), geometry), target)
    inner = tuple(slice(n // 4, n - n // 4) for n in target.shape)
    assert moved.geometry is target
    assert moved.array.dtype == np.float32
    assert np.allclose(moved.array[inner], plane(target)[inner], atol=1e-2)


@given(grids(tilt=0.3))
def test_an_oblique_target_sees_the_same_patient(geometry):
    small = Geometry((3, 3, 3), np.eye(4))
    middle = geometry.affine @ [*(np.asarray(geometry.shape) / 2 - 0.5), 1]
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = middle[:3] - 0.5
    target = Geometry(small.shape, affine)
    moved = resample_image(Volume(plane(geometry), geometry), target)
    assert np.allclose(moved.array, plane(target), atol=0.15)  # axes may drift 0.01 voxel


@given(grids())
def test_the_same_grid_changes_nothing(geometry):
    values = np.random.default_rng(0).normal(size=geometry.shape).astype(np.float32)
    assert np.array_equal(resample_image(Volume(values, geometry), geometry).array, values)
    ids = np.random.default_rng(0).integers(0, 9, geometry.shape).astype(np.uint8)
    moved, lost = resample_labels(LabelVolume(ids, geometry), geometry)
    assert np.array_equal(moved.array, ids)
    assert lost == ()


@given(grids(), st.sampled_from(SIGNED_PERMUTATIONS), st.data())
def test_a_marker_stays_on_its_side_of_the_patient(geometry, matrix, data):
    """A structure drawn at a point in mm is at that point on a grid with any other axes."""
    marker = data.draw(st.tuples(*[st.integers(2, n - 3) for n in geometry.shape]))
    ids = np.zeros(geometry.shape, np.uint8)
    ids[tuple(slice(m - 1, m + 2) for m in marker)] = 5
    affine = np.eye(4)
    affine[:3, :3] = matrix * 0.5
    shape = tuple(int(n) for n in np.ceil(np.abs(matrix.T @ (_extent(geometry) / 0.5))) + 2)
    centre = geometry.affine @ [*(np.asarray(geometry.shape) / 2 - 0.5), 1]
    affine[:3, 3] = centre[:3] - affine[:3, :3] @ (np.asarray(shape) / 2 - 0.5)
    moved, _ = resample_labels(LabelVolume(ids, geometry), Geometry(shape, affine))
    found = np.argwhere(moved.array == 5).mean(axis=0)
    place = moved.geometry.affine @ [*found, 1]
    assert np.allclose(place[:3], (geometry.affine @ [*marker, 1])[:3], atol=0.6)


def _extent(geometry: Geometry) -> np.ndarray:
    """Size of the axis-aligned box around the grid, mm along R, A, S."""
    return np.abs(geometry.affine[:3, :3]) @ np.asarray(geometry.shape)


@given(grids(tilt=0.3))
def test_to_ras_and_back(geometry):
    ids = np.random.default_rng(1).integers(0, 200, geometry.shape).astype(np.uint8)
    labels = LabelVolume(ids, geometry, "maisi", {1: "liver"})
    ras = to_ras(labels)
    back = from_ras(ras, geometry)
    assert ras.geometry.orientation == "RAS"
    assert ras.array.flags.c_contiguous
    assert np.array_equal(back.array, ids)
    assert back.geometry is geometry
    assert (back.scheme, back.names) == ("maisi", {1: "liver"})


def test_outside_the_field_of_view_is_air():
    geometry = Geometry.from_spacing((4, 4, 4), (1, 1, 1))
    wider = Geometry.from_spacing((8, 4, 4), (1, 1, 1))
    ct = Volume(np.full((4, 4, 4), 40.0), geometry)
    assert (resample_image(ct, wider).array[4:] == -1000).all()
    assert (resample_image(ct, wider, cval=3).array[4:] == 3).all()
    assert (resample_image(ct, wider, order=0).array[4:] == -1000).all()
    assert (resample_image(ct, wider).array[:4] == 40).all()


def test_downsampling_averages_instead_of_picking():
    geometry = Geometry.from_spacing((64, 64, 64), (1, 1, 1))
    noise = np.random.default_rng(0).normal(0, 100, geometry.shape)
    coarse = resample_image(Volume(noise, geometry), geometry.with_spacing((4, 4, 4)))
    assert coarse.array.std() < 20
    assert abs(float(coarse.array.mean())) < 3


def test_small_structures_survive_a_coarse_grid():
    geometry = Geometry.from_spacing((40, 40, 40), (1, 1, 1))
    ids = np.ones(geometry.shape, np.uint8)
    for label, at in enumerate([(1, 1, 1), (11, 3, 20), (30, 31, 33)], start=2):
        ids[at] = label
    moved, lost = resample_labels(LabelVolume(ids, geometry), geometry.with_spacing((5, 5, 5)))
    assert lost == ()
    assert moved.ids() == (1, 2, 3, 4)
    for label, at in enumerate([(1, 1, 1), (11, 3, 20), (30, 31, 33)], start=2):
        voxel = np.argwhere(moved.array == label)[0]
        assert (np.abs(voxel * 5 + 2 - at) <= 2.5).all()


def test_a_rescue_never_erases_another_structure_and_reports_what_is_lost():
    geometry = Geometry.from_spacing((4, 4, 4), (1, 1, 1))
    ids = np.arange(1, 65, dtype=np.uint8).reshape(4, 4, 4)
    moved, lost = resample_labels(LabelVolume(ids, geometry), geometry.with_spacing((2, 2, 2)))
    assert len(moved.ids()) == 8
    assert set(moved.ids()) | set(lost) == set(range(1, 65))
    assert not set(moved.ids()) & set(lost)


def test_a_structure_outside_the_new_field_of_view_is_lost():
    geometry = Geometry.from_spacing((10, 10, 10), (1, 1, 1))
    ids = np.zeros(geometry.shape, np.uint8)
    ids[9, 9, 9], ids[1, 1, 1] = 7, 8
    _, lost = resample_labels(LabelVolume(ids, geometry), Geometry((5, 5, 5), geometry.affine))
    assert lost == (7,)


@settings(max_examples=20)
@given(grids(), st.tuples(*[st.floats(1.0, 3.0)] * 3))
def test_every_id_is_kept_or_reported(geometry, ratio):
    ids = np.random.default_rng(2).integers(0, 60, geometry.shape).astype(np.uint8)
    spacing = tuple(s * r for s, r in zip(geometry.spacing_mm, ratio, strict=True))
    labels = LabelVolume(ids, geometry)
    moved, lost = resample_labels(labels, geometry.with_spacing(spacing))
    assert set(moved.ids()) | set(lost) == set(labels.ids())
    assert moved.array.dtype == np.uint8


def test_both_paths_agree_on_shared_axes(monkeypatch):
    geometry = Geometry.from_spacing((9, 8, 7), (2, 2, 3))
    target = geometry.with_spacing((1.7, 1.1, 2.3))  # no centre on a border
    ids = LabelVolume(np.random.default_rng(0).integers(0, 5, geometry.shape), geometry)
    image = Volume(ids.array.astype(np.float32), geometry)
    quick, exact = resample_labels(ids, target)[0], resample_image(image, target)
    monkeypatch.setattr(resample, "_shared_axes", lambda *_: None)
    slow, oblique = resample_labels(ids, target)[0], resample_image(image, target)
    inner = (slice(1, -1),) * 3
    assert (quick.array == slow.array)[inner].mean() > 0.97
    assert np.allclose(exact.array[inner], oblique.array[inner], atol=1e-3)


def test_a_large_target_is_quick_and_lean():
    geometry = Geometry.from_spacing((60, 50, 56), (3, 3, 3))
    target = geometry.with_spacing((0.8, 0.8, 1.0))
    ids = np.random.default_rng(0).integers(0, 100, geometry.shape).astype(np.uint8)
    start = time.process_time()
    moved, _ = resample_labels(LabelVolume(ids, geometry), target)
    resample_image(Volume(ids.astype(np.int16), geometry), target)
    assert moved.array.nbytes == np.prod(target.shape)
    assert time.process_time() - start < 5
