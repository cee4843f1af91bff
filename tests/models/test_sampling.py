"""Noise that depends on seed, attempt and step alone, and the walk that draws it anew."""

from __future__ import annotations

from dataclasses import replace

import torch

from synthct.models.maisi.sampling import draw_noise, sample
from synthct.models.settings import Sampling

HOW = Sampling(seed=3, attempt=0, steps=4, sampler="ancestral")


def test_the_noise_of_a_step_is_that_of_no_other() -> None:
    """NumPy takes [3, 0, 0] for [3, 0]: a step must not get the noise that the walk began with."""
    shape = (1, 1, 4, 4, 4)
    drawn = [draw_noise(shape, HOW, step) for step in (None, 0, 1, 2)]
    assert len({float(noise.sum()) for noise in drawn}) == 4
    assert torch.equal(draw_noise(shape, HOW, 0), drawn[1])
    assert not torch.equal(draw_noise(shape, replace(HOW, attempt=1), 0), drawn[1])
    assert not torch.equal(draw_noise(shape, replace(HOW, seed=4), 0), drawn[1])


def test_an_ancestral_walk_repeats_and_is_another_than_euler_s() -> None:
    noise, told = draw_noise((1, 1, 4, 4, 4), HOW), list[int]()

    def denoiser(latent: torch.Tensor, timestep: float) -> torch.Tensor:
        return -latent.tanh()

    def walk(how: Sampling) -> torch.Tensor:
        return sample(denoiser, noise, how, 64, lambda name, done, total: told.append(done))

    one = walk(HOW)
    assert told == [1, 2, 3, 4]
    assert torch.equal(one, walk(HOW))
    assert not torch.allclose(one, walk(replace(HOW, sampler="rflow")))
