"""Files that belong together are found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthct.errors import InputError
from synthct.workflows.pairs import find_pairs


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def found(*paths: Path) -> list[tuple[str, str, str]]:
    return [(p.name, p.image.name, p.labels.name) for p in find_pairs(paths).pairs]


def test_our_own_files(tmp_path: Path) -> None:
    touch(tmp_path, "a_seed-0_ct.nii.gz", "a_seed-0_dseg.nii.gz", "a_seed-0.json", "run.json")
    touch(tmp_path, "a_seed-1_ct.nii.gz", "a_seed-1_dseg.nii.gz", "a_seed-0_preview.png")
    assert found(tmp_path) == [
        ("a_seed-0", "a_seed-0_ct.nii.gz", "a_seed-0_dseg.nii.gz"),
        ("a_seed-1", "a_seed-1_ct.nii.gz", "a_seed-1_dseg.nii.gz"),
    ]


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("X.nii.gz", "X_dseg.nii.gz"),
        ("X_T1w.nii.gz", "X_dseg.nii.gz"),
        ("X_ct.nrrd", "X_dseg.nii.gz"),
        ("X.nii", "X_dseg.mha"),
        ("image.nii.gz", "labels.nii.gz"),
        ("X_CT.NII.GZ", "X_dseg.nii.gz"),
        ("scan_01.nii.gz", "scan_01_dseg.nii.gz"),
    ],
)
def test_names_that_go_together(tmp_path: Path, image: str, labels: str) -> None:
    touch(tmp_path, image, labels)
    assert [row[1:] for row in found(tmp_path)] == [(image, labels)]
    assert [row[1:] for row in found(tmp_path / image)] == [(image, labels)]
    assert [row[1:] for row in found(tmp_path / labels)] == [(image, labels)]


def test_a_dataset_of_folders_is_named_by_them(tmp_path: Path) -> None:
    touch(tmp_path, "p1/image.nii.gz", "p1/labels.nii.gz", "p2/image.nii.gz", "p2/labels.nii.gz")
    assert [row[0] for row in found(tmp_path)] == ["p1", "p2"]
    assert [row[0] for row in found(tmp_path / "p1")] == ["p1"]


def test_rejected_is_skipped_unless_named(tmp_path: Path) -> None:
    touch(tmp_path, "a_ct.nii.gz", "a_dseg.nii.gz")
    touch(tmp_path, "rejected/b_ct.nii.gz", "rejected/b_dseg.nii.gz")
    assert [row[0] for row in found(tmp_path)] == ["a"]
    assert [row[0] for row in found(tmp_path / "rejected")] == ["b"]
    assert [row[0] for row in found(tmp_path, tmp_path / "rejected")] == ["a", "b"]


def test_a_pair_is_judged_once(tmp_path: Path) -> None:
    touch(tmp_path, "a_ct.nii.gz", "a_dseg.nii.gz")
    assert len(found(tmp_path, tmp_path, tmp_path / "a_ct.nii.gz")) == 1


def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    touch(tmp_path / "far", "a_ct.nii.gz", "a_dseg.nii.gz")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "set")
    assert [row[1] for row in found(tmp_path / "set")] == ["a_ct.nii.gz"]


def test_partial_and_hidden_files_are_not_seen(tmp_path: Path) -> None:
    touch(tmp_path, "a_ct.nii.gz", "a_dseg.nii.gz")
    touch(tmp_path, ".partial-0-b_ct.nii.gz", ".partial-0-b_dseg.nii.gz", ".git/c.nii", "d.txt")
    result = find_pairs([tmp_path])
    assert len(result.pairs) == 1 and not result.alone


def test_volumes_without_labels_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a_ct.nii.gz", "a_dseg.nii.gz", "b_ct.nii.gz")
    assert [path.name for path in find_pairs([tmp_path]).alone] == ["b_ct.nii.gz"]


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no volume with labels"):
        find_pairs([tmp_path])
    with pytest.raises(InputError, match="no such file"):
        find_pairs([tmp_path / "none"])
    touch(tmp_path, "b_ct.nii.gz", "c_dseg.nii.gz")
    with pytest.raises(InputError, match="no labels beside it"):
        find_pairs([tmp_path / "b_ct.nii.gz"])
    with pytest.raises(InputError, match="without a volume"):
        find_pairs([tmp_path / "c_dseg.nii.gz"])
    with pytest.raises(InputError, match="1 volumes without"):
        find_pairs([tmp_path])


@pytest.mark.parametrize(("name", "modality"), [("X_ct", "CT"), ("X", "CT"), ("X_T1w", "MR")])
def test_the_name_tells_the_modality(tmp_path: Path, name: str, modality: str) -> None:
    touch(tmp_path, f"{name}.nii.gz", "X_dseg.nii.gz")
    assert find_pairs([tmp_path]).pairs[0].modality == modality
