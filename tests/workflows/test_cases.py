from __future__ import annotations

from pathlib import Path

import pytest

from synthct.errors import InputError
from synthct.workflows.cases import COLUMNS, plan_cases, read_excluded


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    root = tmp_path / "scans"
    for name in ("a/image.nii.gz", "a/labels.nii.gz", "a/other.nii.gz", "b/image.nrrd",
                 "flat_ct.nii.gz", "flat_dseg.nii.gz", "notes.txt"):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def table(path: Path, *rows: tuple[str, ...]) -> Path:
    path.write_text("\n".join("\t".join(row) for row in (COLUMNS, *rows)) + "\n", encoding="utf-8")
    return path


def test_scans_and_their_labels_are_found(scans: Path) -> None:
    plans = {p.case: p for p in plan_cases(scans)}
    assert sorted(plans) == ["a", "b", "flat"]
    assert plans["a"].label_file == scans / "a/labels.nii.gz"
    assert plans["b"].labels == "none"
    assert plans["flat"].label_file == scans / "flat_dseg.nii.gz"


def test_excluded_cases_and_subjects_are_for_validation(scans: Path, tmp_path: Path) -> None:
    listed = tmp_path / "never.txt"
    listed.write_text("# never trained on\nb\nsomeone  # a subject\n\n", encoding="utf-8")
    named = table(tmp_path / "t.tsv", ("a", "someone", "train", "complete", "", "", ""))
    plans = plan_cases(scans, table=named, excluded=read_excluded(listed))
    assert [p.use for p in plans] == ["validation", "validation", "train"]


def test_the_table_tells(scans: Path, tmp_path: Path) -> None:
    told = ("a", "x", "train", "partial", "1=23 3=12", "b flat", "")
    plans = {p.case: p for p in plan_cases(scans, table=table(tmp_path / "t.tsv", told))}
    assert plans["a"].ids == {1: 23, 3: 12}
    assert plans["a"].atlas == ("b", "flat")
    assert plans["a"].subject == "x"
    assert plans["flat"].scheme == "auto"


def test_complete_labels_may_name_their_scheme(scans: Path, tmp_path: Path) -> None:
    told = ("a", "", "", "complete", "amos", "", "")
    named = table(tmp_path / "t.tsv", told)
    plans = {p.case: p for p in plan_cases(scans, table=named, scheme="totalsegmentator")}
    assert (plans["a"].scheme, plans["flat"].scheme) == ("amos", "totalsegmentator")
    assert not plans["a"].ids


@pytest.mark.parametrize(
    "row",
    [
        ("nobody", "", "", "", "", "", ""),
        ("a", "", "sometimes", "", "", "", ""),
        ("a", "", "", "partial", "liver=1", "", ""),
        ("b", "", "", "complete", "", "", ""),
    ],
)
def test_tables_that_make_no_sense(scans: Path, tmp_path: Path, row: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        plan_cases(scans, table=table(tmp_path / "t.tsv", row))


def test_no_scans(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scans"):
        plan_cases(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        plan_cases(tmp_path / "nowhere")
