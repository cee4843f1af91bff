"""`synthct prepare` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from synthct.cli.prepare import register


@pytest.fixture
def app() -> typer.Typer:
    group = typer.Typer()
    group.callback()(lambda: None)  # keeps the command's own name
    register(group)
    return group


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    hu = np.full((24, 20, 10), -1000, np.int16)
    hu[4:20, 4:16] = 30
    for case in ("one", "two"):
        (tmp_path / "scans" / case).mkdir(parents=True)
        image = nib.Nifti1Image(hu, np.diag([6.0, 6.0, 6.0, 1.0]))
        nib.save(image, tmp_path / "scans" / case / "image.nii.gz")
    return tmp_path / "scans"


def test_json_counts_what_was_made(app: typer.Typer, scans: Path, tmp_path: Path) -> None:
    excluded = tmp_path / "never.txt"
    excluded.write_text("two\n", encoding="utf-8")
    words = ["prepare", str(scans), "-o", str(tmp_path / "data"), "--exclude", str(excluded)]
    result = CliRunner().invoke(app, [*words, "--json"])
    made = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (made["train"], made["validation"], made["made"]) == (1, 1, 2)
    assert (tmp_path / "data/validation/two.npz").is_file()
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0
    assert "0 made, 2 there already" in again.stdout


def test_a_bad_scan_is_exit_7_and_named(app: typer.Typer, scans: Path, tmp_path: Path) -> None:
    (scans / "one/image.nii.gz").write_bytes(b"nothing")
    result = CliRunner().invoke(app, ["prepare", str(scans), "-o", str(tmp_path / "data")])
    assert result.exit_code == 7
    assert "failed: one" in result.stdout
    assert (tmp_path / "data/images/two.npz").is_file()


def test_a_folder_without_scans_is_exit_3(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prepare", str(tmp_path), "-o", str(tmp_path / "data")])
    assert result.exit_code == 3
