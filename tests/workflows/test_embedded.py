"""The embedded weights on a small phantom: they pass QC, and each network is needed for that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from synthct.checkpoints.load import read_metadata, read_tensors, write_tensors
from synthct.checkpoints.places import embedded_folder
from synthct.workflows.generate import generate
from synthct.workflows.phantom import write_phantom


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mask") / "abdomen.nii.gz"
    write_phantom(path, region="abdomen", spacing_mm=(5.0, 5.0, 5.0), seed=3)
    return path


def test_the_embedded_weights_pass_at_the_first_try(mask: Path, tmp_path: Path) -> None:
    report = generate(mask, output=tmp_path, retries=0)
    assert report.exit_code == 0, report.cases[0].summary.message


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "role", ["controlnet", pytest.param("vae", marks=SLOW), pytest.param("unet", marks=SLOW)]
)
def test_one_random_network_is_enough_to_fail(role: str, mask: Path, tmp_path: Path) -> None:
    """The same command, steps and all, with noise in place of one trained network's weights."""
    weights = tmp_path / "weights"
    shutil.copytree(embedded_folder("maisi-mini-ct"), weights)
    (weights / "SHA256SUMS").unlink()
    path = weights / f"{role}.safetensors"
    noise = torch.Generator().manual_seed(0)
    shuffled = {
        key: value.flatten()[torch.randperm(value.numel(), generator=noise)].reshape(value.shape)
        for key, value in read_tensors(path).items()
    }
    write_tensors(path, shuffled, read_metadata(path), overwrite=True)
    report = generate(mask, output=tmp_path / "out", weights=weights, retries=0)
    assert report.exit_code == 4
