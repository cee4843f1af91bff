"""Every mode of the published models, end to end, with narrow random networks of their layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from synthct.cli.main import main
from synthct.errors import GridError, SynthctError, UsageError
from synthct.models.maisi import generator as generators
from synthct.models.settings import Sampling
from synthct.workflows.check import check
from synthct.workflows.generate import GenerateReport, generate
from tests.workflows.published_models import install

FAST = {"steps": 1, "retries": 0}


@pytest.fixture(scope="module", autouse=True)
def published(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path_factory.mktemp("home"), patch)
        yield


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sampling, tuple[str, ...]]]:
    """What the generator was told: sampling and regions."""
    told: list[tuple[Sampling, tuple[str, ...]]] = []
    latent = generators.MaisiGenerator.latent

    def listen(self: Any, *words: Any) -> Any:  # shape, labels, spacing, sampling, regions, …
        told.append((words[3], words[4]))
        return latent(self, *words)

    monkeypatch.setattr(generators.MaisiGenerator, "latent", listen)
    return told


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.nii.gz")}


def _sidecar(report: GenerateReport) -> dict[str, Any]:
    sidecar = report.cases[0].sidecar
    assert sidecar is not None
    found: dict[str, Any] = json.loads(sidecar.model_dump_json())
    return found


def test_ct_from_a_mask_ddpm_derives_the_regions(
    small_mask: Path, tmp_path: Path, sampled: list[Any]
) -> None:
    report = generate(small_mask, model="maisi-ct-ddpm", output=tmp_path, **FAST)
    assert sampled[0][1] == check(small_mask, model="maisi-ct-ddpm").regions != ()
    assert "abdomen" in sampled[0][1]
    assert sampled[0][0].sampler == "ddpm"
    assert _files(tmp_path) == {"seg_seed-0_ct.nii.gz", "seg_seed-0_dseg.nii.gz"}
    assert _sidecar(report)["sampling"]["conditions"]["modality_class"] is None


def test_ct_from_a_mask_rflow_takes_the_contrast_as_class(
    small_mask: Path, tmp_path: Path, sampled: list[Any]
) -> None:
    words = {"model": "maisi-ct-rflow", **FAST}
    reports = [
        generate(small_mask, output=tmp_path / str(contrast), contrast=contrast, **words)
        for contrast in (None, "none", "enhanced")
    ]
    assert [how.modality_class for how, _ in sampled] == [1, 2, 3]
    assert all(regions == () for _, regions in sampled)
    one, two, three = (report.cases[0].volume for report in reports)
    assert one is not None and two is not None and three is not None
    assert not np.array_equal(two.array, three.array)
    conditions = _sidecar(reports[2])["sampling"]["conditions"]
    assert conditions["contrast"] == "enhanced" and conditions["modality_class"] == 3
    assert nib.load(small_mask).shape == one.array.shape


def test_the_dry_run_counts_what_guidance_takes(small_mask: Path) -> None:
    words = {"model": "maisi-ct-rflow"}
    plain, same, guided = (
        check(small_mask, modality_guidance=scale, **words).memory for scale in (None, 1.0, 3.0)
    )
    assert same.as_dict() == plain.as_dict()
    assert "2 branches of guidance at once" in guided.choice
    sampling = [plan.stages[0] for plan in (plain, guided)]
    assert sampling[1].work_macs > 1.5 * sampling[0].work_macs
    assert sampling[1].peak_bytes > sampling[0].peak_bytes
    with pytest.raises(UsageError, match="told no modality"):
        check(small_mask, model="maisi-ct-ddpm", modality_guidance=3.0)


def test_ct_is_sampled_in_a_size_that_was_trained(small_mask: Path) -> None:
    report = check(small_mask, model="maisi-ct-rflow")
    i, j, k = report.grid.inner.shape
    assert i == j and i in (64, 96) and k in (32, 64)
    assert all(
        inner >= asked - 1e-6
        for inner, asked in zip(
            report.grid.inner.extent_mm, report.grid.asked.as_ras().extent_mm, strict=True
        )
    )


@pytest.mark.parametrize(
    ("model", "regions"), [("maisi-ct-ddpm", ("chest", "abdomen")), ("maisi-ct-rflow", ())]
)
def test_ct_without_a_mask(
    model: str, regions: tuple[str, ...], tmp_path: Path, sampled: list[Any]
) -> None:
    words = ["--model", model, "--region", "chest", "abdomen", "--steps", "1", "--retries", "0"]
    words += ["--size", "64", "64", "32", "--spacing", "6", "6", "8", "-o", str(tmp_path), "-q"]
    assert main(["generate", *words]) in (0, 4)
    assert sampled[0][1] == regions
    (image,) = tmp_path.rglob("*.nii.gz")
    assert image.name == f"{model}_seed-0_ct.nii.gz"
    loaded = nib.load(image)
    assert loaded.shape == (64, 64, 32)
    np.testing.assert_allclose(loaded.header.get_zooms(), (6, 6, 8))


@pytest.mark.parametrize(
    ("model", "words", "kind", "code"),
    [
        ("maisi-mr-rflow", {"contrast": "t1", "region": ("abdomen",)}, "T1w", 9),
        ("maisi-mr-rflow", {"contrast": "t2", "region": ("prostate",)}, "T2w", 10),
        ("maisi-mr-brain-rflow", {"contrast": "flair"}, "FLAIR", 11),
        ("maisi-mr-brain-rflow", {"contrast": "t1", "skull_stripped": True}, "T1w", 29),
        ("maisi-mr-brain-rflow", {"contrast": "swi", "plane": "axial"}, "swi", 20),
        ("maisi-mr-brain-rflow", {"contrast": "mra"}, "angio", 16),
    ],
    ids=lambda value: str(value)[:24],
)
def test_mr_without_a_mask(
    model: str, words: dict[str, Any], kind: str, code: int, tmp_path: Path, sampled: list[Any]
) -> None:
    report = generate(model=model, output=tmp_path, spacing_mm=(3.0, 3.0, 3.0), **words, **FAST)
    ((how, _),) = sampled
    assert (how.modality_class, how.modality_guidance, how.tumor_guidance) == (code, 10.0, 0.0)
    assert _files(tmp_path) == {f"{model}_seed-0_{kind}.nii.gz"}
    volume, sidecar = report.cases[0].volume, _sidecar(report)
    assert volume is not None and volume.modality == "MR" and volume.array.min() >= 0
    assert sidecar["hu_range"] is None and "HU" not in sidecar["hu_statement"]
    assert sidecar["qc"]["checked"] >= 3
    assert list(tmp_path.rglob("*_preview.png"))


def test_the_recommended_field_of_view_is_the_default() -> None:
    asked = check(model="maisi-mr-brain-rflow", contrast="flair").grid.asked
    assert asked.extent_mm == pytest.approx((250, 250, 175))
    sagittal = check(model="maisi-mr-brain-rflow", contrast="t1", plane="sagittal").grid.asked
    assert sagittal.extent_mm == pytest.approx((176, 250, 250))
    prostate = check(model="maisi-mr-rflow", contrast="t2", region=("prostate",)).grid.asked
    assert prostate.extent_mm == pytest.approx((170, 170, 90))
    assert all(n % 32 == 0 for n in prostate.shape)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"model": "maisi-mini-ct", "contrast": "none"}, "no contrast"),
        ({"model": "maisi-ct-ddpm", "contrast": "enhanced"}, "no contrast"),
        ({"model": "maisi-ct-rflow", "contrast": "t1"}, "no contrast"),
        ({"model": "maisi-mr-rflow"}, "takes no mask"),
        ({"model": "maisi-mask-generator"}, "makes masks"),
        ({"model": "maisi-ct-rflow", "skull_stripped": True}, "skull-stripped"),
        ({"model": "maisi-ct-rflow", "region": ("chest",)}, "no region"),
        ({"model": "maisi-ct-rflow", "plane": "axial"}, "plane"),
        ({"model": "maisi-ct-ddpm", "modality_guidance": 2.0}, "told no modality"),
        ({"model": "maisi-mini-ct", "guidance": 2.0, "mask_guidance": 3.0}, "they are one"),
        ({"model": "maisi-ct-rflow", "guidance": 2.0, "tumor_guidance": 3.0}, "they are one"),
        ({"model": "maisi-ct-rflow", "sampler": "dpm++"}, "sampler"),
        ({"model": "maisi-ct-ddpm", "sampler": "heun"}, "sampler"),
        ({"model": "maisi-ct-ddpm", "sampler": "ancestral"}, "sampler"),
        ({"sampler": "ancestral", "time_steps": "reference"}, "reference"),
        ({"model": "maisi-ct-rflow", "sampler": "heun", "time_steps": "reference"}, "reference"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_does_not_fit_is_one_clear_line(
    words: dict[str, Any], said: str, small_mask: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        generate(small_mask, output=tmp_path, **words, **FAST)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        ({"size": (64, 64, 40), "spacing_mm": (6.0, 6.0, 6.0)}, "--size 64 64 32"),
        ({"size": (64, 64, 32), "spacing_mm": (6.0, 6.0, 9.0)}, "--spacing 6 6 8"),
        ({"size": (64, 96, 32), "spacing_mm": (6.0, 6.0, 8.0)}, "--size 96 96 32"),
        ({"size": (64, 64, 32), "spacing_mm": (2.0, 2.0, 8.0)}, "--spacing 4 4 8"),
        ({"region": ("head",)}, "--region head chest"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_outside_the_published_ranges_the_nearest_is_named(
    words: dict[str, Any], nearest: str
) -> None:
    with pytest.raises(GridError) as refused:
        check(model="maisi-ct-rflow", **words)
    assert nearest in refused.value.hint and "--force" in refused.value.hint
    assert refused.value.exit_code == 3


def test_the_nearest_that_is_named_is_accepted_and_force_goes_on(tmp_path: Path) -> None:
    check(model="maisi-ct-rflow", size=(64, 64, 32), spacing_mm=(4.0, 4.0, 8.0))
    words = {"size": (64, 64, 40), "spacing_mm": (6.0, 6.0, 6.0), "force": True}
    report = generate(model="maisi-ct-rflow", output=tmp_path, **words, **FAST)
    assert any("forced" in note for note in report.notes)


def test_mr_of_a_region_and_contrast_that_was_not_seen() -> None:
    with pytest.raises(GridError, match="prostate"):
        check(model="maisi-mr-rflow", contrast="t1", region=("prostate",))
    with pytest.raises(GridError, match="swi"):
        check(model="maisi-mr-rflow", contrast="swi")
    with pytest.raises(SynthctError):
        check(model="maisi-mr-rflow", contrast="t1", size=(64, 64, 64), spacing_mm=(1.0, 1.0, 1.0))


def test_the_two_guidances_reach_the_sampler_apart(
    small_mask: Path, tmp_path: Path, sampled: list[Any]
) -> None:
    words = ["--model", "maisi-ct-rflow", "--mask", str(small_mask), "-o", str(tmp_path), "-q"]
    words += ["--steps", "1", "--retries", "0"]
    main(["generate", *words, "--tumor-guidance", "3", "--modality-guidance", "2"])
    ((how, _),) = sampled
    assert (how.tumor_guidance, how.modality_guidance) == (3.0, 2.0)


@pytest.mark.parametrize(
    ("model", "sampler"),
    [("maisi-ct-rflow", "heun"), ("maisi-ct-rflow", "adams"), ("maisi-ct-ddpm", "dpm++")],
)
def test_fewer_step_samplers(model: str, sampler: str, small_mask: Path, tmp_path: Path) -> None:
    words = {"steps": 2, "retries": 0, "sampler": sampler}
    report = generate(small_mask, model=model, output=tmp_path, **words)
    volume = report.cases[0].volume
    assert volume is not None and np.isfinite(volume.array).all()
    assert _sidecar(report)["sampling"]["sampler"] == sampler
