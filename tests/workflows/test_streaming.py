"""A streamed image has the voxels of one that stays in memory, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthct.geometry import Geometry
from synthct.models.maisi import generator
from synthct.volume.resample import to_ras
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows import check
from synthct.workflows.generate import GenerateReport, generate
from synthct.workflows.grid import GridPlan
from synthct.workflows.memory import Job, RunPlan, plan_run
from synthct.workflows.phantom import write_phantom
from synthct.workflows.placement import on_asked_grid

FAST = {"steps": 1, "retries": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On a grid that the embedded model samples on: nothing is resampled."""
    path = tmp_path_factory.mktemp("mask") / "seg.nii.gz"
    write_phantom(path, region="abdomen", spacing_mm=(3.5, 3.5, 3.5), seed=1)
    return path


@pytest.fixture
def run(mask: Path, random_weights: Path, tmp_path: Path) -> Callable[..., GenerateReport]:
    return lambda **words: generate(
        mask, output=tmp_path / "out", weights=random_weights, **FAST, **words
    )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(job: Job) -> RunPlan:
        assert job.streamable
        found = plan_run(job)
        return replace(found, execution=replace(found.execution, streamed=True))

    monkeypatch.setattr(check, "plan_run", plan)


def test_the_same_voxels(
    run: Callable[..., GenerateReport], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = run().cases[0].volume
    _streaming(monkeypatch)
    report = run(overwrite=True)
    streamed = report.cases[0].volume
    assert kept is not None and streamed is not None
    assert isinstance(streamed.array.base, np.memmap)
    assert not isinstance(kept.array, np.memmap)
    np.testing.assert_array_equal(streamed.array, kept.array)
    assert len(np.unique(kept.array)) > 100
    assert {path.suffix for path in _files(tmp_path)} == {".gz", ".json", ".png"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("a bug")], ids=repr)
def test_nothing_is_left_when_it_is_cut_short(
    run: Callable[..., GenerateReport],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: BaseException,
) -> None:
    _streaming(monkeypatch)
    original = generator.decode

    def cut_short(*args: Any, sink: Any, **words: Any) -> None:
        def once(*slab: Any) -> None:
            sink(*slab)
            raise error

        original(*args, sink=once, **words)

    monkeypatch.setattr(generator, "decode", cut_short)
    with pytest.raises(type(error) if isinstance(error, Exception) else KeyboardInterrupt):
        run()
    assert not _files(tmp_path)


def test_a_grid_that_is_resampled_stays_in_memory(
    run: Callable[..., GenerateReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding before resampling would change voxels."""
    jobs: list[Job] = []
    monkeypatch.setattr(check, "plan_run", lambda job: jobs.append(job) or plan_run(job))
    report = run(spacing_mm=(7.0, 7.0, 7.0))
    assert not jobs[0].streamable
    volume = report.cases[0].volume
    assert volume is not None and not isinstance(volume.array.base, np.memmap)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAL", "PIR"])
def test_the_order_of_the_axes_is_seen_not_copied(axes: str) -> None:
    """A volume rounded beforehand comes out as one that is turned and rounded here."""
    rng = np.random.default_rng(0)
    asked = _turned(Geometry.from_spacing((5, 6, 7), (1.0, 2.0, 3.0)), axes)
    hu = rng.uniform(-1000, 1000, asked.as_ras().shape).astype(np.float32)
    written = LabelVolume(rng.integers(0, 2, asked.shape, dtype=np.uint8), asked, "maisi")
    grid = GridPlan(asked, asked.as_ras(), ())
    expected = on_asked_grid(Volume(hu, grid.inner), grid, written)
    rounded = np.rint(hu).astype(np.int16)
    got = on_asked_grid(Volume(rounded, grid.inner), grid, written)
    np.testing.assert_array_equal(got.array, expected.array)
    assert np.shares_memory(got.array, rounded)
    assert to_ras(got).geometry.same_as(grid.inner)


def _turned(geometry: Geometry, axes: str) -> Geometry:
    """The same box, its voxels counted along `axes`."""
    import nibabel as nib

    shape = geometry.shape
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(("R", "A", "S")), nib.orientations.axcodes2ornt(tuple(axes))
    )
    image = nib.Nifti1Image(np.zeros(shape, dtype=np.uint8), geometry.affine).as_reoriented(turn)
    return Geometry(image.shape, image.affine)
