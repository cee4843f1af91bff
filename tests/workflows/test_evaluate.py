"""`synthct evaluate REAL SYNTH` as its user runs it: report, resume, refusals, a team of two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthct.errors import InputError, UsageError
from synthct.evaluation import features
from synthct.evaluation.metric import Settings
from synthct.volume.nifti import write_labels
from synthct.volume.reading import read_image
from synthct.volume.volume import LabelVolume
from synthct.workflows.evaluate import evaluate
from tests.evaluation.studies import LIVER, person, write_case, write_people

SMALL = Settings(spacing_mm=6.0, side=40, share=0.2, resamples=20)
WORDS = ["--slice-spacing", "6", "--slice-side", "40", "--slice-share", "0.2", "--resamples", "20"]
METRICS = ["fid", "kid", "ms-ssim", "mmd"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    real, synthetic = (tmp_path_factory.mktemp(name) for name in ("real", "synthetic"))
    write_people(real, range(3))
    write_people(synthetic, range(10, 13), noise_hu=60.0)
    return real, synthetic


def _small(metrics: list[str]) -> Settings:
    return replace(SMALL, options={"ms-ssim.side": "24", "mmd.side": "16"})


@pytest.fixture(scope="module")
def report(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("out") / "report"
    evaluate(*folders, metrics=METRICS, output=output, settings=_small(METRICS))
    return output


def test_every_number_has_its_protocol(report: Path) -> None:
    document = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert list(document["metrics"]) == METRICS
    assert len(document["cases"]["real"]) == 3
    assert all(len(case["sha256"]) == 64 for case in document["cases"]["synthetic"])
    for metric in document["metrics"].values():
        for number in metric["numbers"]:
            assert number["conditions"]["variant"] and number["n"] and number["cases"]
            if number["value"] is not None:
                interval = number["interval"]
                assert interval["low"] <= number["value"] <= interval["high"]
    assert any("few" in line for line in document["warnings"])
    assert str(report.parent) not in (report / "report.json").read_text(encoding="utf-8")


def test_the_page_stands_alone(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "http" not in page and "Worst cases" in page
    assert "mini-slices" in page and "no Inception" in page


def test_an_interrupted_run_goes_on(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its fourth case of six; the second run computes three, and the same numbers."""
    computed: list[str] = []
    true = features.FeatureSource._compute

    def counted(self: Any, case: Any) -> Any:
        if len(computed) == 3 and not monkeypatch_off:
            raise KeyboardInterrupt
        computed.append(case.name)
        return true(self, case)

    monkeypatch_off: list[bool] = []
    monkeypatch.setattr(features.FeatureSource, "_compute", counted)
    output = tmp_path / "report"
    with pytest.raises(KeyboardInterrupt):
        evaluate(*folders, metrics=["kid"], output=output, settings=SMALL)
    assert not (output / "report.json").exists()
    monkeypatch_off.append(True)
    resumed = evaluate(*folders, metrics=["kid"], output=output, settings=SMALL)
    assert len(computed) == 6 and len(set(computed)) == 6
    monkeypatch.setattr(features.FeatureSource, "_compute", true)
    fresh = evaluate(*folders, metrics=["kid"], settings=SMALL)
    assert resumed is not None and fresh is not None
    assert resumed.measured[0].result.numbers == fresh.measured[0].result.numbers


def test_a_changed_file_is_computed_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    real, _ = folders
    for seed in range(3):
        write_case(tmp_path / "other", f"s{seed}", person(20 + seed)[0])
    output = tmp_path / "report"

    def value() -> float:
        found = evaluate(
            real,
            tmp_path / "other",
            metrics=["kid"],
            output=output,
            settings=SMALL,
            overwrite=True,
        )
        assert found is not None
        return float(found.measured[0].result.numbers[3].value or 0)

    before = value()
    hu = person(20)[0]
    (tmp_path / "other" / "s0_ct.nii.gz").unlink()
    write_case(tmp_path / "other", "s0", np.where(hu > -900, hu + 300, hu).astype(np.float32))
    assert value() > before


def test_too_few_cases_refuse_with_the_number_needed(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    write_case(tmp_path, "alone", person(0)[0])
    with pytest.raises(InputError, match="fid needs 3 synthetic cases, 1 were given"):
        evaluate(folders[0], tmp_path, metrics=["fid"], settings=SMALL)
    for metric, remedy in (
        ("fid", "more cases"),
        ("leakage", "--training"),
        ("agreement", "_dseg"),
    ):
        with pytest.raises(InputError) as refused:
            evaluate(folders[0], tmp_path, metrics=[metric], settings=SMALL)
        assert remedy in refused.value.hint


def test_outputs_words_and_modalities_that_do_not_go(
    folders: tuple[Path, Path], report: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="exists already"):
        evaluate(*folders, metrics=["kid"], output=report, settings=SMALL)
    with pytest.raises(UsageError, match="no metric 'is'"):
        evaluate(*folders, metrics=["is"], settings=SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no volume in it"):
        evaluate(folders[0], tmp_path / "empty", settings=SMALL)
    write_case(tmp_path / "mr", "a", person(0)[0])
    (tmp_path / "mr" / "a_ct.nii.gz").rename(tmp_path / "mr" / "a_T1w.nii.gz")
    with pytest.raises(InputError, match="of one modality"):
        evaluate(folders[0], tmp_path / "mr", settings=SMALL)


def test_masks_of_two_schemes(tmp_path: Path) -> None:
    """Real masks with raw TotalSegmentator ids (5: liver) beside synthetic ones with MAISI's names.

    A second run into the same folder reads the real ones by another scheme: nothing that was kept
    of the first may stand in for it.
    """
    real, synthetic, output = (tmp_path / name for name in ("real", "synthetic", "report"))
    write_people(synthetic, range(1))
    hu, labels = person(1)
    image, mask = write_case(real, "r", hu, labels)
    assert mask is not None
    raw = np.where(labels == LIVER, 5, 0).astype(np.uint8)
    write_labels(
        mask, LabelVolume(raw, read_image(image).geometry, scheme="raw"), {}, overwrite=True
    )

    def organs(scheme: str) -> set[str]:
        found = evaluate(
            real, synthetic, metrics=["agreement"], output=output, settings=SMALL,
            labels={"real": scheme}, overwrite=True,
        )  # fmt: skip
        assert found is not None
        return {row.group for row in found.measured[0].result.rows if row.role == "real"} - {""}

    assert organs("totalsegmentator") == {"liver"}
    assert organs("maisi") == {"right kidney"}
    written = json.loads((output / "report.json").read_text(encoding="utf-8"))["cases"]
    assert written["real"][0]["scheme"] == "maisi" and written["synthetic"][0]["scheme"] == "auto"
    with pytest.raises(InputError, match="r_dseg"):
        evaluate(real, synthetic, metrics=["agreement"], settings=SMALL)


def test_two_processes_find_the_numbers_of_one(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """torchrun with gloo: each prepares three of six cases; the first one writes."""
    command = ["-m", "synthct", "evaluate", *map(str, folders), "--metrics", "kid,fid", *WORDS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*run, "--nproc-per-node", "2", *command, "-o", str(tmp_path / "two"), "-q"],
        check=True,
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        timeout=580,
        capture_output=True,
    )
    alone = evaluate(*folders, metrics=["kid", "fid"], settings=SMALL)
    assert alone is not None
    document = json.loads((tmp_path / "two" / "report.json").read_text(encoding="utf-8"))
    for measured in alone.measured:
        written = document["metrics"][measured.name]["numbers"]
        found = {number["name"]: number["value"] for number in written}
        for number in measured.result.numbers:
            if number.value is not None:
                assert found[number.name] == pytest.approx(number.value, rel=1e-6, abs=1e-9)
