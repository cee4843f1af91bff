"""`generate` from mask to files, with untrained weights: all but the quality of the image."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthct.errors import GridError, InputError, MaskError, UsageError, WeightsError
from synthct.volume.nifti import write_labels
from synthct.volume.reading import read_labels
from synthct.workflows.generate import GenerateReport, generate
from synthct.workflows.inspect import inspect

FAST = {"steps": 1, "retries": 0}


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, small_mask: Path, random_weights: Path
) -> tuple[GenerateReport, Path]:
    """One run of two samples and its folder."""
    folder = tmp_path_factory.mktemp("out")
    report = generate(small_mask, output=folder, weights=random_weights, samples=2, seed=4, **FAST)
    return report, folder


def test_random_weights_fail_qc(run: tuple[GenerateReport, Path]) -> None:
    """The image comes from the networks alone: untrained ones cannot pass."""
    report, folder = run
    assert report.exit_code == 4
    assert [case.summary.status for case in report.cases] == ["rejected", "rejected"]
    assert not list(folder.glob("*_ct.nii.gz"))


def test_files_and_names(run: tuple[GenerateReport, Path]) -> None:
    _, folder = run
    assert sorted(path.name for path in folder.iterdir()) == ["rejected", "run.json"]
    names = {path.name for path in (folder / "rejected").iterdir()}
    assert names == {
        f"seg_seed-{seed}{ending}"
        for seed in (4, 5)
        for ending in ("_ct.nii.gz", "_dseg.nii.gz", ".json", "_preview.png")
    }


def test_image_and_label_share_the_masks_grid(
    run: tuple[GenerateReport, Path], small_mask: Path
) -> None:
    _, folder = run
    image = nib.load(folder / "rejected" / "seg_seed-4_ct.nii.gz")
    labels = nib.load(folder / "rejected" / "seg_seed-4_dseg.nii.gz")
    mask = nib.load(small_mask)
    assert image.shape == labels.shape == mask.shape
    np.testing.assert_allclose(image.affine, mask.affine, atol=1e-4)
    np.testing.assert_allclose(labels.affine, mask.affine, atol=1e-4)
    assert image.get_data_dtype() == np.int16
    assert labels.get_data_dtype() == np.uint8
    assert bytes(image.header["descrip"]).startswith(b"SYNTHETIC")
    hu = np.asarray(image.dataobj)
    assert (hu[np.asarray(labels.dataobj) == 0] == -1000).all()
    assert hu.min() >= -1000 and hu.max() <= 1000


def test_two_seeds_differ_and_one_repeats(
    run: tuple[GenerateReport, Path], small_mask: Path, random_weights: Path, tmp_path: Path
) -> None:
    report, _ = run
    again = generate(small_mask, output=tmp_path, weights=random_weights, seed=5, **FAST)
    first, second = (case.volume for case in report.cases)
    repeated = again.cases[0].volume
    assert first is not None and second is not None and repeated is not None
    assert not np.array_equal(first.array, second.array)
    np.testing.assert_array_equal(second.array, repeated.array)


def test_the_sidecar_tells_everything(run: tuple[GenerateReport, Path]) -> None:
    _, folder = run
    sidecar = json.loads((folder / "rejected" / "seg_seed-4.json").read_text(encoding="utf-8"))
    assert sidecar["synthetic"] is True
    assert sidecar["sampling"]["seed"] == 4
    assert sidecar["sampling"]["steps"] == 1
    assert sidecar["model"]["name"] == "maisi-mini-ct"
    assert set(sidecar["model"]["weights_sha256"]) == {"vae", "unet", "controlnet"}
    assert sidecar["grid"]["resampled"] is True  # 8 mm asked, 5 mm at most in the network
    assert sidecar["qc"]["passed"] is False
    found = inspect(folder / "rejected" / "seg_seed-4_ct.nii.gz")
    assert found["synthetic"] is True


def test_nothing_is_overwritten_and_resume_does_what_is_missing(
    small_mask: Path, random_weights: Path, tmp_path: Path
) -> None:
    words = {"output": tmp_path, "weights": random_weights, **FAST}
    generate(small_mask, **words)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
    with pytest.raises(UsageError, match="exists"):
        generate(small_mask, **words)
    report = generate(small_mask, resume=True, samples=2, **words)
    assert [case.summary.status for case in report.cases] == ["kept", "rejected"]
    assert report.exit_code == 4
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    with pytest.raises(UsageError, match="another request"):
        generate(small_mask, resume=True, **{**words, "steps": 2})


def test_labels_in_the_ids_that_came_in(
    small_mask: Path, random_weights: Path, tmp_path: Path
) -> None:
    from synthct.workflows.mask import convert

    own = tmp_path / "ts.nii.gz"
    convert(small_mask, own, to="totalsegmentator")
    generate(own, output=tmp_path, weights=random_weights, label_out="input", **FAST)
    written = read_labels(tmp_path / "rejected" / "ts_seed-0_dseg.nii.gz").labels
    assert set(written.ids()) <= set(read_labels(own).labels.ids())
    assert written.names[5] == "liver"


def test_a_field_of_view_without_a_mask(random_weights: Path, tmp_path: Path) -> None:
    report = generate(
        output=tmp_path,
        weights=random_weights,
        region=("chest", "abdomen"),
        size=(32, 32, 32),
        spacing_mm=(5.0, 5.0, 5.0),
        **FAST,
    )
    volume = report.cases[0].volume
    assert volume is not None and volume.array.shape == (32, 32, 32)
    assert volume.geometry.extent_mm == pytest.approx((160, 160, 160))
    assert report.cases[0].names.stem == "maisi-mini-ct"
    labels = report.cases[0].labels
    assert labels is not None and {1, 28, 200} <= set(labels.ids())  # liver, lung, body: drawn
    assert any("chest-abdomen phantom of seed 0" in note for note in report.notes)


def test_regions_that_no_phantom_shows_together(random_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no phantom shows these together"):
        generate(
            output=tmp_path,
            weights=random_weights,
            region=("head", "pelvis"),
            size=(32, 32, 32),
            spacing_mm=(5.0, 5.0, 5.0),
        )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"device": "cuda:77"}, UsageError),
        ({"model": "no-such-model"}, UsageError),
        ({"labels": "no-such-scheme"}, UsageError),
        ({"spacing_mm": (0.0, 1.0, 1.0)}, UsageError),
        ({"weights": Path("nowhere")}, WeightsError),
        ({"mask": Path("nowhere.nii.gz")}, InputError),
        ({"seed": -1}, UsageError),
        ({"device": "tpu"}, UsageError),
        ({"spacing_mm": (float("inf"), 1.0, 1.0)}, UsageError),
        ({"spacing_mm": (0.001, 1.0, 1.0)}, GridError),
        ({"sampler": "ddim"}, UsageError),
        ({"norms": Path("nowhere.toml")}, InputError),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    words: dict[str, object],
    error: type[Exception],
    small_mask: Path,
    random_weights: Path,
    tmp_path: Path,
) -> None:
    asked = {"mask": small_mask, "weights": random_weights, "output": tmp_path / "out", **words}
    with pytest.raises(error):
        generate(**asked, **FAST)  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_a_field_of_view_out_of_range(random_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(GridError, match="field of view outside"):
        generate(
            output=tmp_path,
            weights=random_weights,
            size=(400, 400, 400),
            spacing_mm=(5.0, 5.0, 5.0),
            region=("chest",),
        )


def test_ids_that_nobody_knows(small_mask: Path, random_weights: Path, tmp_path: Path) -> None:
    labels = read_labels(small_mask).labels
    array = labels.array.copy()
    array[array == 1] = 199
    strange = tmp_path / "strange.nii.gz"
    write_labels(strange, labels.with_array(array), {})
    with pytest.raises(MaskError, match="199"):
        generate(strange, output=tmp_path, weights=random_weights, labels="maisi", **FAST)


def test_kill_in_the_middle_leaves_no_final_name(
    small_mask: Path, random_weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "synthct", "generate", "--mask", str(small_mask)]
    command += ["--weights", str(random_weights), "-o", str(out), "--steps", "500"]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ
    )
    began = time.monotonic()
    while not out.exists() and time.monotonic() - began < 60:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert out.exists()
    assert not [path for path in out.rglob("*") if path.is_file()]
