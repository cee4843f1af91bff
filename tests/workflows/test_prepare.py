from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.errors import InputError
from synthct.models.maisi.data import cases_in
from synthct.volume.manifest import read_manifest, write_manifest
from synthct.workflows import phantom_pairs
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
    monkeypatch.setattr(phantom_pairs, "SPACING_MM", (9.0, 10.0))  # small and quick
    scans = tmp_path / "scans"
    write_scan(scans / "labelled", labels=True)
    write_scan(scans / "plain")
    write_scan(scans / "kept")
    (tmp_path / "never.txt").write_text("kept\n", encoding="utf-8")
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
    assert result.made == 4
    row = read_manifest(request_.output / "manifest.tsv")["broken"]
    assert (row.split, row.source) == ("excluded", "image.nii.gz")
    assert (row.image, row.pair, row.image_sha256, row.pair_sha256, row.made_by) == ("",) * 5
    assert row.reason.startswith("broken/image.nii.gz: ")  # and no path of this machine
    assert "broken" not in result.as_dict()["excluded"]  # it is told once, as failed


def test_a_scan_that_failed_is_tried_again(request_: PrepareRequest) -> None:
    scan = request_.scans / "plain/image.nii.gz"
    whole = scan.read_bytes()
    prepare(request_)
    scan.write_bytes(b"not an image")
    assert set(prepare(request_).failed) == set(prepare(request_).failed) == {"plain"}
    assert trained_on(request_.output) == {"labelled", "phantom-000"}
    scan.write_bytes(whole)
    mended = prepare(request_)
    assert (mended.made, mended.failed) == (1, {})
    assert (mended.manifest["plain"].split, mended.manifest["plain"].reason) == ("train", "")


def test_a_scan_that_failed_is_still_kept_for_validation(request_: PrepareRequest) -> None:
    scan = request_.scans / "kept/image.nii.gz"
    whole = scan.read_bytes()
    scan.write_bytes(b"not an image")
    result = prepare(request_)
    assert result.manifest["kept"].reason and not result.manifest["kept"].image
    assert result.as_dict()["validation"] == 0
    scan.write_bytes(whole)
    with pytest.raises(InputError, match="keeps kept for validation"):
        prepare(replace(request_, excluded=None))
    assert prepare(request_).as_dict()["validation"] == 1


@pytest.mark.slow
def test_pseudo_labels_of_a_real_scan(shared_data: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for case in ("lidc-0001", "lungfcp-01-0001"):
        (scans / case).symlink_to(shared_data / "ct" / case)
    rows = "lidc-0001\t\ttrain\tcomplete\ttotalsegmentator\t\t\n"
    rows += "lungfcp-01-0001\t\ttrain\tnone\t\tlidc-0001\t\n"
    columns = "case\tsubject\tuse\tlabels\tids\tatlas\treason\n"
    (tmp_path / "cases.tsv").write_text(columns + rows, encoding="utf-8")
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
    request_.excluded.write_text("kept\nplain\nlabelled\n", encoding="utf-8")
    with pytest.raises(InputError, match="none of 3 scans is left to train on"):
        prepare(request_)
    assert not request_.output.exists()


def test_a_validation_list_that_names_nobody_is_refused(request_: PrepareRequest) -> None:
    assert request_.excluded is not None
    request_.excluded.write_text("somebody-else\n", encoding="utf-8")
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


def trained_on(data: Path) -> set[str]:
    """What the training tasks read of the dataset: names of cases in images and pairs."""
    folders = [f for f in (data / "images", data / "pairs") if f.is_dir()]
    return {case.path.stem for folder in folders for case in cases_in(folder)}


def files_in(data: Path) -> set[str]:
    return {p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file()}


def test_a_case_excluded_later_is_trained_on_no_more(request_: PrepareRequest) -> None:
    prepare(request_)
    assert request_.excluded is not None
    request_.excluded.write_text("kept\nlabelled\n", encoding="utf-8")
    result = prepare(request_)
    assert trained_on(request_.output) == {"plain", "phantom-000"}
    assert {"images/labelled.npz", "pairs/labelled.npz"} == set(result.removed)
    assert files_in(request_.output) == {
        "images/plain.npz",
        "validation/kept.npz",
        "validation/labelled.npz",
        "pairs/phantom-000.npz",
        "manifest.tsv",
    }


@pytest.mark.parametrize("left_out", ["skip", "labels", "phantoms"])
def test_what_is_asked_for_no_more_is_trained_on_no_more(
    request_: PrepareRequest, tmp_path: Path, left_out: str
) -> None:
    prepare(replace(request_, phantoms=2))
    use, labels = ("skip" if left_out == "skip" else ""), ("none" if left_out == "labels" else "")
    (tmp_path / "cases.tsv").write_text(
        "case\tsubject\tuse\tlabels\tids\tatlas\treason\n"
        f"labelled\t\t{use}\t{labels}\t\t\tasked for\n",
        encoding="utf-8",
    )
    fewer = 1 if left_out == "phantoms" else 0  # 0: those that are there stay
    prepare(replace(request_, cases=tmp_path / "cases.tsv", phantoms=fewer))
    gone = {
        "skip": {"images/labelled.npz", "pairs/labelled.npz"},
        "labels": {"pairs/labelled.npz"},
        "phantoms": {"pairs/phantom-001.npz"},
    }[left_out]
    assert not gone & files_in(request_.output)
    assert {"plain", "phantom-000"} <= trained_on(request_.output)
    assert ("phantom-001" in trained_on(request_.output)) is (left_out != "phantoms")
    assert trained_on(request_.output) <= {"plain", "labelled", "phantom-000", "phantom-001"}


def test_both_scans_of_a_person_change_sides_together(
    request_: PrepareRequest, tmp_path: Path
) -> None:
    (tmp_path / "cases.tsv").write_text(
        "case\tsubject\tuse\tlabels\tids\tatlas\treason\n"
        "labelled\tanna\t\t\t\t\t\nplain\tanna\t\t\t\t\t\n",
        encoding="utf-8",
    )
    write_scan(request_.scans / "other")
    wish = replace(request_, cases=tmp_path / "cases.tsv")
    prepare(wish)
    assert wish.excluded is not None
    wish.excluded.write_text("kept\nanna\n", encoding="utf-8")
    result = prepare(wish)
    assert {row.case for row in result.manifest.split("validation")} == {
        "kept",
        "labelled",
        "plain",
    }
    assert trained_on(wish.output) == {"other", "phantom-000"}


def test_an_interrupted_run_trains_on_nothing_that_was_excluded(
    request_: PrepareRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(request_)
    assert request_.excluded is not None
    request_.excluded.write_text("kept\nlabelled\n", encoding="utf-8")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "read_plan", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(request_)
    assert trained_on(request_.output) == {"plain", "phantom-000"}


def test_a_scan_of_an_earlier_folder_stays_until_it_is_excluded(
    request_: PrepareRequest, tmp_path: Path
) -> None:
    prepare(request_)
    write_scan(tmp_path / "more/new")
    write_scan(tmp_path / "more/apart")
    (tmp_path / "never.txt").write_text("kept\napart\n", encoding="utf-8")
    wish = replace(request_, scans=tmp_path / "more")
    prepare(wish)
    assert trained_on(wish.output) == {"plain", "labelled", "phantom-000", "new"}
    (tmp_path / "never.txt").write_text("kept\napart\nplain\n", encoding="utf-8")
    prepare(wish)
    assert trained_on(wish.output) == {"labelled", "phantom-000", "new"}


def test_only_files_that_prepare_made_are_removed(request_: PrepareRequest) -> None:
    prepare(request_)
    images = request_.output / "images"
    np.savez(images / "mine.npz", image=np.zeros(3))
    (images / "half.npz").write_bytes(b"PK no archive")
    np.save(open(images / "array.npz", "wb"), np.zeros(3))  # noqa: SIM115
    (images / "plain.npz").rename(images / "renamed.npz")
    (images / "link.npz").symlink_to(images / "labelled.npz")
    (images / "notes.txt").write_text("mine", encoding="utf-8")
    assert request_.excluded is not None
    request_.excluded.write_text("kept\nlabelled\n", encoding="utf-8")
    prepare(request_)
    assert {p.name for p in images.iterdir()} == {
        *("mine.npz", "half.npz", "array.npz", "renamed.npz", "link.npz", "notes.txt"),
        "plain.npz",
    }
    assert {case.path.name for case in cases_in(images)} == {"plain.npz"}


def test_a_folder_of_a_split_edited_by_hand_is_read_by_its_manifest(
    request_: PrepareRequest,
) -> None:
    prepare(request_)
    path = request_.output / "manifest.tsv"
    rows = read_manifest(path)
    write_manifest(path, rows.with_row(replace(rows["plain"], split="excluded")))
    assert trained_on(request_.output) == {"labelled", "phantom-000"}
    assert [c.path.stem for c in cases_in(request_.output / "validation")] == ["kept"]


def test_latents_go_with_their_cases(request_: PrepareRequest) -> None:
    prepare(request_)
    data = request_.output
    latents = (
        "latents/labelled.npz",
        "latents/labelled.mirrored.npz",
        "latents/pairs/labelled.npz",
    )
    for name in (*latents, "latents/plain.npz"):
        with np.load(
            data
            / ("pairs" if "pairs" in name else "images")
            / Path(name).name.replace(".mirrored", "")
        ) as stored:
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            np.savez(data / name, mean=np.zeros(3), meta=stored["meta"])
    assert request_.excluded is not None
    request_.excluded.write_text("kept\nlabelled\n", encoding="utf-8")
    assert set(latents) < set(prepare(request_).removed)
    assert (data / "latents/plain.npz").is_file() and not (data / "latents/pairs").exists()
