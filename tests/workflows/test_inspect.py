"""A volume tells where it came from; one that is not ours is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from synthct.errors import InputError
from synthct.geometry import Geometry
from synthct.outputs.case import write_case, write_run
from synthct.outputs.names import CaseNames
from synthct.outputs.sidecar import GridRecord, ModelRecord, RunRecord, SamplingRecord, Sidecar
from synthct.volume.nifti import write_volume
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.inspect import inspect

SHA = "ab" * 32
GEOMETRY = Geometry.from_spacing((4, 5, 6), (3.0, 3.0, 3.0))
VOLUME = Volume(np.zeros(GEOMETRY.shape, dtype=np.int16), GEOMETRY)


@pytest.fixture
def names(tmp_path: Path) -> CaseNames:
    model = ModelRecord(
        name="maisi-mini-ct",
        task="mask-to-ct",
        modality="CT",
        source="embedded",
        licence="Apache-2.0",
        weights_sha256={"vae": SHA},
    )
    sidecar = Sidecar(
        model=model,
        sampling=SamplingRecord(seed=7, attempt=1, steps=2, sampler="rflow", guidance=0, device=""),
        grid=GridRecord(
            shape=GEOMETRY.shape,
            spacing_mm=GEOMETRY.spacing_mm,
            orientation="RAS",
            affine=GEOMETRY.affine.tolist(),
            inner_shape=(16, 16, 16),
            inner_spacing_mm=(3, 3, 3),
            resampled=True,
        ),
        request_sha256=SHA,
        qc={"passed": True, "checked": 12},
    )
    names = CaseNames(tmp_path, "seg", 7)
    labels = LabelVolume(np.ones(GEOMETRY.shape, dtype=np.uint8), GEOMETRY, "maisi")
    write_case(
        names, image=VOLUME, labels=labels, label_names={1: "liver"}, sidecar=sidecar, preview=b"p"
    )
    return names


@pytest.mark.parametrize("role", ["image", "labels", "preview", "sidecar"])
def test_every_file_of_a_case_leads_to_its_record(role: str, names: CaseNames) -> None:
    found = inspect(names.by_role()[role])
    assert found["record"]["sampling"]["seed"] == 7
    assert found["state"] == ("unknown" if role == "sidecar" else "unchanged")
    assert set(found["files"].values()) == {"unchanged"}
    assert found["notes"] == []


def test_the_header_is_read_too(names: CaseNames) -> None:
    header = inspect(names.image)["header"]
    assert (header["model"], header["seed"], header["attempt"]) == ("maisi-mini-ct", 7, 1)
    assert inspect(names.labels)["header"]["seed"] == 7


def test_a_volume_without_its_sidecar_still_says_what_it_is(names: CaseNames) -> None:
    names.sidecar.unlink()
    found = inspect(names.image)
    assert found["record"] is None
    assert found["synthetic"] is True
    assert found["header"]["seed"] == 7
    assert "no sidecar" in found["notes"][0]


def test_a_renamed_volume_is_known_by_its_header(names: CaseNames, tmp_path: Path) -> None:
    shutil.copy(names.image, tmp_path / "patient.nii.gz")
    assert inspect(tmp_path / "patient.nii.gz")["header"]["seed"] == 7


def test_a_volume_changed_later_is_said_to_be(names: CaseNames) -> None:
    write_volume(names.image, VOLUME, description="edited", overwrite=True)
    found = inspect(names.image)
    assert found["state"] == "changed"
    assert found["header"] is None
    assert "seg_seed-7_ct.nii.gz is changed" in found["notes"]


def test_a_run_record(names: CaseNames) -> None:
    run = RunRecord(started="2026-01-01T00:00:00+00:00", exit_code=0, request_sha256=SHA)
    found = inspect(write_run(names.folder, run))
    assert found["kind"] == "run"
    assert found["record"]["exit_code"] == 0


@pytest.mark.parametrize("description", ["", "SYNTHETIC by someone else", "synthct"])
def test_a_volume_that_is_not_ours(description: str, tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", VOLUME, description=description)
    with pytest.raises(InputError, match="not made by synthct"):
        inspect(tmp_path / "scan.nii.gz")


def test_what_is_no_file_or_no_record(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    (tmp_path / "a.nii.gz").write_bytes(b"\x1f\x8b\x08 not a volume")
    for name in ("absent.nii.gz", "a.json", "a.png", "a.nii.gz", "."):
        with pytest.raises(InputError) as caught:
            inspect(tmp_path / name)
        assert caught.value.exit_code == 3
