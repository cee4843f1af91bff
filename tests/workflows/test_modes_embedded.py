"""Every mode of generation with the embedded model: it answers, or refuses in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthct.cli.main import main
from synthct.labels.organ_sizes import anatomy_ids
from synthct.models.maisi import generator as generators
from synthct.models.settings import Sampling
from synthct.volume.reading import read_labels
from synthct.workflows.generate import generate
from synthct.workflows.phantom import write_phantom

SMALL = ["--steps", "1", "--retries", "0", "-q"]


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sampling, tuple[str, ...]]]:
    told: list[tuple[Sampling, tuple[str, ...]]] = []
    latent = generators.MaisiGenerator.latent

    def listen(self: Any, *words: Any) -> Any:
        told.append((words[3], words[4]))
        return latent(self, *words)

    monkeypatch.setattr(generators.MaisiGenerator, "latent", listen)
    return told


def test_ct_from_a_mask(small_mask: Path, tmp_path: Path, sampled: list[Any]) -> None:
    assert main(["generate", "--mask", str(small_mask), "-o", str(tmp_path), *SMALL]) in (0, 4)
    assert "abdomen" in sampled[0][1], "the regions of the mask"


def test_ct_without_a_mask_follows_a_drawn_one(tmp_path: Path, sampled: list[Any]) -> None:
    words = ["--region", "chest", "abdomen", "--size", "48", "40", "48", "--spacing", "8", "8", "8"]
    assert main(["generate", *words, "--force", "-o", str(tmp_path), *SMALL]) in (0, 4)
    assert set(sampled[0][1]) >= {"chest", "abdomen"}
    (labels,) = tmp_path.rglob("*_dseg.nii.gz")
    assert read_labels(labels).labels.array.shape == (48, 40, 48)


def test_a_mask_of_a_folder(tmp_path: Path) -> None:
    for region in ("abdomen", "head"):
        path = tmp_path / "masks" / f"{region}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        write_phantom(path, region=region, spacing_mm=(8.0, 8.0, 8.0), seed=1)
    words = ["--mask-dir", str(path.parent), "--anatomy", "liver", "-o", str(tmp_path / "out")]
    assert main(["generate", *words, *SMALL]) in (0, 4)
    (labels,) = (tmp_path / "out").rglob("*_dseg.nii.gz")
    assert labels.name.startswith("abdomen")
    assert anatomy_ids(["liver"])[0] in read_labels(labels).labels.ids()


def test_lesions_are_strengthened(tmp_path: Path, sampled: list[Any]) -> None:
    mask = tmp_path / "mask.nii.gz"
    write_phantom(mask, region="abdomen", spacing_mm=(8.0, 8.0, 8.0), seed=1, lesions=True)
    words = {"steps": 1, "retries": 0}
    reports = [
        generate(mask, output=tmp_path / str(scale), tumor_guidance=scale, **words)
        for scale in (1.0, 5.0)
    ]
    assert [how.tumor_guidance for how, _ in sampled] == [1.0, 5.0]
    one, five = (report.cases[0].volume for report in reports)
    assert one is not None and five is not None and not np.array_equal(one.array, five.array)


@pytest.mark.parametrize("words", [["--sampler", "heun"], ["--time-steps", "reference"]])
def test_samplers_and_the_reference_s_steps(
    words: list[str], small_mask: Path, tmp_path: Path
) -> None:
    command = ["generate", "--mask", str(small_mask), "-o", str(tmp_path), *SMALL, *words]
    assert main(command) in (0, 4)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--contrast", "enhanced"], 2, "no contrast"),
        (["--contrast", "t1"], 2, "no contrast"),
        (["--contrast", "t1", "--skull-stripped"], 2, "skull-stripped"),
        (["--plane", "axial"], 2, "plane"),
        (["--modality-guidance", "2"], 2, "told no modality"),
        (["--sampler", "dpm++"], 2, "sampler"),
        (["--region", "prostate"], 2, "prostate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_it_cannot_do_is_one_clear_line(
    words: list[str],
    code: int,
    said: str,
    small_mask: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        main(["generate", "--mask", str(small_mask), "-o", str(tmp_path), *SMALL, *words]) == code
    )
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[0] and lines[0].startswith("error: ") and len(lines) <= 2


def test_a_wish_without_the_mask_generator_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SYNTHCT_HOME", str(tmp_path / "home"))
    words = ["generate", "--organ-size", "liver=0.5", "-o", str(tmp_path / "out"), *SMALL]
    assert main(words) == 6
    assert "synthct weights pull maisi-mask-generator" in capsys.readouterr().err
