"""MR: percentiles, contrast and skull by the file; then whole heads to weights that generate."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from synthct.checkpoints.load import load_into, read_metadata
from synthct.errors import InputError
from synthct.models.maisi.encode import encode
from synthct.models.maisi.image_task import ImageTask
from synthct.models.maisi.latents import EncodedCase
from synthct.models.maisi.networks import build_autoencoder, build_unet
from synthct.models.maisi.spec import preset
from synthct.volume.manifest import read_manifest
from synthct.workflows.encoding import EncodeRequest, encode_dataset
from synthct.workflows.prepare import PrepareRequest, prepare
from synthct.workflows.train import train

SHAPE = (22, 20, 18)


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([-3.0, 3.0, 3.0, 1.0])), path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mr")
    rng = np.random.default_rng(0)
    for n in range(3):
        head = rng.uniform(0, 30, SHAPE)
        head[4:18, 4:16, :14] += 900 + 300 * rng.random((14, 12, 14))
        _write(folder / "scans" / f"sub{n}" / "t1.nii.gz", head)
    brain = np.zeros(SHAPE)
    brain[7:14, 6:13, 5:12] = 100 + rng.random((7, 7, 7))
    _write(folder / "scans" / "bare" / "bare_T1w.nii.gz", brain)
    (folder / "never.txt").write_text("sub2\n", encoding="utf-8")
    result = prepare(
        PrepareRequest(folder / "scans", folder / "data", excluded=folder / "never.txt")
    )
    assert result.failed == {}
    return folder / "data"


@pytest.fixture(scope="module")
def weights(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder, then a U-Net on its latents."""
    run = tmp_path_factory.mktemp("run")
    train("maisi-vae", data_folder=dataset, output=run, recipe_name="tiny-mr")
    assert encode_dataset(EncodeRequest(dataset, run, mirrored=True)).made == 6
    train("maisi-diffusion", data_folder=dataset, output=run, recipe_name="tiny-mr")
    return run


def test_the_manifest_knows_contrast_skull_and_subject(dataset: Path) -> None:
    rows = read_manifest(dataset / "manifest.tsv")
    assert {
        case: (r.subject, r.split, r.modality, r.contrast, r.skull_stripped)
        for case, r in rows.items()
    } == {
        "bare_bare_T1w": ("bare", "train", "MR", "t1", "yes"),
        "sub0_t1": ("sub0", "train", "MR", "t1", "no"),
        "sub1_t1": ("sub1", "train", "MR", "t1", "no"),
        "sub2_t1": ("sub2", "validation", "MR", "t1", "no"),
    }


def test_the_percentiles_become_0_and_1000(dataset: Path) -> None:
    source = nib.load(dataset.parent / "scans/sub0/t1.nii.gz").get_fdata()
    low, high = source.min(), np.quantile(source, 0.995)
    with np.load(dataset / "images/sub0_t1.npz") as stored:
        image = stored["image"]
    wanted = 1000 * (source[::-1] - low) / (high - low)  # RAS: i runs the other way in the file
    assert np.abs(image - wanted).max() <= 1
    assert image.max() > 1000  # not clipped above


def test_an_image_of_one_value_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "scans/a/t1.nii.gz", np.full(SHAPE, 7.0))
    result = prepare(PrepareRequest(tmp_path / "scans", tmp_path / "data"))
    assert "same value" in result.failed["a_t1"]


def test_latents_hold_mean_and_sigma_of_the_whole_padded_volume(
    dataset: Path, weights: Path
) -> None:
    spec = preset("tiny-mr")
    network = load_into(lambda: build_autoencoder(spec.autoencoder), weights / "vae.safetensors")
    with np.load(dataset / "images/sub0_t1.npz") as stored:
        unit = torch.from_numpy(stored["image"].astype(np.float32))[None, None] / 1000
    unit = torch.nn.functional.pad(unit.clamp_min(0), (0, 2, 0, 0, 0, 2))  # 22, 20, 18 → 24, 20, 20
    with torch.no_grad():
        mean, sigma = network.encode(unit)
    kept = EncodedCase(dataset / "latents/sub0_t1.npz")
    with np.load(kept.path) as stored:
        assert np.abs(stored["mean"] - mean[0].numpy()).max() < 2e-3
        assert np.abs(stored["sigma"] - sigma[0].numpy()).max() < 2e-3
    mirrored = EncodedCase(dataset / "latents/sub0_t1.mirrored.npz")
    unit = unit[:, :, :22].flip(2)
    unit = torch.nn.functional.pad(unit, (0, 0, 0, 0, 0, 2))
    assert (mirrored.mean - encode(network, unit)[0]).abs().max() < 2e-3


def test_sampling_happens_on_load(dataset: Path, weights: Path) -> None:
    case = EncodedCase(dataset / "latents/sub0_t1.npz")
    draws = [case.sample(np.random.default_rng(n)) for n in range(200)]
    with np.load(case.path) as stored:
        sigma = stored["sigma"].astype(np.float32)
    found = torch.stack(draws).std(0)[0].numpy()
    assert np.median(found / sigma) == pytest.approx(1, abs=0.03)


def test_a_second_run_encodes_nothing(dataset: Path, weights: Path) -> None:
    again = encode_dataset(EncodeRequest(dataset, weights, mirrored=True))
    assert (again.made, again.kept) == (0, 6)


def test_latents_of_another_autoencoder_are_refused(
    dataset: Path, weights: Path, tmp_path: Path
) -> None:
    settings = {"seed": "3"}
    train("maisi-vae", data_folder=dataset, output=tmp_path, recipe_name="tiny-mr",
          settings=settings)  # fmt: skip
    with pytest.raises(InputError, match="another autoencoder"):
        train("maisi-diffusion", data_folder=dataset, output=tmp_path, recipe_name="tiny-mr")


def test_the_unet_loads_and_knows_its_scale(dataset: Path, weights: Path) -> None:
    load_into(lambda: build_unet(preset("tiny-mr")), weights / "unet.safetensors")
    factor = float(read_metadata(weights / "unet.safetensors")["scale_factor"])
    means = [EncodedCase(p).mean.flatten() for p in sorted((dataset / "latents").glob("*.npz"))]
    assert factor == pytest.approx(1 / torch.cat(means).std().item(), rel=1e-5)


def test_the_contrast_is_told_and_sometimes_not(dataset: Path, weights: Path) -> None:
    spec = preset("tiny-mr")
    vae = load_into(lambda: build_autoencoder(spec.autoencoder), weights / "vae.safetensors")
    for latents in (dataset / "latents", dataset / "nothing"):
        sha256 = EncodedCase(dataset / "latents/sub0_t1.npz").meta["vae_sha256"]
        task = ImageTask(spec, dataset / "images", latents, vae, sha256, 1.0)
        told = [task.batch(n).conditions.modality_class for n in range(60)]
        codes = [int(code) for code in told if code is not None]
        assert set(codes) == {0, 9, 29}
        assert 0 < codes.count(0) < 20
