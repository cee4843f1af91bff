from __future__ import annotations

from pathlib import Path

import pytest

from synthct.errors import InputError
from synthct.volume.manifest import COLUMNS, Manifest, Row, read_manifest, write_manifest


def a_row(case: str, subject: str = "", split: str = "train", kind: str = "image") -> Row:
    return Row(case, subject or case, split, kind, reason="a reason,\twith a tab")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest([a_row("b"), a_row("a", kind="pseudo")])
    write_manifest(tmp_path / "manifest.tsv", manifest)
    again = read_manifest(tmp_path / "manifest.tsv")
    assert list(again) == ["a", "b"]
    assert again["a"].kind == "pseudo"
    assert again["a"].reason == "a reason, with a tab"  # a cell never breaks the table


def test_a_subject_stands_on_one_side_only() -> None:
    manifest = Manifest([a_row("x1", "x")])
    with pytest.raises(InputError, match="training and validation at once: x"):
        manifest.with_row(a_row("x2", "x", "validation"))
    assert len(manifest.with_row(a_row("x2", "x", "excluded"))) == 2


def test_a_row_of_the_same_case_is_replaced() -> None:
    manifest = Manifest([a_row("x")]).with_row(a_row("x", split="validation"))
    assert [r.split for r in manifest.values()] == ["validation"]


@pytest.mark.parametrize("bad", [{"split": "test"}, {"kind": "guess"}, {"case": ""}])
def test_rows_that_make_no_sense(bad: dict[str, str]) -> None:
    with pytest.raises(InputError):
        Row(**{"case": "a", "subject": "a", "split": "train", "kind": "real", **bad})


def test_a_case_stands_once() -> None:
    with pytest.raises(InputError, match="twice"):
        Manifest([a_row("x"), a_row("x")])


@pytest.mark.parametrize("text", ["", "case\tsubject\n", "\t".join(COLUMNS) + "\nonly one cell\n"])
def test_files_that_are_no_manifest(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_manifest(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no manifest"):
        read_manifest(tmp_path / "manifest.tsv")
