"""Labels lie where their file's geometry puts them, whatever grid they are stored on."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.labels.groups import BODY
from synthct.models.maisi.data import cases_in
from synthct.record import fingerprint, sha256_of
from synthct.volume.manifest import write_manifest
from synthct.workflows.cases import MORE_COLUMNS, plan_cases
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


def kept_apart(folder: Path, ids: np.ndarray, affine: np.ndarray) -> PrepareRequest:
    """Scans with labels to validate with, `a`, and to train on, `b`; `c` is kept too, without."""
    for case in "abc":
        (folder / "scans" / case).mkdir(parents=True)
        nib.save(nib.Nifti1Image(scan(), AFFINE), folder / "scans" / case / "image.nii.gz")
    for case in "ab":
        nib.save(nib.Nifti1Image(ids, affine), folder / "scans" / case / "labels.nii.gz")
    (folder / "never.txt").write_text("a\nc\n", encoding="utf-8")
    return PrepareRequest(
        folder / "scans", folder / "data", folder / "never.txt", labels="totalsegmentator"
    )


def test_a_labelled_scan_to_validate_with_carries_its_mask(tmp_path: Path) -> None:
    wish = kept_apart(tmp_path, labels(), AFFINE)
    result = prepare(wish)
    assert result.failed == {}
    (case, bare) = cases_in(wish.output / "validation")
    with np.load(wish.output / "validation/a.npz") as stored:
        found, image, body = stored["labels"], stored["image"], stored["body"]
    with np.load(wish.output / "pairs/b.npz") as stored:
        assert np.array_equal(found, stored["labels"])
    assert found.dtype == np.uint8 and found.shape == image.shape
    assert np.array_equal(found > 0, body)
    assert set(np.unique(found)) == {0, 1, 3, BODY}
    assert (case.arrays["labels"] == 1).any() and "labels" not in bare.arrays
    rows = result.manifest
    assert {c: (r.split, r.kind, r.regions, bool(r.pair)) for c, r in rows.items()} == {
        "a": ("validation", "real", "abdomen", False),
        "b": ("train", "real", "abdomen", True),
        "c": ("validation", "image", "", False),
    }
    assert result.as_dict()["pairs"] == {"real": 1, "pseudo": 0, "phantom": 0}


def test_planes_that_the_labels_leave_out_have_no_mask_to_judge_by(tmp_path: Path) -> None:
    wish = kept_apart(tmp_path, labels()[:, :, :12], AFFINE)
    prepare(wish)
    with np.load(wish.output / "validation/a.npz") as stored:
        found, body = stored["labels"], stored["body"]
    assert np.array_equal(found[:, :, :12] > 0, body[:, :, :12])
    assert body[:, :, 12:].any() and not found[:, :, 12:].any()


def test_masks_of_an_older_dataset_are_added_once(tmp_path: Path) -> None:
    """As they were made by before; the two others stay."""
    wish = kept_apart(tmp_path, labels(), AFFINE)
    plan = next(p for p in plan_cases(wish.scans, excluded=frozenset("ac"), scheme=wish.labels))
    before = fingerprint(
        {
            "format": 4,
            "plan": {
                k: v
                for k, v in asdict(plan).items()
                if k not in ("image", "label_file", "series", *MORE_COLUMNS)
            },
            "files": [sha256_of(f) for f in (plan.image, plan.label_file) if f],
            "pseudo": False,
        }
    )
    first = prepare(wish)
    table = wish.output / "manifest.tsv"
    old = replace(first.manifest["a"], made_by=before, kind="image", regions="")
    write_manifest(table, first.manifest.with_row(old))
    again = prepare(wish)
    assert (again.made, again.kept, again.manifest) == (1, 2, first.manifest)
    assert prepare(wish).made == 0
