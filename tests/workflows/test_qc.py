"""`qc` over files: what passes, what bites, what is refused, and with which exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthct.errors import InputError, MaskError, QualityError, UsageError
from synthct.labels.groups import BODY
from synthct.labels.scheme import load_scheme, maisi_name
from synthct.quality.norms import load_norms
from synthct.volume.nifti import write_labels, write_volume
from synthct.volume.reading import read_image, read_labels
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.pairs import find_pairs
from synthct.workflows.qc import fit_norms, qc
from tests.quality.boxes import patient

NAMES = {i: maisi_name(i) for i in (*range(1, 129), 132, BODY) if i not in (2, 16, 18, 20, 21)}


def put(
    folder: Path,
    name: str,
    pair: tuple[Volume, LabelVolume],
    names: Mapping[int, str] = NAMES,
) -> None:
    volume, labels = pair
    write_volume(folder / f"{name}_ct.nii.gz", volume, description="SYNTHETIC a test")
    present = {i: n for i, n in names.items() if i in labels.ids()}
    write_labels(folder / f"{name}_dseg.nii.gz", labels, present)


def test_a_folder_of_cases(tmp_path: Path) -> None:
    put(tmp_path, "a", patient(seed=1))
    put(tmp_path, "b", patient(seed=2))
    report = qc(tmp_path)
    assert report.passed and report.exit_code == 0
    assert [case.name for case in report.cases] == ["a", "b"]
    assert {case.scheme for case in report.cases} == {"maisi"}


@pytest.mark.parametrize(("maisi_id", "hu"), [(22, -900), (1, 400), (32, 0), (35, 0)])
def test_it_bites(tmp_path: Path, maisi_id: int, hu: float) -> None:
    put(tmp_path, "a", patient())
    put(tmp_path, "b", patient(**{f"id_{maisi_id}": hu}))
    report = qc([tmp_path])
    assert report.exit_code == 4
    assert [case.status for case in report.cases] == ["pass", "fail"]


def test_a_constant_image_is_exit_4(tmp_path: Path) -> None:
    volume, labels = patient()
    put(tmp_path, "a", (volume.with_array(np.full_like(volume.array, 40)), labels))
    assert qc(tmp_path).exit_code == 4


def test_nothing_to_check_is_exit_4(tmp_path: Path) -> None:
    volume, labels = patient()
    only_body = np.where(labels.array == BODY, labels.array, 0)
    put(tmp_path, "a", (volume, labels.with_array(only_body)))
    report = qc(tmp_path)
    assert report.exit_code == 4
    assert report.cases[0].status == "not checked"


def test_rejected_cases_do_not_count(tmp_path: Path) -> None:
    put(tmp_path, "a", patient())
    put(tmp_path / "rejected", "b", patient(id_1=400))
    assert qc(tmp_path).exit_code == 0
    assert qc(tmp_path / "rejected").exit_code == 4


def test_an_unreadable_case_among_others_is_exit_7(tmp_path: Path) -> None:
    put(tmp_path, "a", patient())
    put(tmp_path, "b", patient())
    (tmp_path / "b_ct.nii.gz").write_bytes((tmp_path / "a_ct.nii.gz").read_bytes()[:500])
    report = qc(tmp_path)
    assert report.exit_code == 7
    assert [case.status for case in report.cases] == ["pass", "unreadable"]
    with pytest.raises(InputError):
        qc(tmp_path / "b_ct.nii.gz")


def as_totalsegmentator(labels: LabelVolume) -> LabelVolume:
    scheme = load_scheme("totalsegmentator")
    back = scheme.inverse()
    array = np.zeros_like(labels.array)
    for id_ in labels.ids():
        array[labels.array == id_] = back.get(id_, 0)
    return replace(labels, array=array, scheme="totalsegmentator")


def test_labels_of_another_scheme(tmp_path: Path) -> None:
    volume, labels = patient()
    put(tmp_path, "a", (volume, as_totalsegmentator(labels)), names={})
    with pytest.raises(MaskError):
        qc(tmp_path)
    report = qc(tmp_path, labels="totalsegmentator")
    assert report.exit_code == 0 and report.cases[0].scheme == "totalsegmentator"


def test_names_in_the_header_tell_the_scheme(tmp_path: Path) -> None:
    volume, labels = patient()
    scheme = load_scheme("totalsegmentator")
    put(tmp_path, "a", (volume, as_totalsegmentator(labels)), names=scheme.labels)
    report = qc(tmp_path)
    assert report.exit_code == 0 and report.cases[0].scheme == "totalsegmentator"


def test_dropped_organs_are_no_envelope(tmp_path: Path) -> None:
    """An organ that MAISI does not have becomes body; label 0 still holds the patient's skin."""
    volume, labels = patient()
    array = as_totalsegmentator(labels).array.copy()
    array[array == 6] = 90
    (tmp_path / "own.toml").write_text(
        'name = "own"\n[labels]\nface = 90\nliver = 5\nspleen = 1\npancreas = 7\n', encoding="utf-8"
    )
    array[~np.isin(array, (90, 5, 1, 7))] = 0
    put(tmp_path, "a", (volume, labels.with_array(array)), names={})
    skin = np.where(volume.array < -500, -90, volume.array).astype(np.float32)
    write_volume(tmp_path / "a_ct.nii.gz", volume.with_array(skin), overwrite=True)
    report = qc(tmp_path, labels=str(tmp_path / "own.toml"))
    assert report.exit_code == 0, report.cases[0].why
    assert any("face" in note for note in report.cases[0].notes)


def test_one_pair_by_name(tmp_path: Path) -> None:
    volume, labels = patient()
    put(tmp_path, "a", (volume, labels))
    (tmp_path / "a_dseg.nii.gz").rename(tmp_path / "map.nii.gz")
    report = qc(image=tmp_path / "a_ct.nii.gz", labels_file=tmp_path / "map.nii.gz")
    assert report.exit_code == 0
    with pytest.raises(UsageError, match="go together"):
        qc(image=tmp_path / "a_ct.nii.gz")
    with pytest.raises(UsageError, match="either paths"):
        qc(tmp_path, image=tmp_path / "a_ct.nii.gz", labels_file=tmp_path / "map.nii.gz")
    with pytest.raises(UsageError, match="nothing to judge"):
        qc()


def test_image_and_label_on_other_grids(tmp_path: Path) -> None:
    volume, labels = patient()
    put(tmp_path, "a", (volume, labels))
    moved = labels.geometry.with_spacing((3.0, 3.0, 4.1))
    other = np.zeros(moved.shape, np.uint8)
    other[10:20, 10:20, 5:10] = 1
    write_labels(
        tmp_path / "a_dseg.nii.gz", LabelVolume(other, moved), {1: "liver"}, overwrite=True
    )
    report = qc(tmp_path, labels="maisi", html=tmp_path / "r.html")
    assert report.exit_code == 4
    assert "geometry" in report.cases[0].why


def test_nan_is_a_failure_not_an_error(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume, labels = patient()
    put(tmp_path, "a", (volume, labels))
    broken = volume.array.copy()
    broken[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(broken, volume.geometry.affine), tmp_path / "a_ct.nii.gz")
    report = qc(tmp_path)
    assert report.exit_code == 4 and "finite" in report.cases[0].why


def test_mr_is_not_judged_by_hu(tmp_path: Path) -> None:
    put(tmp_path, "a", patient())
    (tmp_path / "a_ct.nii.gz").rename(tmp_path / "a_T1w.nii.gz")
    assert qc(tmp_path).cases[0].status == "not checked"


def test_csv_and_html(tmp_path: Path) -> None:
    put(tmp_path / "out", "a", patient())
    put(tmp_path / "out", "b", patient(id_1=400))
    outputs = {"csv": tmp_path / "r.csv", "html": tmp_path / "r.html"}
    qc(tmp_path / "out", **outputs)  # type: ignore[arg-type]
    page = outputs["html"].read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "liver" in outputs["csv"].read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="exists already"):
        qc(tmp_path / "out", **outputs)  # type: ignore[arg-type]
    assert qc(tmp_path / "out", overwrite=True, **outputs).exit_code == 4  # type: ignore[arg-type]


def test_fit_then_judge(tmp_path: Path) -> None:
    for seed in range(4):
        put(tmp_path / "real", f"p{seed}", patient(seed=seed, id_1=50 + seed))
    file = tmp_path / "norms.toml"
    fitted = fit_norms(tmp_path / "real", file)
    assert load_norms(file) == fitted
    assert qc(tmp_path / "real", norms=file).exit_code == 0
    put(tmp_path / "new", "a", patient(id_1=120))
    assert qc(tmp_path / "new").exit_code == 0
    assert qc(tmp_path / "new", norms=file).exit_code == 4
    with pytest.raises(UsageError, match="exists already"):
        fit_norms(tmp_path / "real", file)


def test_fit_leaves_out_what_it_cannot_read(tmp_path: Path) -> None:
    for seed in range(4):
        put(tmp_path, f"p{seed}", patient(seed=seed))
    (tmp_path / "p3_dseg.nii.gz").write_bytes(b"")
    assert "3 real scans" in fit_norms(tmp_path, tmp_path / "n.toml").title
    (tmp_path / "p2_dseg.nii.gz").write_bytes(b"")
    with pytest.raises(QualityError, match="2 usable cases"):
        fit_norms(tmp_path, tmp_path / "m.toml")
    assert not (tmp_path / "m.toml").exists()


@pytest.mark.parametrize("case", ["ts-example", "ts-dicom-slab", "ts-example-slab", "lidc-0001"])
def test_real_scans_pass(shared_data: Path, case: str) -> None:
    report = qc(shared_data / "ct" / case, labels="totalsegmentator")
    assert report.exit_code == 0, report.cases[0].why
    verdict = report.cases[0].verdict
    assert verdict is not None and verdict.checked >= 25


def test_a_real_scan_with_the_older_scheme_passes(shared_data: Path) -> None:
    folder = shared_data / "ct" / "ts-example"
    report = qc(
        image=folder / "image.nii.gz",
        labels_file=folder / "labels_total_v1.nii.gz",
        labels="totalsegmentator-v1",
    )
    assert report.exit_code == 0, report.cases[0].why


def test_real_labels_read_by_the_wrong_scheme_fail(shared_data: Path) -> None:
    """Every organ is somebody else's: what taking the ids for MAISI's would look like."""
    report = qc(shared_data / "ct" / "ts-example", labels="vista3d", unknown="drop")
    assert report.exit_code == 4


@pytest.mark.parametrize(
    ("ts_id", "hu"),
    [
        pytest.param(5, 400, id="liver"),
        pytest.param(14, 0, id="lobe"),
        pytest.param(29, 0, id="L3"),
    ],
)
def test_a_real_scan_with_one_wrong_organ_fails(
    shared_data: Path, tmp_path: Path, ts_id: int, hu: float
) -> None:
    pair = find_pairs([shared_data / "ct" / "ts-example"]).pairs[0]
    volume, labels = read_image(pair.image), read_labels(pair.labels).labels
    wrong = np.where(labels.array == ts_id, np.float32(hu), volume.array)
    write_volume(tmp_path / "a_ct.nii.gz", volume.with_array(wrong))
    write_labels(tmp_path / "a_dseg.nii.gz", labels, {})
    report = qc(tmp_path, labels="totalsegmentator")
    assert report.exit_code == 4
    verdict = report.cases[0].verdict
    assert verdict is not None and len(verdict.failures) == 1
