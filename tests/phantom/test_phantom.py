"""The phantom as a function: of its seed, its grid, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from synthct.errors import GridError, UsageError
from synthct.labels.groups import BODY
from synthct.labels.scheme import maisi_name
from synthct.phantom import REGIONS, make_phantom, make_phantom_with_tissues
from synthct.phantom import phantom as module
from synthct.phantom.person import Person
from tests.phantom.people import Make


def volumes_ml(array: np.ndarray, voxel_mm3: float) -> np.ndarray:
    return np.bincount(array.ravel(), minlength=256) * voxel_mm3 / 1000


def test_the_same_seed_is_the_same_phantom() -> None:
    one, other = (make_phantom_with_tissues("abdomen", (6, 6, 6), 11) for _ in range(2))
    assert one[0].geometry.same_as(other[0].geometry)
    np.testing.assert_array_equal(one[0].array, other[0].array)
    np.testing.assert_array_equal(one[1], other[1])


def test_seeds_are_different_people(phantom: Make) -> None:
    livers = [
        volumes_ml(phantom(seed=s)[0].array, phantom(seed=s)[0].geometry.voxel_mm3)[1]
        for s in (0, 1)
    ]
    assert len({round(v) for v in livers}) == 2
    people = [Person.from_seed(s) for s in range(40)]
    assert np.std([p.fat_mm for p in people]) > 3
    assert 8 < sum(p.male for p in people) < 32
    assert 3 < sum(not p.arms_raised for p in people) + 3 < 25
    assert np.ptp([p.scale[2] for p in people]) > 0.06


def test_volumes_do_not_depend_on_the_spacing(phantom: Make) -> None:
    fine, coarse = phantom(spacing=2.0)[0], phantom(spacing=4.0)[0]
    a = volumes_ml(fine.array, fine.geometry.voxel_mm3)
    b = volumes_ml(coarse.array, coarse.geometry.voxel_mm3)
    for label in np.flatnonzero(a > 12):
        tolerance = 0.08 if a[label] > 100 else 0.25
        cut = label in (33, 95, 96)  # at the rim of the field of view
        assert cut or abs(b[label] / a[label] - 1) < tolerance, maisi_name(int(label))


def test_regions_cut_one_and_the_same_body(phantom: Make) -> None:
    chest, both = phantom("chest")[0], phantom("chest-abdomen")[0]
    a = volumes_ml(chest.array, chest.geometry.voxel_mm3)
    b = volumes_ml(both.array, both.geometry.voxel_mm3)
    for label in (115, 30, 57, 122, 45):
        assert abs(a[label] / b[label] - 1) < 0.06, maisi_name(label)


@pytest.mark.parametrize("region", REGIONS)
def test_the_grid_is_ras_as_asked_and_covers_the_region(region: str) -> None:
    labels = make_phantom(region, (5.0, 6.0, 7.0), 3)
    assert labels.array.dtype == np.uint8
    assert labels.scheme == "maisi"
    assert labels.geometry.orientation == "RAS"
    assert labels.geometry.spacing_mm == pytest.approx((5.0, 6.0, 7.0))
    extent = labels.geometry.extent_mm
    assert 180 < extent[0] < 500 and 180 < extent[1] < 420 and 220 < extent[2] < 700


def test_a_size_is_laid_around_the_middle_of_the_region() -> None:
    free = make_phantom("chest", (6, 6, 6), 4)
    fixed = make_phantom("chest", (6, 6, 6), 4, shape=(40, 32, 24))
    assert fixed.array.shape == (40, 32, 24)
    middle = [
        v.geometry.affine @ [*((np.array(v.geometry.shape) - 1) / 2), 1] for v in (free, fixed)
    ]
    np.testing.assert_allclose(middle[0], middle[1], atol=1e-6)
    assert {28, 30, 115} <= set(fixed.ids())


def test_slabs_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_phantom_with_tissues("head", (6, 6, 6), 2)
    monkeypatch.setattr(module, "SLAB_VOXELS", 9000)
    pieces = make_phantom_with_tissues("head", (6, 6, 6), 2)
    np.testing.assert_array_equal(whole[0].array, pieces[0].array)
    np.testing.assert_array_equal(whole[1], pieces[1])


@pytest.mark.parametrize("seed", (100, 101))
@pytest.mark.parametrize("region", REGIONS)
def test_any_seed_gives_a_phantom(region: str, seed: int) -> None:
    labels = make_phantom(region, (10, 10, 10), seed)
    assert len(labels.ids()) >= 12
    assert 0.2 < (labels.array > 0).mean() < 0.95


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"region": "knee"}, UsageError, "knee"),
        ({"spacing_mm": (0.0, 1.0, 1.0)}, GridError, "spacing 0 1 1"),
        ({"spacing_mm": (50.0, 1.0, 1.0)}, GridError, "spacing 50"),
        ({"spacing_mm": (float("nan"), 1.0, 1.0)}, GridError, "spacing nan"),
        ({"shape": (0, 10, 10)}, GridError, "size"),
        ({"shape": (5000, 5000, 5000)}, GridError, "voxels"),
    ],
)
def test_what_cannot_be_is_refused(
    words: dict[str, object], error: type[Exception], says: str
) -> None:
    asked = {"region": "chest", "spacing_mm": (3.0, 3.0, 3.0), "seed": 0, **words}
    with pytest.raises(error, match=says):
        make_phantom(**asked)  # type: ignore[arg-type]


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="seed"):
        make_phantom("head", (8, 8, 8), -1)


def test_islands_become_body() -> None:
    labels = np.full((20, 12, 12), BODY, dtype=np.uint8)
    labels[2:7, 2:5, 2:5] = 1
    labels[12:14, 2:5, 2:5] = 1  # an island
    labels[12:14, 2:5, 10:12] = 1  # cut off by the border
    labels[12:14, 7:9, 7:9] = 114
    labels[2:4, 7:9, 7:9] = 114  # cartilages come in several pieces
    module.drop_islands(labels)
    assert (labels == 1).sum() == 45 + 12
    assert (labels[12:14, 2:5, 2:5] == BODY).all()
    assert (labels == 114).sum() == 16


def test_an_island_in_the_lung_joins_the_lobe_around_it() -> None:
    labels = np.full((14, 14, 14), BODY, dtype=np.uint8)
    labels[1:13, 1:7, 1:13] = 32
    labels[1:13, 7:13, 1:13] = 30
    labels[4:6, 3:5, 4:6] = 30
    module.drop_islands(labels)
    assert (labels[1:13, 1:7, 1:13] == 32).all()
