"""Power over frequency: known waves, white noise, the full transform."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest

from synthct.evaluation.spectrum import power_between, power_spectrum, radial_spectrum

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("shape", [(8, 9, 10), (9, 8, 7), (6, 6, 1)])
def test_half_the_spectrum_holds_all_the_power(shape: tuple[int, ...]) -> None:
    array = RNG.normal(30, 4, shape)
    whole = np.abs(np.fft.fftn(array - array.mean())) ** 2
    power, frequency = power_spectrum(array)
    assert power.sum() == pytest.approx(whole.sum(), rel=1e-4)
    squares = np.meshgrid(*[np.fft.fftfreq(n) ** 2 for n in shape], indexing="ij")
    band = (np.sqrt(sum(squares)) >= 0.3) & (np.sqrt(sum(squares)) <= 0.5)
    assert power_between(array, 0.3, 0.5) == pytest.approx(
        whole[band].sum() / whole.sum(), rel=1e-4
    )
    assert power.shape == frequency.shape


def test_white_noise_fills_the_cube_of_frequencies_evenly() -> None:
    noise = RNG.normal(0, 1, (48, 48, 48))
    shell = 4 / 3 * pi * (0.5**3 - 0.3**3)
    assert power_between(noise, 0.3, 0.5) == pytest.approx(shell, abs=0.02)
    power, middles = radial_spectrum(7.0 * noise)
    assert power[3:] == pytest.approx(np.full(len(middles) - 3, 49.0), rel=0.35)
    assert power[10:].mean() == pytest.approx(49.0, rel=0.03)


@pytest.mark.parametrize(("cycles", "inside"), [(4, 0.0), (12, 1.0)])
def test_a_wave_lies_where_its_frequency_is(cycles: int, inside: float) -> None:
    wave = np.cos(2 * pi * cycles / 32 * np.arange(32))[None, :, None] * np.ones((32, 32, 32))
    assert power_between(wave, 0.3, 0.5) == pytest.approx(inside, abs=1e-6)


def test_a_flat_volume_has_no_share() -> None:
    assert np.isnan(power_between(np.full((8, 8, 8), 40.0), 0.3, 0.5))
