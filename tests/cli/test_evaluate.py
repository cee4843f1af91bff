from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthct.cli.main import main
from synthct.evaluation.registry import METRICS
from tests.evaluation.studies import write_people

WORDS = ["--slice-spacing", "8", "--slice-side", "32", "--slice-share", "0.1", "--resamples", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("people")
    write_people(made, range(2))
    return made


def test_json_is_one_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["evaluate", str(folder), str(folder), "--metrics", "kid", "--json", *WORDS])
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["metrics"]["kid"]["numbers"][0]["name"] == "axial"
    assert document["cases"]["real"][0]["file"] == "p0_ct.nii.gz"


def test_too_few_is_exit_3_and_names_the_number(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["evaluate", str(folder), str(folder), "--metrics", "fid", "--json", *WORDS])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (code, error["code"]) == (3, 3)
    assert "needs 3 real cases, 2 were given" in error["message"]


def test_the_list_names_every_metric(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(metric.name in listed for metric in METRICS)


def test_other_words_stay_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "reconstruction", "--help"]) == 0
    assert "PSNR and SSIM" in capsys.readouterr().out
    assert main(["evaluate", "reconstruction", "missing.nii.gz"]) == 3


def test_schemes_of_the_two_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--metrics", "kid", "--labels", "maisi", "--real-labels", "auto", "--json", *WORDS]
    assert main(["evaluate", str(folder), str(folder), *words]) == 0
    cases = json.loads(capsys.readouterr().out)["cases"]
    assert [cases[role][0]["scheme"] for role in ("real", "synthetic")] == ["auto", "maisi"]
    words = ["--metrics", "agreement", "--synth-labels", "totalsegmentator", "--json", *WORDS]
    assert main(["evaluate", str(folder), str(folder), *words]) == 3
    assert "p0_dseg.nii.gz" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--metrics", "inception"], 2),
        (["--features", "missing.pt"], 2),
        (["--feature-option", "channels"], 2),
        (["--device", "cuda:97"], 2),
        (["--slice-share", "1.5"], 2),
    ],
)
def test_usage(folder: Path, words: list[str], code: int) -> None:
    assert main(["evaluate", str(folder), str(folder), *WORDS, *words]) == code
