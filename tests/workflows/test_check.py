"""`check` says beforehand what `generate` would do or refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from synthct.checkpoints import catalogue
from synthct.cli.main import main
from synthct.errors import (
    GridError,
    MaskError,
    MemoryBudgetError,
    MissingWeights,
    UsageError,
    WeightsError,
)
from synthct.models.maisi.tensors import tensors_of
from synthct.workflows.check import check
from synthct.workflows.phantom import write_phantom


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mask") / "seg.nii.gz"
    write_phantom(path, region="abdomen", spacing_mm=(6.0, 6.0, 6.0), seed=1)
    return path


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Zeros of the right names and shapes, and a catalogue that records no checksum for them."""
    entry = catalogue.entry().model_copy(update={"sha256": {}})
    monkeypatch.setattr(catalogue, "entry", lambda name: _named(entry, name))
    listed = tensors_of(str(entry.network["spec"])) or {}
    for role, name in entry.files.by_role().items():
        tensors = {key: np.zeros(shape, np.float16) for key, shape in listed[role].items()}
        save_file(tensors, tmp_path / name, metadata={"scale_factor": "0.5"})
    return tmp_path


def _named(entry: catalogue.Entry, name: str) -> catalogue.Entry:
    if name != entry.name:
        raise UsageError(f"unknown model {name!r}")
    return entry


def test_the_asked_grid_is_exactly_as_asked(mask: Path, weights: Path) -> None:
    report = check(mask, spacing_mm=(3.0, 4.0, 5.0), weights=weights)
    source = report.mask.labels.geometry if report.mask else None
    assert source is not None
    assert report.grid.asked.same_as(source.with_spacing((3.0, 4.0, 5.0)))
    asked, inner = report.grid.asked.as_ras().extent_mm, report.grid.inner.extent_mm
    assert all(mm >= view - 1e-2 for mm, view in zip(inner, asked, strict=True))
    assert "abdomen" in report.regions


def test_without_a_spacing_it_is_the_masks_own(mask: Path, weights: Path) -> None:
    report = check(mask, weights=weights)
    assert report.grid.asked.spacing_mm == pytest.approx((6.0, 6.0, 6.0))


def test_without_a_mask_the_view_is_size_times_spacing(weights: Path) -> None:
    report = check(
        size=(128, 128, 96),
        spacing_mm=(3.0, 3.0, 3.0),
        region=("chest", "abdomen"),
        weights=weights,
    )
    assert report.mask is None
    assert report.grid.asked.extent_mm == pytest.approx((384.0, 384.0, 288.0))
    assert report.regions == ("chest", "abdomen")


def test_the_report_is_json(mask: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--mask", str(mask), "--weights", str(weights), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    told = {"regions", "contrast", "modality_class"}
    assert set(document) == {"mask", "grid", "model", "weights", "memory"} | told
    assert document["mask"]["geometry"]["axes"][0] == "left to right"
    assert document["memory"]["peak_bytes"] > 0


def test_the_text_names_axes_scheme_and_both_grids(
    mask: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--mask", str(mask), "--weights", str(weights)]) == 0
    said = capsys.readouterr()
    for words in ("i: left to right", "scheme       maisi", "ASKED FOR", "OWN GRID", "memory"):
        assert words in said.out
    assert said.err == ""
    assert main(["check", "--mask", str(mask), "--weights", str(weights), "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_a_view_too_large_is_refused_and_can_be_forced(weights: Path) -> None:
    words = {"size": (400, 128, 128), "spacing_mm": (4.0, 4.0, 4.0), "weights": weights}
    with pytest.raises(GridError) as refused:
        check(**words)
    assert refused.value.hint
    check(**words, force=True)


def test_too_little_memory_is_said_beforehand(mask: Path, weights: Path) -> None:
    with pytest.raises(MemoryBudgetError, match="GiB"):
        check(mask, weights=weights, max_memory_bytes=2**20)


def test_missing_and_damaged_weights(mask: Path, weights: Path) -> None:
    with pytest.raises(MissingWeights):
        check(mask, weights=weights / "nowhere")
    (weights / "unet.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError):
        check(mask, weights=weights)


def test_refusals_of_the_mask_and_of_words(mask: Path, weights: Path) -> None:
    with pytest.raises(MaskError):
        check("nowhere.nii.gz", weights=weights)
    with pytest.raises(UsageError):
        check(mask, weights=weights, region=("knee",))
    with pytest.raises(UsageError):
        check(mask, weights=weights, model="nobody")


def test_check_loads_no_torch(mask: Path) -> None:
    program = (
        "import sys\n"
        "from synthct.cli.main import main\n"
        f"code = main(['check', '--mask', {str(mask)!r}, '-q'])\n"
        "loaded = 'torch' in sys.modules\n"
        "sys.exit('torch was loaded' if loaded else code if code not in (0, 6) else 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr
