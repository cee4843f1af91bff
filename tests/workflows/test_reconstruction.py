"""A scan through an autoencoder and back: as MONAI does it, in its own place, and measured."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from synthct.checkpoints import catalogue
from synthct.cli.main import main
from synthct.errors import DamagedWeights, InputError, MemoryBudgetError, UsageError
from synthct.evaluation.similarity import similarity
from synthct.geometry import Geometry
from synthct.labels.body import body_from_ct
from synthct.models.load import load_autoencoder
from synthct.outputs.latent import read_latent
from synthct.volume.intensity import hu_to_unit
from synthct.volume.nifti import read_nifti, write_volume
from synthct.volume.resample import to_ras
from synthct.volume.volume import Volume
from synthct.workflows.job import RUNTIME_BYTES
from synthct.workflows.reconstruction import Codec, decode, encode, evaluate_reconstruction

SHAPE = (37, 30, 26)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An ellipsoid of a patient, off the middle, lying the other way round (LPS)."""
    i, j, k = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = ((i - 16) / 13) ** 2 + ((j - 16) / 10) ** 2 + ((k - 12) / 30) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 20, SHAPE)
    array = np.where(inside, 40 + noise + 4 * i, -1000).astype(np.float32)
    affine = np.diag([-4.0, -4.0, 5.0, 1.0])
    affine[:3, 3] = (60, 50, -40)
    write_volume(tmp_path / "scan.nii.gz", Volume(array, Geometry(SHAPE, affine)))
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def codec(random_weights: Path) -> Codec:
    return Codec(weights=random_weights, device="cpu")


def _read(path: Path) -> Volume:
    file = read_nifti(path)
    return Volume(file.array.astype(np.float32), file.geometry)


def test_the_latent_is_what_monai_makes_of_the_padded_scan(
    scan: Path, codec: Codec, tmp_path: Path
) -> None:
    made = encode(scan, tmp_path / "latent", codec)
    latent, record = read_latent(Path(made["output"]))
    network = load_autoencoder(codec.model, codec.weights, torch.device("cpu")).network
    unit = hu_to_unit(to_ras(_read(scan)).array)
    image = np.pad(unit, [(0, -n % 4) for n in unit.shape])
    with torch.no_grad():
        mean, _ = network.encode(torch.from_numpy(image)[None, None])
    assert latent.shape == (16, 10, 8, 7)
    relative = np.linalg.norm(latent - mean[0].numpy()) / np.linalg.norm(mean[0].numpy())
    assert relative < 1e-5
    assert record.geometry.same_as(_read(scan).geometry)


def test_it_comes_back_where_it_was(scan: Path, codec: Codec, tmp_path: Path) -> None:
    encode(scan, tmp_path / "latent.npz", codec)
    decode(tmp_path / "latent.npz", tmp_path / "back.nii.gz", codec)
    back = read_nifti(tmp_path / "back.nii.gz")
    assert back.geometry.same_as(_read(scan).geometry)
    assert back.description.startswith("SYNTHETIC synthct")
    latent, _ = read_latent(tmp_path / "latent.npz")
    network = load_autoencoder(codec.model, codec.weights, torch.device("cpu")).network
    with torch.no_grad():
        unit = network.decode(torch.from_numpy(latent)[None])[0, 0, :37, :30, :26].clamp(0, 1)
    expected = unit.numpy()[::-1, ::-1] * 2000 - 1000  # RAS → LPS
    assert np.abs(back.array - expected).max() <= 0.51


def test_the_measure_is_that_of_the_two_files(scan: Path, codec: Codec, tmp_path: Path) -> None:
    result = evaluate_reconstruction([scan], codec, output=tmp_path / "out")
    case = result["cases"][0]
    true, back = to_ras(_read(scan)), to_ras(_read(Path(case["output"])))
    body = body_from_ct(true.array, true.geometry.spacing_mm, 2)
    expected = similarity(back.array, np.clip(true.array, -1000, 1000), body, 2000.0)
    assert case["body"]["psnr_db"] == pytest.approx(expected.psnr_db, abs=0.01)
    assert case["body"]["ssim"] == pytest.approx(expected.ssim, abs=1e-3)
    assert case["body"]["voxels"] == int(body.sum()) < case["whole"]["voxels"]
    assert result["mean"]["psnr_db"] == case["body"]["psnr_db"]
    with pytest.raises(UsageError, match="overwritten"):
        evaluate_reconstruction([scan], codec, output=tmp_path / "out")


class _MeanSquare(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x - y).square().mean(dim=(1, 2, 3))


def test_a_perceptual_distance_is_asked_with_the_slices_of_both(
    scan: Path, codec: Codec, tmp_path: Path
) -> None:
    """With the mean square as the network, in the range of -1 to 1, padding included."""
    torch.jit.script(_MeanSquare()).save(str(tmp_path / "square.ts"))
    result = evaluate_reconstruction(
        [scan], codec, output=tmp_path / "out", lpips=tmp_path / "square.ts"
    )
    case = result["cases"][0]
    ends = (to_ras(_read(path)).array for path in (scan, Path(case["output"])))
    true, back = (np.clip(array, -1000, 1000) / 1000 for array in ends)
    totals, count = 0.0, 0
    for axis in range(3):
        for at in range(2, true.shape[axis], 4):
            apart = np.take(true, at, axis) - np.take(back, at, axis)
            totals += float(np.square(apart).sum()) / 64**2
            count += 1
    assert case["whole"]["lpips"] == pytest.approx(totals / count, rel=0.02)
    assert case["body"]["lpips"] > case["whole"]["lpips"] * 0.5
    assert result["mean"]["lpips"] == case["body"]["lpips"]
    assert result["lpips"]["network"] == "square.ts" and len(result["lpips"]["sha256"]) == 64


def test_a_coarser_spacing_is_asked_for(scan: Path, codec: Codec) -> None:
    case = evaluate_reconstruction([scan], codec, spacing_mm=(8.0, 8.0, 10.0))["cases"][0]
    assert case["spacing_mm"] == pytest.approx([8.0, 8.0, 10.0])
    assert case["shape"] == [19, 15, 13]


def test_memory_is_bounded_and_the_result_the_same(
    scan: Path, codec: Codec, tmp_path: Path
) -> None:
    free = encode(scan, tmp_path / "a", codec)
    bound = Codec(codec.model, codec.weights, "cpu", RUNTIME_BYTES + (40 << 20))
    held = encode(scan, tmp_path / "b", bound)
    one, other = (read_latent(Path(made["output"]))[0] for made in (free, held))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(MemoryBudgetError, match="the program and the weights alone"):
        encode(scan, tmp_path / "c", Codec(codec.model, codec.weights, "cpu", 1 << 20))


def test_a_latent_of_other_weights_is_refused(scan: Path, codec: Codec, tmp_path: Path) -> None:
    encode(scan, tmp_path / "a", codec)
    with pytest.raises(UsageError, match="was encoded with"):
        decode(tmp_path / "a.npz", tmp_path / "a.nii.gz", Codec(device="cpu"))
    assert not (tmp_path / "a.nii.gz").exists()


def test_air_has_no_body(codec: Codec, tmp_path: Path) -> None:
    air = Volume(
        np.full((32, 32, 32), -1000.0, np.float32),
        Geometry.from_spacing((32, 32, 32), (4.0, 4.0, 4.0)),
    )
    write_volume(tmp_path / "air.nii.gz", air)
    with pytest.raises(InputError):
        evaluate_reconstruction([tmp_path / "air.nii.gz"], codec)


def test_only_the_autoencoder_has_to_be_there(scan: Path, codec: Codec, tmp_path: Path) -> None:
    assert codec.weights is not None
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "vae.safetensors").write_bytes((codec.weights / "vae.safetensors").read_bytes())
    encode(scan, tmp_path / "a", Codec(weights=alone, device="cpu"))
    (alone / "vae.safetensors").write_bytes((codec.weights / "unet.safetensors").read_bytes())
    with pytest.raises(DamagedWeights, match="does not fit"):
        encode(scan, tmp_path / "b", Codec(weights=alone, device="cpu"))


def test_models_without_an_image_autoencoder(scan: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no autoencoder of images"):
        encode(scan, tmp_path / "a", Codec(model="maisi-mask-generator", device="cpu"))


@pytest.fixture
def mr_codec(random_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Codec:
    """The narrow networks as if they were of MR."""
    own = catalogue.entry().model_copy(update={"name": "small-mr", "modality": "MR"})
    monkeypatch.setattr(catalogue, "entries", lambda: {"small-mr": own})
    return Codec("small-mr", random_weights, "cpu")


@pytest.mark.parametrize("scale", [1.0, 900.0])
def test_mr_keeps_its_own_units(scale: float, mr_codec: Codec, tmp_path: Path) -> None:
    """1 of the network is the 99.5th percentile; too narrow a range is written as 0 to 1000."""
    i, j, k = np.ogrid[:24, :24, :24]
    inside = (i - 12) ** 2 + (j - 12) ** 2 + (k - 12) ** 2 < 90
    array = np.where(inside, 0.5 + 0.02 * i, 0.0) * scale
    image = nibabel.Nifti1Image(array.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    nibabel.save(image, tmp_path / "mr.nii.gz")
    case = evaluate_reconstruction([tmp_path / "mr.nii.gz"], mr_codec)["cases"][0]
    assert case["body"]["voxels"] == int(inside.sum())
    assert case["body"]["range"] == pytest.approx(np.percentile(array, 99.5), rel=1e-4)
    encode(tmp_path / "mr.nii.gz", tmp_path / "mr", mr_codec)
    made = decode(tmp_path / "mr.npz", tmp_path / "back.nii.gz", mr_codec)
    low, high = made["unit_range"]
    assert low == 0
    assert high == pytest.approx(1000.0 if scale == 1 else case["body"]["range"])
    back = read_nifti(tmp_path / "back.nii.gz").array
    assert back.min() >= 0
    assert len(np.unique(back)) > 20


@pytest.mark.parametrize("name", ["x.nii.gz", "x.NII", "x.mha", "folder"])
def test_a_latent_has_no_name_of_something_else(
    scan: Path, codec: Codec, tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match="no volume"):
        encode(scan, tmp_path / name, codec)
    assert sorted(tmp_path.iterdir()) == before


def test_a_volume_s_name_is_held_against_its_kind_before_any_work(
    codec: Codec, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="not a NIfTI name"):
        decode(tmp_path / "not even there.npz", tmp_path / "back.npz", codec)


def test_the_commands(
    scan: Path, codec: Codec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--weights", str(codec.weights), "--device", "cpu"]
    latent, back = str(tmp_path / "l.npz"), str(tmp_path / "b.nii.gz")
    assert main(["encode", str(scan), "-o", latent, *shared, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [16, 10, 8, 7]
    assert main(["encode", str(scan), "-o", latent, *shared]) == 2
    assert main(["decode", latent, "-o", back, *shared]) == 0
    assert main(["decode", str(scan), "-o", str(tmp_path / "c.nii.gz"), *shared]) == 3
    capsys.readouterr()
    assert main(["evaluate", "reconstruction", str(scan), *shared]) == 0
    assert "dB" in capsys.readouterr().out
