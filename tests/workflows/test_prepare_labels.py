"""Labels lie where their file's geometry puts them, whatever grid they are stored on."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.workflows.prepare import Prepared, PrepareRequest, prepare

SHAPE = (40, 34, 20)
AFFINE = np.diag([-4.0, 4.0, 4.0, 1.0])
LIVER, SPLEEN = 5, 1  # TotalSegmentator's


def scan() -> np.ndarray:
    hu = np.full(SHAPE, -1024, np.int16)
    hu[5:35, 6:30] = -80
    hu[8:20, 9:25, 3:17] = 60
    return hu


def labels() -> np.ndarray:
    ids = np.zeros(SHAPE, np.uint8)
    ids[8:20, 9:25, 4:16] = LIVER
    ids[24:32, 13:25, 4:12] = SPLEEN
    return ids


def moved(voxels: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The same labels in the same place, on a grid of equal shape that starts elsewhere."""
    affine = AFFINE.copy()
    affine[:3, 3] = AFFINE[:3, :3] @ np.array(voxels)
    wide = np.pad(labels(), 20)
    at = tuple(slice(20 + v, 20 + v + n) for v, n in zip(voxels, SHAPE, strict=True))
    return wide[at], affine


def prepared(folder: Path, ids: np.ndarray, affine: np.ndarray) -> Prepared:
    case = folder / "scans/a"
    case.mkdir(parents=True)
    nib.save(nib.Nifti1Image(scan(), AFFINE), case / "image.nii.gz")
    nib.save(nib.Nifti1Image(ids, affine), case / "labels.nii.gz")
    return prepare(PrepareRequest(folder / "scans", folder / "data", labels="totalsegmentator"))


def pair(folder: Path, ids: np.ndarray, affine: np.ndarray) -> dict[str, np.ndarray]:
    assert prepared(folder, ids, affine).failed == {}
    with np.load(folder / "data/pairs/a.npz") as stored:
        return {name: stored[name] for name in ("image", "labels", "known")}


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, np.ndarray]:
    return pair(tmp_path / "same", labels(), AFFINE)


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(found[name], wanted[name]) for name in wanted)


def test_rounded_headers_and_flips_change_nothing(
    wanted: dict[str, np.ndarray], tmp_path: Path
) -> None:
    assert wanted["known"].all()
    nudged = AFFINE.copy()
    nudged[:3, 3] = 0.2, -0.2, 0.1  # mm, of voxels of 4
    assert same(pair(tmp_path / "nudged", labels(), nudged), wanted)
    turned = AFFINE @ np.array([[-1, 0, 0, 39], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    assert same(pair(tmp_path / "flip", labels()[::-1], turned), wanted)


def test_another_origin_moves_the_labels(wanted: dict[str, np.ndarray], tmp_path: Path) -> None:
    found = pair(tmp_path / "moved", *moved((3, 2, 0)))
    assert np.array_equal(found["image"], wanted["image"])
    assert np.array_equal(found["labels"], wanted["labels"])
    assert found["known"].all()  # the planes that the file leaves out hold no body


def test_what_the_labels_do_not_cover_is_not_known(
    wanted: dict[str, np.ndarray], tmp_path: Path
) -> None:
    ids, affine = labels()[12:], AFFINE.copy()
    affine[0, 3] = -4.0 * 12
    found = pair(tmp_path / "cut", ids, affine)
    body = wanted["labels"] > 0
    assert not found["known"][28:][body[28:]].any()  # 12 planes at the right of RAS's i
    assert found["known"][:28].all()
    assert np.array_equal(found["labels"][:28], wanted["labels"][:28])


def test_planes_that_the_labels_leave_out_are_cut_off(
    wanted: dict[str, np.ndarray], tmp_path: Path
) -> None:
    found = pair(tmp_path / "low", labels()[:, :, :12], AFFINE)
    assert found["labels"].shape == (40, 34, 12)
    assert same(found, {name: array[:, :, :12] for name, array in wanted.items()})


def test_coarser_labels_are_brought_to_the_scan(
    wanted: dict[str, np.ndarray], tmp_path: Path
) -> None:
    affine = AFFINE @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = AFFINE[:3, :3] @ np.full(3, 0.5)  # centres of blocks of 2 x 2 x 2
    found = pair(tmp_path / "coarse", labels()[::2, ::2, ::2], affine)
    assert found["labels"].shape == wanted["labels"].shape
    for organ in (1, 3):  # MAISI's liver and spleen
        a, b = found["labels"] == organ, wanted["labels"] == organ
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9


@pytest.mark.parametrize("voxels", [(39, 0, 0), (0, 0, 19), (0, 33, 0)])
def test_labels_of_another_place_are_refused(tmp_path: Path, voxels: tuple[int, int, int]) -> None:
    _, affine = moved(voxels)
    why = prepared(tmp_path, labels(), affine).failed["a"]
    assert "the labels lie elsewhere than the scan" in why and "\n" not in why
    far = AFFINE.copy()
    far[:3, 3] = 900.0
    assert "elsewhere" in prepared(tmp_path / "far", labels(), far).failed["a"]


def test_a_scan_with_no_label_in_its_field_of_view_is_refused(tmp_path: Path) -> None:
    ids = np.zeros(SHAPE, np.uint8)
    ids[:4, :4] = LIVER
    _, affine = moved((-10, 0, 0))  # three quarters are shared, and nothing labelled in them
    assert "no labelled voxel" in prepared(tmp_path, ids, affine).failed["a"]
