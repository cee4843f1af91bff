"""`synthct mask phantom` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from synthct.cli.mask_phantom import PhantomRegion, register
from synthct.phantom import REGIONS


@pytest.fixture
def app() -> typer.Typer:
    group = typer.Typer()
    group.callback()(lambda: None)  # keeps the command's own name
    register(group)
    return group


def phantom(app: typer.Typer, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["phantom", *words])
    return result.exit_code, result.stdout


def test_it_offers_the_regions_that_exist() -> None:
    assert {region.value for region in PhantomRegion} == set(REGIONS)


def test_json_says_what_was_written(app: typer.Typer, tmp_path: Path) -> None:
    file = tmp_path / "seg.nii.gz"
    words = ["-o", str(file), "--region", "pelvis", "--spacing", "8", "8", "8", "--seed", "2"]
    code, out = phantom(app, *words, "--json")
    found = json.loads(out)
    assert code == 0
    assert file.is_file()
    assert found["region"] == "pelvis"
    assert found["seed"] == 2
    assert found["spacing_mm"] == [8.0, 8.0, 8.0]
    assert found["structures"]["left hip"] > 100


def test_size_lesions_and_quiet(app: typer.Typer, tmp_path: Path) -> None:
    words = ["--spacing", "6", "6", "6", "--size", "50", "40", "60", "--lesions", "-q"]
    code, out = phantom(app, "-o", str(tmp_path / "a.nii.gz"), *words)
    assert (code, out) == (0, "")


def test_an_output_that_exists_is_exit_2(app: typer.Typer, tmp_path: Path) -> None:
    file = tmp_path / "seg.nii.gz"
    file.touch()
    assert phantom(app, "-o", str(file))[0] == 2
    assert file.stat().st_size == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--region", "knee"], 2), (["--spacing", "0", "1", "1"], 3), (["--size", "0", "1", "1"], 3)],
)
def test_bad_words(app: typer.Typer, tmp_path: Path, words: list[str], code: int) -> None:
    assert phantom(app, "-o", str(tmp_path / "a.nii.gz"), *words)[0] == code
    assert not list(tmp_path.iterdir())
