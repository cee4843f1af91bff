"""A U-Net that gives what is left of the velocity, by the header of its file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from synthct.checkpoints.load import read_tensors, write_tensors
from synthct.diffusion.rectified_flow import with_linear_share
from synthct.models.load import load_generator
from synthct.models.maisi.sampling import draw_noise, sample
from synthct.models.settings import Sampling

SIDE = 32


def _generator(weights: Path, folder: Path, *, skip: bool):  # type: ignore[no-untyped-def]
    shutil.copytree(weights, folder)
    path = folder / "unet.safetensors"
    tensors = read_tensors(path)
    for key in ("out.2.conv.weight", "out.2.conv.bias"):
        tensors[key] = torch.zeros_like(tensors[key])  # it gives nothing at all
    said = {"scale_factor": "1.0", **({"skip": "true"} if skip else {})}
    write_tensors(path, tensors, said, overwrite=True)
    return load_generator("maisi-mini-ct", folder, torch.device("cpu"))


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("sampler", ["rflow", "ancestral", "heun"])
def test_what_is_left_is_added_to_the_linear_share(
    random_weights: Path, tmp_path: Path, skip: bool, sampler: str
) -> None:
    generator = _generator(random_weights, tmp_path / "own", skip=skip)
    sampling = Sampling(steps=3, seed=5, attempt=0, sampler=sampler)
    found = generator.latent((SIDE,) * 3, None, (3.0, 3.0, 3.0), sampling, ())
    noise = draw_noise(found.shape, sampling)

    def nothing(latent: torch.Tensor, timestep: float) -> torch.Tensor:
        return torch.zeros_like(latent)

    whole = with_linear_share(nothing) if skip else nothing
    expected = sample(whole, noise, sampling, generator.spec.base_numel)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    if not skip and sampler != "ancestral":
        torch.testing.assert_close(found, noise, rtol=0, atol=0)
