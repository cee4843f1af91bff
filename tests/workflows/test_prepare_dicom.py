"""DICOM series written here with SimpleITK: split, scaled, excluded with reasons, prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from synthct.cli.prepare import prepared_text
from synthct.errors import InputError
from synthct.models.maisi.data import cases_in
from synthct.volume.dicom import read_series, series_in
from synthct.volume.manifest import read_manifest
from synthct.workflows.prepare import PrepareRequest, prepare
from tests.workflows.dicom_series import write_slices

SHAPE = (20, 18, 12)  # i, j, k
SPACING = (4.0, 5.0, 6.0)
ORIGIN = (-30.0, 12.0, 100.0)
SLOPE, INTERCEPT = 2.0, -1000.0


def body(value: float = 60.0) -> np.ndarray:
    """HU (i, j, k): a box of tissue in air, its left half fat, as LPS has it."""
    hu = np.full(SHAPE, -1000.0, np.float32)
    hu[3:17, 3:15] = value
    hu[10:17, 3:15] = -100
    return hu


def write_series(
    folder: Path, hu: np.ndarray, number: int = 1, *, left_out: tuple[int, ...] = (), **tags: str
) -> None:
    """Slices in files of shuffled names; GDCM stores (HU − intercept) / slope."""
    common = {
        "0008|0060": tags.get("modality", "CT"),
        "0008|0008": tags.get("image_type", "ORIGINAL\\PRIMARY\\AXIAL"),
        "0010|0020": tags.get("patient", "Jane Doe 1950"),
        "0008|103e": tags.get("description", "body"),
        "0020|000d": "1.2.3.4",
        "0020|000e": f"1.2.3.4.{number}",
        "0020|0011": str(number),
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0028|1053": str(SLOPE),
        "0028|1052": str(INTERCEPT),
    }
    slices = {
        f"{(k * 7) % 13:02d}-{number}.dcm": (
            hu[:, :, k].T.astype(np.int16),
            (*ORIGIN[:2], ORIGIN[2] + k * SPACING[2]),
        )
        for k in range(hu.shape[2])
        if k not in left_out
    }
    write_slices(folder, slices, spacing_mm=SPACING, tags=common)


def test_slope_and_intercept_and_place(tmp_path: Path) -> None:
    write_series(tmp_path, body())
    (series,) = series_in(tmp_path)
    assert (series.modality, series.number, series.reason) == ("CT", 1, "")
    pixels = np.frombuffer(series.files[0].read_bytes()[-2 * 20 * 18 :], np.int16)
    wanted = (body()[:, :, 0].T - INTERCEPT) / SLOPE  # pixels stand last in an uncompressed file
    assert np.array_equal(pixels.reshape(18, 20), wanted)
    volume = read_series(series)
    assert np.array_equal(volume.array, body())
    assert volume.geometry.spacing_mm == pytest.approx(SPACING)
    corner = volume.geometry.affine[:3, 3]
    assert corner == pytest.approx((30.0, -12.0, 100.0))  # LPS → RAS


def test_two_series_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    write_series(tmp_path, body(60), number=1)
    write_series(tmp_path, body(90), number=2)
    first, second = series_in(tmp_path)
    assert (read_series(first).array == 60).any() and not (read_series(first).array == 90).any()
    assert (read_series(second).array == 90).any()
    assert first.subject == second.subject != ""
    assert "Jane" not in first.subject


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"modality": "PT"}, "modality PT"),
        ({"image_type": "ORIGINAL\\PRIMARY\\LOCALIZER"}, "localizer"),
        ({"left_out": (5,)}, "uneven"),
        ({"left_out": tuple(range(4, 12))}, "4 slices"),
    ],
    ids=str,
)
def test_what_is_no_volume_says_why(tmp_path: Path, words: dict, reason: str) -> None:
    write_series(tmp_path, body(), **words)
    (series,) = series_in(tmp_path)
    assert reason in series.reason
    with pytest.raises(InputError, match=reason):
        read_series(series)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    write_series(folder / "anna" / "study", body(60), number=1)
    write_series(folder / "anna" / "study", body(70), number=2)
    write_series(folder / "anna" / "study", body(), number=3, left_out=(5,))
    write_series(folder / "bert", body(50), patient="Bert")
    write_series(folder / "cora", body(300), patient="Cora", modality="MR", description="AX T1 3D")
    return folder


def test_series_become_rows_with_reasons(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "never.txt").write_text("bert\n", encoding="utf-8")
    result = prepare(PrepareRequest(scans, tmp_path / "data", excluded=tmp_path / "never.txt"))
    assert result.failed == {}
    rows = read_manifest(tmp_path / "data/manifest.tsv")
    assert {case: (r.split, r.modality, r.contrast) for case, r in rows.items()} == {
        "anna_study_series-1-1": ("train", "CT", ""),
        "anna_study_series-2-2": ("train", "CT", ""),
        "anna_study_series-3-3": ("excluded", "CT", ""),
        "bert": ("validation", "CT", ""),
        "cora": ("train", "MR", "t1"),
    }
    assert "uneven" in rows["anna_study_series-3-3"].reason
    assert len({r.subject for case, r in rows.items() if case.startswith("anna")}) == 1
    with np.load(tmp_path / "data/images/anna_study_series-2-2.npz") as stored:
        image = stored["image"]
    assert (image == 70).any()
    assert np.argwhere(image == 70)[:, 0].mean() > SHAPE[0] / 2  # right in RAS: low i in LPS
    again = prepare(PrepareRequest(scans, tmp_path / "data", excluded=tmp_path / "never.txt"))
    assert again.made == 0


def test_stored_values_without_intercept_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "scans" / "a", body() + 1000)  # from 0 up: somebody lost the intercept
    result = prepare(PrepareRequest(tmp_path / "scans", tmp_path / "data"))
    assert "no Hounsfield units" in result.failed["a"]


def test_scans_without_labels_make_no_pairs_and_it_is_said_what_does(tmp_path: Path) -> None:
    write_series(tmp_path / "scans/anna", body())
    with pytest.raises(InputError) as before:
        cases_in(tmp_path / "data/pairs")
    assert before.value.hint == "run `synthct prepare` first"
    made = prepare(PrepareRequest(tmp_path / "scans", tmp_path / "data")).as_dict()
    assert "no pair: anna: no labels" in prepared_text(made, full=True)
    with pytest.raises(InputError) as after:
        cases_in(tmp_path / "data/pairs")
    for option in ("--labels DIR", "--pseudo-labels", "--phantoms N"):
        assert option in after.value.hint


@pytest.mark.parametrize("damaged", ["00-1.dcm", "08-1.dcm"], ids=["the first", "another"])
def test_a_slice_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    """Damaged, or on a disk that fails: not the same as a slice without a position."""
    write_series(tmp_path, body())
    read = sitk.ImageFileReader.ReadImageInformation

    def fails(self: sitk.ImageFileReader) -> None:
        if self.GetFileName().endswith(damaged):
            raise RuntimeError("Exception thrown in SimpleITK")
        read(self)

    monkeypatch.setattr(sitk.ImageFileReader, "ReadImageInformation", fails)
    (series,) = series_in(tmp_path)
    assert series.reason == f"{damaged} cannot be read"
