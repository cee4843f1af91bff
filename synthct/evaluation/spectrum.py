"""Power of a volume over spatial frequency, in cycles per voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def power_between(array: Array, low: float, high: float) -> float:
    """Share of a volume's power that lies between `low` and `high` cycles a voxel.

    Frequency is the length of the three-dimensional wave vector; the mean counts nowhere.

    >>> wave = np.cos(2 * np.pi * 0.25 * np.arange(16))[:, None, None] * np.ones((16, 16, 16))
    >>> round(power_between(wave, 0.2, 0.3), 6)
    1.0
    """
    power, frequency = power_spectrum(array)
    whole = power.sum()
    inside = power[(frequency >= low) & (frequency <= high)].sum()
    return float(inside / whole) if whole > 0 else float("nan")


def power_spectrum(array: Array) -> tuple[Floats, Floats]:
    """Power and length of the frequency vector (cycles a voxel), of half the spectrum.

    The half that a real volume repeats is left out and its power counted twice.
    """
    values = np.asarray(array, np.float32)
    spectrum = fft.rfftn(values - values.mean(dtype=np.float64), overwrite_x=True)
    power = spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
    last = values.shape[-1]
    power[..., 1 : (last + 1) // 2] *= 2.0
    axes = [np.fft.fftfreq(n) for n in values.shape[:-1]]
    axes.append(np.fft.rfftfreq(last))
    squares = [
        (axis**2).reshape([-1 if i == n else 1 for i in range(values.ndim)])
        for n, axis in enumerate(axes)
    ]
    frequency: Floats = np.sqrt(sum(squares, start=np.zeros(())))
    return power, frequency


def radial_spectrum(array: Array, bins: int = 25, top: float = 0.5) -> tuple[Floats, Floats]:
    """Mean power per shell of equal width from 0 to `top`; and the middles of the shells.

    The power is per voxel of the array, so that its integral is the variance.
    """
    power, frequency = power_spectrum(array)
    doubled = np.full(power.shape, 2.0)
    doubled[..., 0] = 1.0
    if array.shape[-1] % 2 == 0:
        doubled[..., -1] = 1.0
    edges = np.linspace(0.0, top, bins + 1)
    flat = frequency.ravel()
    total, _ = np.histogram(flat, edges, weights=power.ravel())
    count, _ = np.histogram(flat, edges, weights=doubled.ravel())
    mean = total / np.maximum(count, 1) / array.size
    return mean, (edges[1:] + edges[:-1]) / 2
