"""The controller of the KL weight, on a one-number autoencoder whose answer is known."""

from __future__ import annotations

import pytest
import torch

from synthct.models.maisi.vae_loss import kl_divergence
from synthct.training.kl_control import KlControl


@pytest.mark.parametrize(("start", "scale"), [(1e-6, 4.0), (1e-1, 0.2)])
def test_the_spread_of_a_toy_latent_ends_in_range(start: float, scale: float) -> None:
    """x ~ N(0, 1), latent gain·x, decoder undoes it up to noise: alone it drifts from unit spread.

    The reconstruction wants a wide latent (its sampling noise of 0.1 then matters less), the KL
    term a narrow one; only a fitting weight balances the two near 1.
    """
    torch.manual_seed(0)
    log_gain = torch.tensor(scale).log().requires_grad_(True)
    control = KlControl(start)
    optimiser = torch.optim.Adam([log_gain], 0.02)
    seen = []
    for _ in range(1500):
        x = torch.randn(1, 1, 8, 8, 8)
        mu = log_gain.exp() * x
        sigma = torch.full_like(mu, 0.1)
        back = (mu + sigma * torch.randn_like(mu)) / log_gain.exp()
        weight = control.observe(mu.detach().std().item())
        loss = (back - x).square().mean() + weight * kl_divergence(mu, sigma)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seen.append(log_gain.exp().item())
    late = torch.tensor(seen[-300:])
    assert late.min() > 0.85 and late.max() < 1.15
    assert 0.9 <= late.mean() <= 1.1


def test_without_it_the_toy_drifts() -> None:
    """The same toy at a fixed small weight ends well outside, so the test above says something."""
    torch.manual_seed(0)
    log_gain = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.Adam([log_gain], 0.02)
    for _ in range(1500):
        x = torch.randn(1, 1, 8, 8, 8)
        mu = log_gain.exp() * x
        sigma = torch.full_like(mu, 0.1)
        back = (mu + sigma * torch.randn_like(mu)) / log_gain.exp()
        loss = (back - x).square().mean() + 1e-5 * kl_divergence(mu, sigma)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert log_gain.exp().item() > 1.5


def test_in_range_nothing_changes() -> None:
    control = KlControl(1e-3)
    for spread in (0.95, 1.0, 1.05):
        assert control.observe(spread) == pytest.approx(1e-3)


def test_its_state_travels() -> None:
    one, other = KlControl(1e-3), KlControl(1e-3)
    one.observe(3.0)
    other.load_state_dict(one.state_dict())
    assert other.observe(2.0) == one.observe(2.0)
