"""Local texture: blurred images differ from sharp ones, a lattice from noise."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from synthct.models.maisi.vae_loss import VaeLoss
from synthct.models.maisi.vae_texture import texture_distance

CELL = 4


def _noise(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + 0.05 * torch.randn(1, 1, 32, 32, 32, generator=generator)


def test_noise_is_as_good_as_other_noise_of_its_strength() -> None:
    same, lattice = texture_distance(_noise(0), _noise(1), CELL)
    assert float(same) < 0.1
    assert float(lattice) < 0.1  # 512 cells: 1 / sqrt(512) by chance


def test_a_blurred_image_is_far_from_its_original() -> None:
    image = _noise(0)
    blurred = functional.avg_pool3d(image, 3, 1, 1, count_include_pad=False)
    weak, _ = texture_distance(blurred, image, CELL)
    strong, _ = texture_distance(image + 0.05 * (_noise(1) - 0.5) / 0.05, image, CELL)
    assert float(weak) > 0.7
    assert 0.2 < float(strong) < 0.5  # sqrt(2) too strong: log 0.35


def test_one_pattern_a_cell_is_a_lattice() -> None:
    tile = 0.05 * torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(2))
    repeated = 0.5 + tile.repeat(8, 8, 8)[None, None]
    _, lattice = texture_distance(repeated, _noise(1), CELL)
    assert float(lattice) > 0.9


def test_flat_images_have_a_finite_gradient() -> None:
    out = torch.full((1, 1, 16, 16, 16), 0.4, requires_grad=True)
    ratio, lattice = texture_distance(out, torch.full_like(out, 0.5), CELL)
    (ratio + lattice).backward()
    assert out.grad is not None and bool(torch.isfinite(out.grad).all())


@pytest.mark.parametrize("window", [0.0, 0.5])
def test_a_gradient_step_brings_texture_back(window: float) -> None:
    loss = VaeLoss(soft_window=window, texture=1.0)
    image = _noise(0)
    out = functional.avg_pool3d(image, 3, 1, 1, count_include_pad=False).requires_grad_()
    before, figures = loss.local_texture(out, image, CELL)
    before.backward()
    assert out.grad is not None and set(figures) == {"texture", "lattice"}
    step = 1e-4 * out.grad / out.grad.abs().mean()
    after, _ = loss.local_texture(out.detach() - step, image, CELL)
    assert float(after) < float(before.detach())
