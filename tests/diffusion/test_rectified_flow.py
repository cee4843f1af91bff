"""Rectified flow: exact where the path is straight; the reference's walk is told apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.networks.schedulers import RFlowScheduler

from synthct.diffusion.denoiser import Denoiser
from synthct.diffusion.rectified_flow import (
    RectifiedFlow,
    linear_share,
    sample,
    sample_ancestral,
    velocity,
    with_linear_share,
)
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


def _fresh(shape: tuple[int, ...]) -> Callable[[int], torch.Tensor]:
    return lambda step: torch.randn(shape, generator=torch.Generator().manual_seed(100 + step))


def _gaussian(mean: float, deviation: float, error: float = 0.0) -> Denoiser:
    """The right velocity for data of this distribution; `error`: off by so much, by the noise."""

    def predict(latent: torch.Tensor, timestep: float) -> torch.Tensor:
        t = timestep / 1000
        variance = (1 - t) ** 2 * deviation**2 + t**2
        beyond = latent - (1 - t) * mean
        data = mean + (1 - t) * deviation**2 / variance * beyond
        noise = t / variance * beyond
        return velocity(data, noise) + error * torch.sin(noise)

    return predict


def test_ancestral_steps_end_at_the_data_where_the_path_is_known() -> None:
    data = torch.randn(1, 2, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    noise = _fresh(data.shape)(-1)

    def predict(latent: torch.Tensor, timestep: float) -> torch.Tensor:
        return (data - latent) / max(timestep / 1000, 1e-6)

    end = sample_ancestral(predict, noise, RectifiedFlow(1000), 10, fresh=_fresh(data.shape))
    torch.testing.assert_close(end, data, atol=1e-4, rtol=0)


def test_ancestral_samples_have_the_distribution_of_the_data() -> None:
    shape = (1, 1, 32, 32, 32)
    end = sample_ancestral(
        _gaussian(2.0, 0.5), _fresh(shape)(-1), RectifiedFlow(32**3), 200, fresh=_fresh(shape)
    )
    assert float(end.mean()) == pytest.approx(2.0, abs=0.01)
    assert float(end.std()) == pytest.approx(0.5, rel=0.03)


def test_ancestral_steps_cancel_what_a_network_gets_wrong() -> None:
    """Along Euler's path an error that hangs on the noise is the same in every step."""
    shape = (1, 1, 32, 32, 32)
    wrong, schedule = _gaussian(0.0, 0.02, error=0.3), RectifiedFlow(32**3)
    euler = sample(wrong, _fresh(shape)(-1), schedule, 50)
    ancestral = sample_ancestral(wrong, _fresh(shape)(-1), schedule, 50, fresh=_fresh(shape))
    assert float(ancestral.std()) < 0.75 * float(euler.std())


def test_the_last_ancestral_step_adds_no_noise() -> None:
    shape, drawn = (1, 1, 4, 4, 4), list[int]()

    def fresh(step: int) -> torch.Tensor:
        drawn.append(step)
        return _fresh(shape)(step)

    sample_ancestral(_gaussian(0.0, 1.0), _fresh(shape)(-1), RectifiedFlow(64), 5, fresh=fresh)
    assert drawn == [0, 1, 2, 3]


def test_the_linear_share_alone_is_the_flow_of_white_data() -> None:
    """Noise of variance 1 becomes data of variance 1, though the network gives nothing."""
    noise = _fresh((1, 1, 24, 24, 24))(-1)
    flow = with_linear_share(lambda latent, timestep: torch.zeros_like(latent))
    end = sample(flow, noise, RectifiedFlow(24**3), 400)
    assert float(end.std()) == pytest.approx(float(noise.std()), rel=0.01)
    assert float(sample(flow, noise, RectifiedFlow(24**3), 1).std()) < 0.01  # one step: the mean


def test_the_linear_share_is_what_regression_finds() -> None:
    generator = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(200_000, generator=generator) for _ in range(2))
    for t in (0.0, 0.2, 0.5, 0.9, 1.0):
        latent = (1 - t) * data + t * noise
        slope = float((latent * velocity(data, noise)).mean() / latent.square().mean())
        assert float(linear_share(torch.tensor(t))) == pytest.approx(slope, abs=0.01)
