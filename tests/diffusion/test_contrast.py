"""The contrastive loss on free predictions: gradient descent may move the masked region only."""

from __future__ import annotations

import pytest
import torch

from synthct.diffusion.contrast import region_contrast


@pytest.fixture
def region() -> torch.Tensor:
    region = torch.zeros(1, 1, 8, 8, 8)
    region[:, :, 2:5, 2:5, 2:5] = 1
    return region


def _descend(told: torch.Tensor, untold: torch.Tensor, region: torch.Tensor) -> float:
    optimiser = torch.optim.SGD([told], 20.0)
    for _ in range(400):
        loss = region_contrast(told, untold, region, margin=1.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def test_only_the_region_moves(region: torch.Tensor) -> None:
    torch.manual_seed(0)
    untold = torch.randn(1, 2, 8, 8, 8)
    inside = region.expand_as(untold).bool()
    told = torch.where(inside, untold + 0.01 * torch.randn_like(untold), untold)
    told = told.clone().requires_grad_(True)
    assert _descend(told, untold, region) < 1e-3
    moved = (told.detach() - untold).abs()
    assert moved[inside].mean() >= 0.99
    assert (moved[~inside] == 0).all()


def test_a_difference_outside_is_taken_back(region: torch.Tensor) -> None:
    untold = torch.zeros(1, 1, 8, 8, 8)
    told = torch.where(region.bool(), 2.0, 0.5).requires_grad_(True)
    loss = region_contrast(told, untold, region, margin=1.0)
    assert loss.item() == pytest.approx(0.5)
    loss.backward()
    assert told.grad is not None
    assert (told.grad[~region.bool()] > 0).all() and (told.grad[region.bool()] == 0).all()


def test_its_value_in_closed_form(region: torch.Tensor) -> None:
    untold = torch.zeros(1, 3, 8, 8, 8)
    told = torch.where(region.bool(), 0.25, 0.0).expand_as(untold)
    assert region_contrast(told, untold, region, margin=1.0).item() == pytest.approx(0.75)


def test_without_a_region_nothing_is_lost() -> None:
    told, untold = torch.randn(2, 1, 1, 4, 4, 4)
    assert region_contrast(told, untold, torch.zeros(1, 1, 4, 4, 4)).item() == 0
