"""The weights that are shipped: how large they are, and that air does not move the patient's HU."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from synthct.checkpoints.load import load_into
from synthct.checkpoints.places import embedded_folder
from synthct.models.maisi.data import unit_image
from synthct.models.maisi.networks import build_autoencoder
from synthct.models.maisi.spec import preset
from synthct.volume.prepared import conform
from synthct.volume.reading import read_image

AIR_HU = -1000
MIB = 2**20


def test_the_files_stay_small() -> None:
    """16 MiB the largest, 64 MiB together."""
    files = sorted(embedded_folder("maisi-mini-ct").parent.glob("*/*.safetensors"))
    sizes = [path.stat().st_size for path in files]
    assert len(files) >= 6 and max(sizes) < 16 * MIB and sum(sizes) < 64 * MIB


@pytest.mark.parametrize("air", [0, 32, 64])
def test_air_around_the_patient_does_not_move_its_values(shared_data: Path, air: int) -> None:
    """A held-out abdomen between `air` voxels on either side: 0 to two thirds of the volume."""
    image = _abdomen(shared_data)
    padded = np.pad(image, [(air, air), (0, 0), (0, 0)], constant_values=AIR_HU)
    unit = unit_image(torch.from_numpy(padded.astype(np.float32))[None, None])
    with torch.inference_mode():
        mean, _ = _autoencoder().encode(unit)
        back = _autoencoder().decode(mean)
    error_hu = 2000 * (back - unit)[unit > 0.25]
    assert abs(float(error_hu.mean())) < 10


@cache
def _abdomen(shared_data: Path) -> np.ndarray:
    """(64, 64, 32) of 2 x 2 x 5 mm from its middle."""
    array = conform(read_image(shared_data / "ct" / "crlm-ct-1004" / "image.nii.gz")).array
    i, j, k = (n // 2 for n in array.shape)
    return array[i - 32 : i + 32, j - 32 : j + 32, k - 16 : k + 16]


@cache
def _autoencoder() -> torch.nn.Module:
    network = load_into(
        lambda: build_autoencoder(preset("mini-ct").autoencoder),
        embedded_folder("maisi-mini-ct") / "vae.safetensors",
    )
    return network.eval()
