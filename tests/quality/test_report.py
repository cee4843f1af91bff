"""The report says the same in every form."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from rich.console import Console

from synthct.errors import MaskError
from synthct.quality.checks import judge
from synthct.quality.html import to_html
from synthct.quality.report import COLUMNS, Case, Report, print_report, to_csv
from tests.quality.boxes import patient


def case(name: str, **hu: float) -> Case:
    return Case(name, f"{name}_ct.nii.gz", f"{name}_dseg.nii.gz", verdict=judge(*patient(**hu)))


GOOD, BAD = case("good"), case("b<a>d", id_1=400)
UNREAD = Case("odd", "odd_ct.nii.gz", "odd_dseg.nii.gz", error=MaskError("odd is empty"))


@pytest.mark.parametrize(
    ("cases", "code"),
    [
        ((GOOD,), 0),
        ((GOOD, BAD), 4),
        ((GOOD, UNREAD), 7),
        ((BAD, UNREAD), 7),
        ((), 4),
    ],
)
def test_exit_codes(cases: tuple[Case, ...], code: int) -> None:
    report = Report(cases, norms="n")
    assert report.exit_code == code
    assert report.passed is (code == 0)


def test_the_document_is_strict_json() -> None:
    document = Report((GOOD, BAD, UNREAD), norms="n").as_dict()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert [c["status"] for c in again["cases"]] == ["pass", "fail", "unreadable"]
    failing = [f for f in again["cases"][1]["findings"] if f["status"] == "fail"]
    assert [f["structure"] for f in failing] == ["liver"]
    assert failing[0]["value"] == pytest.approx(400, abs=5)
    assert again["cases"][2]["error"]["code"] == 3


def test_csv_has_a_row_per_check() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(Report((GOOD, BAD, UNREAD), norms="n")))))
    assert tuple(rows[0]) == COLUMNS
    assert sum(row["case"] == "good" for row in rows) == len(GOOD.verdict.findings)  # type: ignore[union-attr]
    assert [r["structure"] for r in rows if r["status"] == "fail"] == ["liver", ""]
    assert rows[-1]["message"] == "odd is empty"


def printed(*cases: Case, verbose: bool = False) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_report(Report(cases, norms="ranges of a test"), console, verbose=verbose)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_table_of_one_case_lists_what_was_checked() -> None:
    text = printed(GOOD)
    assert re.search(r"liver\s+200\s+55\s+-21.6..162\s+pass", text)
    assert "structures absent, not checked" in text and "right kidney" not in text
    assert "right kidney" in printed(GOOD, verbose=True)
    assert "1 of 1 passed" in text


def test_the_table_of_many_cases_lists_what_failed() -> None:
    text = printed(GOOD, BAD, UNREAD)
    assert "1 of 3 passed, 1 failed, 1 could not be read" in text
    assert "b<a>d" in text and "odd is empty" in text
    assert not re.search(r"^spleen", text, flags=re.M)


def test_the_page_stands_alone() -> None:
    picture = b"\x89PNG\r\n\x1a\n"
    page = to_html(Report((GOOD, BAD, Case("p", "p", "p", picture=picture)), norms="n"))
    assert "b&lt;a&gt;d" in page and "b<a>d" not in page
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "right kidney" in page
