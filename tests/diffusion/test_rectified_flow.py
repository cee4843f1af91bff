"""Rectified flow: exact where the path is straight; the reference's walk is told apart."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import RFlowScheduler

from synthct.diffusion.rectified_flow import RectifiedFlow, sample, velocity
from synthct.diffusion.solvers import Solver


@pytest.mark.parametrize("steps", [1, 3, 30])
@pytest.mark.parametrize("numel", [1000, 32**3, 128**3])
def test_exact_steps_of_a_straight_path_end_at_the_data(steps: int, numel: int) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(1, 2, 3, 4, 5, generator=generator)
    noise = torch.randn(1, 2, 3, 4, 5, generator=generator)
    end = sample(lambda x, t: velocity(data, noise), noise, RectifiedFlow(numel), steps)
    torch.testing.assert_close(end, data, atol=1e-5, rtol=0)


def test_the_reference_steps_overshoot_by_one_percent() -> None:
    _, widths = RectifiedFlow(64**3).reference_times(30)
    assert float(widths.sum()) == pytest.approx(1.0096, abs=2e-4)  # MAISI.md section 2


def test_reference_times_are_those_of_monai() -> None:
    latent = (64, 64, 32)
    numel = 64 * 64 * 32
    scheduler = RFlowScheduler(
        num_train_timesteps=1000,
        use_discrete_timesteps=False,
        use_timestep_transform=True,
        sample_method="uniform",
        scale=1.4,
    )
    scheduler.set_timesteps(30, input_img_size_numel=torch.prod(torch.tensor(latent)))
    ours, _ = RectifiedFlow(numel).reference_times(30)
    theirs = torch.as_tensor(scheduler.timesteps, dtype=torch.float64)
    assert torch.equal(ours, theirs)


def test_reference_walk_is_that_of_monai() -> None:
    numel = 24**3
    scheduler = RFlowScheduler(
        num_train_timesteps=1000, use_discrete_timesteps=False, use_timestep_transform=True
    )
    scheduler.set_timesteps(10, input_img_size_numel=torch.tensor(numel))
    start = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    theirs = start
    following = [*scheduler.timesteps[1:], torch.tensor(0)]
    for now, after in zip(scheduler.timesteps, following, strict=True):
        theirs, _ = scheduler.step(torch.sin(theirs), now, theirs, after)
    ours = sample(lambda x, t: torch.sin(x), start, RectifiedFlow(numel), 10, reference=True)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_euler_steps_converge_with_first_order() -> None:
    flow = RectifiedFlow(32**3)  # no shift: dx/ds = -x from s = 0 to 1
    start = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    exact = torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    errors = [abs(float(sample(lambda x, t: -x, start, flow, steps) - exact)) for steps in (20, 40)]
    assert 1.8 < errors[0] / errors[1] < 2.2


def test_noise_and_data_are_the_ends_of_the_path() -> None:
    flow = RectifiedFlow(1000)
    data, noise = torch.randn(2, 1, 2, 2, 2), torch.randn(2, 1, 2, 2, 2)
    torch.testing.assert_close(flow.add_noise(data, noise, torch.zeros(2)), data)
    torch.testing.assert_close(flow.add_noise(data, noise, torch.ones(2)), noise)


def test_large_volumes_spend_more_steps_near_noise() -> None:
    small, large = RectifiedFlow(32**3).times(10), RectifiedFlow(128**3).times(10)
    assert large[5] > small[5]
    assert large[0] == 1 and large[-1] == 0


@pytest.mark.parametrize("solver", ["heun", "midpoint", "adams"])
def test_second_order_solvers_converge_with_second_order(solver: Solver) -> None:
    flow = RectifiedFlow(48**3)  # with the shift: steps of varying width
    start = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    exact = torch.exp(torch.tensor(-1.0, dtype=torch.float64))

    def error(steps: int) -> float:
        end = sample(lambda x, t: -x * (1 + 0 * t), start, flow, steps, solver=solver)
        return abs(float(end - exact))

    assert 3.5 < error(20) / error(40) < 4.6
    assert error(20) < 0.1 * abs(float(sample(lambda x, t: -x, start, flow, 20) - exact))


@pytest.mark.parametrize(("solver", "calls"), [("euler", 1), ("adams", 1), ("heun", 2)])
def test_predictions_a_step(solver: Solver, calls: int) -> None:
    seen: list[float] = []

    def denoise(latent: torch.Tensor, timestep: float) -> torch.Tensor:
        seen.append(timestep)
        return latent

    sample(denoise, torch.ones(1), RectifiedFlow(1000), 5, solver=solver)
    assert len(seen) == 5 * calls
