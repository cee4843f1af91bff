"""The opponent: its losses against closed forms, and that it learns to tell images apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from synthct.training.adversary import Adversary, feature_distance, held


@pytest.fixture
def adversary() -> Adversary:
    torch.manual_seed(0)
    return Adversary(in_channels=1, channels=4)


def test_the_log_loss_is_binary_cross_entropy(adversary: Adversary) -> None:
    real = adversary.judge(torch.rand(1, 1, 24, 24, 24))
    made = adversary.judge(torch.rand(1, 1, 24, 24, 24))
    own = 0.5 * (functional.softplus(-real[-1]).mean() + functional.softplus(made[-1]).mean())
    assert adversary.errors(real, made).item() == pytest.approx(own.item(), rel=1e-5)
    assert adversary.fooled(made).item() == pytest.approx(
        functional.softplus(-made[-1]).mean().item(), rel=1e-5
    )


def test_it_learns_what_is_sharp(adversary: Adversary) -> None:
    """Noise against the same noise blurred: after some steps it errs less than a coin."""
    torch.manual_seed(1)
    optimiser = torch.optim.Adam(adversary.parameters(), 2e-3)
    for _ in range(30):
        real = torch.rand(1, 1, 24, 24, 24)
        made = functional.avg_pool3d(real, 3, stride=1, padding=1)
        loss = adversary.errors(adversary.judge(real), adversary.judge(made))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5 * math.log(2)


def test_features_are_near_where_images_are(adversary: Adversary) -> None:
    image = torch.rand(1, 1, 24, 24, 24)
    judged = adversary.judge(image)
    assert feature_distance(judged, judged).item() == 0
    little = feature_distance(adversary.judge(image + 0.01 * torch.randn_like(image)), judged)
    much = feature_distance(adversary.judge(torch.rand_like(image)), judged)
    assert 0 < little < 0.5 * much


def test_held_lets_gradients_through_but_not_in(adversary: Adversary) -> None:
    image = torch.rand(1, 1, 24, 24, 24, requires_grad=True)
    with held(adversary):
        adversary.fooled(adversary.judge(image)).backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(p.grad is None for p in adversary.parameters())
    assert all(p.requires_grad for p in adversary.parameters())


def test_small_crops_are_judged_too(adversary: Adversary) -> None:
    assert adversary.judge(torch.rand(1, 1, 8, 16, 12))[-1].numel() > 0
