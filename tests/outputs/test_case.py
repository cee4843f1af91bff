"""All files of a case or none; nothing overwritten unasked; resume knows what it continues."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from synthct.errors import OutputError, SynthctError, UsageError
from synthct.geometry import Geometry
from synthct.outputs import case
from synthct.outputs.names import CaseNames
from synthct.outputs.sidecar import (
    CaseSummary,
    GridRecord,
    ModelRecord,
    RunRecord,
    SamplingRecord,
    Sidecar,
    read_sidecar,
)
from synthct.volume.nifti import read_nifti
from synthct.volume.volume import LabelVolume, Volume

SHA, OTHER = "ab" * 32, "cd" * 32
GEOMETRY = Geometry.from_spacing((4, 5, 6), (3.0, 3.0, 3.0))


def make_sidecar(request: str = SHA, seed: int = 0) -> Sidecar:
    return Sidecar(
        model=ModelRecord(
            name="m",
            task="mask-to-ct",
            modality="CT",
            source="embedded",
            licence="Apache-2.0",
            weights_sha256={"vae": SHA},
        ),
        sampling=SamplingRecord(seed=seed, steps=2, sampler="rflow", guidance=0, device="cpu"),
        grid=GridRecord(
            shape=GEOMETRY.shape,
            spacing_mm=GEOMETRY.spacing_mm,
            orientation="RAS",
            affine=GEOMETRY.affine.tolist(),
            inner_shape=(16, 16, 16),
            inner_spacing_mm=(3, 3, 3),
            resampled=False,
        ),
        request_sha256=request,
    )


def write(
    names: CaseNames, value: float = 40.0, *, overwrite: bool = False, request: str = SHA
) -> Sidecar:
    labels = np.zeros(GEOMETRY.shape, dtype=np.uint8)
    labels[1:3] = 1
    return case.write_case(
        names,
        image=Volume(np.full(GEOMETRY.shape, value, dtype=np.float32), GEOMETRY),
        labels=LabelVolume(labels, GEOMETRY, "maisi"),
        label_names={1: "liver"},
        sidecar=make_sidecar(request, names.seed),
        preview=b"\x89PNG",
        overwrite=overwrite,
    )


@pytest.fixture
def names(tmp_path: Path) -> CaseNames:
    return CaseNames(tmp_path / "out", "seg", 0)


def _listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_case_is_written_whole_and_marked(names: CaseNames) -> None:
    written = write(names)
    assert _listing(names.folder) == [
        "seg_seed-0.json",
        "seg_seed-0_ct.nii.gz",
        "seg_seed-0_dseg.nii.gz",
        "seg_seed-0_preview.png",
    ]
    assert read_sidecar(names.sidecar) == written
    for path in (names.image, names.labels):
        assert read_nifti(path).description.startswith("SYNTHETIC")
    assert dict(read_nifti(names.labels).names) == {1: "liver"}
    assert set(case.changed_files(names.folder, written).values()) == {"unchanged"}


def test_a_changed_and_a_missing_file_are_noticed(names: CaseNames) -> None:
    written = write(names)
    names.preview.write_bytes(b"other")
    names.labels.unlink()
    states = case.changed_files(names.folder, written)
    assert states == {"image": "unchanged", "labels": "missing", "preview": "changed"}


@pytest.mark.parametrize("role", ["image", "labels", "preview", "sidecar"])
@pytest.mark.parametrize("rejected", [False, True])
def test_any_file_in_the_way_refuses_the_case(role: str, rejected: bool, names: CaseNames) -> None:
    place = names.rejected() if rejected else names
    path = place.by_role()[role]
    path.parent.mkdir(parents=True)
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(UsageError, match="exists already"):
        case.refuse_existing_cases([names])
    with pytest.raises(UsageError):
        write(names)
    assert path.read_text(encoding="utf-8") == "precious"
    assert len([p for p in names.folder.rglob("*") if p.is_file()]) == 1


def test_overwriting_replaces_the_rejected_one_too(names: CaseNames) -> None:
    write(names.rejected())
    write(names, 50.0, overwrite=True)
    assert not any(path.exists() for path in names.rejected().by_role().values())
    assert read_nifti(names.image).array.max() == 50
    write(names.rejected(), 60.0, overwrite=True)
    assert not names.image.exists()
    assert names.rejected().image.exists()


def test_resume_knows_a_whole_case(names: CaseNames) -> None:
    assert not case.case_is_complete(names, SHA)
    write(names)
    assert case.case_is_complete(names, SHA)
    found = case.completed_case(names, SHA)
    assert found is not None
    assert not found[0].is_rejected
    names.preview.unlink()
    assert not case.case_is_complete(names, SHA)


def test_resume_knows_a_rejected_case(names: CaseNames) -> None:
    write(names.rejected())
    found = case.completed_case(names, SHA)
    assert found is not None
    assert found[0].is_rejected


def test_resume_refuses_another_request(names: CaseNames) -> None:
    write(names)
    with pytest.raises(UsageError, match="another request"):
        case.refuse_other_request([names], OTHER)
    case.refuse_other_request([names], SHA)


def test_resume_refuses_a_sidecar_that_is_not_ours(names: CaseNames) -> None:
    names.folder.mkdir()
    names.sidecar.write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError):
        case.case_is_complete(names, SHA)


def test_a_failure_halfway_leaves_nothing(
    names: CaseNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(case, "_file_records", full)
    with pytest.raises(OutputError, match="No space left"):
        write(names)
    assert _listing(names.folder) == []


def test_a_failure_while_overwriting_keeps_the_old_case(
    names: CaseNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(names)

    def broken(*_: object) -> None:
        raise ValueError("half way")

    with monkeypatch.context() as patch:
        patch.setattr(case, "_file_records", broken)
        with pytest.raises(ValueError, match="half way"):
            write(names, 90.0, overwrite=True)
    assert set(case.changed_files(names.folder, written).values()) == {"unchanged"}


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
@pytest.mark.parametrize("moment", ["_file_records", "_rename_all", "_sync_folder", "write_text"])
def test_kill_9_leaves_no_incomplete_file_under_a_final_name(moment: str, names: CaseNames) -> None:
    code = f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_case
        from pathlib import Path
        from synthct.outputs import case
        from synthct.outputs.names import CaseNames
        case.{moment} = lambda *a, **k: os.kill(os.getpid(), 9)
        test_case.write(CaseNames(Path({str(names.folder)!r}), "seg", 0))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    visible = [p for p in names.folder.iterdir() if not p.name.startswith(".")]
    if moment == "_sync_folder":
        assert case.case_is_complete(names, SHA)
    else:
        assert visible == []
        assert not case.case_is_complete(names, SHA)
    write(names, overwrite=True)
    assert len(_listing(names.folder)) == 4, "what the killed run left is cleared away"


def test_kill_9_between_two_renames_is_an_incomplete_case(
    names: CaseNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: None if "json" in str(b) else real(a, b))
    monkeypatch.setattr(case, "write_text", lambda p, t: p.write_text(t, encoding="utf-8"))
    write(names)
    assert names.image.exists()
    assert not names.sidecar.exists()
    assert not case.case_is_complete(names, SHA)


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError):
        case.require_writable(tmp_path / "out")
    with pytest.raises(SynthctError) as caught:
        write(CaseNames(tmp_path / "out", "seg", 0))
    assert caught.value.exit_code == 3


def test_a_writable_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    case.require_writable(tmp_path / "new" / "out")
    assert _listing(tmp_path / "new" / "out") == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError):
        case.require_writable(tmp_path / "locked")


def _run(exit_code: int) -> RunRecord:
    summary = CaseSummary(case="seg_seed-0", seed=0, status="passed")
    return RunRecord(
        started="2026-01-01T00:00:00+00:00",
        exit_code=exit_code,
        request_sha256=SHA,
        cases=[summary],
    )


def test_run_records_of_one_folder_are_kept_in_order(tmp_path: Path) -> None:
    for code in (0, 4, 7):
        path = case.write_run(tmp_path, _run(code))
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["exit_code"] == 7
    assert [run["exit_code"] for run in document["earlier"]] == [0, 4]
    assert all("earlier" not in run for run in document["earlier"])


def test_a_foreign_run_json_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("my notes", encoding="utf-8")
    document = json.loads(case.write_run(tmp_path, _run(0)).read_text(encoding="utf-8"))
    assert document["earlier"] == [{"unreadable": "my notes"}]
