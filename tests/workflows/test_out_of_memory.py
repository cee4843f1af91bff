"""Memory that runs out in `generate`: a smaller plan and a result, or exit 5 and nothing left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from synthct.cli.main import main
from synthct.errors import RanOutOfMemory
from synthct.models.maisi import control, guidance
from synthct.tiling import halo
from synthct.workflows import check, machine
from synthct.workflows.generate import GenerateReport, generate
from synthct.workflows.memory import Job, RunPlan, plan_run

FAST = {"steps": 2, "retries": 0, "device": "cpu", "guidance": 1.0}
FULL = RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")


@pytest.fixture(autouse=True)
def slow_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine the first plan is float32."""
    monkeypatch.setattr(machine, "fast_bfloat16", lambda kind: False)


@pytest.fixture
def run(small_mask: Path, random_weights: Path, tmp_path: Path) -> Callable[..., GenerateReport]:
    def go(name: str = "out") -> GenerateReport:
        return generate(small_mask, output=tmp_path / name, weights=random_weights, **FAST)

    return go


@pytest.fixture
def piece(small_mask: Path, tmp_path: Path) -> Path:
    """Some liver and spine: a CPU without instructions for bfloat16 takes minutes for more."""
    whole = nib.load(small_mask)
    assert isinstance(whole, nib.Nifti1Image)
    middle = [slice(n // 2 - 7, n // 2 + 7) for n in whole.shape]
    nib.save(whole.slicer[tuple(middle)], tmp_path / "piece.nii.gz")
    return tmp_path / "piece.nii.gz"


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _no_room_for(monkeypatch: pytest.MonkeyPatch, precision: tuple[str, ...]) -> list[str]:
    """The second prediction in one of these types finds no memory."""
    seen: list[str] = []
    original = guidance.Bound.__call__

    def predict(bound: guidance.Bound, *words: Any) -> torch.Tensor:
        seen.append(bound.how.sampling)
        if bound.how.sampling in precision and len(seen) > 1:
            raise FULL
        return original(bound, *words)

    monkeypatch.setattr(guidance.Bound, "__call__", predict)
    return seen


def test_sampling_goes_on_in_bfloat16(
    piece: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _no_room_for(monkeypatch, ("float32",))
    report = generate(piece, output=tmp_path / "out", weights=random_weights, **FAST)
    assert seen == ["float32", "float32", "bfloat16", "bfloat16"]
    sidecar = report.cases[0].sidecar
    assert sidecar is not None
    assert sidecar.sampling.precision == "bfloat16"
    assert any("memory ran out (sampling): again in bfloat16" in note for note in sidecar.notes)


def test_guided_sampling_goes_on_branch_by_branch_first(
    piece: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _no_room_for(monkeypatch, ("float32",))
    words = {**FAST, "guidance": None}
    report = generate(piece, output=tmp_path / "out", weights=random_weights, **words)
    assert seen == ["float32"] * 3 + ["bfloat16"] * 4, "a step and a batch of both, then each"
    sidecar = report.cases[0].sidecar
    assert sidecar is not None and sidecar.sampling.precision == "bfloat16"


def test_the_next_case_does_not_try_again(
    piece: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _no_room_for(monkeypatch, ("float32",))
    generate(piece, output=tmp_path / "out", weights=random_weights, samples=2, **FAST)
    assert seen == ["float32"] * 2 + ["bfloat16"] * 4


def test_where_nothing_smaller_is_known_it_is_exit_5_and_nothing_is_left(
    piece: Path,
    random_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _no_room_for(monkeypatch, ("float32", "bfloat16"))
    out = tmp_path / "out"
    with pytest.raises(RanOutOfMemory, match="ran out of memory") as refused:
        generate(piece, output=out, weights=random_weights, **FAST)
    assert refused.value.exit_code == 5
    assert _files(tmp_path) == [piece]
    words = ["generate", "--mask", str(piece), "--weights", str(random_weights)]
    words += ["-o", str(out), "--steps", "2", "--device", "cpu", "--json"]
    assert main(words) == 5
    assert json.loads(capsys.readouterr().out)["error"]["minimum"] > 0
    assert _files(tmp_path) == [piece]


def test_the_mask_is_embedded_in_smaller_tiles(
    run: Callable[..., GenerateReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles are exact: the same voxels, to the rounding to whole HU."""
    monkeypatch.setattr(check, "plan_run", _in_large_tiles)
    expected = run().cases[0].volume
    sides: list[int] = []
    original = control.embed

    def embed(*words: Any, tile: int, **more: Any) -> torch.Tensor:
        sides.append(tile)
        if tile > 32:
            raise MemoryError
        return original(*words, tile=tile, **more)

    monkeypatch.setattr(control, "embed", embed)
    report = run("other")
    assert sides == [128, 96, 64, 32]
    assert any("in tiles of 32 voxels" in note for note in report.notes)
    _same(expected, report.cases[0].volume)


def test_decoding_replans_and_gives_the_same_voxels(
    run: Callable[..., GenerateReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run().cases[0].volume
    peaks: list[int] = []
    original = halo._Sweeper.run

    def sweep(sweeper: halo._Sweeper) -> None:
        peaks.append(sweeper.plan.peak_bytes)
        if len(peaks) < 3:
            raise FULL
        original(sweeper)

    monkeypatch.setattr(halo._Sweeper, "run", sweep)
    got = run("other").cases[0].volume
    assert peaks == sorted(set(peaks), reverse=True) and len(peaks) == 3
    _same(expected, got)


def test_decoding_that_never_fits_leaves_nothing(
    run: Callable[..., GenerateReport], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(sweeper: halo._Sweeper) -> None:
        raise FULL

    monkeypatch.setattr(halo._Sweeper, "run", full)
    with pytest.raises(Exception, match="ran out of memory") as refused:
        run()
    assert refused.value.exit_code == 5  # type: ignore[attr-defined]
    assert not _files(tmp_path)


def test_the_first_plan_of_these_tests_is_float32() -> None:
    from synthct.models.maisi.spec import preset

    size = (64, 64, 64)
    plan = plan_run(Job(preset("mini-ct"), fed=size, inner=size, asked=size, steps=1))
    assert plan.execution.sampling == "float32"


def _in_large_tiles(job: Job) -> RunPlan:
    found = plan_run(job)
    return replace(found, execution=replace(found.execution, mask_tile=128))


def _same(one: Any, other: Any) -> None:
    assert one is not None and other is not None
    difference = np.abs(one.array.astype(int) - other.array)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01
