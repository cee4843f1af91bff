"""Noise on a latent: what a right prediction takes off again, in both versions of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from synthct.diffusion import gaussian
from synthct.diffusion.rectified_flow import linear_share
from synthct.models.maisi.objective import error, noised
from synthct.models.maisi.spec import preset


@pytest.mark.parametrize(
    ("name", "skip"), [("ct-rflow", False), ("ct-ddpm", False), ("ct-rflow", True)]
)
@pytest.mark.parametrize("time", [0.0, 0.3, 0.999])
def test_the_right_prediction_gives_the_latent_back(name: str, skip: bool, time: float) -> None:
    torch.manual_seed(0)
    latent = torch.randn(1, 4, 6, 5, 4, dtype=torch.float64)
    drawn = noised(latent, replace(preset(name), skip=skip), torch.tensor([time]))
    assert drawn.timestep.shape == (1,) and 0 <= float(drawn.timestep) <= 1000
    found = drawn.latent(drawn.target)
    torch.testing.assert_close(found.double(), latent, rtol=0, atol=2e-4)
    moved = float((drawn.noisy - latent).norm() / latent.norm())
    assert moved < 0.05 if time == 0 else moved > 0.05


def test_with_a_skip_the_network_learns_what_the_noisy_latent_does_not_tell() -> None:
    """Near noise the latent is asked for, near the latent the noise, never the map it was given."""
    torch.manual_seed(0)
    latent, noise = torch.randn(1, 4, 12, 12, 12), torch.randn(1, 4, 12, 12, 12)
    plain = preset("mini-ct")
    spec = replace(plain, skip=True)
    for time in (0.001, 0.2, 0.7, 0.999):
        drawn, whole = (noised(latent, s, torch.tensor([time]), noise) for s in (spec, plain))
        assert torch.equal(drawn.noisy, whole.noisy)
        together = torch.stack([drawn.target.flatten(), drawn.noisy.flatten()])
        assert abs(float(torch.corrcoef(together)[0, 1])) < 0.05
        found = drawn.target + linear_share(drawn.timestep / 1000) * drawn.noisy
        torch.testing.assert_close(found, whole.target, rtol=0, atol=1e-5)
    torch.testing.assert_close(drawn.target, latent, rtol=0, atol=0.02)


def test_version_one_learns_the_noise_of_monai_s_schedule() -> None:
    from monai.networks.schedulers import DDPMScheduler

    scheduler = DDPMScheduler(
        1000, schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.0195
    )
    latent, noise = torch.randn(1, 4, 3, 3, 3), torch.randn(1, 4, 3, 3, 3)
    drawn = noised(latent, preset("ct-ddpm"), torch.tensor([0.7004]), noise)
    assert float(drawn.timestep) == 700 and torch.equal(drawn.target, noise)
    expected = scheduler.add_noise(latent, noise, torch.tensor([700]))
    torch.testing.assert_close(drawn.noisy, expected)
    back = gaussian.without_noise(expected, noise, torch.tensor([700]))
    torch.testing.assert_close(back, latent, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["ct-rflow", "ct-ddpm"])
def test_everything_is_on_the_latent_s_device(name: str) -> None:
    """`meta` refuses maps of the CPU, as an accelerator does."""
    latent = torch.empty(1, 4, 8, 8, 8, device="meta")
    drawn = noised(latent, preset(name))
    for part in (drawn.noisy, drawn.timestep, drawn.target, drawn.latent(drawn.target)):
        assert part.device == latent.device


def test_time_and_noise_follow_the_seed() -> None:
    latent = torch.zeros(1, 4, 4, 4, 4)
    torch.manual_seed(3)
    first = noised(latent, preset("mini-ct"))
    torch.manual_seed(3)
    again, other = noised(latent, preset("mini-ct")), noised(latent, preset("mini-ct"))
    assert torch.equal(first.noisy, again.noisy) and torch.equal(first.timestep, again.timestep)
    assert not torch.equal(first.noisy, other.noisy)


def test_an_error_is_squared_or_its_size() -> None:
    predicted, target = torch.tensor([1.0, -2.0]), torch.tensor([2.0, 1.0])
    assert error(predicted, target, l1=True).tolist() == [1.0, 3.0]
    assert error(predicted.bfloat16(), target, l1=False).tolist() == [1.0, 9.0]
