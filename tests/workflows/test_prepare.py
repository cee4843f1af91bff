from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.errors import InputError
from synthct.volume.manifest import read_manifest
from synthct.workflows import prepare as workflow
from synthct.workflows.prepare import PrepareRequest, prepare

SHAPE = (40, 34, 20)


def write_scan(folder: Path, *, labels: bool = False, value: float = 60.0) -> None:
    folder.mkdir(parents=True)
    hu = np.full(SHAPE, -1024, np.int16)
    hu[5:35, 6:30] = -80
    hu[8:20, 9:25, 3:17] = value
    hu[:, 2] = 200  # the table
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    nib.save(nib.Nifti1Image(hu, affine), folder / "image.nii.gz")
    if labels:
        ids = np.zeros(SHAPE, np.uint8)
        ids[8:20, 9:25, 3:17] = 5  # TotalSegmentator's liver
        ids[24:28, 9:13] = 32
        ids[24:28, 14:25] = 87
        ids[30:33, 14:25] = 117
        ids[20:24, 14:25] = 103
        nib.save(nib.Nifti1Image(ids, affine), folder / "labels.nii.gz")


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrepareRequest:
    monkeypatch.setattr(workflow, "PHANTOM_SPACING_MM", (9.0, 10.0))  # small and quick
    scans = tmp_path / "scans"
    write_scan(scans / "labelled", labels=True)
    write_scan(scans / "plain")
    write_scan(scans / "kept")
    (tmp_path / "never.txt").write_text("kept\n")
    return PrepareRequest(
        scans, tmp_path / "data", tmp_path / "never.txt", phantoms=1, labels="totalsegmentator"
    )


def test_images_pairs_and_validation_stand_apart(request_: PrepareRequest) -> None:
    result = prepare(request_)
    assert result.failed == {}
    data = request_.output
    files = {p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file()}
    assert files == {
        "images/labelled.npz",
        "images/plain.npz",
        "validation/kept.npz",
        "pairs/labelled.npz",
        "pairs/phantom-000.npz",
        "manifest.tsv",
    }
    manifest = read_manifest(data / "manifest.tsv")
    assert {c: (r.split, r.kind) for c, r in manifest.items()} == {
        "kept": ("validation", "image"),
        "labelled": ("train", "real"),
        "phantom-000": ("train", "phantom"),
        "plain": ("train", "image"),
    }


def test_a_pair_is_ras_in_maisi_ids_without_the_table(request_: PrepareRequest) -> None:
    prepare(request_)
    with np.load(request_.output / "pairs/labelled.npz") as pair:
        image, labels = pair["image"], pair["labels"]
        assert pair["spacing_mm"] == pytest.approx([4, 4, 4])
    assert image.dtype == np.int16 and labels.dtype == np.uint8
    assert {1, 200} <= set(np.unique(labels).tolist())
    assert np.median(image[labels == 1]) == 60
    assert (image[:, 2] == -1000).all()
    assert np.argwhere(labels == 1)[:, 0].mean() > SHAPE[0] / 2  # i grows to the right now


def test_a_second_run_keeps_what_stands_and_mends_what_does_not(request_: PrepareRequest) -> None:
    first = prepare(request_)
    (request_.output / "images/plain.npz").write_bytes(b"damaged")
    (request_.output / "pairs/phantom-000.npz").unlink()
    second = prepare(request_)
    assert (first.made, first.kept) == (4, 0)
    assert (second.made, second.kept) == (2, 2)
    assert second.manifest["plain"] == first.manifest["plain"]  # bit for bit the same again
    assert second.manifest["phantom-000"] == first.manifest["phantom-000"]


def test_one_bad_scan_does_not_stop_the_others(request_: PrepareRequest) -> None:
    (request_.scans / "broken").mkdir()
    (request_.scans / "broken/image.nii.gz").write_bytes(b"not an image")
    result = prepare(request_)
    assert set(result.failed) == {"broken"}
    assert "broken" not in result.manifest
    assert len(result.manifest) == 4


@pytest.mark.slow
def test_pseudo_labels_of_a_real_scan(shared_data: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for case in ("lidc-0001", "lungfcp-01-0001"):
        (scans / case).symlink_to(shared_data / "ct" / case)
    rows = "lidc-0001\t\ttrain\tcomplete\ttotalsegmentator\t\t\n"
    rows += "lungfcp-01-0001\t\ttrain\tnone\t\tlidc-0001\t\n"
    columns = "case\tsubject\tuse\tlabels\tids\tatlas\treason\n"
    (tmp_path / "cases.tsv").write_text(columns + rows)
    request = PrepareRequest(
        scans, tmp_path / "data", cases=tmp_path / "cases.tsv", pseudo_labels=True
    )
    result = prepare(request)
    assert result.failed == {}
    assert result.manifest["lungfcp-01-0001"].kind == "pseudo"
    with np.load(tmp_path / "data/pairs/lungfcp-01-0001.npz") as pair:
        image, labels, known = pair["image"], pair["labels"], pair["known"]
    right, left = np.isin(labels, (30, 31, 32)), np.isin(labels, (28, 29))
    assert right.sum() > 1e4 and left.sum() > 1e4
    assert np.median(image[left]) < -700
    assert np.argwhere(right)[:, 0].mean() > np.argwhere(left)[:, 0].mean()
    assert np.median(image[np.isin(labels, range(40, 50))]) > 100
    assert 0 < known.mean() < 1


def test_side_by_side_is_the_same_to_the_bit(request_: PrepareRequest, tmp_path: Path) -> None:
    one = prepare(replace(request_, phantoms=0))
    two = prepare(replace(request_, phantoms=0, output=tmp_path / "other", jobs=2))
    assert one.manifest == two.manifest and two.failed == {}
    for row in one.manifest.values():
        for name in filter(None, (row.image, row.pair)):
            assert (one.output / name).read_bytes() == (two.output / name).read_bytes()


def test_nothing_left_to_train_on_is_refused(request_: PrepareRequest) -> None:
    assert request_.excluded is not None
    request_.excluded.write_text("kept\nplain\nlabelled\n")
    with pytest.raises(InputError, match="none of 3 scans is left to train on"):
        prepare(request_)
    assert not request_.output.exists()


def test_a_validation_list_that_names_nobody_is_refused(request_: PrepareRequest) -> None:
    assert request_.excluded is not None
    request_.excluded.write_text("somebody-else\n")
    with pytest.raises(InputError, match="to keep for validation") as error:
        prepare(request_)
    assert "plain" in str(error.value.hint)


def test_a_case_kept_for_validation_stays_there(request_: PrepareRequest) -> None:
    prepare(request_)
    before = (request_.output / "manifest.tsv").read_bytes()
    with pytest.raises(InputError, match="keeps kept for validation"):
        prepare(replace(request_, excluded=None))
    assert (request_.output / "manifest.tsv").read_bytes() == before
    assert prepare(request_).made == 0


def test_a_folder_of_labels_must_have_them_all(request_: PrepareRequest, tmp_path: Path) -> None:
    labels = tmp_path / "masks"
    labels.mkdir()
    source = request_.scans / "labelled/labels.nii.gz"
    for name in ("plain.nii.gz", "labelled_dseg.nii.gz"):
        (labels / name).write_bytes(source.read_bytes())
    wish = replace(request_, label_folder=labels, phantoms=0)
    with pytest.raises(InputError, match=r"1 of 3 scans have no labels.*: kept"):
        prepare(wish)
    (labels / "kept.nii.gz").write_bytes(source.read_bytes())
    assert prepare(wish).manifest["plain"].kind == "real"
