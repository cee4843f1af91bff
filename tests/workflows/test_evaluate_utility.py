"""The utility study end to end: stand-in trainers whose answer is known, a command, the CLI."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import typer
from typer.testing import CliRunner

from synthct.cli import evaluate_utility as command
from synthct.errors import InputError, UsageError
from synthct.evaluation.case import Schemes
from synthct.evaluation.utility_network import NetworkSettings
from synthct.evaluation.utility_trainers import CommandTrainer, Sample
from synthct.geometry import Geometry
from synthct.volume.nifti import write_labels, write_volume
from synthct.volume.reading import read_labels
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.evaluate_utility import PLOT, REPORT, TABLE, evaluate_utility

GRID = Geometry.from_spacing((24, 24, 20), (6.0, 6.0, 6.0))


def _write(folder: Path, count: int, seed: int, liver_hu: float = 100.0) -> Path:
    """Patients with a liver of `liver_hu` (id 1) and a spleen of 60 (id 3), each somewhere else."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for n in range(count):
        labels = np.zeros(GRID.shape, np.uint8)
        labels[2:22, 2:22] = 200
        i, j, k = rng.integers(4, 9, 3)
        labels[i : i + 6, j : j + 6, k : k + 6] = 1
        labels[i + 8 : i + 12, j : j + 4, k : k + 4] = 3
        hu = np.where(labels > 0, 0.0, -1000.0) + liver_hu * (labels == 1) + 60 * (labels == 3)
        hu += rng.normal(0, 5, GRID.shape)
        write_volume(folder / f"p{n}_ct.nii.gz", Volume(hu, GRID))
        mask = LabelVolume(labels, GRID, scheme="maisi")
        write_labels(folder / f"p{n}_dseg.nii.gz", mask, {1: "liver", 3: "spleen", 200: "body"})
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("utility")
    return _write(root / "real", 6, 1), _write(root / "synthetic", 6, 2)


class Growing:
    """Finds the share of the liver that it has seen cases for; what each call got is kept."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], list[str]]] = []

    def __call__(
        self, train: Sequence[Sample], test: Sequence[Sample], seed: int, folder: Path
    ) -> list[npt.NDArray[Any]]:
        self.calls.append(([s.name for s in train], [s.name for s in test]))
        grids = [np.indices(sample.labels.shape).sum(axis=0) % 10 for sample in test]
        return [np.where(g < len(train), s.labels, 0) for g, s in zip(grids, test, strict=True)]


def test_arms_and_folds(folders: tuple[Path, Path], tmp_path: Path) -> None:
    trainer = Growing()
    report = evaluate_utility(
        *folders, organs=["liver", "spleen"], ratios=[1], folds=3, spacing_mm=6.0,
        trainer=trainer, output=tmp_path / "out",
    )  # fmt: skip
    assert len(trainer.calls) == 9
    assert [c.arm for c in report.arms] == ["real", "synthetic", "real+1"]
    assert report.protocol["training_cases"] == {
        "real": [4] * 3, "synthetic": [6] * 3, "real+1": [8] * 3,
    }  # fmt: skip
    by_arm = {c.arm: c for c in report.arms}
    assert by_arm["real+1"].mean > by_arm["real"].mean
    assert by_arm["real+1"].p == pytest.approx(2 / 2**6, abs=0.01)  # six of six better
    written = json.loads((tmp_path / "out" / REPORT).read_text(encoding="utf-8"))
    files = written["protocol"]["sha256"]
    assert len({*files["real"].values(), *files["synthetic"].values()}) == 12
    assert set(written["scores"]["real"]) == {f"p{n}" for n in range(6)}
    assert (tmp_path / "out" / PLOT).read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "out" / TABLE).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 3 * 3
    with pytest.raises(UsageError, match="exists"):
        evaluate_utility(*folders, organs=["liver"], trainer=trainer, output=tmp_path / "out")


def test_real_cases_alone_are_tested_and_never_trained_on_then(
    folders: tuple[Path, Path],
) -> None:
    trainer = Growing()
    evaluate_utility(*folders, organs=["liver"], folds=2, spacing_mm=6.0, trainer=trainer)
    for trained, tested in trainer.calls[::5]:  # the arm of real cases
        assert not set(trained) & set(tested)
    assert sum(len(tested) for _, tested in trainer.calls) == 5 * 6


def test_masks_of_test_cases_and_subjects_keep_synthetic_cases_out(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Synthetic cases made from the real ones' masks: never beside that mask's own test case."""
    trainer = Growing()
    report = evaluate_utility(
        folders[0], folders[0], organs=["liver"], ratios=[1], folds=3, spacing_mm=6.0,
        trainer=trainer,
    )  # fmt: skip
    for trained, tested in trainer.calls:
        assert not set(trained) & set(tested)
    assert any("left out of its fold" in line for line in report.warnings)
    assert any("fewer than asked" not in line for line in report.warnings)
    subjects = tmp_path / "subjects.tsv"
    subjects.write_text("".join(f"p{n}\tperson{n // 2}\n" for n in range(6)), encoding="utf-8")
    trainer = Growing()
    evaluate_utility(
        *folders, organs=["liver"], ratios=[1], folds=3, spacing_mm=6.0, trainer=trainer,
        subjects=subjects,
    )  # fmt: skip
    for _, tested in trainer.calls:
        assert {int(name[1]) // 2 for name in tested} == {int(tested[0][1]) // 2}
    with pytest.raises(InputError, match="3 subjects for 5 folds"):
        evaluate_utility(*folders, organs=["liver"], spacing_mm=6.0, subjects=subjects)


TRAINER = """
import sys, pathlib, nibabel as nib, numpy as np
train, test, out = map(pathlib.Path, sys.argv[1:4])
assert len(list((train / "images").iterdir())) == len(list((train / "labels").iterdir())) > 0
assert not (test / "labels").exists()
for path in (test / "images").iterdir():
    image = nib.load(path)
    hu = image.get_fdata()
    found = np.where((hu > 80) & (hu < 200), 1, np.where((hu > 40) & (hu <= 80), 2, 0))
    nib.save(nib.Nifti1Image(found.astype(np.uint8), image.affine), out / path.name)
"""


def test_a_command_trains_through_files(folders: tuple[Path, Path], tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAINER, encoding="utf-8")
    template = f"{sys.executable} {script} {{train}} {{test}} {{out}}"
    report = evaluate_utility(
        *folders, organs=["liver", "spleen"], ratios=[1], folds=2, spacing_mm=6.0, trainer=template
    )
    assert all(c.mean > 0.97 for c in report.arms)
    assert any("no p value" in line for line in report.warnings) == (report.arms[1].p is None)


COUNTING = """
calls = pathlib.Path(__file__).with_suffix(".calls")
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
if len(calls.read_text()) == int(calls.with_suffix(".dies").read_text()):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_study_that_was_killed_goes_on_to_the_same_numbers(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        TRAINER.replace("import sys", "import os, signal, sys") + COUNTING, encoding="utf-8"
    )
    dies, calls = script.with_suffix(".dies"), script.with_suffix(".calls")
    how: dict[str, Any] = {
        "organs": ["liver"], "ratios": [1], "folds": 2, "spacing_mm": 6.0,
        "trainer": f"{sys.executable} {script} {{train}} {{test}} {{out}}",
    }  # fmt: skip
    dies.write_text("0", encoding="utf-8")
    whole = evaluate_utility(*folders, output=tmp_path / "whole", **how)
    calls.unlink()
    dies.write_text("4", encoding="utf-8")
    with pytest.raises(InputError, match="failed"):
        evaluate_utility(*folders, output=tmp_path / "out", **how)
    assert not (tmp_path / "out" / REPORT).exists()
    resumed = evaluate_utility(*folders, output=tmp_path / "out", **how)
    assert resumed.as_dict() == whole.as_dict()
    assert len(calls.read_text(encoding="utf-8")) == 6 + 1, (
        "the one that died, and no other, was done again"
    )
    evaluate_utility(*folders, output=tmp_path / "out", overwrite=True, **how | {"seed": 1})
    assert len(calls.read_text(encoding="utf-8")) == 7 + 6, "another seed is another training"
    script.write_text(script.read_text(encoding="utf-8") + "# another program\n", encoding="utf-8")
    evaluate_utility(*folders, output=tmp_path / "out", overwrite=True, **how)
    assert len(calls.read_text(encoding="utf-8")) == 13 + 6, "another program is another training"


def test_what_was_kept_of_a_training_is_used_only_where_it_is_whole(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    how: dict[str, Any] = {
        "organs": ["liver"], "ratios": [1], "folds": 2, "spacing_mm": 6.0, "output": tmp_path,
        "network": NetworkSettings(steps=1, patch=32), "overwrite": True,
    }  # fmt: skip
    first = evaluate_utility(*folders, **how)
    kept = sorted((tmp_path / "cache" / "utility").iterdir())
    assert len(kept) == 6
    kept[0].write_text(kept[0].read_text(encoding="utf-8")[:20], encoding="utf-8")
    stamps = {path: path.stat().st_mtime_ns for path in kept}
    assert evaluate_utility(*folders, **how).as_dict() == first.as_dict()
    again = [path for path in kept if path.stat().st_mtime_ns != stamps[path]]
    assert again == [kept[0]]
    trainer = Growing()
    evaluate_utility(*folders, **how, trainer=trainer)
    evaluate_utility(*folders, **how, trainer=trainer)
    assert len(trainer.calls) == 12, "a callable has no hash: nothing of it is kept"


def test_commands_that_do_not_do_it(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="out"):
        CommandTrainer("train {train} {test}")
    for template, said in (
        ("false {train} {test} {out}", "failed"),
        ("true {train} {test} {out}", "wrote no"),
    ):
        with pytest.raises(InputError, match=said):
            evaluate_utility(*folders, organs=["liver"], folds=2, spacing_mm=6.0, trainer=template)


def test_organs_that_nobody_knows(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="hat"):
        evaluate_utility(*folders, organs=["liver", "hat"])
    with pytest.raises(InputError, match="none of the organs"):
        evaluate_utility(*folders, organs=["pancreas"], spacing_mm=6.0)


def test_the_small_network_through_the_command_line(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    app = typer.Typer()
    command.register(app)
    words = [*map(str, folders), "--organs", "liver,spleen", "--ratio", "1", "--folds", "2"]
    words += ["--steps", "1", "--patch", "32", "--spacing", "6", "-o", str(tmp_path), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [row["arm"] for row in document["arms"]] == ["real", "synthetic", "real+1"]
    assert all(0 <= row["mean"] <= 1 and row["pairs"] == 6 for row in document["arms"])
    trainer = document["protocol"]["trainer"]
    assert (trainer["network"], trainer["steps"], trainer["patch"]) == ("MONAI BasicUNet", 1, 32)
    assert (tmp_path / PLOT).exists() and document == json.loads(
        (tmp_path / REPORT).read_text(encoding="utf-8")
    )


@pytest.mark.slow
def test_the_small_network_learns_in_every_arm(tmp_path: Path) -> None:
    """Livers as bright as contrast in a bowel: thirty steps find them, from either folder."""
    bright = [_write(tmp_path / name, 4, seed, 800.0) for name, seed in (("r", 1), ("s", 2))]
    report = evaluate_utility(
        *bright, organs=["liver"], ratios=[1], folds=2, spacing_mm=6.0,
        network=NetworkSettings(steps=30, patch=32, batch=1),
    )  # fmt: skip
    assert all(c.mean > 0.5 for c in report.arms)  # everything as liver would be 0.04


def test_schemes_of_the_two_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Raw ids in the real folder, 5 for the liver (TotalSegmentator); names in the other."""
    for path in folders[0].glob("*_ct.nii.gz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        mask = read_labels(folders[0] / path.name.replace("_ct", "_dseg")).labels
        raw = np.where(mask.array == 1, 5, 0).astype(np.uint8)
        named = LabelVolume(raw, mask.geometry, scheme="raw")
        write_labels(tmp_path / path.name.replace("_ct", "_dseg"), named, {})
    how: dict[str, Any] = {"organs": ["liver"], "ratios": [1], "folds": 2, "spacing_mm": 6.0}
    schemes: Schemes = {"real": "totalsegmentator"}
    report = evaluate_utility(tmp_path, folders[1], trainer=Growing(), labels=schemes, **how)
    same = evaluate_utility(*folders, trainer=Growing(), **how)
    assert report.scores == same.scores
    with pytest.raises(InputError, match="_dseg"):
        evaluate_utility(tmp_path, folders[1], trainer=Growing(), **how)


def test_settings_of_the_network_stand_in_the_report(folders: tuple[Path, Path]) -> None:
    report = evaluate_utility(
        *folders, organs=["liver"], ratios=[1], folds=2, spacing_mm=6.0, trainer=Growing(),
        network=NetworkSettings(steps=7),
    )  # fmt: skip
    assert report.protocol["trainer"] == "callable"
