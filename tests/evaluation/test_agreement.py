"""Mask agreement: thresholds, organs, Dice against balls, segmenters end to end."""

from __future__ import annotations

import json
import os
import stat
import sys
from math import isnan, pi
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from synthct.errors import InputError, UsageError
from synthct.evaluation.agreement import dice, organs, thresholds
from synthct.evaluation.agreement_metric import AgreementMetric
from synthct.evaluation.agreement_organs import scored
from synthct.evaluation.case import Case
from synthct.evaluation.metric import Study
from synthct.evaluation.segmenters import load_segmenter
from synthct.geometry import Geometry
from synthct.volume.nifti import write_labels, write_volume
from synthct.volume.volume import LabelVolume, Volume
from synthct.workflows.progress import SilentProgress

Array = npt.NDArray[Any]
SHAPE = (40, 36, 32)
SPACING = (2.0, 2.0, 2.0)
GRID = Geometry.from_spacing(SHAPE, SPACING)
LIVER, SPLEEN = 1, 3


def ball(centre: tuple[float, float, float], radius_mm: float) -> Array:
    i, j, k = np.indices(SHAPE)
    away = [2.0 * (n - c) for n, c in zip((i, j, k), centre, strict=True)]
    return np.sqrt(sum(a**2 for a in away)) <= radius_mm


def patient() -> tuple[Array, Array]:
    """A box of body with a liver of 100 HU, a spleen of 60, a lung and a bone."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:36, 4:32] = 200
    labels[ball((13, 18, 16), 14)] = LIVER
    labels[ball((27, 18, 16), 8)] = SPLEEN
    labels[6:10, 6:14, 4:28] = 28
    labels[30:34, 6:10, 4:28] = 33
    hu = np.full(SHAPE, -1000.0, np.float32)
    for label, value in ((200, 20), (LIVER, 100), (SPLEEN, 60), (28, -800), (33, 400)):
        hu[labels == label] = value
    return hu, labels


# ── thresholds ────────────────────────────────────────────────────────────────────────────────


def test_a_perfect_image_agrees() -> None:
    found = thresholds(*patient(), SPACING)
    assert found["lung_under_-400"] == 1.0
    assert found["solid_under_-400"] == 0.0
    assert found["bone_dice"] == 1.0
    assert found["air_dice"] == 1.0
    assert found["body_dice"] > 0.95


def test_half_a_lung_of_soft_tissue_is_half() -> None:
    hu, labels = patient()
    lung = np.argwhere(labels == 28)
    half = lung[lung[:, 2] < 16]
    hu[tuple(half.T)] = 0
    found = thresholds(hu, labels, SPACING)
    assert found["lung_under_-400"] == pytest.approx(0.5)
    assert found["air_dice"] == pytest.approx(2 / 3)


def test_gas_in_bone_is_seen() -> None:
    hu, labels = patient()
    hu[labels == 33] = -900
    found = thresholds(hu, labels, SPACING)
    assert found["bone_dice"] == 0.0
    solid = np.isin(labels, (33, LIVER, SPLEEN)).sum()
    assert found["solid_under_-400"] == pytest.approx((labels == 33).sum() / solid)


def test_what_is_not_in_view_is_not_a_number() -> None:
    found = thresholds(np.zeros(SHAPE), np.full(SHAPE, LIVER), SPACING)
    assert isnan(found["lung_under_-400"])
    assert isnan(found["air_dice"])
    assert isnan(dice(np.zeros(3, bool), np.zeros(3, bool)))


def test_organs_have_median_spread_and_volume() -> None:
    hu, labels = patient()
    rng = np.random.default_rng(0)
    hu = hu + rng.normal(0, 12, SHAPE)
    hu[labels == LIVER][:10] = 3000  # metal moves neither
    by_id = {organ.label: organ for organ in organs(hu, labels, SPACING)}
    assert set(by_id) == {LIVER, SPLEEN, 28, 33}
    assert by_id[LIVER].median_hu == pytest.approx(100, abs=1)
    assert by_id[LIVER].spread_hu == pytest.approx(12, rel=0.1)
    assert by_id[LIVER].volume_ml == pytest.approx(4 / 3 * pi * 14**3 / 1000, rel=0.05)


# ── organs, segmented again ───────────────────────────────────────────────────────────────────


def test_dice_and_surface_dice_of_two_balls() -> None:
    mask = ball((20, 18, 16), 12).astype(np.uint8)
    found = ball((20, 18, 16), 8).astype(np.uint8)
    (score,), extra = scored(found, mask, {1}, SPACING)
    volumes = found.sum(), mask.sum()
    assert score.dice == pytest.approx(2 * volumes[0] / sum(volumes), rel=1e-6)
    assert score.dice == pytest.approx(2 * 8**3 / (8**3 + 12**3), rel=0.05)
    assert score.surface_dice < 0.1  # the surfaces lie 4 mm apart, 3 are tolerated
    (near,), _ = scored(ball((20, 18, 16), 10).astype(np.uint8), mask, {1}, SPACING)
    assert near.surface_dice == pytest.approx(1.0)
    assert (score.mask_ml, score.found_ml) == pytest.approx(
        (volumes[1] * 0.008, volumes[0] * 0.008)
    )
    assert extra == ()


def test_who_is_scored() -> None:
    mask = np.where(ball((20, 18, 16), 8), LIVER, 200).astype(np.uint8)
    found = np.where(ball((20, 18, 16), 5), SPLEEN, 0).astype(np.uint8)
    scores, extra = scored(found, mask, {LIVER, SPLEEN, 4}, SPACING)
    assert [(s.label, s.dice, s.surface_dice) for s in scores] == [(LIVER, 0.0, 0.0)]
    assert extra == (SPLEEN,)
    assert scored(found, mask, {4}, SPACING) == ([], ())


# ── segmenters ────────────────────────────────────────────────────────────────────────────────


class ByBrightness(torch.nn.Module):
    """Liver over 80 HU, spleen from 40 to 80, of a window −1000..1000."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hu = 2000.0 * x - 1000.0
        liver = ((hu > 80) & (hu < 200)).float()
        spleen = ((hu > 40) & (hu <= 80)).float()
        return torch.cat([0.5 + 0.0 * hu, liver, spleen], dim=1)


@pytest.fixture()
def script(tmp_path: Path) -> Path:
    path = tmp_path / "bright.pt"
    torch.jit.script(ByBrightness()).save(str(path))
    settings = {"labels": {"1": "liver", "2": "spleen"}, "spacing_mm": [2, 2, 2], "roi": [32] * 3}
    path.with_suffix(".json").write_text(json.dumps(settings), encoding="utf-8")
    return path


def test_a_torchscript_file_segments(script: Path) -> None:
    hu, labels = patient()
    segmenter = load_segmenter(str(script))
    found = segmenter.run(Volume(hu, GRID)).array
    assert segmenter.known == {LIVER, SPLEEN}
    assert len(segmenter.sha256) == 64
    assert np.array_equal(found == LIVER, labels == LIVER)
    assert np.array_equal(found == SPLEEN, labels == SPLEEN)


def test_on_its_own_spacing(script: Path) -> None:
    """The network sees 3 mm; the answer is on the volume's grid again."""
    hu, labels = patient()
    settings = json.loads(script.with_suffix(".json").read_text(encoding="utf-8")) | {
        "spacing_mm": [3, 3, 3]
    }
    script.with_suffix(".json").write_text(json.dumps(settings), encoding="utf-8")
    found = load_segmenter(str(script)).run(Volume(hu, GRID)).array
    assert found.shape == SHAPE
    assert dice(found == LIVER, labels == LIVER) > 0.8


FAKE = """#!{python}
import sys
import nibabel as nib, numpy as np
image = nib.load(sys.argv[sys.argv.index("-i") + 1])
assert "--ml" in sys.argv
hu = image.get_fdata()
labels = np.where((hu > 80) & (hu < 200), 5, np.where((hu > 40) & (hu <= 80), 1, 0))
nib.save(nib.Nifti1Image(labels.astype(np.uint8), image.affine), sys.argv[sys.argv.index("-o") + 1])
"""


def _command(folder: Path, text: str) -> None:
    path = folder / "TotalSegmentator"
    path.write_text(text.format(python=sys.executable), encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_totalsegmentator_is_called_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the command: liver is 5 and spleen 1 in its scheme."""
    _command(tmp_path, FAKE)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    hu, labels = patient()
    found = load_segmenter("totalsegmentator").run(Volume(hu, GRID)).array
    assert np.array_equal(found == LIVER, labels == LIVER)
    assert np.array_equal(found == SPLEEN, labels == SPLEEN)


def test_a_command_that_fails_or_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="not installed"):
        load_segmenter("totalsegmentator")
    _command(tmp_path, "#!/bin/sh\necho no licence >&2\nexit 3\n")
    with pytest.raises(InputError, match=r"exit 3.*no licence"):
        load_segmenter("totalsegmentator").run(Volume(patient()[0], GRID))


def test_what_is_no_segmenter(tmp_path: Path, script: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_segmenter("nobody")
    script.with_suffix(".json").write_text('{"labels": {"1": "hat"}}', encoding="utf-8")
    with pytest.raises(InputError, match="none of its labels"):
        load_segmenter(str(script))
    script.with_suffix(".json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="no readable labels"):
        load_segmenter(str(script))
    script.with_suffix(".json").unlink()
    with pytest.raises(InputError, match="is missing beside it"):
        load_segmenter(str(script))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no MONAI bundle"):
        load_segmenter(f"monai-bundle:{tmp_path / 'empty'}")


def _bundle(folder: Path) -> Path:
    """A bundle whose network is one convolution: liver where it is brighter than 80 HU."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = {
        "network_def": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2,
                        "kernel_size": 1},
        "preprocessing": {"_target_": "Compose", "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [2, 2, 2], "mode": "bilinear"},
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1000, "a_max": 1000,
             "b_min": 0, "b_max": 1, "clip": True},
        ]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32]},
    }  # fmt: skip
    (folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    outputs = {"pred": {"channel_def": {"0": "background", "1": "liver"}}}
    meta = {"network_data_format": {"outputs": outputs}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(meta), encoding="utf-8")
    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1, 1)
        network.bias[:] = torch.tensor([0.54, 0.0])  # 80 HU in −1000..1000
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


def test_a_monai_bundle_segments(tmp_path: Path) -> None:
    hu, labels = patient()
    segmenter = load_segmenter(f"monai-bundle:{_bundle(tmp_path / 'bundle')}")
    found = segmenter.run(Volume(hu, GRID)).array
    assert segmenter.known == {LIVER}
    assert np.array_equal(found == LIVER, np.isin(labels, (LIVER, 33)))


# ── the metric ────────────────────────────────────────────────────────────────────────────────


def _case(folder: Path, name: str, role: str, hu: Array, labels: Array) -> Case:
    image, mask = folder / f"{role}-{name}.nii.gz", folder / f"{role}-{name}_dseg.nii.gz"
    write_volume(image, Volume(hu, GRID))
    write_labels(mask, LabelVolume(labels, GRID, scheme="maisi"), {})
    return Case(name, image, mask, role=role, scheme="maisi")  # type: ignore[arg-type]


def test_a_study_with_a_segmenter_and_its_ceiling(tmp_path: Path, script: Path) -> None:
    hu, labels = patient()
    worse = hu.copy()
    worse[(labels == LIVER) & (np.indices(SHAPE)[2] > 16)] = 20  # half the liver is not drawn
    real = tuple(_case(tmp_path, f"r{n}", "real", hu + n, labels) for n in range(3))
    synthetic = (
        _case(tmp_path, "good", "synthetic", hu, labels),
        _case(tmp_path, "bad", "synthetic", worse, labels),
    )
    result = AgreementMetric(str(script)).measure(Study(real, synthetic), SilentProgress())
    numbers = {number.name: number for number in result.numbers}
    assert numbers["real/liver/dice"].value == pytest.approx(1.0)
    half = (labels == LIVER)[:, :, :17].sum()
    expected = 2 * half / (half + (labels == LIVER).sum())
    assert numbers["synthetic/liver/dice"].value == pytest.approx((1 + expected) / 2, rel=1e-3)
    assert numbers["synthetic/liver/dice"].conditions.extractor == "bright.pt"
    assert numbers["synthetic/spleen/median_hu"].value == 60
    assert numbers["real/spleen/median_hu"].value == 61
    assert numbers["synthetic/lung_under_-400"].value == 1.0
    worst = max((r for r in result.rows if r.group), key=lambda r: r.badness or 0.0)
    assert (worst.case, worst.group) == ("bad", "liver")
    assert {"median_hu", "volume_ml", "dice"} <= set(worst.values)


def test_a_callable_is_a_segmenter(tmp_path: Path) -> None:
    hu, labels = patient()

    def perfect(volume: Volume) -> LabelVolume:
        return LabelVolume(labels, volume.geometry, scheme="maisi")

    study = Study((), (_case(tmp_path, "one", "synthetic", hu, labels),))
    result = AgreementMetric(perfect).measure(study, SilentProgress())
    scores = [n.value for n in result.numbers if n.name.endswith("surface_dice")]
    assert scores == [1.0] * 4
    assert any("no ceiling" in line for line in result.warnings)
