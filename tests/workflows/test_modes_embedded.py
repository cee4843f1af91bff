"""Every mode of generation with the embedded model: it answers, or refuses in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthct.cli.main import main
from synthct.errors import UsageError
from synthct.labels.organ_sizes import anatomy_ids
from synthct.models.maisi import generator as generators
from synthct.models.settings import Sampling
from synthct.volume.reading import read_labels
from synthct.workflows.check import check
from synthct.workflows.generate import generate
from synthct.workflows.memory import RunPlan
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


@pytest.mark.parametrize(
    ("words", "scale"),
    [({}, 1.3), ({"guidance": 1.0}, 1.0), ({"mask_guidance": 2.0}, 2.0)],
    ids=["default", "off", "asked"],
)
def test_the_mask_is_strengthened(
    words: dict[str, float], scale: float, small_mask: Path, tmp_path: Path, sampled: list[Any]
) -> None:
    report = generate(small_mask, output=tmp_path, steps=1, retries=0, **words)
    ((how, _),) = sampled
    assert (how.mask_guidance, how.tumor_guidance, how.modality_guidance) == (scale, 0.0, 0.0)
    sidecar = report.cases[0].sidecar
    assert sidecar is not None and sidecar.sampling.guidance == scale
    assert sidecar.sampling.conditions["mask_guidance"] == scale


def test_the_plan_counts_the_unet_alone(small_mask: Path) -> None:
    plain, guided = (check(small_mask, guidance=scale).memory for scale in (1.0, None))
    assert isinstance(plain, RunPlan) and isinstance(guided, RunPlan)
    assert "2 branches of guidance at once" in guided.choice and "branches" not in plain.choice
    assert plain.stages[0].work_macs < guided.stages[0].work_macs
    drawn = check(size=(64, 64, 64), spacing_mm=(4.0, 4.0, 4.0), region=("chest",)).memory
    assert "2 branches" in drawn.choice, "without a mask it draws one"


def test_what_follows_no_mask_cannot_be_pushed_to_it() -> None:
    with pytest.raises(UsageError, match="follows none here"):
        check(model="maisi-mini-mr", contrast="t1", mask_guidance=1.5)
    assert check(model="maisi-mini-mr", contrast="t1", mask_guidance=1.0).memory is not None


def test_lesions_are_pushed_beside_the_mask(tmp_path: Path) -> None:
    mask = tmp_path / "mask.nii.gz"
    write_phantom(mask, region="abdomen", spacing_mm=(8.0, 8.0, 8.0), seed=1, lesions=True)
    for scale, branches in ((1.0, 2), (1.4, 3), (3.0, 3)):
        assert f"{branches} branches" in check(mask, tumor_guidance=scale).memory.choice


@pytest.mark.parametrize(
    ("words", "sampler"),
    [
        (["--sampler", "ancestral"], "ancestral"),
        (["--sampler", "heun"], "heun"),
        (["--time-steps", "reference"], "rflow"),
    ],
)
def test_samplers_and_the_reference_s_steps(
    words: list[str], sampler: str, small_mask: Path, tmp_path: Path, sampled: list[Any]
) -> None:
    command = ["generate", "--mask", str(small_mask), "-o", str(tmp_path), *SMALL, *words]
    assert main(command) in (0, 4)
    assert sampled[0][0].sampler == sampler


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
