"""How fine a prepared scan may be: image, labels, atlas and MR alike, and what stays as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from synthct.cli.main import app
from synthct.errors import UsageError
from synthct.volume.manifest import Row
from synthct.workflows import prepare as workflow
from synthct.workflows.prepare import PrepareRequest, prepare

SPACING = (1.5, 1.5, 3.0)
SHAPE = (48, 40, 24)
AFFINE = np.diag([-1.5, 1.5, 3.0, 1.0])


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)


def scan() -> np.ndarray:
    hu = np.full(SHAPE, -1000, np.int16)
    hu[4:44, 4:36] = -80
    hu[10:26, 10:30, 4:20] = 60
    return hu


@pytest.fixture
def request_(tmp_path: Path) -> PrepareRequest:
    """A labelled CT, one that gets its labels from there, one kept apart, and an MR."""
    scans = tmp_path / "scans"
    for case in ("labelled", "plain", "kept"):
        write(scans / case / "image.nii.gz", scan())
    liver = np.zeros(SHAPE, np.uint8)
    liver[10:26, 10:30, 4:20] = 5  # TotalSegmentator's
    write(scans / "labelled/labels.nii.gz", liver)
    head = np.random.default_rng(0).uniform(0, 30, SHAPE).astype(np.float32)
    head[10:38, 8:32, :18] += 900
    write(scans / "head/t1.nii.gz", head)
    (tmp_path / "never.txt").write_text("kept\n", encoding="utf-8")
    (tmp_path / "cases.tsv").write_text(
        "case\tsubject\tuse\tlabels\tids\tatlas\treason\nplain\t\t\t\t\tlabelled\t\n",
        encoding="utf-8",
    )
    return PrepareRequest(
        scans,
        tmp_path / "data",
        tmp_path / "never.txt",
        tmp_path / "cases.tsv",
        pseudo_labels=True,
        labels="totalsegmentator",
    )


@pytest.mark.parametrize(
    ("finest_mm", "wanted"),
    [(1.0, SPACING), (2.0, (2.0, 2.0, 3.0)), (4.0, (4.0, 4.0, 4.0))],
    ids=str,
)
def test_every_array_lies_on_the_grid_asked_for(
    request_: PrepareRequest,
    monkeypatch: pytest.MonkeyPatch,
    finest_mm: float,
    wanted: tuple[float, float, float],
) -> None:
    atlases, transfer = [], workflow.transfer

    def noted(hu: np.ndarray, spacing_mm: object, atlas: workflow.Atlas) -> object:
        atlases.append(atlas)
        return transfer(hu, spacing_mm, atlas)  # type: ignore[arg-type]

    monkeypatch.setattr(workflow, "transfer", noted)
    result = prepare(replace(request_, finest_mm=finest_mm))
    assert result.failed == {}
    extent = tuple(round(n * mm / w) for n, mm, w in zip(SHAPE, SPACING, wanted, strict=True))
    for name in files_of(list(result.manifest.values())):
        with np.load(request_.output / name) as stored:
            assert stored["spacing_mm"] == pytest.approx(wanted), name
            for shape in (stored[a].shape for a in ("image", "labels") if a in stored.files):
                # registration may leave end planes without labels, which are cut off that pair
                carried = name == "pairs/plain.npz" and shape[2] in range(extent[2] - 4, extent[2])
                assert shape == extent or (carried and shape[:2] == extent[:2]), name
            if name == "pairs/labelled.npz":
                assert np.median(stored["image"][stored["labels"] == 1]) == pytest.approx(60, abs=5)
    assert [atlas.spacing_mm for atlas in atlases] == [pytest.approx(wanted)]


def files_of(rows: list[Row]) -> set[str]:
    files = {name for row in rows for name in (row.image, row.pair) if name}
    assert {"images/head_t1.npz", "images/plain.npz", "pairs/plain.npz", "pairs/labelled.npz",
            "validation/kept.npz"} <= files  # fmt: skip
    return files


def test_another_finest_spacing_makes_the_scans_anew(request_: PrepareRequest) -> None:
    wish = replace(request_, phantoms=1, pseudo_labels=False)
    first = prepare(wish)
    assert prepare(replace(wish, finest_mm=2)).made == 0
    finer = prepare(replace(wish, finest_mm=1.0))
    assert (finer.made, finer.kept) == (4, 1)  # the phantom has a spacing of its own
    assert prepare(replace(wish, finest_mm=1)).made == 0
    assert prepare(wish).manifest == first.manifest


@pytest.mark.parametrize("finest", ["0", "-1", "nan", "inf", "10.5"])
def test_what_is_no_finest_spacing_is_refused(request_: PrepareRequest, finest: str) -> None:
    with pytest.raises(UsageError, match="expected a length above 0, up to 10 mm"):
        replace(request_, finest_mm=float(finest))
    words = ["prepare", str(request_.scans), "-o", str(request_.output), f"--finest={finest}"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and not request_.output.exists()
